//! Answers calls that come over a socket, with a spawner of this process.

mod conversation;
mod locks;
mod slots;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::step::{Done, Step};
use crate::sys::socket::{self, Peer};
use crate::undo::{failed, run};
use crate::{Cause, Error, Rejection, Spawner};

use conversation::Conversation;
use locks::Locks;
use slots::{Slot, Slots};

/// How long a caller may take to say what it wants, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to rest when connections cannot be taken, for lack of descriptors say.
const REST: Duration = Duration::from_millis(100);

/// A socket that [`Server::serve`] listens on.
#[derive(Debug)]
pub struct Listener {
    fd: Arc<OwnedFd>,
    /// Where it was made, if it was made here; it is removed again then.
    made: Option<PathBuf>,
}

impl Listener {
    /// Makes a sequenced-packet socket that its owner alone can connect to, in the place of one that
    /// nobody listens on any more. It is removed when this is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Listen`], also if somebody listens there.
    pub fn bind(path: &Path) -> Result<Self, Error> {
        let bound = run(&Step::Listen(path.into())).and_then(|done| match done {
            Done::Fd(fd) => Self::check(fd, Some(path.into())),
            other => unreachable!("listening gave {other:?}"),
        });
        bound.map_err(|cause| Error::Listen { socket: path.into(), cause })
    }

    /// A listening sequenced-packet socket that was handed over, by a service manager say.
    ///
    /// # Errors
    ///
    /// [`Error::Listen`] if it is not one.
    pub fn inherited(socket: OwnedFd) -> Result<Self, Error> {
        let checked = Self::check(Arc::new(socket), None);
        checked.map_err(|cause| Error::Listen { socket: "(inherited)".into(), cause })
    }

    fn check(fd: Arc<OwnedFd>, made: Option<PathBuf>) -> Result<Self, Cause> {
        socket::check_listener(&fd).map_err(|source| failed(&"use this as a socket", source))?;
        Ok(Self { fd, made })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = self.made.take()
            && let Err(error) = run(&Step::RemoveSocket(path))
        {
            tracing::warn!("{error}");
        }
    }
}

/// Answers calls on behalf of a [`Remote`](crate::Remote).
///
/// Each connection has a thread of its own and limits in time and number, so no caller keeps another
/// from being served. Calls for one container take turns, also those of a caller that has ended and
/// those of its successor; what a caller has asked for that ended before its turn came is not begun.
#[derive(Debug)]
pub struct Server(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    spawner: Box<dyn Spawner>,
    run_dir: PathBuf,
    patience: Duration,
    locks: Locks,
    slots: Arc<Slots>,
}

impl Server {
    /// A server that has `spawner`, whose run directory is `run_dir`, do what is asked.
    pub fn new(spawner: Box<dyn Spawner>, run_dir: impl Into<PathBuf>) -> Self {
        Self::with_patience(spawner, run_dir.into(), PATIENCE)
    }

    fn with_patience(spawner: Box<dyn Spawner>, run_dir: PathBuf, patience: Duration) -> Self {
        let (locks, slots) = (Locks::default(), Arc::default());
        Self(Arc::new(Inner { spawner, run_dir, patience, locks, slots }))
    }

    /// Answers until `stop` can be read; calls that are under way then are carried through.
    ///
    /// # Errors
    ///
    /// [`Error::Listen`] if the socket cannot be waited for.
    pub fn serve(&self, listener: Listener, stop: BorrowedFd<'_>) -> Result<(), Error> {
        let served = self.accept_until(listener.fd.as_fd(), stop);
        // Whoever comes now does not wait for those that came before.
        let socket = listener.made.clone().unwrap_or_else(|| "(inherited)".into());
        drop(listener);
        self.0.slots.wait_until_free();
        served.map_err(|source| {
            let cause = failed(&"wait for calls", source);
            Error::Listen { socket, cause }
        })
    }

    fn accept_until(&self, listener: BorrowedFd<'_>, stop: BorrowedFd<'_>) -> io::Result<()> {
        loop {
            let fds = [listener, stop].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            match wait(fds)? {
                [_, true] => return Ok(()),
                [true, false] => self.accept(listener),
                [false, false] => {}
            }
        }
    }

    fn accept(&self, listener: BorrowedFd<'_>) {
        let accepted = socket::accept(listener).and_then(|connection| match connection {
            Some(connection) => self.converse(connection),
            None => Ok(()),
        });
        if let Err(error) = accepted {
            tracing::error!("cannot take a call: {error}");
            thread::sleep(REST);
        }
    }

    /// Goes on with a connection on a thread of its own.
    fn converse(&self, connection: OwnedFd) -> io::Result<()> {
        // One that has ended by now wants nothing any more.
        let Ok(peer) = Peer::of(&connection) else { return Ok(()) };
        let slot = match self.admit(&peer) {
            Ok(slot) => slot,
            Err(rejection) => return conversation::refuse(&connection, rejection),
        };
        let inner = self.0.clone();
        let talk = move || {
            Conversation { inner: &inner, socket: &connection, peer: &peer }.hold();
            drop(slot);
        };
        thread::Builder::new().name("call".into()).spawn(talk).map(drop)
    }

    fn admit(&self, peer: &Peer) -> Result<Slot, Rejection> {
        if peer.uid != geteuid().as_raw() {
            return Err(Rejection::Peer);
        }
        Slots::take(&self.0.slots, peer.pid).ok_or(Rejection::Busy)
    }
}

fn wait(mut fds: [PollFd<'_>; 2]) -> io::Result<[bool; 2]> {
    match poll(&mut fds, None) {
        Ok(_) | Err(Errno::INTR) => Ok(fds.map(|fd| !fd.revents().is_empty())),
        Err(errno) => Err(errno.into()),
    }
}
