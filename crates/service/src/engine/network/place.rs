//! What a container is given on its networks. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tare_netns::{
    InterfaceName, MacAddress, Member, NetworkName, Publication, PublishedPort, Reach,
};
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
    let mut attachment = definition.network.attachment(interface, host_interface, mac, addresses);
    attachment.position = joined.position;
    Place {
        network: joined.network.clone(),
        position: joined.position,
        attachment,
        member: definition.network.member(addresses),
    }
}

/// Where the host's ports lead, in each family: to the first place there that the outside reaches. Where
/// there is none they are taken all the same, and lead nowhere.
pub(in crate::engine) fn publications(
    places: &[Place],
    ports: &[PublishedPort],
) -> Vec<Publication> {
    let members = places.iter().filter_map(|place| place.member.as_ref());
    let reached: Vec<_> = members.filter(|member| member.reach != Reach::Internal).collect();
    let v4 = reached.iter().find_map(|member| Some((v4_of(member)?, member.bridge.clone())));
    let v6 = reached.iter().find_map(|member| v6_of(member));
    let (v4, bridge) = v4.unzip();
    ports.iter().map(|&port| Publication { port, bridge: bridge.clone(), v4, v6 }).collect()
}

fn v4_of(member: &Member) -> Option<Ipv4Addr> {
    member.addresses.iter().find_map(|address| match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    })
}

fn v6_of(member: &Member) -> Option<Ipv6Addr> {
    member.addresses.iter().find_map(|address| match address {
        IpAddr::V6(v6) => Some(*v6),
        IpAddr::V4(_) => None,
    })
}

/// The same with more places: its ports lead where they would if it had had them from the beginning.
pub(in crate::engine) fn with(record: &NetworkRecord, more: Vec<Place>) -> NetworkRecord {
    placed(record, record.places.iter().cloned().chain(more).collect())
}

/// The same without the place on a network, if there is one: its ports lead to those that are left.
pub(in crate::engine) fn without(record: &NetworkRecord, network: &NetworkName) -> NetworkRecord {
    let others = record.places.iter().filter(|place| place.network != *network);
    placed(record, others.cloned().collect())
}

fn placed(record: &NetworkRecord, mut places: Vec<Place>) -> NetworkRecord {
    places.sort_by_key(|place| place.position);
    let ports: Vec<_> = record.publications.iter().map(|publication| publication.port).collect();
    let publications = publications(&places, &ports);
    NetworkRecord { namespace: record.namespace.clone(), places, publications }
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
        Joined { position, ..Joined::sample("n") }
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

    /// A place on a network of these addresses.
    fn on(network: &str, position: u32, reach: Reach, addresses: &[&str]) -> Place {
        let mut definition = NetworkRow::sample("n").definition;
        let mut options: tare_netns::NetworkOptions = definition.network.into();
        let bridge = format!("tare{position}").parse().unwrap();
        options.driver = tare_netns::Driver::Bridge { interface: bridge, vlan: None };
        options.reach = reach;
        definition.network = options.try_into().unwrap();
        let id = ContainerId::random().unwrap();
        let joined = Joined { network: network.parse().unwrap(), ..joined(position) };
        let addresses: Vec<_> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        place(&id, &joined, &definition, &addresses)
    }

    fn port() -> PublishedPort {
        let port = serde_json::json!(
            {"at": null, "protocol": "tcp", "host": 8080, "container": 80, "count": 1});
        serde_json::from_value(port).unwrap()
    }

    #[test]
    fn ports_lead_to_the_first_network_of_a_family_that_is_reached() {
        let inside = on("inside", 0, Reach::Internal, &["10.88.0.2", "fd00::2"]);
        let six = on("six", 1, Reach::Open, &["fd00:1::2"]);
        let four = on("four", 2, Reach::Open, &["10.88.2.2"]);
        let both = on("both", 3, Reach::Isolated, &["10.88.3.2", "fd00:3::2"]);
        let cases: [(&str, Vec<&Place>, [&str; 3]); 6] = [
            ("none", vec![], ["", "", ""]),
            ("none that is reached", vec![&inside], ["", "", ""]),
            ("one family", vec![&inside, &four], ["10.88.2.2", "tare2", ""]),
            ("the other", vec![&six], ["", "", "fd00:1::2"]),
            ("each its own", vec![&six, &four], ["10.88.2.2", "tare2", "fd00:1::2"]),
            ("the first", vec![&both, &six], ["10.88.3.2", "tare3", "fd00:3::2"]),
        ];
        for (about, places, [v4, bridge, v6]) in cases {
            let places: Vec<_> = places.into_iter().cloned().collect();
            let want = Publication {
                port: port(),
                bridge: bridge.parse().ok(),
                v4: v4.parse().ok(),
                v6: v6.parse().ok(),
            };
            assert_eq!(publications(&places, &[port()]), [want], "{about}");
        }
    }

    #[test]
    fn ports_follow_the_places_that_come_and_go() {
        let first = on("first", 0, Reach::Open, &["10.88.0.2"]);
        let second = on("second", 1, Reach::Open, &["10.88.1.2", "fd00:1::2"]);
        let places = vec![first.clone(), second.clone()];
        let before = NetworkRecord {
            namespace: "ns".parse().unwrap(),
            publications: publications(&places, &[port()]),
            places,
        };
        let less = without(&before, &"first".parse().unwrap());
        assert_eq!(less.places, [second]);
        assert_eq!(less.publications[0].v4, Some([10, 88, 1, 2].into()));
        assert_eq!(with(&less, vec![first.clone()]), before, "in the order of their positions");
        let none = without(&less, &"second".parse().unwrap());
        let nowhere = Publication { port: port(), bridge: None, v4: None, v6: None };
        assert_eq!((none.places.as_slice(), none.publications), ([].as_slice(), vec![nowhere]));
        let other = without(&before, &"other".parse().unwrap());
        assert_eq!(other, before);
        let first_only = [IpAddr::from([10, 88, 0, 2])];
        assert_eq!(before.addresses_on(&"first".parse().unwrap()), first_only);
    }
}
