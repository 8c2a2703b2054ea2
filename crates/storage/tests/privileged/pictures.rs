//! Trees, compared in all that an archive keeps.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use tare_storage::Digest;

/// Every path below `top` (which is ".") with type, mode, owner, time, attributes, device numbers,
/// content, and the first of its names if it has several. Sizes of directories are no part of it.
pub(crate) fn tree(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    walk(top, &PathBuf::from("."), &mut found);
    let mut first: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
    let mut lines = BTreeMap::new();
    for (path, (meta, mut line)) in found {
        if !meta.is_dir() && meta.nlink() > 1 {
            let name = first.entry((meta.dev(), meta.ino())).or_insert_with(|| path.clone());
            line += &format!(" = {}", name.display());
        }
        lines.insert(path, line);
    }
    lines
}

/// What differs, to be shown.
pub(crate) fn difference(
    left: &BTreeMap<PathBuf, String>,
    right: &BTreeMap<PathBuf, String>,
) -> String {
    let mut lines = String::new();
    for path in left.keys().chain(right.keys()).collect::<std::collections::BTreeSet<_>>() {
        if left.get(path) != right.get(path) {
            lines +=
                &format!("{}: {:?} != {:?}\n", path.display(), left.get(path), right.get(path));
        }
        if lines.len() > 4000 {
            break;
        }
    }
    lines
}

type Found = BTreeMap<PathBuf, (fs::Metadata, String)>;

fn walk(top: &Path, below: &Path, found: &mut Found) {
    let path = top.join(below);
    let meta = fs::symlink_metadata(&path).unwrap();
    let mut line = format!(
        "{:o} {}:{} {}.{:09}",
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.mtime(),
        meta.mtime_nsec()
    );
    let kind = meta.file_type();
    if kind.is_char_device() || kind.is_block_device() {
        line += &format!(" {}", meta.rdev());
    }
    if kind.is_symlink() {
        line += &format!(" -> {}", fs::read_link(&path).unwrap().display());
    } else {
        line += &attributes(&path);
    }
    if kind.is_file() {
        line += &format!(" {} {}", meta.size(), Digest::of(&fs::read(&path).unwrap()));
    }
    if kind.is_dir() {
        for entry in fs::read_dir(&path).unwrap() {
            walk(top, &below.join(entry.unwrap().file_name()), found);
        }
    }
    found.insert(below.to_owned(), (meta, line));
}

fn attributes(path: &Path) -> String {
    let mut names = vec![0; 10_000];
    let bytes = path.as_os_str().as_bytes();
    let len = rustix::fs::llistxattr(bytes, &mut names[..]).unwrap_or(0);
    let mut lines: Vec<String> = names[..len]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty() && !name.starts_with(b"trusted."))
        .map(|name| {
            let mut value = vec![0; 70_000];
            let len = rustix::fs::lgetxattr(bytes, name, &mut value[..]).unwrap();
            format!(" {}={:?}", String::from_utf8_lossy(name), &value[..len])
        })
        .collect();
    lines.sort();
    lines.concat()
}
