//! Names of images.

use std::fmt;
use std::str::FromStr;

use oci_spec::distribution;

use super::Error;

/// The full name of an image: registry, repository, and a tag or digest.
///
/// The grammar is that of the OCI distribution specification and of Docker. A name without a
/// registry is one of this host: `busybox` is `localhost/busybox:latest`. That is what an import
/// gives, and nothing here is ever taken for an image of somebody else's registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference(String);

impl Reference {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part of the repository, for names that are made up from it.
    pub fn base(&self) -> &str {
        let path = self.0.split('@').next().unwrap_or_default();
        let last = path.rsplit('/').next().unwrap_or_default();
        last.split(':').next().unwrap_or_default()
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let full = if has_registry(text) { text.to_string() } else { format!("localhost/{text}") };
        match full.parse::<distribution::Reference>() {
            Ok(reference) => Ok(Self(reference.to_string())),
            Err(error) => Err(Error::InvalidReference {
                reference: super::table::shortened(text),
                problem: error.to_string(),
            }),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As Docker tells a registry from the first part of a repository.
fn has_registry(text: &str) -> bool {
    text.split_once('/').is_some_and(|(first, _)| {
        first == "localhost" || first.contains('.') || first.contains(':')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_name_is_one_name() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let with_digest = format!("localhost/busybox@{digest}");
        for (given, full, base) in [
            ("busybox", "localhost/busybox:latest", "busybox"),
            ("busybox:1", "localhost/busybox:1", "busybox"),
            ("me/busybox", "localhost/me/busybox:latest", "busybox"),
            ("localhost/busybox", "localhost/busybox:latest", "busybox"),
            ("registry.test:5000/a/b:v", "registry.test:5000/a/b:v", "b"),
            ("quay.test/a", "quay.test/a:latest", "a"),
            (with_digest.as_str(), with_digest.as_str(), "busybox"),
        ] {
            let reference: Reference = given.parse().unwrap();
            assert_eq!(reference.as_str(), full, "{given}");
            assert_eq!(reference.base(), base, "{given}");
            assert_eq!(full.parse::<Reference>().unwrap(), reference, "{given}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in ["", "UPPER", "a b", "a//b", "../x", "a:", "a@sha256:12", "-rf", "a\nb"] {
            let error = bad.parse::<Reference>().unwrap_err();
            assert_eq!(error.name(), "InvalidReference", "{bad:?}");
        }
    }
}
