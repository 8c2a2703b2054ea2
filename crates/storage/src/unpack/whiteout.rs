//! What names starting with `.wh.` mean in a layer.
//!
//! See [layer.md] of the OCI image specification.
//!
//! [layer.md]: https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::path::EntryPath;
use crate::error::Refusal;

/// What a layer's entry starts with to hide the file named after it.
pub(crate) const PREFIX: &[u8] = b".wh.";
/// The entry that hides what lower layers have in its directory.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";
/// What the names of aufs's own files start with, of which older images have some.
const AUFS: &[u8] = b".wh..wh.";

/// What the name of an entry says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// It is the entry's name, no more.
    Plain,
    /// This is hidden.
    Whiteout(EntryPath),
    /// What lower layers have in this directory is hidden.
    Opaque(EntryPath),
    /// A file of aufs itself.
    Ignored,
}

impl Mark {
    pub(super) fn read(path: &EntryPath) -> Result<Self, Refusal> {
        let Some((parent, name)) = path.split() else { return Ok(Self::Plain) };
        for part in parent.split(|&byte| byte == b'/') {
            match part {
                part if part.starts_with(AUFS) => return Ok(Self::Ignored),
                part if part.starts_with(PREFIX) => return Err(Refusal::Whiteout),
                _ => {}
            }
        }
        let name = name.as_bytes();
        match name.strip_prefix(PREFIX) {
            None => Ok(Self::Plain),
            Some(_) if name == OPAQUE && parent.is_empty() => Err(Refusal::OpaqueRoot),
            Some(_) if name == OPAQUE => EntryPath::parse(parent).map(Self::Opaque),
            Some(_) if name.starts_with(AUFS) => Ok(Self::Ignored),
            Some(b"" | b"." | b"..") => Err(Refusal::Whiteout),
            Some(hidden) => EntryPath::parse(&[parent, b"/", hidden].concat()).map(Self::Whiteout),
        }
    }
}

/// Whether a name would mean something else in a layer.
pub(crate) fn is_marked(name: &OsStr) -> bool {
    name.as_bytes().starts_with(PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_the_image_specification_says() {
        let path = |text: &str| EntryPath::parse(text.as_bytes()).unwrap();
        for (name, want) in [
            ("/", Ok(Mark::Plain)),
            ("a/b", Ok(Mark::Plain)),
            ("a/x.wh.b", Ok(Mark::Plain)),
            ("a/.wh", Ok(Mark::Plain)),
            (".wh.b", Ok(Mark::Whiteout(path("b")))),
            ("a/.wh.b", Ok(Mark::Whiteout(path("a/b")))),
            ("a/.wh..b", Ok(Mark::Whiteout(path("a/.b")))),
            ("a/.wh..wh..opq", Ok(Mark::Opaque(path("a")))),
            (".wh..wh..opq", Err(Refusal::OpaqueRoot)),
            (".wh..wh.plnk", Ok(Mark::Ignored)),
            (".wh..wh.plnk/1.2", Ok(Mark::Ignored)),
            ("a/.wh.", Err(Refusal::Whiteout)),
            ("a/.wh..", Err(Refusal::Whiteout)),
            ("a/.wh...", Err(Refusal::Whiteout)),
            (".wh.a/b", Err(Refusal::Whiteout)),
            (".wh.a/.wh.b", Err(Refusal::Whiteout)),
        ] {
            assert_eq!(Mark::read(&path(name)), want, "{name}");
        }
    }
}
