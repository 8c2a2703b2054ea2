//! Removing whole trees that somebody else filled.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{Dir, FileType};
use rustix::io::Errno;

use crate::error::{Error, Failure};
use crate::names::FileName;
use crate::sys::{self, Step, perform};

/// Levels held open at a time, a directory each.
///
/// What lies deeper is moved up to the top first, so that neither the stack nor the limit on open
/// files (1,024 by default) bounds how deep a tree may be: a process can nest directories without
/// end by `chdir` and `mkdir`.
const MAX_OPEN: usize = 64;

/// What a removal found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It was there and is gone, with this many files and directories.
    Tree {
        /// Directory entries removed, the tree's own included.
        entries: u64,
    },
    /// It was not there.
    WasAbsent,
}

/// Removes `name` in `parent` with everything below it.
///
/// No link is followed and no mount point crossed, not even by a bind mount of the same
/// filesystem (`RESOLVE_NO_XDEV`, which compares mounts; comparing `st_dev` would miss those and
/// would stop at a btrfs subvolume, which is part of the tree). Depth is unbounded; at most 64
/// descriptors are open at a time. Nobody else may be changing the tree.
///
/// # Errors
///
/// [`Error::RemoveTree`] with the first step that failed; what was removed until then stays
/// removed.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &FileName) -> Result<Removed, Error> {
    tree(parent, name.as_os_str())
        .map_err(|source| Error::RemoveTree { name: name.clone(), source })
}

/// [`remove_tree`] for any name.
pub(crate) fn tree(parent: BorrowedFd<'_>, name: &OsStr) -> Result<Removed, Failure> {
    match perform(&Step::Unlink { dir: parent, name }) {
        Ok(()) => Ok(Removed::Tree { entries: 1 }),
        Err(failure) if failure.is(Errno::NOENT) => Ok(Removed::WasAbsent),
        Err(failure) if failure.is(Errno::ISDIR) => {
            let entries = Walk::new(Level::open(parent, name)?).empty()?;
            perform(&Step::RemoveDir { dir: parent, name })?;
            Ok(Removed::Tree { entries: entries + 1 })
        }
        Err(failure) => Err(failure),
    }
}

/// A depth-first walk that empties a directory.
struct Walk {
    top: Level,
    /// The way down from the top to where the walk is.
    below: Vec<Level>,
    /// Directories moved up into the top one, still to be removed.
    lifted: VecDeque<OsString>,
    /// Names tried for those so far.
    lifts: u64,
    /// Entries removed so far.
    removed: u64,
}

impl Walk {
    fn new(top: Level) -> Self {
        Self { top, below: Vec::new(), lifted: VecDeque::new(), lifts: 0, removed: 0 }
    }

    fn empty(mut self) -> Result<u64, Failure> {
        loop {
            if let Some((name, kind)) = self.below.last_mut().unwrap_or(&mut self.top).next()? {
                self.remove(&name, kind)?;
            } else if let Some(emptied) = self.below.pop() {
                perform(&Step::RemoveDir { dir: self.here()?, name: &emptied.name })?;
                self.removed += 1;
            } else if let Some(name) = self.lifted.pop_front() {
                self.enter(&name)?;
            } else {
                return Ok(self.removed);
            }
        }
    }

