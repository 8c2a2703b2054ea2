//! Files, with their sizes, modes and owners.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::things::Things;
use super::{Scope, names_in};

/// Everything below the directories of a scope, and they themselves, if they are there.
pub(super) fn of(scope: &Scope) -> Things {
    let mut found = Vec::new();
    for dir in &scope.directories {
        add(dir, &scope.apart, &mut found);
    }
    found.into_iter().collect()
}

fn add(path: &Path, apart: &[PathBuf], found: &mut Vec<(String, String)>) {
    if is_cache(path) || apart.iter().any(|it| it == path) {
        return;
    }
    let Ok(metadata) = fs::symlink_metadata(path) else { return };
    found.push((path.display().to_string(), how(path, &metadata)));
    if metadata.is_dir() {
        for name in names_in(path) {
            add(&path.join(name), apart, found);
        }
    }
}

/// Seccomp profiles that crun has compiled, for all containers to come.
fn is_cache(path: &Path) -> bool {
    path.ends_with("crun/.cache")
}

fn how(path: &Path, metadata: &fs::Metadata) -> String {
    let mode = metadata.mode() & 0o7777;
    let (uid, gid) = (metadata.uid(), metadata.gid());
    format!("{} {mode:04o} {uid}:{gid}", kind_and_size(path, metadata))
}

fn kind_and_size(path: &Path, metadata: &fs::Metadata) -> String {
    let kind = metadata.file_type();
    if kind.is_symlink() {
        let target = fs::read_link(path).unwrap_or_default();
        format!("link to {}", target.display())
    } else if kind.is_dir() {
        "directory".into()
    } else if kind.is_socket() {
        "socket".into()
    } else if kind.is_fifo() {
        "fifo".into()
    } else if kind.is_char_device() || kind.is_block_device() {
        format!("device {}", metadata.rdev())
    } else if grows(path) {
        "file".into()
    } else {
        format!("file of {} bytes", metadata.len())
    }
}

/// Databases, whose rows are compared instead, logs, and who holds a lock.
fn grows(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_log = path.parent().is_some_and(|dir| dir.ends_with("logs")) || name == "log";
    is_log || name == "lock" || [".db", ".db-wal", ".db-shm"].iter().any(|end| name.ends_with(end))
}
