//! Where something may be mounted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::{AbsolutePath, InvalidText, Problem, string_form};

/// A place in the container for a mount: an absolute path without `..`, kept in its shortest form,
/// so that two of them are the same place if they are the same text.
///
/// It is not `/`, nor in `/proc` or `/sys`, where a mount could hide from the runtime what it
/// protects by (CVE-2019-16884, CVE-2019-19921, CVE-2023-27561), but for the few files by which
/// lxcfs tells a container of its own limits; and it is none of the places in `/dev` that the
/// runtime makes itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MountTarget(String);

/// What lxcfs provides.
const LXCFS: [&str; 9] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/sys/devices/system/cpu/online",
];

/// What the runtime makes in `/dev`, and the links there.
const DEVICES: [&str; 14] = [
    "/dev",
    "/dev/console",
    "/dev/core",
    "/dev/fd",
    "/dev/full",
    "/dev/null",
    "/dev/ptmx",
    "/dev/pts",
    "/dev/random",
    "/dev/stderr",
    "/dev/stdin",
    "/dev/stdout",
    "/dev/tty",
    "/dev/urandom",
];

impl MountTarget {
    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// For constants of this crate, and places below them.
    pub(crate) fn known(path: &str) -> Self {
        path.parse().expect("a place that may be mounted on")
    }
}

impl FromStr for MountTarget {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |rule| InvalidText::new("mount target", Problem::Form(rule));
        let path = clean(&text.parse::<AbsolutePath>()?);
        let is_in = |directory: &str| {
            path.strip_prefix(directory)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if path == "/" {
            return Err(invalid("is /: the root is that of the image"));
        }
        if (is_in("/proc") || is_in("/sys")) && !LXCFS.contains(&path.as_str()) {
            return Err(invalid("is in /proc or /sys"));
        }
        if DEVICES.contains(&path.as_str()) || is_in("/dev/pts") || is_in("/dev/fd") {
            return Err(invalid("is /dev or something that the runtime makes there"));
        }
        Ok(Self(path))
    }
}

string_form!(MountTarget);

impl fmt::Display for MountTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The shortest form of a path without `..`.
pub(crate) fn clean(path: &AbsolutePath) -> String {
    let mut clean = String::with_capacity(path.as_str().len());
    for part in path.as_str().split('/').filter(|part| !matches!(*part, "" | ".")) {
        clean.push('/');
        clean.push_str(part);
    }
    if clean.is_empty() {
        clean.push('/');
    }
    clean
}

/// How deep a place is: 0 for `/`.
pub(crate) fn depth(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn places() {
        for (text, want) in [
            ("/data", Some("/data")),
            ("/data/", Some("/data")),
            ("//data/./x//", Some("/data/x")),
            ("/var/run/x", Some("/var/run/x")),
            ("/dev/shm", Some("/dev/shm")),
            ("/dev/bus/usb", Some("/dev/bus/usb")),
            ("/proc/uptime", Some("/proc/uptime")),
            ("/process", Some("/process")),
            ("/system", Some("/system")),
            ("/", None),
            ("/.", None),
            ("data", None),
            ("", None),
            ("/a/../etc", None),
            ("/..", None),
            ("/proc", None),
            ("/proc/", None),
            ("/./proc/self/attr", None),
            ("/proc/sys/kernel", None),
            ("/proc/uptime/x", None),
            ("/sys", None),
            ("/sys/fs/cgroup", None),
            ("/dev", None),
            ("/dev/", None),
            ("/dev/null", None),
            ("/dev/pts/0", None),
            ("/a\nb", None),
            ("/a\0", None),
        ] {
            let got = text.parse::<MountTarget>().ok();
            assert_eq!(got.as_ref().map(MountTarget::as_str), want, "{text:?}");
        }
        assert!(format!("/{}", "a".repeat(1 << 20)).parse::<MountTarget>().is_err());
    }

    proptest! {
        #[test]
        fn the_shortest_form_is_a_fixed_point(text in "(/{1,2}(\\.|a|proc|sys|dev|[a-z]{1,3})){1,6}/?") {
            if let Ok(target) = text.parse::<MountTarget>() {
                prop_assert_eq!(target.as_str().parse::<MountTarget>().unwrap(), target.clone());
                prop_assert!(!target.as_str().contains("//") && !target.as_str().ends_with('/'));
            }
        }
    }
}
