use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use crate::error::Refusal;

/// Longest name of an entry, in bytes: `PATH_MAX` of Linux without the NUL at its end.
const MAX_PATH: usize = 4095;

/// Longest part of a name, in bytes: `NAME_MAX` of Linux.
const MAX_PART: usize = 255;

/// Where an entry goes: the parts of a path below the root, joined by `/`; empty for the root.
///
/// A leading `/`, `.` parts and doubled or trailing slashes are dropped. Names that are empty, too
/// long, or have a `..` or a NUL are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct EntryPath(Vec<u8>);

impl EntryPath {
    pub(crate) fn parse(name: &[u8]) -> Result<Self, Refusal> {
        match name {
            [] => return Err(Refusal::EmptyName),
            _ if name.len() > MAX_PATH => return Err(Refusal::LongName),
            _ if name.contains(&0) => return Err(Refusal::NulName),
            _ => {}
        }
        let mut path = Vec::with_capacity(name.len());
        for part in name.split(|&byte| byte == b'/') {
            check_part(part)?;
            if !matches!(part, b"" | b".") {
                path.extend_from_slice(if path.is_empty() { b"" } else { b"/" });
                path.extend_from_slice(part);
            }
        }
        Ok(Self(path))
    }

    /// The directory it is in and its name there; `None` for the root.
    pub(crate) fn split(&self) -> Option<(&[u8], &OsStr)> {
        let (parent, name) = match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None if self.0.is_empty() => return None,
            None => (&b""[..], &self.0[..]),
        };
        Some((parent, OsStr::from_bytes(name)))
    }

    /// Its child of that name.
    pub(crate) fn join(&self, name: &OsStr) -> Self {
        let slash = if self.0.is_empty() { &b""[..] } else { b"/" };
        Self([&*self.0, slash, name.as_bytes()].concat())
    }

    /// How many parts it has; 0 for the root.
    pub(crate) fn depth(&self) -> u64 {
        prefixes(&self.0).count() as u64
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn to_path_buf(&self) -> PathBuf {
        to_path_buf(&self.0)
    }
}

/// The paths of a directory's ancestors and of itself, from the top down.
pub(super) fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let inner = path.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at);
    let ends = inner.chain((!path.is_empty()).then_some(path.len()));
    ends.map(|end| &path[..end])
}

/// Bytes of a path as a path.
pub(super) fn to_path_buf(bytes: &[u8]) -> PathBuf {
    std::ffi::OsString::from_vec(bytes.to_vec()).into()
}

fn check_part(part: &[u8]) -> Result<(), Refusal> {
    match part {
        b".." => Err(Refusal::ParentName),
        _ if part.len() > MAX_PART => Err(Refusal::LongName),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    #[test]
    fn names_become_paths_by_the_documented_rules() {
        let long = "n/".repeat(2047) + "n";
        let part = "n".repeat(255);
        for (about, name, want) in [
            ("plain", "etc/passwd", Ok("etc/passwd")),
            ("absolute", "/etc/passwd", Ok("etc/passwd")),
            ("dotted", "./etc/./passwd", Ok("etc/passwd")),
            ("slashes", "//etc//passwd//", Ok("etc/passwd")),
            ("the root", "./", Ok("")),
            ("the root again", "/", Ok("")),
            ("three dots", "a/...", Ok("a/...")),
            ("longest", &long, Ok(&*long)),
            ("longest part", &part, Ok(&*part)),
            ("empty", "", Err(Refusal::EmptyName)),
            ("up", "../x", Err(Refusal::ParentName)),
            ("up inside", "a/../b", Err(Refusal::ParentName)),
            ("up at the end", "a/..", Err(Refusal::ParentName)),
            ("NUL", "a\0b", Err(Refusal::NulName)),
            ("one too long", &format!("{long}n"), Err(Refusal::LongName)),
            ("part too long", &format!("{part}n"), Err(Refusal::LongName)),
        ] {
            let want = want.map(|path: &str| path.as_bytes().to_vec());
            assert_eq!(EntryPath::parse(name.as_bytes()).map(|path| path.0), want, "{about}");
        }
    }

    #[test]
    fn splits_into_parent_and_name() {
        let split = |name: &str| {
            let path = EntryPath::parse(name.as_bytes()).unwrap();
            let depth = path.depth();
            let split = path.split().map(|(parent, name)| {
                (String::from_utf8_lossy(parent).into_owned(), name.to_string_lossy().into_owned())
            });
            (split, depth)
        };
        assert_eq!(split("/"), (None, 0));
        assert_eq!(split("a"), (Some((String::new(), "a".into())), 1));
        assert_eq!(split("a/b/c"), (Some(("a/b".into(), "c".into())), 3));
        let ancestors: Vec<_> = prefixes(b"a/bc/d").collect();
        assert_eq!(ancestors, [&b"a"[..], b"a/bc", b"a/bc/d"]);
        assert_eq!(prefixes(b"").count(), 0);
    }

    proptest! {
        #[test]
        fn no_accepted_name_escapes(
            name in proptest::collection::vec(
                prop_oneof![Just(b'.'), Just(b'/'), Just(0), any::<u8>()], 0..40),
        ) {
            if let Ok(path) = EntryPath::parse(&name) {
                let path = path.to_path_buf();
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
                prop_assert!(!path.as_os_str().as_bytes().contains(&0));
                prop_assert!(Path::new("/root").join(&path).starts_with("/root"));
            }
        }

        #[test]
        fn parsing_again_changes_nothing(name in "[a.]{0,3}(/[a.]{0,3}){0,4}") {
            if let Ok(path) = EntryPath::parse(name.as_bytes())
                && !path.as_bytes().is_empty()
            {
                prop_assert_eq!(EntryPath::parse(path.as_bytes()), Ok(path.clone()));
            }
        }
    }
}
