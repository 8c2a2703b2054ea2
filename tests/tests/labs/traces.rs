//! What the kernel has of a system that a process made, where no path of that process is in it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
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

/// The namespaces that are a system's own, by their names. They are kept open: the kernel gives the name of
/// one that is gone to the next that anybody makes.
#[derive(Debug)]
pub(crate) struct Namespaces(BTreeMap<String, File>);

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
        let mut own: BTreeMap<_, _> = members.iter().flat_map(|it| of_process(it)).collect();
        own.retain(|name, _| !host.contains_key(name));
        Self(own)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether one is among the `others`.
    pub(crate) fn share(&self, others: &Self) -> bool {
        self.0.keys().any(|name| others.0.contains_key(name))
    }

    /// Who else still is in one of them, holds one open, or has one mounted: what is made in a namespace,
    /// a veth pair or a mount, is there exactly as long.
    pub(crate) fn held(&self) -> Vec<String> {
        let own = Path::new("/proc").join(std::process::id().to_string());
        let mut held = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            // A link is to this very process.
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let process = entry.path();
            let mounted = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
            let mut all: Vec<String> = of_process(&process).into_keys().collect();
            if process != own {
                all.extend(open(&process));
            }
            let ours = all.into_iter().filter(|it| self.0.contains_key(it));
            let bound = self.0.keys().filter(|it| mounted.contains(*it)).cloned();
            held.extend(ours.chain(bound).map(|it| format!("{}: {it}", process.display())));
        }
        held
    }
}

/// Those that a process is in.
fn of_process(process: &Path) -> BTreeMap<String, File> {
    let one = |name: &&str| {
        let namespace = File::open(process.join("ns").join(name)).ok()?;
        let name = fs::read_link(format!("/proc/self/fd/{}", namespace.as_raw_fd())).ok()?;
        Some((name.display().to_string(), namespace))
    };
    NAMESPACES.iter().filter_map(one).collect()
}

/// What a process has open.
fn open(process: &Path) -> Vec<String> {
    let fds = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    fds.filter_map(|fd| Some(fs::read_link(fd.path()).ok()?.display().to_string())).collect()
}
