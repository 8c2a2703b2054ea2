//! A root being filled, by directory descriptors only.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::entry::Meta;
use super::path::{EntryPath, prefixes};
use crate::error::{Error, Failure, Limit, Refusal};
use crate::remove;
use crate::sys::{self, Kind, NewFd, Step, Target, perform};

/// Bytes of names remembered to the end of an import: directories get their times last, since
/// filling them changes those. Real images have some 10 MB of them; a hostile one could have
/// gigabytes.
const MAX_NAME_BYTES: u64 = 64 << 20;

/// Mode of a directory that entries are in but that has no entry of its own.
const IMPLIED_MODE: u32 = 0o755;

/// Why an entry could not be unpacked.
pub(super) enum Trouble {
    Refused(Refusal),
    Failed(Failure),
    /// The archive itself, or a limit.
    Archive(Error),
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Archive(error)
    }
}

/// The root being filled.
///
/// A path is resolved the way a process inside the root would see it (`RESOLVE_IN_ROOT`), so that
/// `lib/x` goes to `usr/lib/x` where `lib` is a link, and no link leads out. The last part is
/// never followed: a later entry of the same name replaces the earlier one, whatever that was, but
/// a directory by a directory is the same directory.
pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
    /// The directory last resolved; entries come sorted by directory, mostly.
    last: Option<(Vec<u8>, OwnedFd)>,
    directories: Vec<(EntryPath, Meta)>,
    skipped: HashSet<EntryPath>,
    name_bytes: u64,
    /// Directories made that have no entry of their own.
    implied: u64,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: BorrowedFd<'a>) -> Self {
        Self {
            root,
            last: None,
            directories: Vec::new(),
            skipped: HashSet::new(),
            name_bytes: 0,
            implied: 0,
        }
    }

    pub(super) fn implied(&self) -> u64 {
        self.implied
    }

    /// Makes a directory, or keeps the one there is; its attributes follow at the end.
    pub(super) fn directory(&mut self, path: EntryPath, meta: Meta) -> Result<(), Trouble> {
        self.remember(&path)?;
        if path.split().is_some() {
            self.place(&path, |dir, name| match perform(&Step::MakeDir { dir, name }) {
                Err(failure) if failure.is(Errno::EXIST) && is_directory(dir, name) => Ok(()),
                other => other,
            })?;
        }
        self.directories.push((path, meta));
        Ok(())
    }

    /// Makes an empty file.
    pub(super) fn file(&mut self, path: &EntryPath) -> Result<OwnedFd, Trouble> {
        self.place(path, |dir, name| perform(&NewFd::File { dir, name }))
    }

    pub(super) fn symlink(
        &mut self,
        path: &EntryPath,
        target: &OsStr,
        meta: &Meta,
    ) -> Result<(), Trouble> {
        self.place(path, |dir, name| {
            perform(&Step::Symlink { target, dir, name })?;
            let link = Target::Named { dir, name };
            perform(&Step::Own { target: link, uid: meta.uid, gid: meta.gid })?;
            perform(&Step::Times { target: link, times: &meta.times() })
        })
    }

    pub(super) fn fifo(&mut self, path: &EntryPath, meta: &Meta) -> Result<(), Trouble> {
        self.place(path, |dir, name| {
            perform(&Step::Fifo { dir, name })?;
            let target = Target::Named { dir, name };
            perform(&Step::Own { target, uid: meta.uid, gid: meta.gid })?;
            perform(&Step::Mode { target, mode: meta.mode })?;
            perform(&Step::Times { target, times: &meta.times() })
        })
    }

    /// Makes another name of what is at `target`; a link there is linked, not followed.
    pub(super) fn hard_link(
        &mut self,
        path: &EntryPath,
        target: &EntryPath,
    ) -> Result<(), Trouble> {
        let (parent, name) = target.split().ok_or(Refusal::LinkTarget)?;
        let from = self.resolve(parent).map_err(|_| Refusal::LinkTarget)?;
        // Looked at before what is at `path` is removed: a link to itself has no target then.
        let there = sys::stat_at(&from, name).map(|stat| stat.kind);
        if path == target || matches!(there, Err(_) | Ok(Kind::Directory)) {
            return Err(Refusal::LinkTarget.into());
        }
        self.place(path, |to, new_name| {
            perform(&Step::HardLink { from: from.as_fd(), name, to, new_name })
        })
    }

    /// Notes a device that is not made, so that links to it are not made either.
    pub(super) fn skip(&mut self, path: EntryPath) -> Result<(), Trouble> {
        self.remember(&path)?;
        self.skipped.insert(path);
        Ok(())
    }

    pub(super) fn was_skipped(&self, path: &EntryPath) -> bool {
        self.skipped.contains(path)
    }

    /// Gives every directory its attributes, in the order of the archive.
    ///
    /// Returns how many extended attributes the filesystem does not take.
    pub(super) fn finish(self) -> Result<u64, (EntryPath, Failure)> {
        let mut dropped = 0;
        for (path, meta) in self.directories {
            match finish_directory(self.root, &path, &meta) {
                Ok(more) => dropped += more,
                Err(failure) => return Err((path, failure)),
            }
        }
        Ok(dropped)
    }

    /// Makes something new at `path`, in place of what is there.
    fn place<T>(
        &mut self,
        path: &EntryPath,
        make: impl Fn(BorrowedFd<'_>, &OsStr) -> Result<T, Failure>,
    ) -> Result<T, Trouble> {
        let (parent, name) = path.split().ok_or(Refusal::Root)?;
        let dir = self.parent(parent)?;
        match make(dir.as_fd(), name) {
            Err(failure) if failure.is(Errno::EXIST) => {
                // What goes may be what `parent` leads through: it has to be resolved again.
                remove::tree(dir.as_fd(), name)?;
                Ok(make(dir.as_fd(), name)?)
            }
            result => {
                self.last = Some((parent.to_vec(), dir));
                Ok(result?)
            }
        }
    }

    /// The directory `path`, made if it is not there.
    fn parent(&mut self, path: &[u8]) -> Result<OwnedFd, Trouble> {
        match self.last.take() {
            Some((last, dir)) if last == path => Ok(dir),
            _ => match self.resolve(path) {
                Err(failure) if failure.is(Errno::NOENT) => self.imply(path),
                other => directory_or_refusal(other),
            },
        }
    }

    fn resolve(&self, path: &[u8]) -> Result<OwnedFd, Failure> {
        let path = if path.is_empty() { b"." } else { path };
        sys::open_path(self.root, path, sys::in_root(), OFlags::DIRECTORY)
            .map_err(Failure::read("open the directory above"))
    }

    /// Makes those directories of `path` that are missing.
    fn imply(&mut self, path: &[u8]) -> Result<OwnedFd, Trouble> {
        let mut dir = self.resolve(b"")?;
        for prefix in prefixes(path) {
            dir = match self.resolve(prefix) {
                Err(failure) if failure.is(Errno::NOENT) => {
                    let name = prefix.rsplit(|&byte| byte == b'/').next().unwrap_or(prefix);
                    self.imply_one(dir.as_fd(), bytes_as_os_str(name))?
                }
                other => directory_or_refusal(other)?,
            };
        }
        Ok(dir)
    }

    fn imply_one(&mut self, dir: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Trouble> {
        match perform(&Step::MakeDir { dir, name }) {
            Ok(()) => {}
            // It is there, and yet leads nowhere: a link.
            Err(failure) if failure.is(Errno::EXIST) => return Err(Refusal::Parent.into()),
            Err(failure) => return Err(failure.into()),
        }
        self.implied += 1;
        let made = sys::open_dir_at(dir, name, sys::beneath())
            .map_err(Failure::read("open the directory above"))?;
        perform(&Step::Mode { target: Target::Open(made.as_fd()), mode: IMPLIED_MODE })?;
        Ok(made)
    }

    fn remember(&mut self, path: &EntryPath) -> Result<(), Error> {
        self.name_bytes += path.as_bytes().len() as u64;
        if self.name_bytes > MAX_NAME_BYTES {
            return Err(Error::Limit { limit: Limit::NameBytes, allowed: MAX_NAME_BYTES });
        }
        Ok(())
    }
}

/// Gives an open file or directory its attributes; returns how many extended attributes the
/// filesystem does not take.
pub(super) fn set_attributes(file: BorrowedFd<'_>, meta: &Meta) -> Result<u64, Failure> {
    let target = Target::Open(file);
    // A change of owner clears capabilities and set-user-id, so it goes first.
    perform(&Step::Own { target, uid: meta.uid, gid: meta.gid })?;
    let mut dropped = 0;
    for (name, value) in &meta.xattrs {
        match perform(&Step::Xattr { file, name, value }) {
            Ok(()) => {}
            Err(failure) if failure.is(Errno::OPNOTSUPP) => dropped += 1,
            Err(failure) => return Err(failure),
        }
    }
    perform(&Step::Mode { target, mode: meta.mode })?;
    perform(&Step::Times { target, times: &meta.times() })?;
    Ok(dropped)
}

fn finish_directory(root: BorrowedFd<'_>, path: &EntryPath, meta: &Meta) -> Result<u64, Failure> {
    let name = if path.as_bytes().is_empty() { b"." } else { path.as_bytes() };
    match sys::open_dir_at(root, name, sys::in_root()) {
        Ok(dir) => set_attributes(dir.as_fd(), meta),
        // A later entry has put something else there.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(0),
        Err(errno) => Err(Failure::read("open the directory")(errno)),
    }
}

fn directory_or_refusal(resolved: Result<OwnedFd, Failure>) -> Result<OwnedFd, Trouble> {
    match resolved {
        Err(failure) if failure.is(Errno::NOTDIR) || failure.is(Errno::LOOP) => {
            Err(Refusal::Parent.into())
        }
        other => other.map_err(Trouble::from),
    }
}

fn is_directory(dir: BorrowedFd<'_>, name: &OsStr) -> bool {
    sys::stat_at(dir, name).is_ok_and(|stat| stat.kind == Kind::Directory)
}

fn bytes_as_os_str(bytes: &[u8]) -> &OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}
