//! Names of containers: who is called what, and who says so on which network.
//!
//! Who is on a network, and runs, is in the directory of `tare_names` from the moment its process is
//! let go to the moment it has ended; [`Container::show`](super::container::Container::show) sees to
//! it. A network is answered at the addresses of its bridge from when that is made.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tare_names::{Foreign, Host, NameServer};
use tare_netns::{Ensured, IpFamily, NetworkName, Reach};
use tare_runtime::ContainerId;

use super::records::durable::{DefinitionRow, NetworkDefinition};
use super::records::volatile::NetworkRecord;

/// The names of all networks.
#[derive(Debug)]
pub(super) struct Names {
    server: Arc<dyn NameServer>,
    /// Who sees to it that a network is answered has this, one after the other.
    turn: Mutex<()>,
    /// Never locked while anything is done: properties are made of it.
    answered: Mutex<BTreeMap<NetworkName, Answered>>,
    /// Who is asked in place of the host's resolvers, while the host has none.
    fallback: Mutex<Vec<IpAddr>>,
}

/// What was made of answering a network.
#[derive(Debug)]
enum Answered {
    /// It is, at these addresses.
    At(Vec<IpAddr>),
    /// Another program answers there.
    Busy,
    /// It could not be.
    Failed,
}

impl Names {
    /// Of no networks yet.
    pub(super) fn new(server: Arc<dyn NameServer>) -> Self {
        Self {
            server,
            turn: Mutex::default(),
            answered: Mutex::default(),
            fallback: Mutex::default(),
        }
    }

    /// What goes on since before this daemon is known.
    pub(super) fn begin(&self) {
        self.server.begin();
    }

    /// A network is this from now on.
    pub(super) fn know(&self, name: &NetworkName, definition: &NetworkDefinition) {
        if !definition.answers_names() {
            return;
        }
        let network = &definition.network;
        let subnets = network.subnets().iter().map(tare_netns::Subnet::subnet).collect();
        let foreign = match network.reach() {
            Reach::Internal => Foreign::Refused,
            Reach::Open | Reach::Isolated => asked([&definition.servers, &self.fallback()]),
        };
        self.server.set_network(name.as_str(), subnets, foreign);
    }

    /// From now on these are asked in place of the host's resolvers, where a network has none of its
    /// own. Whether they were others before; then all networks are to be [known](Self::know) again.
    pub(super) fn fall_back_to(&self, servers: &[IpAddr]) -> bool {
        let mut fallback = self.fallback();
        let changes = *fallback != servers;
        servers.clone_into(&mut fallback);
        changes
    }

    fn fallback(&self) -> MutexGuard<'_, Vec<IpAddr>> {
        self.fallback.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is no such network any more.
    pub(super) fn forget(&self, name: &NetworkName) {
        self.answered().remove(name);
        self.server.remove_network(name.as_str());
    }

    /// A container that runs is called this from now on.
    pub(super) fn show(&self, id: &ContainerId, row: &DefinitionRow, record: &NetworkRecord) {
        self.server.set_host(id.short(), places(id, row, record));
    }

    /// A container does not run: nobody finds it.
    pub(super) fn hide(&self, id: &ContainerId) {
        self.server.set_host(id.short(), Vec::new());
    }

    /// Answers a network at the addresses of its bridge, which is there, if it is to be and is not
    /// yet. To be called again when the bridge was made again. Whether it is answered then.
    ///
    /// What fails is told, and the network is used without.
    pub(super) fn answer(
        &self,
        name: &NetworkName,
        definition: &NetworkDefinition,
        bridge: Ensured,
    ) -> bool {
        let (true, Some(interface)) = (definition.answers_names(), definition.bridge()) else {
            return false;
        };
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (was_tried, is_answered) = match self.answered().get(name) {
            Some(before) => (true, matches!(before, Answered::At(..))),
            None => (false, false),
        };
        if is_answered && bridge == Ensured::AlreadyThere {
            return true;
        }
        let addresses = servers(definition);
        let now = match self.server.serve(name.as_str(), interface.as_str(), &addresses) {
            Ok(()) => Answered::At(addresses),
            Err(error) => {
                let now = if error.is_busy() { Answered::Busy } else { Answered::Failed };
                // Once, not at every start.
                if !was_tried {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    let cause = cause.unwrap_or_default();
                    tracing::warn!("network '{name}' is without names: {error}: {cause}");
                }
                now
            }
        };
        let done = matches!(now, Answered::At(..));
        self.answered().insert(name.clone(), now);
        done
    }

    /// Nothing is answered any more.
    pub(super) fn stop(&self) {
        self.answered().clear();
        self.server.stop();
    }

    /// Where containers on a network ask, if it is answered.
    pub(super) fn server_of(&self, name: &NetworkName) -> Option<IpAddr> {
        match self.answered().get(name) {
            Some(Answered::At(addresses)) => addresses.first().copied(),
            _ => None,
        }
    }

