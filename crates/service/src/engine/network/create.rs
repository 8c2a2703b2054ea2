//! Making and removing networks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use tare_netns::{
    AddressRange, Driver, InterfaceName, MacvlanMode, Names, NetworkName, NetworkOptions, Reach,
    SubnetOptions, VlanId,
};

use super::subnet::{self, Choice};
use super::{Network, Networks, default_name};
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::engine::blocking::brief;
use crate::engine::clock::Usec;
use crate::engine::records::Version;
use crate::engine::records::durable::{self, NetworkDefinition, NetworkRow, Subnets};
use crate::engine::records::volatile::leases;
use crate::engine::{Engine, Error, Inner, view};

/// A subnet as somebody asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedSubnet {
    /// Which.
    pub subnet: IpNet,
    /// The way out; the first host address if nothing is said.
    pub gateway: Option<IpAddr>,
    /// What containers get their addresses from.
    pub range: Option<AddressRange>,
}

/// What a network is made of, as somebody asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskedDriver {
    /// A bridge, of that name if it matters.
    Bridge(Option<InterfaceName>, Option<VlanId>),
    /// Interfaces on one of the host's.
    Macvlan(InterfaceName, MacvlanMode),
}

/// A network as somebody asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedNetwork {
    /// What it is made of.
    pub driver: AskedDriver,
    /// Its subnets; one is chosen if there is none.
    pub subnets: Vec<AskedSubnet>,
    /// Whether an IPv6 subnet is chosen, too.
    pub ipv6: bool,
    /// How far its containers get.
    pub reach: Reach,
    /// Largest packet in bytes.
    pub mtu: Option<u32>,
    /// Whether names of containers are answered on it.
    pub names: Names,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A network to be made.
#[derive(Debug)]
pub struct CreateNetwork {
    /// Its name.
    pub name: NetworkName,
    /// What it is to be.
    pub asked: AskedNetwork,
}

impl Ask for CreateNetwork {
    fn question(&self, _: &Caller) -> Question {
        Question::new(Action::ManageNetworks)
            .with("network", self.name.as_str())
            .with("verb", "create")
    }
}

/// A network to be removed.
#[derive(Debug)]
pub struct RemoveNetwork {
    /// Which.
    pub network: Arc<view::Network>,
    /// What is done about containers that are on it.
    pub members: Members,
}

/// What is done about containers that are on a network which is to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Members {
    /// It is not removed.
    Refuse,
    /// They are taken off it first.
    Disconnect,
}

impl Ask for RemoveNetwork {
    fn question(&self, _: &Caller) -> Question {
        Question::new(Action::ManageNetworks)
            .with("network", self.network.name.as_str())
            .with("verb", "remove")
    }
}

/// A network of which all is to be told.
#[derive(Debug)]
pub struct InspectNetwork {
    /// Which.
    pub network: Arc<view::Network>,
}

impl Ask for InspectNetwork {
    fn question(&self, _: &Caller) -> Question {
        Question::new(Action::ManageNetworks)
            .with("network", self.network.name.as_str())
            .with("verb", "inspect")
    }
}

impl Engine {
    /// Makes a network. On the host nothing of it is made before the first container starts.
    ///
    /// # Errors
    ///
    /// [`Error::NetworkExists`], [`Error::SubnetOverlap`], [`Error::InterfaceInUse`],
    /// [`Error::NoParent`], [`Error::NoSubnet`], [`Error::InvalidNetwork`].
    pub async fn create_network(
        &self,
        request: Authorized<CreateNetwork>,
    ) -> Result<NetworkName, Error> {
        let (CreateNetwork { name, asked }, by) = request.into_parts();
        let _alone = self.networks.changing.lock().await;
        if self.networks.get(&name).is_some() {
            return Err(Error::NetworkExists(name));
        }
        super::update::check_labels(&name, &asked.labels)?;
        let definition = self.networks.decide(&name, asked).await?;
        let row = NetworkRow {
            name: name.clone(),
            id: crate::engine::random_id()?.to_string(),
            owner_uid: by.uid,
            created: Usec::now(),
            definition,
        };
        let written = row.clone();
        self.state.run(move |c| durable::insert_network(c, &written)).await?;
        self.networks.insert(row, &self.config()).await;
        Ok(name)
    }

