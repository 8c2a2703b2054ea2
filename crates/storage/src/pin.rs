//! Things of the host, pinned by what they are and not by what they are called.

use std::ffi::OsString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Failure};
use crate::sys;

/// A file or directory of the host as it was when it was pinned; to be written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// Where the filesystem gives none, the other two have to do.
    handle: Option<(i32, Vec<u8>)>,
}

impl Pin {
    /// Pins what `file` is open on, which may be open without reading it (`O_PATH`).
    ///
    /// # Errors
    ///
    /// [`Error::Pin`], also for what has no path, such as a pipe.
    pub fn of(file: BorrowedFd<'_>) -> Result<Self, Error> {
        let fail = |source| Error::Pin { source };
        let path = sys::path_of(file).map_err(Failure::read("find its path")).map_err(fail)?;
        let path = PathBuf::from(path);
        if !path.is_absolute() {
            return Err(fail(Failure::read("find its path")(Errno::NOENT)));
        }
        let pin = Self::facts(file, path).map_err(fail)?;
        // What was deleted, or is out of reach, is found out here and not at the next start.
        pin.reopen().map(|_| pin)
    }

    fn facts(file: BorrowedFd<'_>, path: PathBuf) -> Result<Self, Failure> {
        let stat = sys::stat(file).map_err(Failure::read("look at it"))?;
        let handle = sys::handle(file).map_err(Failure::read("get its handle"))?;
        Ok(Self { path, device: stat.device, inode: stat.inode, handle })
    }

    /// Opens it again (`O_PATH`), if it is still what was pinned.
    ///
    /// # Errors
    ///
    /// [`Error::PinMoved`] if nothing or something else is there, or its path leads over a link by
    /// now; [`Error::Reopen`].
    pub fn reopen(&self) -> Result<OwnedFd, Error> {
        let moved = || Error::PinMoved { path: self.path.clone() };
        let fail = |source| Error::Reopen { path: self.path.clone(), source };
        let resolve = ResolveFlags::NO_SYMLINKS;
        let place = sys::open_path(rustix::fs::CWD, &*self.path, resolve, OFlags::NOFOLLOW);
        let place = match place {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(moved()),
            other => other.map_err(Failure::read("open it")).map_err(fail)?,
        };
        let now = Self::facts(place.as_fd(), self.path.clone()).map_err(fail)?;
        if now == *self { Ok(place) } else { Err(moved()) }
    }

    /// Where it was.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Number of its filesystem.
    pub fn device(&self) -> u64 {
        self.device
    }

    /// Its number there.
    pub fn inode(&self) -> u64 {
        self.inode
    }
}

impl From<&Pin> for OsString {
    fn from(pin: &Pin) -> Self {
        pin.path.clone().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn pin(path: &std::path::Path) -> Result<Pin, Error> {
        Pin::of(fs::File::open(path).unwrap().as_fd())
    }

    #[test]
    fn what_is_still_there_is_opened_again() {
        let world = tempfile::tempdir().unwrap();
        let file = world.path().join("file");
        fs::write(&file, "x").unwrap();
        for path in [&*file, world.path()] {
            let pin = pin(path).unwrap();
            let text = serde_json::to_string(&pin).unwrap();
            let pin: Pin = serde_json::from_str(&text).unwrap();
            assert_eq!(pin.path(), path);
            let again = pin.reopen().unwrap();
            assert_eq!(sys::stat(&again).unwrap().inode, pin.inode());
        }
        // Another name of it is no other file.
        fs::write(&file, "changed in place").unwrap();
        pin(&file).unwrap().reopen().unwrap();
    }

    #[test]
    fn what_is_another_thing_by_now_is_refused() {
        let world = tempfile::tempdir().unwrap();
        let at = |name: &str| world.path().join(name);
        let replace: [(&str, &dyn Fn()); 4] = [
            ("gone", &|| fs::remove_file(at("d/file")).unwrap()),
            ("replaced", &|| {
                fs::write(at("d/new"), "x").unwrap();
                fs::rename(at("d/new"), at("d/file")).unwrap();
            }),
            ("a link to it", &|| {
                fs::rename(at("d/file"), at("d/moved")).unwrap();
                std::os::unix::fs::symlink("moved", at("d/file")).unwrap();
            }),
            ("a link on the way", &|| {
                fs::rename(at("d"), at("e")).unwrap();
                std::os::unix::fs::symlink("e", at("d")).unwrap();
            }),
        ];
        for (about, act) in replace {
            fs::create_dir(at("d")).unwrap();
            fs::write(at("d/file"), "x").unwrap();
            let pin = pin(&at("d/file")).unwrap();
            act();
            let error = pin.reopen().unwrap_err();
            assert!(matches!(error, Error::PinMoved { .. }), "{about}: {error:?}");
            for name in ["d", "e"] {
                let _ = fs::remove_file(at(name));
                let _ = fs::remove_dir_all(at(name));
            }
        }
    }

    #[test]
    fn what_has_no_path_is_not_pinned() {
        let (pipe, _) = std::io::pipe().unwrap();
        assert!(matches!(Pin::of(pipe.as_fd()), Err(Error::Pin { .. })));
        let deleted = tempfile::tempfile().unwrap();
        assert!(matches!(Pin::of(deleted.as_fd()), Err(Error::PinMoved { .. })));
    }
}
