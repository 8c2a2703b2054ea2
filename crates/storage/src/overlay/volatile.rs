//! Roots that nothing flushes, and whether they may be mounted again.
//!
//! overlayfs leaves a mark in the directory it works in, and mounts none where there is one; it does
//! not take it away when it is unmounted in good order. Within one boot nothing is lost by that: so
//! the boot is noted beside, and the mark of this boot is taken away before the next mount.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::{Error, Failure};
use crate::names::ContainerKey;
use crate::remove;
use crate::store::{Store, open_directory};
use crate::sys::{self, NewFd, perform, write_all_at};

/// Where overlayfs leaves its mark, in the directory it works in.
const MARKS: &str = "work/incompat";
const MARK: &str = "volatile";
/// Name of the note in the container's directory.
const NOTE: &str = "volatile-boot";

impl Store {
    /// Mounts no more than is sure to be on disk: flushes what a volatile root has, so that it mounts
    /// whatever happens from now on. It must not be mounted.
    ///
    /// # Errors
    ///
    /// [`Error::NoContainer`], [`Error::DataMayBeLost`] or [`Error::OpenContainer`].
    pub fn make_durable(&self, key: &ContainerKey) -> Result<(), Error> {
        let own = self.open_own(key)?;
        prepare(own.as_fd(), key)?;
        self.sync().and_then(|()| forget(own.as_fd())).map_err(fail(key))
    }

    /// Has a volatile root mount again after a power cut, with whatever is left of it.
    ///
    /// # Errors
    ///
    /// [`Error::NoContainer`] or [`Error::OpenContainer`].
    pub fn accept_loss(&self, key: &ContainerKey) -> Result<(), Error> {
        let own = self.open_own(key)?;
        unmark(own.as_fd()).and_then(|()| forget(own.as_fd())).map_err(fail(key))
    }

    fn open_own(&self, key: &ContainerKey) -> Result<OwnedFd, Error> {
        match open_directory(self.containers.as_fd(), key.as_str()) {
            Err(failure) if failure.is(Errno::NOENT) => {
                Err(Error::NoContainer { key: key.clone() })
            }
            other => other.map_err(fail(key)),
        }
    }
}

fn fail(key: &ContainerKey) -> impl Fn(Failure) -> Error {
    |source| Error::OpenContainer { key: key.clone(), source }
}

/// Takes the mark of this boot away; one of another is an error.
pub(super) fn prepare(own: BorrowedFd<'_>, key: &ContainerKey) -> Result<(), Error> {
    if marks(own).map_err(fail(key))?.is_none() {
        return Ok(());
    }
    if note(own).map_err(fail(key))? != Some(this_boot().map_err(fail(key))?) {
        return Err(Error::DataMayBeLost { key: key.clone() });
    }
    unmark(own).map_err(fail(key))
}

/// Notes, before a volatile mount, in which boot it is made.
pub(super) fn note_boot(own: BorrowedFd<'_>) -> Result<(), Failure> {
    let boot = this_boot()?;
    if note(own)?.as_ref() == Some(&boot) {
        return Ok(());
    }
    forget(own)?;
    let file = perform(&NewFd::File { dir: own, name: OsStr::new(NOTE) })?;
    write_all_at(file.as_fd(), &boot, 0)
}

/// The directory of the mark, if that is there.
fn marks(own: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Failure> {
    let marks = match open_directory(own, format!("work/{MARKS}")) {
        Err(failure) if failure.is(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    match sys::stat_at(&marks, OsStr::new(MARK)) {
        Ok(_) => Ok(Some(marks)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(Failure::read("look for the mark of a volatile mount")(errno)),
    }
}

fn unmark(own: BorrowedFd<'_>) -> Result<(), Failure> {
    match marks(own)? {
        Some(marks) => remove::tree(marks.as_fd(), OsStr::new(MARK)).map(drop),
        None => Ok(()),
    }
}

fn forget(own: BorrowedFd<'_>) -> Result<(), Failure> {
    remove::tree(own, OsStr::new(NOTE)).map(drop)
}

fn note(own: BorrowedFd<'_>) -> Result<Option<Vec<u8>>, Failure> {
    match sys::open_path(own, NOTE, sys::beneath(), OFlags::empty()) {
        Ok(place) => read(&place).map(Some),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(Failure::read("open the note of the boot")(errno)),
    }
}

fn this_boot() -> Result<Vec<u8>, Failure> {
    let id = "/proc/sys/kernel/random/boot_id";
    let place = sys::open_path(rustix::fs::CWD, id, sys::anywhere(), OFlags::empty());
    read(&place.map_err(Failure::read("tell this boot from others"))?)
}

fn read(place: &OwnedFd) -> Result<Vec<u8>, Failure> {
    let file = sys::reopen(place.as_fd()).map_err(Failure::read("open the id of a boot"))?;
    let bytes = sys::read_up_to(file, 64);
    let bytes = bytes.map_err(|error| Failure::new(&"read the id of a boot", error))?;
    Ok(bytes.unwrap_or_default())
}
