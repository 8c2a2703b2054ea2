//! Terminals of processes in containers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use rustix::termios::isatty;

use crate::Error;
use crate::identity::Identity;
use crate::step::{Step, run};

/// Major numbers of the terminals of devpts: `UNIX98_PTY_SLAVE_MAJOR` and those that follow.
const SLAVES: std::ops::RangeInclusive<u32> = 136..=143;
/// The device that they are made by, and their other side is: `TTYAUX_MAJOR`, 2.
const PTMX: (u32, u32) = (5, 2);

/// Tells the processes at a terminal how large it is: that of the process of a pidfd, as it has it
/// for standard input, output or error. Whether it has one.
///
/// # Errors
///
/// [`Error::Step`], [`Error::Identify`] if it has ended, and [`Error::Terminal`] if its descriptors
/// cannot be looked at.
pub fn resize(pidfd: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<bool, Error> {
    let pid = Identity::of(pidfd)?.pid;
    match terminal_of(pid, pidfd).map_err(|source| Error::Terminal { source })? {
        Some(terminal) => run(&Step::Resize { terminal: &terminal, rows, columns }).map(|()| true),
        None => Ok(false),
    }
}

/// Says how large a terminal is, by the side of it that is not the process's.
///
/// # Errors
///
/// [`Error::Step`], and [`Error::Terminal`] if it is none.
pub fn set_size(terminal: &OwnedFd, rows: u16, columns: u16) -> Result<(), Error> {
    if !is_master(terminal) {
        return Err(Error::Terminal { source: io::Error::from_raw_os_error(libc::ENOTTY) });
    }
    run(&Step::Resize { terminal, rows, columns })
}

/// What is open already is taken, and nothing opened: what stands at a path of the container's may
/// be anything. So may what is open: it is looked at first, for whoever closes a file asks its
/// filesystem, which may never answer.
fn terminal_of(pid: u32, pidfd: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    for number in 0..=2 {
        if !is_slave(CWD, &format!("/proc/{pid}/fd/{number}")) {
            continue;
        }
        match pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty()) {
            Ok(fd) if is_slave(&fd, "") && isatty(&fd) => return Ok(Some(fd)),
            Ok(_) | Err(rustix::io::Errno::BADF) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(None)
}

fn is_slave(dir: impl AsFd, path: &str) -> bool {
    device(dir, path).is_some_and(|(major, _)| SLAVES.contains(&major))
}

fn is_master(fd: &OwnedFd) -> bool {
    device(fd, "") == Some(PTMX)
}

/// The numbers of a character device, as far as the kernel knows without asking the filesystem.
fn device(dir: impl AsFd, path: &str) -> Option<(u32, u32)> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = statx(dir, path, flags, StatxFlags::TYPE).ok()?;
    let is_device = FileType::from_raw_mode(stat.stx_mode.into()).is_char_device();
    is_device.then_some((stat.stx_rdev_major, stat.stx_rdev_minor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::tcgetwinsize;

    #[test]
    fn the_terminal_of_a_process_is_found_among_its_descriptors() {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = std::fs::File::options().read(true).write(true).open(name.to_str().unwrap());
        let start = |output: Stdio| {
            let mut sleep = Command::new("sleep");
            let child = sleep.arg("60").stdin(Stdio::null()).stdout(output).spawn().unwrap();
            let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
            (child, pidfd)
        };
        for (output, has_one) in [(slave.unwrap().into(), true), (Stdio::null(), false)] {
            let (mut child, pidfd) = start(output);
            assert_eq!(resize(pidfd.as_fd(), 7, 77).unwrap(), has_one);
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(resize(pidfd.as_fd(), 8, 88).is_err(), "it has ended");
        }
        let size = tcgetwinsize(&master).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (7, 77));
    }

    #[test]
    fn only_the_other_side_of_a_terminal_is_given_a_size() {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        set_size(&master, 7, 77).unwrap();
        assert_eq!(tcgetwinsize(&master).unwrap().ws_col, 77);
        for path in ["/dev/null", "/proc/self/stat", "/"] {
            let error = set_size(&std::fs::File::open(path).unwrap().into(), 8, 88).unwrap_err();
            assert!(matches!(error, Error::Terminal { .. }), "{path}: {error:?}");
        }
    }
}