    /// Removes a network that no container is on.
    ///
    /// # Errors
    ///
    /// [`Error::NetworkInUse`] names the containers; [`Error::DefaultNetwork`].
    pub async fn remove_network(&self, request: Authorized<RemoveNetwork>) -> Result<(), Error> {
        let (RemoveNetwork { network, members }, _) = request.into_parts();
        let _alone = self.networks.changing.lock().await;
        let network = self.networks.find(network.name.as_str())?;
        if network.name == default_name() {
            return Err(Error::DefaultNetwork(network.name.clone()));
        }
        if members == Members::Disconnect {
            for id in network.containers() {
                self.take_off(&id, &network.name).await?;
            }
        }
        // Whoever came later would make the bridge again, beside the rules that are gone.
        let Some(closed) = network.close() else { return Err(self.in_use(&network)) };
        // What is on the host goes first: what is in no database is found by nobody.
        self.networks.unmake(&network).await?;
        let name = network.name.clone();
        match self.state.run(move |c| durable::delete_network(c, &name)).await {
            Err(error) if error.is_in_use() => return Err(self.in_use(&network)),
            deleted => deleted?,
        }
        closed.for_good();
        self.networks.forget(&network).await;
        Ok(())
    }

    fn in_use(&self, network: &Network) -> Error {
        let named = |id| self.containers.get(&id).map(|container| container.name().to_string());
        let by: Vec<String> = network.containers().into_iter().filter_map(named).collect();
        Error::NetworkInUse { network: network.name.clone(), by: by.join(", ") }
    }
}

impl Inner {
    /// All about a network, as JSON.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchNetwork`].
    pub async fn inspect_network(
        &self,
        request: Authorized<InspectNetwork>,
    ) -> Result<String, Error> {
        let (InspectNetwork { network }, _) = request.into_parts();
        let network = self.networks.find(network.name.as_str())?;
        let (definition, seen, name) =
            (network.definition(), network.seen.get(), network.name.clone());
        let leases = self.run.run(move |c| leases::leases_of(c, &name)).await?;
        let leases: Vec<_> = leases
            .into_iter()
            .map(|(address, id)| serde_json::json!({"Address": address, "Container": id.as_str()}))
            .collect();
        let document = serde_json::json!({
            "v": 1,
            "Name": seen.name.as_str(),
            "Id": seen.id,
            "OwnerUID": seen.owner_uid,
            "CreatedTimestamp": seen.created.0,
            "Definition": definition.network,
            "DNSServers": definition.servers,
            "Labels": definition.labels,
            "Leases": leases,
        });
        Ok(document.to_string())
    }
}

impl Networks {
    /// What a network that is asked for is to be.
    async fn decide(
        &self,
        name: &NetworkName,
        asked: AskedNetwork,
    ) -> Result<NetworkDefinition, Error> {
        let (pool, others) = (self.pool, self.subnets_beside(name));
        let beside = match &asked.driver {
            AskedDriver::Macvlan(parent, _) => self.subnets_beside_macvlan(parent),
            AskedDriver::Bridge(..) => Vec::new(),
        };
        let (bridges, name, tag) = (self.bridges(), name.clone(), self.tag.clone());
        brief(move || {
            let choice = Choice { network: &name, pool, others };
            let (subnets, origin) = subnets(&asked, &choice)?;
            let options = NetworkOptions {
                driver: match asked.driver {
                    AskedDriver::Macvlan(parent, mode) => {
                        subnet::check_parent(&parent)?;
                        Driver::Macvlan { parent, mode }
                    }
                    AskedDriver::Bridge(wanted, vlan) => Driver::Bridge {
                        interface: bridge(wanted, &bridges, |n| tag.bridge(n))?,
                        vlan,
                    },
                },
                subnets,
                mtu: asked.mtu,
                reach: asked.reach,
                names: asked.names,
            };
            let network = tare_netns::Network::new(&options).map_err(Error::InvalidNetwork)?;
            if network.bridge().is_some() {
                choice.check(&network)?;
            } else {
                choice.check_beside(&network, &beside)?;
            }
            let labels = asked.labels;
            let servers = Vec::new();
            Ok(NetworkDefinition { version: Version, network, subnets: origin, labels, servers })
        })
        .await
    }

