use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsmount, fsopen, mount_change, move_mount,
    open_tree, unmount,
};
use rustix::thread::{
    ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces, unshare_unsafe,
};

use crate::step::Done;

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
    seal(&tree)?;
    Ok(Done::Fd(Arc::new(tree)))
}

/// Makes a whole tree read-only, and private: where the host's mounts are shared, as systemd has
/// them, a clone is a peer of the original, and what is mounted and unmounted on the one is on the
/// other. `mount_setattr(2)`, which rustix lacks.
fn seal(tree: &OwnedFd) -> io::Result<()> {
    // SAFETY: the structure holds plain integers only, for which zero is a value.
    let mut attributes: libc::mount_attr = unsafe { mem::zeroed() };
    attributes.attr_set = libc::MOUNT_ATTR_RDONLY;
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
