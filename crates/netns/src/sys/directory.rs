//! The directory of namespaces, which `ip netns` uses as well.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, StatxFlags, XattrFlags, fgetxattr, flock,
    fremovexattr, fsetxattr, fstat, mkdir, open, rename, rmdir, stat, statx,
};
use rustix::io::Errno;
use rustix::mount::{
    MountPropagationFlags, UnmountFlags, mount_bind_recursive, mount_change, unmount,
};

use crate::name::NAMESPACE_DIRECTORY;

/// A lock is tried again after so long.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Whoever uses the directory as we do locks it for two system calls; but every local user can, for ever. One
/// that is locked for so long is replaced, if it can be.
const PATIENCE: Duration = Duration::from_secs(1);
/// Where nothing else helps so long is waited.
const LAST_PATIENCE: Duration = Duration::from_secs(4);
/// Where a directory is made that is to replace it. Nobody but root opens this.
const WORKSHOP: &str = "/run/.tare-netns";
const REPLACEMENT: &str = "/run/.tare-netns/netns";

/// Extended attribute of the directory: the id of the mount that was made of it here. Kept where
/// all who use the directory see it, and gone with the next boot, as the mount is.
const MADE: &str = "trusted.tare.mount";

/// As iproute2 does it, under the same lock, so that both can be used side by side. Once it is a
/// mount point nobody is waited for.
pub(super) fn prepare() -> io::Result<()> {
    create()?;
    if is_shared_now()? {
        return Ok(());
    }
    let directory = open_directory()?;
    if lock_for(&directory, PATIENCE)? {
        return make_mount_point();
    }
    if replace()? {
        return Ok(());
    }
    lock(&directory)?;
    make_mount_point()
}

/// Makes it one, if another has not done that meanwhile. Whoever calls this has it locked.
fn make_mount_point() -> io::Result<()> {
    if is_shared_now()? {
        return Ok(());
    }
    mount_bind_recursive(NAMESPACE_DIRECTORY, NAMESPACE_DIRECTORY)?;
    make_shared()?;
    note_as_ours(&open_directory()?)
}

/// Puts another directory in its place, one that nobody has open, and makes that a mount point. Whoever keeps
/// the old one locked has something then that nobody looks at. Only an empty one can be replaced: whether it
/// was.
fn replace() -> io::Result<bool> {
    let _workshop = Workshop::enter()?;
    if is_shared_now()? {
        return Ok(true);
    }
    mkdir(REPLACEMENT, Mode::from_raw_mode(0o755))?;
    let replacement = open_at(REPLACEMENT)?;
    flock(&replacement, FlockOperation::NonBlockingLockExclusive)?;
    match rename(REPLACEMENT, NAMESPACE_DIRECTORY) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(false),
        renamed => renamed?,
    }
    make_mount_point()?;
    Ok(true)
}

/// Whoever is at work where only root can be, one at a time.
struct Workshop {
    _locked: OwnedFd,
}

impl Workshop {
    fn enter() -> io::Result<Self> {
        loop {
            match mkdir(WORKSHOP, Mode::from_raw_mode(0o700)) {
                Err(Errno::EXIST) => {}
                made => made?,
            }
            let workshop = match open_at(WORKSHOP) {
                Err(Errno::NOENT) => continue,
                opened => opened?,
            };
            lock(&workshop)?;
            // Whoever was there before removes it.
            if is_at(&workshop, WORKSHOP)? {
                let entered = Self { _locked: workshop };
                Self::clear();
                return Ok(entered);
            }
        }
    }

    /// What somebody has left there who was killed, or what could not be used.
    fn clear() {
        let _ = rmdir(REPLACEMENT);
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        Self::clear();
        let _ = rmdir(WORKSHOP);
    }
}

fn is_at(directory: &OwnedFd, path: &str) -> io::Result<bool> {
    let its = fstat(directory)?;
    match stat(path) {
        Err(Errno::NOENT) => Ok(false),
        found => Ok(found.map(|it| (it.st_dev, it.st_ino) == (its.st_dev, its.st_ino))?),
    }
}

/// Unmounts the directory from itself, under the same lock, if that was done here, by whichever
/// process, and nothing is in it.
pub(super) fn release() -> io::Result<()> {
    let directory = match open_directory() {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    if !is_to_go(&directory)? {
        return Ok(());
    }
    lock(&directory)?;
    // Another may have begun to use it meanwhile, or may have done it.
    if !is_to_go(&directory)? {
        return Ok(());
    }
    // Lazily, since the lock is held through the mount.
    unmount(NAMESPACE_DIRECTORY, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    Ok(fremovexattr(&directory, MADE)?)
}

/// Whether nobody needs the mount that was made here.
fn is_to_go(directory: &OwnedFd) -> io::Result<bool> {
    let is_empty = fs::read_dir(NAMESPACE_DIRECTORY)?.next().is_none();
    Ok(is_empty && is_ours(directory)?)
}

/// Where the file system has no such attributes, the mount stays when all is over.
fn note_as_ours(directory: &OwnedFd) -> io::Result<()> {
    match fsetxattr(directory, MADE, &mount_id()?.to_ne_bytes(), XattrFlags::empty()) {
        Err(Errno::OPNOTSUPP | Errno::PERM) => Ok(()),
        noted => Ok(noted?),
    }
}

fn is_ours(directory: &OwnedFd) -> io::Result<bool> {
    let mut noted = [0; 8];
    match fgetxattr(directory, MADE, &mut noted) {
        Ok(8) => Ok(u64::from_ne_bytes(noted) == mount_id()?),
        Ok(_) | Err(Errno::NODATA | Errno::RANGE | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// The id of the mount the directory is on at this moment.
fn mount_id() -> io::Result<u64> {
    let found = statx(CWD, NAMESPACE_DIRECTORY, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID)?;
    Ok(found.stx_mnt_id)
}

fn open_directory() -> rustix::io::Result<OwnedFd> {
    open_at(NAMESPACE_DIRECTORY)
}

fn open_at(path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    open(path, flags, Mode::empty())
}

fn lock(directory: &OwnedFd) -> io::Result<()> {
    if lock_for(directory, LAST_PATIENCE)? {
        return Ok(());
    }
    let why = format!("another process keeps {NAMESPACE_DIRECTORY} locked");
    Err(io::Error::new(io::ErrorKind::ResourceBusy, why))
}

/// Whether nobody else had it locked all the time. The lock is given back when the descriptor is closed.
fn lock_for(directory: &OwnedFd, patience: Duration) -> io::Result<bool> {
    let end = Instant::now() + patience;
    loop {
        match flock(directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::AGAIN) if Instant::now() < end => thread::sleep(LOCK_PAUSE),
            Err(Errno::AGAIN) => return Ok(false),
            result => return Ok(result.map(|()| true)?),
        }
    }
}

fn create() -> io::Result<()> {
    match mkdir(NAMESPACE_DIRECTORY, Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) => Ok(()),
        result => Ok(result?),
    }
}

/// Makes it shared if it is a mount point: only if not does the kernel say EINVAL.
fn is_shared_now() -> io::Result<bool> {
    match make_shared() {
        Err(Errno::INVAL) => Ok(false),
        made => Ok(made.map(|()| true)?),
    }
}

/// Makes mounts there show in other mount namespaces that got a copy of it.
fn make_shared() -> rustix::io::Result<()> {
    let flags = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    mount_change(NAMESPACE_DIRECTORY, flags)
}
