//! Paths in a root file system.

use std::fmt;

/// A path below a root file system, relative to it.
///
/// One or more components of 1 to 255 bytes with single `/` between them, 4095 bytes at most; no
/// component is `.` or `..`, and there is no NUL. It is safe as far as text can be: a component may
/// still turn out to be a symbolic link, so resolve it inside the root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativePath(Box<str>);

impl RelativePath {
    /// Longest, in bytes; `PATH_MAX` less its NUL.
    pub const MAX_LEN: usize = 4095;
    /// Longest component, in bytes; `NAME_MAX`.
    pub const MAX_COMPONENT: usize = 255;

    /// A path as a container sees it: relative to its root, with or without a `/` at the front.
    ///
    /// # Errors
    ///
    /// [`InvalidPath`].
    pub fn in_container(path: &str) -> Result<Self, InvalidPath> {
        let path = path.strip_prefix('/').unwrap_or(path);
        if path.is_empty() {
            return Err(InvalidPath::Root);
        }
        if path.len() > Self::MAX_LEN {
            return Err(InvalidPath::TooLong);
        }
        if path.contains('\0') {
            return Err(InvalidPath::Nul);
        }
        path.split('/').try_for_each(check_component).map(|()| Self(path.into()))
    }

    /// The path as text, without a `/` at the front.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_component(component: &str) -> Result<(), InvalidPath> {
    match component {
        "" => Err(InvalidPath::Empty),
        "." | ".." => Err(InvalidPath::Dots),
        long if long.len() > RelativePath::MAX_COMPONENT => Err(InvalidPath::TooLong),
        _ => Ok(()),
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a [`RelativePath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPath {
    /// It is empty, or names the root itself.
    #[error("names the root itself")]
    Root,
    /// Two `/` follow each other, or it ends in one.
    #[error("has an empty component")]
    Empty,
    /// A component is `.` or `..`.
    #[error("has a component '.' or '..'")]
    Dots,
    /// It has a NUL.
    #[error("has a NUL")]
    Nul,
    /// It, or a component, is longer than the kernel takes.
    #[error("is too long")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    #[test]
    fn paths_stay_below_the_root() {
        use InvalidPath::{Dots, Empty, Nul, Root, TooLong};
        let longest = ["a".repeat(255).as_str(); 16].join("/");
        for (about, text, want) in [
            ("podman's", "/etc/motd", Ok("etc/motd")),
            ("relative", "etc/motd", Ok("etc/motd")),
            ("odd but whole", "...", Ok("...")),
            ("any other byte", "/a b/\u{e9}\n", Ok("a b/\u{e9}\n")),
            ("longest", &longest, Ok(longest.as_str())),
            ("empty", "", Err(Root)),
            ("the root", "/", Err(Root)),
            ("two slashes at the front", "//etc", Err(Empty)),
            ("two slashes inside", "/etc//motd", Err(Empty)),
            ("slash at the end", "/etc/", Err(Empty)),
            ("here", ".", Err(Dots)),
            ("up", "..", Err(Dots)),
            ("up later", "/etc/../../x", Err(Dots)),
            ("up last", "/etc/..", Err(Dots)),
            ("NUL", "/etc\0", Err(Nul)),
            ("one byte too long", &format!("{longest}b"), Err(TooLong)),
            ("component too long", &"a".repeat(256), Err(TooLong)),
        ] {
            let parsed = RelativePath::in_container(text);
            assert_eq!(
                parsed.as_ref().map(RelativePath::as_str),
                want.as_ref().copied(),
                "{about}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_accepted_path_escapes(text in "(/|\\.|\\.\\.|a|\0|b c){0,8}") {
            if let Ok(path) = RelativePath::in_container(&text) {
                let parts: Vec<_> = Path::new(path.as_str()).components().collect();
                prop_assert!(!parts.is_empty());
                prop_assert!(parts.iter().all(|part| matches!(part, Component::Normal(_))));
                prop_assert!(!path.as_str().contains('\0'));
                prop_assert_eq!(parts.len(), path.as_str().split('/').count());
            }
        }

        #[test]
        fn whole_paths_are_accepted(parts in proptest::collection::vec("[a-z][a-z.]{0,9}", 1..9)) {
            let text = parts.join("/");
            let path = RelativePath::in_container(&format!("/{text}")).unwrap();
            prop_assert_eq!(path.as_str(), &text);
        }
    }
}
