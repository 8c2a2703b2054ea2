use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// The socket that the service manager listens on for us; see `sd_listen_fds(3)`.
pub(super) fn inherited_socket() -> io::Result<Option<OwnedFd>> {
    let mut sockets = sd_notify::listen_fds()?;
    match (sockets.next(), sockets.next()) {
        (None, _) => Ok(None),
        // SAFETY: the manager handed it over to this process, and nothing has used it yet.
        (Some(socket), None) => Ok(Some(unsafe { OwnedFd::from_raw_fd(socket) })),
        _ => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "more than one socket was handed over"))
        }
    }
}
