//! Reading in a root that somebody else fills.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::{Error, Failure};
use crate::sys::{self, Kind};

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
        let Some(place) = self.find(path)? else { return Ok(None) };
        let fail = |step| move |errno| read_error(path, Failure::read(step)(errno));
        let too_large = || Error::FileTooLarge { path: path.to_owned(), max };
        let stat = sys::stat(&place).map_err(fail("look at it"))?;
        if stat.kind != Kind::Regular {
            return Err(Error::NotRegular { path: path.to_owned() });
        }
        if stat.size > max as u64 {
            return Err(too_large());
        }
        let file = sys::reopen(place.as_fd()).map_err(fail("open it"))?;
        let bytes = sys::read_up_to(file, max)
            .map_err(|source| read_error(path, Failure::new(&"read it", source)))?;
        bytes.map(Some).ok_or_else(too_large)
    }

    /// Whether `path` is a directory, or a link to one.
    ///
    /// # Errors
    ///
    /// [`Error::ReadFile`].
    pub fn is_dir(&self, path: &str) -> Result<bool, Error> {
        let Some(place) = self.find(path)? else { return Ok(false) };
        let stat = sys::stat(&place)
            .map_err(|errno| read_error(path, Failure::read("look at it")(errno)))?;
        Ok(stat.kind == Kind::Directory)
    }

    fn find(&self, path: &str) -> Result<Option<OwnedFd>, Error> {
        match sys::open_path(&self.fd, path, sys::in_root(), OFlags::empty()) {
            Ok(place) => Ok(Some(place)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(read_error(path, Failure::read("find it")(errno))),
        }
    }
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
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    /// A directory with a root in it and a secret beside that.
    fn world() -> (tempfile::TempDir, Rootfs) {
        let world = tempfile::tempdir().unwrap();
        let root = world.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(world.path().join("secret"), "host").unwrap();
        let fd = fs::File::open(&root).unwrap().into();
        (world, Rootfs::from_fd(fd))
    }

    #[test]
    fn links_end_at_the_root() {
        let (world, rootfs) = world();
        let root = world.path().join("root");
        fs::write(root.join("etc/passwd"), "inside").unwrap();
        symlink("/etc/passwd", root.join("absolute")).unwrap();
        symlink("../../../../etc/passwd", root.join("up")).unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let read = |path: &str| rootfs.read_file(path, 100);
        for path in ["etc/passwd", "/etc/passwd", "../etc/passwd", "absolute", "up"] {
            assert_eq!(read(path).unwrap().as_deref(), Some(&b"inside"[..]), "{path}");
        }
        for path in ["out", "../secret", "nowhere", "etc/passwd/x", "no/where"] {
            assert_eq!(read(path).unwrap(), None, "{path}");
        }
        for path in ["loop", "", "a\0b"] {
            assert!(matches!(read(path), Ok(None) | Err(Error::ReadFile { .. })), "{path:?}");
        }
        assert!(matches!(read("loop"), Err(Error::ReadFile { .. })));
    }

    #[test]
    fn only_regular_files_are_read_and_nothing_is_waited_for() {
        let (world, rootfs) = world();
        let root = world.path().join("root");
        let made = std::process::Command::new("mkfifo").arg(root.join("fifo")).status().unwrap();
        assert!(made.success());
        let _listener = UnixListener::bind(root.join("socket")).unwrap();
        for path in ["fifo", "socket", "etc", "/"] {
            let error = rootfs.read_file(path, 100).unwrap_err();
            assert!(matches!(error, Error::NotRegular { .. }), "{path}: {error:?}");
        }
    }

    #[test]
    fn size_is_bounded_to_the_byte() {
        let (world, rootfs) = world();
        fs::write(world.path().join("root/five"), "12345").unwrap();
        assert_eq!(rootfs.read_file("five", 5).unwrap().as_deref(), Some(&b"12345"[..]));
        let error = rootfs.read_file("five", 4).unwrap_err();
        assert!(matches!(error, Error::FileTooLarge { max: 4, .. }), "{error:?}");
        // Files whose size is not known before they are read say 0.
        let proc = Rootfs::from_fd(fs::File::open("/proc/self").unwrap().into());
        let error = proc.read_file("status", 10).unwrap_err();
        assert!(matches!(error, Error::FileTooLarge { .. }), "{error:?}");
    }

    #[test]
    fn directories_are_told_from_the_rest() {
        let (world, rootfs) = world();
        let root = world.path().join("root");
        fs::write(root.join("file"), "").unwrap();
        symlink("/etc", root.join("link")).unwrap();
        for (path, want) in
            [("etc", true), ("/", true), ("link", true), ("file", false), ("nowhere", false)]
        {
            assert_eq!(rootfs.is_dir(path).unwrap(), want, "{path}");
        }
    }
}
