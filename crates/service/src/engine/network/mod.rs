//! Networks: what each is, and what of it is on the host.
//!
//! One table of the firewall for all of them, and for each the bridge that its containers are
//! joined to, made when the first of these starts. What a container has on its networks is decided
//! in one piece ([`place`]), written down with its record, and then made.

mod address;
mod bridge;
mod create;
mod firewall;
mod live;
mod one;
mod others;
mod place;
mod resting;
mod subnet;
mod update;
mod watching;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, PoisonError, RwLock};

use ipnet::{IpNet, Ipv4Net};
use rusqlite::Connection;
use tare_netns::{
    ContainerRules, InterfaceName, KeptFirewall, NamespaceName, NetworkName, PublishedPort,
};
use tare_runtime::{ContainerId, ContainerName};

use super::blocking::brief;
use super::clock::Usec;
use super::events::Events;
use super::names::Names;
use super::records::Version;
use super::records::durable::{self, Connections, Joined, NetworkDefinition, NetworkRow, Subnets};
use super::records::volatile::{NetworkRecord, leases};
use super::view;
use super::{Error, host, public_labels};
use crate::config::Config;
use crate::db::Db;
use crate::instance::Tag;

pub use create::{
    AskedDriver, AskedNetwork, AskedSubnet, CreateNetwork, InspectNetwork, Members, RemoveNetwork,
};
use firewall::HostFirewall;
pub(super) use one::Network;
use one::Taken;
use others::Others;
pub use others::Zones;
pub(super) use place::{MAX_NETWORKS, owner_of, publications, with, without};
pub use update::{NetworkChanges, UpdateNetwork};

/// Name of the network a container is on if nobody says otherwise.
const DEFAULT: &str = "tare";

/// All networks.
#[derive(Debug)]
pub(super) struct Networks {
    state: Db,
    run: Db,
    tag: Tag,
    pool: Ipv4Net,
    quarantine: std::time::Duration,
    events: Events,
    firewall: HostFirewall,
    others: Arc<Others>,
    /// Names of the containers on them.
    pub(super) names: Arc<Names>,
    all: RwLock<BTreeMap<NetworkName, Arc<Network>>>,
    /// Held by whoever makes or removes a network.
    changing: tokio::sync::Mutex<()>,
    /// Held by whoever lets addresses rest.
    resting: Arc<tokio::sync::Mutex<()>>,
    /// Held by whoever finds out whom to fall back to, until that is done.
    pub(super) falling_back: tokio::sync::Mutex<()>,
}

/// What a container gets for one start.
#[derive(Debug)]
pub(super) struct Plugged {
    pub(super) record: NetworkRecord,
    /// Addresses that the kernel may know connections of.
    pub(super) unrested: Vec<IpAddr>,
}

impl Networks {
    /// All networks as they are in the database; the default one is made if it is not there: with
    /// the first subnet of the pool that no route of the host covers, if there is one.
    pub(super) async fn open(
        state: &Db,
        run: Db,
        tag: Tag,
        (names, zones): (Names, Option<Arc<dyn Zones>>),
        config: &Config,
        events: Events,
        host: &host::Host,
    ) -> Result<Self, Error> {
        let networks = Self {
            state: state.clone(),
            firewall: HostFirewall::new(run.clone(), tag.clone()),
            others: Others::new(tag.table(), zones, events.clone()),
            run,
            tag,
            pool: config.network.pool,
            quarantine: config.network.quarantine,
            events,
            names: Arc::new(names),
            all: RwLock::default(),
            changing: tokio::sync::Mutex::default(),
            resting: Arc::default(),
            falling_back: tokio::sync::Mutex::default(),
        };
        networks.others.watch();
        for found in state.run(durable::networks).await? {
            match found {
                Ok(row) => networks.insert(row, config).await,
                Err(error) => host.taint_unreadable("a network", &error.into()),
            }
        }
        if networks.get(&default_name()).is_none() {
            networks.create_default(config).await?;
        }
        Ok(networks)
    }

