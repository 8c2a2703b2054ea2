//! Namespaces, their files, and what is set by file in `/proc/sys`.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, StatxAttributes, StatxFlags, flock, fstat, fstatfs,
    open, statx,
};
use rustix::io::Errno;
use rustix::mount::{
    MountPropagationFlags, UnmountFlags, mount_bind, mount_bind_recursive, mount_change, unmount,
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::NamespaceName;
use crate::name::NAMESPACE_DIRECTORY;

/// `NSFS_MAGIC` of linux/magic.h: what namespaces are files of.
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// The network namespace of the calling thread; `/proc/self` would be that of the main thread.
const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// An unmount is tried so often while the kernel says it is busy, with so long a pause between:
/// half a second in all, far more than a lookup that walks over the mount point takes.
const UNMOUNT_TRIES: u32 = 50;
const UNMOUNT_PAUSE: Duration = Duration::from_millis(10);

/// Runs `body` on a new thread, which has the caller's namespaces at first.
fn on_own_thread<T: Send>(body: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".into()).spawn_scoped(scope, body)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

pub(crate) fn enter<T: Send>(
    namespace: BorrowedFd<'_>,
    body: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    on_own_thread(|| {
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
        Ok(body())
    })
}

/// The namespace at `path` and its inode; `None` if another file is there.
pub(crate) fn open_namespace(path: &Path) -> io::Result<Option<(OwnedFd, u64)>> {
    let fd = open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?;
    #[expect(clippy::useless_conversion, reason = "the type differs between architectures")]
    if i64::from(fstatfs(&fd)?.f_type) != NSFS_MAGIC {
        return Ok(None);
    }
    let inode = fstat(&fd)?.st_ino;
    Ok(Some((fd, inode)))
}

/// As iproute2 does it, under the same lock, so that both can be used side by side.
pub(super) fn prepare_directory() -> io::Result<()> {
    create_directory()?;
    let _locked = lock_directory()?;
    // Not a mount point yet: only then does the kernel say EINVAL.
    if make_shared() == Err(Errno::INVAL) {
        mount_bind_recursive(NAMESPACE_DIRECTORY, NAMESPACE_DIRECTORY)?;
        make_shared()?;
    }
    Ok(())
}

/// Unmounts the directory from itself if nothing is in it, under the same lock.
pub(super) fn release_directory() -> io::Result<()> {
    let _locked = match lock_directory() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        locked => locked?,
    };
    if fs::read_dir(NAMESPACE_DIRECTORY)?.next().is_some() {
        return Ok(());
    }
    // Lazily, since the lock is held through the mount.
    match unmount(NAMESPACE_DIRECTORY, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // "Not a mount point".
        Err(Errno::INVAL) => Ok(()),
        result => Ok(result?),
    }
}

/// Whether the directory is a mount point by now.
pub(crate) fn directory_is_prepared() -> io::Result<bool> {
    let attribute = StatxAttributes::MOUNT_ROOT;
    match statx(CWD, NAMESPACE_DIRECTORY, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty()) {
        Ok(found) => Ok(found.stx_attributes.contains(attribute)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// The lock is given back when the descriptor is closed.
fn lock_directory() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = open(NAMESPACE_DIRECTORY, flags, Mode::empty())?;
    flock(&directory, FlockOperation::LockExclusive)?;
    Ok(directory)
}

fn create_directory() -> io::Result<()> {
    match rustix::fs::mkdir(NAMESPACE_DIRECTORY, Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) => Ok(()),
        result => Ok(result?),
    }
}

/// Makes mounts there show in other mount namespaces that got a copy of it.
fn make_shared() -> rustix::io::Result<()> {
    let flags = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    mount_change(NAMESPACE_DIRECTORY, flags)
}

pub(super) fn create_file(name: &NamespaceName) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    open(name.path(), flags, Mode::empty())?;
    Ok(())
}

pub(super) fn remove_file(name: &NamespaceName) -> io::Result<()> {
    fs::remove_file(name.path())
}

/// Creates a namespace, lets `prepare` work inside it and then binds it to its file.
pub(super) fn bind<T: Send>(
    name: &NamespaceName,
    prepare: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<(OwnedFd, T)> {
    on_own_thread(|| {
        // SAFETY: a new network namespace changes nothing that memory safety rests on; descriptors
        // stay shared. The thread ends with this closure.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
        // Else another container on the bridge could offer itself as router (CVE-2020-10749).
        ignore_advertisements("default")?;
        let namespace = File::open(OWN_NAMESPACE)?;
        let prepared = prepare()?;
        // Last, because it alone outlives the thread.
        mount_bind(OWN_NAMESPACE, name.path())?;
        Ok((namespace.into(), prepared))
    })
}

/// Unmounts `name`; not found if nothing is mounted there.
pub(super) fn unbind(name: &NamespaceName) -> io::Result<()> {
    let path = name.path();
    let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    for _ in 1..UNMOUNT_TRIES {
        match unmount(&path, flags) {
            Err(Errno::BUSY) => thread::sleep(UNMOUNT_PAUSE),
            // "Not a mount point".
            Err(Errno::INVAL) => return Err(Errno::NOENT.into()),
            result => return Ok(result?),
        }
    }
    Ok(unmount(&path, flags)?)
}

/// Takes no router advertisements on `interface`, or with `default` on those to come.
///
/// `/proc/sys/net` shows the namespace of the calling thread. Without IPv6 there is no such file,
/// and no advertisement is taken.
pub(super) fn ignore_advertisements(interface: &str) -> io::Result<()> {
    match fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/accept_ra"), "0") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

pub(super) fn forwarding() -> io::Result<String> {
    Ok(fs::read_to_string(IP_FORWARD)?.trim_end().to_owned())
}

pub(super) fn enable_forwarding() -> io::Result<()> {
    fs::write(IP_FORWARD, "1")
}

/// What keeps a namespace alive while its interfaces are set up.
#[derive(Debug)]
pub(super) struct Inside<T> {
    pub(super) name: NamespaceName,
    pub(super) fd: OwnedFd,
    pub(super) handle: T,
}

impl<T> AsFd for Inside<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
