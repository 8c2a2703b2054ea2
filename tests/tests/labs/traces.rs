//! What the kernel has of a system that a process made, where no path of that process is in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What a process is in.
const NAMESPACES: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];

/// The control groups of the system of that name, wherever the host has any.
pub(crate) fn groups(system: &str) -> Vec<String> {
    let mut found = Vec::new();
    find(Path::new("/sys/fs/cgroup"), &format!("tare-lab-{system}"), &mut found);
    found
}

/// Directories of that name, and those in them.
fn find(dir: &Path, name: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        // No link leads out of there.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let path = entry.path();
            if path.components().any(|it| it.as_os_str() == name) {
                found.push(path.display().to_string());
            }
            find(&path, name, found);
        }
    }
}

/// The namespaces that are a system's own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Namespaces(pub(crate) BTreeSet<String>);

impl Namespaces {
    /// Of all processes of a system: its own, and those of its containers.
    pub(crate) fn of(system: &str) -> Self {
        let groups = groups(system);
        let members = groups
            .iter()
            .filter_map(|group| fs::read_to_string(Path::new(group).join("cgroup.procs")).ok());
        let members: Vec<PathBuf> = members
            .flat_map(|text| {
                text.lines().map(|pid| Path::new("/proc").join(pid)).collect::<Vec<_>>()
            })
            .collect();
        let host = of_process(Path::new("/proc/self"));
        Self(
            members
                .iter()
                .flat_map(|process| of_process(process))
                .collect::<BTreeSet<_>>()
                .difference(&host)
                .cloned()
                .collect(),
        )
    }

    /// Who still is in one of them, holds one open, or has one mounted: what is made in a namespace,
    /// a veth pair or a mount, is there exactly as long.
    pub(crate) fn held(&self) -> Vec<String> {
        let mut held = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let process = entry.path();
            let mounted = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
            let all = of_process(&process).into_iter().chain(open(&process));
            let ours = all.filter(|it| self.0.contains(it));
            let bound = self.0.iter().filter(|it| mounted.contains(*it)).cloned();
            held.extend(ours.chain(bound).map(|it| format!("{}: {it}", process.display())));
        }
        held
    }
}

fn of_process(process: &Path) -> BTreeSet<String> {
    let one = |name: &&str| fs::read_link(process.join("ns").join(name)).ok();
    NAMESPACES.iter().filter_map(one).map(|it| it.display().to_string()).collect()
}

/// What a process has open.
fn open(process: &Path) -> Vec<String> {
    let fds = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    fds.filter_map(|fd| Some(fs::read_link(fd.path()).ok()?.display().to_string())).collect()
}
