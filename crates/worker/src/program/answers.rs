//! Telling the manager what comes of what it asked.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::sys;
use crate::message::{Failure, Said};
use crate::packet::{self, Kind, MAX_PACKET};

/// Where the answer to one thing goes.
#[derive(Debug)]
pub(super) struct Answers(AsyncFd<OwnedFd>);

impl Answers {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self(sys::watched(socket, Interest::READABLE | Interest::WRITABLE)?))
    }

    /// What comes are the bytes from this one on.
    pub(super) async fn begin(&self, byte: u64) -> io::Result<()> {
        self.say(&Said::From(byte)).await
    }

    /// More bytes. Waits as long as the manager has no room for them.
    pub(super) async fn bytes(&self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(MAX_PACKET) {
            self.send(Kind::Bytes, piece).await?;
        }
        Ok(())
    }

    /// The last word.
    pub(super) async fn end(&self, result: Result<(), Failure>) -> io::Result<()> {
        self.say(&result.map_or_else(Said::Failed, |()| Said::Done)).await
    }

    /// Waits until nobody listens any more: nothing is ever said to this side.
    pub(super) async fn nobody_listens(&self) {
        let mut room = [0; 2];
        let hear = |socket: &OwnedFd| packet::receive(socket, &mut room).map(drop);
        let _ = self.0.async_io(Interest::READABLE, hear).await;
    }

    async fn say(&self, said: &Said) -> io::Result<()> {
        self.send(Kind::Said, &serde_json::to_vec(said)?).await
    }

    async fn send(&self, kind: Kind, content: &[u8]) -> io::Result<()> {
        let send = |socket: &OwnedFd| packet::send(socket, kind, content, &[]);
        self.0.async_io(Interest::WRITABLE, send).await
    }
}
