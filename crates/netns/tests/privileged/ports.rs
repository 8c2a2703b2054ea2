//! Published ports, with real traffic.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use tare_netns::{
    Connections, ContainerRules, Element, ErrorKind, IpFamily, Member, Namespace, Protocol, Reach,
    enable_forwarding, forget_connections, teardown,
};

use crate::common::{command, name, on_scratch_host, set_bridge_netfilter, setup, world};
use crate::lab::{
    CLIENT, Container, HOST, Lab, listen, plan, port, range, tcp_exchange, tcp_is_lost,
    tcp_is_refused, tcp_pair, to, udp, udp_exchange, udp_is_lost, within,
};
use Protocol::{Tcp, Udp};

/// With bridged packets seen by the firewall, and without: much passes with it that would not.
fn on_both_kinds_of_host(body: impl Fn() + Sync) {
    for bridge_netfilter in ["0", "1"] {
        on_scratch_host(|| {
            set_bridge_netfilter(bridge_netfilter);
            body();
        });
    }
}

fn both_protocols() -> [tare_netns::PublishedPort; 2] {
    [port(None, Tcp, 8080, 80), port(None, Udp, 5353, 53)]
}

#[test]
fn privileged_a_published_port_answers_and_sees_who_asks() {
    on_both_kinds_of_host(|| {
        let lab = Lab::new();
        let network = lab.network(0, Reach::Open);
        let other = lab.container(&lab.network(1, Reach::Open), 7);
        let web = lab.publishing(&network, 2, &both_protocols());
        let host: Option<&Namespace> = None;
        let families = [("0.0.0.0", 0), ("::", 1)];
        for (any, at) in families {
            let listener = listen(Some(&web.namespace), to(web.addresses[at], 80));
            let socket = udp(Some(&web.namespace), to(web.addresses[at], 53));
            let own = other.addresses[at].to_string();
            let askers = [
                ("client", Some(&lab.client), CLIENT[at]),
                ("other network", Some(&other.namespace), own.as_str()),
                ("host", host, HOST[at]),
            ];
            for (about, place, want) in askers {
                let seen = tcp_exchange(place, &listener, to(HOST[at], 8080));
                assert_eq!(seen.to_string(), want, "{about}");
                let asker = udp(place, to(any, 0));
                let seen = udp_exchange(&asker, &socket, to(HOST[at], 5353));
                assert_eq!(seen.to_string(), want, "{about}");
            }
        }
    });
}

#[test]
fn privileged_a_published_port_answers_on_the_hosts_own_loopback() {
    on_both_kinds_of_host(|| {
        let lab = Lab::new();
        let local = [port(None, Tcp, 8080, 80), port(Some("127.0.0.1"), Udp, 5353, 53)];
        let web = lab.publishing(&lab.network(0, Reach::Open), 2, &local);
        let listener = listen(Some(&web.namespace), to(web.addresses[0], 80));
        let socket = udp(Some(&web.namespace), to(web.addresses[0], 53));
        let gateway = name::<IpAddr>("10.88.0.1");
        assert_eq!(tcp_exchange(None, &listener, to("127.0.0.1", 8080)), gateway);
        assert_eq!(tcp_exchange(None, &listener, to("127.0.0.9", 8080)), gateway);
        let asker = udp(None, to("127.0.0.1", 0));
        assert_eq!(udp_exchange(&asker, &socket, to("127.0.0.1", 5353)), gateway);
        // What is published on the loopback is not published elsewhere.
        let outside = udp(Some(&lab.client), to("0.0.0.0", 0));
        assert!(udp_is_lost(&outside, &socket, to(HOST[0], 5353)));
        assert!(tcp_is_refused(None, to("::1", 8080)), "not led away");
    });
}

