//! What networks and containers ask of the firewall, as plain data that can be stored.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::conntrack::Connections;
use crate::firewall::Element;
use crate::{InterfaceName, IpFamily, Protocol, PublishedPort};

/// How far the containers of a network get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Everywhere the host gets, and to the containers of other networks that let them.
    #[default]
    Open,
    /// As `Open`, but containers of other networks and this one do not reach each other, not even
    /// by a port that one of them published.
    Isolated,
    /// Only each other and the host. Nothing reaches them from elsewhere, published or not.
    Internal,
}

/// A bridge as the firewall knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRules {
    /// The bridge.
    pub bridge: InterfaceName,
    /// How far its containers get.
    pub reach: Reach,
}

impl NetworkRules {
    /// The elements that say so.
    pub fn elements(&self) -> Vec<Element> {
        let bridge = || self.bridge.clone();
        let mut elements = vec![Element::Network(bridge()), Element::Within(bridge())];
        match self.reach {
            Reach::Open => {}
            Reach::Isolated => elements.push(Element::Isolated(bridge())),
            Reach::Internal => elements.push(Element::Internal(bridge())),
        }
        elements
    }

    /// All elements that a bridge of that name can have.
    pub(crate) fn every_element(bridge: &InterfaceName) -> Vec<Element> {
        let bridge = || bridge.clone();
        vec![
            Element::Network(bridge()),
            Element::Within(bridge()),
            Element::Isolated(bridge()),
            Element::Internal(bridge()),
            Element::Localnet(bridge()),
        ]
    }
}

/// A container's place in one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The network's bridge.
    pub bridge: InterfaceName,
    /// The container's addresses there.
    pub addresses: Vec<IpAddr>,
    /// The network's reach; what leaves an [`Internal`](Reach::Internal) one is not masqueraded.
    pub reach: Reach,
}

/// Ports of the host, and the container's addresses they lead to.
///
/// A port is offered in the families that have a target; there is no way from one to the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// The ports.
    pub port: PublishedPort,
    /// The bridge that the IPv4 target is behind; one of IPv6 may be behind another.
    pub bridge: Option<InterfaceName>,
    /// Where IPv4 connections go.
    pub v4: Option<Ipv4Addr>,
    /// Where IPv6 connections go.
    pub v6: Option<Ipv6Addr>,
}

/// All that a container asks of the firewall.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRules {
    /// Its places in networks.
    pub members: Vec<Member>,
    /// Its ports.
    pub publications: Vec<Publication>,
}

impl ContainerRules {
    /// The elements that say so, and that belong to this container alone.
    pub fn elements(&self) -> Vec<Element> {
        let behind = |member| self.members.iter().flat_map(move |here| here.answers_for(member));
        let behind = self.members.iter().flat_map(behind);
        let outbound = self.members.iter().flat_map(Member::outbound);
        let ports = self.publications.iter().flat_map(Publication::elements);
        behind.chain(outbound).chain(ports).collect()
    }

    /// Its addresses.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.members.iter().flat_map(|member| &member.addresses).copied().collect()
    }

    /// The bridges that packets from the host's 127.0.0.1 have to leave by.
    pub fn localnets(&self) -> Vec<InterfaceName> {
        let on_loopback = |p: &&Publication| p.v4.is_some() && p.port.is_on_loopback4();
        let publications = self.publications.iter().filter(on_loopback);
        let mut bridges: Vec<_> = publications.filter_map(|p| p.bridge.clone()).collect();
        bridges.sort_unstable();
        bridges.dedup();
        bridges
    }

    /// What the host took for its own until the ports were published. Only UDP has no beginning
    /// that tells a new connection from an old one.
    pub(crate) fn taken_over(&self) -> Vec<Connections> {
        let udp = |p: &&Publication| p.port.protocol() == Protocol::Udp;
        self.publications
            .iter()
            .filter(udp)
            .map(|p| Connections::ToHost {
                at: p.port.one_address(),
                protocol: Protocol::Udp,
                first: p.port.host(),
                count: p.port.count(),
            })
            .collect()
    }
}

impl Member {
    /// A container is here with its addresses of another place, too: to whoever is here it answers for them
    /// past the host.
    fn answers_for(&self, place: &Self) -> impl Iterator<Item = Element> {
        let addresses = place.addresses.iter();
        addresses.map(|&address| Element::Member { bridge: self.bridge.clone(), address })
    }

    fn outbound(&self) -> impl Iterator<Item = Element> {
        let goes_out = self.reach != Reach::Internal;
        let addresses = self.addresses.iter().filter(move |_| goes_out);
        addresses.copied().map(Element::Outbound)
    }
}

