//! What a container is given on its networks. Pure.

use std::net::{IpAddr, Ipv4Addr};

use tare_netns::{InterfaceName, MacAddress, NetworkName, Publication, PublishedPort, Reach};
use tare_runtime::ContainerId;

use crate::engine::records::durable::{Joined, NetworkDefinition};
use crate::engine::records::volatile::{NetworkRecord, Place};

/// Most networks of one container: the position is one more letter of the interface on the host.
pub(in crate::engine) const MAX_NETWORKS: usize = 32;

/// A container's interface on a network, with these addresses.
pub(super) fn place(
    id: &ContainerId,
    joined: &Joined,
    definition: &NetworkDefinition,
    addresses: &[IpAddr],
) -> Place {
    let first = addresses.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let mac = joined.mac.unwrap_or_else(|| MacAddress::for_address(first));
    let (interface, host_interface) =
        (joined.interface.clone(), host_interface(id, joined.position));
    Place {
        network: joined.network.clone(),
        position: joined.position,
        attachment: definition.network.attachment(interface, host_interface, mac, addresses),
        member: definition.network.member(addresses),
    }
}

/// Where the host's ports lead: to the first place that the outside reaches.
pub(in crate::engine) fn publications(
    places: &[Place],
    ports: &[PublishedPort],
) -> Vec<Publication> {
    let reached = |place: &&Place| {
        place.member.as_ref().is_some_and(|member| member.reach != Reach::Internal)
    };
    let Some(member) = places.iter().find(reached).and_then(|place| place.member.as_ref()) else {
        return Vec::new();
    };
    let v4 = member.addresses.iter().find_map(|address| match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    let v6 = member.addresses.iter().find_map(|address| match address {
        IpAddr::V6(v6) => Some(*v6),
        IpAddr::V4(_) => None,
    });
    let publication = |&port| Publication { port, bridge: member.bridge.clone(), v4, v6 };
    ports.iter().map(publication).collect()
}

/// The publications that lead to a container's place on a network.
pub(in crate::engine) fn targets(
    record: &NetworkRecord,
    network: &NetworkName,
) -> Vec<Publication> {
    let places = record.places.iter().filter(|place| place.network == *network);
    let addresses: Vec<IpAddr> = places
        .filter_map(|place| place.member.as_ref())
        .flat_map(|member| member.addresses.clone())
        .collect();
    let leads = |p: &&Publication| {
        p.v4.is_some_and(|v4| addresses.contains(&v4.into()))
            || p.v6.is_some_and(|v6| addresses.contains(&v6.into()))
    };
    record.publications.iter().filter(leads).cloned().collect()
}

/// The host's end of a veth pair: `ve`, the first twelve digits of the id, and from the second
/// network on a letter. 15 bytes at most.
fn host_interface(id: &ContainerId, position: u32) -> InterfaceName {
    let mark = match position {
        0 => String::new(),
        n => char::from_digit(n, 36).map(String::from).unwrap_or_default(),
    };
    let name = format!("ve{}{mark}", id.short());
    name.parse().expect("15 digits and letters are an interface name")
}

/// Of which container that is the host's end of a veth pair, by the first twelve digits of its id.
pub(in crate::engine) fn owner_of(host_interface: &InterfaceName) -> Option<&str> {
    let digits = host_interface.as_str().strip_prefix("ve")?.get(..12)?;
    let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    digits.bytes().all(is_digit).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::records::durable::NetworkRow;
    use std::collections::BTreeSet;

    fn joined(position: u32) -> Joined {
        Joined {
            network: "n".parse().unwrap(),
            position,
            interface: "eth0".parse().unwrap(),
            addresses: Vec::new(),
            mac: None,
            aliases: Vec::new(),
        }
    }

    #[test]
    fn interfaces_of_one_container_differ() {
        let id = ContainerId::random().unwrap();
        let last = u32::try_from(MAX_NETWORKS).unwrap();
        let names: BTreeSet<_> = (0..last).map(|n| host_interface(&id, n)).collect();
        assert_eq!(names.len(), MAX_NETWORKS);
        assert_eq!(host_interface(&id, 0).as_str(), format!("ve{}", id.short()));
    }

    #[test]
    fn an_interface_on_the_host_tells_whose_it_is() {
        let id = ContainerId::random().unwrap();
        for position in [0, 1, 31] {
            assert_eq!(owner_of(&host_interface(&id, position)), Some(id.short()));
        }
        for other in ["ve", "vethadmin", "ve0123456789a", "ve0123456789aG", "xe0123456789ab"] {
            assert_eq!(owner_of(&other.parse().unwrap()), None, "{other}");
        }
    }

    #[test]
    fn ports_lead_to_the_first_network_that_is_reached() {
        let id = ContainerId::random().unwrap();
        let address = [IpAddr::from([10, 88, 0, 2])];
        let of = |definition: &NetworkDefinition| place(&id, &joined(0), definition, &address);
        let open = NetworkRow::sample("n").definition;
        let mut internal = open.clone();
        let mut options: tare_netns::NetworkOptions = internal.network.into();
        options.reach = Reach::Internal;
        internal.network = options.try_into().unwrap();
        let port = serde_json::json!(
            {"at": null, "protocol": "tcp", "host": 8080, "container": 80, "count": 1});
        let port: PublishedPort = serde_json::from_value(port).unwrap();
        assert_eq!(publications(&[of(&internal)], &[port]), []);
        let published = publications(&[of(&internal), of(&open)], &[port]);
        assert_eq!(published.len(), 1);
        assert_eq!((published[0].v4, published[0].v6), (Some([10, 88, 0, 2].into()), None));
    }
}
