//! From pids in files to pidfds that mean the right process.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::reaper::Kin;
use crate::launch::read_small;
use crate::undo::failed;
use crate::{Cause, Started};

/// The conmon whose pid is in `pid_file`. `None` if it has ended: the process of that pid, if
/// there is one, is not in the mount namespace of this thread.
pub(super) fn supervisor(kin: &mut Kin<'_>, pid_file: &Path) -> Result<Option<Started>, Cause> {
    let read = || -> io::Result<u32> {
        let text = read_small(pid_file)?;
        text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
    };
    let pid = read().map_err(|source| failed(&"read conmon's pid", source))?;
    let is_it = || Ok(mount_namespace(&pid.to_string())? == mount_namespace("thread-self")?);
    // conmon leads a session, unlike programs that are started without ado; so the pid of an
    // earlier one, used again since, does not lead to somebody else's child.
    verified(kin, pid, None, is_it, || {
        Ok(origin_of(pid)?.is_some_and(|origin| origin.session == pid))
    })
}

/// The process `pid`, if it is a child of `parent`; `None` if it has ended. Its exit code goes to
/// `exit_file` if `parent` cannot write it.
pub(super) fn child_of(
    kin: &mut Kin<'_>,
    parent: u32,
    pid: u32,
    exit_file: &Path,
) -> Result<Option<Started>, Cause> {
    let is_it = || Ok(origin_of(pid)?.is_some_and(|origin| origin.parent == parent));
    verified(kin, pid, Some(exit_file), is_it, is_it)
}

/// Opens a pidfd first and looks at the process then: if it still lives after that, what was
/// seen was the process of the pidfd.
///
/// `was_it` asks the same of one that ends or has ended, of which little can be seen any more.
fn verified(
    kin: &mut Kin<'_>,
    pid: u32,
    exit_file: Option<&Path>,
    is_it: impl Fn() -> io::Result<bool>,
    was_it: impl Fn() -> io::Result<bool>,
) -> Result<Option<Started>, Cause> {
    let mut look = || -> io::Result<Option<Started>> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty())?;
        let is_it = is_it();
        let lives = lives(&pidfd)?;
        if lives && matches!(is_it, Ok(true)) {
            kin.add(raw, &pidfd, exit_file);
            return Ok(Some(Started { pid, pidfd }));
        }
        if (is_it.is_err() || !lives) && was_it()? {
            kin.add(raw, &pidfd, exit_file);
        }
        is_it.map(|_| None)
    };
    match look() {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) => Ok(None),
        result => result.map_err(|source| failed(&format!("look at process {pid}"), source)),
    }
}

/// Whether the process of a pidfd has not ended.
fn lives(pidfd: impl AsFd) -> io::Result<bool> {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&at_once))? == 0)
}

fn mount_namespace(process: &str) -> io::Result<u64> {
    Ok(fs::metadata(format!("/proc/{process}/ns/mnt"))?.ino())
}

/// Where a process comes from; zombies still tell.
#[derive(Debug, PartialEq, Eq)]
struct Origin {
    parent: u32,
    session: u32,
}

fn origin_of(pid: u32) -> io::Result<Option<Origin>> {
    Ok(parse_origin(&fs::read(format!("/proc/{pid}/stat"))?))
}

/// Fields 4 and 6 of `proc_pid_stat(5)`. The name in field 2 may hold anything, so count from its
/// end.
fn parse_origin(stat: &[u8]) -> Option<Origin> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let mut fields = str::from_utf8(&stat[after_name..]).ok()?.split_ascii_whitespace().skip(1);
    let mut next = || fields.next()?.parse().ok();
    let (parent, _group, session) = (next()?, next()?, next()?);
    Some(Origin { parent, session })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::reaper::Reaper;

    #[test]
    fn only_a_living_child_is_a_child() {
        let reaper = Reaper::default();
        let nowhere = Path::new("/nowhere");
        let child_of = |parent, pid| child_of(&mut reaper.kin(), parent, pid, nowhere);
        let me = std::process::id();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = child_of(me, child.id()).unwrap().expect("it lives");
        assert_eq!(found.pid, child.id());
        assert!(child_of(1, child.id()).unwrap().is_none(), "another's child");
        child.kill().unwrap();
        rustix::event::poll(&mut [PollFd::new(&found.pidfd, PollFlags::IN)], None).unwrap();
        assert!(child_of(me, child.id()).unwrap().is_none(), "a zombie");
        child.wait().unwrap();
        assert!(child_of(me, child.id()).unwrap().is_none(), "gone");
        assert!(child_of(me, u32::MAX).unwrap().is_none());
    }

    #[test]
    fn a_supervisor_shares_our_mounts() {
        let reaper = Reaper::default();
        let supervisor = |file: &Path| supervisor(&mut reaper.kin(), file);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        fs::write(&file, std::process::id().to_string()).unwrap();
        assert_eq!(supervisor(&file).unwrap().expect("us").pid, std::process::id());
        fs::write(&file, "nonsense").unwrap();
        assert!(supervisor(&file).is_err());
    }

    #[test]
    fn the_name_of_a_process_cannot_forge_its_origin() {
        let origin = Origin { parent: 7, session: 13 };
        assert_eq!(parse_origin(b"12 (a) S 1 (b) S 7 12 13 0"), Some(origin));
        assert_eq!(parse_origin(b"12 (a) S 7 12"), None);
        assert_eq!(parse_origin(b"12 (a"), None);
    }
}
