//! A root being filled, by directory descriptors only.

mod attributes;
mod whiteouts;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::below::Below;
use super::entry::{DeviceNode, Meta};
use super::path::{EntryPath, prefixes};
use crate::error::{Error, Failure, Limit, Refusal};
use crate::remove;
use crate::sys::{self, Kind, NewFd, Step, Target, perform};

/// Bytes of names and attributes remembered to the end of an import: directories get their times last,
/// since filling them changes those. Real images have some 10 MB of them; a hostile one could have
/// gigabytes.
const MAX_NAME_BYTES: u64 = 64 << 20;

/// Mode of a directory that entries are in but that has no entry of its own.
const IMPLIED_MODE: u32 = 0o755;

use attributes::finish_directory;
pub(super) use attributes::set_attributes;

/// What becomes of something that is where an entry goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replace {
    /// It makes room, whatever it is, but a directory for a directory.
    Anything,
    /// It makes room unless it or the entry is a directory; a link to a directory stands for one.
    Files,
}

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
    replace: Replace,
    /// Where the attributes of implied directories come from, if there is something below.
    below: Option<Below<'a>>,
    /// What was made until now, if that has to be known.
    made: HashSet<EntryPath>,
    remembers: bool,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, replace: Replace) -> Self {
        Self {
            root,
            replace,
            below: None,
            made: HashSet::new(),
            remembers: false,
            last: None,
            directories: Vec::new(),
            skipped: HashSet::new(),
            name_bytes: 0,
            implied: 0,
        }
    }

    /// Gives the root, and every directory without an entry of its own, the attributes it has
    /// `below`.
    pub(super) fn over(mut self, below: Below<'a>) -> Result<Self, Failure> {
        let root = below.directory(b"")?;
        self.directories.extend(root.map(|meta| (EntryPath::default(), meta)));
        self.below = Some(below);
        Ok(self)
    }

    /// Has whiteouts spare what was made.
    pub(super) fn remembering(mut self) -> Self {
        self.remembers = true;
        self
    }

    pub(super) fn implied(&self) -> u64 {
        self.implied
    }

    /// Makes a directory, or keeps the one there is; its attributes follow at the end.
    pub(super) fn directory(&mut self, path: EntryPath, meta: Meta) -> Result<(), Trouble> {
        self.remember(&path)?;
        self.remember_attributes(&meta)?;
        if path.split().is_some() && self.make_directory(&path)? == Made::BehindLink {
            return Ok(());
        }
        self.directories.push((path, meta));
        Ok(())
    }

    fn make_directory(&mut self, path: &EntryPath) -> Result<Made, Trouble> {
        let (root, replace) = (self.root, self.replace);
        let hid = std::cell::Cell::new(false);
        let made = self.place_as(Shape::Directory, path, |dir, name| {
            match perform(&Step::MakeDir { dir, name }) {
                Ok(()) => {
                    if hid.get() {
                        whiteouts::make_opaque(dir, name)?;
                    }
                    Ok(Made::Here)
                }
                Err(failure) if failure.is(Errno::EXIST) => {
                    let there = sys::stat_at(dir, name);
                    hid.set(there.is_ok_and(|stat| stat.is_whiteout()));
                    match there.map(|stat| stat.kind) {
                        Ok(Kind::Directory) => Ok(Made::Here),
                        Ok(Kind::Symlink) if replace == Replace::Files && leads_on(root, path) => {
                            Ok(Made::BehindLink)
                        }
                        _ => Err(failure),
                    }
                }
                Err(failure) => Err(failure),
            }
        })?;
        Ok(made)
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

    pub(super) fn device(
        &mut self,
        path: &EntryPath,
        device: DeviceNode,
        meta: &Meta,
    ) -> Result<(), Trouble> {
        let DeviceNode { kind, major, minor } = device;
        self.place(path, |dir, name| {
            perform(&Step::Device { dir, name, kind, major, minor })?;
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

    /// Makes something new at `path` that is no directory, in place of what is there.
    fn place<T>(
        &mut self,
        path: &EntryPath,
        make: impl Fn(BorrowedFd<'_>, &OsStr) -> Result<T, Failure>,
    ) -> Result<T, Trouble> {
        self.place_as(Shape::Other, path, make)
    }

    fn place_as<T>(
        &mut self,
        shape: Shape,
        path: &EntryPath,
        make: impl Fn(BorrowedFd<'_>, &OsStr) -> Result<T, Failure>,
    ) -> Result<T, Trouble> {
        let (parent, name) = path.split().ok_or(Refusal::Root)?;
        let dir = self.parent(parent)?;
        if self.remembers {
            self.remember(path)?;
            self.made.insert(path.clone());
        }
        match make(dir.as_fd(), name) {
            Err(failure) if failure.is(Errno::EXIST) => {
                self.make_room(shape, dir.as_fd(), name)?;
                // What went may be what `parent` leads through: it has to be resolved again.
                Ok(make(dir.as_fd(), name)?)
            }
            result => {
                self.last = Some((parent.to_vec(), dir));
                Ok(result?)
            }
        }
    }

    fn make_room(&self, shape: Shape, dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Trouble> {
        match (self.replace, shape) {
            (Replace::Anything, _) => remove::tree(dir, name).map(drop)?,
            (Replace::Files, Shape::Directory) => return Err(Refusal::Replaces.into()),
            (Replace::Files, Shape::Other) => match perform(&Step::Unlink { dir, name }) {
                Err(failure) if failure.is(Errno::ISDIR) => return Err(Refusal::Replaces.into()),
                other => other?,
            },
        }
        Ok(())
    }

    /// The directory `path`, made if it is not there.
    fn parent(&mut self, path: &[u8]) -> Result<OwnedFd, Trouble> {
        match self.last.take() {
            Some((last, dir)) if last == path => Ok(dir),
            _ => match self.resolve(path) {
                Err(failure) if failure.is(Errno::NOENT) => self.imply(path),
                // A whiteout of this layer may be in the way.
                Err(failure) if failure.is(Errno::NOTDIR) && self.below.is_some() => {
                    self.imply(path)
                }
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
            let name = prefix.rsplit(|&byte| byte == b'/').next().unwrap_or(prefix);
            dir = match self.resolve(prefix) {
                Err(failure)
                    if failure.is(Errno::NOTDIR) && is_whiteout(&dir, bytes_as_os_str(name)) =>
                {
                    self.imply_over_whiteout(dir.as_fd(), bytes_as_os_str(name))?
                }
                Err(failure) if failure.is(Errno::NOENT) => {
                    let made = self.imply_one(dir.as_fd(), bytes_as_os_str(name))?;
                    self.take_over(prefix)?;
                    made
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

    /// Makes a directory that shows nothing of what this layer has hidden.
    fn imply_over_whiteout(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<OwnedFd, Trouble> {
        perform(&Step::Unlink { dir, name })?;
        let made = self.imply_one(dir, name)?;
        whiteouts::make_opaque(dir, name)?;
        Ok(made)
    }

    /// Notes the attributes that a directory has below.
    fn take_over(&mut self, path: &[u8]) -> Result<(), Trouble> {
        let Some(below) = self.below else { return Ok(()) };
        if let Some(meta) = below.directory(path)? {
            let path = EntryPath::parse(path)?;
            self.remember(&path)?;
            self.remember_attributes(&meta)?;
            self.directories.push((path, meta));
        }
        Ok(())
    }

    fn remember(&mut self, path: &EntryPath) -> Result<(), Error> {
        self.count(path.as_bytes().len())
    }

    fn remember_attributes(&mut self, meta: &Meta) -> Result<(), Error> {
        self.count(meta.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum())
    }

    fn count(&mut self, bytes: usize) -> Result<(), Error> {
        self.name_bytes += bytes as u64;
        if self.name_bytes > MAX_NAME_BYTES {
            return Err(Error::Limit { limit: Limit::NameBytes, allowed: MAX_NAME_BYTES });
        }
        Ok(())
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Directory,
    Other,
}

/// Where a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    Here,
    /// Where a link leads, which keeps its attributes.
    BehindLink,
}

/// Whether `path`, which is a link, leads to a directory.
fn leads_on(root: BorrowedFd<'_>, path: &EntryPath) -> bool {
    sys::open_path(root, path.as_bytes(), sys::in_root(), OFlags::DIRECTORY).is_ok()
}

fn is_whiteout(dir: &OwnedFd, name: &OsStr) -> bool {
    sys::stat_at(dir, name).is_ok_and(|stat| stat.is_whiteout())
}

fn bytes_as_os_str(bytes: &[u8]) -> &OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}
