//! One network: what it is, who is on it, and what of that is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tare_netns::{Alias, Driver, MacAddress, NetworkName, Reach};
use tare_runtime::ContainerId;
use tokio::sync::OnceCell;

use crate::engine::events::Events;
use crate::engine::names::Names;
use crate::engine::object::Visible;
use crate::engine::records::durable::{Joined, NetworkDefinition, NetworkRow};
use crate::engine::view::{self, NetworkDriver};

/// A network.
#[derive(Debug)]
pub(in crate::engine) struct Network {
    pub(in crate::engine) name: NetworkName,
    definition: RwLock<Arc<NetworkDefinition>>,
    /// The containers that are on it, running or not, with what is kept for them.
    members: Mutex<Members>,
    /// Addresses that the host has itself where the containers are, as it was last seen to.
    of_host: RwLock<BTreeSet<IpAddr>>,
    /// Whether what it needs on the host is there, and its subnets are this daemon's alone.
    ready: RwLock<Arc<OnceCell<()>>>,
    /// Held by whoever changes what it is, from looking to writing down, and by whoever removes it or says
    /// what its names are, so that the last of them is right.
    pub(super) redefining: tokio::sync::Mutex<()>,
    /// What is seen of it.
    pub(in crate::engine) seen: Visible<view::Network>,
}

/// The containers on a network, and what each of them alone has there, also while it does not run:
/// found by what it is, since each start asks whose an address is.
#[derive(Debug, Default)]
struct Members {
    containers: BTreeSet<ContainerId>,
    addresses: BTreeMap<IpAddr, ContainerId>,
    aliases: BTreeMap<Alias, ContainerId>,
    macs: BTreeMap<MacAddress, ContainerId>,
    /// Whether nobody may join it: it is being removed.
    is_closed: bool,
}

impl Members {
    /// What is another's of what a container asks for, if anything is.
    fn check(&self, id: &ContainerId, asked: &Joined) -> Result<(), Taken> {
        let of_another = |by: &&ContainerId| *by != id;
        for address in &asked.addresses {
            if let Some(by) = self.addresses.get(address).filter(of_another) {
                return Err(Taken::Address(*address, by.clone()));
            }
        }
        for alias in &asked.aliases {
            if let Some(by) = self.aliases.get(alias).filter(of_another) {
                return Err(Taken::Alias(alias.clone(), by.clone()));
            }
        }
        match asked.mac.and_then(|mac| Some((mac, self.macs.get(&mac).filter(of_another)?))) {
            Some((mac, by)) => Err(Taken::Mac(mac, by.clone())),
            None => Ok(()),
        }
    }

    fn forget(&mut self, id: &ContainerId) {
        self.containers.remove(id);
        self.addresses.retain(|_, by| by != id);
        self.aliases.retain(|_, by| by != id);
        self.macs.retain(|_, by| by != id);
    }
}

/// Why a container cannot join: of what somebody else has, or keeps for when it runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The network is being removed.
    Network,
    /// An address.
    Address(IpAddr, ContainerId),
    /// A name beside its own.
    Alias(Alias, ContainerId),
    /// A hardware address.
    Mac(MacAddress, ContainerId),
}

impl Network {
    /// A network as it is written down; it is seen from now on.
    pub(super) fn new(
        row: NetworkRow,
        public_labels: BTreeMap<String, String>,
        events: Events,
    ) -> Self {
        let view = first_view(&row, public_labels);
        Self {
            name: row.name,
            definition: RwLock::new(Arc::new(row.definition)),
            members: Mutex::default(),
            of_host: RwLock::default(),
            ready: RwLock::default(),
            redefining: tokio::sync::Mutex::default(),
            seen: Visible::new(view, events),
        }
    }

