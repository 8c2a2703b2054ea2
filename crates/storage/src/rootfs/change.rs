//! Making and removing what is in a root.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Rootfs;
use crate::error::{Error, Failure};
use crate::remove::{self, Removed};
use crate::sys::{self, NewFd, Stat, Step, Target, perform, write_all_at};

/// Bytes that a name can have in every file system that containers have.
const MAX_NAME: usize = 255;

/// Owner and mode of something to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewEntry {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits, exactly, whatever the umask.
    pub mode: u32,
}

impl NewEntry {
    /// A directory everybody may read, of root.
    pub const DIRECTORY: Self = Self { uid: 0, gid: 0, mode: 0o755 };
    /// A file everybody may read, of root.
    pub const FILE: Self = Self { uid: 0, gid: 0, mode: 0o644 };
}

/// Whether a change was needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// It was made.
    Made,
    /// Something was there: it was left as it is.
    WasThere,
}

impl Rootfs {
    /// Makes the directory `path` and those above it that are missing, all of this owner and mode.
    ///
    /// Links on the way are followed inside the root; what they lead to must be there.
    ///
    /// # Errors
    ///
    /// [`Error::ChangeRoot`], also if something else is there. Directories made until then stay.
    pub fn make_directories(&self, path: &str, new: NewEntry) -> Result<Within, Error> {
        let mut within = Within::WasThere;
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends.filter(|&end| !path[..end].ends_with('/') && end > 0) {
            within = self.make_directory(&path[..end], new)?;
        }
        Ok(within)
    }

    /// Makes the directory `path`; what is above it must be there.
    ///
    /// # Errors
    ///
    /// [`Error::ChangeRoot`], also if something else is there.
    pub fn make_directory(&self, path: &str, new: NewEntry) -> Result<Within, Error> {
        if self.is_dir(path)? {
            return Ok(Within::WasThere);
        }
        self.at(path, |dir, name| {
            match perform(&Step::MakeDir { dir, name }) {
                // A link to nothing is not followed, and not replaced.
                Err(failure) if failure.is(Errno::EXIST) && is_directory(dir, name) => {
                    return Ok(Within::WasThere);
                }
                other => other?,
            }
            let made = sys::open_dir_at(dir, name, sys::beneath())
                .map_err(Failure::read("open the new directory"))?;
            settle(made.as_fd(), new)?;
            Ok(Within::Made)
        })
    }

    /// Makes a file with this content, unless something is there, a link to nothing included.
    ///
    /// It gets its name when it is complete, so that nobody sees less; on filesystems without
    /// nameless files it is filled under its name.
    ///
    /// # Errors
    ///
    /// [`Error::ChangeRoot`].
    pub fn make_file(&self, path: &str, new: NewEntry, content: &[u8]) -> Result<Within, Error> {
        self.at(path, |dir, name| {
            let file = match perform(&NewFd::NamelessFile { dir }) {
                Err(failure) if failure.is(Errno::OPNOTSUPP) => {
                    return make_named(dir, name, new, content);
                }
                other => other?,
            };
            write_all_at(file.as_fd(), content, 0)?;
            settle(file.as_fd(), new)?;
            made(perform(&Step::Publish { file: file.as_fd(), dir, name }))
        })
    }

    /// Puts this content in the place of that of a regular file, which keeps its owner and mode, or
    /// makes the file like `new`; `None` if something else is there, a link included: that is left.
    ///
    /// Who opens the file gets the old or the new one as a whole. Other names of it, and its extended
    /// attributes, stay with the old one. Nobody else may be changing the root.
    ///
    /// # Errors
    ///
    /// [`Error::ChangeRoot`]; the file is then as it was.
    pub fn replace_file(
        &self,
        path: &str,
        new: NewEntry,
        content: &[u8],
    ) -> Result<Option<Within>, Error> {
        match self.stat_link(path)? {
            None => self.make_file(path, new, content).map(Some),
            Some(stat) if stat.kind != sys::Kind::Regular => Ok(None),
            Some(Stat { uid, gid, mode, .. }) => {
                let like_old = NewEntry { uid, gid, mode };
                self.at(path, |dir, name| replace(dir, name, like_old, content))?;
                Ok(Some(Within::Made))
            }
        }
    }

    /// Makes a symbolic link, unless something is there.
    ///
    /// # Errors
    ///
    /// [`Error::ChangeRoot`].
    pub fn make_symlink(&self, path: &str, target: &str) -> Result<Within, Error> {
        let target = OsStr::new(target);
        self.at(path, |dir, name| made(perform(&Step::Symlink { target, dir, name })))
    }

    /// The same for a link that belongs to `uid` and `gid`.
    ///
    /// # Errors
    ///
    /// [`Error::ChangeRoot`]; the link may be there then, and nobody's.
    pub fn make_symlink_of(
        &self,
        path: &str,
        target: &str,
        (uid, gid): (u32, u32),
    ) -> Result<Within, Error> {
        let target = OsStr::new(target);
        self.at(path, |dir, name| {
            let within = made(perform(&Step::Symlink { target, dir, name }))?;
            if within == Within::Made {
                perform(&Step::Own { target: Target::Named { dir, name }, uid, gid })?;
            }
            Ok(within)
        })
    }

