//! The store: its directories, and what is half-way in or out of it.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::{CWD, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Error, Failure, Leftover};
use crate::holds::{Hold, Holds};
use crate::leftovers::Leftovers;
use crate::remove;
use crate::sys::{self, NewFd, Step, perform};
use crate::undo::UndoStack;
use crate::volumes;

/// The layers and blobs of images, and the layers of containers, in one directory.
///
/// Below the root, all of mode 0700: `blobs/sha256/<hex>`, `layers/<chain id>/diff`,
/// `containers/<key>/{upper,work}`, `volumes/<name>/_data`, `tmp`, which holds what is not finished, and
/// `nothing`, which stays empty. Only one `Store` can have it open; dropping that lets go of it. It may be
/// shared between threads.
///
/// Images and containers are told from half-finished ones by where they are: they come in by one
/// rename after they are complete (and, for images, on disk), and go out by one rename before they
/// are taken apart.
#[derive(Debug)]
pub struct Store {
    /// Holds the lock.
    pub(crate) root: OwnedFd,
    pub(crate) blobs: OwnedFd,
    pub(crate) layers: OwnedFd,
    /// The same in a mount of its own; see [`mount_apart`].
    pub(crate) layers_apart: Option<OwnedFd>,
    pub(crate) containers: OwnedFd,
    pub(crate) volumes: OwnedFd,
    pub(crate) holds: Arc<Holds>,
    tmp: OwnedFd,
    /// What is in `tmp` of removals that have failed, by name.
    left: Leftovers,
    /// Numbers the names in `tmp`; nobody else makes names there.
    next: AtomicU64,
    /// Held by whoever collects garbage: one that took what another has in hand would fail.
    pub(crate) collecting: Mutex<()>,
    /// Which number of a project is tried next.
    pub(crate) next_project: AtomicU32,
}

/// A directory in which nothing is ever made.
pub(crate) const NOTHING: &str = "nothing";

/// Parents before children.
const DIRECTORIES: [&str; 7] =
    ["blobs", "blobs/sha256", "layers", "containers", "volumes", "tmp", NOTHING];

