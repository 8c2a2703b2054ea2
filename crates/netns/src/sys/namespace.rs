//! Namespaces and their files.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, fstat, fstatfs, open, stat};
use rustix::io::Errno;
use rustix::ioctl;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags, move_into_link_name_space,
    move_into_thread_name_spaces, unshare_unsafe,
};

use super::sysctl;

use crate::NamespaceName;
use crate::name::NAMESPACE_DIRECTORY;

/// `NSFS_MAGIC` of linux/magic.h: what namespaces are files of.
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// The network namespace of the calling thread; `/proc/self` would be that of the main thread.
const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";

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

/// What is at the path of a namespace.
#[derive(Debug)]
pub(crate) enum Opened {
    /// A network namespace and its inode.
    Network(OwnedFd, u64),
    /// Something else.
    Other,
}

pub(crate) fn open_namespace(path: &Path) -> io::Result<Opened> {
    let fd = open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?;
    #[expect(clippy::useless_conversion, reason = "the type differs between architectures")]
    let magic = i64::from(fstatfs(&fd)?.f_type);
    if magic != NSFS_MAGIC || nstype(fd.as_fd())? != NETWORK {
        return Ok(Opened::Other);
    }
    let inode = fstat(&fd)?.st_ino;
    Ok(Opened::Network(fd, inode))
}

/// `CLONE_NEWNET`, which is also how the kernel names the kind of a namespace.
const NETWORK: u32 = UnshareFlags::NEWNET.bits();

/// The kind of a namespace, see `ioctl_nsfs(2)`.
fn nstype(namespace: BorrowedFd<'_>) -> io::Result<u32> {
    struct GetType;
    // SAFETY: `NS_GET_NSTYPE` takes no argument and answers with its return value.
    unsafe impl ioctl::Ioctl for GetType {
        type Output = u32;
        const IS_MUTATING: bool = false;

        fn opcode(&self) -> ioctl::Opcode {
            ioctl::opcode::none(0xb7, 0x3)
        }

        fn as_ptr(&mut self) -> *mut std::ffi::c_void {
            std::ptr::null_mut()
        }

        unsafe fn output_from_ptr(
            result: ioctl::IoctlOutput,
            _: *mut std::ffi::c_void,
        ) -> rustix::io::Result<u32> {
            Ok(result.cast_unsigned())
        }
    }
    // SAFETY: as above; the file is one of a namespace.
    Ok(unsafe { ioctl::ioctl(namespace, GetType) }?)
}

/// Whether the process has the network namespace of the calling thread.
pub(crate) fn same_as_own(process: BorrowedFd<'_>) -> io::Result<bool> {
    let own = stat(OWN_NAMESPACE)?;
    let other = on_own_thread(|| {
        move_into_thread_name_spaces(process, ThreadNameSpaceType::NETWORK)?;
        Ok(stat(OWN_NAMESPACE)?)
    })?;
    Ok((own.st_dev, own.st_ino) == (other.st_dev, other.st_ino))
}

/// The names of all files where namespaces are bound.
pub(crate) fn names() -> io::Result<Vec<NamespaceName>> {
    let entries = match fs::read_dir(NAMESPACE_DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().to_str().and_then(|name| name.parse().ok()));
    }
    names.sort_unstable();
    Ok(names)
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
) -> io::Result<Inside<T>> {
    let create = || {
        // SAFETY: a new network namespace changes nothing that memory safety rests on; descriptors
        // stay shared. The thread ends with this closure.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
    };
    bind_as(name, create, prepare)
}

/// The same with the namespace that `process` has.
pub(super) fn adopt<T: Send>(
    name: &NamespaceName,
    process: BorrowedFd<'_>,
    prepare: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<Inside<T>> {
    let join = || move_into_thread_name_spaces(process, ThreadNameSpaceType::NETWORK);
    bind_as(name, join, prepare)
}

fn bind_as<T: Send>(
    name: &NamespaceName,
    go_there: impl FnOnce() -> rustix::io::Result<()> + Send,
    prepare: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<Inside<T>> {
    on_own_thread(|| {
        go_there()?;
        // Else another container on the bridge could offer itself as router (CVE-2020-10749).
        sysctl::ignore_advertisements("default")?;
        let fd = File::open(OWN_NAMESPACE)?.into();
        let handle = prepare()?;
        // Last, because it alone outlives the thread.
        mount_bind(OWN_NAMESPACE, name.path())?;
        Ok(Inside { name: name.clone(), fd, handle })
    })
}

/// Goes into a namespace that is bound already, and lets `prepare` work there.
pub(super) fn visit<T: Send>(
    name: &NamespaceName,
    prepare: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<Inside<T>> {
    let Opened::Network(fd, _) = open_namespace(&name.path())? else {
        return Err(Errno::NOENT.into());
    };
    let handle = enter(fd.as_fd(), prepare)??;
    Ok(Inside { name: name.clone(), fd, handle })
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
