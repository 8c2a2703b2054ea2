//! How far networks reach, with real traffic.

use std::fs;
use std::process::Command;

use tare_netns::{
    Bridge, Element, ErrorKind, Firewall, Forwarding, IpFamily, Link, MacvlanMode, Names,
    Namespace, NetworkOptions, NetworkRules, Protocol, Reach, SubnetOptions, VlanId, Wanted,
    enable_forwarding, namespaces, open_namespace_at, remove_veth, veths_on,
};

use crate::common::{
    bridge, command, container, ensure, ensure_bridge, name, on_scratch_host, set_bridge_netfilter,
    setup,
};
use crate::lab::{
    CLIENT, Container, HOST, Lab, listen, port, tcp_exchange, tcp_is_lost, to, udp, udp_exchange,
    udp_is_lost, within,
};

/// Whether they do, as `want` says, in both directions and families.
fn check_reach(a: &Container, b: &Container, want: bool) {
    for (from, to, at) in [(a, b, 0), (b, a, 0), (a, b, 1), (b, a, 1)] {
        let sender = udp(Some(&from.namespace), (from.addresses[at], 0).into());
        let receiver = udp(Some(&to.namespace), (to.addresses[at], 0).into());
        let target = receiver.local_addr().unwrap();
        let (from, to) = (&from.wanted.namespace, &to.wanted.namespace);
        if want {
            let seen = udp_exchange(&sender, &receiver, target);
            assert_eq!(seen, sender.local_addr().unwrap().ip(), "{from} {to}");
        } else {
            assert!(udp_is_lost(&sender, &receiver, target), "{from} {to}");
        }
    }
}

fn check_way_out(lab: &Lab, from: &Container, want: bool) {
    for at in [0, 1] {
        let sender = udp(Some(&from.namespace), (from.addresses[at], 0).into());
        let receiver = udp(Some(&lab.client), to(CLIENT[at], 0));
        let target = receiver.local_addr().unwrap();
        if want {
            let seen = udp_exchange(&sender, &receiver, target);
            assert_eq!(seen.to_string(), HOST[at], "masqueraded");
        } else {
            assert!(udp_is_lost(&sender, &receiver, target), "{}", from.wanted.namespace);
        }
    }
}

/// What a container with `CAP_NET_ADMIN` does about a route it was not given.
fn find_the_way_out(container: &Container) {
    within(Some(&container.namespace), || {
        for net in &container.wanted.attachments[0].addresses {
            let family = if net.addr().is_ipv4() { "-4" } else { "-6" };
            let gateway = net.hosts().find(|host| *host != net.network()).unwrap().to_string();
            command("ip", &[family, "route", "add", "default", "via", &gateway, "metric", "9999"]);
        }
    });
}

fn reach_the_host(from: &Container) {
    let sender = udp(Some(&from.namespace), (from.addresses[0], 0).into());
    let gateway = from.wanted.attachments[0].addresses[0].hosts().next().unwrap();
    let receiver = udp(None, (gateway, 0).into());
    udp_exchange(&sender, &receiver, receiver.local_addr().unwrap());
}

#[test]
fn privileged_networks_reach_as_far_as_they_are_to() {
    use Reach::{Internal, Isolated, Open};
    for bridge_netfilter in ["0", "1"] {
        on_scratch_host(|| {
            set_bridge_netfilter(bridge_netfilter);
            let lab = Lab::new();
            let reaches = [Open, Open, Isolated, Isolated, Internal, Internal];
            let networks: Vec<_> = (0..).zip(reaches).map(|(n, r)| lab.network(n, r)).collect();
            let first: Vec<_> = networks.iter().map(|n| lab.container(n, 2)).collect();
            let second: Vec<_> = networks.iter().map(|n| lab.container(n, 3)).collect();
            first.iter().chain(&second).for_each(find_the_way_out);
            for (a, reach_a) in first.iter().zip(reaches) {
                for (b, reach_b) in second.iter().zip(reaches) {
                    let same = a.rules.members[0].bridge == b.rules.members[0].bridge;
                    check_reach(a, b, same || (reach_a, reach_b) == (Open, Open));
                }
                check_way_out(&lab, a, reach_a != Internal);
                reach_the_host(a);
            }
        });
    }
}