impl Store {
    /// Opens the store at `root`, whose parent must exist; creates what is missing with mode 0700
    /// and empties `tmp`, but for what cannot be removed now.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if it is open already, else [`Error::OpenStore`]; directories made until
    /// then are removed again.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let mut undo = UndoStack::new();
        match make_root(&mut undo, root).and_then(|fd| Self::open_in(fd, root)) {
            Ok(store) => {
                undo.commit();
                store
                    .empty_tmp()
                    .map_err(|source| Error::OpenStore { root: root.into(), source })?;
                Ok(store)
            }
            Err(error) => Err(undo.roll_back(error)),
        }
    }

    fn open_in(root: OwnedFd, path: &Path) -> Result<Self, Error> {
        let fail = |source| Error::OpenStore { root: path.into(), source };
        lock(root.as_fd(), path)?;
        let mut undo = UndoStack::new();
        if let Err(source) = make_directories(&mut undo, root.as_fd()) {
            return Err(undo.roll_back(fail(source)));
        }
        let opened = (|| {
            let open = |name| open_directory(root.as_fd(), name);
            let opened = ["blobs/sha256", "layers", "containers", "volumes", "tmp"].map(open);
            let [blobs, layers, containers, volumes, tmp] = opened;
            let layers_apart = mount_apart(root.as_fd(), "layers")?;
            Ok((blobs?, layers?, layers_apart, containers?, volumes?, tmp?))
        })();
        match opened {
            Ok((blobs, layers, layers_apart, containers, volumes, tmp)) => {
                undo.commit();
                let (next, holds) = (AtomicU64::new(0), Arc::default());
                let next_project = AtomicU32::new(0);
                Ok(Self {
                    root,
                    blobs,
                    layers,
                    layers_apart,
                    containers,
                    volumes,
                    holds,
                    tmp,
                    left: Leftovers::default(),
                    next,
                    collecting: Mutex::default(),
                    next_project,
                })
            }
            Err(source) => Err(undo.roll_back(fail(source))),
        }
    }

    /// Keeps garbage collection from what is stored, or found there, from now on.
    pub fn hold(&self) -> Hold {
        self.holds.hold()
    }

    /// What cannot be removed is no reason not to open the store: it may be tried again.
    fn empty_tmp(&self) -> Result<(), Failure> {
        let names = sys::list(&self.tmp).map_err(Failure::read("list directory \"tmp\""))?;
        for name in names {
            self.left.add(name);
        }
        self.finish_removals();
        Ok(())
    }

    /// A new directory in `tmp`.
    pub(crate) fn scratch(&self, what: &str) -> Result<Scratch<'_>, Failure> {
        let name = loop {
            let name = self.fresh_name(what);
            match perform(&Step::MakeDir { dir: self.tmp.as_fd(), name: &name }) {
                Ok(()) => break name,
                // Left by an earlier daemon, and could not be removed.
                Err(failure) if failure.is(Errno::EXIST) => {}
                Err(failure) => return Err(failure),
            }
        };
        // Made before the directory is opened, so that it goes again if that fails.
        let mut scratch = Scratch { tmp: self.tmp.as_fd(), name, dir: None };
        scratch.dir = Some(open_directory(scratch.tmp, &scratch.name)?);
        Ok(scratch)
    }

    /// Moves `name` from `dir` into `tmp`, to be removed there. `None` if it is not there, and no
    /// earlier removal of it has left anything.
    ///
    /// `what` tells names from those in other directories.
    pub(crate) fn move_out(
        &self,
        what: &str,
        dir: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<Option<Doomed<'_>>, Failure> {
        let doomed = Doomed::claim(self, what, name);
        let (to, new_name) = (self.tmp.as_fd(), &doomed.name);
        let rename = || perform(&Step::Rename { from: dir, name, to, new_name });
        let moved = match rename() {
            // The last one of that name could not be removed for good.
            Err(failure) if failure.is(Errno::EXIST) => {
                take_apart(to, new_name)?;
                rename()
            }
            moved => moved,
        };
        match moved {
            Err(failure) if failure.is(Errno::NOENT) => {
                if sys::stat_at(to, new_name).is_ok() {
                    return Ok(Some(doomed));
                }
                doomed.forget();
                Ok(None)
            }
            moved => moved.map(|()| Some(doomed)),
        }
    }

    /// Removes what is left of removals that have failed. What cannot be removed now, either, is left
    /// for the next time.
    pub(crate) fn finish_removals(&self) {
        self.left.finish(|name| {
            let removed = take_apart(self.tmp.as_fd(), name);
            removed.inspect_err(|source| tracing::warn!(?name, %source, "left behind")).is_ok()
        });
    }

    /// A file without a name in `tmp`, gone when it is closed.
    pub(crate) fn nameless_file(&self) -> Result<OwnedFd, Failure> {
        perform(&NewFd::NamelessFile { dir: self.tmp.as_fd() })
    }

    /// Has the whole filesystem of the store on disk.
    pub(crate) fn sync(&self) -> Result<(), Failure> {
        perform(&Step::SyncFilesystem { file: self.root.as_fd() })
    }

    fn fresh_name(&self, what: &str) -> OsString {
        format!("{what}-{}", self.next.fetch_add(1, Ordering::Relaxed)).into()
    }
}

fn make_root<'a>(undo: &mut UndoStack<'a>, root: &'a Path) -> Result<OwnedFd, Error> {
    let fail = |source| Error::OpenStore { root: root.into(), source };
    make_if_missing(undo, CWD, root.as_os_str()).map_err(fail)?;
    // Who names the root may name it by a link; below it there is none.
    sys::open_root(root).map_err(Failure::read("open the directory")).map_err(fail)
}

fn make_directories<'a>(undo: &mut UndoStack<'a>, root: BorrowedFd<'a>) -> Result<(), Failure> {
    let mut made = false;
    for name in DIRECTORIES {
        made |= make_if_missing(undo, root, OsStr::new(name))?;
    }
    if made { perform(&Step::SyncFilesystem { file: root }) } else { Ok(()) }
}

fn make_if_missing<'a>(
    undo: &mut UndoStack<'a>,
    dir: BorrowedFd<'a>,
    name: &'a OsStr,
) -> Result<bool, Failure> {
    match undo.run(&Step::MakeDir { dir, name }) {
        Ok(()) => Ok(true),
        Err(failure) if failure.is(Errno::EXIST) => Ok(false),
        Err(failure) => Err(failure),
    }
}

fn lock(root: BorrowedFd<'_>, path: &Path) -> Result<(), Error> {
    perform(&Step::Lock { file: root }).map_err(|source| {
        let root = path.into();
        if source.is(Errno::AGAIN) {
            Error::Locked { root }
        } else {
            Error::OpenStore { root, source }
        }
    })
}

