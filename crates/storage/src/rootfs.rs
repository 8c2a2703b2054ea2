//! A root that somebody else fills: the one way to anything in it.

mod change;
mod resolve;
mod transfer;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

pub use change::{NewEntry, Within};
pub use transfer::Transferred;

use crate::error::{Error, Failure};
use crate::sys::{self, Kind, Stat};

/// The root of a container, by descriptor.
///
/// Paths are resolved as a process inside would see them: absolute links and `..` end at the
/// root, never on the host. With or without a leading `/` they mean the same.
#[derive(Debug)]
pub struct Rootfs {
    fd: OwnedFd,
}

impl Rootfs {
    /// Takes the directory or detached mount `fd` for a root.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Reads a regular file of at most `max` bytes; `None` if nothing is there.
    ///
    /// A FIFO, a socket or a device is not opened, so this never waits for anybody.
    ///
    /// # Errors
    ///
    /// [`Error::NotRegular`], [`Error::FileTooLarge`] or [`Error::ReadFile`].
    pub fn read_file(&self, path: &str, max: usize) -> Result<Option<Vec<u8>>, Error> {
        let Some((place, stat)) = self.look(path)? else { return Ok(None) };
        if stat.kind != Kind::Regular {
            return Err(Error::NotRegular { path: path.to_owned() });
        }
        read_regular(place.as_fd(), &stat, path, max).map(Some)
    }

    /// Opens a regular file for reading; `None` if nothing is there.
    ///
    /// A FIFO, a socket or a device is not opened, so this never waits for anybody.
    ///
    /// # Errors
    ///
    /// [`Error::NotRegular`] or [`Error::ReadFile`].
    pub fn open_file(&self, path: &str) -> Result<Option<File>, Error> {
        let Some((place, stat)) = self.look(path)? else { return Ok(None) };
        if stat.kind != Kind::Regular {
            return Err(Error::NotRegular { path: path.to_owned() });
        }
        let file = sys::reopen(place.as_fd());
        file.map(|file| Some(file.into()))
            .map_err(|errno| read_error(path, Failure::read("open it")(errno)))
    }

    /// Opens a place without touching what is there (`O_PATH`), links followed; `None` if nothing
    /// is.
    ///
    /// # Errors
    ///
    /// [`Error::ReadFile`].
    pub fn open_place(&self, path: &str) -> Result<Option<OwnedFd>, Error> {
        self.find(path)
    }