    /// The subnets that a network on this interface of the host must not overlap: those of others on it,
    /// since an address of two of them would be there twice, and those of bridges, which the host has a
    /// route to, and which connections are cut of by their addresses alone.
    fn subnets_beside_macvlan(&self, interface: &InterfaceName) -> Vec<IpNet> {
        let is_beside = |network: &Arc<Network>| match network.definition().network.driver() {
            Driver::Macvlan { parent, .. } => parent == interface,
            Driver::Bridge { .. } => true,
        };
        super::subnets_of(self.all().into_iter().filter(is_beside))
    }

    /// Takes a network off the host; it is made again when it is needed.
    async fn unmake(&self, network: &Network) -> Result<(), Error> {
        let Some(bridge) = network.definition().bridge().cloned() else { return Ok(()) };
        let failed = {
            let name = network.name.clone();
            move |source| Error::RemoveNetwork { network: name.clone(), source: Box::new(source) }
        };
        let rules = self.firewall.open_if_made().await?.transpose().map_err(&failed)?;
        network.not_ready();
        self.others.forget(&bridge).await;
        brief(move || {
            rules.map_or(Ok(()), |rules| rules.remove_network(&bridge)).map_err(&failed)?;
            super::bridge::remove(&bridge).map_err(&failed)
        })
        .await
    }

    /// A network is in no database any more.
    pub(super) async fn forget(&self, network: &Network) {
        // Whoever knows it anew meanwhile does so before.
        let alone = network.redefining.lock().await;
        self.all.write().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&network.name);
        network.seen.remove();
        self.names.forget(&network.name);
        drop(alone);
        if let Err(error) = self.forget_leases(&network.name).await {
            tracing::warn!("leases of network '{}' may stay: {}", network.name, error.chain());
        }
    }
}

/// The subnets that are asked for, or chosen.
fn subnets(
    asked: &AskedNetwork,
    choice: &Choice<'_>,
) -> Result<(Vec<SubnetOptions>, Subnets), Error> {
    let given = asked.subnets.iter().map(|subnet| SubnetOptions {
        subnet: subnet.subnet,
        gateway: subnet.gateway,
        range: subnet.range,
    });
    let mut subnets: Vec<_> = given.collect();
    let has_v6 = subnets.iter().any(|subnet| matches!(subnet.subnet, IpNet::V6(_)));
    let origin = if subnets.is_empty() { Subnets::Chosen } else { Subnets::Given };
    if matches!(asked.driver, AskedDriver::Bridge(..)) {
        if subnets.is_empty() {
            subnets.push(choice.v4()?);
        }
        if asked.ipv6 && !has_v6 {
            subnets.push(choice.v6()?);
        }
    }
    Ok((subnets, origin))
}

/// The name of a bridge that nobody has.
fn bridge(
    wanted: Option<InterfaceName>,
    known: &[InterfaceName],
    numbered: impl Fn(u32) -> InterfaceName,
) -> Result<InterfaceName, Error> {
    let is_free =
        |name: &InterfaceName| Ok::<_, Error>(!known.contains(name) && !subnet::exists(name)?);
    match wanted {
        Some(name) if is_free(&name)? => return Ok(name),
        Some(name) => return Err(Error::InterfaceInUse(name)),
        None => {}
    }
    for number in 0.. {
        let name = numbered(number);
        if is_free(&name)? {
            return Ok(name);
        }
    }
    unreachable!("there are fewer interfaces than numbers")
}
