//! What can fail.

use std::io;
use std::net::SocketAddr;

/// What can fail.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No socket could be had there.
    #[error("cannot answer names at {address} on interface {interface}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The interface that is asked on.
        interface: String,
        /// Why.
        source: io::Error,
    },
    /// The server could not be started.
    #[error("cannot start answering names")]
    Start(#[source] io::Error),
}

impl Error {
    /// Whether another program answers there.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }
}