    /// Takes the directory `path` for a root of its own, out of which no link leads; `None` if
    /// nothing is there.
    ///
    /// # Errors
    ///
    /// [`Error::ReadFile`], also if it is no directory.
    pub fn subdirectory(&self, path: &str) -> Result<Option<Self>, Error> {
        match sys::open_path(&self.fd, path, sys::in_root(), OFlags::DIRECTORY) {
            Ok(place) => Ok(Some(Self::from_fd(place))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(read_error(path, Failure::read("open it as a directory")(errno))),
        }
    }

    /// The same, but `None` if something else is there, too.
    pub(crate) fn subdirectory_if_any(&self, path: &str) -> Result<Option<Self>, Error> {
        if self.is_dir(path)? { self.subdirectory(path) } else { Ok(None) }
    }

    /// What is at `path`, links followed; `None` if nothing is.
    ///
    /// # Errors
    ///
    /// [`Error::ReadFile`].
    pub fn stat(&self, path: &str) -> Result<Option<Stat>, Error> {
        Ok(self.look(path)?.map(|(_, stat)| stat))
    }

    /// What is at `path` itself, a link if it is one; `None` if nothing is.
    ///
    /// # Errors
    ///
    /// [`Error::ReadFile`].
    pub fn stat_link(&self, path: &str) -> Result<Option<Stat>, Error> {
        let Some(place) = self.find_with(path, OFlags::NOFOLLOW)? else { return Ok(None) };
        let fail = |errno| read_error(path, Failure::read("look at it")(errno));
        sys::stat(&place).map(Some).map_err(fail)
    }

    /// Where the symbolic link at `path` points to, which may be anything; `None` if nothing is
    /// there, or no link.
    ///
    /// # Errors
    ///
    /// [`Error::ReadFile`].
    pub fn read_link(&self, path: &str) -> Result<Option<std::ffi::OsString>, Error> {
        let Some(place) = self.find_with(path, OFlags::NOFOLLOW)? else { return Ok(None) };
        match sys::read_link(&place) {
            Ok(target) => Ok(Some(target)),
            // What the kernel says of `O_PATH` descriptors of anything else.
            Err(Errno::NOENT | Errno::INVAL) => Ok(None),
            Err(errno) => Err(read_error(path, Failure::read("read the link")(errno))),
        }
    }

    /// The names in the directory `path`, sorted; `None` if nothing is there.
    ///
    /// # Errors
    ///
    /// [`Error::ReadFile`], also if it is no directory.
    pub fn list(&self, path: &str) -> Result<Option<Vec<std::ffi::OsString>>, Error> {
        let Some(Self { fd }) = self.subdirectory(path)? else { return Ok(None) };
        let names = sys::open_dir_at(&fd, c".", sys::beneath()).and_then(sys::list);
        let mut names = names.map_err(|errno| read_error(path, Failure::read("list it")(errno)))?;
        names.sort_unstable();
        Ok(Some(names))
    }

    /// Whether `path` is a directory, or a link to one.
    ///
    /// # Errors
    ///
    /// [`Error::ReadFile`].
    pub fn is_dir(&self, path: &str) -> Result<bool, Error> {
        Ok(self.stat(path)?.is_some_and(|stat| stat.kind == Kind::Directory))
    }

    fn look(&self, path: &str) -> Result<Option<(OwnedFd, Stat)>, Error> {
        let Some(place) = self.find(path)? else { return Ok(None) };
        let stat = sys::stat(&place)
            .map_err(|errno| read_error(path, Failure::read("look at it")(errno)))?;
        Ok(Some((place, stat)))
    }

    fn find(&self, path: &str) -> Result<Option<OwnedFd>, Error> {
        self.find_with(path, OFlags::empty())
    }

    fn find_with(&self, path: &str, more: OFlags) -> Result<Option<OwnedFd>, Error> {
        match sys::open_path(&self.fd, path, sys::in_root(), more) {
            Ok(place) => Ok(Some(place)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(read_error(path, Failure::read("find it")(errno))),
        }
    }
}

/// Reads a regular file of at most `max` bytes that is open, if only without reading it (`O_PATH`), as
/// the mount of a single file is; `None` if it is none.
///
/// # Errors
///
/// [`Error::FileTooLarge`] or [`Error::ReadFile`], of a path that is empty.
pub fn read_place(place: BorrowedFd<'_>, max: usize) -> Result<Option<Vec<u8>>, Error> {
    let stat =
        sys::stat(place).map_err(|errno| read_error("", Failure::read("look at it")(errno)))?;
    if stat.kind != Kind::Regular {
        return Ok(None);
    }
    read_regular(place, &stat, "", max).map(Some)
}

fn read_regular(
    place: BorrowedFd<'_>,
    stat: &Stat,
    path: &str,
    max: usize,
) -> Result<Vec<u8>, Error> {
    let too_large = || Error::FileTooLarge { path: path.to_owned(), max };
    if stat.size > max as u64 {
        return Err(too_large());
    }
    let file =
        sys::reopen(place).map_err(|errno| read_error(path, Failure::read("open it")(errno)))?;
    let bytes = sys::read_up_to(file, max)
        .map_err(|source| read_error(path, Failure::new(&"read it", source)))?;
    bytes.ok_or_else(too_large)
}

fn read_error(path: &str, source: Failure) -> Error {
    Error::ReadFile { path: path.to_owned(), source }
}

impl AsFd for Rootfs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Rootfs> for OwnedFd {
    fn from(rootfs: Rootfs) -> Self {
        rootfs.fd
    }
}

#[cfg(test)]
mod tests;