#[test]
fn privileged_a_published_port_does_not_lead_around_the_reach() {
    on_scratch_host(|| {
        let lab = Lab::new();
        let internal = lab.publishing(
            &lab.network(0, Reach::Internal),
            2,
            &[port(None, Protocol::Tcp, 80, 80)],
        );
        let isolated = lab.publishing(
            &lab.network(1, Reach::Isolated),
            2,
            &[port(None, Protocol::Tcp, 81, 80)],
        );
        let other = lab.container(&lab.network(2, Reach::Open), 2);
        let at_internal = listen(Some(&internal.namespace), to(internal.addresses[0], 80));
        let at_isolated = listen(Some(&isolated.namespace), to(isolated.addresses[0], 80));
        tcp_exchange(None, &at_internal, to("127.0.0.1", 80));
        tcp_exchange(Some(&lab.client), &at_isolated, to(HOST[0], 81));
        assert!(tcp_is_lost(Some(&lab.client), to(HOST[0], 80)));
        for port in [80, 81] {
            assert!(tcp_is_lost(Some(&other.namespace), to(HOST[0], port)));
        }
    });
}

#[test]
fn privileged_a_reach_can_be_changed_and_a_network_be_forgotten() {
    on_scratch_host(|| {
        let firewall = Firewall::open(&name("tare")).unwrap();
        let before = command("nft", &["list", "ruleset"]);
        let bridge = name("tare0");
        let rules = |reach| NetworkRules { bridge: name("tare0"), reach };
        for reach in [Reach::Open, Reach::Internal, Reach::Isolated, Reach::Isolated] {
            firewall.add_network(&rules(reach)).unwrap();
            let mut want = rules(reach).elements();
            let mut got = firewall.elements().unwrap();
            want.sort();
            got.sort();
            assert_eq!(got, want);
        }
        firewall.remove_network(&bridge).unwrap();
        firewall.remove_network(&bridge).unwrap();
        assert_eq!(command("nft", &["list", "ruleset"]), before);
    });
}

/// Two hosts on two cables, which this one could forward between, but not as bridges do.
fn strangers() -> [Namespace; 2] {
    let place = |number: u8| {
        let [here, there, netns] =
            [format!("cable{number}"), "eth0".to_owned(), format!("stranger{number}")];
        command("ip", &["netns", "add", &netns]);
        command("ip", &["link", "add", &here, "type", "veth", "peer", &there, "netns", &netns]);
        command("ip", &["addr", "add", &format!("198.51.{number}.1/24"), "dev", &here]);
        command("ip", &["link", "set", &here, "up"]);
        let inside = |arguments: &[&str]| command("ip", &[&["-n", &netns], arguments].concat());
        inside(&["addr", "add", &format!("198.51.{number}.2/24"), "dev", "eth0"]);
        inside(&["link", "set", "eth0", "up"]);
        inside(&["route", "add", "default", "via", &format!("198.51.{number}.1")]);
        tare_netns::open_namespace(&name(&netns)).unwrap()
    };
    [place(1), place(2)]
}

#[test]
fn privileged_a_host_that_was_no_router_does_not_become_one() {
    for already in [false, true] {
        on_scratch_host(|| {
            let strangers = strangers();
            if already {
                assert_eq!(enable_forwarding(IpFamily::V4).unwrap(), Forwarding::SwitchedOn);
            }
            let lab = Lab::new();
            let from = udp(Some(&strangers[0]), to("198.51.1.2", 0));
            let at = udp(Some(&strangers[1]), to("198.51.2.2", 0));
            let target = at.local_addr().unwrap();
            assert_eq!(udp_is_lost(&from, &at, target), !already);
            let container = lab.container(&lab.network(0, Reach::Open), 2);
            let from = udp(Some(&container.namespace), to(container.addresses[0], 0));
            assert_eq!(udp_exchange(&from, &at, target).to_string(), "198.51.2.1");
            let again = lab.firewall.enable_forwarding(IpFamily::V4).unwrap();
            assert_eq!(again, Forwarding::AlreadyOn);
        });
    }
}

