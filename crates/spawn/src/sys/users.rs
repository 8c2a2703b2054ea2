use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use rustix::pipe::{PipeFlags, pipe_with};

use super::process::kill;
use super::program::how;

/// Makes a user namespace with these maps. It needs a process to be made, of which nothing is left: the
/// descriptor alone keeps it.
pub(super) fn make(uids: &str, gids: &str) -> io::Result<OwnedFd> {
    let (end, held) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut pidfd: RawFd = -1;
    let mut how = how(&mut pidfd, None);
    how.flags |= u64::from(libc::CLONE_NEWUSER.unsigned_abs());
    // SAFETY: without CLONE_VM the child has a copy of all memory, this stack included, and goes on
    // from here as after fork(2). It makes plain system calls until it ends. `how` and what it points
    // at live until the call returns.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut how, size_of_val(&how)) };
    if pid == 0 {
        wait(end.as_raw_fd(), held.as_raw_fd());
    }
    let pid = u32::try_from(pid).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has put a new descriptor there, which is ours alone.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let made = fill(pid, uids, gids);
    kill(&pidfd)?;
    made
}

/// In the child: does nothing until it is killed, or whoever made it has ended.
fn wait(end: RawFd, held: RawFd) -> ! {
    // SAFETY: plain system calls, which take no lock and allocate nothing, on descriptors of this
    // process; the byte is there. It ends without any handler.
    unsafe {
        libc::close(held);
        let mut byte = 0_u8;
        libc::read(end, (&raw mut byte).cast(), 1);
        libc::_exit(0)
    }
}

/// The process has not been waited for, so its number is nobody else's.
fn fill(pid: u32, uids: &str, gids: &str) -> io::Result<OwnedFd> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    fs::write(process.join("uid_map"), uids)?;
    fs::write(process.join("gid_map"), gids)?;
    Ok(File::open(process.join("ns/user"))?.into())
}
