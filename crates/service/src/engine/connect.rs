//! The networks a container is on.

use std::sync::Arc;

use tare_netns::{Connection, ContainerRules, InvalidConnection, NetworkName, PortRequest};
use tare_runtime::{ContainerId, ContainerName};
use tare_spawn::LiveFile;
use tare_specgen::{NetworkMode, Request};

use super::container::{Container, Life, Now};
use super::create::AskedConnection;
use super::network::{MAX_NETWORKS, default_name, with, without};
use super::publish::unpromised;
use super::records::durable::{Connections, DefinitionRow, Joined};
use super::records::volatile::{self, Doing, Incarnation};
use super::{Engine, Error, Inner, view};
use crate::authority::{Action, Ask, Authorized, Caller, Question};

/// A container that is to be on one more network.
#[derive(Debug)]
pub struct Connect {
    /// Which.
    pub container: Arc<view::Container>,
    /// What it asks for, and on which network.
    pub asked: AskedConnection,
}

/// A container that is to be on a network no more.
#[derive(Debug)]
pub struct Disconnect {
    /// Which.
    pub container: Arc<view::Container>,
    /// Which network.
    pub network: Arc<view::Network>,
}

pub(super) fn question(container: &view::Container, verb: &str) -> Question {
    Question::new(Action::ManageNetworks)
        .with("container", container.name.as_str())
        .with("verb", verb)
}

impl Ask for Connect {
    fn question(&self, _: &Caller) -> Question {
        question(&self.container, "connect").with("network", &self.asked.network)
    }
}

impl Ask for Disconnect {
    fn question(&self, _: &Caller) -> Question {
        question(&self.container, "disconnect").with("network", self.network.name.as_str())
    }
}

impl Inner {
    /// How a container that asks for this is connected.
    ///
    /// # Errors
    ///
    /// [`Error::NoOwnNetwork`], [`Error::NoSuchNetwork`], [`Error::AlreadyConnected`] and whatever
    /// is wrong with what is asked for.
    pub(super) fn connections(
        &self,
        request: &Request,
        asked: Vec<AskedConnection>,
        ports: Vec<PortRequest>,
    ) -> Result<Connections, Error> {
        if request.network_mode != NetworkMode::Private {
            let nothing = asked.is_empty() && ports.is_empty();
            return if nothing { Ok(Connections::default()) } else { Err(Error::NoOwnNetwork) };
        }
        let mut connections = Connections::default();
        let default = || {
            vec![AskedConnection {
                network: default_name().to_string(),
                connection: Connection::default(),
            }]
        };
        let asked = if asked.is_empty() { default() } else { asked };
        for one in asked {
            let joined = self.joined(&connections, one)?;
            connections.networks.push(joined);
        }
        self.check_ports(&connections, &ports)?;
        connections.ports = ports;
        Ok(connections)
    }

    /// One more place beside those of `connections`.
    fn joined(&self, connections: &Connections, asked: AskedConnection) -> Result<Joined, Error> {
        let network = self.networks.find(&asked.network)?;
        if connections.networks.len() >= MAX_NETWORKS {
            return Err(Error::TooManyNetworks(MAX_NETWORKS));
        }
        let invalid = |source| Error::InvalidConnection { network: network.name.clone(), source };
        if connections.on(&network.name).is_some() {
            let interface = connections.on(&network.name).map(|joined| joined.interface.clone());
            let interface = interface.unwrap_or_else(|| tare_netns::next_interface(&[]));
            return Err(invalid(InvalidConnection::InterfaceTaken { interface }));
        }
        // Who has an address is asked when the container joins.
        asked.connection.check(&network.definition().network, |_| None).map_err(invalid)?;
        let interface = asked.connection.interface(&connections.interfaces()).map_err(invalid)?;
        Ok(Joined {
            position: connections.free_position(),
            interface,
            addresses: asked.connection.addresses,
            mac: asked.connection.mac,
            aliases: asked.connection.aliases,
            network: network.name.clone(),
        })
    }

