use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Id of one container: exactly 64 lower-case hexadecimal digits.
///
/// So it is always one safe path component, one safe cgroup name and no option of a program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(Box<str>);

impl ContainerId {
    /// Length in bytes.
    pub const LEN: usize = 64;

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerId {
    type Err = InvalidContainerId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != Self::LEN {
            return Err(InvalidContainerId::Length(text.len()));
        }
        match text.bytes().position(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            Some(at) => Err(InvalidContainerId::Byte { at }),
            None => Ok(Self(text.into())),
        }
    }
}

impl TryFrom<String> for ContainerId {
    type Error = InvalidContainerId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0.into()
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a [`ContainerId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidContainerId {
    /// Too short or too long; holds the length in bytes.
    #[error("container id is {0} bytes long, must be {len}", len = ContainerId::LEN)]
    Length(usize),
    /// The byte at this offset is not a lower-case hexadecimal digit.
    #[error("container id has a forbidden byte at offset {at}")]
    Byte {
        /// Offset in bytes from the start.
        at: usize,
    },
}

/// Which start of a container this is: counts up, so that no start meets files of an earlier one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Incarnation(pub u32);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_by_the_documented_grammar() {
        use InvalidContainerId::{Byte, Length};
        let digits = "0123456789abcdef".repeat(4);
        for (about, input, want) in [
            ("all digits", digits.clone(), Ok(())),
            ("empty", String::new(), Err(Length(0))),
            ("one short", digits[1..].into(), Err(Length(63))),
            ("one long", digits.clone() + "0", Err(Length(65))),
            ("upper case", digits.to_uppercase(), Err(Byte { at: 10 })),
            ("path", format!("../{}", &digits[3..]), Err(Byte { at: 0 })),
            ("64 bytes, not ASCII", format!("\u{e9}{}", &digits[2..]), Err(Byte { at: 0 })),
        ] {
            assert_eq!(input.parse::<ContainerId>().map(drop), want, "{about}: {input:?}");
        }
    }

    #[test]
    fn serde_goes_through_the_grammar() {
        let id: ContainerId = "ab".repeat(32).parse().unwrap();
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<ContainerId>(&json).unwrap(), id);
        assert!(serde_json::from_str::<ContainerId>("\"../x\"").is_err());
    }
}
