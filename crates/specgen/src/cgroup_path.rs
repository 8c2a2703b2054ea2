//! `linux.cgroupsPath`: where in the host's control groups a container goes.

use crate::error::Error;
use crate::namespace::ContainerRef;
use crate::request::CgroupParent;

/// Who makes control groups: the runtime itself, or systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CgroupManager {
    /// The runtime makes directories.
    Cgroupfs,
    /// The runtime asks systemd for a scope.
    Systemd,
}

/// Where a container goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CgroupPlace<'a> {
    /// Into a group of its own below this one.
    Below(&'a CgroupParent),
    /// Into a group of its own beside its supervisor, which is in this group.
    Split(&'a CgroupParent),
    /// Nowhere: it stays where its supervisor is, and has no limits.
    Disabled,
}

/// The path as runtimes want it: `PARENT/tare-ID`, or with systemd `SLICE:tare:ID`; empty for none.
///
/// # Errors
/// [`Error::Option`] for a slice without systemd, or a path with it.
pub fn cgroups_path(
    manager: CgroupManager,
    place: CgroupPlace<'_>,
    id: &ContainerRef,
) -> Result<String, Error> {
    let wrong = |rule| Err(Error::Option { option: "CgroupParent", rule });
    let slice = |parent: &CgroupParent| parent.as_str().strip_suffix(".slice").is_some();
    match (manager, place) {
        (_, CgroupPlace::Disabled) => Ok(String::new()),
        (_, CgroupPlace::Split(own)) if !slice(own) => {
            Ok(format!("{}/payload", own.as_str().trim_end_matches('/')))
        }
        (_, CgroupPlace::Split(_)) => wrong("is a slice: a group beside another is named by path"),
        (CgroupManager::Systemd, CgroupPlace::Below(parent)) if slice(parent) => {
            let name = parent.as_str().rsplit('/').next().unwrap_or_default();
            Ok(format!("{name}:tare:{id}"))
        }
        (CgroupManager::Systemd, CgroupPlace::Below(_)) => {
            wrong("has to be a slice, as in machine.slice: systemd makes the groups")
        }
        (CgroupManager::Cgroupfs, CgroupPlace::Below(parent)) if slice(parent) => {
            wrong("has to be a path, as in /tare: there is no systemd to make slices")
        }
        (CgroupManager::Cgroupfs, CgroupPlace::Below(parent)) => {
            Ok(format!("{}/tare-{id}", parent.as_str().trim_end_matches('/')))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_of_the_seed() {
        use CgroupManager::{Cgroupfs, Systemd};
        let id: ContainerRef = "a".repeat(64).parse().unwrap();
        let parent = |text: &str| text.parse::<CgroupParent>().unwrap();
        let (path, slice) = (parent("/machine"), parent("machine.slice"));
        let get = |manager, place| cgroups_path(manager, place, &id).ok();
        let (below, split) = (CgroupPlace::Below, CgroupPlace::Split);
        assert_eq!(get(Cgroupfs, below(&path)), Some(format!("/machine/tare-{id}")));
        assert_eq!(get(Systemd, below(&slice)), Some(format!("machine.slice:tare:{id}")));
        assert_eq!(get(Cgroupfs, split(&path)).as_deref(), Some("/machine/payload"));
        assert_eq!(get(Systemd, split(&path)).as_deref(), Some("/machine/payload"));
        for manager in [Cgroupfs, Systemd] {
            assert_eq!(get(manager, CgroupPlace::Disabled).as_deref(), Some(""));
        }
        assert_eq!(get(Cgroupfs, below(&slice)), None);
        assert_eq!(get(Systemd, below(&path)), None);
        assert_eq!(get(Systemd, split(&slice)), None);
    }

    #[test]
    fn parents() {
        for (text, good) in [
            ("/a/b", true),
            ("a-b.slice", true),
            ("", false),
            ("/", false),
            ("a", false),
            ("a/b.slice", false),
            (".slice", false),
            ("/a/../b", false),
            ("/a//b", false),
            ("/a/", false),
            ("/a b", false),
            ("/a\n", false),
        ] {
            assert_eq!(text.parse::<CgroupParent>().is_ok(), good, "{text:?}");
        }
    }
}
