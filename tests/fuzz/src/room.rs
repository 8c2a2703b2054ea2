//! A directory in which something hostile is unpacked, beside something that it may not reach.

use std::fs::{self, File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tare_storage::{Limits, Rootfs};
use tempfile::TempDir;

const SECRET: &str = "outside/secret";
const ITS_CONTENT: &str = "of the host";

/// The room, which goes with the value.
pub(crate) struct Room {
    dir: TempDir,
    before: Vec<String>,
}

impl Room {
    /// With these directories in it, empty.
    pub(crate) fn new(directories: &[&str]) -> Self {
        // In memory: or most of the time would be one of flushing.
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        for name in directories.iter().chain(&["outside"]) {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join(SECRET), ITS_CONTENT).unwrap();
        let before = outside(dir.path());
        Self { dir, before }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A directory as a root.
    pub(crate) fn root(&self, name: &str) -> Rootfs {
        Rootfs::from_fd(OwnedFd::from(File::open(self.path(name)).unwrap()))
    }

    /// That all beside a directory is as it was, and nothing in it leads to more than files.
    pub(crate) fn assert_kept_to(&self, name: &str) {
        assert_eq!(outside(self.dir.path()), self.before, "something outside was touched");
        assert_only_files(&self.path(name));
    }
}

impl Drop for Room {
    /// Who is not root cannot take away what is in a directory that is closed.
    fn drop(&mut self) {
        if !rustix::process::geteuid().is_root() {
            open_all(self.dir.path());
        }
    }
}

/// What is unpacked at once, so that a thousand times of it take no time.
pub(crate) fn limits() -> Limits {
    Limits::default().with_entries(500).with_bytes(1 << 20).with_depth(100)
}

/// All that may not change: the names there are, and the secret with its links and its time.
fn outside(top: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for dir in [top.to_owned(), top.join("outside")] {
        let meta = fs::symlink_metadata(&dir).unwrap();
        let names = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        let mut names: Vec<_> = names.map(|path| path.display().to_string()).collect();
        names.sort();
        lines.push(format!("{names:?} {:o} {}:{}", meta.mode(), meta.uid(), meta.gid()));
    }
    let meta = fs::symlink_metadata(top.join(SECRET)).unwrap();
    let (mode, size) = (meta.mode(), meta.size());
    let time = (meta.mtime(), meta.mtime_nsec());
    lines.push(format!("{} {mode:o} {size} {time:?} {}:{}", meta.nlink(), meta.uid(), meta.gid()));
    lines.push(fs::read_to_string(top.join(SECRET)).unwrap());
    lines
}

/// A device that anybody may open is a way to the host; but for the one of overlayfs that hides a file.
fn assert_only_files(dir: &Path) {
    // Who is not root cannot look into what is closed.
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let is_device = kind.is_block_device() || kind.is_char_device();
        assert!(!is_device || meta.rdev() == 0, "{}", path.display());
        if kind.is_dir() {
            assert_only_files(&path);
        }
    }
}

fn open_all(dir: &Path) {
    let _ = fs::set_permissions(dir, Permissions::from_mode(0o700));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_all(&entry.path());
        }
    }
}
