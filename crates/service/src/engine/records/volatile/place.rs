//! What is made of the network of a container.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tare_netns::{
    Attachment, ContainerRules, IpFamily, Member, NamespaceName, NetworkName, Publication, Wanted,
};

use super::Incarnation;
use crate::engine::view::Address;

/// The network of one start of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkRecord {
    pub(crate) namespace: NamespaceName,
    /// In the order of their positions.
    pub(crate) places: Vec<Place>,
    /// Its ports that the host offers.
    pub(crate) publications: Vec<Publication>,
}

/// A container's interface on one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    pub(crate) network: NetworkName,
    pub(crate) position: u32,
    pub(crate) attachment: Attachment,
    /// What the firewall is told of it; nothing where its network goes past it.
    pub(crate) member: Option<Member>,
}

impl Incarnation {
    /// Its ports that the host offers.
    pub(crate) fn publications(&self) -> &[Publication] {
        self.network.as_ref().map_or(&[], |network| &network.publications)
    }

    /// For the firewall.
    pub(crate) fn rules(&self) -> ContainerRules {
        self.network.as_ref().map(NetworkRecord::rules).unwrap_or_default()
    }

    /// Its addresses on a network.
    pub(crate) fn addresses_on(&self, network: &NetworkName) -> Vec<IpAddr> {
        let known = self.network.iter();
        known.flat_map(|known| known.addresses_on(network)).collect()
    }
}

impl NetworkRecord {
    /// For the namespace.
    pub(crate) fn wanted(&self) -> Wanted {
        let attachments = self.places.iter().map(|place| place.attachment.clone()).collect();
        Wanted { namespace: self.namespace.clone(), attachments }
    }

    /// For the firewall.
    pub(crate) fn rules(&self) -> ContainerRules {
        let members = self.places.iter().filter_map(|place| place.member.clone()).collect();
        ContainerRules { members, publications: self.publications.clone() }
    }

    /// The addresses on a network.
    pub(crate) fn addresses_on(&self, network: &NetworkName) -> Vec<IpAddr> {
        let places = self.places.iter().filter(|place| place.network == *network);
        places.flat_map(|place| place.attachment.addresses.iter().map(IpNet::addr)).collect()
    }

    /// What is seen of it.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        self.places.iter().flat_map(Place::addresses).collect()
    }
}

impl Place {
    /// What is seen of it.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = Address> {
        let Attachment { interface, mac, addresses, gateways, .. } = &self.attachment;
        addresses.iter().map(|&address: &IpNet| {
            let same = |gateway: &&std::net::IpAddr| {
                IpFamily::of(**gateway) == IpFamily::of(address.addr())
            };
            Address {
                network: self.network.clone(),
                interface: interface.clone(),
                address,
                gateway: gateways.iter().find(same).copied(),
                mac: *mac,
            }
        })
    }
}
