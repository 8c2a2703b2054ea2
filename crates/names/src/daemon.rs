//! Answering for another process, which says who is where and hands over the sockets.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::handover::{
    self, Heard, Received, Said, VERSION, Whole, descriptors, invalid, is_trusted, receive,
};
use crate::{Directory, Error, Server, Serving, Sockets, effects};

/// How long the other side may take for anything.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to rest when connections cannot be taken, for lack of descriptors say.
const REST: Duration = Duration::from_millis(100);

/// Answers what a [`Remote`](crate::Remote) has told it, also when that is gone.
///
/// Root alone is listened to (or the user it runs as), and who comes last: a manager that was
/// restarted.
#[derive(Debug)]
pub struct Daemon {
    directory: Arc<RwLock<Directory>>,
    server: Server,
    networks: BTreeMap<String, Asked>,
}

/// A network that is asked.
#[derive(Debug)]
struct Asked {
    /// To be given to who comes next.
    sockets: Vec<Sockets>,
    #[expect(dead_code, reason = "dropping it ends the answers")]
    serving: Vec<Serving>,
}

/// Who is listened to.
#[derive(Debug)]
struct Manager {
    connection: OwnedFd,
    has_greeted: bool,
}

impl Daemon {
    /// One that knows nothing yet, and asks the resolvers that are in the file `resolv_conf`.
    ///
    /// # Errors
    ///
    /// [`Error::Start`].
    pub fn start(resolv_conf: PathBuf) -> Result<Self, Error> {
        let directory = Arc::new(RwLock::new(Directory::new("")));
        let server = Server::start(directory.clone(), resolv_conf)?;
        Ok(Self { directory, server, networks: BTreeMap::new() })
    }

    /// Listens on a sequenced-packet socket until `stop` can be read.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] if the socket cannot be waited for.
    pub fn serve(&mut self, listener: &OwnedFd, stop: BorrowedFd<'_>) -> Result<(), Error> {
        rustix::io::ioctl_fionbio(listener, true).map_err(|errno| Error::Start(errno.into()))?;
        let mut manager: Option<Manager> = None;
        loop {
            // With nobody there, the same twice.
            let speaker = manager.as_ref().map_or(listener, |manager| &manager.connection);
            let fds = [stop, listener.as_fd(), speaker.as_fd()];
            match wait(fds).map_err(Error::Start)? {
                [true, ..] => return Ok(()),
                [_, true, _] => manager = accept(listener).or(manager),
                [_, _, true] => manager = self.listen_to(manager),
                _ => {}
            }
        }
    }

    /// Hears one message; whether more are heard.
    fn listen_to(&mut self, manager: Option<Manager>) -> Option<Manager> {
        let mut manager = manager?;
        match self.hear(&mut manager) {
            Ok(true) => Some(manager),
            Ok(false) => {
                tracing::info!("nobody says who is where any more; answers go on");
                None
            }
            Err(error) => {
                tracing::warn!("who says who is where is not listened to any more: {error}");
                None
            }
        }
    }

    fn hear(&mut self, manager: &mut Manager) -> io::Result<bool> {
        let (said, fds) = match receive(&manager.connection)? {
            Received::Message(said, fds) => (said, fds),
            Received::Closed => return Ok(false),
        };
        match said {
            Said::Hello { oldest, newest } => {
                if !(oldest..=newest).contains(&VERSION) {
                    return Err(invalid("it speaks another version"));
                }
                manager.has_greeted = true;
                self.welcome(&manager.connection)?;
            }
            said if manager.has_greeted => effects::obey(said, |said| self.obey(said, fds))?,
            _ => return Err(invalid("it does not say hello")),
        }
        Ok(true)
    }

    fn welcome(&self, connection: &OwnedFd) -> io::Result<()> {
        effects::reply(connection, &Heard::Welcome { version: VERSION }, &[])?;
        for (network, asked) in &self.networks {
            let has = Heard::Has { network: network.clone() };
            effects::reply(connection, &has, &descriptors(&asked.sockets))?;
        }
        effects::reply(connection, &Heard::Ready {}, &[])
    }

    fn obey(&mut self, said: Said, mut fds: Vec<OwnedFd>) -> io::Result<()> {
        match said {
            Said::Hello { .. } => {}
            Said::Whole {} => {
                let file = fds.pop().ok_or_else(|| invalid("nothing is beside it"))?;
                self.replace(handover::read_sealed(file)?);
            }
            Said::Network { network, subnets, foreign } => {
                self.write(|directory| directory.set_network(&network, subnets, foreign));
            }
            Said::Forget { network } => {
                self.networks.remove(&network);
                self.write(|directory| directory.remove_network(&network));
            }
            Said::Host { key, places } => self.write(|directory| directory.set_host(&key, places)),
            Said::Serve { network } => self.ask_at(network, handover::sockets(fds)?)?,
            Said::Close { network } => drop(self.networks.remove(&network)),
        }
        Ok(())
    }

    fn replace(&mut self, whole: Whole) {
        let Whole { domain, networks, served } = whole;
        self.write(|directory| *directory = Directory::from_whole(&domain, networks));
        self.networks.retain(|network, _| served.contains(network));
    }

    fn ask_at(&mut self, network: String, sockets: Vec<Sockets>) -> io::Result<()> {
        let kept = sockets.iter().map(Sockets::duplicate).collect::<io::Result<_>>()?;
        let serving = self.server.serve_all(&network, sockets).map_err(io::Error::other)?;
        self.networks.insert(network, Asked { sockets: kept, serving });
        Ok(())
    }

    fn write(&self, change: impl FnOnce(&mut Directory)) {
        change(&mut self.directory.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Who has come, if it is to be listened to.
fn accept(listener: &OwnedFd) -> Option<Manager> {
    let accepted = effects::accept(listener, PATIENCE);
    let checked =
        accepted.and_then(|connection| Ok(is_trusted(&connection)?.then_some(connection)));
    match checked {
        Ok(Some(connection)) => Some(Manager { connection, has_greeted: false }),
        Ok(None) => {
            tracing::warn!("somebody else's process is not listened to");
            None
        }
        // It went away again.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => {
            tracing::error!("cannot take a connection: {error}");
            thread::sleep(REST);
            None
        }
    }
}

fn wait<const N: usize>(fds: [BorrowedFd<'_>; N]) -> io::Result<[bool; N]> {
    let mut fds = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    match poll(&mut fds, None) {
        Ok(_) | Err(Errno::INTR) => Ok(fds.map(|fd| !fd.revents().is_empty())),
        Err(errno) => Err(errno.into()),
    }
}
