//! One network: what it is, who is on it, and what of that is seen.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tare_netns::{Driver, NetworkName, Reach};
use tare_runtime::ContainerId;
use tokio::sync::OnceCell;

use crate::engine::events::Events;
use crate::engine::object::Visible;
use crate::engine::records::durable::{NetworkDefinition, NetworkRow};
use crate::engine::view;

/// A network.
#[derive(Debug)]
pub(in crate::engine) struct Network {
    pub(in crate::engine) name: NetworkName,
    definition: RwLock<Arc<NetworkDefinition>>,
    /// The containers that are on it, running or not, with the addresses they ask for.
    members: Mutex<BTreeMap<ContainerId, Vec<IpAddr>>>,
    /// Whether what it needs on the host is there, and its subnets are this daemon's alone.
    ready: RwLock<Arc<OnceCell<()>>>,
    /// What is seen of it.
    pub(in crate::engine) seen: Visible<view::Network>,
}

/// Somebody else has an address, or keeps it for when it runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) address: IpAddr,
    pub(super) by: ContainerId,
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
            ready: RwLock::default(),
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

    /// The interface it needs on the host is there.
    pub(super) fn show_interface(&self) {
        let interface = match self.definition().network.driver() {
            Driver::Bridge { interface, .. } => interface.clone(),
            Driver::Macvlan { parent, .. } => parent.clone(),
        };
        self.seen.show(|view| view.interface = Some(interface));
    }

    /// A container is on it from now on, and keeps the addresses it asks for.
    pub(super) fn join(&self, id: &ContainerId, asked: &[IpAddr]) -> Result<(), Taken> {
        let mut members = self.members();
        let taken = asked.iter().find_map(|&address| {
            let by = members.iter().find(|(by, theirs)| *by != id && theirs.contains(&address))?.0;
            Some(Taken { address, by: by.clone() })
        });
        if let Some(taken) = taken {
            return Err(taken);
        }
        members.insert(id.clone(), asked.to_vec());
        self.show_members(&members);
        Ok(())
    }

    /// A container is not on it any more.
    pub(super) fn leave(&self, id: &ContainerId) {
        let mut members = self.members();
        members.remove(id);
        self.show_members(&members);
    }

    /// Whether a container other than `id` keeps an address for itself.
    pub(super) fn is_kept_from(&self, id: &ContainerId, address: IpAddr) -> bool {
        let members = self.members();
        members.iter().any(|(by, theirs)| by != id && theirs.contains(&address))
    }

    /// The containers that are on it.
    pub(in crate::engine) fn containers(&self) -> Vec<ContainerId> {
        self.members().keys().cloned().collect()
    }

    fn show_members(&self, members: &BTreeMap<ContainerId, Vec<IpAddr>>) {
        self.seen.show(|view| view.containers = members.keys().cloned().collect());
    }

    fn members(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Vec<IpAddr>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
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
            Driver::Bridge { .. } => "bridge",
            Driver::Macvlan { .. } => "macvlan",
        },
        interface: None,
        subnets: subnets(&row.definition),
        internal: network.reach() == Reach::Internal,
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

    #[test]
    fn an_address_is_kept_for_the_container_that_asked_for_it() {
        let network = Network::new(NetworkRow::sample("n"), BTreeMap::new(), Events::channel().0);
        let (a, b) = (ContainerId::random().unwrap(), ContainerId::random().unwrap());
        let address = IpAddr::from([10, 88, 0, 2]);
        network.join(&a, &[address]).unwrap();
        network.join(&a, &[address]).unwrap();
        assert_eq!(network.join(&b, &[address]), Err(Taken { address, by: a.clone() }));
        assert!(network.is_kept_from(&b, address) && !network.is_kept_from(&a, address));
        assert_eq!(network.seen.get().containers, std::slice::from_ref(&a));
        network.leave(&a);
        network.join(&b, &[address]).unwrap();
        assert_eq!(network.containers(), [b]);
    }
}
