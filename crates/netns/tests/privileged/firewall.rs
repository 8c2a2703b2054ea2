//! The firewall table against the running kernel, on hosts of the tests' own.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread;

use crate::common::{
    arrives, bridge, command, container, ensure, name, on_scratch_host, outside,
    set_bridge_netfilter, setup, socket, there_and_back, world,
};
use tare_netns::{ErrorKind, Firewall, Ownership};

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| name(text)).collect()
}

fn listed(firewall: &Firewall) -> BTreeSet<IpAddr> {
    firewall.list().unwrap().into_iter().collect()
}

fn open() -> Firewall {
    Firewall::open(&name("tare")).unwrap()
}

#[test]
fn privileged_masquerades_what_leaves_and_nothing_else() {
    for bridge_netfilter in ["0", "1"] {
        on_scratch_host(|| {
            set_bridge_netfilter(bridge_netfilter);
            ensure(&bridge());
            ensure(&outside());
            let a = setup(&container(&bridge(), 2)).unwrap();
            let b = setup(&container(&bridge(), 3)).unwrap();
            let elsewhere = setup(&container(&outside(), 2)).unwrap();
            let from_a = socket(Some(&a), "10.88.0.2");
            let at_b = socket(Some(&b), "10.88.0.3");
            let out = || socket(Some(&elsewhere), "192.0.2.2");

            assert_eq!(there_and_back(&from_a, &out()), name::<IpAddr>("10.88.0.2"), "not yet");
            let firewall = open();
            assert_eq!(there_and_back(&from_a, &out()), name::<IpAddr>("10.88.0.2"), "no element");
            firewall.add(&ips(&["10.88.0.2", "10.88.0.3"])).unwrap();
            assert_eq!(there_and_back(&from_a, &out()), name::<IpAddr>("192.0.2.1"), "the host's");
            assert_eq!(there_and_back(&from_a, &at_b), name::<IpAddr>("10.88.0.2"), "within");
            firewall.remove(&ips(&["10.88.0.2"])).unwrap();
            assert_eq!(there_and_back(&from_a, &out()), name::<IpAddr>("10.88.0.2"), "removed");
        });
    }
}

#[test]
fn privileged_broadcasts_on_the_bridge_keep_their_sender() {
    for bridge_netfilter in ["0", "1"] {
        on_scratch_host(|| {
            set_bridge_netfilter(bridge_netfilter);
            ensure(&bridge());
            let a = setup(&container(&bridge(), 2)).unwrap();
            let b = setup(&container(&bridge(), 3)).unwrap();
            let firewall = open();
            firewall.add(&ips(&["10.88.0.2", "10.88.0.3"])).unwrap();
            let from_a = socket(Some(&a), "10.88.0.2");
            from_a.set_broadcast(true).unwrap();
            for (receiver, target) in [
                ("0.0.0.0", "10.88.0.255"),
                ("0.0.0.0", "255.255.255.255"),
                ("0.0.0.0", "224.0.0.251"),
            ] {
                let at_b = socket(Some(&b), receiver);
                at_b.join_multicast_v4(&name("224.0.0.251"), &name("10.88.0.3")).unwrap();
                let target = (name::<IpAddr>(target), at_b.local_addr().unwrap().port()).into();
                let seen = arrives(&from_a, &at_b, target);
                assert_eq!(seen, from_a.local_addr().unwrap(), "{target} {bridge_netfilter}");
            }
        });
    }
}

#[test]
fn privileged_elements_come_and_go() {
    on_scratch_host(|| {
        let firewall = open();
        assert_eq!(listed(&firewall), BTreeSet::new());
        let some = ips(&["10.88.0.2", "10.88.0.3", "fd00::2"]);
        firewall.add(&some).unwrap();
        firewall.add(&some[..1]).unwrap();
        assert_eq!(listed(&firewall), some.iter().copied().collect());
        firewall.remove(&ips(&["10.88.0.3", "10.88.0.3", "10.88.0.99", "fd00::99"])).unwrap();
        assert_eq!(listed(&firewall), ips(&["10.88.0.2", "fd00::2"]).into_iter().collect());
        firewall.add(&[]).unwrap();
        firewall.remove(&[]).unwrap();

        let many: Vec<IpAddr> = (0..5000_u32)
            .flat_map(|n| [IpAddr::from((0x0a59_0000 + n).to_be_bytes()), many_v6(n)])
            .collect();
        firewall.add(&many).unwrap();
        assert_eq!(listed(&firewall).len(), 2 + many.len());
        firewall.remove(&many).unwrap();
        assert_eq!(listed(&firewall).len(), 2);
    });
}

fn many_v6(n: u32) -> IpAddr {
    std::net::Ipv6Addr::from((0xfd_u128 << 120) + u128::from(n) + 0x1_0000).into()
}

