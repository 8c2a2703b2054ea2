//! The names and ids an archive may hold; each is one safe path component.

use std::fmt;
use std::str::FromStr;

/// A text type with a private field, made by parsing alone.
macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $check:expr, $error:ty) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// It as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $check(text).map(|()| Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_type! {
    /// Id of the container that was checkpointed: 64 lower-case hexadecimal digits.
    ContainerId, check_id, InvalidId
}
text_type! {
    /// Id of the image it was made from: the 64 lower-case hexadecimal digits of a SHA-256 digest.
    ImageId, check_id, InvalidId
}
text_type! {
    /// Name of the container: 1 to 128 bytes of `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
    ContainerName, |text| check_name(text, 128), InvalidName
}
text_type! {
    /// Name of a volume: 1 to 251 bytes of `[a-zA-Z0-9][a-zA-Z0-9_.-]*`; with `.tar` it is still
    /// the name of a file.
    VolumeName, |text| check_name(text, 251), InvalidName
}
text_type! {
    /// Name of a file in CRIU's image directory: 1 to 255 bytes of `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
    /// CRIU keeps no directories in it.
    ImageFile, |text| check_name(text, 255), InvalidName
}

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// Empty or too long.
    #[error("is {len} bytes long, must be 1 to {max}")]
    Length {
        /// In bytes.
        len: usize,
        /// Longest, in bytes.
        max: usize,
    },
    /// The byte at this offset is not allowed there.
    #[error("has a forbidden byte at offset {at}")]
    Byte {
        /// Offset in bytes from the start.
        at: usize,
    },
}

/// Why a text is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidId {
    /// Not 64 bytes; holds how many.
    #[error("is {0} bytes long, must be 64")]
    Length(usize),
    /// The byte at this offset is no lower-case hexadecimal digit.
    #[error("has a byte at offset {at} that is no lower-case hexadecimal digit")]
    Byte {
        /// Offset in bytes from the start.
        at: usize,
    },
}

fn check_name(text: &str, max: usize) -> Result<(), InvalidName> {
    if text.is_empty() || text.len() > max {
        return Err(InvalidName::Length { len: text.len(), max });
    }
    let allowed = |at: usize, byte: u8| match byte {
        b'_' | b'.' | b'-' => at > 0,
        byte => byte.is_ascii_alphanumeric(),
    };
    match text.bytes().enumerate().find(|&(at, byte)| !allowed(at, byte)) {
        Some((at, _)) => Err(InvalidName::Byte { at }),
        None => Ok(()),
    }
}

fn check_id(text: &str) -> Result<(), InvalidId> {
    if text.len() != 64 {
        return Err(InvalidId::Length(text.len()));
    }
    match text.bytes().position(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        Some(at) => Err(InvalidId::Byte { at }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_their_grammar() {
        use InvalidName::{Byte, Length};
        for (about, text, want) in [
            ("one letter", "a".to_string(), Ok(())),
            ("a digit first", "0_.-z".into(), Ok(())),
            ("longest", "a".repeat(128), Ok(())),
            ("empty", String::new(), Err(Length { len: 0, max: 128 })),
            ("one too long", "a".repeat(129), Err(Length { len: 129, max: 128 })),
            ("dot-dot", "..".into(), Err(Byte { at: 0 })),
            ("option-like", "-rf".into(), Err(Byte { at: 0 })),
            ("path", "a/b".into(), Err(Byte { at: 1 })),
            ("line end", "a\n".into(), Err(Byte { at: 1 })),
            ("NUL", "a\0".into(), Err(Byte { at: 1 })),
            ("not ASCII", "\u{e9}".into(), Err(Byte { at: 0 })),
        ] {
            assert_eq!(text.parse::<ContainerName>().map(drop), want, "{about}: {text:?}");
        }
    }

    #[test]
    fn names_of_files_leave_room_for_their_suffix() {
        assert!("v".repeat(251).parse::<VolumeName>().is_ok());
        assert!("v".repeat(252).parse::<VolumeName>().is_err());
        assert!("i".repeat(255).parse::<ImageFile>().is_ok());
        assert!("i".repeat(256).parse::<ImageFile>().is_err());
    }

    #[test]
    fn ids_are_64_digits() {
        use InvalidId::{Byte, Length};
        for (about, text, want) in [
            ("digits", "0123456789abcdef".repeat(4), Ok(())),
            ("empty", String::new(), Err(Length(0))),
            ("one short", "a".repeat(63), Err(Length(63))),
            ("one too many", "a".repeat(65), Err(Length(65))),
            ("upper case", format!("{}A", "a".repeat(63)), Err(Byte { at: 63 })),
            ("a way out", format!("../../{}", "a".repeat(58)), Err(Byte { at: 0 })),
        ] {
            assert_eq!(text.parse::<ContainerId>().map(drop), want, "{about}");
            assert_eq!(text.parse::<ImageId>().map(drop), want, "{about}");
        }
    }
}
