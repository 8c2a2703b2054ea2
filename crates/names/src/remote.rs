//! Answering in another process, which goes on while this one is restarted.

mod connection;
mod keeper;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use ipnet::IpNet;
use rustix::event::{EventfdFlags, eventfd};

use crate::handover::Said;
use crate::{Directory, Error, Foreign, Host, NameServer, Sockets};

/// Answers the names of networks in the `tare-names` that listens on a socket.
///
/// That one is told of every change, and has the sockets. It goes on when this process ends, and
/// gives the sockets to the next one that asks. This process has them as well, so that questions
/// wait there while `tare-names` is restarted; it is then told everything again.
#[derive(Debug)]
pub struct Remote {
    shared: Arc<Shared>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

/// What the callers and the thread that speaks have in common.
#[derive(Debug)]
struct Shared {
    socket: PathBuf,
    /// Becomes readable when there is something to do for the thread.
    wake: OwnedFd,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    directory: Directory,
    /// Of the networks that are asked.
    held: BTreeMap<String, Vec<Sockets>>,
    /// What `tare-names` had when it was reached, and nobody has asked for again.
    found: BTreeMap<String, Vec<Sockets>>,
    /// What is still to be said. Nothing, while nobody listens: who comes is told everything.
    news: Option<Vec<News>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not all is known: what `tare-names` knows is better.
    Gathering,
    Speaking,
    Ended,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum News {
    Say(Said),
    /// The sockets of that network are others.
    Serve(String),
}

impl Remote {
    /// The `tare-names` at `socket`; if it is away, it is told everything when it comes. Nothing is
    /// said to it before [`begin`](NameServer::begin).
    ///
    /// # Errors
    ///
    /// [`Error::Start`] if this process can have no thread for it.
    pub fn start(socket: PathBuf, domain: &str) -> Result<Self, Error> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let wake = wake.map_err(|errno| Error::Start(errno.into()))?;
        let state = State {
            phase: Phase::Gathering,
            directory: Directory::new(domain),
            held: BTreeMap::new(),
            found: BTreeMap::new(),
            news: None,
        };
        let shared = Arc::new(Shared { socket, wake, state: Mutex::new(state) });
        let first = shared.reach();
        let keeper = {
            let shared = shared.clone();
            thread::Builder::new().name("names".into()).spawn(move || keeper::keep(&shared, first))
        };
        let keeper = Mutex::new(Some(keeper.map_err(Error::Start)?));
        Ok(Self { shared, keeper })
    }

    fn end(&self) {
        self.shared.state().phase = Phase::Ended;
        self.shared.wake();
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(keeper) = keeper {
            let _ = keeper.join();
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // What is full is readable.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Changes what is known, and has that said.
    fn change(&self, change: impl FnOnce(&mut State) -> News) {
        let mut state = self.state();
        let news = change(&mut state);
        if let Some(waiting) = &mut state.news {
            waiting.push(news);
            self.wake();
        }
    }
}

impl NameServer for Remote {
    fn set_network(&self, network: &str, subnets: Vec<IpNet>, foreign: Foreign) {
        self.shared.change(|state| {
            state.directory.set_network(network, subnets.clone(), foreign.clone());
            News::Say(Said::Network { network: network.to_owned(), subnets, foreign })
        });
    }

    fn remove_network(&self, network: &str) {
        self.shared.change(|state| {
            state.directory.remove_network(network);
            state.held.remove(network);
            state.found.remove(network);
            News::Say(Said::Forget { network: network.to_owned() })
        });
    }

    fn set_host(&self, key: &str, places: Vec<(String, Host)>) {
        self.shared.change(|state| {
            state.directory.set_host(key, places.clone());
            News::Say(Said::Host { key: key.to_owned(), places })
        });
    }

    fn serve(&self, network: &str, interface: &str, addresses: &[IpAddr]) -> Result<(), Error> {
        let fit = |sockets: &Vec<Sockets>| {
            sockets.len() == addresses.len()
                && sockets.iter().zip(addresses).all(|(one, at)| one.are_at(interface, *at))
        };
        let found = {
            let mut state = self.shared.state();
            if state.held.get(network).is_some_and(fit) {
                return Ok(());
            }
            // Those that do not fit are closed before others are made.
            state.found.remove(network).filter(fit)
        };
        let sockets = match found {
            Some(sockets) => sockets,
            None => Sockets::listen_at(interface, addresses)?,
        };
        self.shared.change(|state| {
            state.held.insert(network.to_owned(), sockets);
            News::Serve(network.to_owned())
        });
        Ok(())
    }

    fn begin(&self) {
        {
            let mut state = self.shared.state();
            state.found.clear();
            state.phase = Phase::Speaking;
        }
        self.shared.wake();
    }

    fn stop(&self) {
        let networks: Vec<String> =
            std::mem::take(&mut self.shared.state().held).into_keys().collect();
        for network in networks {
            self.shared.change(|_| News::Say(Said::Close { network }));
        }
        self.end();
    }
}
