//! Names that are safe to hand to the kernel and to join to a path.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where network namespaces are bound, as `ip netns` does it.
pub(crate) const NAMESPACE_DIRECTORY: &str = "/run/netns";

/// Why a text is not the name it was meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// Empty or too long.
    #[error("name is {got} bytes long, must be 1 to {max}")]
    Length {
        /// Length found, in bytes.
        got: usize,
        /// Longest that is allowed, in bytes.
        max: usize,
    },
    /// The byte at this offset is not allowed there.
    #[error("name has a forbidden byte at offset {at}")]
    Byte {
        /// Offset in bytes from the start.
        at: usize,
    },
    /// The kernel or the file system means something else by this name.
    #[error("name is reserved")]
    Reserved,
}

/// Length and bytes of `text`, all that the grammars below have in common.
fn check(text: &str, max: usize, allowed: impl Fn(usize, u8) -> bool) -> Result<(), InvalidName> {
    if !(1..=max).contains(&text.len()) {
        return Err(InvalidName::Length { got: text.len(), max });
    }
    match text.bytes().enumerate().find(|&(at, byte)| !allowed(at, byte)) {
        Some((at, _)) => Err(InvalidName::Byte { at }),
        None => Ok(()),
    }
}

/// Refuses the texts in `reserved`.
fn check_reserved(text: &str, reserved: &[&str]) -> Result<(), InvalidName> {
    if reserved.contains(&text) { Err(InvalidName::Reserved) } else { Ok(()) }
}