    fn here(&self) -> Result<BorrowedFd<'_>, Failure> {
        self.below.last().unwrap_or(&self.top).dir()
    }

    fn remove(&mut self, name: &OsStr, kind: FileType) -> Result<(), Failure> {
        if kind == FileType::Directory {
            return self.enter(name);
        }
        match perform(&Step::Unlink { dir: self.here()?, name }) {
            Ok(()) => self.removed += 1,
            // Some filesystems do not say in the listing what an entry is.
            Err(failure) if failure.is(Errno::ISDIR) => return self.enter(name),
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    /// Goes down into `name`, or moves it up to be removed later if that would be too deep.
    fn enter(&mut self, name: &OsStr) -> Result<(), Failure> {
        if self.below.len() + 1 >= MAX_OPEN {
            return self.lift(name);
        }
        match Level::open(self.here()?, name) {
            Ok(level) => self.below.push(level),
            // The listing of the top directory may name a lifted one that is gone by now.
            Err(failure) if failure.is(Errno::NOENT) => {}
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    fn lift(&mut self, name: &OsStr) -> Result<(), Failure> {
        loop {
            let new_name = OsString::from(format!(".lifted-{}", self.lifts));
            self.lifts += 1;
            let (from, to) = (self.here()?, self.top.dir()?);
            match perform(&Step::Rename { from, name, to, new_name: &new_name }) {
                Ok(()) => {
                    self.lifted.push_back(new_name);
                    return Ok(());
                }
                // The tree has such a name of its own.
                Err(failure) if failure.is(Errno::EXIST) => {}
                Err(failure) => return Err(failure),
            }
        }
    }
}

/// One open directory of the walk.
struct Level {
    entries: Dir,
    /// Its name in the directory above.
    name: OsString,
}

impl Level {
    fn open(parent: BorrowedFd<'_>, name: &OsStr) -> Result<Self, Failure> {
        sys::open_dir_at(parent, name, sys::beneath())
            .and_then(Dir::new)
            .map(|entries| Self { entries, name: name.to_owned() })
            .map_err(|errno| Failure::new(&format_args!("open directory {name:?}"), errno.into()))
    }

    fn dir(&self) -> Result<BorrowedFd<'_>, Failure> {
        self.entries.fd().map_err(|errno| self.failure(errno))
    }

    fn next(&mut self) -> Result<Option<(OsString, FileType)>, Failure> {
        while let Some(entry) = self.entries.next() {
            let entry = entry.map_err(|errno| self.failure(errno))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                return Ok(Some((OsStr::from_bytes(name).to_owned(), entry.file_type())));
            }
        }
        Ok(None)
    }

    fn failure(&self, errno: Errno) -> Failure {
        Failure::new(&format_args!("list directory {:?}", self.name), errno.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::{AsFd as _, OwnedFd};
    use std::os::unix::fs::symlink;

    fn open(path: &std::path::Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    #[test]
    fn removes_files_links_and_directories_but_follows_nothing() {
        let world = tempfile::tempdir().unwrap();
        let outside = world.path().join("outside");
        fs::write(&outside, "kept").unwrap();
        let tree = world.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/file"), "x").unwrap();
        symlink(&outside, tree.join("a/link")).unwrap();
        symlink(world.path(), tree.join("up")).unwrap();

        let removed = remove_tree(open(world.path()).as_fd(), &"tree".parse().unwrap()).unwrap();

        assert_eq!(removed, Removed::Tree { entries: 6 });
        assert!(!tree.exists());
        assert_eq!(fs::read_to_string(outside).unwrap(), "kept");
    }

    #[test]
    fn a_link_given_as_the_tree_goes_and_its_target_stays() {
        let world = tempfile::tempdir().unwrap();
        fs::create_dir(world.path().join("real")).unwrap();
        symlink("real", world.path().join("link")).unwrap();
        let dir = open(world.path());
        assert_eq!(
            remove_tree(dir.as_fd(), &"link".parse().unwrap()).unwrap(),
            Removed::Tree { entries: 1 }
        );
        assert!(world.path().join("real").is_dir());
        assert_eq!(remove_tree(dir.as_fd(), &"link".parse().unwrap()).unwrap(), Removed::WasAbsent);
    }

    #[test]
    fn depth_beyond_any_path_or_descriptor_limit_is_removed() {
        let world = tempfile::tempdir().unwrap();
        let dir = open(world.path());
        let depth = 3000;
        let mut at = dir.try_clone().unwrap();
        for level in 0..depth {
            // A name that lifting would choose lies in the way at the top.
            for name in ["d", ".lifted-0"].iter().take(if level == 1 { 2 } else { 1 }) {
                perform(&Step::MakeDir { dir: at.as_fd(), name: OsStr::new(name) }).unwrap();
            }
            at = sys::open_dir_at(&at, "d", sys::beneath()).unwrap();
        }
        drop(at);
        let removed = remove_tree(dir.as_fd(), &"d".parse().unwrap()).unwrap();
        assert_eq!(removed, Removed::Tree { entries: depth + 1 });
        assert_eq!(fs::read_dir(world.path()).unwrap().count(), 0);
    }
}