#[test]
fn privileged_nobody_reaches_the_hosts_loopback_by_a_bridge() {
    on_both_kinds_of_host(|| {
        let lab = Lab::new();
        let web = lab.publishing(&lab.network(0, Reach::Open), 2, &both_protocols());
        let secret = udp(None, to("127.0.0.1", 0));
        let target = secret.local_addr().unwrap();
        within(Some(&web.namespace), || {
            // What a container with CAP_NET_ADMIN can do.
            std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
            command("ip", &["address", "flush", "dev", "lo"]);
            command("ip", &["route", "add", "127.0.0.1", "via", "10.88.0.1", "dev", "eth0"]);
        });
        let from = udp(Some(&web.namespace), to(web.addresses[0], 0));
        from.send_to(b"there", target).expect("it leaves the container");
        assert!(udp_is_lost(&from, &secret, target));
        let listing = command("nft", &["list", "set", "inet", "tare", "localnet"]);
        assert!(listing.contains("\"tare0\""), "{listing}");
    });
}

#[test]
fn privileged_containers_reach_their_own_network_by_a_published_port() {
    on_both_kinds_of_host(|| {
        let lab = Lab::new();
        let network = lab.network(0, Reach::Open);
        let web = lab.publishing(&network, 2, &both_protocols());
        let sibling = lab.container(&network, 3);
        for (at, gateway) in [(0, "10.88.0.1"), (1, "fd00:88:0:0::1")] {
            let gateway: IpAddr = name(gateway);
            let listener = listen(Some(&web.namespace), to(web.addresses[at], 80));
            let socket = udp(Some(&web.namespace), to(web.addresses[at], 53));
            for (about, from) in [("itself", &web), ("sibling", &sibling)] {
                for target in [HOST[at].to_owned(), gateway.to_string()] {
                    let place = Some(&from.namespace);
                    let seen = tcp_exchange(place, &listener, to(&target, 8080));
                    assert_eq!(seen, gateway, "{about} {target}");
                    let asker = udp(place, to(from.addresses[at], 0));
                    let seen = udp_exchange(&asker, &socket, to(&target, 5353));
                    assert_eq!(seen, gateway, "{about} {target}");
                }
            }
        }
    });
}

/// It would answer them past the host, from an address they did not ask.
#[test]
fn privileged_a_published_port_answers_on_all_networks_of_its_container() {
    on_both_kinds_of_host(|| {
        let lab = Lab::new();
        let [first, second] = [0, 1].map(|number| lab.network(number, Reach::Open));
        let (mut wanted, mut rules, addresses) = plan(&first, 2, &both_protocols());
        let (mut more, other, others) = plan(&second, 2, &[]);
        (more.attachments[0].interface, more.attachments[0].position) = (name("eth1"), 1);
        wanted.attachments.extend(more.attachments);
        rules.members.extend(other.members);
        let web = setup(&wanted).unwrap();
        lab.firewall.admit(&rules).unwrap();
        let near = lab.container(&second, 3);
        for (at, gateway) in [(0, "10.88.0.1"), (1, "fd00:88:0:0::1")] {
            let gateway: IpAddr = name(gateway);
            let listener = listen(Some(&web), to(addresses[at], 80));
            let socket = udp(Some(&web), to(addresses[at], 53));
            let beside = ["10.88.1.1", "fd00:88:0:1::1"][at];
            let asks = [(&near.namespace, near.addresses[at]), (&web, others[at])];
            for (place, address) in asks {
                for target in [HOST[at], beside] {
                    let seen = tcp_exchange(Some(place), &listener, to(target, 8080));
                    assert_eq!(seen, gateway, "{address} {target}");
                    let asker = udp(Some(place), to(address, 0));
                    let seen = udp_exchange(&asker, &socket, to(target, 5353));
                    assert_eq!(seen, gateway, "{address} {target}");
                }
            }
            let asker = udp(Some(&lab.client), to(CLIENT[at], 0));
            let seen = udp_exchange(&asker, &socket, to(HOST[at], 5353));
            assert_eq!(seen.to_string(), CLIENT[at], "who is of neither");
        }
    });
}

#[test]
fn privileged_a_range_leads_to_as_many_ports() {
    on_scratch_host(|| {
        let lab = Lab::new();
        let ports = [range(None, Udp, 6000, 7000, 1000)];
        let web = lab.publishing(&lab.network(0, Reach::Open), 2, &ports);
        let asker = udp(Some(&lab.client), to("0.0.0.0", 0));
        for offset in [0, 1, 999] {
            let socket = udp(Some(&web.namespace), to(web.addresses[0], 7000 + offset));
            udp_exchange(&asker, &socket, to(HOST[0], 6000 + offset));
        }
        let beyond = udp(Some(&web.namespace), to(web.addresses[0], 8000));
        assert!(udp_is_lost(&asker, &beyond, to(HOST[0], 7000)));
    });
}