    /// Whether another program answers where a network should be.
    pub(super) fn is_busy(&self) -> bool {
        self.answered().values().any(|answered| matches!(answered, Answered::Busy))
    }

    fn answered(&self) -> MutexGuard<'_, BTreeMap<NetworkName, Answered>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first of these lists that names anybody; else the host's resolvers.
fn asked(lists: [&[IpAddr]; 2]) -> Foreign {
    let named = lists.into_iter().find(|list| !list.is_empty());
    named.map_or(Foreign::Forwarded, |list| Foreign::Asked(list.to_vec()))
}

/// Where a network is asked: at its first gateway of each family.
pub(super) fn servers(definition: &NetworkDefinition) -> Vec<IpAddr> {
    let gateways = || definition.network.subnets().iter().map(tare_netns::Subnet::gateway);
    let first = |family| gateways().find(|gateway| IpFamily::of(*gateway) == family);
    [IpFamily::V4, IpFamily::V6].into_iter().filter_map(first).collect()
}

/// What a container is called on each of its networks.
fn places(id: &ContainerId, row: &DefinitionRow, record: &NetworkRecord) -> Vec<(String, Host)> {
    let place = |place: &super::records::volatile::Place| {
        let aliases = row.connections.on(&place.network).map(|joined| &joined.aliases);
        let host = Host {
            names: vec![row.name.to_string(), id.short().to_owned()],
            aliases: aliases.into_iter().flatten().map(ToString::to_string).collect(),
            addresses: place.attachment.addresses.iter().map(ipnet::IpNet::addr).collect(),
        };
        (place.network.to_string(), host)
    };
    record.places.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::records::durable::{ContainerRow, Joined, NetworkRow};
    use crate::engine::records::volatile::Incarnation;
    use tare_names::{Answer, Question};

    #[test]
    fn a_container_is_found_while_it_is_shown() {
        let server = Arc::new(crate::names::local());
        let names = Names::new(server.clone());
        let network = NetworkRow::sample("tare");
        names.know(&network.name, &network.definition);
        let mut row = ContainerRow::sample("web");
        row.definition.connections.networks = vec![Joined {
            aliases: vec!["www".parse().unwrap()],
            ..Joined::sample(network.name.as_str())
        }];
        let record = Incarnation::sample().network.unwrap();
        let address = record.places[0].attachment.addresses[0].addr();
        assert_eq!(record.places[0].network, network.name);
        let ask = |name: &str| {
            let directory = server.directory().read().unwrap();
            directory.answer("tare", address, Question::Addresses(name))
        };
        assert_eq!(ask("web"), Answer::Unknown);
        names.show(&row.id, &row.definition, &record);
        for name in ["web", "www", row.id.short(), "web.tare.internal"] {
            assert_eq!(ask(name), Answer::Addresses(vec![address]), "{name}");
        }
        names.hide(&row.id);
        assert_eq!(ask("web"), Answer::Unknown);
    }

    #[test]
    fn the_fallback_is_asked_where_a_network_has_nobody_of_its_own() {
        let server = Arc::new(crate::names::local());
        let names = Names::new(server.clone());
        let (name, mut definition) =
            (NetworkRow::sample("n").name, NetworkRow::sample("n").definition);
        let [own, fallback]: [IpAddr; 2] = [[192, 0, 2, 1].into(), [203, 0, 113, 7].into()];
        let elsewhere = |definition: &NetworkDefinition| {
            names.know(&name, definition);
            let directory = server.directory().read().unwrap();
            directory.answer("n", own, Question::Addresses("example.org"))
        };
        assert_eq!(elsewhere(&definition), Answer::Elsewhere(vec![]));
        assert!(names.fall_back_to(&[fallback]) && !names.fall_back_to(&[fallback]));
        assert_eq!(elsewhere(&definition), Answer::Elsewhere(vec![fallback]));
        definition.servers = vec![own];
        assert_eq!(elsewhere(&definition), Answer::Elsewhere(vec![own]));
        let mut options: tare_netns::NetworkOptions = definition.network.into();
        options.reach = Reach::Internal;
        definition.network = options.try_into().unwrap();
        assert_eq!(elsewhere(&definition), Answer::Refused);
    }

    #[test]
    fn a_network_is_asked_at_one_address_of_each_family() {
        let mut definition = NetworkRow::sample("n").definition;
        let mut options: tare_netns::NetworkOptions = definition.network.into();
        for net in ["10.89.0.0/24", "fd00:88::/64", "fd00:89::/64"] {
            options.subnets.push(tare_netns::SubnetOptions::new(net.parse().unwrap()));
        }
        definition.network = options.try_into().unwrap();
        let want: Vec<IpAddr> = ["10.88.0.1", "fd00:88::1"].map(|a| a.parse().unwrap()).to_vec();
        assert_eq!(servers(&definition), want);
    }
}
