//! What the layers below one that is being unpacked have.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{OFlags, ResolveFlags};
use rustix::io::Errno;

use super::entry::{Meta, is_kept};
use super::path::prefixes;
use crate::digest::ChainId;
use crate::error::Failure;
use crate::sys::{self, Kind};

/// The attribute that has overlayfs look no further down; see [`opaque`].
pub(crate) const OPAQUE_NAME: &str = "trusted.overlay.opaque";
pub(crate) const OPAQUE_VALUE: &[u8] = b"y";

/// The layers below, looked at one by one: an overlay of them would need a capability that who
/// unpacks need not have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Below<'a> {
    /// Directory of all layers.
    layers: BorrowedFd<'a>,
    /// The base first.
    stack: &'a [ChainId],
}

/// What one layer says about a path.
enum Answer {
    Directory(OwnedFd),
    /// The layers below it are not to be asked.
    No,
    /// The next one below it is.
    Unknown,
}

impl<'a> Below<'a> {
    pub(crate) fn new(layers: BorrowedFd<'a>, stack: &'a [ChainId]) -> Self {
        Self { layers, stack }
    }

    /// The attributes of the directory `path`; `None` if there is none.
    pub(super) fn directory(&self, path: &[u8]) -> Result<Option<Meta>, Failure> {
        for layer in self.stack.iter().rev() {
            let root = format!("{}/diff", layer.hex());
            let root = sys::open_dir_at(self.layers, &*root, sys::beneath())
                .map_err(Failure::read(format_args!("open layer {layer}")))?;
            match ask(root.as_fd(), path).map_err(Failure::read("look into the layers below"))? {
                Answer::Directory(dir) => return attributes(dir.as_fd()).map(Some),
                Answer::No => return Ok(None),
                Answer::Unknown => {}
            }
        }
        Ok(None)
    }
}

fn ask(root: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<Answer> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let mut covered = false;
    let mut dir = sys::open_dir_at(root, c".", resolve)?;
    for prefix in prefixes(path) {
        let place = match sys::open_path(root, prefix, resolve, OFlags::NOFOLLOW) {
            Ok(place) => place,
            Err(Errno::NOENT) if covered => return Ok(Answer::No),
            Err(Errno::NOENT) => return Ok(Answer::Unknown),
            Err(Errno::LOOP | Errno::NOTDIR) => return Ok(Answer::No),
            Err(errno) => return Err(errno),
        };
        if sys::stat(&place)?.kind != Kind::Directory {
            return Ok(Answer::No);
        }
        dir = sys::open_dir_at(&place, c".", resolve)?;
        covered |= is_opaque(dir.as_fd())?;
    }
    Ok(Answer::Directory(dir))
}

/// Whether overlayfs shows nothing of what lower layers have in a directory.
pub(crate) fn is_opaque(dir: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    let value = sys::xattr(dir, OsStr::new(OPAQUE_NAME))?;
    Ok(value.is_some_and(|value| value == OPAQUE_VALUE))
}

fn attributes(dir: BorrowedFd<'_>) -> Result<Meta, Failure> {
    let read = || -> rustix::io::Result<Meta> {
        let stat = sys::stat(dir)?;
        let mut xattrs = Vec::new();
        for name in sys::xattr_names(dir)?.into_iter().filter(|name| is_kept(name.as_bytes())) {
            let value = sys::xattr(dir, &name)?;
            xattrs.extend(value.map(|value| (name, value)));
        }
        Ok(Meta { uid: stat.uid, gid: stat.gid, mode: stat.mode, mtime: stat.mtime, xattrs })
    };
    read().map_err(Failure::read("look at the directory below"))
}
