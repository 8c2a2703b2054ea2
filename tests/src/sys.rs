//! Namespaces and user of the calling thread, and what the programs it starts inherit.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Gid, Uid};
use rustix::thread::{
    LinkNameSpaceType, UnshareFlags, move_into_link_name_space, set_thread_gid, set_thread_groups,
    set_thread_uid, unshare_unsafe,
};

/// Gives the calling thread network and mount namespaces, and a working directory, of its own.
pub(crate) fn leave_the_host() -> io::Result<()> {
    let flags = UnshareFlags::FS | UnshareFlags::NEWNS | UnshareFlags::NEWNET;
    // SAFETY: descriptors stay shared, and nothing else that is unshared here matters to memory.
    Ok(unsafe { unshare_unsafe(flags) }?)
}

/// Moves the calling thread into another network namespace.
pub(crate) fn enter_network(namespace: &File) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Makes the calling thread, and no other, one of the user `uid`.
pub(crate) fn become_user(uid: u32) -> io::Result<()> {
    set_thread_groups(&[])?;
    set_thread_gid(Gid::from_raw(uid))?;
    Ok(set_thread_uid(Uid::from_raw(uid))?)
}

/// Lets a program inherit nothing but its standard files. What the library receives over a bus is open
/// in whatever other threads start meanwhile.
pub(crate) fn inherit_nothing(command: &mut Command) {
    const FIRST: u32 = 3;
    let mark = || {
        // SAFETY: marks descriptors only; close_range(2) is a plain system call.
        let answer = unsafe {
            libc::syscall(libc::SYS_close_range, FIRST, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
        };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: it allocates nothing and takes no lock.
    unsafe { command.pre_exec(mark) };
}
