//! Room on the disk: what there is, what is needed, and some kept for bad days.

use std::ffi::OsStr;
use std::os::fd::AsFd as _;

use rustix::io::Errno;

use crate::error::{Error, Failure};
use crate::images::Blobs;
use crate::store::Store;
use crate::sys::{self, NewFd, Step, perform};

/// Name of the ballast in the store's directory.
const BALLAST: &str = "ballast";

/// Bytes of metadata and journal that are needed besides, whatever is stored.
const SLACK: u64 = 1 << 20;

/// Room on the filesystem of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Space {
    /// Bytes that root may still write.
    pub bytes: u64,
    /// Files that may still be made; `None` where the filesystem makes room as it goes.
    pub inodes: Option<u64>,
}

/// What storing something takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Estimate {
    /// Bytes it takes in any case, but for odd archives.
    pub at_least: u64,
    /// Bytes it is likely to take.
    pub likely: u64,
}

impl Estimate {
    /// Adds a layer whose archive has `size` bytes.
    pub fn add_layer(&mut self, size: u64, blobs: Blobs) {
        let kept = if blobs == Blobs::Keep { size } else { 0 };
        // Unpacked it is no smaller; programs and text are compressed to a third.
        self.at_least = self.at_least.saturating_add(size).saturating_add(kept);
        self.likely = self.likely.saturating_add(size.saturating_mul(3)).saturating_add(kept);
    }
}

impl Store {
    /// The room there is.
    ///
    /// # Errors
    ///
    /// [`Error::Space`].
    pub fn space(&self) -> Result<Space, Error> {
        let (bytes, inodes) = sys::room(&self.root)
            .map_err(Failure::read("ask the filesystem"))
            .map_err(|source| Error::Space { source })?;
        Ok(Space { bytes, inodes })
    }

    /// Refuses what certainly does not fit.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`] or [`Error::Space`].
    pub fn check_room(&self, estimate: &Estimate) -> Result<(), Error> {
        let available = self.space()?.bytes;
        // Nothing to be stored fits on a full disk, too.
        let needed = match estimate.at_least {
            0 => 0,
            bytes => bytes.saturating_add(SLACK),
        };
        if needed > available { Err(Error::NoRoom { needed, available }) } else { Ok(()) }
    }

    /// Takes `bytes` of the disk in advance, for [`release_ballast`](Self::release_ballast); there
    /// is one ballast.
    ///
    /// # Errors
    ///
    /// [`Error::Ballast`]; there is no new ballast then.
    pub fn keep_ballast(&self, bytes: u64) -> Result<(), Error> {
        let dir = self.root.as_fd();
        let make = || {
            let file = perform(&NewFd::NamelessFile { dir })?;
            perform(&Step::Allocate { file: file.as_fd(), len: bytes })?;
            match perform(&Step::Publish { file: file.as_fd(), dir, name: OsStr::new(BALLAST) }) {
                Err(failure) if failure.is(Errno::EXIST) => Ok(()),
                other => other,
            }
        };
        make().map_err(|source| Error::Ballast { source })
    }

    /// Gives the ballast back to the disk, so that what is stopped and removed can be written down
    /// on a full one; whether there was any.
    ///
    /// # Errors
    ///
    /// [`Error::Ballast`].
    pub fn release_ballast(&self) -> Result<bool, Error> {
        let unlink = Step::Unlink { dir: self.root.as_fd(), name: OsStr::new(BALLAST) };
        match perform(&unlink) {
            Ok(()) => Ok(true),
            Err(failure) if failure.is(Errno::NOENT) => Ok(false),
            Err(source) => Err(Error::Ballast { source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_as_it_came_counts_twice() {
        let mut estimate = Estimate::default();
        estimate.add_layer(100, Blobs::Drop);
        assert_eq!(estimate, Estimate { at_least: 100, likely: 300 });
        estimate.add_layer(10, Blobs::Keep);
        assert_eq!(estimate, Estimate { at_least: 120, likely: 340 });
        estimate.add_layer(u64::MAX, Blobs::Keep);
        assert_eq!(estimate.at_least, u64::MAX);
    }

    #[test]
    fn ballast_is_there_once_and_goes_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        assert!(!store.release_ballast().unwrap());
        store.keep_ballast(1 << 20).unwrap();
        store.keep_ballast(1 << 20).unwrap();
        let kept = std::fs::metadata(dir.path().join("store/ballast")).unwrap();
        assert!(std::os::unix::fs::MetadataExt::blocks(&kept) * 512 >= 1 << 20);
        assert!(store.release_ballast().unwrap());
        assert!(!dir.path().join("store/ballast").exists());
    }

    #[test]
    fn what_cannot_fit_is_refused_with_both_figures() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        store.check_room(&Estimate::default()).unwrap();
        let far_too_much = Estimate { at_least: u64::MAX, likely: u64::MAX };
        let error = store.check_room(&far_too_much).unwrap_err();
        let Error::NoRoom { needed: u64::MAX, available } = error else { panic!("{error:?}") };
        assert!(available > 0);
    }
}