    /// Removes what is at `path`, with everything below it; a link goes, not what it leads to.
    ///
    /// # Errors
    ///
    /// [`Error::ChangeRoot`], also for the root itself and for a path that ends in `..`.
    pub fn remove(&self, path: &str) -> Result<Removed, Error> {
        let removed = self.at(path, |dir, name| remove::tree(dir, name).map(Some));
        match removed {
            Err(Error::ChangeRoot { source, .. }) if source.is(Errno::NOENT) => {
                Ok(Removed::WasAbsent)
            }
            other => other.map(|removed| removed.unwrap_or(Removed::WasAbsent)),
        }
    }

    /// Sets owner and mode of the directory or file `path`, links followed inside the root.
    ///
    /// # Errors
    ///
    /// [`Error::NotRegular`] if it is neither, or [`Error::ChangeRoot`], also if nothing is there.
    pub fn set_owner_and_mode(&self, path: &str, new: NewEntry) -> Result<(), Error> {
        let fail = |source| Error::ChangeRoot { path: path.to_owned(), source };
        let found = self.look(path)?;
        let (place, stat) = found.ok_or_else(|| fail(Failure::read("find it")(Errno::NOENT)))?;
        // Opening anything else may do something.
        if !matches!(stat.kind, sys::Kind::Directory | sys::Kind::Regular) {
            return Err(Error::NotRegular { path: path.to_owned() });
        }
        let file = sys::reopen(place.as_fd()).map_err(Failure::read("open it")).map_err(fail)?;
        settle(file.as_fd(), new).map_err(fail)
    }

    /// Acts on the last part of a path in the directory the rest of it leads to.
    fn at<T>(
        &self,
        path: &str,
        act: impl FnOnce(BorrowedFd<'_>, &OsStr) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let fail = |source| Error::ChangeRoot { path: path.to_owned(), source };
        let (parent, name) = split(path).ok_or_else(|| {
            fail(Failure::new(&"find its name", std::io::ErrorKind::InvalidInput.into()))
        })?;
        let dir = self.open_parent(parent).map_err(fail)?;
        act(dir.as_fd(), OsStr::new(name)).map_err(fail)
    }

    fn open_parent(&self, parent: &str) -> Result<OwnedFd, Failure> {
        let parent = if parent.is_empty() { "." } else { parent };
        sys::open_path(&self.fd, parent, sys::in_root(), OFlags::DIRECTORY)
            .map_err(Failure::read("open the directory above"))
    }
}

/// The directory and the last part of a path; `None` for the root and for what ends in a `..`.
fn split(path: &str) -> Option<(&str, &str)> {
    let path = path.trim_end_matches('/');
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    (!matches!(name, "" | "." | "..")).then_some((parent, name))
}

fn make_named(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    new: NewEntry,
    content: &[u8],
) -> Result<Within, Failure> {
    match perform(&NewFd::File { dir, name }) {
        Err(failure) if failure.is(Errno::EXIST) => Ok(Within::WasThere),
        Err(failure) => Err(failure),
        Ok(file) => {
            write_all_at(file.as_fd(), content, 0)?;
            settle(file.as_fd(), new)?;
            Ok(Within::Made)
        }
    }
}

/// What is not finished has a name beside it, which a later try may find.
fn replace(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    new: NewEntry,
    content: &[u8],
) -> Result<(), Failure> {
    let unfinished = &unfinished(name);
    remove::tree(dir, unfinished)?;
    let filled = make_named(dir, unfinished, new, content);
    let replaced = filled.and_then(|_| {
        perform(&Step::Replace { from: dir, name: unfinished, to: dir, new_name: name })
    });
    if replaced.is_err() {
        // What failed first is told; the next try, or the end of the root, takes the rest away.
        let _ = remove::tree(dir, unfinished);
    }
    replaced
}

/// A name that fits wherever names do.
fn unfinished(name: &OsStr) -> OsString {
    let mut unfinished = OsString::from(".tare-");
    let kept = &name.as_bytes()[..name.len().min(MAX_NAME - unfinished.len())];
    unfinished.push(OsStr::from_bytes(kept));
    unfinished
}

fn settle(file: BorrowedFd<'_>, new: NewEntry) -> Result<(), Failure> {
    let target = Target::Open(file);
    perform(&Step::Own { target, uid: new.uid, gid: new.gid })?;
    perform(&Step::Mode { target, mode: new.mode })
}

fn made(result: Result<(), Failure>) -> Result<Within, Failure> {
    match result {
        Ok(()) => Ok(Within::Made),
        Err(failure) if failure.is(Errno::EXIST) => Ok(Within::WasThere),
        Err(failure) => Err(failure),
    }
}

fn is_directory(dir: BorrowedFd<'_>, name: &OsStr) -> bool {
    sys::stat_at(dir, name).is_ok_and(|stat| stat.kind == sys::Kind::Directory)
}
