#![expect(clippy::disallowed_methods, reason = "this is where the steps are carried out")]

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::{panic, thread};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::{
    ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces, unshare_unsafe,
};

use super::Effect;

/// An effect on the calling thread or its own mounts: for a thread that ends soon.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Own<'a> {
    /// No longer shares its working directory with other threads.
    Directory,
    /// Changes the working directory; after [`Own::Directory`].
    Enter { dir: BorrowedFd<'a>, name: &'static str },
    /// Gets a copy of its mount namespace, and its working directory in that.
    Mounts,
    /// Moves into the mount namespace of a process; after [`Own::Directory`].
    View { process: BorrowedFd<'a> },
    /// Neither lets mounts out of the namespace nor in; after [`Own::Mounts`].
    KeepMounts,
    /// Mounts an overlay, nodev; after [`Own::KeepMounts`].
    Overlay { at: &'a str, source: &'a str, options: &'a CStr },
    /// Unmounts it again.
    Unmount { at: &'a str },
}

impl fmt::Display for Own<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Directory => write!(f, "separate the thread's working directory"),
            Self::Enter { name, .. } => write!(f, "enter {name}"),
            Self::Mounts => write!(f, "make a mount namespace"),
            Self::View { .. } => write!(f, "enter the mount namespace of a process"),
            Self::KeepMounts => write!(f, "separate the mount namespace from the host's"),
            Self::Overlay { .. } => write!(f, "mount the overlay"),
            Self::Unmount { .. } => write!(f, "unmount the overlay"),
        }
    }
}

impl Effect for Own<'_> {
    type Output = ();

    fn without(&self) -> Option<()> {
        Some(())
    }

    fn act(&self) -> rustix::io::Result<()> {
        match *self {
            Self::Directory => unshare(UnshareFlags::FS),
            Self::Enter { dir, .. } => rustix::process::fchdir(dir),
            Self::Mounts => unshare(UnshareFlags::NEWNS),
            Self::View { process } => {
                let namespace = ThreadNameSpaceType::MOUNT;
                move_into_thread_name_spaces(process, namespace)
            }
            Self::KeepMounts => {
                let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
                rustix::mount::mount_change("/", flags)
            }
            Self::Overlay { at, source, options } => {
                rustix::mount::mount(source, at, "overlay", MountFlags::NODEV, options)
            }
            Self::Unmount { at } => rustix::mount::unmount(at, UnmountFlags::DETACH),
        }
    }
}

/// Runs `body` on a thread of its own, which it may change, and which ends with it.
pub(crate) fn on_own_thread<T: Send>(body: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let inside =
            thread::Builder::new().name("tare-storage".into()).spawn_scoped(scope, body)?;
        Ok(inside.join().unwrap_or_else(|panic| panic::resume_unwind(panic)))
    })
}

fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: the table of descriptors stays shared, which is what the function is unsafe for.
    unsafe { unshare_unsafe(flags) }
}
