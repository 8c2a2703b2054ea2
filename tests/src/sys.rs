//! Namespaces and user of the calling thread.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

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
