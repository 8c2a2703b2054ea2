use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, StatVfsMountFlags, fstatvfs, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsmount, fsopen, mount_change, move_mount,
    open_tree, unmount,
};
use rustix::thread::{
    ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces, unshare_unsafe,
};

use crate::step::Done;

/// `MOVE_MOUNT_BENEATH` (Linux 6.5), which rustix lacks.
const BENEATH: MoveMountFlags = MoveMountFlags::from_bits_retain(0x200);
/// A path in the mount namespace of this thread, and nothing else.
const PATH: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the callers do not unshare the descriptor table, which is what the function is
    // unsafe for.
    Ok(unsafe { unshare_unsafe(flags) }?)
}

pub(super) fn new_view() -> io::Result<()> {
    // This implies a root and working directory of the thread's own.
    unshare(UnshareFlags::NEWNS)
}

pub(super) fn slave_view() -> io::Result<()> {
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    Ok(mount_change("/", flags)?)
}

pub(super) fn enter_view(pidfd: &OwnedFd) -> io::Result<()> {
    // A thread that shares its root and working directory with others cannot change namespaces.
    unshare(UnshareFlags::FS)?;
    Ok(move_into_thread_name_spaces(pidfd.as_fd(), ThreadNameSpaceType::MOUNT)?)
}

pub(super) fn mount_cgroup2() -> io::Result<Done> {
    let cgroup2 = fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(cgroup2.as_fd())?;
    let safe = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(cgroup2.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, safe)?;
    Ok(Done::Fd(Arc::new(mount)))
}

pub(super) fn clone_host_root() -> io::Result<Done> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, "/", flags)?;
    set_attributes(&tree, libc::MOUNT_ATTR_RDONLY)?;
    Ok(Done::Fd(Arc::new(tree)))
}

/// Sets attributes of a whole tree, and makes it private: where the host's mounts are shared, as
/// systemd has them, a clone is a peer of the original, and what is mounted and unmounted on the one
/// is on the other. `mount_setattr(2)`, which rustix lacks.
fn set_attributes(tree: &OwnedFd, set: u64) -> io::Result<()> {
    // SAFETY: the structure holds plain integers only, for which zero is a value.
    let mut attributes: libc::mount_attr = unsafe { mem::zeroed() };
    attributes.attr_set = set;
    attributes.propagation = libc::MS_PRIVATE;
    // SAFETY: the path is a C string, the structure lives through the call and its size is right.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

pub(super) fn place(mount: &OwnedFd, at: &Path) -> io::Result<()> {
    move_mount(mount, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    // Whatever it was a peer of, nothing that happens on it from here on may reach the host. What is
    // private stays so; what is to hear of the host's mounts goes on to.
    Ok(mount_change(at, MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?)
}

pub(super) fn detach(at: &Path) -> io::Result<()> {
    Ok(unmount(at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?)
}

pub(super) fn clone_file(path: &Path) -> io::Result<Done> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    Ok(Done::Fd(Arc::new(open_tree(CWD, path, flags)?)))
}

pub(super) fn like(mount: &OwnedFd, other: &OwnedFd) -> io::Result<()> {
    let flags = fstatvfs(other)?.f_flag;
    let known = [
        (StatVfsMountFlags::RDONLY, libc::MOUNT_ATTR_RDONLY),
        (StatVfsMountFlags::NOSUID, libc::MOUNT_ATTR_NOSUID),
        (StatVfsMountFlags::NODEV, libc::MOUNT_ATTR_NODEV),
        (StatVfsMountFlags::NOEXEC, libc::MOUNT_ATTR_NOEXEC),
    ];
    let set = known.iter().filter(|(flag, _)| flags.contains(*flag));
    set_attributes(mount, set.fold(0, |all, (_, attribute)| all | attribute))
}

pub(super) fn place_beneath(mount: &OwnedFd, top: &OwnedFd) -> io::Result<()> {
    let by_descriptor =
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", top, "", by_descriptor | BENEATH)?)
}

/// Unmounts the mount that `top` is the root of, whatever is found there by name by now. Moves this
/// thread's working directory.
pub(super) fn detach_known(top: &OwnedFd, fds: &OwnedFd) -> io::Result<()> {
    rustix::process::fchdir(fds)?;
    Ok(unmount(top.as_raw_fd().to_string(), UnmountFlags::DETACH)?)
}

/// Whether a mount can be attached beneath another.
pub(crate) fn can_mount_beneath() -> bool {
    // A kernel that knows the flag finds nothing at the empty path; another one looks at the flags
    // first.
    move_mount(CWD, "", CWD, "", BENEATH) != Err(Errno::INVAL)
}

/// Where this thread's descriptors are found by their numbers, also from another mount namespace.
pub(crate) fn thread_fds() -> io::Result<OwnedFd> {
    let flags = PATH | OFlags::DIRECTORY;
    Ok(rustix::fs::open("/proc/thread-self/fd", flags, Mode::empty())?)
}

/// What the mount namespace of this thread has at a path, whose symbolic links lead nowhere but
/// inside of it; nothing if that is nowhere. It is looked at, not opened: it may be a device.
pub(crate) fn seen_at(path: &str) -> io::Result<Option<OwnedFd>> {
    let root = rustix::fs::open("/", PATH | OFlags::DIRECTORY, Mode::empty())?;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match openat2(root, path, PATH, Mode::empty(), inside) {
        Ok(seen) => Ok(Some(seen)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
