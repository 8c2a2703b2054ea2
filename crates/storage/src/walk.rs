//! Going through a tree that somebody else fills, by directory descriptors.

use std::ffi::OsString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::Failure;
use crate::sys::{self, Kind, Stat};

/// Directories one inside another that are gone through: as many as an archive may have
/// ([`Limits`](crate::Limits)), each with a descriptor.
pub(crate) const MAX_DEPTH: usize = 256;

/// Something in a tree.
#[derive(Debug)]
pub(crate) struct Found {
    /// Its path below the top, without a slash in front; empty for the top itself.
    pub(crate) path: Vec<u8>,
    /// The thing itself, not opened (`O_PATH`).
    pub(crate) place: OwnedFd,
    pub(crate) stat: Stat,
}

/// A walk from the top down, each directory before what is in it, sorted by name.
///
/// It follows no link and crosses no mount; what goes away while it walks is passed over.
#[derive(Debug)]
pub(crate) struct Walk {
    /// The top, until it was given.
    top: Option<OwnedFd>,
    levels: Vec<Level>,
    /// Path of the innermost level.
    path: Vec<u8>,
    /// The directory given last, which is gone into next.
    enter: Option<(OwnedFd, usize)>,
}

#[derive(Debug)]
struct Level {
    dir: OwnedFd,
    names: std::vec::IntoIter<OsString>,
    /// Bytes of the path above it.
    above: usize,
}

impl Walk {
    /// A walk through the directory `top`, which is given first.
    pub(crate) fn new(top: BorrowedFd<'_>) -> Result<Self, Failure> {
        let top = sys::open_path(top, c".", sys::beneath(), OFlags::DIRECTORY)
            .map_err(Failure::read("open the top"))?;
        Ok(Self { top: Some(top), levels: Vec::new(), path: Vec::new(), enter: None })
    }

    /// The next thing; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Found>, Failure> {
        if let Some(place) = self.top.take() {
            return self.found(place, 0).map(Some);
        }
        self.go_in()?;
        while let Some(level) = self.levels.last_mut() {
            let Some(name) = level.names.next() else {
                self.path.truncate(level.above);
                self.levels.pop();
                continue;
            };
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
            match sys::open_path(&level.dir, &*name, resolve, OFlags::NOFOLLOW) {
                Ok(place) => {
                    let above = self.path.len();
                    if above > 0 {
                        self.path.push(b'/');
                    }
                    self.path.extend_from_slice(name.as_bytes());
                    return self.found(place, above).map(Some);
                }
                // Gone in the meantime, or the place of another mount.
                Err(Errno::NOENT | Errno::XDEV) => {}
                Err(errno) => return Err(Failure::read(format_args!("open {name:?}"))(errno)),
            }
        }
        Ok(None)
    }

    fn found(&mut self, place: OwnedFd, above: usize) -> Result<Found, Failure> {
        let stat = sys::stat(&place).map_err(Failure::read("look at it"))?;
        let path = self.path.clone();
        if stat.kind == Kind::Directory {
            let again = place.try_clone().map_err(|error| Failure::new(&"keep it open", error))?;
            self.enter = Some((again, above));
        } else {
            self.path.truncate(above);
        }
        Ok(Found { path, place, stat })
    }

    fn go_in(&mut self) -> Result<(), Failure> {
        let Some((place, above)) = self.enter.take() else { return Ok(()) };
        if self.levels.len() >= MAX_DEPTH {
            let deep = std::io::Error::other("more than 256 directories one inside another");
            return Err(Failure::new(&"go further down", deep));
        }
        let dir = sys::open_dir_at(place.as_fd(), c".", sys::beneath())
            .map_err(Failure::read("open a directory"))?;
        let mut names = sys::list(&dir).map_err(Failure::read("list a directory"))?;
        names.sort_unstable();
        self.levels.push(Level { dir, names: names.into_iter(), above });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn paths(top: &std::path::Path) -> Vec<String> {
        let top = fs::File::open(top).unwrap();
        let mut walk = Walk::new(top.as_fd()).unwrap();
        let mut paths = Vec::new();
        while let Some(found) = walk.next().unwrap() {
            paths.push(String::from_utf8(found.path).unwrap());
        }
        paths
    }

    #[test]
    fn directories_come_before_what_is_in_them_and_links_are_not_followed() {
        let world = tempfile::tempdir().unwrap();
        fs::create_dir_all(world.path().join("b/d/e")).unwrap();
        fs::write(world.path().join("b/f"), "").unwrap();
        fs::write(world.path().join("a"), "").unwrap();
        std::os::unix::fs::symlink("/", world.path().join("c")).unwrap();
        assert_eq!(paths(world.path()), ["", "a", "b", "b/d", "b/d/e", "b/f", "c"]);
    }

    #[test]
    fn what_is_too_deep_is_an_error() {
        let world = tempfile::tempdir().unwrap();
        let deep = "d/".repeat(MAX_DEPTH);
        fs::create_dir_all(world.path().join(&deep)).unwrap();
        let top = fs::File::open(world.path()).unwrap();
        let mut walk = Walk::new(top.as_fd()).unwrap();
        let error = loop {
            match walk.next() {
                Ok(found) => assert!(found.is_some()),
                Err(error) => break error,
            }
        };
        assert_eq!(error.step(), "go further down");
    }
}