impl Publication {
    fn elements(&self) -> impl Iterator<Item = Element> {
        let targets = [self.v4.map(IpAddr::V4), self.v6.map(IpAddr::V6)];
        targets.into_iter().flatten().flat_map(|target| self.to(target))
    }

    fn to(&self, target: IpAddr) -> impl Iterator<Item = Element> {
        let Self { port, .. } = *self;
        // What the host sends to ::1 cannot be sent elsewhere.
        let offered = port.is_at(IpFamily::of(target)) && !self.is_at_loopback6();
        let pairs = offered.then(|| port.pairs()).into_iter().flatten();
        pairs.map(move |(host, container)| Element::Port {
            at: port.one_address(),
            protocol: port.protocol(),
            port: host,
            to: (target, container).into(),
        })
    }

    fn is_at_loopback6(&self) -> bool {
        self.port.at() == Some(IpAddr::V6(Ipv6Addr::LOCALHOST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PortRequest;

    fn published(at: &str, host: u16, count: u16) -> Publication {
        let at = (!at.is_empty()).then(|| at.parse().unwrap());
        let request = PortRequest::new(at, Protocol::Tcp, host, 80, count).unwrap();
        Publication {
            port: request.settle(0),
            bridge: Some("tare0".parse().unwrap()),
            v4: Some(Ipv4Addr::new(10, 88, 0, 2)),
            v6: Some("fd00::2".parse().unwrap()),
        }
    }

    fn ports(publication: &Publication) -> Vec<String> {
        publication
            .elements()
            .map(|element| match element {
                Element::Port { at, port, to, .. } => {
                    let at = at.map_or_else(|| "*".to_owned(), |at| at.to_string());
                    format!("{at} {port} {to}")
                }
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_port_is_offered_where_it_was_asked_for() {
        let cases: &[(&str, u16, &[&str])] = &[
            ("", 1, &["* 8080 10.88.0.2:80", "* 8080 [fd00::2]:80"]),
            ("0.0.0.0", 1, &["* 8080 10.88.0.2:80"]),
            ("::", 1, &["* 8080 [fd00::2]:80"]),
            ("192.0.2.1", 1, &["192.0.2.1 8080 10.88.0.2:80"]),
            ("127.0.0.1", 1, &["127.0.0.1 8080 10.88.0.2:80"]),
            ("::1", 1, &[]),
            ("0.0.0.0", 2, &["* 8080 10.88.0.2:80", "* 8081 10.88.0.2:81"]),
        ];
        for &(at, count, want) in cases {
            assert_eq!(ports(&published(at, 8080, count)), want, "{at}");
        }
    }

    #[test]
    fn the_loopback_is_opened_only_for_what_is_on_it() {
        let cases = [
            ("", true),
            ("0.0.0.0", true),
            ("127.0.0.2", true),
            ("::", false),
            ("192.0.2.1", false),
        ];
        for (at, want) in cases {
            let publications = vec![published(at, 8080, 1), published(at, 9090, 1)];
            let rules = ContainerRules { members: vec![], publications };
            assert_eq!(rules.localnets().len(), usize::from(want), "{at}");
        }
    }

    #[test]
    fn an_internal_network_is_not_masqueraded() {
        let member = |reach| Member {
            bridge: "tare0".parse().unwrap(),
            addresses: vec!["10.88.0.2".parse().unwrap()],
            reach,
        };
        let outbound = Element::Outbound("10.88.0.2".parse().unwrap());
        for (reach, want) in
            [(Reach::Open, true), (Reach::Isolated, true), (Reach::Internal, false)]
        {
            let rules = ContainerRules { members: vec![member(reach)], ..Default::default() };
            assert_eq!(rules.elements().contains(&outbound), want, "{reach:?}");
        }
    }

    #[test]
    fn a_container_has_all_its_addresses_behind_each_of_its_bridges() {
        let member = |number: u8| Member {
            bridge: format!("tare{number}").parse().unwrap(),
            addresses: vec![[10, 88, number, 2].into()],
            reach: Reach::Internal,
        };
        let rules = ContainerRules { members: vec![member(0), member(1)], publications: vec![] };
        let behind = |bridge: u8, number: u8| Element::Member {
            bridge: format!("tare{bridge}").parse().unwrap(),
            address: [10, 88, number, 2].into(),
        };
        let mut elements = rules.elements();
        elements.sort_unstable();
        assert_eq!(elements, [behind(0, 0), behind(0, 1), behind(1, 0), behind(1, 1)]);
    }

    #[test]
    fn what_a_network_can_have_is_all_taken_away() {
        for reach in [Reach::Open, Reach::Isolated, Reach::Internal] {
            let rules = NetworkRules { bridge: "tare0".parse().unwrap(), reach };
            let every = NetworkRules::every_element(&rules.bridge);
            assert!(rules.elements().iter().all(|element| every.contains(element)), "{reach:?}");
        }
    }
}
