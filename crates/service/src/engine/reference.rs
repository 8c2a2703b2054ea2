//! Names of images.

use std::fmt;
use std::str::FromStr;

use super::Error;
use crate::pull::is_host;

/// The full name of an image: registry, repository, and a tag or digest.
///
/// The grammar is that of the [OCI distribution specification] and of Docker. A name without a
/// registry is one of this host: `busybox` is `localhost/busybox:latest`. That is what an import
/// gives, and nothing here is ever taken for an image of somebody else's registry.
///
/// Read by hand: the pattern that says it all takes a regex engine 11 MB of memory, for good.
///
/// [OCI distribution specification]: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference(String);

impl Reference {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same, if an image can be given this name: one with a digest says itself which it is of.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidReference`].
    pub fn for_tag(self) -> Result<Self, Error> {
        if !self.0.contains('@') {
            return Ok(self);
        }
        let problem = "a name with a digest cannot be given".into();
        Err(Error::InvalidReference { reference: super::table::shortened(&self.0), problem })
    }

    /// Whether a name leaves out of which registry it is.
    pub(crate) fn is_short(text: &str) -> bool {
        text.split_once('/').is_none_or(|(first, _)| !is_host(first))
    }

    /// What is left of one of this host without that: a short name that it may have been read from.
    pub(crate) fn short(&self) -> &str {
        self.0.strip_prefix("localhost/").unwrap_or(&self.0)
    }

    /// Registry and repository.
    pub(crate) fn place(&self) -> (&str, &str) {
        let (name, _) = split_off(&self.0, '@');
        let (registry, rest) = name.split_once('/').unwrap_or_default();
        (registry, split_off(rest, ':').0)
    }

    /// Its tag, if it has one.
    pub(crate) fn tag(&self) -> Option<&str> {
        let (name, _) = split_off(&self.0, '@');
        split_off(name.split_once('/').unwrap_or_default().1, ':').1
    }

    /// Its digest, if it has one.
    pub(crate) fn digest(&self) -> Option<&str> {
        split_off(&self.0, '@').1
    }

    /// What rules for images are asked about: where there is a digest, the tag says nothing of which it is.
    pub(crate) fn for_rules(&self) -> Self {
        let Some(digest) = self.digest() else { return self.clone() };
        let (registry, repository) = self.place();
        Self(format!("{registry}/{repository}@{digest}"))
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
        full_name(text).map(Self).map_err(|problem| Error::InvalidReference {
            reference: super::table::shortened(text),
            problem: problem.into(),
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Longest repository, in bytes.
const MAX_REPOSITORY: usize = 255;
/// Longest tag, in bytes.
const MAX_TAG: usize = 128;

const REGISTRY: &str = "a registry is the name of a host, and may have a port";
const REPOSITORY: &str =
    "a repository is at most 255 bytes of lowercase words, joined by '/', '.', '_', '__' or '-'";
const TAG: &str =
    "a tag is 1 to 128 letters, digits, '_', '.' and '-', and none of the last two first";
const DIGEST: &str =
    "a digest is sha256, sha384 or sha512, ':', and as many lowercase hexadecimal digits as it has";

/// The name with all that may be left out of it.
fn full_name(text: &str) -> Result<String, &'static str> {
    let (name, digest) = split_off(text, '@');
    // A colon before a slash is that of a port.
    let at = name.rfind('/').map_or(0, |slash| slash + 1);
    let (last, tag) = split_off(&name[at..], ':');
    let (registry, repository) = registry_and_repository(&name[..at + last.len()]);
    check(is_registry(&registry), REGISTRY)?;
    check(is_repository(&repository), REPOSITORY)?;
    check(tag.is_none_or(is_tag), TAG)?;
    check(digest.is_none_or(is_digest), DIGEST)?;
    let end = match (tag, digest) {
        (None, None) => ":latest".into(),
        (Some(tag), None) => format!(":{tag}"),
        (None, Some(digest)) => format!("@{digest}"),
        (Some(tag), Some(digest)) => format!(":{tag}@{digest}"),
    };
    Ok(format!("{registry}/{repository}{end}"))
}

fn check(holds: bool, otherwise: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(otherwise) }
}

fn split_off(text: &str, mark: char) -> (&str, Option<&str>) {
    text.split_once(mark).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// As Docker tells a registry from the first part of a repository, and names its own. A host has one
/// spelling, so that rules for it are not evaded by another.
fn registry_and_repository(name: &str) -> (String, String) {
    let parts = name.split_once('/').map(|(first, rest)| (first.to_ascii_lowercase(), rest));
    match parts {
        Some((host, repository)) if host == "docker.io" || host == "index.docker.io" => {
            let official = if repository.contains('/') { "" } else { "library/" };
            ("docker.io".into(), format!("{official}{repository}"))
        }
        Some((host, repository)) if is_host(&host) => (host, repository.into()),
        _ => ("localhost".into(), name.into()),
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = split_off(text, ':');
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_label = |label: &str| {
        label.bytes().all(is_inner) && has_ends(label, |byte| byte.is_ascii_alphanumeric())
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|number| number.to_string() == port);
    // What ends in a number is an address, of which there are other spellings.
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_number = last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit());
    host.split('.').all(is_label)
        && (!is_number || host.parse::<std::net::Ipv4Addr>().is_ok())
        && port.is_none_or(is_port)
}

fn is_repository(text: &str) -> bool {
    let is_of_word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part = |part: &str| {
        has_ends(part, |byte| is_of_word(&byte))
            && part.as_bytes().split(is_of_word).all(is_separator)
    };
    text.len() <= MAX_REPOSITORY && text.split('/').all(is_part)
}

/// What is between two words, if anything is.
fn is_separator(text: &[u8]) -> bool {
    matches!(text, b"." | b"_" | b"__") || text.iter().all(|byte| *byte == b'-')
}

/// Whether `text` begins and ends so; an empty one does not.
fn has_ends(text: &str, fits: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    [bytes.first(), bytes.last()].into_iter().all(|end| end.is_some_and(|byte| fits(*byte)))
}

fn is_tag(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    text.len() <= MAX_TAG
        && text.bytes().all(is_inner)
        && text.bytes().next().is_some_and(|byte| !b".-".contains(&byte))
}

fn is_digest(text: &str) -> bool {
    let digits = match text.split_once(':') {
        Some(("sha256", digits)) if digits.len() == 64 => digits,
        Some(("sha384", digits)) if digits.len() == 96 => digits,
        Some(("sha512", digits)) if digits.len() == 128 => digits,
        _ => return false,
    };
    digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::distribution;
    use proptest::prelude::*;

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
            ("docker.io/a", "docker.io/library/a:latest", "a"),
            ("index.docker.io/b/a:1", "docker.io/b/a:1", "a"),
            ("INDEX.Docker.io/a", "docker.io/library/a:latest", "a"),
            ("Registry.TEST:5000/a:V", "registry.test:5000/a:V", "a"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest", "a"),
            ("a-b/c__d---e.f:_.-", "localhost/a-b/c__d---e.f:_.-", "c__d---e.f"),
            (with_digest.as_str(), with_digest.as_str(), "busybox"),
        ] {
            let reference: Reference = given.parse().unwrap();
            assert_eq!(reference.as_str(), full, "{given}");
            assert_eq!(reference.base(), base, "{given}");
            assert_eq!(full.parse::<Reference>().unwrap(), reference, "{given}");
        }
    }

    #[test]
    fn a_short_name_names_no_registry() {
        for (name, short) in [
            ("busybox", true),
            ("me/busybox:1", true),
            ("busybox@sha256:1", true),
            ("localhost/busybox", false),
            ("docker.io/busybox", false),
            ("r:5000/busybox", false),
        ] {
            assert_eq!(Reference::is_short(name), short, "{name}");
        }
        assert_eq!("me/busybox".parse::<Reference>().unwrap().short(), "me/busybox:latest");
    }

    #[test]
    fn a_name_has_parts() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let both = format!("r.test:5000/a/b:1@{digest}");
        let only = format!("r.test/a@{digest}");
        for (name, place, tag, with) in [
            ("r.test:5000/a/b:1", ("r.test:5000", "a/b"), Some("1"), None),
            ("busybox", ("localhost", "busybox"), Some("latest"), None),
            (&both, ("r.test:5000", "a/b"), Some("1"), Some(digest.as_str())),
            (&only, ("r.test", "a"), None, Some(digest.as_str())),
        ] {
            let reference: Reference = name.parse().unwrap();
            assert_eq!((reference.place(), reference.tag()), (place, tag), "{name}");
            assert_eq!(reference.digest(), with, "{name}");
            let for_rules = reference.for_rules();
            assert_eq!((for_rules.place(), for_rules.digest()), (place, with), "{name}");
            assert_eq!(for_rules.tag(), tag.filter(|_| with.is_none()), "{name}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = |length| "a".repeat(length);
        for (bad, problem) in [
            (String::new(), REPOSITORY),
            ("UPPER".into(), REPOSITORY),
            ("a b".into(), REPOSITORY),
            ("a//b".into(), REPOSITORY),
            ("a/".into(), REPOSITORY),
            ("a._b".into(), REPOSITORY),
            ("a___b".into(), REPOSITORY),
            ("../x".into(), REGISTRY),
            ("-rf".into(), REPOSITORY),
            ("a\nb".into(), REPOSITORY),
            ("\u{e4}".into(), REPOSITORY),
            (long(256), REPOSITORY),
            ("-a.b/c".into(), REGISTRY),
            ("a..b/c".into(), REGISTRY),
            ("a:b/c".into(), REGISTRY),
            ("a:/c".into(), REGISTRY),
            (":5000/c".into(), REGISTRY),
            ("r.test:05000/c".into(), REGISTRY),
            ("r.test:65536/c".into(), REGISTRY),
            ("127.1/c".into(), REGISTRY),
            ("127.0.0.01/c".into(), REGISTRY),
            ("127.0.0.0x1/c".into(), REGISTRY),
            ("a:".into(), TAG),
            ("a:.b".into(), TAG),
            ("a:b:c".into(), TAG),
            (format!("a:{}", long(129)), TAG),
            ("a@".into(), DIGEST),
            ("a@sha256:12".into(), DIGEST),
            (format!("a@sha256:{}", "A".repeat(64)), DIGEST),
            (format!("a@md5:{}", long(64)), DIGEST),
        ] {
            match bad.parse::<Reference>() {
                Err(Error::InvalidReference { problem: found, .. }) => {
                    assert_eq!(found, problem, "{bad:?}");
                }
                other => panic!("{bad:?}: {other:?}"),
            }
        }
        for good in [long(255), format!("a:{}", long(128))] {
            good.parse::<Reference>().unwrap();
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// With a registry, so that both mean the same.
        #[test]
        fn the_pattern_of_the_specification_says_the_same(
            rest in r"[a-c0A./:_@-]{0,12}(@sha256:[a-f0-9]{63,64})?"
        ) {
            let name = format!("r.test/{rest}");
            let ours = name.parse::<Reference>().ok().map(|it| it.to_string());
            let theirs = name.parse::<distribution::Reference>().ok().map(|it| it.to_string());
            prop_assert_eq!(ours, theirs, "{}", name);
        }
    }
}
