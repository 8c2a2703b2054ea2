//! What a [`Remote`](crate::Remote) and a [`Daemon`](crate::Daemon) say to each other.
//!
//! Packets on one connection: a message of JSON, with sockets or a sealed memory file beside it.
//! Both greet; the daemon then tells which sockets it has, so that whoever is new here knows what
//! is answered already. From then on the one who knows the names speaks alone: first the whole, and
//! after that what changes.

mod document;
mod message;
mod packet;

pub(crate) use document::{Whole, read_sealed, sealed};
pub(crate) use message::{Heard, Said, VERSION, Zone};
pub(crate) use packet::{Received, is_trusted, receive, send, set_patience};

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::Sockets;

/// The descriptors of sockets as they go beside a message: two for each address.
pub(crate) fn descriptors(sockets: &[Sockets]) -> Vec<BorrowedFd<'_>> {
    sockets.iter().flat_map(|it| [it.udp.as_fd(), it.tcp.as_fd()]).collect()
}

/// The sockets that came beside a message.
pub(crate) fn sockets(fds: Vec<OwnedFd>) -> io::Result<Vec<Sockets>> {
    let mut fds = fds.into_iter();
    let mut found = Vec::new();
    while let Some(udp) = fds.next() {
        let tcp = fds.next().ok_or_else(|| invalid("a socket without its other half"))?;
        found.push(Sockets::checked(udp, tcp)?);
    }
    Ok(found)
}

/// Something that nobody may say.
pub(crate) fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
