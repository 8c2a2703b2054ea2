//! What can be changed about a network: whom its containers ask for names, and its labels.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use tare_netns::{NetworkName, Reach};
use tare_spawn::LiveFile;
use tare_specgen::MAX_NAMESERVERS;

use super::{Network, Networks};
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::engine::names::servers;
use crate::engine::records::durable::{self, NetworkDefinition};
use crate::engine::{Engine, Error, public_labels, view};

/// Most labels of one network: they end in JSON and in properties.
const MOST_LABELS: usize = 1024;

/// A network that is to be changed. What is to be added and is there already, or to be removed and
/// is not, is as it should be.
#[derive(Debug)]
pub struct UpdateNetwork {
    /// Which.
    pub network: Arc<view::Network>,
    /// What is changed.
    pub changes: NetworkChanges,
}

/// What is changed about a network: first something is removed, then something added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkChanges {
    /// Resolvers that are asked no more.
    pub remove_servers: BTreeSet<IpAddr>,
    /// Resolvers that are asked after those that there are.
    pub add_servers: Vec<IpAddr>,
    /// Keys of labels that go.
    pub remove_labels: BTreeSet<String>,
    /// Labels that come, or get another value.
    pub add_labels: BTreeMap<String, String>,
}

impl Ask for UpdateNetwork {
    fn question(&self, _: &Caller) -> Question {
        Question::new(Action::ManageNetworks)
            .with("network", self.network.name.as_str())
            .with("verb", "update")
    }
}

impl NetworkChanges {
    /// What a network is after them, where names of networks are `answered` at these addresses. Pure.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyServers`], [`Error::ServerUnheard`], [`Error::ServerIsOurs`],
    /// [`Error::TooManyLabels`].
    fn apply(
        self,
        name: &NetworkName,
        answered: &BTreeMap<IpAddr, NetworkName>,
        mut definition: NetworkDefinition,
    ) -> Result<NetworkDefinition, Error> {
        // Who answers would ask where containers ask, be it itself, and be heard by nobody. Containers that
        // ask themselves may: a server of the host's own may be there.
        let ours = |server: &IpAddr| Some((*server, answered.get(server)?.clone()));
        let ours = definition.answers_names().then(|| self.add_servers.iter().find_map(ours));
        if let Some((server, of)) = ours.flatten() {
            return Err(Error::ServerIsOurs { network: name.clone(), server, of });
        }
        definition.servers.retain(|server| !self.remove_servers.contains(server));
        for server in self.add_servers {
            if !definition.servers.contains(&server) {
                definition.servers.push(server);
            }
        }
        definition.labels.retain(|key, _| !self.remove_labels.contains(key));
        definition.labels.extend(self.add_labels);
        if definition.servers.len() > MAX_NAMESERVERS {
            return Err(Error::TooManyServers { network: name.clone(), most: MAX_NAMESERVERS });
        }
        let is_closed = definition.network.reach() == Reach::Internal && definition.answers_names();
        if is_closed && !definition.servers.is_empty() {
            return Err(Error::ServerUnheard(name.clone()));
        }
        check_labels(name, &definition.labels)?;
        Ok(definition)
    }
}

/// An error if a network would have too many labels.
pub(super) fn check_labels(
    name: &NetworkName,
    labels: &BTreeMap<String, String>,
) -> Result<(), Error> {
    if labels.len() <= MOST_LABELS {
        return Ok(());
    }
    Err(Error::TooManyLabels { network: name.clone(), most: MOST_LABELS })
}

impl Engine {
    /// Changes whom the containers of a network ask for names, at once and also those that run, and
    /// its labels.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchNetwork`], and those of what it would be then; it is then as before.
    pub async fn update_network(&self, request: Authorized<UpdateNetwork>) -> Result<(), Error> {
        let (UpdateNetwork { network, changes }, _) = request.into_parts();
        let _alone = self.networks.changing.lock().await;
        let network = self.networks.find(network.name.as_str())?;
        let (before, answered) = (network.definition(), self.networks.answered());
        let changed = |now| changes.apply(&network.name, &answered, now);
        let after = self.networks.redefine(&network, changed).await?;
        let labels = after.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        network.show_labels(public_labels(&self.config(), labels));
        if before.servers != after.servers {
            self.refresh_resolvers(&network);
        }
        Ok(())
    }

    /// The containers of a network learn whom to ask; not waited for.
    fn refresh_resolvers(&self, network: &Network) {
        let (engine, members) = (self.clone(), network.containers());
        tokio::spawn(async move {
            for container in members.iter().filter_map(|id| engine.containers.get(id)) {
                if let Ok(life) = container.lock().await {
                    engine.refresh_files(&container, &life, &[LiveFile::ResolvConf]).await;
                }
                engine.refresh_sharers(&container);
            }
        });
    }
}

impl Networks {
    /// Where names are answered, and of which network.
    fn answered(&self) -> BTreeMap<IpAddr, NetworkName> {
        let of_one = |network: Arc<Network>| {
            let definition = network.definition();
            let at = if definition.answers_names() { servers(&definition) } else { Vec::new() };
            at.into_iter().map(move |address| (address, network.name.clone()))
        };
        self.all().into_iter().flat_map(of_one).collect()
    }

