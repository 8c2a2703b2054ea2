//! A table that others can change, and that comes back as it has to be.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread;

use crate::common::{command, name, on_scratch_host};
use tare_netns::{
    ContainerRules, Driver, Element, Firewall, IpFamily, KeptFirewall, Member, Names, Network,
    NetworkOptions, Reach, SubnetOptions,
};

fn open() -> KeptFirewall {
    KeptFirewall::open_shared(&name("tare")).unwrap()
}

fn flush() {
    command("nft", &["flush", "ruleset"]);
}

/// What a container of that address asks for.
fn rules(address: [u8; 4]) -> ContainerRules {
    let addresses = vec![IpAddr::from(address)];
    let member = Member { bridge: name("tare0"), addresses, reach: Reach::Open };
    ContainerRules { members: vec![member], publications: Vec::new() }
}

fn network() -> Network {
    Network::new(&NetworkOptions {
        driver: Driver::Bridge { interface: name("tare0"), vlan: None },
        subnets: vec![SubnetOptions::new(name("10.88.0.0/24"))],
        mtu: None,
        reach: Reach::Open,
        names: Names::Answered,
    })
    .unwrap()
}

fn elements(firewall: &KeptFirewall) -> BTreeSet<Element> {
    firewall.elements().unwrap().into_iter().collect()
}

fn asked(rules: &[&ContainerRules]) -> BTreeSet<Element> {
    rules.iter().flat_map(|rules| rules.elements()).collect()
}

#[test]
fn privileged_who_comes_while_the_table_is_away_puts_it_back() {
    on_scratch_host(|| {
        let firewall = open();
        let [a, b] = [rules([10, 88, 0, 2]), rules([10, 88, 0, 3])];
        let nothing = ContainerRules::default();
        firewall.admit(&a).unwrap();
        flush();
        firewall.admit(&b).unwrap();
        assert_eq!(elements(&firewall), asked(&[&a, &b]));
        flush();
        firewall.withdraw(&a, &nothing).unwrap();
        assert_eq!(elements(&firewall), asked(&[&b]));
        flush();
        firewall.add_network(&network()).unwrap();
        let of_network = network().rules().unwrap();
        let mut all = asked(&[&b]);
        all.extend(of_network.elements());
        all.insert(Element::Closed(IpFamily::V4));
        assert_eq!(elements(&firewall), all);
        assert!(firewall.closes(IpFamily::V4));
        flush();
        firewall.settle(std::slice::from_ref(&a), &[of_network], &[]).unwrap();
        all.retain(|element| !asked(&[&b]).contains(element));
        all.extend(a.elements());
        assert_eq!(elements(&firewall), all);
        flush();
        firewall.remove_network(&name("tare0")).unwrap();
        firewall.withdraw(&a, &nothing).unwrap();
        assert_eq!(elements(&firewall), [Element::Closed(IpFamily::V4)].into());
    });
}

#[test]
fn privileged_what_is_taken_back_while_the_table_comes_back_stays_so() {
    on_scratch_host(|| {
        let firewall = open();
        // Much to put back: there is a while between the moment at which the table is there again and the
        // one at which these are.
        let addresses = (0..2500_u16).map(|host| {
            let [high, low] = host.to_be_bytes();
            IpAddr::from([10, 99, high, low])
        });
        let stays =
            Member { bridge: name("tare0"), addresses: addresses.collect(), reach: Reach::Open };
        let stays = ContainerRules { members: vec![stays], publications: Vec::new() };
        firewall.admit(&stays).unwrap();
        let before = elements(&firewall);
        let others = Firewall::open_shared(&name("tare")).unwrap();
        for host in 0..2 {
            let leaves = rules([10, 100, 0, host]);
            firewall.admit(&leaves).unwrap();
            others.delete_table().unwrap();
            thread::scope(|scope| {
                let restorer = scope.spawn(|| firewall.put_back().unwrap());
                while others.remove_elements(&[Element::Closed(IpFamily::V6)]).is_err() {
                    assert!(!restorer.is_finished(), "it is never there");
                }
                firewall.withdraw(&leaves, &ContainerRules::default()).unwrap();
            });
            assert!(elements(&firewall) == before, "what was taken back is there again");
        }
    });
}

#[test]
fn privileged_what_happened_before_anybody_watched_is_mended() {
    on_scratch_host(|| {
        let firewall = open();
        let a = rules([10, 88, 0, 2]);
        firewall.admit(&a).unwrap();
        flush();
        let mut watcher = firewall.watch().unwrap().expect("others can change it");
        assert_eq!(elements(&firewall), asked(&[&a]));
        watcher.others_changed().unwrap();
        flush();
        assert!(watcher.others_changed().unwrap());
        firewall.put_back().unwrap();
        assert_eq!(elements(&firewall), asked(&[&a]));
        assert!(!watcher.others_changed().unwrap(), "its own changes are none of others");
        firewall.delete().unwrap();
        firewall.put_back().unwrap();
        assert_eq!(command("nft", &["list", "ruleset"]), "", "it is not wanted any more");
        let own = KeptFirewall::open(&name("tare_2")).unwrap();
        assert!(own.watch().unwrap().is_none(), "nobody else can change it");
        own.delete().unwrap();
    });
}
