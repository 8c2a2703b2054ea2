use std::io;

use tare_worker::Reply;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A reply whose news the runtime waits for.
pub(super) fn watched(reply: Reply) -> io::Result<AsyncFd<Reply>> {
    // SAFETY: the descriptor is the same and open as long as the AsyncFd lives: a reply keeps its socket from
    // beginning to end, and nobody takes it out of the AsyncFd.
    Ok(unsafe { AsyncFd::register_with_interest(reply, Interest::READABLE) }?)
}
