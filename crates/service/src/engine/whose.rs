//! Whose a process is: the container whose control group holds it.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use super::view;
use super::watched::has_ended;
use super::{Engine, Error};

impl Engine {
    /// The container that holds the process of a number. By the time of the answer the number may be
    /// another process's.
    ///
    /// # Errors
    ///
    /// [`Error::NoContainerForProcess`].
    pub fn container_of_pid(&self, pid: u32) -> Result<Arc<view::Container>, Error> {
        // A process that is gone is in no container.
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let group = own_group(&groups).ok_or(Error::NoContainerForProcess)?;
        let holds = |container: &Arc<view::Container>| is_within(group, &container.cgroup);
        self.containers().into_iter().find(holds).ok_or(Error::NoContainerForProcess)
    }

    /// The container that holds the process of a pidfd.
    ///
    /// # Errors
    ///
    /// [`Error::NoContainerForProcess`], also if the process has ended, and [`Error::NotAPidfd`].
    pub fn container_of_pidfd(&self, pidfd: impl AsFd) -> Result<Arc<view::Container>, Error> {
        let pidfd = pidfd.as_fd();
        let info = format!("/proc/thread-self/fdinfo/{}", pidfd.as_raw_fd());
        let info = fs::read_to_string(info)
            .map_err(|source| Error::Host { what: "look at a descriptor", source })?;
        let pid = pid_of(&info).ok_or(Error::NotAPidfd)?;
        // Those of another pid namespace have the number 0, those that are gone -1.
        let pid = u32::try_from(pid).ok().filter(|pid| *pid != 0);
        let found = self.container_of_pid(pid.ok_or(Error::NoContainerForProcess)?)?;
        // It is there until now, and so that was its number all the time.
        if has_ended(pidfd) { Err(Error::NoContainerForProcess) } else { Ok(found) }
    }
}

/// The number of a process in what `/proc` says of a pidfd.
fn pid_of(fdinfo: &str) -> Option<i64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
}

/// The group of a process in cgroup2, by its `/proc/PID/cgroup`.
fn own_group(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

/// Whether `group` is `of`, or below it; nothing is below no group.
fn is_within(group: &str, of: &str) -> bool {
    let below = group.strip_prefix(of).filter(|_| !of.is_empty());
    below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_told_apart_by_whole_names() {
        for (group, of, within) in [
            ("/tare/ab", "/tare/ab", true),
            ("/tare/ab/payload", "/tare/ab", true),
            ("/tare/abc", "/tare/ab", false),
            ("/tare", "/tare/ab", false),
            ("/tare", "", false),
        ] {
            assert_eq!(is_within(group, of), within, "{group} in {of}");
        }
        assert_eq!(own_group("1:cpu:/x\n0::/tare/ab\n"), Some("/tare/ab"));
        assert_eq!(own_group("1:cpu:/x\n"), None);
    }

    #[test]
    fn a_pidfd_says_whose_it_is() {
        assert_eq!(pid_of("pos:\t0\nflags:\t02000002\nPid:\t17\nNSpid:\t17\n"), Some(17));
        assert_eq!(pid_of("pos:\t0\nPid:\t-1\n"), Some(-1));
        assert_eq!(pid_of("pos:\t0\nflags:\t0100000\n"), None, "a file");
    }
}
