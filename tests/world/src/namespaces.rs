//! Network namespaces that have a name.

use std::fs::File;
use std::path::Path;

use rustix::fs::{fstat, fstatfs};

use super::names_in;
use super::things::Things;

/// Where their names are.
const DIRECTORY: &str = "/run/netns";
/// `NSFS_MAGIC` of linux/magic.h: a namespace is bound to the file.
const NSFS: u64 = 0x6e73_6673;

/// Each name, and what is bound to it.
pub(super) fn named() -> Things {
    names_in(Path::new(DIRECTORY)).into_iter().map(|name| (name.clone(), bound(&name))).collect()
}

fn bound(name: &str) -> String {
    let Ok(file) = File::open(Path::new(DIRECTORY).join(name)) else { return "gone".into() };
    let is_namespace = fstatfs(&file).is_ok_and(|it| u64::try_from(it.f_type) == Ok(NSFS));
    match fstat(&file) {
        Ok(stat) if is_namespace => format!("inode {}", stat.st_ino),
        _ => "an empty name".into(),
    }
}