    /// The same with the name of the container that has the address.
    pub(super) fn name_holder(&self, error: Error) -> Error {
        let named = |by: String| {
            let named = by.parse().ok().and_then(|id| self.containers.get(&id));
            named.map_or(by, |container| format!("'{}'", container.name()))
        };
        match error {
            Error::AddressInUse { address, network, by } => {
                Error::AddressInUse { address, network, by: named(by) }
            }
            Error::AliasInUse { alias, network, by } => {
                Error::AliasInUse { alias, network, by: named(by) }
            }
            Error::MacInUse { mac, network, by } => Error::MacInUse { mac, network, by: named(by) },
            other => other,
        }
    }
}

impl Engine {
    /// Puts a container on one more network, also while it runs.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with what is asked for; [`Error::AddressInUse`], [`Error::Network`]. It is
    /// then not on it.
    pub async fn connect(&self, request: Authorized<Connect>) -> Result<(), Error> {
        let (Connect { container: asked, asked: connection }, _) = request.into_parts();
        let container = &self.container(&asked.id)?;
        let mut life = container.lock_unchanged(&asked).await?;
        let row = container.definition().row.clone();
        if row.request.network_mode != NetworkMode::Private {
            return Err(Error::NoOwnNetwork);
        }
        if let Some(joined) =
            row.connections.networks.iter().find(|j| j.network.as_str() == connection.network)
        {
            let (name, network) = (row.name, joined.network.clone());
            return Err(Error::AlreadyConnected { name, network });
        }
        let joined = self.joined(&row.connections, connection)?;
        // What is there still of another try to put it on a network, or to take it off.
        self.settle_owed(container, &mut life).await?;
        self.unplug(container, &mut life, &joined.network).await?;
        let one = std::slice::from_ref(&joined);
        self.networks.join(&container.id, one).await.map_err(|error| self.name_holder(error))?;
        let done = self.connect_as(container, &mut life, joined.clone()).await;
        match &done {
            Ok(()) => {
                self.refresh_files(container, &life, &LiveFile::ALL).await;
                self.refresh_sharers(container);
            }
            // What is there of it still keeps the network from being removed.
            Err(_) if is_plugged(&life, &joined.network) => container.show(&life),
            Err(_) => self.networks.leave(&container.id, one),
        }
        done
    }

    async fn connect_as(
        &self,
        container: &Container,
        life: &mut Life,
        joined: Joined,
    ) -> Result<(), Error> {
        if let Now::Running { record, .. } = &mut life.now {
            self.plug_one(container, record, &joined).await?;
        }
        let network = joined.network.clone();
        let written = self
            .redefine(container, life, |row| {
                row.connections.networks.push(joined);
                row.connections.networks.sort_by_key(|joined| joined.position);
            })
            .await;
        if let Now::Running { record, ports, .. } = &mut life.now {
            match &written {
                Ok(()) => ports.lead(record.publications()),
                Err(_) => self.unplug_now(&container.name(), record, &network).await?,
            }
        }
        written
    }

    /// Makes one more interface of a container that runs.
    async fn plug_one(
        &self,
        container: &Container,
        record: &mut Incarnation,
        joined: &Joined,
    ) -> Result<(), Error> {
        let name = container.name();
        self.networks.ready(&name, std::slice::from_ref(joined)).await?;
        let (engine, id, one, before) =
            (self.clone(), container.id.clone(), joined.clone(), record.clone());
        let (intended, unrested) = self
            .run
            .run(move |c| {
                let joined = std::slice::from_ref(&one);
                let plugged = engine.networks.plug(c, &id, joined, &[])?;
                let mut record = before;
                record.network = Some(match &record.network {
                    Some(known) => with(known, plugged.record.places),
                    None => plugged.record,
                });
                record.intend(Doing::Connect(one.network));
                volatile::put(c, &record)?;
                Ok::<_, Error>((record, plugged.unrested))
            })
            .await?;
        let before = std::mem::replace(record, intended).rules();
        let attached = self.networks.attach(&name, before, record, &joined.network, unrested).await;
        let done = match attached {
            Ok(()) => self.fulfil(record).await,
            Err(error) => Err(error),
        };
        if done.is_err() {
            self.unplug_now(&name, record, &joined.network).await?;
        }
        done
    }

