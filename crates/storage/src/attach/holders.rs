use std::fmt;
use std::fs;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use rustix::fs::{CWD, OFlags, ResolveFlags};

use crate::names::FileName;
use crate::sys;

/// Holders that are named at most.
const MAX_HOLDERS: usize = 16;

/// A process that uses a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// The name of its program, as it calls itself.
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.pid, self.name)
    }
}

/// Who has a working directory, a root, a program or an open file in the mount over a name.
///
/// What cannot be found out is left out: this only makes an error clearer.
pub(super) fn of(dir: BorrowedFd<'_>, name: &FileName) -> Vec<Holder> {
    let place = sys::open_path(dir, name.as_os_str(), ResolveFlags::empty(), OFlags::NOFOLLOW);
    let Ok(mount) = place.and_then(|place| sys::mount_id(place.as_fd())) else {
        return Vec::new();
    };
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let holders = pids.filter_map(|pid: u32| {
        let process = Path::new("/proc").join(pid.to_string());
        uses(&process, mount).then(|| holder(pid, &process))
    });
    holders.take(MAX_HOLDERS).collect()
}

fn holder(pid: u32, process: &Path) -> Holder {
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    Holder { pid, name: name.trim_end().to_owned() }
}

fn uses(process: &Path, mount: u64) -> bool {
    let at = |link| {
        let place = sys::open_path(CWD, process.join(link), ResolveFlags::empty(), OFlags::empty());
        place.and_then(|place| sys::mount_id(place.as_fd())).is_ok_and(|id| id == mount)
    };
    ["cwd", "root", "exe"].into_iter().any(at) || has_open(process, mount)
}

fn has_open(process: &Path, mount: u64) -> bool {
    let Ok(files) = fs::read_dir(process.join("fdinfo")) else { return false };
    files.filter_map(|file| fs::read_to_string(file.ok()?.path()).ok()).any(|facts| {
        let id = facts.lines().find_map(|line| line.strip_prefix("mnt_id:"));
        id.and_then(|id| id.trim().parse().ok()) == Some(mount)
    })
}
