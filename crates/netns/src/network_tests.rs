//! Networks that can be had, and those that cannot.

use super::*;
use crate::{MacvlanMode, VlanId};
use proptest::prelude::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn options(subnets: &[&str]) -> NetworkOptions {
    NetworkOptions {
        driver: Driver::Bridge { interface: "tare0".parse().unwrap(), vlan: None },
        subnets: subnets.iter().map(|subnet| SubnetOptions::new(net(subnet))).collect(),
        mtu: None,
        reach: Reach::Open,
        names: Names::Answered,
    }
}

fn macvlan() -> Driver {
    Driver::Macvlan { parent: "lan0".parse().unwrap(), mode: MacvlanMode::Bridge }
}

#[test]
fn subnets_are_those_that_containers_can_have() {
    use InvalidNetwork as E;
    let reserved = |subnet| Err(E::Reserved { subnet: net(subnet) });
    let small = |subnet| Err(E::Pool(InvalidPool::TooSmall { subnet: net(subnet) }));
    let overlap = |first, second| Err(E::Overlap { first: net(first), second: net(second) });
    let cases: Vec<(&str, &[&str], Result<(), E>)> = vec![
        ("usual", &["10.88.0.0/24"], Ok(())),
        ("both families", &["10.88.0.0/24", "fd00:88::/64"], Ok(())),
        ("IPv6 alone", &["2001:db8::/64"], Ok(())),
        ("none", &[], Err(E::NoSubnet)),
        ("too many", &["10.88.0.0/24"; 17], Err(E::TooManySubnets { count: 17 })),
        ("twice", &["10.88.0.0/24"; 2], overlap("10.88.0.0/24", "10.88.0.0/24")),
        ("inside", &["10.88.0.0/16", "10.88.3.0/24"], overlap("10.88.0.0/16", "10.88.3.0/24")),
        ("around", &["fd00:1::/64", "fd00::/16"], overlap("fd00:1::/64", "fd00::/16")),
        ("host bits", &["10.88.0.9/24", "10.88.0.0/25"], overlap("10.88.0.0/24", "10.88.0.0/25")),
        ("multicast", &["239.0.0.0/24"], reserved("239.0.0.0/24")),
        ("loopback", &["127.1.0.0/16"], reserved("127.1.0.0/16")),
        ("link-local", &["169.254.1.0/24"], reserved("169.254.1.0/24")),
        ("everything", &["0.0.0.0/0"], reserved("0.0.0.0/0")),
        ("IPv6 link-local", &["fe80::/64"], reserved("fe80::/64")),
        ("IPv4 in IPv6", &["::ffff:10.0.0.0/120"], reserved("::ffff:10.0.0.0/120")),
        ("point to point", &["10.88.0.0/31"], small("10.88.0.0/31")),
        ("one address", &["10.88.0.1/32"], small("10.88.0.1/32")),
        ("one IPv6 address", &["fd00::1/128"], small("fd00::1/128")),
    ];
    for (about, subnets, want) in cases {
        assert_eq!(Network::new(&options(subnets)).map(drop), want, "{about}");
    }
}

#[test]
fn gateways_and_ranges_are_within_their_subnet() {
    let cases = [
        ("usual", Some("10.88.0.9"), Some(("10.88.0.10", "10.88.0.20")), "ok"),
        ("gateway outside", Some("10.89.0.1"), None, "gateway 10.89.0.1 is not"),
        ("gateway of the other family", Some("fd00::1"), None, "gateway fd00::1 is not"),
        ("gateway is the broadcast", Some("10.88.0.255"), None, "gateway 10.88.0.255 is not"),
        ("range outside", None, Some(("10.89.0.1", "10.89.0.9")), "is not within subnet"),
        ("range backwards", None, Some(("10.88.0.9", "10.88.0.3")), "is backwards"),
    ];
    for (about, gateway, range, want) in cases {
        let mut options = options(&["10.88.0.0/24"]);
        options.subnets[0].gateway = gateway.map(ip);
        options.subnets[0].range =
            range.map(|(first, last)| AddressRange { first: ip(first), last: ip(last) });
        let got =
            Network::new(&options).map_or_else(|error| error.to_string(), |_| "ok".to_owned());
        assert!(got.contains(want), "{about}: {got}");
    }
}

#[test]
fn an_mtu_has_to_carry_its_families() {
    let cases = [
        (&["10.88.0.0/24"][..], 68, true),
        (&["10.88.0.0/24"], 67, false),
        (&["10.88.0.0/24", "fd00::/64"], 1280, true),
        (&["10.88.0.0/24", "fd00::/64"], 1279, false),
        (&["10.88.0.0/24"], 65_535, true),
        (&["10.88.0.0/24"], 65_536, false),
    ];
    for (subnets, mtu, want) in cases {
        let options = NetworkOptions { mtu: Some(mtu), ..options(subnets) };
        assert_eq!(Network::new(&options).is_ok(), want, "{subnets:?} {mtu}");
    }
}