    async fn create_default(&self, config: &Config) -> Result<(), Error> {
        let (name, pool, tag) = (default_name(), self.pool, self.tag.clone());
        let (interface, subnet) = brief(move || {
            let interface = bridge::first_free(&tag).map_err(subnet::looked_for)?;
            let choice = subnet::Choice { network: &name, pool, others: Vec::new() };
            Ok::<_, Error>((interface, choice.v4_for_later()?))
        })
        .await?;
        let options = tare_netns::NetworkOptions {
            driver: tare_netns::Driver::Bridge { interface, vlan: None },
            subnets: vec![subnet],
            mtu: None,
            reach: tare_netns::Reach::Open,
            names: tare_netns::Names::Answered,
        };
        let row = NetworkRow {
            name: default_name(),
            id: super::random_id()?.to_string(),
            owner_uid: 0,
            created: Usec::now(),
            definition: NetworkDefinition {
                version: Version,
                network: tare_netns::Network::new(&options).map_err(Error::InvalidNetwork)?,
                subnets: Subnets::Chosen,
                labels: BTreeMap::new(),
                servers: Vec::new(),
            },
        };
        let written = row.clone();
        self.state.run(move |c| durable::insert_network(c, &written)).await?;
        self.insert(row, config).await;
        Ok(())
    }

    async fn insert(&self, row: NetworkRow, config: &Config) {
        self.names.know(&row.name, &row.definition);
        let labels = row.definition.labels.iter();
        let labels = public_labels(config, labels.map(|(k, v)| (k.as_str(), v.as_str())));
        let network = Arc::new(Network::new(row, labels, self.events.clone()));
        let (name, new) = (network.name.clone(), network.clone());
        self.all.write().unwrap_or_else(PoisonError::into_inner).insert(name, new);
        // Others may be asked since its names are known, and whoever saw to that has not found it.
        self.know_names(&network).await;
    }

    /// The names of a network are of what it is now, if it is still there.
    async fn know_names(&self, network: &Network) {
        let _alone = network.redefining.lock().await;
        if self.has(network) {
            self.names.know(&network.name, &network.definition());
        }
    }

    /// Whether it is still there, and stays so for as long as nobody else redefines it.
    fn has(&self, network: &Network) -> bool {
        self.get(&network.name).is_some_and(|found| std::ptr::eq(Arc::as_ptr(&found), network))
    }

