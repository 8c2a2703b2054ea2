//! Volumes: directories that outlive containers.

mod content;
mod limit;

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;

pub use content::Filled;
pub use limit::SizeLimit;
pub(crate) use limit::give_back;

use crate::error::{Error, Failure};
use crate::labels;
use crate::names::{FileLabel, VolumeName};
use crate::remove::{self, Removed};
use crate::store::{Published, Scratch, Store, open_directory};
use crate::sys::{self, NewFd, Step, Target, perform};

/// Where the content is, in the volume's directory.
pub(crate) const DATA: &str = "_data";
/// What the names of volumes say that are not there yet, or no more.
pub(crate) const VOLUME: &str = "volume";
/// A file that is there until the volume is used.
const FRESH: &str = "fresh";

/// What a volume is like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct VolumeOptions {
    owner: (u32, u32),
    mode: Option<u32>,
    limit: Option<SizeLimit>,
    label: Option<FileLabel>,
}

impl VolumeOptions {
    /// Of root, mode 0755, as large as the disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets owner and group of its directory. Unless both are 0, what fills it has no others for that.
    pub fn with_owner(mut self, uid: u32, gid: u32) -> Self {
        self.owner = (uid, gid);
        self
    }

    /// Sets the mode.
    pub fn with_mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode & 0o7777);
        self
    }

    /// Sets the label of its directory, which what is made in it takes over; for hosts with `SELinux`.
    pub fn with_label(mut self, label: FileLabel) -> Self {
        self.label = Some(label);
        self
    }

    /// Limits what it may hold, where the filesystem has project quota: ext4 and XFS, if they are mounted with
    /// `prjquota`.
    pub fn with_limit(mut self, limit: SizeLimit) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// A volume, open.
#[derive(Debug)]
pub struct Volume<'s> {
    store: &'s Store,
    name: VolumeName,
    /// Its own directory, that of the content in it.
    dir: OwnedFd,
    data: OwnedFd,
}

impl Store {
    /// Creates a volume, durably.
    ///
    /// # Errors
    ///
    /// [`Error::VolumeExists`], [`Error::Unsupported`] for a limit, or [`Error::CreateVolume`]; there
    /// is no new volume then.
    pub fn create_volume(
        &self,
        name: &VolumeName,
        options: &VolumeOptions,
    ) -> Result<Volume<'_>, Error> {
        let fail = |source| Error::CreateVolume { name: name.clone(), source };
        let scratch = self.scratch(VOLUME).map_err(fail)?;
        if let Err(error) = self.make_volume(&scratch, options, fail) {
            return Err(scratch.discard(error));
        }
        match scratch.publish(self.volumes.as_fd(), OsStr::new(name.as_str()), fail)? {
            Published::Now => self.open_volume(name),
            Published::AlreadyThere => Err(Error::VolumeExists { name: name.clone() }),
        }
    }

    /// Opens a volume.
    ///
    /// # Errors
    ///
    /// [`Error::NoVolume`] or [`Error::OpenVolume`].
    pub fn open_volume(&self, name: &VolumeName) -> Result<Volume<'_>, Error> {
        let open = || {
            let dir = open_directory(self.volumes.as_fd(), name.as_str())?;
            let data = open_directory(dir.as_fd(), DATA)?;
            Ok::<_, Failure>((dir, data))
        };
        let name = name.clone();
        match open() {
            Ok((dir, data)) => Ok(Volume { store: self, name, dir, data }),
            Err(failure) if failure.is(Errno::NOENT) => Err(Error::NoVolume { name }),
            Err(source) => Err(Error::OpenVolume { name, source }),
        }
    }

    /// The volumes there are, in no order.
    ///
    /// # Errors
    ///
    /// [`Error::List`].
    pub fn volumes(&self) -> Result<Vec<VolumeName>, Error> {
        let names = sys::list(&self.volumes)
            .map_err(Failure::read("read the directory"))
            .map_err(|source| Error::List { what: "volumes", source })?;
        let parse = |name: OsString| {
            let volume = name.to_str().and_then(|name| name.parse().ok());
            if volume.is_none() {
                tracing::warn!(?name, "not a volume");
            }
            volume
        };
        Ok(names.into_iter().filter_map(parse).collect())
    }

    /// Removes a volume with all that is in it; nobody may use it.
    ///
    /// # Errors
    ///
    /// [`Error::RemoveVolume`]; if it is no longer listed, to remove it again removes the rest, or the
    /// next opening of the store.
    pub fn remove_volume(&self, name: &VolumeName) -> Result<Removed, Error> {
        let remove = || {
            let volumes = self.volumes.as_fd();
            let Some(doomed) = self.move_out(VOLUME, volumes, OsStr::new(name.as_str()))? else {
                return Ok(Removed::WasAbsent);
            };
            // A power cut must not bring it back with only part of its files.
            perform(&Step::Sync { file: volumes })?;
            doomed.remove()
        };
        remove().map_err(|source| Error::RemoveVolume { name: name.clone(), source })
    }

    fn make_volume(
        &self,
        scratch: &Scratch<'_>,
        options: &VolumeOptions,
        fail: impl Fn(Failure) -> Error,
    ) -> Result<(), Error> {
        let data = make_directories(scratch.dir(), options).map_err(&fail)?;
        if let Some(limit) = options.limit {
            self.limit(scratch.dir(), data.as_fd(), limit)
                .map_err(|source| limit::error(source, &fail))?;
        }
        perform(&Step::Sync { file: data.as_fd() })
            .and_then(|()| perform(&Step::Sync { file: scratch.dir() }))
            .map_err(fail)
    }
}

/// The directory of the content of a new volume.
fn make_directories(dir: BorrowedFd<'_>, options: &VolumeOptions) -> Result<OwnedFd, Failure> {
    perform(&NewFd::File { dir, name: OsStr::new(FRESH) })?;
    perform(&Step::MakeDir { dir, name: OsStr::new(DATA) })?;
    let data = open_directory(dir, DATA)?;
    let target = Target::Open(data.as_fd());
    let (uid, gid) = options.owner;
    perform(&Step::Own { target, uid, gid })?;
    perform(&Step::Mode { target, mode: options.mode.unwrap_or(0o755) })?;
    if let Some(label) = &options.label {
        labels::set(data.as_fd(), label)?;
    }
    Ok(data)
}

impl Volume<'_> {
    /// Its name.
    pub fn name(&self) -> &VolumeName {
        &self.name
    }

    /// Marks it as used: from now on it is not filled from an image. Whether it was fresh.
    ///
    /// # Errors
    ///
    /// [`Error::OpenVolume`].
    pub fn begin_use(&self) -> Result<bool, Error> {
        match remove::tree(self.dir.as_fd(), OsStr::new(FRESH)).map_err(|e| self.error(e))? {
            Removed::Tree { .. } => Ok(true),
            Removed::WasAbsent => Ok(false),
        }
    }

    fn error(&self, source: Failure) -> Error {
        Error::OpenVolume { name: self.name.clone(), source }
    }
}
