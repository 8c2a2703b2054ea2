//! What a caller asks for, as plain data that can be stored before it is begun.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{InterfaceName, MacAddress, MacvlanMode, NamespaceName, VlanId};

/// A bridge on the host that containers are joined to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// Its interface name.
    pub name: InterfaceName,
    /// Its own addresses with their prefixes; containers use them as gateways.
    pub gateways: Vec<IpNet>,
    /// Largest packet in bytes; the kernel's default (1,500) if absent.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// The VLAN that the host itself is in on this bridge, which then keeps VLANs apart.
    #[serde(default)]
    pub vlan: Option<VlanId>,
}

/// One interface of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// What it is joined to.
    #[serde(flatten)]
    pub link: Link,
    /// Its name in the container.
    pub interface: InterfaceName,
    /// Its hardware address.
    pub mac: MacAddress,
    /// Its addresses, each with the prefix length of its network.
    pub addresses: Vec<IpNet>,
    /// Next hops of default routes, in the networks of `addresses`.
    pub gateways: Vec<IpAddr>,
    /// Its place among the container's interfaces: where several offer a default route, the lower one
    /// wins, and no two can have the same.
    #[serde(default, skip_serializing_if = "is_first")]
    pub position: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_first(position: &u32) -> bool {
    *position == 0
}

/// What joins a container's interface to the world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Link {
    /// A veth pair, whose other end is a port of a bridge.
    Bridge {
        /// The bridge to join; it has to be there, and its MTU is taken over.
        bridge: InterfaceName,
        /// Name of the host's end of the pair.
        host_interface: InterfaceName,
        /// The VLAN it is in on that bridge, untagged.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vlan: Option<VlanId>,
    },
    /// A second hardware address on an interface of the host.
    Macvlan {
        /// The interface.
        parent: InterfaceName,
        /// Whom it reaches.
        mode: MacvlanMode,
        /// Largest packet in bytes; the parent's if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mtu: Option<u32>,
    },
}

/// The network of one container. Names must be the caller's own: [`teardown`](crate::teardown)
/// removes what bears them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The namespace to create.
    pub namespace: NamespaceName,
    /// Its interfaces. Where several offer a default route, the earlier one wins.
    pub attachments: Vec<Attachment>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_survives_being_stored() {
        let text = r#"{"namespace":"tare-1","attachments":[{"bridge":"tare0",
            "host_interface":"ve-1","interface":"eth0","mac":"02:74:0a:58:00:02",
            "addresses":["10.88.0.2/24"],"gateways":["10.88.0.1"]}]}"#;
        let wanted: Wanted = serde_json::from_str(text).unwrap();
        let stored = serde_json::to_string(&wanted).unwrap();
        assert_eq!(serde_json::from_str::<Wanted>(&stored).unwrap(), wanted);
        assert_eq!(stored, text.replace(['\n', ' '], ""), "the stored form is a format");
    }
}