#[test]
fn privileged_sctp_is_published_too() {
    on_scratch_host(|| {
        let lab = Lab::new();
        let ports = [port(None, Protocol::Sctp, 9000, 9001)];
        let web = lab.publishing(&lab.network(0, Reach::Open), 2, &ports);
        let listing = command("nft", &["list", "map", "inet", "tare", "ports4"]);
        assert!(listing.contains("sctp . 9000 : 10.88.0.2 . 9001"), "{listing}");
        let listing = command("nft", &["list", "map", "inet", "tare", "ports6"]);
        assert!(listing.contains("sctp . 9000 : fd00:88::2 . 9001"), "{listing}");
        lab.remove(&web);
        assert!(
            lab.firewall.elements().unwrap().iter().all(|e| !matches!(e, Element::Port { .. }))
        );
    });
}

#[test]
fn privileged_what_is_not_published_is_not_reached_from_outside() {
    on_both_kinds_of_host(|| {
        // On a router, which forwards for others, too.
        for family in [IpFamily::V4, IpFamily::V6] {
            enable_forwarding(family).unwrap();
        }
        let lab = Lab::new();
        let web = lab.publishing(&lab.network(0, Reach::Open), 2, &both_protocols());
        for at in [0, 1] {
            let client = udp(Some(&lab.client), to(CLIENT[at], 0));
            let open = udp(Some(&web.namespace), to(web.addresses[at], 53));
            assert!(udp_is_lost(&client, &open, to(web.addresses[at], 53)), "routed past");
            assert!(tcp_is_lost(Some(&lab.client), to(web.addresses[at], 80)));
            assert!(tcp_is_refused(Some(&lab.client), to(HOST[at], 80)));
        }
    });
}

#[test]
fn privileged_ports_come_and_go_while_connections_stay() {
    on_scratch_host(|| {
        let lab = Lab::new();
        let web = lab.container(&lab.network(0, Reach::Open), 2);
        let listener = listen(Some(&web.namespace), to(web.addresses[0], 80));
        let socket = udp(Some(&web.namespace), to(web.addresses[0], 53));
        let target = to(HOST[0], 8080);
        assert!(tcp_is_refused(Some(&lab.client), target), "not yet");
        let asker = udp(Some(&lab.client), to("0.0.0.0", 0));
        // Kept in mind by the kernel as a connection to the host.
        let host = udp(None, to("0.0.0.0", 5353));
        udp_exchange(&asker, &host, to(HOST[0], 5353));
        drop(host);

        let (_, rules, _) = crate::lab::plan(&lab.network(0, Reach::Open), 2, &both_protocols());
        let ports = ContainerRules { members: vec![], ..rules };
        lab.firewall.admit(&ports).unwrap();
        assert!(udp_is_lost(&asker, &socket, to(HOST[0], 5353)), "the host's connection");
        lab.firewall.take_over(&ports).unwrap();
        udp_exchange(&asker, &socket, to(HOST[0], 5353));
        let (mut client, mut server) = tcp_pair(Some(&lab.client), &listener, target);

        lab.firewall.dismiss(&ports).unwrap();
        assert!(tcp_is_refused(Some(&lab.client), target), "no longer");
        client.write_all(b"still").unwrap();
        let mut buffer = [0; 5];
        server.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"still");
    });
}

#[test]
fn privileged_a_flush_of_the_ruleset_breaks_no_transfer() {
    on_scratch_host(|| {
        let lab = Lab::new();
        let web = lab.publishing(&lab.network(0, Reach::Open), 2, &both_protocols());
        let listener = listen(Some(&web.namespace), to(web.addresses[0], 80));
        let (mut client, mut server) = tcp_pair(Some(&lab.client), &listener, to(HOST[0], 8080));
        let total = 64 << 20;
        thread::scope(|scope| {
            scope.spawn(move || {
                let block = vec![7; 1 << 20];
                (0..total / block.len()).for_each(|_| server.write_all(&block).unwrap());
            });
            let mut received = 0;
            let mut buffer = vec![0; 1 << 20];
            while received < total {
                if received < 32 << 20 {
                    command("nft", &["flush", "ruleset"]);
                }
                received += client.read(&mut buffer).unwrap();
            }
            assert_eq!(received, total);
        });
        tcp_exchange(Some(&lab.client), &listener, to(HOST[0], 8080));
    });
}