    /// Takes a container off a network, also while it runs.
    ///
    /// # Errors
    ///
    /// [`Error::NotConnected`], [`Error::Network`].
    pub async fn disconnect(&self, request: Authorized<Disconnect>) -> Result<(), Error> {
        let (Disconnect { container: asked, network }, _) = request.into_parts();
        let container = &self.container(&asked.id)?;
        let mut life = container.lock_unchanged(&asked).await?;
        self.disconnect_locked(container, &mut life, &network.name).await
    }

    /// Takes a container off a network, if it is there and on it.
    pub(super) async fn take_off(
        &self,
        id: &ContainerId,
        network: &NetworkName,
    ) -> Result<(), Error> {
        let Ok(container) = self.container(id) else { return Ok(()) };
        let Ok(mut life) = container.lock().await else { return Ok(()) };
        match self.disconnect_locked(&container, &mut life, network).await {
            // It may be that only the row of an earlier attempt is gone.
            Err(Error::NotConnected { .. }) => {
                self.networks.leave_one(id, network);
                Ok(())
            }
            done => done,
        }
    }

    async fn disconnect_locked(
        &self,
        container: &Container,
        life: &mut Life,
        network: &NetworkName,
    ) -> Result<(), Error> {
        let row = container.definition().row.clone();
        let is_defined = row.connections.on(network).is_some();
        if !is_defined && !is_plugged(life, network) {
            return Err(Error::NotConnected { name: row.name, network: network.clone() });
        }
        // That it is owed is known by what is being done alone, which is this from now on.
        self.settle_owed(container, life).await?;
        // Should the daemon end before all is done: what is not promised is taken back.
        if is_defined {
            self.redefine(container, life, |row| {
                row.connections.networks.retain(|joined| joined.network != *network);
            })
            .await?;
        }
        self.unplug(container, life, network).await?;
        self.networks.leave_one(&container.id, network);
        Ok(())
    }

    /// Takes away an interface of a container that runs, or what is there of it, with all that leads to its
    /// addresses or tells of them. Its ports lead to another network then, if they can.
    async fn unplug(
        &self,
        container: &Container,
        life: &mut Life,
        network: &NetworkName,
    ) -> Result<(), Error> {
        if !is_plugged(life, network) {
            return Ok(());
        }
        if let Now::Running { record, ports, .. } = &mut life.now {
            ports.leave(&record.addresses_on(network)).await;
            let done = self.unplug_now(&container.name(), record, network).await;
            // Also if that failed: what is written down is the container's.
            ports.lead(record.publications());
            container.show(life);
            done?;
            self.refresh_files(container, life, &LiveFile::ALL).await;
            self.refresh_sharers(container);
        }
        // What it asked for there is free, whatever it asks for next.
        self.networks.leave_one(&container.id, network);
        Ok(())
    }

    async fn unplug_now(
        &self,
        name: &ContainerName,
        record: &mut Incarnation,
        network: &NetworkName,
    ) -> Result<(), Error> {
        record.intend(Doing::Disconnect(network.clone()));
        self.write_record(record).await?;
        self.networks.detach(name, record, network).await?;
        let ports = self.free_place(record, network).await?;
        if ports.elements().is_empty() {
            return Ok(());
        }
        self.networks.admit(name, ports).await?;
        self.fulfil(record).await
    }

