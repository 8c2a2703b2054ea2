//! Files in and out of a root, as tar archives.

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use super::Rootfs;
use crate::error::{Error, Failure};
use crate::pack::{self, TarStream};
use crate::sys::{self, Kind};
use crate::unpack::{self, Limits, Unpacked, Watch, unpack};
use crate::walk::Found;

/// What was unpacked into a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transferred {
    /// Bytes of file content, holes counted.
    pub size: u64,
    /// Files, links and directories.
    pub entries: u64,
    /// Device nodes, and links to them, that were not made.
    pub skipped_devices: u64,
    /// Extended attributes that were not kept.
    pub dropped_xattrs: u64,
}

impl From<Unpacked> for Transferred {
    fn from(Unpacked { totals, .. }: Unpacked) -> Self {
        Self {
            size: totals.size,
            entries: totals.entries,
            skipped_devices: totals.skipped_devices,
            dropped_xattrs: totals.dropped_xattrs,
        }
    }
}

impl Rootfs {
    /// All of the root as a tar archive.
    ///
    /// # Errors
    ///
    /// [`Error::Pack`].
    pub fn export(&self) -> Result<TarStream, Error> {
        TarStream::new(self.fd.as_fd(), pack::Form::Files)
            .map_err(|source| Error::Pack { path: PathBuf::new(), source })
    }

    /// What is at `path`, and below it, as a tar archive in which it has the last part of its name;
    /// `None` if nothing is there. A link at `path` itself is followed inside the root.
    ///
    /// # Errors
    ///
    /// [`Error::ReadFile`] or [`Error::Pack`].
    pub fn copy_out(&self, path: &str) -> Result<Option<TarStream>, Error> {
        let Some((place, stat)) = self.look(path)? else { return Ok(None) };
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let name = OsStr::new(if matches!(name, "." | "..") { "" } else { name });
        if stat.kind == Kind::Directory {
            let stream = TarStream::new(place.as_fd(), pack::Form::Files);
            let stream = stream.map_err(|source| Error::Pack { path: path.into(), source })?;
            return Ok(Some(stream.named(name)));
        }
        let found = Found { path: Vec::new(), place, stat };
        TarStream::of_file(self.fd.as_fd(), found, name).map(Some)
    }

    /// Unpacks an archive into the directory `path`, which must be there.
    ///
    /// Names in it mean nothing but themselves. Links in it, and links that are there, lead nowhere
    /// out of that directory. Files are replaced; a directory is not, nor does it replace anything.
    ///
    /// # Errors
    ///
    /// [`Error::ReadFile`] for the directory, else what [`Store::import_layer`] fails with; what was
    /// unpacked until then stays.
    ///
    /// [`Store::import_layer`]: crate::Store::import_layer
    pub fn copy_in(
        &self,
        path: &str,
        archive: impl Read,
        limits: &Limits,
        watch: &dyn Watch,
    ) -> Result<Transferred, Error> {
        self.unpack_at(path, unpack::Form::Files, archive, limits, watch)
    }

    /// Applies the changes of a layer's archive to the root: what it has is put there, what it hides
    /// is removed.
    ///
    /// # Errors
    ///
    /// What [`Store::import_layer`] fails with; what was applied until then stays.
    ///
    /// [`Store::import_layer`]: crate::Store::import_layer
    pub fn apply(
        &self,
        archive: impl Read,
        limits: &Limits,
        watch: &dyn Watch,
    ) -> Result<Transferred, Error> {
        self.unpack_at("/", unpack::Form::Changes, archive, limits, watch)
    }

    fn unpack_at(
        &self,
        path: &str,
        form: unpack::Form<'_>,
        mut archive: impl Read,
        limits: &Limits,
        watch: &dyn Watch,
    ) -> Result<Transferred, Error> {
        let missing = || Failure::read("find it")(rustix::io::Errno::NOENT);
        let dir = self.subdirectory(path)?;
        let dir = dir.ok_or_else(|| Error::ReadFile { path: path.into(), source: missing() })?;
        let dir = sys::open_dir_at(&dir.fd, c".", sys::beneath()).map_err(|errno| {
            Error::ReadFile { path: path.into(), source: Failure::read("open it")(errno) }
        })?;
        unpack(dir.as_fd(), form, &mut archive, limits, watch).map(Transferred::from)
    }
}
