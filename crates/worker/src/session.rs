//! Asking a worker.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::message::{Ask, Failure, Said};
use crate::packet::{self, Kind, invalid};

/// One connection to a worker. With it ends the worker.
#[derive(Debug)]
pub struct Session(OwnedFd);

/// What a worker answers to one thing it was asked. Dropping it ends that.
#[derive(Debug)]
pub struct Reply {
    socket: OwnedFd,
    room: Vec<u8>,
}

/// Part of an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// What comes are the bytes from this one on.
    From(u64),
    /// Some of them.
    Bytes(Vec<u8>),
    /// That was all.
    Done,
    /// The registry does not do it, or not to its end.
    Failed(Failure),
}

impl Session {
    /// That on a sequenced-packet socket, at whose other end a worker is, or will be.
    pub fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Both ends of a connection; the second is the standard input of a worker.
    ///
    /// # Errors
    ///
    /// Those of socketpair(2).
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        packet::pair().map(|(ours, theirs)| (Self(ours), theirs))
    }

    /// Asks for something, with a file beside it if there is to be one.
    ///
    /// # Errors
    ///
    /// If the worker has ended, or has been asked too much that it has not taken yet.
    pub fn ask(&self, ask: &Ask, file: Option<BorrowedFd<'_>>) -> io::Result<Reply> {
        let (socket, theirs) = packet::pair()?;
        let fds: Vec<BorrowedFd<'_>> = [theirs.as_fd()].into_iter().chain(file).collect();
        packet::send(&self.0, Kind::Said, &serde_json::to_vec(ask)?, &fds)?;
        Ok(Reply { socket, room: packet::room() })
    }
}

impl Reply {
    /// What the worker says next.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing is there yet; any other if the worker has ended in the middle, or does not keep to the protocol.
    pub fn hear(&mut self) -> io::Result<Heard> {
        let packet = packet::receive(&self.socket, &mut self.room)?;
        let packet = packet.ok_or(io::ErrorKind::UnexpectedEof)?;
        match packet.kind {
            _ if !packet.fds.is_empty() => Err(invalid("a worker hands over descriptors")),
            Kind::Bytes => Ok(Heard::Bytes(packet.content.to_vec())),
            Kind::Said => match serde_json::from_slice(packet.content)? {
                Said::From(byte) => Ok(Heard::From(byte)),
                Said::Done => Ok(Heard::Done),
                Said::Failed(failure) => Ok(Heard::Failed(failure)),
            },
        }
    }
}

impl AsFd for Reply {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Reply {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
