//! What the sets and maps of the table hold, as values. Pure.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::layout::{Reader, Set, Writer};
use crate::port::Protocol;
use crate::{InterfaceName, IpFamily};

/// One element of a set or map of the firewall table: one fact that its rules act upon.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Element {
    /// A bridge of ours: what its containers send is forwarded, what others send to them only if
    /// it is an answer or was published.
    Network(InterfaceName),
    /// A bridge that nothing leaves or enters.
    Internal(InterfaceName),
    /// A bridge whose containers and those of other bridges do not reach each other.
    Isolated(InterfaceName),
    /// A bridge whose own traffic is none of the firewall's business.
    Within(InterfaceName),
    /// A bridge that packets of the host's loopback can leave by: nothing may enter by it that is
    /// addressed to the loopback.
    Localnet(InterfaceName),
    /// A family of which only containers' packets are forwarded.
    Closed(IpFamily),
    /// A container's address that is masqueraded on its way out.
    Outbound(IpAddr),
    /// A container's address and a bridge that the container is behind: that of the address, or that of
    /// another one of its addresses.
    Member {
        /// The bridge.
        bridge: InterfaceName,
        /// The address.
        address: IpAddr,
    },
    /// A published port.
    Port {
        /// The host's address, or all of them of the family of `to`.
        at: Option<IpAddr>,
        /// The protocol.
        protocol: Protocol,
        /// The host's port.
        port: u16,
        /// Where it leads.
        to: SocketAddr,
    },
}

fn family(address: IpAddr) -> IpFamily {
    IpFamily::of(address)
}

impl Element {
    /// Where it is kept.
    pub(crate) fn set(&self) -> Set {
        match self {
            Self::Network(_) => Set::Networks,
            Self::Internal(_) => Set::Internal,
            Self::Isolated(_) => Set::Isolated,
            Self::Within(_) => Set::Within,
            Self::Localnet(_) => Set::Localnet,
            Self::Closed(_) => Set::Closed,
            Self::Outbound(address) => Set::Containers(family(*address)),
            Self::Member { address, .. } => Set::Members(family(*address)),
            Self::Port { at: None, to, .. } => Set::Ports(family(to.ip())),
            Self::Port { at: Some(_), to, .. } => Set::PortsAt(family(to.ip())),
        }
    }

    /// What it is found by.
    pub(crate) fn key(&self) -> Vec<u8> {
        let key = Writer::default();
        let key = match self {
            Self::Network(bridge)
            | Self::Internal(bridge)
            | Self::Isolated(bridge)
            | Self::Localnet(bridge) => key.interface(bridge),
            Self::Within(bridge) => key.interface(bridge).interface(bridge),
            Self::Closed(family) => key.family(*family),
            Self::Outbound(address) => key.address(*address),
            Self::Member { bridge, address } => key.interface(bridge).address(*address),
            Self::Port { at: None, protocol, port, .. } => key.protocol(*protocol).port(*port),
            Self::Port { at: Some(at), protocol, port, .. } => {
                key.address(*at).protocol(*protocol).port(*port)
            }
        };
        key.finish(self.set().key())
    }

    /// What it leads to, in a map.
    pub(crate) fn value(&self) -> Option<Vec<u8>> {
        match self {
            Self::Port { to, .. } => Some(Writer::default().socket(*to).finish(self.set().value())),
            _ => None,
        }
    }

    /// The element of `set` with these parts; `None` if they are nothing of ours.
    pub(crate) fn read(set: Set, key: &[u8], value: &[u8]) -> Option<Self> {
        let mut key = Reader(key);
        let port = |at, mut key: Reader<'_>, family| {
            let (protocol, port) = (key.protocol()?, key.port()?);
            Some(Self::Port { at, protocol, port, to: Reader(value).socket(family)? })
        };
        match set {
            Set::Networks => key.interface().map(Self::Network),
            Set::Internal => key.interface().map(Self::Internal),
            Set::Isolated => key.interface().map(Self::Isolated),
            Set::Within => key.interface().map(Self::Within),
            Set::Localnet => key.interface().map(Self::Localnet),
            Set::Closed => key.family().map(Self::Closed),
            Set::Containers(family) => key.address(family).map(Self::Outbound),
            Set::Members(family) => {
                Some(Self::Member { bridge: key.interface()?, address: key.address(family)? })
            }
            Set::Ports(family) => port(None, key, family),
            Set::PortsAt(family) => {
                let at = key.address(family)?;
                port(Some(at), key, family)
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bridge() -> impl Strategy<Value = InterfaceName> {
        "[a-z][a-z0-9]{0,14}".prop_map(|name| name.parse().unwrap())
    }

    fn protocol() -> impl Strategy<Value = Protocol> {
        prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)]
    }

    fn port() -> impl Strategy<Value = Element> {
        let v4 = (any::<Option<[u8; 4]>>(), any::<[u8; 4]>())
            .prop_map(|(at, to)| (at.map(IpAddr::from), IpAddr::from(to)));
        let v6 = (any::<Option<[u8; 16]>>(), any::<[u8; 16]>())
            .prop_map(|(at, to)| (at.map(IpAddr::from), IpAddr::from(to)));
        (prop_oneof![v4, v6], protocol(), any::<u16>(), any::<u16>()).prop_map(
            |((at, to), protocol, port, inside)| Element::Port {
                at,
                protocol,
                port,
                to: (to, inside).into(),
            },
        )
    }

    pub(crate) fn element() -> impl Strategy<Value = Element> {
        let family = prop_oneof![Just(IpFamily::V4), Just(IpFamily::V6)];
        prop_oneof![
            bridge().prop_map(Element::Network),
            bridge().prop_map(Element::Internal),
            bridge().prop_map(Element::Isolated),
            bridge().prop_map(Element::Within),
            bridge().prop_map(Element::Localnet),
            family.prop_map(Element::Closed),
            any::<IpAddr>().prop_map(Element::Outbound),
            (bridge(), any::<IpAddr>())
                .prop_map(|(bridge, address)| Element::Member { bridge, address }),
            port(),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read(element in element()) {
            let (set, key) = (element.set(), element.key());
            let value = element.value().unwrap_or_default();
            prop_assert_eq!(key.len(), super::super::layout::type_len(set.key()) as usize);
            prop_assert_eq!(value.len(), super::super::layout::type_len(set.value()) as usize);
            prop_assert_eq!(Element::read(set, &key, &value), Some(element));
        }
    }

    #[test]
    fn the_bytes_are_those_that_nft_sends() {
        let port = Element::Port {
            at: None,
            protocol: Protocol::Tcp,
            port: 8080,
            to: "10.88.0.2:80".parse().unwrap(),
        };
        assert_eq!(port.key(), [6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(port.value().unwrap(), [10, 88, 0, 2, 0, 80, 0, 0]);
        let member = Element::Member {
            bridge: "tare0".parse().unwrap(),
            address: "10.88.0.2".parse().unwrap(),
        };
        assert_eq!(member.key(), *b"tare0\0\0\0\0\0\0\0\0\0\0\0\x0a\x58\0\x02");
        assert_eq!(Element::Closed(IpFamily::V6).key(), [10], "one alone is not padded");
    }
}
