//! The thread that speaks.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::connection::Connection;
use super::{News, Phase, Shared};
use crate::handover::{Said, descriptors};
use crate::{Sockets, effects};

/// First and longest pause between two tries to reach it.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// Until the end: reaches it, tells it everything, and then what changes.
pub(super) fn keep(shared: &Shared, first: io::Result<Connection>) {
    let mut next = first;
    let mut pause = PAUSES.0;
    while shared.phase() == Phase::Gathering {
        shared.rest(None);
    }
    while shared.phase() != Phase::Ended {
        let spoken = match next {
            Ok(connection) => {
                pause = PAUSES.0;
                shared.speak(&connection)
            }
            Err(error) => Err(error),
        };
        shared.state().news = None;
        match spoken {
            Ok(()) => return,
            // Once, not at every try.
            Err(error) if pause == PAUSES.0 => tracing::warn!(
                "names wait for the tare-names at {}: {error}",
                shared.socket.display()
            ),
            Err(_) => {}
        }
        shared.rest(Some(pause));
        pause = (pause * 2).min(PAUSES.1);
        next = shared.reach();
    }
}

impl Shared {
    fn phase(&self) -> Phase {
        self.state().phase
    }

    /// A connection; what it has is found.
    pub(super) fn reach(&self) -> io::Result<Connection> {
        let (connection, mut found) = Connection::open(&self.socket)?;
        let mut state = self.state();
        found.retain(|network, _| !state.held.contains_key(network));
        state.found = found;
        Ok(connection)
    }

    /// Waits until there is something to do, or for so long.
    fn rest(&self, limit: Option<Duration>) {
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let _ = poll(&mut [PollFd::new(&self.wake, PollFlags::IN)], limit.as_ref());
        self.woken();
    }

    fn woken(&self) {
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
    }

    /// Tells everything, and then what changes, until the end.
    fn speak(&self, connection: &Connection) -> io::Result<()> {
        self.tell_whole(connection)?;
        tracing::info!("names are answered by the tare-names at {}", self.socket.display());
        loop {
            self.tell_news(connection)?;
            if self.phase() == Phase::Ended {
                return self.tell_news(connection);
            }
            let mut fds = [
                PollFd::from_borrowed_fd(connection.as_fd(), PollFlags::IN),
                PollFd::new(&self.wake, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let [said, woken] = fds.map(|fd| !fd.revents().is_empty());
            if said {
                // It has nothing to say any more but this.
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended"));
            }
            if woken {
                self.woken();
            }
        }
    }

    fn tell_whole(&self, connection: &Connection) -> io::Result<()> {
        let (whole, sockets) = {
            let mut state = self.state();
            state.news = Some(Vec::new());
            let whole = state.directory.whole(state.held.keys().cloned().collect());
            let sockets = state.held.iter().map(|(name, it)| Ok((name.clone(), duplicates(it)?)));
            (whole, sockets.collect::<io::Result<Vec<_>>>()?)
        };
        connection.say(&Said::Whole {}, &[effects::seal(&whole)?.as_fd()])?;
        for (network, sockets) in sockets {
            connection.say(&Said::Serve { network }, &descriptors(&sockets))?;
        }
        Ok(())
    }

    fn tell_news(&self, connection: &Connection) -> io::Result<()> {
        let news = self.state().news.replace(Vec::new()).unwrap_or_default();
        for one in news {
            match one {
                News::Say(said) => match connection.say(&said, &[]) {
                    // Longer than a message: all of it again.
                    Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                        return self.tell_whole(connection);
                    }
                    said => said?,
                },
                News::Serve(network) => {
                    let sockets = self.state().held.get(&network).map(|it| duplicates(it));
                    let sockets = sockets.transpose()?.unwrap_or_default();
                    connection.say(&Said::Serve { network }, &descriptors(&sockets))?;
                }
            }
        }
        Ok(())
    }
}

fn duplicates(sockets: &[Sockets]) -> io::Result<Vec<Sockets>> {
    sockets.iter().map(Sockets::duplicate).collect()
}
