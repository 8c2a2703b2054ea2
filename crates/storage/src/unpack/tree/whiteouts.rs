//! What hides and removes: in a layer for overlayfs, in a live tree at once.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::io::Errno;

use super::super::below::{Below, OPAQUE_NAME, OPAQUE_VALUE};
use super::super::path::EntryPath;
use super::{Tree, Trouble};
use crate::error::{Failure, Refusal};
use crate::remove;
use crate::sys::{self, Kind, Step, perform};

impl Tree<'_> {
    /// Hides what the layers `below` have at `path`, but nothing of this layer's own.
    pub(in super::super) fn hide(
        &mut self,
        path: &EntryPath,
        below: &Below<'_>,
    ) -> Result<(), Trouble> {
        let (parent, name) = path.split().ok_or(Refusal::Root)?;
        // Nothing is hidden where nothing is, and no directory is made for that.
        if below.directory(parent)?.is_none() {
            return Ok(());
        }
        let dir = self.parent(parent)?;
        match sys::stat_at(&dir, name).map(|stat| stat.kind) {
            Err(Errno::NOENT) => perform(&Step::Whiteout { dir: dir.as_fd(), name })?,
            Ok(Kind::Directory) => make_opaque(dir.as_fd(), name)?,
            // It hides what is below by being there.
            Ok(_) => {}
            Err(errno) => return Err(Failure::read("look for it")(errno).into()),
        }
        self.last = Some((parent.to_vec(), dir));
        Ok(())
    }

    /// Hides what lower layers have in the directory `path`.
    pub(in super::super) fn hide_content(&mut self, path: &EntryPath) -> Result<(), Trouble> {
        let dir = self.parent(path.as_bytes())?;
        let file = sys::open_dir_at(&dir, c".", sys::beneath())
            .map_err(Failure::read("open the directory"))?;
        Ok(set_opaque(file.as_fd())?)
    }

    /// Removes what is at `path`, but nothing of what this archive made.
    pub(in super::super) fn delete(&mut self, path: &EntryPath) -> Result<(), Trouble> {
        if self.made.contains(path) {
            return self.delete_content(path);
        }
        let (parent, name) = path.split().ok_or(Refusal::Root)?;
        match self.resolve(parent) {
            Ok(dir) => remove::tree(dir.as_fd(), name).map(drop)?,
            Err(failure) if failure.is(Errno::NOENT) || failure.is(Errno::NOTDIR) => {}
            Err(failure) => return Err(failure.into()),
        }
        self.last = None;
        Ok(())
    }

    /// Removes what is in the directory `path`, but nothing of what this archive made.
    pub(in super::super) fn delete_content(&mut self, path: &EntryPath) -> Result<(), Trouble> {
        let Ok(dir) = self.resolve(path.as_bytes()) else { return Ok(()) };
        let names = sys::open_dir_at(&dir, c".", sys::beneath()).and_then(sys::list);
        for name in names.map_err(Failure::read("list the directory"))? {
            self.delete(&path.join(&name))?;
        }
        Ok(())
    }
}

/// Has overlayfs show nothing of what is below the directory `name`.
pub(super) fn make_opaque(dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Failure> {
    let dir =
        sys::open_dir_at(dir, name, sys::beneath()).map_err(Failure::read("open the directory"))?;
    set_opaque(dir.as_fd())
}

fn set_opaque(file: BorrowedFd<'_>) -> Result<(), Failure> {
    let name = OsString::from(OPAQUE_NAME);
    perform(&Step::Xattr { file, name: &name, value: OPAQUE_VALUE })
}