    /// The network of that name.
    pub(super) fn get(&self, name: &NetworkName) -> Option<Arc<Network>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The network of that name.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchNetwork`].
    pub(super) fn find(&self, name: &str) -> Result<Arc<Network>, Error> {
        let found = name.parse().ok().and_then(|name| self.get(&name));
        found.ok_or_else(|| Error::NoSuchNetwork(super::table::shortened(name)))
    }

    /// All of them, by name.
    pub(super) fn all(&self) -> Vec<Arc<Network>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The bridges of all that have one.
    pub(super) fn bridges(&self) -> Vec<InterfaceName> {
        self.all().iter().filter_map(|network| network.definition().bridge().cloned()).collect()
    }

    /// A container is on these networks from now on.
    ///
    /// # Errors
    ///
    /// [`Error::AddressInUse`] and [`Error::NoSuchNetwork`]; it is then on none of them.
    pub(super) async fn join(&self, id: &ContainerId, joined: &[Joined]) -> Result<(), Error> {
        for (at, one) in joined.iter().enumerate() {
            if let Err(error) = self.join_one(id, one).await {
                self.leave(id, &joined[..=at]);
                return Err(error);
            }
        }
        Ok(())
    }

    async fn join_one(&self, id: &ContainerId, joined: &Joined) -> Result<(), Error> {
        let network = self.find(joined.network.as_str())?;
        if !joined.addresses.is_empty() {
            see_host(&network).await?;
        }
        if let Some(&address) = joined.addresses.iter().find(|it| network.is_of_host(**it)) {
            return Err(Error::AddressOfHost { address, network: network.name.clone() });
        }
        let in_use = |address, by: ContainerId| Error::AddressInUse {
            address,
            network: network.name.clone(),
            by: by.to_string(),
        };
        network.join(id, joined).map_err(|taken| match taken {
            Taken::Network => Error::NoSuchNetwork(network.name.to_string()),
            Taken::Address(address, by) => in_use(address, by),
            Taken::Alias(alias, by) => {
                Error::AliasInUse { alias, network: network.name.clone(), by: by.to_string() }
            }
            Taken::Mac(mac, by) => {
                Error::MacInUse { mac, network: network.name.clone(), by: by.to_string() }
            }
        })?;
        if joined.addresses.is_empty() {
            return Ok(());
        }
        let (name, addresses) = (network.name.clone(), joined.addresses.clone());
        let holder = self.run.run(move |c| {
            let holders = addresses
                .into_iter()
                .map(|address| Ok::<_, Error>((address, leases::holder(c, &name, address)?)));
            holders.collect::<Result<Vec<_>, _>>()
        });
        match holder
            .await?
            .into_iter()
            .find_map(|(a, by)| by.filter(|by| by != id).map(|by| (a, by)))
        {
            Some((address, by)) => Err(in_use(address, by)),
            None => Ok(()),
        }
    }

    /// A container is on these networks no more.
    pub(super) fn leave(&self, id: &ContainerId, joined: &[Joined]) {
        for one in joined {
            self.leave_one(id, &one.network);
        }
    }

    /// A container is on this network no more.
    pub(super) fn leave_one(&self, id: &ContainerId, network: &NetworkName) {
        if let Some(network) = self.get(network) {
            network.leave(id);
        }
    }

    /// A container that was there before is on its networks.
    pub(super) fn rejoin(&self, id: &ContainerId, connections: &Connections) {
        for joined in &connections.networks {
            let Some(network) = self.get(&joined.network) else { continue };
            if let Err(taken) = network.join(id, joined) {
                tracing::error!(container_id = %id, "what it asks for is another's: {taken:?}");
            }
        }
    }

    /// Makes what networks need on the host before the first address is given, so that their
    /// subnets are this daemon's alone.
    pub(super) async fn ready(&self, by: &ContainerName, joined: &[Joined]) -> Result<(), Error> {
        for one in joined {
            let network = self.find(one.network.as_str())?;
            network.ready().get_or_try_init(|| self.make(&network, by)).await?;
            see_host(&network).await?;
        }
        Ok(())
    }

    async fn make(&self, network: &Arc<Network>, by: &ContainerName) -> Result<(), Error> {
        let lock = brief(subnet::lock_host).await?;
        let name = network.name.clone();
        if !self.run.run(move |c| leases::is_leased_from(c, &name)).await? {
            self.renew(network).await?;
        }
        let definition = network.definition();
        if definition.bridge().is_some() {
            let noted = self.firewall.note_forwarding(&definition.network).await?;
            let made = self.make_bridge(network.clone(), by.clone()).await;
            self.firewall.keep_notes(noted).await;
            made?;
        }
        network.show_interface();
        drop(lock);
        if let Some(bridge) = definition.bridge() {
            self.others.trust(bridge).await;
        }
        Ok(())
    }

    async fn make_bridge(&self, network: Arc<Network>, by: ContainerName) -> Result<(), Error> {
        let failed = move |source| Error::Network { name: by.clone(), source: Box::new(source) };
        let rules = self.firewall.open().await.map_err(&failed)?;
        let names = self.names.clone();
        brief(move || {
            network.ensure(&names).map_err(&failed)?;
            rules.add_network(&network.definition().network).map_err(&failed)
        })
        .await
    }

    /// Writes down other subnets if those it has are taken. Addresses that rest are of the ones
    /// before, and go first: none of them may be given out in the new ones.
    async fn renew(&self, network: &Arc<Network>) -> Result<(), Error> {
        let (known, others, pool) =
            (network.definition(), self.subnets_beside(&network.name), self.pool);
        let name = network.name.clone();
        let before = known.clone();
        let renewed =
            brief(move || subnet::Choice { network: &name, pool, others }.renew(&before)).await?;
        let Some(renewed) = renewed else { return Ok(()) };
        let list: Vec<_> = renewed.subnets().iter().map(|s| s.subnet().to_string()).collect();
        tracing::info!(
            "another has taken a subnet of network '{}'; its containers get {}",
            network.name,
            list.join(", ")
        );
        self.forget_leases(&network.name).await?;
        self.redefine(network, |now| Ok(NetworkDefinition { network: renewed, ..now })).await?;
        Ok(())
    }

    /// The subnets of all networks but one.
    fn subnets_beside(&self, name: &NetworkName) -> Vec<IpNet> {
        subnets_of(self.all().into_iter().filter(|network| network.name != *name))
    }

    /// The network namespace of a container.
    pub(super) fn namespace(&self, id: &ContainerId) -> NamespaceName {
        self.tag.namespace(id)
    }

    /// Gives a container its addresses, and decides what it is given on its networks; in one
    /// transaction with what is done with it.
    pub(super) fn plug(
        &self,
        c: &Connection,
        id: &ContainerId,
        joined: &[Joined],
        ports: &[PublishedPort],
    ) -> Result<Plugged, Error> {
        let mut record = NetworkRecord {
            namespace: self.namespace(id),
            places: Vec::new(),
            publications: Vec::new(),
        };
        let mut unrested = Vec::new();
        for one in joined {
            let network = self.find(one.network.as_str())?;
            let leased = address::lease(c, &network, &one.addresses, id, self.quarantine)?;
            let definition = network.definition();
            record.places.push(place::place(id, one, &definition, &leased.addresses));
            unrested.extend(leased.unrested);
        }
        record.publications = place::publications(&record.places, ports);
        Ok(Plugged { record, unrested })
    }

    /// Makes what has to be there before a container's mount namespace is made: that shows the
    /// container's network namespace only if `/run/netns` was a mount point by then.
    pub(super) async fn get_ready(&self, name: &ContainerName) -> Result<(), Error> {
        let name = name.clone();
        let failed = |source| Error::Network { name, source: Box::new(source) };
        brief(move || tare_netns::prepare_directory().map_err(failed)).await
    }

    /// Makes a container's namespace, and lets it through.
    pub(super) async fn set_up(
        &self,
        name: &ContainerName,
        record: NetworkRecord,
        unrested: Vec<IpAddr>,
        process: Option<Arc<OwnedFd>>,
    ) -> Result<(), Error> {
        let failed = {
            let name = name.clone();
            move |source| Error::Network { name: name.clone(), source: Box::new(source) }
        };
        self.others.look_now_and_then();
        let networks = self.networks_of(&record);
        let rules = self.rules_for(&record).await.map_err(&failed)?;
        let names = self.names.clone();
        self.forget_others_of(unrested, failed.clone()).await?;
        brief(move || {
            networks.iter().try_for_each(|network| network.ensure(&names).map_err(&failed))?;
            let wanted = record.wanted();
            let made = match process {
                None => tare_netns::setup(&wanted),
                Some(process) => tare_netns::configure(&wanted, process.as_fd()),
            };
            made.map_err(&failed)?;
            match rules {
                Some(rules) => rules.admit(&record.rules()).map_err(&failed),
                None => Ok(()),
            }
        })
        .await
    }

    /// Leads to a container also what is under way to its ports; not waited for.
    pub(super) async fn take_over(&self, record: &NetworkRecord) {
        if record.publications.is_empty() {
            return;
        }
        let Ok(rules) = self.firewall.open().await else { return };
        let wanted = record.rules();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = rules.take_over(&wanted) {
                tracing::warn!("what is under way to a published port may not arrive: {error}");
            }
        });
    }

    fn networks_of(&self, record: &NetworkRecord) -> Vec<Arc<Network>> {
        record.places.iter().filter_map(|place| self.get(&place.network)).collect()
    }

    /// Answers the names of networks that are on the host since before this daemon: containers are
    /// on them, or were.
    pub(super) async fn answer_again(&self, used: BTreeSet<NetworkName>) {
        let (all, names) = (self.all(), self.names.clone());
        let work = move || {
            let mut bridges = Vec::new();
            for network in all {
                let is_there = || bridge::is_there(&network.definition().network);
                if !used.contains(&network.name) && !is_there().unwrap_or(false) {
                    continue;
                }
                if let Err(error) = network.ensure(&names) {
                    tracing::warn!("network '{}' is not whole: {error}", network.name);
                }
                if is_there().unwrap_or(true) {
                    bridges.extend(network.definition().bridge().cloned());
                }
            }
            Ok::<_, Error>(bridges)
        };
        let bridges = brief(work).await.unwrap_or_default();
        self.names.begin();
        // Nobody waits for the firewall of somebody else.
        let others = self.others.clone();
        tokio::spawn(async move {
            for bridge in bridges {
                others.trust(&bridge).await;
            }
        });
    }

    /// From now on these are asked in place of the host's resolvers.
    pub(super) async fn fall_back_to(&self, servers: &[IpAddr]) {
        if self.names.fall_back_to(servers) {
            for network in self.all() {
                self.know_names(&network).await;
            }
        }
    }

    /// Whether a firewall of somebody else may stop what containers send and get.
    pub(super) fn is_blocked(&self) -> bool {
        self.others.block()
    }

    /// The firewall, if anything of it is needed.
    async fn rules_for(
        &self,
        record: &NetworkRecord,
    ) -> Result<Option<Arc<KeptFirewall>>, tare_netns::Error> {
        if record.rules() == ContainerRules::default() {
            return Ok(None);
        }
        self.firewall.open().await.map(Some)
    }

    /// Takes down what [`set_up`](Self::set_up) made, or what is there of it. Afterwards its
    /// addresses are to [`rest`](Self::rest).
    pub(super) async fn tear_down(&self, record: NetworkRecord) -> Vec<tare_netns::Error> {
        let rules = self.rules_for(&record).await;
        let work = move || {
            let withdrawn = rules.and_then(|rules| match rules {
                Some(rules) => rules.withdraw(&record.rules(), &ContainerRules::default()),
                None => Ok(()),
            });
            let namespace = tare_netns::teardown(&record.wanted());
            Ok([withdrawn, namespace].into_iter().filter_map(Result::err).collect())
        };
        brief(work).await.unwrap_or_default()
    }

    /// Brings the firewall to what containers and networks want: the table may have been made anew,
    /// or be that of an earlier daemon.
    pub(super) async fn sweep(&self, records: Vec<NetworkRecord>) {
        self.rest();
        let rules = match self.firewall.open_if_made().await {
            Ok(None) => return,
            Ok(Some(Ok(rules))) => rules,
            Ok(Some(Err(error))) => return tracing::warn!("the firewall is not swept: {error}"),
            Err(error) => return tracing::warn!("the firewall is not swept: {}", error.chain()),
        };
        let closed = match self.firewall.closed().await {
            Ok(closed) => closed,
            Err(error) => return tracing::warn!("the firewall is not swept: {}", error.chain()),
        };
        let networks: Vec<_> = self.all().iter().map(|network| network.definition()).collect();
        let work = move || {
            // A bridge that cannot be looked for may be there.
            let there = networks.iter().filter(|it| bridge::is_there(&it.network).unwrap_or(true));
            let networks: Vec<_> = there.filter_map(|it| it.network.rules()).collect();
            let containers: Vec<_> = records.iter().map(NetworkRecord::rules).collect();
            if let Err(error) = rules.settle(&containers, &networks, &closed) {
                tracing::warn!("the firewall is not swept: {error}");
            }
            Ok(())
        };
        let _: Result<(), Error> = brief(work).await;
    }

    /// Takes what is the same for all containers off the host: bridges, table, and what made
    /// `/run/netns` a mount point if nobody else is there.
    pub(super) async fn leave_host(&self) {
        let bridges = self.bridges();
        let rules = self.firewall.open_if_made().await.ok().flatten().and_then(Result::ok);
        self.names.stop();
        for bridge in &bridges {
            self.others.forget(bridge).await;
        }
        let work = move || {
            if let Err(error) = tare_netns::release_directory() {
                tracing::warn!("cannot leave /run/netns as it was: {error}");
            }
            for bridge in bridges {
                if let Err(error) = bridge::remove(&bridge) {
                    tracing::warn!("cannot remove bridge {bridge}: {error}");
                }
            }
            if let Some(Err(error)) = rules.map(|rules| rules.delete()) {
                tracing::warn!("cannot delete the firewall table: {error}");
            }
            Ok(())
        };
        let _: Result<(), Error> = brief(work).await;
    }
}

/// Where containers are on an interface of the host, it has addresses of its own among theirs, and may get
/// others: none of them is a container's.
async fn see_host(network: &Network) -> Result<(), Error> {
    if network.definition().bridge().is_some() {
        return Ok(());
    }
    network.keep_for_host(brief(subnet::addresses_of_host).await?);
    Ok(())
}

fn subnets_of(networks: impl Iterator<Item = Arc<Network>>) -> Vec<IpNet> {
    let of_one = |network: Arc<Network>| network.definition().network.subnets().to_vec();
    networks.flat_map(of_one).map(|subnet| subnet.subnet()).collect()
}

/// The network a container is on if nobody says otherwise.
pub(super) fn default_name() -> NetworkName {
    DEFAULT.parse().expect("this is a name of a network")
}

impl super::Inner {
    /// Name of the network containers are on by default.
    pub fn default_network(&self) -> NetworkName {
        default_name()
    }

    /// What is seen of all networks.
    pub fn networks(&self) -> Vec<Arc<view::Network>> {
        self.networks.all().iter().map(|network| network.seen.get()).collect()
    }

    /// What is seen of the network of that name.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchNetwork`].
    pub fn find_network(&self, name: &str) -> Result<Arc<view::Network>, Error> {
        Ok(self.networks.find(name)?.seen.get())
    }
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod names_tests;
