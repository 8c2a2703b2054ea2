//! A place where sockets lie, for as long as anybody holds it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, HeldPort, fault, sys};

/// How many sockets lie in one message: the kernel takes 253.
const BATCH: usize = 128;

/// A place for [`HeldPort`]s: they stay as long as somebody has its two descriptors open, who need
/// not know what they are.
///
/// It is a pair of connected sockets, and what lies there is on its way from one to the other. So a
/// process that only lives as long as it is needed can be given the descriptors when it is started,
/// while others, who find them in it, put more there and take some away. Only one of them at a time.
#[derive(Debug)]
pub struct Shelf {
    to: OwnedFd,
    from: OwnedFd,
}

impl Shelf {
    /// An empty one.
    ///
    /// # Errors
    ///
    /// [`Error::Shelf`].
    pub fn new() -> Result<Self, Error> {
        let (to, from) = failing("make a shelf", sys::shelf::pair)?;
        Ok(Self { to, from })
    }

    /// The one that has these descriptors, in that order; `None` if they are something else.
    pub fn open(to: OwnedFd, from: OwnedFd) -> Option<Self> {
        (sys::shelf::is_end(&to) && sys::shelf::is_end(&from)).then_some(Self { to, from })
    }

    /// Its descriptors.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.to.as_fd(), self.from.as_fd()]
    }

    /// Puts ports there; they are in use elsewhere, too.
    ///
    /// # Errors
    ///
    /// [`Error::Shelf`] if there is no more room, after some of them. Nothing is taken away.
    pub fn put(&self, ports: &[HeldPort]) -> Result<(), Error> {
        failing("put ports on a shelf", || {
            ports.chunks(BATCH).try_for_each(|batch| {
                let sockets: Vec<_> = batch.iter().map(|port| port.socket.as_fd()).collect();
                sys::shelf::send(&self.to, b"", &sockets)
            })
        })
    }

    /// The ports that are there. What lies there twice is told once.
    ///
    /// # Errors
    ///
    /// [`Error::Shelf`]. Nothing is taken away.
    pub fn ports(&self) -> Result<Vec<HeldPort>, Error> {
        let mut found = Vec::new();
        self.turn_over(|port| {
            found.push(port);
            true
        })?;
        found.sort_by_key(key);
        found.dedup_by_key(|port| key(port));
        Ok(found)
    }

    /// Takes away those that are not to be kept.
    ///
    /// # Errors
    ///
    /// [`Error::Shelf`]; some may be there still.
    pub fn retain(&self, keep: impl Fn(&HeldPort) -> bool) -> Result<(), Error> {
        self.turn_over(|port| keep(&port))
    }

    /// Looks at each port, and puts it behind all others if it is to be kept. Whenever this ends, by
    /// a kill say, none of those is missing: one is put there again before it is taken.
    fn turn_over(&self, mut keep: impl FnMut(HeldPort) -> bool) -> Result<(), Error> {
        failing("look at the ports on a shelf", || {
            let end = mark();
            sys::shelf::send(&self.to, &end, &[])?;
            loop {
                let (mark, sockets) = sys::shelf::peek(&self.from)?;
                if mark == end {
                    return sys::shelf::take(&self.from);
                }
                let mut kept = Vec::new();
                for socket in sockets {
                    let copy = socket.try_clone()?;
                    if let Some(port) = sys::shelf::held_port(copy)?
                        && keep(port)
                    {
                        kept.push(socket);
                    }
                }
                if !kept.is_empty() {
                    let kept: Vec<_> = kept.iter().map(AsFd::as_fd).collect();
                    sys::shelf::send(&self.to, b"", &kept)?;
                }
                sys::shelf::take(&self.from)?;
            }
        })
    }
}

/// What no other turning over ends with, be it one that was killed.
fn mark() -> Vec<u8> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}/{count}", std::process::id()).into_bytes()
}

fn key(port: &HeldPort) -> (SocketAddr, crate::Protocol) {
    (port.address, port.protocol)
}

fn failing<T>(what: &'static str, act: impl FnOnce() -> io::Result<T>) -> Result<T, Error> {
    let what_for: &dyn fmt::Display = &what;
    fault::point(what_for).and_then(|()| act()).map_err(|source| Error::Shelf { what, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PortRequest, Protocol, reserve};

    fn held(count: u16) -> Vec<HeldPort> {
        let at = Some("127.0.0.1".parse().unwrap());
        let ask = |protocol| PortRequest::new(at, protocol, 0, 80, 1).unwrap();
        let asked: Vec<_> = (0..count)
            .map(|number| ask(if number % 2 == 0 { Protocol::Tcp } else { Protocol::Udp }))
            .collect();
        asked.iter().flat_map(|one| reserve(&[*one]).unwrap().sockets).collect()
    }

    fn keys(ports: &[HeldPort]) -> Vec<(SocketAddr, Protocol)> {
        let mut keys: Vec<_> = ports.iter().map(key).collect();
        keys.sort_unstable();
        keys
    }

    fn is_free(address: SocketAddr) -> bool {
        std::net::TcpListener::bind(address).is_ok()
    }

    #[test]
    fn ports_lie_there_until_they_are_taken_away() {
        let shelf = Shelf::new().unwrap();
        let ports = held(300);
        let all = keys(&ports);
        shelf.put(&ports).unwrap();
        drop(ports);
        assert_eq!(keys(&shelf.ports().unwrap()), all);
        assert_eq!(keys(&shelf.ports().unwrap()), all, "looking takes nothing away");
        let (address, _) = *all.iter().find(|(_, protocol)| *protocol == Protocol::Tcp).unwrap();
        assert!(!is_free(address));
        shelf.retain(|port| port.address != address).unwrap();
        assert!(is_free(address));
        assert_eq!(shelf.ports().unwrap().len(), all.len() - 1);
    }

    #[test]
    fn whoever_has_the_descriptors_finds_the_ports() {
        let shelf = Shelf::new().unwrap();
        let ports = held(2);
        shelf.put(&ports).unwrap();
        shelf.put(&ports[..1]).unwrap();
        let [to, from] = shelf.descriptors().map(|fd| fd.try_clone_to_owned().unwrap());
        drop(shelf);
        let other = Shelf::open(to, from).unwrap();
        assert_eq!(keys(&other.ports().unwrap()), keys(&ports), "once each");
        let (to, from) = std::io::pipe().map(|(from, to)| (to.into(), from.into())).unwrap();
        assert!(Shelf::open(to, from).is_none(), "something else");
    }

    #[test]
    fn what_finds_no_room_is_said() {
        let shelf = Shelf::new().unwrap();
        let ports = held(1);
        let put = (0..100_000).try_for_each(|_| shelf.put(&ports));
        assert!(matches!(put, Err(Error::Shelf { .. })), "{put:?}");
    }
}