#[test]
fn privileged_the_next_tenant_of_an_address_gets_nothing_that_was_meant_for_the_last() {
    on_scratch_host(|| {
        let lab = Lab::new();
        let network = lab.network(0, Reach::Open);
        for (at, any) in [(0, "0.0.0.0"), (1, "::")] {
            let first = lab.publishing(&network, 2, &both_protocols());
            let socket = udp(Some(&first.namespace), to(first.addresses[at], 53));
            let asker = udp(Some(&lab.client), to(any, 0));
            udp_exchange(&asker, &socket, to(HOST[at], 5353));
            lab.remove(&first);

            let second = lab.publishing(&network, 2, &[port(None, Udp, 5454, 53)]);
            let socket = udp(Some(&second.namespace), to(second.addresses[at], 53));
            assert!(udp_is_lost(&asker, &socket, to(HOST[at], 5353)));
            udp_exchange(&asker, &socket, to(HOST[at], 5454));
            lab.remove(&second);
        }
    });
}

#[test]
fn privileged_what_waits_for_the_last_tenant_of_an_address_is_not_sent_to_the_next() {
    on_both_kinds_of_host(|| {
        let lab = Lab::new();
        let network = lab.network(0, Reach::Open);
        for (at, any) in [(0, "0.0.0.0"), (1, "::")] {
            let first = lab.publishing(&network, 2, &both_protocols());
            let socket = udp(Some(&first.namespace), to(first.addresses[at], 53));
            let asker = udp(Some(&lab.client), to(any, 0));
            udp_exchange(&asker, &socket, to(HOST[at], 5353));
            drop(socket);
            lab.firewall.remove_elements(&first.rules.elements()).unwrap();
            teardown(&first.wanted).unwrap();
            // The connection is known, and who it leads to is nobody: the kernel asks who that is.
            let waits = || {
                asker.send_to(b"late", to(HOST[at], 5353)).unwrap();
                neighbours("incomplete").contains(&format!("{} ", first.addresses[at]))
            };
            assert!(until(waits), "{}", neighbours("all"));
            forget_connections(&first.addresses.map(Connections::Of)).unwrap();
            let known = neighbours("all");
            assert!(!known.contains(&format!("{} ", first.addresses[at])), "{known}");

            let second = lab.container(&network, 2);
            let socket = udp(Some(&second.namespace), to(second.addresses[at], 53));
            // The kernel asks again once a second.
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            let heard = socket.recv_from(&mut [0; 16]);
            assert!(heard.is_err(), "{heard:?}");
            lab.remove(&second);
        }
    });
}

#[test]
fn privileged_a_neighbour_that_somebody_set_for_good_stays() {
    on_scratch_host(|| {
        let _network = Lab::new().network(0, Reach::Open);
        for (address, state) in [("10.88.0.7", "permanent"), ("10.88.0.8", "stale")] {
            let place = ["dev", "tare0", "lladdr", "02:00:00:00:00:07", "nud", state];
            command("ip", &[&["neighbour", "add", address][..], &place].concat());
        }
        let both = ["10.88.0.7", "10.88.0.8"].map(|address| Connections::Of(name(address)));
        forget_connections(&both).unwrap();
        let known = neighbours("all");
        assert!(known.contains("10.88.0.7 ") && !known.contains("10.88.0.8 "), "{known}");
    });
}

/// Those of the first network that are in that state.
fn neighbours(state: &str) -> String {
    command("ip", &["neighbour", "show", "dev", "tare0", "nud", state])
}

