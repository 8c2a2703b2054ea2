//! Owner, mode, times and extended attributes of what was made.

use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::io::Errno;

use super::super::entry::Meta;
use super::super::path::EntryPath;
use crate::error::Failure;
use crate::sys::{self, Step, Target, perform};

/// Gives an open file or directory its attributes; returns how many extended attributes the
/// filesystem does not take.
pub(in super::super) fn set_attributes(file: BorrowedFd<'_>, meta: &Meta) -> Result<u64, Failure> {
    let target = Target::Open(file);
    // A change of owner clears capabilities and set-user-id, so it goes first.
    perform(&Step::Own { target, uid: meta.uid, gid: meta.gid })?;
    let mut dropped = 0;
    for (name, value) in &meta.xattrs {
        match perform(&Step::Xattr { file, name, value }) {
            Ok(()) => {}
            Err(failure) if is_not_taken(&failure, value) => dropped += 1,
            Err(failure) => return Err(failure),
        }
    }
    perform(&Step::Mode { target, mode: meta.mode })?;
    perform(&Step::Times { target, times: &meta.times() })?;
    Ok(dropped)
}

pub(super) fn finish_directory(
    root: BorrowedFd<'_>,
    path: &EntryPath,
    meta: &Meta,
) -> Result<u64, Failure> {
    let name = if path.as_bytes().is_empty() { b"." } else { path.as_bytes() };
    match sys::open_dir_at(root, name, sys::in_root()) {
        Ok(dir) => set_attributes(dir.as_fd(), meta),
        // A later entry has put something else there.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(0),
        Err(errno) => Err(Failure::read("open the directory")(errno)),
    }
}

/// Whether the filesystem does not take an extended attribute: none of that kind, none of that size,
/// or not that value, which is the archive's.
fn is_not_taken(failure: &Failure, value: &[u8]) -> bool {
    let never = [Errno::OPNOTSUPP, Errno::INVAL, Errno::RANGE, Errno::TOOBIG];
    // ext4 says of a value larger than a block what it says when the disk is full.
    let too_large = value.len() > 2048 && failure.is(Errno::NOSPC);
    too_large || never.into_iter().any(|errno| failure.is(errno))
}
