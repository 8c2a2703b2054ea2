//! Terminals of processes in containers.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use rustix::termios::isatty;

use crate::Error;
use crate::step::{Step, run};

/// Major numbers of the terminals of devpts: `UNIX98_PTY_SLAVE_MAJOR` and those that follow.
const SLAVES: std::ops::RangeInclusive<u32> = 136..=143;

/// Tells the processes at a terminal how large it is: that of the process of a pidfd, as it has it
/// for standard input, output or error. Whether it has one.
///
/// # Errors
///
/// [`Error::Step`], and [`Error::Terminal`] if its descriptors cannot be looked at.
pub fn resize(pidfd: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<bool, Error> {
    match terminal_of(pidfd).map_err(|source| Error::Terminal { source })? {
        Some(terminal) => set_size(&terminal, rows, columns).map(|()| true),
        None => Ok(false),
    }
}

/// Says how large a terminal is, by either side of it.
///
/// # Errors
///
/// [`Error::Step`].
pub fn set_size(terminal: &OwnedFd, rows: u16, columns: u16) -> Result<(), Error> {
    run(&Step::Resize { terminal, rows, columns })
}

/// What is open already is taken, and nothing opened: what stands at a path of the container's may
/// be anything.
fn terminal_of(pidfd: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    for number in 0..=2 {
        match pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty()) {
            Ok(fd) if is_slave(&fd) => return Ok(Some(fd)),
            Ok(_) | Err(rustix::io::Errno::BADF) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(None)
}

fn is_slave(fd: &OwnedFd) -> bool {
    let major = rustix::fs::fstat(fd).map(|stat| rustix::fs::major(stat.st_rdev));
    isatty(fd) && major.is_ok_and(|major| SLAVES.contains(&major))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
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
}
