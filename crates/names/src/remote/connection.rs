//! Reaching a `tare-names`, and what it has.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use crate::handover::{self, Heard, Received, Said, VERSION, invalid, is_trusted, receive};
use crate::{Sockets, effects};

/// How long it may take for anything. It does nothing that takes time.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection on which both have greeted.
#[derive(Debug)]
pub(super) struct Connection(OwnedFd);

impl Connection {
    /// With the sockets that are answered already, by network.
    pub(super) fn open(path: &Path) -> io::Result<(Self, BTreeMap<String, Vec<Sockets>>)> {
        let socket = effects::connect(path, PATIENCE)?;
        // Who listens is who was there when the socket was made, be it the service manager.
        if !is_trusted(&socket)? {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let connection = Self(socket);
        let found = connection.greet()?;
        Ok((connection, found))
    }

    fn greet(&self) -> io::Result<BTreeMap<String, Vec<Sockets>>> {
        self.say(&Said::Hello { oldest: VERSION, newest: VERSION }, &[])?;
        let mut found = BTreeMap::new();
        loop {
            match receive(&self.0)? {
                Received::Message(Heard::Welcome { version: VERSION }, _) => {}
                Received::Message(Heard::Has { network }, fds) => {
                    found.insert(network, handover::sockets(fds)?);
                }
                Received::Message(Heard::Ready {}, _) => return Ok(found),
                Received::Message(Heard::Welcome { .. }, _) => {
                    return Err(invalid("it speaks another version"));
                }
                Received::Closed => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    pub(super) fn say(&self, said: &Said, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        effects::say(&self.0, said, fds)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
