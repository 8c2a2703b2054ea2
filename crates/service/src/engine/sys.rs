//! Watching file descriptors from async code.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use tare_netns::{ForeignWatcher, Watcher};
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

impl<W: Watches> AsRawFd for Watched<W> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Becomes ready when anybody changes the host's firewall.
pub(super) fn watched<W: Watches>(watcher: W) -> io::Result<AsyncFd<Watched<W>>> {
    // SAFETY: a watcher keeps one descriptor for all its life, and nobody can take it out of the
    // `Watched`, whose inside is reached by the methods above alone.
    Ok(unsafe { AsyncFd::register_with_interest(Watched(watcher), Interest::READABLE) }?)
}
