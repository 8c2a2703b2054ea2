//! Starting a program as `clone3(2)` can: in its control group from its first moment on, and held by
//! a descriptor. What is moved there later can be lost in between, and waits for the kernel.

use std::ffi::{CString, OsStr, c_char};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::launch::Launch;

/// What a child needs to become a program, all made beforehand: between the two it may not allocate,
/// since another thread may have held a lock when it was made.
pub(super) struct Program {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
    cwd: CString,
    /// What becomes descriptors 0, 1, 2, ...; each has a higher number than any of those.
    fds: Vec<OwnedFd>,
}

impl Program {
    /// `fds` become its descriptors, from 0 on.
    pub(super) fn new(launch: &Launch, fds: &[BorrowedFd<'_>]) -> io::Result<Self> {
        let beyond = i32::try_from(fds.len()).map_err(io::Error::other)?;
        let high = |fd: &BorrowedFd<'_>| Ok(fcntl_dupfd_cloexec(fd, beyond)?);
        let args = std::iter::once(launch.program.as_os_str());
        let args = args.chain(launch.args.iter().map(AsRef::as_ref));
        let env = launch.env.iter().map(|(name, value)| {
            c_string(&[OsStr::new(name), value.as_os_str()].join(OsStr::new("=")))
        });
        Ok(Self {
            path: c_string(launch.program.as_os_str())?,
            args: args.map(c_string).collect::<io::Result<_>>()?,
            env: env.collect::<io::Result<_>>()?,
            cwd: c_string(launch.cwd.as_os_str())?,
            fds: fds.iter().map(high).collect::<io::Result<_>>()?,
        })
    }

    /// Starts it in `group`, or where this process is. It leads a process group of its own: a Ctrl-C
    /// meant for us must not reach it.
    pub(super) fn start(&self, group: Option<BorrowedFd<'_>>) -> io::Result<(u32, OwnedFd)> {
        let (words, child_words) = pipe_with(PipeFlags::CLOEXEC)?;
        let child_words = fcntl_dupfd_cloexec(child_words, self.beyond())?;
        let pointers = Pointers { args: terminated(&self.args), env: terminated(&self.env) };
        let mut pidfd: RawFd = -1;
        let mut how = how(&mut pidfd, group);
        // SAFETY: without CLONE_VM the child has a copy of all memory, this stack included, and goes
        // on from here as after fork(2). It makes plain system calls until it is another program or
        // ends. `how` and what it points at live until the call returns.
        let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut how, size_of_val(&how)) };
        if pid == 0 {
            let errno = self.become_it(&pointers);
            tell(child_words.as_raw_fd(), errno);
        }
        let pid = u32::try_from(pid).map_err(|_| io::Error::last_os_error())?;
        // SAFETY: the kernel has put a new descriptor there, which is ours alone.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        drop(child_words);
        settle(pidfd, heard(&words)).map(|pidfd| (pid, pidfd))
    }

    /// The first descriptor that is not the program's.
    fn beyond(&self) -> RawFd {
        RawFd::try_from(self.fds.len()).unwrap_or(RawFd::MAX)
    }

    /// In the child; returns only if it fails, with the error.
    fn become_it(&self, pointers: &Pointers) -> i32 {
        let last_error = || io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        // SAFETY: plain system calls, which take no lock and allocate nothing. All pointers are to
        // what `self` and `pointers` hold: texts that end in NUL, lists that end in null. The ignored
        // SIGPIPE is Rust's own, and no signal mask of the thread that called is the program's.
        unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            if libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) != 0
                || libc::signal(libc::SIGPIPE, libc::SIG_DFL) == libc::SIG_ERR
                || libc::setpgid(0, 0) != 0
            {
                return last_error();
            }
            for (number, fd) in (0..).zip(&self.fds) {
                if libc::dup2(fd.as_raw_fd(), number) < 0 {
                    return last_error();
                }
            }
            // Also those that other code of this process forgot to mark so.
            let (beyond, flags) = (self.beyond(), libc::CLOSE_RANGE_CLOEXEC);
            if libc::syscall(libc::SYS_close_range, beyond, u32::MAX, flags) != 0
                || libc::chdir(self.cwd.as_ptr()) != 0
            {
                return last_error();
            }
            libc::execve(self.path.as_ptr(), pointers.args.as_ptr(), pointers.env.as_ptr());
        }
        last_error()
    }
}

/// What `execve(2)` wants of a [`Program`].
struct Pointers {
    args: Vec<*const c_char>,
    env: Vec<*const c_char>,
}

fn terminated(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    Ok(CString::new(text.as_bytes())?)
}

/// Handlers of ours are not run in the child, for what they write to is ours.
pub(super) fn how(pidfd: &mut RawFd, group: Option<BorrowedFd<'_>>) -> libc::clone_args {
    const CLEAR_HANDLERS: u64 = 0x1_0000_0000;
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    // SAFETY: a struct of numbers, of which zero is always one.
    let mut how: libc::clone_args = unsafe { std::mem::zeroed() };
    how.flags = libc::CLONE_PIDFD.unsigned_abs().into();
    how.flags |= CLEAR_HANDLERS;
    how.pidfd = std::ptr::from_mut(pidfd) as u64;
    how.exit_signal = libc::SIGCHLD.unsigned_abs().into();
    if let Some(group) = group {
        how.flags |= INTO_CGROUP;
        how.cgroup = group.as_raw_fd().unsigned_abs().into();
    }
    how
}

/// The child ends, and tells why.
fn tell(words: RawFd, errno: i32) -> ! {
    let bytes = errno.to_ne_bytes();
    // SAFETY: writes bytes that are there, and ends this process without any of its handlers.
    unsafe {
        libc::write(words, bytes.as_ptr().cast(), bytes.len());
        libc::_exit(127)
    }
}

/// A child that did not become the program, or may not have, is none that anybody waits for.
fn settle(pidfd: OwnedFd, heard: io::Result<Option<io::Error>>) -> io::Result<OwnedFd> {
    match heard {
        Ok(None) => Ok(pidfd),
        Ok(Some(error)) | Err(error) => {
            super::process::kill(&pidfd)?;
            Err(error)
        }
    }
}

/// Why the child did not become the program; nothing if it did.
fn heard(words: &OwnedFd) -> io::Result<Option<io::Error>> {
    let mut errno = [0; size_of::<i32>()];
    let count = rustix::io::retry_on_intr(|| rustix::io::read(words, &mut errno))?;
    // Four bytes come at once or not at all.
    Ok((count == errno.len()).then(|| io::Error::from_raw_os_error(i32::from_ne_bytes(errno))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use std::process::Command;

    #[test]
    fn a_child_of_which_nothing_is_heard_does_not_stay() {
        let cannot = || io::Error::from_raw_os_error(libc::ENOMEM);
        for heard in [Ok(Some(cannot())), Err(cannot())] {
            let mut child = Command::new("sleep").arg("60").spawn().unwrap();
            let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
            let error = settle(pidfd, heard).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
            let error = child.wait().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ECHILD), "it is waited for");
        }
    }
}