    /// What it is.
    pub(in crate::engine) fn definition(&self) -> Arc<NetworkDefinition> {
        self.definition.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on it is this.
    pub(super) fn define(&self, definition: NetworkDefinition) {
        self.seen.show(|view| view.subnets = subnets(&definition));
        *self.definition.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(definition);
    }

    /// Whether what it needs on the host is there; who finds that it is not makes it, and others
    /// wait.
    pub(super) fn ready(&self) -> Arc<OnceCell<()>> {
        self.ready.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it needs on the host is there no more.
    pub(super) fn not_ready(&self) {
        *self.ready.write().unwrap_or_else(PoisonError::into_inner) = Arc::default();
        self.seen.show(|view| view.interface = None);
    }

    /// Sees to its bridge, if it has one, and to the names of those who are on it.
    ///
    /// # Errors
    ///
    /// Those of [`tare_netns::ensure_bridge`].
    pub(super) fn ensure(&self, names: &Names) -> Result<(), tare_netns::Error> {
        let definition = self.definition();
        let Some(bridge) = definition.network.bridge() else { return Ok(()) };
        let found = tare_netns::ensure_bridge(&bridge)?;
        self.show_names(names.answer(&self.name, &definition, found));
        Ok(())
    }

    /// The interface it needs on the host is there.
    pub(super) fn show_interface(&self) {
        let interface = match self.definition().network.driver() {
            Driver::Bridge { interface, .. } => interface.clone(),
            Driver::Macvlan { parent, .. } => parent.clone(),
        };
        self.seen.show(|view| view.interface = Some(interface));
    }

    /// Whether names of containers are answered on it.
    pub(super) fn show_names(&self, answered: bool) {
        self.seen.show(|view| view.dns = answered);
    }

    /// Its labels that everybody may see are these.
    pub(super) fn show_labels(&self, labels: BTreeMap<String, String>) {
        self.seen.show(|view| view.public_labels = labels);
    }

    /// A container is on it from now on, and keeps what it asks for: addresses, aliases, and its hardware
    /// address.
    pub(super) fn join(&self, id: &ContainerId, joined: &Joined) -> Result<(), Taken> {
        let mut members = self.members();
        if members.is_closed {
            return Err(Taken::Network);
        }
        members.check(id, joined)?;
        let Joined { addresses, aliases, mac, .. } = joined;
        members.containers.insert(id.clone());
        members.addresses.extend(addresses.iter().map(|address| (*address, id.clone())));
        members.aliases.extend(aliases.iter().map(|alias| (alias.clone(), id.clone())));
        members.macs.extend(mac.iter().map(|mac| (*mac, id.clone())));
        self.show_members(&members);
        Ok(())
    }

    /// A container is not on it any more.
    pub(super) fn leave(&self, id: &ContainerId) {
        let mut members = self.members();
        members.forget(id);
        self.show_members(&members);
    }

    /// From now on nobody joins it, for as long as what is given lives; nothing if somebody is on it.
    pub(super) fn close(&self) -> Option<Closed<'_>> {
        let mut members = self.members();
        if !members.containers.is_empty() {
            return None;
        }
        members.is_closed = true;
        drop(members);
        Some(Closed(self))
    }

    /// Whether a container other than `id` keeps an address for itself, or the host has it.
    pub(super) fn is_kept_from(&self, id: &ContainerId, address: IpAddr) -> bool {
        self.is_of_host(address)
            || self.members().addresses.get(&address).is_some_and(|by| by != id)
    }

    /// Whether the host has an address itself.
    pub(super) fn is_of_host(&self, address: IpAddr) -> bool {
        self.of_host.read().unwrap_or_else(PoisonError::into_inner).contains(&address)
    }

    /// The host has these addresses.
    pub(super) fn keep_for_host(&self, addresses: Vec<IpAddr>) {
        let addresses = addresses.into_iter().collect();
        *self.of_host.write().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// The containers that are on it.
    pub(in crate::engine) fn containers(&self) -> Vec<ContainerId> {
        self.members().containers.iter().cloned().collect()
    }

    fn show_members(&self, members: &Members) {
        self.seen.show(|view| view.containers = members.containers.iter().cloned().collect());
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A network that nobody joins.
#[derive(Debug)]
pub(super) struct Closed<'n>(&'n Network);

impl Closed<'_> {
    /// It is there no more.
    pub(super) fn for_good(self) {
        std::mem::forget(self);
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.members().is_closed = false;
    }
}

fn first_view(row: &NetworkRow, public_labels: BTreeMap<String, String>) -> view::Network {
    let network = &row.definition.network;
    view::Network {
        name: row.name.clone(),
        id: row.id.clone(),
        owner_uid: row.owner_uid,
        created: row.created,
        driver: match network.driver() {
            Driver::Bridge { .. } => NetworkDriver::Bridge,
            Driver::Macvlan { .. } => NetworkDriver::Macvlan,
        },
        interface: None,
        subnets: subnets(&row.definition),
        internal: network.reach() == Reach::Internal,
        dns: row.definition.answers_names(),
        containers: Vec::new(),
        public_labels,
    }
}

fn subnets(definition: &NetworkDefinition) -> Vec<tare_netns::Subnet> {
    definition.network.subnets().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a container asks for, of these addresses, aliases and hardware address.
    fn asking(addresses: &[IpAddr], aliases: &[&str], mac: Option<&str>) -> Joined {
        Joined {
            addresses: addresses.to_vec(),
            aliases: aliases.iter().map(|alias| alias.parse().unwrap()).collect(),
            mac: mac.map(|mac| mac.parse().unwrap()),
            ..Joined::sample("n")
        }
    }

    #[test]
    fn what_a_container_asked_for_is_kept_for_it() {
        let network = Network::new(NetworkRow::sample("n"), BTreeMap::new(), Events::channel().0);
        let (a, b) = (ContainerId::random().unwrap(), ContainerId::random().unwrap());
        let address = IpAddr::from([10, 88, 0, 2]);
        let mac = "02:00:00:00:00:07";
        let all = asking(&[address], &["db"], Some(mac));
        network.join(&a, &all).unwrap();
        network.join(&a, &all).unwrap();
        for (asked, taken) in [
            (asking(&[address], &[], None), Taken::Address(address, a.clone())),
            (asking(&[], &["db"], None), Taken::Alias("db".parse().unwrap(), a.clone())),
            (asking(&[], &[], Some(mac)), Taken::Mac(mac.parse().unwrap(), a.clone())),
        ] {
            assert_eq!(network.join(&b, &asked), Err(taken));
            assert_eq!(network.containers(), std::slice::from_ref(&a));
        }
        assert!(network.is_kept_from(&b, address) && !network.is_kept_from(&a, address));
        assert_eq!(network.seen.get().containers, std::slice::from_ref(&a));
        network.leave(&a);
        network.join(&b, &all).unwrap();
        assert_eq!(network.containers(), [b]);
    }

    #[test]
    fn nobody_joins_what_is_being_removed_and_it_is_not_removed_while_somebody_is_on_it() {
        let network = Network::new(NetworkRow::sample("n"), BTreeMap::new(), Events::channel().0);
        let id = ContainerId::random().unwrap();
        let closed = network.close().unwrap();
        assert_eq!(network.join(&id, &Joined::sample("n")), Err(Taken::Network));
        // It could not be.
        drop(closed);
        network.join(&id, &Joined::sample("n")).unwrap();
        assert!(network.close().is_none());
        network.leave(&id);
        network.close().unwrap().for_good();
        assert_eq!(network.join(&id, &Joined::sample("n")), Err(Taken::Network));
    }
}
