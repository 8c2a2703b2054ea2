//! What is in a volume.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use super::limit;
use super::{DATA, FRESH, Volume};
use crate::error::{Error, Failure};
use crate::labels;
use crate::pack::TarStream;
use crate::remove;
use crate::rootfs::{Rootfs, Transferred};
use crate::store::{Scratch, open_directory};
use crate::sys::{self, SetProject, Stat, Step, Target, perform};
use crate::unpack::{Form, Limits, Watch, unpack};
use crate::usage;

/// Whether a volume was filled from an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// It has now what the image has there, owner and mode of the directory included.
    Copied(Transferred),
    /// It was used before, or has something in it: it is left as it is.
    NotFresh,
    /// The image has no directory there.
    NothingThere,
}

impl AsFd for Volume<'_> {
    /// The directory of its content.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.data.as_fd()
    }
}

impl Volume<'_> {
    /// Its content as a root of its own, out of which no link leads.
    ///
    /// # Errors
    ///
    /// [`Error::OpenVolume`].
    pub fn root(&self) -> Result<Rootfs, Error> {
        let root = self.data.try_clone();
        let root = root.map_err(|error| self.error(Failure::new(&"keep it open", error)))?;
        Ok(Rootfs::from_fd(root))
    }

    /// Fills it with what `image` has at `path`, if it is fresh and empty; all of it or nothing.
    ///
    /// It must not be mounted yet. Afterwards it is no longer fresh, whether filled or not; this
    /// value is no longer of use, for the volume's directory is another one.
    ///
    /// # Errors
    ///
    /// [`Error::ReadFile`], [`Error::Pack`] for the image; [`Error::Limit`], [`Error::Cancelled`],
    /// [`Error::Unpack`], [`Error::OpenVolume`].
    pub fn fill(
        self,
        image: &Rootfs,
        path: &str,
        limits: &Limits,
        watch: &dyn Watch,
    ) -> Result<Filled, Error> {
        if !self.is_fresh()? || !self.is_empty()? {
            self.begin_use()?;
            return Ok(Filled::NotFresh);
        }
        let Some(source) = image.subdirectory_if_any(path)? else {
            self.begin_use()?;
            return Ok(Filled::NothingThere);
        };
        let scratch = self.store.scratch("fill").map_err(|source| self.error(source))?;
        match self.copy(&scratch, &source, limits, watch) {
            Ok(transferred) => self.put_in_place(scratch, transferred),
            Err(error) => Err(scratch.discard(error)),
        }
    }

    fn copy(
        &self,
        scratch: &Scratch<'_>,
        source: &Rootfs,
        limits: &Limits,
        watch: &dyn Watch,
    ) -> Result<Transferred, Error> {
        let fail = |source| self.error(source);
        if let Some(project) = limit::project(self.dir.as_fd()) {
            perform(&SetProject { dir: scratch.dir(), project }).map_err(fail)?;
        }
        // What is made in it takes it over.
        if let Some(label) = labels::of(self.data.as_fd()).map_err(fail)? {
            labels::set(scratch.dir(), &label).map_err(fail)?;
        }
        let unpacked = unpack(scratch.dir(), Form::Whole, &mut source.export()?, limits, watch)?;
        let Stat { uid, gid, .. } =
            sys::stat(self.data.as_fd()).map_err(Failure::read("look at it")).map_err(fail)?;
        if (uid, gid) != (0, 0) {
            let target = Target::Open(scratch.dir());
            perform(&Step::Own { target, uid, gid }).map_err(fail)?;
        }
        self.store.sync().map_err(fail)?;
        Ok(unpacked.into())
    }

    fn put_in_place(
        &self,
        scratch: Scratch<'_>,
        transferred: Transferred,
    ) -> Result<Filled, Error> {
        let fail = |source| self.error(source);
        // The kernel puts a directory in the place of another only if that is empty.
        match scratch.replace(self.dir.as_fd(), DATA.as_ref(), fail)? {
            None => {
                self.begin_use()?;
                Ok(Filled::Copied(transferred))
            }
            Some(scratch) => {
                let discarded = Error::Cancelled;
                match scratch.discard(discarded) {
                    Error::Cancelled => {}
                    leftovers => return Err(leftovers),
                }
                self.begin_use()?;
                Ok(Filled::NotFresh)
            }
        }
    }

    /// Its content as a tar archive.
    ///
    /// # Errors
    ///
    /// [`Error::OpenVolume`] or [`Error::Pack`].
    pub fn export(&self) -> Result<TarStream, Error> {
        self.root()?.export()
    }

    /// Unpacks an archive into it, like [`Rootfs::copy_in`], but owner and mode of its own directory
    /// come from the archive. It is no longer fresh then.
    ///
    /// # Errors
    ///
    /// [`Error::OpenVolume`], and what [`Rootfs::copy_in`] fails with.
    pub fn import(
        &self,
        mut archive: impl Read,
        limits: &Limits,
        watch: &dyn Watch,
    ) -> Result<Transferred, Error> {
        self.begin_use()?;
        let unpacked = unpack(self.data.as_fd(), Form::Whole, &mut archive, limits, watch)?;
        // Who is told that it is there keeps no other copy, maybe.
        self.store.sync().map_err(|source| self.error(source))?;
        Ok(unpacked.into())
    }

    /// Removes all that is in it.
    ///
    /// # Errors
    ///
    /// [`Error::OpenVolume`]; what was removed until then stays removed.
    pub fn clear(&self) -> Result<(), Error> {
        let names = sys::list(&self.data).map_err(Failure::read("list it"));
        names
            .and_then(|names| {
                names.iter().try_for_each(|name| remove::tree(self.data.as_fd(), name).map(drop))
            })
            .map_err(|source| self.error(source))
    }

    /// Bytes it takes on the disk; goes through all of it, unless the filesystem counts them.
    ///
    /// # Errors
    ///
    /// [`Error::OpenVolume`].
    pub fn usage(&self) -> Result<u64, Error> {
        let counted = limit::project(self.dir.as_fd())
            .and_then(|project| sys::project_facts(self.data.as_fd(), project).ok());
        if let Some(counted) = counted {
            return Ok(counted.bytes);
        }
        usage::of_tree(self.data.as_fd()).map_err(|source| self.error(source))
    }

    fn is_fresh(&self) -> Result<bool, Error> {
        match sys::stat_at(&self.dir, FRESH.as_ref()) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.error(Failure::read("look whether it was used")(errno))),
        }
    }

    fn is_empty(&self) -> Result<bool, Error> {
        let names = open_directory(self.dir.as_fd(), DATA)
            .and_then(|data| sys::list(data).map_err(Failure::read("list it")));
        Ok(names.map_err(|source| self.error(source))?.is_empty())
    }
}
