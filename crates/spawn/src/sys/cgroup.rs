use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, unlinkat,
};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::step::Done;
use crate::{CgroupPath, Extent};

/// How long killed processes may take to leave their group.
const CLEAR_LIMIT: Duration = Duration::from_secs(10);
/// First and longest pause between two looks.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

pub(super) fn make(root: &OwnedFd, path: &CgroupPath) -> io::Result<Done> {
    match mkdirat(root, path.relative(), Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(Done::Changed),
        Err(Errno::EXIST) => Ok(Done::Unchanged),
        Err(errno) => Err(errno.into()),
    }
}

pub(super) fn remove(root: &OwnedFd, path: &CgroupPath) -> io::Result<Done> {
    match unlinkat(root, path.relative(), AtFlags::REMOVEDIR) {
        Ok(()) => Ok(Done::Changed),
        // It has gone, or others use it.
        Err(Errno::NOENT | Errno::NODEV | Errno::BUSY) => Ok(Done::Unchanged),
        Err(errno) => Err(errno.into()),
    }
}

pub(super) fn clear(root: &OwnedFd, path: &CgroupPath, extent: Extent) -> io::Result<Done> {
    match kill(root, path.relative()) {
        Err(error) if is_absent(&error) => return Ok(Done::Unchanged),
        result => result?,
    }
    let end = Instant::now() + CLEAR_LIMIT;
    let mut pause = PAUSES.0;
    loop {
        let removed = match extent {
            Extent::Whole => remove_tree(root, path.relative()),
            Extent::Below => open(root, path.relative()).and_then(|group| remove_below(&group)),
        };
        match removed {
            Err(error) if is_absent(&error) => return Ok(Done::Changed),
            Err(error) if !is_busy(&error) || Instant::now() >= end => return Err(error),
            Err(_) => thread::sleep(pause),
            Ok(()) => return Ok(Done::Changed),
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

pub(super) fn join(root: &OwnedFd, path: &CgroupPath, pid: u32) -> io::Result<()> {
    write(&open(root, path.relative())?, "cgroup.procs", &pid.to_string())
}

/// The processes in a control group and those below it, at most `max`; what ends or comes meanwhile
/// may be missing, as does what cannot be read.
pub(crate) fn processes(root: &OwnedFd, path: &CgroupPath, max: usize) -> Vec<(Pid, OwnedFd)> {
    let mut found = Vec::new();
    if let Ok(group) = open(root, path.relative()) {
        collect(&group, max, &mut found);
    }
    found
}

fn collect(group: &OwnedFd, max: usize, found: &mut Vec<(Pid, OwnedFd)>) {
    let open = |pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?));
    let room = max.saturating_sub(found.len());
    let opened: Vec<_> = members(group).into_iter().take(room).filter_map(open).collect();
    // Still here after it was opened, so it was not another of the same pid by then.
    let still = members(group);
    found.extend(opened.into_iter().filter(|(pid, _)| still.contains(pid)));
    for child in children(group).unwrap_or_default() {
        if let Ok(child) = self::open(group, child.as_ref()) {
            collect(&child, max, found);
        }
    }
}

/// The processes right in a group.
fn members(group: &OwnedFd) -> HashSet<Pid> {
    let read = || -> io::Result<String> {
        let file = openat(group, "cgroup.procs", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        io::read_to_string(File::from(file))
    };
    let pids = read().unwrap_or_default();
    pids.lines().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

fn kill(root: &OwnedFd, path: &Path) -> io::Result<()> {
    write(&open(root, path)?, "cgroup.kill", "1")
}

pub(super) fn open(dir: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(openat2(dir, path, flags, Mode::empty(), within)?)
}

fn write(dir: &OwnedFd, file: &str, text: &str) -> io::Result<()> {
    let file = openat(dir, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(file, text.as_bytes())?;
    Ok(())
}

/// Removes the groups below `path`, then it. No deeper than paths of [`CgroupPath`] can be.
fn remove_tree(dir: &OwnedFd, path: &Path) -> io::Result<()> {
    remove_below(&open(dir, path)?)?;
    Ok(unlinkat(dir, path, AtFlags::REMOVEDIR)?)
}

fn remove_below(group: &OwnedFd) -> io::Result<()> {
    for child in children(group)? {
        match remove_tree(group, child.as_ref()) {
            Err(error) if is_absent(&error) => {}
            result => result?,
        }
    }
    Ok(())
}

/// The names of the groups right below.
fn children(dir: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir.as_fd())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        if entry.file_type() == FileType::Directory && name != "." && name != ".." {
            names.push(name.into_owned());
        }
    }
    Ok(names)
}

/// No such group, or one that is being removed by somebody else.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBUSY)
}