macro_rules! name {
    ($(#[$meta:meta])* $name:ident, max $max:literal, |$text:ident| $grammar:expr) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Longest accepted name, in bytes.
            pub const MAX_LEN: usize = $max;

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str($text: &str) -> Result<Self, Self::Err> {
                $grammar?;
                Ok(Self($text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// Name of a network interface: 1 to 15 bytes of printable ASCII.
    ///
    /// Refused besides what the kernel refuses (white space, `/`, `:`, `.` and `..`, which is
    /// `dev_valid_name` in `net/core/dev.c`): `%`, because the kernel takes such a name for a
    /// template (`eth%d`), and `all` and `default`, which are directories in
    /// `/proc/sys/net/ipv4/conf`.
    InterfaceName, max 15, |text| check(text, Self::MAX_LEN, |_, byte| {
        byte.is_ascii_graphic() && !matches!(byte, b'/' | b':' | b'%')
    }).and_then(|()| check_reserved(text, &[".", "..", "all", "default"]))
}

name! {
    /// Name of a network namespace: one path component, 1 to 64 bytes of `[a-zA-Z0-9_.-]`, but
    /// not `.` or `..`.
    NamespaceName, max 64, |text| check(text, Self::MAX_LEN, |_, byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
    }).and_then(|()| check_reserved(text, &[".", ".."]))
}

name! {
    /// Name of a network: 1 to 128 bytes of `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
    NetworkName, max 128, |text| check(text, Self::MAX_LEN, |at, byte| {
        byte.is_ascii_alphanumeric() || (at > 0 && matches!(byte, b'_' | b'.' | b'-'))
    })
}

name! {
    /// Name of an nftables table: 1 to 31 bytes of `[a-zA-Z_][a-zA-Z0-9_]*`, so that nft(8) never
    /// needs it quoted.
    TableName, max 31, |text| check(text, Self::MAX_LEN, |at, byte| {
        byte.is_ascii_alphabetic() || byte == b'_' || (at > 0 && byte.is_ascii_digit())
    })
}

impl InterfaceName {
    /// The loopback interface that every network namespace is born with.
    pub(crate) fn loopback() -> Self {
        Self("lo".into())
    }
}

impl NamespaceName {
    /// The file the namespace is bound to, `/run/netns/<name>`.
    pub fn path(&self) -> PathBuf {
        Path::new(NAMESPACE_DIRECTORY).join(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::InvalidName::{Byte, Length, Reserved};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn interface_names_follow_the_documented_grammar() {
        let cases = [
            ("usual", "ve-0123456789ab", Ok(())),
            ("with a dot", "br0.100", Ok(())),
            ("empty", "", Err(Length { got: 0, max: 15 })),
            ("one too long", "a123456789012345", Err(Length { got: 16, max: 15 })),
            ("path", "a/b", Err(Byte { at: 1 })),
            ("label", "eth0:1", Err(Byte { at: 4 })),
            ("template", "eth%d", Err(Byte { at: 3 })),
            ("space", "a b", Err(Byte { at: 1 })),
            ("newline", "a\n", Err(Byte { at: 1 })),
            ("NUL", "a\0", Err(Byte { at: 1 })),
            ("not ASCII", "caf\u{e9}", Err(Byte { at: 3 })),
            ("dot", ".", Err(Reserved)),
            ("dot-dot", "..", Err(Reserved)),
            ("sysctl directory", "all", Err(Reserved)),
        ];
        for (about, input, want) in cases {
            assert_eq!(input.parse::<InterfaceName>().map(drop), want, "{about}: {input:?}");
        }
    }

    #[test]
    fn namespace_names_follow_the_documented_grammar() {
        let longest = "a".repeat(64);
        let too_long = "a".repeat(65);
        let cases = [
            ("usual", "tare-0123456789ab", Ok(())),
            ("longest", longest.as_str(), Ok(())),
            ("too long", too_long.as_str(), Err(Length { got: 65, max: 64 })),
            ("dot-dot", "..", Err(Reserved)),
            ("path", "../x", Err(Byte { at: 2 })),
            ("NUL", "a\0b", Err(Byte { at: 1 })),
        ];
        for (about, input, want) in cases {
            assert_eq!(input.parse::<NamespaceName>().map(drop), want, "{about}: {input:?}");
        }
    }

    #[test]
    fn network_names_follow_the_documented_grammar() {
        let longest = "a".repeat(128);
        let too_long = "a".repeat(129);
        let cases = [
            ("usual", "front-end_2.x", Ok(())),
            ("longest", longest.as_str(), Ok(())),
            ("too long", too_long.as_str(), Err(Length { got: 129, max: 128 })),
            ("empty", "", Err(Length { got: 0, max: 128 })),
            ("option-like", "-x", Err(Byte { at: 0 })),
            ("dot-dot", "..", Err(Byte { at: 0 })),
            ("path", "a/b", Err(Byte { at: 1 })),
            ("newline", "a\n", Err(Byte { at: 1 })),
            ("escape", "a\u{1b}[0m", Err(Byte { at: 1 })),
        ];
        for (about, input, want) in cases {
            assert_eq!(input.parse::<NetworkName>().map(drop), want, "{about}: {input:?}");
        }
    }

    #[test]
    fn table_names_follow_the_documented_grammar() {
        let cases = [
            ("usual", "tare", Ok(())),
            ("with a tag", "tare_0a1b2c", Ok(())),
            ("digit first", "0tare", Err(Byte { at: 0 })),
            ("dash", "tare-x", Err(Byte { at: 4 })),
            ("empty", "", Err(Length { got: 0, max: 31 })),
        ];
        for (about, input, want) in cases {
            assert_eq!(input.parse::<TableName>().map(drop), want, "{about}: {input:?}");
        }
    }

    #[test]
    fn serde_goes_through_the_grammar() {
        assert_eq!(
            serde_json::from_str::<InterfaceName>("\"eth0\"").unwrap(),
            "eth0".parse::<InterfaceName>().unwrap()
        );
        assert!(serde_json::from_str::<InterfaceName>("\"a/b\"").is_err());
    }

    proptest! {
        #[test]
        fn accepted_namespace_names_are_one_path_component(text in any::<String>()) {
            if let Ok(name) = text.parse::<NamespaceName>() {
                let path = name.path();
                prop_assert_eq!(path.parent(), Some(Path::new(NAMESPACE_DIRECTORY)));
                prop_assert_eq!(path.components().count(), 4);
            }
        }

        // Random text is nearly always refused; this one keeps the accepting half covered.
        #[test]
        fn the_grammar_is_accepted(text in "[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}") {
            let name: NamespaceName = text.parse().unwrap();
            prop_assert_eq!(name.path().components().count(), 4);
        }
    }
}