#[test]
fn numbers_and_modes_are_those_there_are() {
    for (number, want) in [(0, false), (1, true), (4094, true), (4095, false), (u16::MAX, false)] {
        assert_eq!(VlanId::new(number).is_ok(), want, "{number}");
    }
    for mode in MacvlanMode::ALL {
        assert_eq!(mode.to_string().parse(), Ok(mode));
        assert_eq!(serde_json::to_string(&mode).unwrap(), format!("\"{mode}\""));
    }
    assert_eq!("bridge ".parse::<MacvlanMode>(), Err(InvalidNetwork::Mode));
}

#[test]
fn a_macvlan_network_is_out_of_the_firewalls_reach() {
    let on_lan = |reach| NetworkOptions { driver: macvlan(), reach, ..options(&["192.0.2.0/24"]) };
    let isolated = Network::new(&on_lan(Reach::Isolated));
    assert_eq!(isolated.unwrap_err(), InvalidNetwork::IsolatedMacvlan);
    let open = Network::new(&on_lan(Reach::Open)).unwrap();
    assert_eq!((open.bridge(), open.rules()), (None, None));
    assert_eq!(open.default_gateways(), [ip("192.0.2.1")]);
    let internal = Network::new(&on_lan(Reach::Internal)).unwrap();
    assert!(internal.default_gateways().is_empty(), "no way out");
    for network in [open, internal] {
        assert_eq!(network.host_address(), None, "the gateway is another machine");
    }
}

#[test]
fn the_host_is_found_on_its_bridge() {
    for (subnets, host) in [
        (&["10.88.0.0/24"][..], "10.88.0.1"),
        (&["fd00:88::/64", "10.88.0.0/24"], "10.88.0.1"),
        (&["fd00:88::/64"], "fd00:88::1"),
    ] {
        for reach in [Reach::Open, Reach::Isolated, Reach::Internal] {
            let network = Network::new(&NetworkOptions { reach, ..options(subnets) }).unwrap();
            assert_eq!(network.host_address(), Some(ip(host)), "{subnets:?} {reach:?}");
        }
    }
}

#[test]
fn a_bridge_has_the_networks_gateways() {
    let network = Network::new(&options(&["10.88.0.0/24", "fd00:88::/64"])).unwrap();
    let bridge = network.bridge().unwrap();
    assert_eq!(bridge.gateways, [net("10.88.0.1/24"), net("fd00:88::1/64")]);
    assert_eq!(network.default_gateways(), [ip("10.88.0.1"), ip("fd00:88::1")]);
    assert!(network.has(IpFamily::V6));
}

#[test]
fn overlaps_with_others_are_found() {
    let network = Network::new(&options(&["10.88.0.0/24", "fd00:88::/64"])).unwrap();
    let cases = [
        ("none", "10.88.1.0/24", None),
        ("wider", "10.0.0.0/8", Some((net("10.88.0.0/24"), net("10.0.0.0/8")))),
        ("host", "fd00:88::5/128", Some((net("fd00:88::/64"), net("fd00:88::5/128")))),
    ];
    for (about, other, want) in cases {
        assert_eq!(network.overlap(&[net("192.0.2.0/24"), net(other)]), want, "{about}");
    }
}

#[test]
fn a_stored_network_is_checked_again() {
    let text = r#"{"driver":{"bridge":{"interface":"tare0","vlan":7}},"subnets":[{"subnet":
        "10.88.0.0/24","gateway":"10.88.0.1","range":{"first":"10.88.0.9","last":"10.88.0.99"}}],
        "mtu":1400,"reach":"isolated","names":"off"}"#;
    let network: Network = serde_json::from_str(text).unwrap();
    let stored = serde_json::to_string(&network).unwrap();
    assert_eq!(stored, text.replace(['\n', ' '], ""), "the stored form is a format");
    let outside = text.replace("\"gateway\":\"10.88.0.1\"", "\"gateway\":\"10.99.0.1\"");
    assert!(serde_json::from_str::<Network>(&outside).is_err());
    let long = text.replace("tare0", "tare012345678901");
    assert!(serde_json::from_str::<Network>(&long).is_err());
}

proptest! {
    #[test]
    fn what_is_accepted_can_be_stored_and_gives_addresses(
        v4 in any::<[u8; 4]>(), len4 in 8_u8..=32, v6 in any::<[u8; 16]>(), len6 in 16_u8..=128,
    ) {
        let subnets = [IpNet::new(v4.into(), len4).unwrap(), IpNet::new(v6.into(), len6).unwrap()];
        let options = NetworkOptions {
            subnets: subnets.into_iter().map(SubnetOptions::new).collect(),
            ..options(&[])
        };
        let Ok(network) = Network::new(&options) else { return Ok(()) };
        let stored = serde_json::to_string(&network).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Network>(&stored).unwrap(), &network);
        for subnet in network.subnets() {
            let pool = subnet.pool(Duration::ZERO);
            let choice = pool.choose(None, None, std::time::SystemTime::UNIX_EPOCH);
            let crate::lease::Choice::Fresh(address) = choice else { panic!("{choice:?}") };
            prop_assert!(subnet.subnet().contains(&address));
            prop_assert_ne!(address, subnet.gateway());
        }
    }
}
