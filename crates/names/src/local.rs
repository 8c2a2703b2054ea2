//! Answering in this process.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard};

use ipnet::IpNet;

use crate::{Directory, Error, Foreign, Host, NameServer, Server, Serving, Sockets};

/// Answers the names of networks on a thread of this process, as long as that lives.
#[derive(Debug)]
pub struct Local {
    directory: Arc<RwLock<Directory>>,
    resolv_conf: PathBuf,
    desk: Mutex<Desk>,
}

#[derive(Debug, Default)]
struct Desk {
    /// Started for the first network that is answered.
    server: Option<Server>,
    serving: BTreeMap<String, Vec<Serving>>,
}

impl Local {
    /// Of no networks yet. All names are below `domain`, too; others are asked of the resolvers in
    /// the file `resolv_conf`, whatever that says by then.
    pub fn new(domain: &str, resolv_conf: PathBuf) -> Self {
        let directory = Arc::new(RwLock::new(Directory::new(domain)));
        Self { directory, resolv_conf, desk: Mutex::default() }
    }

    /// Who is on which network.
    pub fn directory(&self) -> &RwLock<Directory> {
        &self.directory
    }

    fn write(&self) -> RwLockWriteGuard<'_, Directory> {
        self.directory.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NameServer for Local {
    fn set_network(&self, network: &str, subnets: Vec<IpNet>, foreign: Foreign) {
        self.write().set_network(network, subnets, foreign);
    }

    fn remove_network(&self, network: &str) {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner).serving.remove(network);
        self.write().remove_network(network);
    }

    fn set_host(&self, key: &str, places: Vec<(String, Host)>) {
        self.write().set_host(key, places);
    }

    fn serve(&self, network: &str, interface: &str, addresses: &[IpAddr]) -> Result<(), Error> {
        let sockets = Sockets::listen_at(interface, addresses)?;
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let Desk { server, serving } = &mut *desk;
        let server = match server {
            Some(server) => server,
            none => none.insert(Server::start(self.directory.clone(), self.resolv_conf.clone())?),
        };
        serving.insert(network.to_owned(), server.serve_all(network, sockets)?);
        Ok(())
    }

    fn begin(&self) {}

    fn stop(&self) {
        *self.desk.lock().unwrap_or_else(PoisonError::into_inner) = Desk::default();
    }
}
