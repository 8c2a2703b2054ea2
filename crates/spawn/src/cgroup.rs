use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A control group, as an absolute path below the root of the cgroup2 hierarchy.
///
/// 1 to 512 bytes; begins with `/`, does not end with it; components are 1 to 255 bytes of
/// `[A-Za-z0-9_.:@\-]` and neither `.` nor `..` (backslashes occur in names of systemd units).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CgroupPath(Box<str>);

impl CgroupPath {
    /// Longest accepted path, in bytes; deeper nesting than that has no use here.
    pub const MAX_LEN: usize = 512;

    /// The path as text, with its leading `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The group conmon sits in, one below the container's own.
    #[must_use]
    pub fn supervisor(&self) -> Self {
        self.child("supervisor")
    }

    /// The group the container's processes sit in: what `config.json` must say in `cgroupsPath`.
    #[must_use]
    pub fn payload(&self) -> Self {
        self.child("payload")
    }

    /// The group the supervisor of one exec session sits in.
    #[must_use]
    pub fn session(&self, number: u32) -> Self {
        self.child(&format!("exec-{number}"))
    }

    /// The path relative to the root of the hierarchy.
    pub(crate) fn relative(&self) -> &Path {
        Path::new(&self.0[1..])
    }

    /// This path and the groups it lies in, outermost first.
    pub(crate) fn ancestry(&self) -> impl Iterator<Item = Self> + '_ {
        let inner = self.0.match_indices('/').skip(1).map(|(end, _)| &self.0[..end]);
        inner.chain([&*self.0]).map(|path| Self(path.into()))
    }

    fn child(&self, name: &str) -> Self {
        Self(format!("{}/{name}", self.0).into())
    }
}

impl FromStr for CgroupPath {
    type Err = InvalidCgroupPath;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > Self::MAX_LEN {
            return Err(InvalidCgroupPath::Length(text.len()));
        }
        let below = text.strip_prefix('/').ok_or(InvalidCgroupPath::Relative)?;
        match below.split('/').position(|name| !is_component(name)) {
            Some(at) => Err(InvalidCgroupPath::Component { at }),
            None => Ok(Self(text.into())),
        }
    }
}

fn is_component(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:@\\-".contains(&byte);
    (1..=255).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(allowed)
}

impl TryFrom<String> for CgroupPath {
    type Error = InvalidCgroupPath;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<CgroupPath> for String {
    fn from(path: CgroupPath) -> Self {
        path.0.into()
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a [`CgroupPath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCgroupPath {
    /// Too long; holds the length in bytes.
    #[error("cgroup path is {0} bytes long, must be at most {max}", max = CgroupPath::MAX_LEN)]
    Length(usize),
    /// Does not begin with `/`.
    #[error("cgroup path does not begin with /")]
    Relative,
    /// A component is empty, too long, `.`, `..` or has a forbidden byte.
    #[error("component {at} of the cgroup path is not allowed")]
    Component {
        /// Number of the component, counted from 0.
        at: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_by_the_documented_grammar() {
        use InvalidCgroupPath::{Component, Length, Relative};
        let long_name = format!("/{}", "a".repeat(256));
        let long = "/a".repeat(257);
        for (about, input, want) in [
            ("plain", "/tare/ab", Ok(())),
            ("unit", r"/machine.slice/tare-x\x2dy.scope/a@b:c", Ok(())),
            ("empty", "", Err(Relative)),
            ("relative", "tare", Err(Relative)),
            ("the root", "/", Err(Component { at: 0 })),
            ("trailing slash", "/tare/", Err(Component { at: 1 })),
            ("dot-dot", "/tare/../x", Err(Component { at: 1 })),
            ("dot", "/./x", Err(Component { at: 0 })),
            ("blank", "/a b", Err(Component { at: 0 })),
            ("NUL", "/a\0", Err(Component { at: 0 })),
            ("long name", &long_name, Err(Component { at: 0 })),
            ("long", &long, Err(Length(514))),
        ] {
            assert_eq!(input.parse::<CgroupPath>().map(drop), want, "{about}: {input:?}");
        }
    }

    #[test]
    fn parents_come_outermost_first() {
        let path: CgroupPath = "/tare/ab".parse().unwrap();
        let all: Vec<_> = path.supervisor().ancestry().map(String::from).collect();
        assert_eq!(all, ["/tare", "/tare/ab", "/tare/ab/supervisor"]);
        assert_eq!(path.session(3).relative(), Path::new("tare/ab/exec-3"));
    }

    proptest! {
        #[test]
        fn accepted_paths_stay_below_the_root(text in "[/a-z.@\\\\ -]{0,40}") {
            if let Ok(path) = text.parse::<CgroupPath>() {
                let parts: Vec<_> = path.relative().components().collect();
                prop_assert!(!parts.is_empty());
                prop_assert!(parts.iter().all(|p| matches!(p, std::path::Component::Normal(_))));
                prop_assert_eq!(parts.len(), path.ancestry().count());
            }
        }
    }
}
