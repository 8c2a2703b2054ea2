//! How containers are connected.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use tare_netns::{Alias, InterfaceName, MacAddress, NetworkName, PortRequest};

use crate::engine::records::document::Version;

/// The networks a container is on, and its ports that the host offers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Connections {
    #[serde(rename = "v")]
    pub(crate) version: Version<1>,
    /// In the order of their positions; none twice.
    pub(crate) networks: Vec<Joined>,
    /// Ports to publish while it runs.
    pub(crate) ports: Vec<PortRequest>,
    /// The namespace that was at the path which was asked for, when it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) namespace: Option<NamespacePin>,
}

/// A namespace of the host, whatever leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct NamespacePin {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// What no other has in this boot, where the kernel tells: inodes are used again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cookie: Option<u64>,
}

impl NamespacePin {
    /// Whether the other is the same namespace, as far as both are known.
    pub(crate) fn is(self, other: Self) -> bool {
        let cookies = self.cookie.zip(other.cookie);
        (self.device, self.inode) == (other.device, other.inode)
            && cookies.is_none_or(|(one, two)| one == two)
    }
}

/// A container's place in one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Joined {
    pub(crate) network: NetworkName,
    /// Of several default routes, that of the lowest position wins.
    pub(crate) position: u32,
    /// Its name in the container; stays what it is when other networks come and go.
    pub(crate) interface: InterfaceName,
    /// Addresses it asks for; the others are chosen at each start.
    pub(crate) addresses: Vec<IpAddr>,
    /// Hardware address; that of its first address if none is asked for.
    #[serde(rename = "MAC")]
    pub(crate) mac: Option<MacAddress>,
    /// Other names it has there, and nobody else.
    pub(crate) aliases: Vec<Alias>,
}

#[cfg(test)]
impl Joined {
    /// One that asks for nothing.
    pub(crate) fn sample(network: &str) -> Self {
        Self {
            network: network.parse().unwrap(),
            position: 0,
            interface: "eth0".parse().unwrap(),
            addresses: Vec::new(),
            mac: None,
            aliases: Vec::new(),
        }
    }
}

impl Connections {
    /// Its place in a network, if it has one.
    pub(crate) fn on(&self, network: &NetworkName) -> Option<&Joined> {
        self.networks.iter().find(|joined| joined.network == *network)
    }

    /// The lowest position that is free.
    pub(crate) fn free_position(&self) -> u32 {
        let taken = |position| self.networks.iter().any(|joined| joined.position == position);
        let mut position = 0;
        while taken(position) {
            position += 1;
        }
        position
    }

    /// The names of its interfaces.
    pub(crate) fn interfaces(&self) -> Vec<InterfaceName> {
        self.networks.iter().map(|joined| joined.interface.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_form_is_a_format() {
        let form = serde_json::json!({
            "v": 1,
            "Networks": [{
                "Network": "web", "Position": 1, "Interface": "eth1",
                "Addresses": ["10.89.0.9"], "MAC": "02:00:00:00:00:01",
                "Aliases": ["db"],
            }],
            "Ports": [{"at": null, "protocol": "tcp", "host": 8080, "container": 80, "count": 1}],
        });
        let connections: Connections = serde_json::from_value(form.clone()).unwrap();
        assert_eq!(serde_json::to_value(&connections).unwrap(), form);
        assert_eq!(connections.free_position(), 0);
        assert!(connections.on(&"web".parse().unwrap()).is_some());
        assert!(connections.on(&"tare".parse().unwrap()).is_none());
        let pinned = Connections {
            namespace: Some(NamespacePin { device: 4, inode: 5, cookie: Some(6) }),
            ..Connections::default()
        };
        let form = serde_json::to_value(&pinned).unwrap();
        assert_eq!(form["Namespace"], serde_json::json!({"Device": 4, "Inode": 5, "Cookie": 6}));
        let pin = |cookie| NamespacePin { device: 4, inode: 5, cookie };
        assert!(pin(Some(6)).is(pin(Some(6))) && pin(Some(6)).is(pin(None)));
        assert!(!pin(Some(6)).is(pin(Some(7))), "the number of an inode is used again");
        assert!(!pin(None).is(NamespacePin { inode: 6, ..pin(None) }));
        assert_eq!(serde_json::from_value::<Connections>(form).unwrap(), pinned);
        let empty = serde_json::to_value(Connections::default()).unwrap();
        assert_eq!(empty, serde_json::json!({"v": 1, "Networks": [], "Ports": []}));
    }
}