/// Whether that comes true.
fn until(mut comes: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        if comes() {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}

#[test]
fn privileged_connections_of_others_are_not_cut() {
    on_scratch_host(|| {
        let lab = Lab::new();
        let network = lab.network(0, Reach::Open);
        let stays = lab.publishing(&network, 2, &[port(None, Tcp, 8080, 80)]);
        let goes = lab.publishing(&network, 3, &[port(None, Tcp, 9090, 80)]);
        let listener = listen(Some(&stays.namespace), to(stays.addresses[0], 80));
        let (mut client, mut server) = tcp_pair(Some(&lab.client), &listener, to(HOST[0], 8080));
        lab.remove(&goes);
        client.write_all(b"still").unwrap();
        server.read_exact(&mut [0; 5]).unwrap();
        forget_connections(&[Connections::Of(name("203.0.113.1"))]).unwrap();
    });
}

#[test]
fn privileged_a_port_leads_to_one_container_and_only_that_one_takes_it_back() {
    on_scratch_host(|| {
        let lab = Lab::new();
        let network = lab.network(0, Reach::Open);
        let web = lab.publishing(&network, 2, &both_protocols());
        let before = world();
        let (_, taken, _) = crate::lab::plan(&network, 3, &both_protocols());
        let error = lab.firewall.admit(&taken).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse, "{error:?}");
        assert_eq!(world(), before, "nothing of it was done");

        lab.firewall.dismiss(&taken).unwrap();
        assert_eq!(world(), before, "they are another's");
        let address = Ipv4Addr::new(10, 88, 0, 3).into();
        let member = Member { bridge: name("tare0"), addresses: vec![address], reach: Reach::Open };
        lab.firewall
            .admit(&ContainerRules { members: vec![member], publications: vec![] })
            .unwrap();
        lab.firewall.dismiss(&taken).unwrap();
        assert_eq!(world(), before, "what is its own is taken back");
        let listener = listen(Some(&web.namespace), to(web.addresses[0], 80));
        tcp_exchange(Some(&lab.client), &listener, to(HOST[0], 8080));
    });
}

#[test]
fn privileged_ports_survive_a_restart_of_their_owner() {
    on_scratch_host(|| {
        let lab = Lab::new();
        let web = lab.publishing(&lab.network(0, Reach::Open), 2, &both_protocols());
        let listener = listen(Some(&web.namespace), to(web.addresses[0], 80));
        let mut before = lab.firewall.elements().unwrap();
        let Lab { firewall, client } = lab;
        drop(firewall);
        tcp_exchange(Some(&client), &listener, to(HOST[0], 8080));
        let firewall = tare_netns::Firewall::open(&name("tare")).unwrap();
        let mut after = firewall.elements().unwrap();
        before.sort();
        after.sort();
        assert_eq!(after, before);
        tcp_exchange(Some(&client), &listener, to(HOST[0], 8080));
        let lab = Lab { firewall, client };
        lab.remove(&web);
        assert!(tcp_is_refused(Some(&lab.client), to(HOST[0], 8080)));
    });
}

#[test]
fn privileged_two_hundred_lives_leave_the_host_as_it_was() {
    on_scratch_host(|| {
        let lab = Lab::new();
        let network = lab.network(0, Reach::Open);
        let look = || {
            [
                command("ip", &["-d", "link"]),
                command("nft", &["list", "ruleset"]),
                command("ip", &["netns"]),
                command("ip", &["addr"]),
                command("ip", &["route"]),
                command("ip", &["-6", "route"]),
            ]
        };
        // Without a port the bridge would have no carrier at times.
        let _stays = lab.container(&network, 250);
        // The first life leaves what is made once: route_localnet and its guard.
        lab.remove(&lab.publishing(&network, 2, &both_protocols()));
        // Link-local addresses are found to be free meanwhile.
        while command("ip", &["addr"]).contains("tentative") {
            thread::sleep(Duration::from_millis(50));
        }
        let before = look();
        for round in 0..200 {
            let container: Container = lab.publishing(&network, 2 + round, &both_protocols());
            lab.remove(&container);
        }
        for (after, before) in look().iter().zip(&before) {
            assert_eq!(without_times(after), without_times(before));
        }
    });
}

/// `ip -d` tells how long a bridge's timers still run.
fn without_times(text: &str) -> Vec<&str> {
    let mut words = text.split_whitespace();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        kept.push(word);
        if word.ends_with("_timer") {
            words.next();
        }
    }
    kept
}