#[test]
fn privileged_the_ruleset_reads_as_documented() {
    on_scratch_host(|| {
        let firewall = open();
        firewall.add(&ips(&["10.88.0.2"])).unwrap();
        // Versions differ in which priorities they have names for, and where.
        let listing = command("nft", &["--numeric-priority", "list", "table", "inet", "tare"]);
        for want in [
            "comment \"tare-netns generation 2\"",
            "type ipv4_addr",
            "elements = { 10.88.0.2 }",
            "type ipv6_addr",
            "type ifname . ifname",
            "type ifname . ipv6_addr",
            "type nf_proto",
            "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service",
            "type filter hook prerouting priority -300; policy accept;",
            "iifname @localnet ip daddr 127.0.0.0/8 drop",
            "type nat hook prerouting priority -100; policy accept;",
            "ip daddr 127.0.0.0/8 return",
            "dnat ip to ip daddr . meta l4proto . th dport map @ports_at4",
            "fib daddr type local dnat ip to meta l4proto . th dport map @ports4",
            "dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports_at6",
            "fib daddr type local dnat ip6 to meta l4proto . th dport map @ports6",
            "type nat hook output priority -100; policy accept;",
            "ip6 daddr ::1 return",
            "type filter hook forward priority 0; policy accept;",
            "iifname . oifname @within accept",
            "ct state established,related accept",
            "iifname @internal drop",
            "oifname @internal drop",
            "iifname @isolated oifname @networks drop",
            "iifname @networks oifname @isolated drop",
            "iifname @networks accept",
            "oifname @networks ct status dnat accept",
            "oifname @networks drop",
            "meta iifkind \"bridge\" meta oifkind \"bridge\" accept",
            "meta nfproto @closed drop",
            "type nat hook postrouting priority 100; policy accept;",
            "ct status dnat oifname . ip saddr @members4 masquerade",
            "ct status dnat oifname . ip6 saddr @members6 masquerade",
            "ct status dnat iifname . ip daddr @members4 masquerade",
            "ct status dnat iifname . ip6 daddr @members6 masquerade",
            "ip saddr 127.0.0.0/8 oifname @localnet masquerade",
            "meta pkttype host ip saddr @containers4 ip daddr != @containers4 masquerade",
            "meta pkttype host ip6 saddr @containers6 ip6 daddr != @containers6 masquerade",
        ] {
            assert!(listing.contains(want), "{want}\nin {listing}");
        }
    });
}

#[test]
fn privileged_others_cannot_change_the_table_while_it_is_owned() {
    on_scratch_host(|| {
        let firewall = open();
        assert_eq!(firewall.ownership(), Ownership::Exclusive, "this kernel has the flags");
        firewall.add(&ips(&["10.88.0.2"])).unwrap();
        let before = command("nft", &["list", "ruleset"]);
        command("nft", &["add", "table", "inet", "other"]);
        command("nft", &["flush", "ruleset"]);
        assert_eq!(command("nft", &["list", "ruleset"]), before, "all but the other is there");
        let error = Firewall::open(&name("tare")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse);
        assert_eq!(error.to_string(), "firewall table tare belongs to another running process");
        Firewall::open(&name("tare_2")).unwrap().delete_table().unwrap();
    });
}

/// As on a kernel that knows no owners; somebody has to watch it then.
#[test]
fn privileged_a_table_can_be_one_that_others_change() {
    on_scratch_host(|| {
        let firewall = Firewall::open_shared(&name("tare")).unwrap();
        assert_eq!(firewall.ownership(), Ownership::Shared);
        firewall.add(&ips(&["10.88.0.2"])).unwrap();
        let before = command("nft", &["list", "ruleset"]);
        let mut watcher = firewall.watch().unwrap();
        command("nft", &["flush", "ruleset"]);
        assert!(watcher.others_changed().unwrap());
        firewall.restore(&[tare_netns::Element::Outbound(name("10.88.0.2"))]).unwrap();
        assert_eq!(command("nft", &["list", "ruleset"]), before);
        drop(firewall);
        assert_eq!(open().ownership(), Ownership::Exclusive, "it can be had for oneself again");
    });
}

#[test]
fn privileged_an_orphan_is_adopted_with_its_elements_and_made_whole() {
    on_scratch_host(|| {
        let firewall = open();
        firewall.add(&ips(&["10.88.0.2", "fd00::2"])).unwrap();
        let whole = command("nft", &["list", "ruleset"]);
        drop(firewall);
        let orphan = command("nft", &["list", "ruleset"]);
        assert!(orphan.contains("10.88.0.2"), "it outlives its owner: {orphan}");
        drop(open());
        assert_eq!(command("nft", &["list", "ruleset"]), orphan, "no rule is there twice");
        command("nft", &["flush", "chain", "inet", "tare", "postrouting"]);
        let firewall = open();
        assert_eq!(listed(&firewall), ips(&["10.88.0.2", "fd00::2"]).into_iter().collect());
        assert_eq!(command("nft", &["list", "ruleset"]), whole, "the rules are back");
        command("nft", &["flush", "ruleset"]);
        assert_eq!(command("nft", &["list", "ruleset"]), whole, "and it is owned again");
    });
}

#[test]
fn privileged_a_foreign_table_of_the_name_is_replaced() {
    on_scratch_host(|| {
        let whole = {
            let firewall = open();
            let whole = command("nft", &["list", "ruleset"]);
            firewall.delete_table().unwrap();
            whole
        };
        assert_eq!(command("nft", &["list", "ruleset"]), "");
        command("nft", &["add", "table", "inet", "tare"]);
        command("nft", &["add", "set", "inet", "tare", "containers4", "{ type ether_addr; }"]);
        let _firewall = open();
        assert_eq!(command("nft", &["list", "ruleset"]), whole);
    });
}

#[test]
fn privileged_one_handle_serves_many_threads() {
    on_scratch_host(|| {
        let firewall = open();
        thread::scope(|scope| {
            for worker in 0..16_u8 {
                let firewall = &firewall;
                scope.spawn(move || {
                    for host in 0..50 {
                        let address = [IpAddr::from([10, 88, worker, host])];
                        firewall.add(&address).unwrap();
                        assert!(listed(firewall).contains(&address[0]));
                        firewall.remove(&address).unwrap();
                    }
                });
            }
        });
        assert_eq!(listed(&firewall), BTreeSet::new());
    });
}

#[test]
fn privileged_deleting_the_table_leaves_nothing() {
    on_scratch_host(|| {
        let before = world();
        let firewall = open();
        assert_ne!(world(), before);
        firewall.delete_table().unwrap();
        assert_eq!(world(), before);
    });
}
