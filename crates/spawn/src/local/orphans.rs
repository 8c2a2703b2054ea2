//! Finds children of this process that nobody told it of, by their control group.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::CgroupPath;

/// Children of this process that live or died in a control group or below it, and were not waited
/// for; the group may be gone. Looks at all children. Kernels without `CONFIG_PROC_CHILDREN` give
/// none.
pub(super) fn of_group(group: &CgroupPath) -> Vec<(Pid, OwnedFd)> {
    let theirs = |pid: &u32| is_in(*pid, group);
    let found = children().into_iter().filter(theirs).filter_map(|pid| {
        let raw = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).ok()?;
        // Looked at again: the pid may have been used again before it was opened.
        is_in(pid, group).then_some((raw, pidfd))
    });
    found.collect()
}

fn children() -> Vec<u32> {
    let read = || -> io::Result<Vec<u32>> {
        let mut pids = Vec::new();
        for thread in fs::read_dir("/proc/self/task")? {
            let text = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
            pids.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        Ok(pids)
    };
    read().unwrap_or_default()
}

fn is_in(pid: u32, group: &CgroupPath) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    names(&text, group)
}

/// Whether `/proc/<pid>/cgroup` names a group or one below it; see cgroups(7).
fn names(text: &str, group: &CgroupPath) -> bool {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    let below = path.and_then(|path| path.strip_prefix(group.as_str()));
    // A group that is gone has " (deleted)" after its name.
    below.is_some_and(|below| below.is_empty() || below.starts_with(['/', ' ']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_told_by_their_whole_names() {
        let group = "/tare/ab".parse().unwrap();
        for (text, want) in [
            ("0::/tare/ab\n", true),
            ("1:name=systemd:/x\n0::/tare/ab/payload\n", true),
            ("0::/tare/ab (deleted)\n", true),
            ("0::/tare/ab/payload (deleted)\n", true),
            ("0::/tare/abc\n", false),
            ("0::/tare\n", false),
            ("4:pids:/tare/ab\n0::/\n", false),
            ("", false),
        ] {
            assert_eq!(names(text, &group), want, "{text:?}");
        }
    }

    #[test]
    fn living_children_are_found_too() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(children().contains(&child.id()));
        child.kill().unwrap();
        assert!(children().contains(&child.id()), "a zombie");
        child.wait().unwrap();
        assert!(!children().contains(&child.id()));
    }
}
