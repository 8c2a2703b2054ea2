//! The only module that changes anything or talks to the kernel unsafely.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{Mode, OFlags};
use rustix::termios::Winsize;

use crate::fault;
use crate::step::Step;

/// Runs one effect: the only function of this crate that changes anything.
pub(crate) fn run(step: &Step<'_>) -> io::Result<()> {
    if fault::leaves_out(step)? {
        return Ok(());
    }
    match step {
        Step::Signal { pidfd, signal } => send_signal(*pidfd, i32::from(signal.number())),
        Step::Cgroup { dir, order, .. } => {
            let (file, text) = order.file_and_text();
            write(*dir, file, text)
        }
        Step::Resize { terminal, rows, columns } => {
            let size = Winsize { ws_row: *rows, ws_col: *columns, ws_xpixel: 0, ws_ypixel: 0 };
            Ok(rustix::termios::tcsetwinsize(terminal, size)?)
        }
        Step::Limit { dir, file, text, .. } => write(*dir, file, text),
    }
}

/// Writes to a file of a control group, in one piece, as the kernel wants it.
fn write(dir: BorrowedFd<'_>, file: &str, text: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(dir, file, flags, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes())?;
    Ok(())
}

/// `pidfd_send_signal(2)`, which in rustix lacks the real-time signals.
fn send_signal(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    let no_info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: the descriptor is open for the call, and a null siginfo means "as kill(2) does".
    let answer = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), number, no_info, 0)
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// 32 random bytes.
pub(crate) fn random_bytes() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut bytes[filled..], flags)?;
    }
    Ok(bytes)
}

/// The wait status of a process that has ended and been reaped; `None` if it has not, or if the
/// kernel does not keep it (before Linux 6.15).
pub(crate) fn pidfd_wait_status(pidfd: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let wanted = u64::from(libc::PIDFD_INFO_EXIT);
    // SAFETY: the structure holds plain integers only, for which zero is a value.
    let mut info: libc::pidfd_info = unsafe { mem::zeroed() };
    info.mask = wanted;
    // SAFETY: the ioctl reads and writes one pidfd_info, whose size is part of the request number.
    let answer = unsafe { libc::ioctl(pidfd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
    if answer == 0 {
        return Ok((info.mask & wanted != 0).then_some(info.exit_code));
    }
    match io::Error::last_os_error() {
        // No such ioctl, an older one, or one that knows only living processes.
        error
            if matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL | libc::ESRCH)) =>
        {
            Ok(None)
        }
        error => Err(error),
    }
}
