//! Watching file descriptors from async code, and asking the kernel what namespaces are.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use rustix::ioctl::{Getter, Ioctl, Opcode, ioctl, opcode};
use tare_netns::{ForeignWatcher, UplinkWatcher, Watcher};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Becomes ready when `fd` can be read: a pidfd, when its process has ended.
pub(super) fn readable(fd: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: the descriptor stays open and its number the same for as long as the value inside
    // the AsyncFd lives, since that owns a share of it and nobody can take it out of the Arc.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// A watcher that stays where it is.
#[derive(Debug)]
pub(super) struct Watched<W>(W);

impl<W: Watches> Watched<W> {
    /// See [`Watches::changed`].
    pub(super) fn changed(&mut self) -> Result<bool, tare_netns::Error> {
        self.0.changed()
    }
}

/// What keeps one descriptor for all its life, which becomes readable when anything changes.
pub(super) trait Watches: AsFd {
    /// Takes all that there is to be told: whether any of it matters.
    fn changed(&mut self) -> Result<bool, tare_netns::Error>;
}

impl Watches for Watcher {
    fn changed(&mut self) -> Result<bool, tare_netns::Error> {
        self.others_changed()
    }
}

impl Watches for ForeignWatcher {
    fn changed(&mut self) -> Result<bool, tare_netns::Error> {
        Self::changed(self)
    }
}

impl Watches for UplinkWatcher {
    fn changed(&mut self) -> Result<bool, tare_netns::Error> {
        Self::changed(self)
    }
}

impl<W: Watches> AsRawFd for Watched<W> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Becomes ready when anybody changes the host's firewall, or its routes.
pub(super) fn watched<W: Watches>(watcher: W) -> io::Result<AsyncFd<Watched<W>>> {
    // SAFETY: a watcher keeps one descriptor for all its life, and nobody can take it out of the
    // `Watched`, whose inside is reached by the methods above alone.
    Ok(unsafe { AsyncFd::register_with_interest(Watched(watcher), Interest::READABLE) }?)
}

/// Number of a descriptor, for a path in `/proc/self/fd`.
pub(super) fn number(fd: BorrowedFd<'_>) -> RawFd {
    fd.as_raw_fd()
}

/// `NS_GET_NSTYPE` of `linux/nsfs.h`.
const GET_KIND: Opcode = opcode::none(0xb7, 3);
/// `NS_GET_ID`, from Linux 6.18 on.
const GET_NUMBER: Opcode = opcode::read::<u64>(0xb7, 13);

struct GetKind;

// SAFETY: the kernel takes no argument for it, and says in the result what it has to.
unsafe impl Ioctl for GetKind {
    type Output = u32;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        GET_KIND
    }

    fn as_ptr(&mut self) -> *mut std::ffi::c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(
        result: rustix::ioctl::IoctlOutput,
        _: *mut std::ffi::c_void,
    ) -> rustix::io::Result<u32> {
        Ok(result.cast_unsigned())
    }
}

/// Which kind of namespace a file of nsfs stands for, as a `CLONE_NEW*`.
pub(super) fn namespace_kind(namespace: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: what the call is, is said by `GetKind`; on a file that is none of nsfs it fails.
    Ok(unsafe { ioctl(namespace, GetKind) }?)
}

/// The number that no other namespace has in this boot; nothing where the kernel tells none.
pub(super) fn namespace_number(namespace: BorrowedFd<'_>) -> Option<u64> {
    // SAFETY: the kernel writes one u64, or fails and writes nothing.
    let number = unsafe { ioctl(namespace, Getter::<GET_NUMBER, u64>::new()) };
    number.ok()
}
