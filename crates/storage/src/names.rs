//! Names that are safe by construction.

use std::ffi::OsStr;
use std::fmt;
use std::str::FromStr;

/// Directory name of one container's own layer; always one safe path component.
///
/// 1 to 64 bytes of `[a-zA-Z0-9_.-]`, the first a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerKey(Box<str>);

impl ContainerKey {
    /// Longest accepted key, in bytes: a hex SHA-256 digest just fits.
    pub const MAX_LEN: usize = 64;

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerKey {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        check_length(text, Self::MAX_LEN)?;
        check_bytes(text, is_of_name)?;
        Ok(Self(text.into()))
    }
}

/// Name of a volume; always one safe path component.
///
/// 1 to 128 bytes of `[a-zA-Z0-9_.-]`, the first a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeName(Box<str>);

impl VolumeName {
    /// Longest accepted name, in bytes: that of a container.
    pub const MAX_LEN: usize = 128;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VolumeName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        check_length(text, Self::MAX_LEN)?;
        check_bytes(text, is_of_name)?;
        Ok(Self(text.into()))
    }
}

/// Whether a byte may be there in a name that begins with a letter or digit.
fn is_of_name(at: usize, byte: u8) -> bool {
    match byte {
        b'_' | b'.' | b'-' => at > 0,
        byte => byte.is_ascii_alphanumeric(),
    }
}

/// Name of one file in a directory, as given to [`write_files`](crate::write_files).
///
/// 1 to 255 bytes, no `/`, no NUL, neither `.` nor `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(Box<str>);

impl FileName {
    /// Longest accepted name, in bytes: `NAME_MAX` of Linux.
    pub const MAX_LEN: usize = 255;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn as_os_str(&self) -> &OsStr {
        OsStr::new(&*self.0)
    }
}

impl FromStr for FileName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        check_length(text, Self::MAX_LEN)?;
        check_bytes(text, |_, byte| !matches!(byte, b'/' | 0))?;
        if matches!(text, "." | "..") {
            return Err(InvalidName::Byte { at: 0 });
        }
        Ok(Self(text.into()))
    }
}

/// `SELinux` label of a file, or of everything in a mount, as in `system_u:object_r:container_file_t:s0:c1,c2`.
///
/// 1 to 255 bytes of `[a-zA-Z0-9_.:,-]`, with at least three fields between colons.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileLabel(Box<str>);

impl FileLabel {
    /// Longest accepted label, in bytes: what `fsconfig(2)` takes as a value.
    pub const MAX_LEN: usize = 255;

    /// The label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FileLabel {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        check_length(text, Self::MAX_LEN)?;
        check_bytes(text, |_, byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b',' | b'-')
        })?;
        let fields = text.split(':');
        if fields.clone().count() < 3 || fields.take(3).any(str::is_empty) {
            return Err(InvalidName::Fields);
        }
        Ok(Self(text.into()))
    }
}

/// Why a text is not one of the names of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// Empty or too long.
    #[error("name is {len} bytes long, must be 1 to {max}")]
    Length {
        /// Bytes it has.
        len: usize,
        /// Bytes it may have.
        max: usize,
    },
    /// The byte at this offset is not allowed there.
    #[error("name has a forbidden byte at offset {at}")]
    Byte {
        /// Offset in bytes from the start.
        at: usize,
    },
    /// A label lacks its user, role or type.
    #[error("label lacks a user, role or type")]
    Fields,
}

fn check_length(text: &str, max: usize) -> Result<(), InvalidName> {
    let len = text.len();
    if (1..=max).contains(&len) { Ok(()) } else { Err(InvalidName::Length { len, max }) }
}

fn check_bytes(text: &str, allowed: impl Fn(usize, u8) -> bool) -> Result<(), InvalidName> {
    match text.bytes().enumerate().find(|&(at, byte)| !allowed(at, byte)) {
        Some((at, _)) => Err(InvalidName::Byte { at }),
        None => Ok(()),
    }
}

macro_rules! display_as_text {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
display_as_text!(ContainerKey, VolumeName, FileName, FileLabel);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use InvalidName::{Byte, Fields, Length};

    #[test]
    fn keys_are_parsed_by_the_documented_grammar() {
        for (about, input, want) in [
            ("one letter", "a".to_owned(), Ok(())),
            ("every allowed mark", "a_b.c-d".into(), Ok(())),
            ("longest", "a".repeat(64), Ok(())),
            ("one too long", "a".repeat(65), Err(Length { len: 65, max: 64 })),
            ("empty", String::new(), Err(Length { len: 0, max: 64 })),
            ("parent", "..".into(), Err(Byte { at: 0 })),
            ("option-like", "-rf".into(), Err(Byte { at: 0 })),
            ("path", "a/b".into(), Err(Byte { at: 1 })),
            ("not ASCII", "caf\u{e9}".into(), Err(Byte { at: 3 })),
        ] {
            assert_eq!(input.parse::<ContainerKey>().map(drop), want, "{about}: {input:?}");
            // Volumes may have longer names, but for that the same ones.
            let volume = input.parse::<VolumeName>().map(drop);
            match want {
                Err(Length { len: 65, .. }) => assert_eq!(volume, Ok(())),
                Err(Length { len, .. }) => assert_eq!(volume, Err(Length { len, max: 128 })),
                want => assert_eq!(volume, want, "{about}: {input:?}"),
            }
        }
    }

    #[test]
    fn file_names_are_one_component() {
        for (about, input, want) in [
            ("a name", "config.json".to_owned(), Ok(())),
            ("hidden", "..x".into(), Ok(())),
            ("longest", "n".repeat(255), Ok(())),
            ("one too long", "n".repeat(256), Err(Length { len: 256, max: 255 })),
            ("here", ".".into(), Err(Byte { at: 0 })),
            ("parent", "..".into(), Err(Byte { at: 0 })),
            ("path", "a/b".into(), Err(Byte { at: 1 })),
            ("NUL", "a\0".into(), Err(Byte { at: 1 })),
        ] {
            assert_eq!(input.parse::<FileName>().map(drop), want, "{about}: {input:?}");
        }
    }

    #[test]
    fn labels_have_user_role_and_type() {
        for (about, input, want) in [
            ("with categories", "system_u:object_r:container_file_t:s0:c1,c2", Ok(())),
            ("without level", "u:r:t", Ok(())),
            ("two fields", "u:r", Err(Fields)),
            ("empty type", "u:r::s0", Err(Fields)),
            ("space", "u:r:t s0", Err(Byte { at: 5 })),
            ("line feed", "u:r:t\n", Err(Byte { at: 5 })),
            ("quote", "u:r:t\"", Err(Byte { at: 5 })),
        ] {
            assert_eq!(input.parse::<FileLabel>().map(drop), want, "{about}: {input:?}");
        }
    }

    proptest! {
        #[test]
        fn accepted_names_are_one_safe_component(text in "\\PC{0,3}|[./a\0]{0,4}") {
            let one = |name: &str| {
                let path = std::path::Path::new("/run").join(name);
                path.parent() == Some(std::path::Path::new("/run")) && path.file_name().is_some()
            };
            if let Ok(name) = text.parse::<FileName>() {
                prop_assert!(one(name.as_str()));
            }
            if let Ok(key) = text.parse::<ContainerKey>() {
                prop_assert!(one(key.as_str()));
            }
        }
    }
}
