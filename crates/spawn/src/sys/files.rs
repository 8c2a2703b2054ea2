use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, MemfdFlags, Mode, OFlags, fchmod, linkat, memfd_create, mknodat,
};

use crate::Place;
use crate::step::Done;

pub(super) fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

pub(super) fn ensure_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).recursive(true).create(path)
}

pub(super) fn make_mount_point(path: &Path) -> io::Result<Done> {
    match make_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Done::Unchanged),
        result => result.map(|()| Done::Changed),
    }
}

pub(super) fn make_mount_file(path: &Path) -> io::Result<Done> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Done::Unchanged),
        result => result.map(|_| Done::Changed),
    }
}

/// Whether a mount is of a directory, and not of a file.
pub(crate) fn is_directory(mount: &OwnedFd) -> io::Result<bool> {
    let mode = rustix::fs::fstat(mount)?.st_mode;
    Ok(rustix::fs::FileType::from_raw_mode(mode).is_dir())
}

/// Refuses while there is anything in a mount point: a recursive removal there would eat the
/// root file system of a container.
pub(super) fn remove_bundle(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let is_place = entry.file_name().to_str().is_some_and(Place::is_name);
        if is_place && entry.file_type()?.is_dir() {
            fs::remove_dir(entry.path())?;
        }
    }
    fs::remove_dir_all(path)
}

/// Unless something is there. It gets its name when it is complete: whoever waits for it sees all of
/// it; on filesystems without nameless files it is filled under its name.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let nameless = options.clone().custom_flags(libc::O_TMPFILE).open(dir);
    let mut file = match nameless {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
            return options.create_new(true).open(path)?.write_all(bytes);
        }
        opened => opened?,
    };
    file.write_all(bytes)?;
    // See open(2) on O_TMPFILE.
    let itself = format!("/proc/thread-self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, itself, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

/// With both ends open here, so that nobody who opens one of them has to wait.
pub(super) fn make_pipe(path: &Path) -> io::Result<OwnedFd> {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Whoever opens it by its descriptor can read and run it, as root.
pub(super) fn make_script(text: &str) -> io::Result<OwnedFd> {
    let script = memfd_create(c"tare-script", MemfdFlags::CLOEXEC)?;
    fchmod(&script, Mode::RWXU)?;
    rustix::io::write(&script, text.as_bytes())?;
    Ok(script)
}

/// A line, which fits into an empty pipe.
pub(super) fn say(pipe: &OwnedFd, word: &str) -> io::Result<()> {
    rustix::io::write(pipe, format!("{word}\n").as_bytes())?;
    Ok(())
}

/// In one call, so that as little as can be is seen of it half done.
pub(super) fn write_over(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let written = OpenOptions::new().write(true).open(path)?.write_at(bytes, 0)?;
    if written == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_with_something_in_its_mount_point_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join("b");
        ensure_dir(&bundle.join("rootfs")).unwrap();
        write_file(&bundle.join("rootfs/precious"), b"").unwrap();
        assert!(remove_bundle(&bundle).is_err());
        assert!(bundle.join("rootfs/precious").exists());
        fs::remove_file(bundle.join("rootfs/precious")).unwrap();
        remove_bundle(&bundle).unwrap();
        assert!(!bundle.exists());
    }

    #[test]
    fn what_is_written_over_a_file_leaves_its_end_and_its_inode() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "long\n").unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        write_over(&path, b"s\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"s\nng\n");
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
        assert!(write_over(&dir.path().join("none"), b"").is_err());
    }
}