    /// The interface is gone, and its addresses are free. Returns what the firewall is to do for its ports: it
    /// is written down that there is this to do, if it is.
    async fn free_place(
        &self,
        record: &mut Incarnation,
        network: &NetworkName,
    ) -> Result<ContainerRules, Error> {
        let mut after = record.clone();
        after.network = record.network.as_ref().map(|known| without(known, network));
        let publications = after.publications().to_vec();
        let ports = ContainerRules { members: Vec::new(), publications };
        if ports.elements().is_empty() {
            after.fulfil(super::clock::Usec::now(), super::clock::Usec::now_monotonic());
        }
        let (written, network) = (after.clone(), network.clone());
        self.run
            .run(move |c| {
                volatile::leases::free_leases_on(c, &network, &written.container)?;
                volatile::put(c, &written)
            })
            .await?;
        *record = after;
        self.networks.rest();
        Ok(ports)
    }

    /// Finishes what is owed to a container that was to be taken off a network, before anything else is
    /// begun: that it is owed is known by what is being done alone.
    pub(super) async fn settle_owed(
        &self,
        container: &Container,
        life: &mut Life,
    ) -> Result<(), Error> {
        let Now::Running { record, .. } = &life.now else { return Ok(()) };
        let owed = record.doing.as_ref().and_then(Doing::network).cloned();
        match owed {
            Some(network) => self.unplug(container, life, &network).await,
            None => Ok(()),
        }
    }

    /// Finishes a change of the network that was begun, by another daemon or in vain.
    pub(super) async fn settle_network(
        &self,
        name: &ContainerName,
        record: &mut Incarnation,
        doing: &Doing,
    ) -> Result<(), Error> {
        match doing {
            Doing::Connect(network) | Doing::Disconnect(network) => {
                self.unplug_now(name, record, network).await
            }
            Doing::Start | Doing::Checkpoint(_) | Doing::Limit(_) => Ok(()),
        }
    }

    /// A container of which nothing is there any more is on no network but those that it is to be on: it
    /// was to be taken off others, in vain.
    pub(super) fn leave_unpromised(&self, container: &Container, record: &Incarnation) {
        let definition = container.definition();
        let places = record.network.iter().flat_map(|known| &known.places);
        let owed = record.doing.as_ref().and_then(Doing::network);
        for network in places.map(|place| &place.network).chain(owed) {
            if definition.row.connections.on(network).is_none() {
                self.networks.leave_one(&container.id, network);
            }
        }
    }

    /// Takes from a container that runs what nobody was promised: another daemon may have ended
    /// between making it and writing down that it is to be.
    pub(super) async fn take_back_unpromised(
        &self,
        row: &DefinitionRow,
        record: &mut Incarnation,
    ) -> Result<(), Error> {
        let Some(network) = &record.network else { return Ok(()) };
        let places = network.places.iter().map(|place| place.network.clone());
        let not_asked_for: Vec<_> =
            places.filter(|network| row.connections.on(network).is_none()).collect();
        for network in not_asked_for {
            self.unplug_now(&row.name, record, &network).await?;
        }
        let promised: Vec<view::Port> =
            row.connections.ports.iter().map(view::Port::from).collect();
        let published: Vec<view::Port> =
            record.publications().iter().map(|it| view::Port::from(&it.port)).collect();
        let gone = unpromised(&promised, &published);
        if !gone.is_empty() {
            self.unpublish_now(&row.name, record, |port| gone.contains(&port)).await?;
        }
        Ok(())
    }
}

/// Whether a container that runs has an interface on a network, or not all of that is taken back.
fn is_plugged(life: &Life, network: &NetworkName) -> bool {
    let Now::Running { record, .. } = &life.now else { return false };
    let places = record.network.iter().flat_map(|known| &known.places);
    let is_half_gone = record.doing.as_ref().and_then(Doing::network) == Some(network);
    is_half_gone || places.map(|place| &place.network).any(|name| name == network)
}
