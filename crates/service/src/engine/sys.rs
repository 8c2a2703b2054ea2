//! Watching file descriptors from async code.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Becomes ready when `fd` can be read: a pidfd, when its process has ended.
pub(super) fn readable(fd: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: the descriptor stays open and its number the same for as long as the value inside
    // the AsyncFd lives, since that owns a share of it and nobody can take it out of the Arc.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}
