//! Recognises a process again after the watcher was restarted.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::Error;

/// What tells one process from every other that ever had its pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Its pid, in the pid namespace of whoever asked.
    pub pid: u32,
    /// When it started, in clock ticks since the boot.
    pub start_time: u64,
    /// Inode of its pidfd: unique until the next boot from Linux 6.9 on, one for all before.
    pub pidfd_inode: u64,
}

impl Identity {
    /// The identity of the process behind `pidfd`.
    ///
    /// # Errors
    ///
    /// [`Error::Identify`]; its kind is [`Gone`](crate::ErrorKind::Gone) if the process has ended.
    pub fn of(pidfd: BorrowedFd<'_>) -> Result<Self, Error> {
        let identify = || {
            let pid = pid_of(pidfd)?;
            let start_time = start_time(pid)?;
            // The pid may have been reused before its start time was read, but not if the process
            // of the pidfd still has it now.
            if pid_of(pidfd)? != pid {
                return Err(gone());
            }
            Ok(Self { pid, start_time, pidfd_inode: inode(pidfd)? })
        };
        identify().map_err(|source| Error::Identify { source })
    }
}

/// A new pidfd for the process `identity` stands for; `None` if that process has ended, whoever
/// has its pid now.
///
/// # Errors
///
/// [`Error::Reopen`].
pub fn reopen(identity: &Identity) -> Result<Option<OwnedFd>, Error> {
    let look_up = || -> io::Result<Option<OwnedFd>> {
        let pid = i32::try_from(identity.pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
        // Open first, compare then: from here on the pidfd cannot come to mean another process.
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        let same = inode(pidfd.as_fd())? == identity.pidfd_inode
            && start_time(identity.pid)? == identity.start_time
            && lives(&pidfd)?;
        Ok(same.then_some(pidfd))
    };
    match look_up() {
        Err(error) if is_gone(&error) => Ok(None),
        result => result.map_err(|source| Error::Reopen { pid: identity.pid, source }),
    }
}

/// Whether the process of a pidfd has not ended: one that nobody has reaped yet has.
fn lives(pidfd: &OwnedFd) -> io::Result<bool> {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&at_once))? == 0)
}

fn gone() -> io::Error {
    io::Error::from_raw_os_error(libc::ESRCH)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT | libc::EINVAL))
}

fn inode(pidfd: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(rustix::fs::fstat(pidfd)?.st_ino)
}

fn pid_of(pidfd: BorrowedFd<'_>) -> io::Result<u32> {
    let info = fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    // -1 stands for a process that has ended.
    pid.and_then(|pid| pid.trim().parse().ok()).filter(|pid| *pid != 0).ok_or_else(gone)
}

fn start_time(pid: u32) -> io::Result<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat"))?;
    parse_start_time(&stat)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/<pid>/stat is malformed"))
}

/// Field 22 of `proc_pid_stat(5)`. The name in field 2 may hold anything, so count from its end.
fn parse_start_time(stat: &[u8]) -> Option<u64> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let fields = str::from_utf8(&stat[after_name..]).ok()?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn sleeper() -> (Child, OwnedFd) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        (child, pidfd)
    }

    #[test]
    fn a_living_process_is_found_again() {
        let (mut child, pidfd) = sleeper();
        let identity = Identity::of(pidfd.as_fd()).unwrap();
        assert_eq!(identity.pid, child.id());
        let found = reopen(&identity).unwrap().expect("it lives");
        assert_eq!(Identity::of(found.as_fd()).unwrap(), identity);
        child.kill().unwrap();
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).unwrap();
        assert!(reopen(&identity).unwrap().is_none(), "a zombie");
        child.wait().unwrap();
        assert!(reopen(&identity).unwrap().is_none(), "it is dead");
        let error = Identity::of(pidfd.as_fd()).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Gone);
    }

    #[test]
    fn another_process_under_the_same_pid_is_not_it() {
        let (mut child, pidfd) = sleeper();
        let identity = Identity::of(pidfd.as_fd()).unwrap();
        for other in [
            Identity { start_time: identity.start_time + 1, ..identity },
            Identity { pidfd_inode: identity.pidfd_inode + 1, ..identity },
            Identity { pid: std::process::id(), ..identity },
            Identity { pid: 0, ..identity },
            Identity { pid: u32::MAX, ..identity },
        ] {
            assert!(reopen(&other).unwrap().is_none(), "{other:?}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn the_name_of_a_process_cannot_forge_its_start_time() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        let stat = format!("12 (a) S 0 0 0 (b) {rest}");
        assert_eq!(parse_start_time(stat.as_bytes()), Some(4711));
        assert_eq!(parse_start_time(b"12 (sh) S 1 2"), None);
        assert_eq!(parse_start_time(b""), None);
    }
}