    /// Changes what a network is: written down, then known. The one way to do it.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchNetwork`] if it was removed meanwhile; those of `change`.
    pub(super) async fn redefine(
        &self,
        network: &Network,
        change: impl FnOnce(NetworkDefinition) -> Result<NetworkDefinition, Error>,
    ) -> Result<Arc<NetworkDefinition>, Error> {
        let _alone = network.redefining.lock().await;
        if !self.has(network) {
            return Err(Error::NoSuchNetwork(network.name.to_string()));
        }
        let definition = change((*network.definition()).clone())?;
        let (name, written) = (network.name.clone(), definition.clone());
        self.state.run(move |c| durable::redefine_network(c, &name, &written)).await?;
        self.names.know(&network.name, &definition);
        network.define(definition);
        Ok(network.definition())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::records::durable::NetworkRow;

    fn resolvers(count: u8) -> Vec<IpAddr> {
        (1..=count).map(|last| IpAddr::from([192, 0, 2, last])).collect()
    }

    fn after(
        changes: NetworkChanges,
        definition: &NetworkDefinition,
    ) -> Result<NetworkDefinition, Error> {
        let answered = ["10.88.0.1", "10.89.0.1"].map(|at| at.parse().unwrap());
        let answered = answered.into_iter().zip(["n", "m"].map(|name| name.parse().unwrap()));
        changes.apply(&"n".parse().unwrap(), &answered.collect(), definition.clone())
    }

    fn adding(servers: Vec<IpAddr>) -> NetworkChanges {
        NetworkChanges { add_servers: servers, ..NetworkChanges::default() }
    }

    #[test]
    fn what_goes_goes_before_what_comes() {
        let before = NetworkRow::sample("n").definition;
        let [first, second, third, fourth] = resolvers(4)[..] else { unreachable!() };
        let full = after(adding(vec![first, second, third, second]), &before).unwrap();
        assert_eq!(full.servers, [first, second, third]);
        let refused = after(adding(vec![fourth]), &full).unwrap_err();
        assert!(matches!(refused, Error::TooManyServers { .. }), "{refused:?}");
        let exchange = NetworkChanges {
            remove_servers: [first, IpAddr::from([192, 0, 2, 99])].into(),
            remove_labels: ["none".into()].into(),
            add_labels: [("a".into(), "b".into())].into(),
            ..adding(vec![fourth, third])
        };
        let changed = after(exchange, &full).unwrap();
        assert_eq!(changed.servers, [second, third, fourth]);
        assert_eq!(changed.labels.get("a").map(String::as_str), Some("b"));
        let back = NetworkChanges {
            remove_servers: changed.servers.iter().copied().collect(),
            remove_labels: ["a".into()].into(),
            ..NetworkChanges::default()
        };
        assert_eq!(after(back, &changed).unwrap(), before);
    }

    #[test]
    fn where_nobody_else_is_asked_there_is_no_resolver() {
        let mut definition = NetworkRow::sample("n").definition;
        let mut options: tare_netns::NetworkOptions = definition.network.into();
        options.reach = Reach::Internal;
        definition.network = options.clone().try_into().unwrap();
        let refused = after(adding(resolvers(1)), &definition).unwrap_err();
        assert!(matches!(refused, Error::ServerUnheard(_)), "{refused:?}");
        // Containers ask it themselves: it may be one of them.
        options.names = tare_netns::Names::Off;
        definition.network = options.try_into().unwrap();
        after(adding(resolvers(1)), &definition).unwrap();
    }

    #[test]
    fn whoever_answers_does_not_ask_where_containers_ask() {
        let mut definition = NetworkRow::sample("n").definition;
        for (server, whose) in [([10, 88, 0, 1], "n"), ([10, 89, 0, 1], "m")] {
            let asked = IpAddr::from(server);
            match after(adding(vec![[192, 0, 2, 1].into(), asked]), &definition).unwrap_err() {
                Error::ServerIsOurs { server, of, .. } => {
                    assert_eq!((server, of.as_str()), (asked, whose));
                }
                other => panic!("{other:?}"),
            }
        }
        after(adding(vec![[10, 88, 0, 2].into()]), &definition).unwrap();
        // Containers ask there themselves, and somebody else may answer.
        let mut options: tare_netns::NetworkOptions = definition.network.into();
        options.names = tare_netns::Names::Off;
        definition.network = options.try_into().unwrap();
        after(adding(vec![[10, 88, 0, 1].into()]), &definition).unwrap();
    }

    #[test]
    fn there_are_not_too_many_labels() {
        let labels = (0..=MOST_LABELS).map(|at| (at.to_string(), String::new())).collect();
        let changes = NetworkChanges { add_labels: labels, ..NetworkChanges::default() };
        let refused = after(changes, &NetworkRow::sample("n").definition).unwrap_err();
        assert!(matches!(refused, Error::TooManyLabels { .. }), "{refused:?}");
    }
}
