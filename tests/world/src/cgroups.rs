//! Control groups.

use std::fs;
use std::path::{Path, PathBuf};

use super::things::Things;
use super::{Scope, names_in};

/// All of the scope, those within others after them.
pub fn all(scope: &Scope) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for groups in &scope.groups {
        let names = names_in(&groups.parent).into_iter();
        for name in names.filter(|name| name.starts_with(&groups.prefix)) {
            add(&groups.parent.join(name), &mut found);
        }
    }
    found
}

/// Files are what the kernel has to say of a group; directories are the groups.
fn add(group: &Path, found: &mut Vec<PathBuf>) {
    if !group.is_dir() {
        return;
    }
    found.push(group.into());
    for name in names_in(group) {
        add(&group.join(name), found);
    }
}

pub(super) fn things(scope: &Scope) -> Things {
    all(scope).iter().map(|path| (path.display().to_string(), String::new())).collect()
}

/// The processes of a group, without those of groups within.
pub(super) fn processes_of(group: &Path) -> Vec<i32> {
    let list = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    list.lines().filter_map(|pid| pid.parse().ok()).collect()
}
