//! What a program runs on, as images name it.

use std::fmt;
use std::str::FromStr;

/// Operating system, processor architecture, and its variant if that matters: `linux/arm64/v8`.
///
/// Each part is 1 to 64 bytes of `[a-z0-9_.-]`. See [image-index.md] of the OCI specification.
///
/// [image-index.md]: https://github.com/opencontainers/image-spec/blob/main/image-index.md#platform-variants
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// Why a text is not a [`Platform`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("platform is not os/architecture or os/architecture/variant")]
pub struct InvalidPlatform;

impl Platform {
    /// The platform of this program.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => (if cfg!(target_endian = "little") { "ppc64le" } else { "ppc64" }, None),
            "loongarch64" => ("loong64", None),
            same => (same, None),
        };
        let variant = variant.map(String::from);
        Self { os: "linux".into(), architecture: architecture.into(), variant }
    }

    /// The operating system.
    pub fn os(&self) -> &str {
        &self.os
    }

    /// The architecture, as Go calls it.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The variant of the architecture.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    pub(crate) fn new(os: &str, architecture: &str, variant: Option<&str>) -> Option<Self> {
        let parts = [Some(os), Some(architecture), variant];
        let fine = parts.into_iter().flatten().all(is_part);
        fine.then(|| Self {
            os: os.into(),
            architecture: architecture.into(),
            variant: variant.map(String::from),
        })
    }

    /// How well what is made for `other` runs here: more is better, `None` is not at all.
    pub(crate) fn suits(&self, other: &Self) -> Option<u32> {
        if (&self.os, &self.architecture) != (&other.os, &other.architecture) {
            return None;
        }
        let (here, there) = (self.level(), other.level());
        match (self.variant(), other.variant()) {
            (here, there) if here == there => Some(u32::MAX),
            // Made for the least there is of it.
            _ if there <= here => Some(there),
            _ => None,
        }
    }

    /// The number of the variant; what has none is the least that the architecture has.
    fn level(&self) -> u32 {
        let least = match &*self.architecture {
            "arm64" => 8,
            "arm" => 5,
            _ => 1,
        };
        let number = self.variant().and_then(|variant| variant.strip_prefix('v'));
        number.and_then(|number| number.parse().ok()).unwrap_or(least)
    }
}

fn is_part(part: &str) -> bool {
    let allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-');
    (1..=64).contains(&part.len()) && part.bytes().all(allowed)
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let mut parts = text.split('/');
        let (os, architecture) = (parts.next(), parts.next());
        let (variant, more) = (parts.next(), parts.next());
        let (Some(os), Some(architecture), None) = (os, architecture, more) else {
            return Err(InvalidPlatform);
        };
        Self::new(os, architecture, variant).ok_or(InvalidPlatform)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn text_is_parsed_by_the_documented_grammar() {
        for text in ["linux/amd64", "linux/arm64/v8", "freebsd/riscv64"] {
            assert_eq!(platform(text).to_string(), text);
        }
        for text in ["", "linux", "linux/", "/amd64", "linux/a/b/c", "Linux/amd64", "linux/a b"] {
            assert_eq!(text.parse::<Platform>(), Err(InvalidPlatform), "{text:?}");
        }
        assert!("linux/amd64".parse::<Platform>().is_ok_and(|p| p.variant().is_none()));
        assert_eq!(Platform::host().os(), "linux");
    }

    #[test]
    fn what_runs_here_is_told_from_what_does_not() {
        for (here, there, suits) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/amd64", "linux/arm64", false),
            ("linux/amd64", "windows/amd64", false),
            ("linux/amd64", "linux/amd64/v3", false),
            ("linux/amd64/v3", "linux/amd64", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm/v7", "linux/arm/v6", true),
            ("linux/arm/v6", "linux/arm/v7", false),
        ] {
            assert_eq!(platform(here).suits(&platform(there)).is_some(), suits, "{here} {there}");
        }
        let best = ["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"].map(platform);
        let here = platform("linux/arm/v7");
        assert_eq!(best.iter().max_by_key(|there| here.suits(there)), Some(&best[1]));
    }
}
