use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A socket whose news the runtime waits for.
pub(super) fn watched(socket: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is the same and open as long as the AsyncFd lives, which owns it and never
    // gives it away.
    Ok(unsafe { AsyncFd::register_with_interest(socket, interest) }?)
}