/// The directory in a mount of its own that is mounted nowhere. For each directory it takes,
/// overlayfs looks at all that is mounted below the mount that is in, which on a busy host is
/// thousands; below this one there is nothing.
///
/// `None` if that cannot be had: the kernel takes such directories from 6.15 on, and mounts are for
/// root alone. Nothing is renamed through it, for it and the other directories are two mounts.
fn mount_apart(root: BorrowedFd<'_>, name: &'static str) -> Result<Option<OwnedFd>, Failure> {
    if !sys::kernel_is_at_least(6, 15) {
        return Ok(None);
    }
    match perform(&NewFd::MountCopy { dir: root, name }) {
        Ok(apart) => Ok(Some(apart)),
        Err(failure) if failure.is(Errno::PERM) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Removes something in `tmp`, and what is kept of it elsewhere.
fn take_apart(tmp: BorrowedFd<'_>, name: &OsStr) -> Result<remove::Removed, Failure> {
    volumes::give_back(tmp, name)?;
    remove::tree(tmp, name)
}

pub(crate) fn open_directory(
    dir: BorrowedFd<'_>,
    name: impl AsRef<OsStr>,
) -> Result<OwnedFd, Failure> {
    let name = name.as_ref();
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    sys::open_dir_at(dir, name, resolve)
        .map_err(Failure::read(format_args!("open directory {name:?}")))
}

/// What was moved into `tmp` to be removed; dropped before it is, it is removed at a later time.
#[derive(Debug)]
#[must_use = "dropping it leaves it for later"]
pub(crate) struct Doomed<'s> {
    store: &'s Store,
    /// Empty once nothing is left.
    name: OsString,
}

impl<'s> Doomed<'s> {
    /// What an earlier removal may have left of it, too, is nobody else's from now on.
    fn claim(store: &'s Store, what: &str, name: &OsStr) -> Self {
        let mut new_name = OsString::from(format!("removed-{what}-"));
        new_name.push(name);
        store.left.take(&new_name);
        Self { store, name: new_name }
    }

    /// Removes it.
    pub(crate) fn remove(self) -> Result<remove::Removed, Failure> {
        let removed = take_apart(self.store.tmp.as_fd(), &self.name)?;
        self.forget();
        Ok(removed)
    }

    fn forget(mut self) {
        self.name.clear();
    }
}

impl Drop for Doomed<'_> {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            self.store.left.add(std::mem::take(&mut self.name));
        }
    }
}

/// A directory in `tmp`, until it is published or discarded; dropped without either (a panic), it
/// goes too and can only log what it leaves behind.
#[derive(Debug)]
#[must_use = "dropping a scratch directory removes it"]
pub(crate) struct Scratch<'s> {
    tmp: BorrowedFd<'s>,
    /// Empty once it is published or discarded.
    name: OsString,
    dir: Option<OwnedFd>,
}

/// What became of a [`Scratch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Published {
    Now,
    AlreadyThere,
}

impl Scratch<'_> {
    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_ref().map_or(self.tmp, OwnedFd::as_fd)
    }

    /// Makes it `name` in `dir`, durably, unless that is there.
    pub(crate) fn publish(
        mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        error: impl Fn(Failure) -> Error,
    ) -> Result<Published, Error> {
        let own_name = std::mem::take(&mut self.name);
        let mut undo = UndoStack::new();
        let rename = Step::Rename { from: self.tmp, name: &own_name, to: dir, new_name: name };
        let renamed = undo.run(&rename);
        match renamed.and_then(|()| perform(&Step::Sync { file: dir })) {
            Ok(()) => {
                undo.commit();
                Ok(Published::Now)
            }
            Err(failure) if failure.is(Errno::EXIST) => {
                undo.commit();
                take_apart(self.tmp, &own_name).map_err(&error)?;
                Ok(Published::AlreadyThere)
            }
            Err(failure) => {
                let error = undo.roll_back(error(failure));
                self.name = own_name;
                Err(self.discard(error))
            }
        }
    }

    /// Puts it, durably, in the place of the empty directory `name`; it is given back if that is not
    /// empty.
    pub(crate) fn replace(
        mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        error: impl Fn(Failure) -> Error,
    ) -> Result<Option<Self>, Error> {
        let step = Step::Replace { from: self.tmp, name: &self.name, to: dir, new_name: name };
        match perform(&step) {
            Ok(()) => {
                self.name.clear();
                perform(&Step::Sync { file: dir }).map(|()| None).map_err(error)
            }
            Err(failure) if failure.is(Errno::NOTEMPTY) || failure.is(Errno::EXIST) => {
                Ok(Some(self))
            }
            Err(failure) => Err(self.discard(error(failure))),
        }
    }

    /// Removes it because of `error`.
    pub(crate) fn discard(mut self, error: Error) -> Error {
        error.with_leftovers(self.remove())
    }

    fn remove(&mut self) -> Vec<Leftover> {
        let name = std::mem::take(&mut self.name);
        if name.is_empty() {
            return Vec::new();
        }
        take_apart(self.tmp, &name).err().map(Leftover::from).into_iter().collect()
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        for Leftover { undo, source } in self.remove() {
            tracing::error!(undo, %source, "left behind");
        }
    }
}
