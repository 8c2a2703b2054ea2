use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Name a person gives to a container; always one safe path component.
///
/// 1 to 128 bytes of `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName(Box<str>);

impl ContainerName {
    /// Longest accepted name, in bytes.
    pub const MAX_LEN: usize = 128;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerName {
    type Err = InvalidContainerName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !(1..=Self::MAX_LEN).contains(&text.len()) {
            return Err(InvalidContainerName::Length(text.len()));
        }
        let allowed = |at: usize, byte: u8| match byte {
            b'_' | b'.' | b'-' => at > 0,
            byte => byte.is_ascii_alphanumeric(),
        };
        match text.bytes().enumerate().find(|&(at, byte)| !allowed(at, byte)) {
            Some((at, _)) => Err(InvalidContainerName::Byte { at }),
            None => Ok(Self(text.into())),
        }
    }
}

impl TryFrom<String> for ContainerName {
    type Error = InvalidContainerName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ContainerName> for String {
    fn from(name: ContainerName) -> Self {
        name.0.into()
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a [`ContainerName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidContainerName {
    /// Empty or too long; holds the length in bytes.
    #[error("container name is {0} bytes long, must be 1 to {max}", max = ContainerName::MAX_LEN)]
    Length(usize),
    /// The byte at this offset is not allowed there.
    #[error("container name has a forbidden byte at offset {at}")]
    Byte {
        /// Offset in bytes from the start.
        at: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_by_the_documented_grammar() {
        use InvalidContainerName::{Byte, Length};
        let longest = "a".repeat(ContainerName::MAX_LEN);
        let too_long = "a".repeat(ContainerName::MAX_LEN + 1);
        for (about, input, want) in [
            ("one letter", "a", Ok(())),
            ("a digit first", "0a", Ok(())),
            ("every allowed mark", "A_b.c-d", Ok(())),
            ("longest", longest.as_str(), Ok(())),
            ("empty", "", Err(Length(0))),
            ("one too long", too_long.as_str(), Err(Length(129))),
            ("dot-dot", "..", Err(Byte { at: 0 })),
            ("option-like", "-rf", Err(Byte { at: 0 })),
            ("underscore first", "_a", Err(Byte { at: 0 })),
            ("path", "a/b", Err(Byte { at: 1 })),
            ("not ASCII", "caf\u{e9}", Err(Byte { at: 3 })),
        ] {
            assert_eq!(input.parse::<ContainerName>().map(drop), want, "{about}: {input:?}");
        }
    }

    proptest! {
        #[test]
        fn the_grammar_is_accepted(text in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}") {
            let name = text.parse::<ContainerName>().unwrap();
            prop_assert_eq!(name.as_str(), &text);
        }

        #[test]
        fn accepted_names_are_one_path_component(text in any::<String>()) {
            if text.parse::<ContainerName>().is_ok() {
                prop_assert_eq!(std::path::Path::new("/x").join(&text).components().count(), 3);
            }
        }
    }
}