#[test]
fn privileged_other_bridges_are_not_cut_off() {
    for bridge_netfilter in ["0", "1"] {
        on_scratch_host(|| {
            set_bridge_netfilter(bridge_netfilter);
            let lab = Lab::new();
            assert!(lab.firewall.elements().unwrap().contains(&Element::Closed(IpFamily::V4)));
            // A bridge the table knows nothing of.
            let foreign = bridge();
            ensure(&foreign);
            let a = setup(&container(&foreign, 2)).unwrap();
            let b = setup(&container(&foreign, 3)).unwrap();
            let from = udp(Some(&a), to("10.88.0.2", 0));
            let at = udp(Some(&b), to("10.88.0.3", 0));
            udp_exchange(&from, &at, at.local_addr().unwrap());
        });
    }
}

#[test]
fn privileged_an_uplink_goes_on_taking_router_advertisements() {
    on_scratch_host(|| {
        let accept = |interface: &str| {
            fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{interface}/accept_ra")).unwrap()
        };
        command("ip", &["link", "add", "uplink", "type", "veth", "peer", "deaf"]);
        fs::write("/proc/sys/net/ipv6/conf/uplink/accept_ra", "1").unwrap();
        fs::write("/proc/sys/net/ipv6/conf/deaf/accept_ra", "0").unwrap();
        let firewall = Firewall::open(&name("tare")).unwrap();
        firewall.enable_forwarding(IpFamily::V4).unwrap();
        assert_eq!(accept("uplink"), "1\n", "IPv4 is no matter");
        assert_eq!(firewall.enable_forwarding(IpFamily::V6).unwrap(), Forwarding::SwitchedOn);
        assert_eq!((accept("uplink").as_str(), accept("deaf").as_str()), ("2\n", "0\n"));
        assert_eq!(fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding").unwrap(), "1\n");
    });
}

/// Whether the kernel was built to keep VLANs apart (`CONFIG_BRIDGE_VLAN_FILTERING`).
fn kernel_knows_vlans() -> bool {
    let bridge = ["link", "add", "probe", "type", "bridge", "vlan_filtering", "1"];
    let known = Command::new("ip").args(bridge).output().unwrap().status.success();
    if known {
        command("ip", &["link", "delete", "probe"]);
    }
    known
}

#[test]
fn privileged_vlans_on_one_bridge_are_apart_or_refused() {
    on_scratch_host(|| {
        let vlan = |number| Some(VlanId::new(number).unwrap());
        let bridge = Bridge { vlan: vlan(7), ..bridge() };
        if !kernel_knows_vlans() {
            let before = crate::common::world();
            ensure_bridge(&bridge).expect_err("they would not be apart");
            return assert_eq!(crate::common::world(), before);
        }
        ensure_bridge(&bridge).unwrap();
        ensure_bridge(&bridge).unwrap();
        let join = |host, number| {
            let mut wanted = container(&bridge, host);
            let Link::Bridge { vlan: slot, .. } = &mut wanted.attachments[0].link else { panic!() };
            *slot = vlan(number);
            setup(&wanted).unwrap()
        };
        let (a, b, other) = (join(2, 7), join(3, 7), join(4, 9));
        let second = join(5, 9);
        let at = |namespace: &Namespace, host: u8| {
            udp(Some(namespace), to(format!("10.88.0.{host}"), 0))
        };
        let (a, b, other, second) = (at(&a, 2), at(&b, 3), at(&other, 4), at(&second, 5));
        udp_exchange(&a, &b, b.local_addr().unwrap());
        udp_exchange(&other, &second, second.local_addr().unwrap());
        assert!(udp_is_lost(&other, &b, b.local_addr().unwrap()));
        let gateway = udp(None, to("10.88.0.1", 0));
        udp_exchange(&a, &gateway, gateway.local_addr().unwrap());
        assert!(udp_is_lost(&other, &gateway, gateway.local_addr().unwrap()));
    });
}

#[test]
fn privileged_a_bridge_that_mixes_vlans_is_not_changed() {
    on_scratch_host(|| {
        ensure(&bridge());
        let seven = Some(VlanId::new(7).unwrap());
        let error = ensure_bridge(&Bridge { vlan: seven, ..bridge() }).unwrap_err();
        assert_eq!(error.to_string(), "bridge tare0 does not keep VLANs apart");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let mut wanted = container(&bridge(), 2);
        let Link::Bridge { vlan, .. } = &mut wanted.attachments[0].link else { panic!() };
        *vlan = seven;
        let before = crate::common::world();
        setup(&wanted).unwrap_err();
        assert_eq!(crate::common::world(), before);
    });
}

#[test]
fn privileged_a_macvlan_has_the_mode_that_was_asked_for() {
    on_scratch_host(|| {
        command("ip", &["link", "add", "lan0", "type", "veth", "peer", "lan0-sw"]);
        for mode in ["bridge", "private", "vepa", "passthru"] {
            let network = tare_netns::Network::new(&NetworkOptions {
                driver: tare_netns::Driver::Macvlan { parent: name("lan0"), mode: name(mode) },
                subnets: vec![SubnetOptions::new(name("192.0.2.0/24"))],
                mtu: None,
                reach: Reach::Open,
                names: Names::Off,
            });
            let address = [192, 0, 2, 2].into();
            let mac = tare_netns::MacAddress::for_address(address);
            let attachment =
                network.unwrap().attachment(name("eth0"), name("unused"), mac, &[address]);
            let wanted = Wanted { namespace: name("one"), attachments: vec![attachment] };
            let inside = setup(&wanted).unwrap();
            let link =
                within(Some(&inside), || command("ip", &["-d", "-o", "link", "show", "eth0"]));
            assert!(link.contains(&format!("macvlan mode {mode} ")), "{link}");
            tare_netns::teardown(&wanted).unwrap();
        }
        command("ip", &["link", "del", "lan0"]);
    });
}

#[test]
fn privileged_macvlan_containers_are_hosts_of_their_parents_network() {
    on_scratch_host(|| {
        // A switch with a host and the parent on it.
        command("ip", &["link", "add", "lan0", "type", "veth", "peer", "lan0-sw"]);
        ensure(&Bridge { name: name("switch"), gateways: vec![], mtu: None, vlan: None });
        for arguments in [
            ["link", "set", "lan0-sw", "master", "switch", "up"].as_slice(),
            &["link", "set", "lan0", "up"],
        ] {
            command("ip", arguments);
        }
        let network = tare_netns::Network::new(&NetworkOptions {
            driver: tare_netns::Driver::Macvlan { parent: name("lan0"), mode: MacvlanMode::Bridge },
            subnets: vec![SubnetOptions::new(name("192.0.2.0/24"))],
            mtu: Some(1400),
            reach: Reach::Open,
            names: Names::Off,
        })
        .unwrap();
        let join = |host: u8| {
            let address = [192, 0, 2, host].into();
            let mac = tare_netns::MacAddress::for_address(address);
            let attachment = network.attachment(name("eth0"), name("unused"), mac, &[address]);
            Wanted { namespace: name(&format!("mac-{host}")), attachments: vec![attachment] }
        };
        let before = crate::common::world();
        let (a, b) = (setup(&join(2)).unwrap(), setup(&join(3)).unwrap());
        let router = setup(&Wanted {
            namespace: name("router"),
            attachments: vec![tare_netns::Attachment {
                link: crate::common::veth("switch", "ve-router"),
                gateways: vec![],
                ..join(1).attachments[0].clone()
            }],
        })
        .unwrap();
        let at = |place: &Namespace, host: u8| udp(Some(place), to(format!("192.0.2.{host}"), 0));
        let (a2, b3, router1) = (at(&a, 2), at(&b, 3), at(&router, 1));
        udp_exchange(&a2, &b3, b3.local_addr().unwrap());
        udp_exchange(&a2, &router1, router1.local_addr().unwrap());
        let link = within(Some(&a), || command("ip", &["-d", "-o", "link", "show", "eth0"]));
        assert!(link.contains("macvlan mode bridge") && link.contains("mtu 1400"), "{link}");
        assert!(link.contains("02:74:c0:00:02:02"), "{link}");

        tare_netns::teardown(&join(2)).unwrap();
        tare_netns::teardown(&join(3)).unwrap();
        let inside = within(Some(&a), || command("ip", &["-o", "link"]));
        assert!(!inside.contains("eth0"), "taken away although the namespace is held: {inside}");
        command("ip", &["netns", "delete", "router"]);
        drop((a, b, router));
        remove_veth(&name("ve-router")).unwrap();
        assert_eq!(crate::common::world(), before);
    });
}

#[test]
fn privileged_what_is_on_the_host_is_listed() {
    on_scratch_host(|| {
        assert!(namespaces().unwrap().is_empty());
        ensure(&bridge());
        setup(&container(&bridge(), 2)).unwrap();
        command("ip", &["netns", "add", "theirs"]);
        command("ip", &["link", "add", "mac0", "link", "tare0", "type", "macvlan"]);
        command("ip", &["link", "add", "alone", "type", "veth", "peer", "name", "far"]);
        command("ip", &["link", "add", "br-theirs", "type", "bridge"]);
        command("ip", &["link", "set", "far", "master", "br-theirs"]);
        assert_eq!(namespaces().unwrap(), [name("tare0-2"), name("theirs")]);
        let on = |bridge| veths_on(&name(bridge)).unwrap();
        assert_eq!(on("tare0"), [name("ve-tar-2")]);
        assert_eq!(on("br-theirs"), [name("far")]);
        assert!(on("none").is_empty() && on("alone").is_empty(), "no bridges");
        for (parent, carries) in [("alone", true), ("tare0", true), ("lo", false), ("no", false)] {
            assert_eq!(tare_netns::carries_macvlans(&name(parent)).unwrap(), carries, "{parent}");
        }
        assert_eq!(remove_veth(&name("ve-tar-2")).unwrap(), tare_netns::Removed::Removed);
        assert_eq!(remove_veth(&name("ve-tar-2")).unwrap(), tare_netns::Removed::NotThere);
        assert_eq!(remove_veth(&name("tare0")).unwrap_err().kind(), ErrorKind::InUse);
    });
}

#[test]
fn privileged_only_network_namespaces_are_taken_for_such() {
    on_scratch_host(|| {
        let own = open_namespace_at("/proc/thread-self/ns/net".as_ref()).unwrap();
        let link = fs::read_link("/proc/thread-self/ns/net").unwrap();
        assert_eq!(link.to_str().unwrap(), format!("net:[{}]", own.inode));
        for path in ["/proc/thread-self/ns/mnt", "/proc/thread-self/ns/uts", "/proc/version", "/"] {
            let error = open_namespace_at(path.as_ref()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{path}");
            let want = format!("no network namespace is mounted on {path}");
            assert_eq!(error.to_string(), want);
        }
        fs::create_dir_all("/run/x").unwrap();
        command("mkfifo", &["/run/x/fifo"]);
        open_namespace_at("/run/x/fifo".as_ref()).unwrap_err();
        fs::remove_dir_all("/run/x").unwrap();
    });
}
