//! Rules of others, which an accept of ours does not overrule: they are seen as they come and go.

use std::collections::HashMap;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use system_tests::network::in_network;
use system_tests::{Client, ROOT, Tared, on_scratch_host, run, signal};
use zbus::OwnedVariant;

use super::started;
use crate::networks::{connect, namespace_of};

const OUTSIDE: &str = "203.0.113.2";

async fn is_blocked(client: &Client) -> bool {
    let taints: Vec<String> = client.properties(ROOT, "Manager").await.get("Tainted");
    taints.contains(&"firewall-blocks".to_owned())
}

/// What was told of it, in order.
fn told(client: &Client) -> Vec<bool> {
    type Changed = (String, HashMap<String, OwnedVariant>, Vec<String>);
    let messages = client.messages();
    let changes = messages.iter().filter_map(|it| signal::<Changed>(it, ROOT, "PropertiesChanged"));
    let taints = changes.filter_map(|(_, mut changed, _)| changed.remove("Tainted"));
    let has = |taints: OwnedVariant| {
        let taints = Vec::<String>::try_from(taints).unwrap();
        taints.contains(&"firewall-blocks".to_owned())
    };
    taints.map(has).collect()
}

/// Without anything being started: ten times as long as it may take.
async fn becomes_blocked(client: &Client, want: bool, about: &str) {
    let end = Instant::now() + Duration::from_secs(10);
    while is_blocked(client).await != want {
        assert!(Instant::now() < end, "{about}: it does not become {want}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn privileged_rules_of_others_are_seen_as_they_come_and_go() {
    on_scratch_host(async |host| {
        run("nft", &["add table ip before"]);
        let drops = "{ type filter hook forward priority 0; policy drop; }";
        run("nft", &[&format!("add chain ip before f {drops}")]);
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        becomes_blocked(&client, true, "what was there before").await;
        run("nft", &["delete table ip before"]);
        becomes_blocked(&client, false, "it has gone").await;
        for family in ["ip", "ip6", "inet"] {
            run("nft", &[&format!("add table {family} others")]);
            run("nft", &[&format!("add chain {family} others f {drops}")]);
            becomes_blocked(&client, true, family).await;
            // As an administrator lets it be.
            run("nft", &[&format!("chain {family} others f {{ policy accept; }}")]);
            becomes_blocked(&client, false, family).await;
            run("nft", &[&format!("delete table {family} others")]);
        }
        run("nft", &["add table ip before"]);
        run("nft", &[&format!("add chain ip before f {drops}")]);
        becomes_blocked(&client, true, "it is there again").await;
        // Whoever waits for it need not ask. What was there may have been seen before anybody listened.
        let told = told(&client);
        assert!(
            told.len() >= 8 && told.ends_with(&[false, true, false, true, false, true]),
            "{told:?}"
        );
        tared.stop();
        run("nft", &["delete table ip before"]);
    });
}

/// Who sets up a firewall drops first, and says afterwards what may pass.
#[test]
fn privileged_rules_of_others_are_looked_at_when_all_of_them_are_there() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let set_up = || {
            let begun = Instant::now();
            let drops = "{ type filter hook forward priority 0; policy drop; }";
            run("nft", &[&format!("add table ip others; add chain ip others f {drops}")]);
            std::thread::sleep(Duration::from_millis(100));
            run("nft", &["chain ip others f { policy accept; }"]);
            begun.elapsed()
        };
        // Where the machine takes its time, what is half done may well be seen.
        let mut seen = 0;
        while set_up() > Duration::from_millis(400) {
            run("nft", &["delete table ip others"]);
            becomes_blocked(&client, false, "it has gone").await;
            seen = told(&client).len();
        }
        // What comes next is seen after that.
        let set_up = tokio::time::Instant::now();
        tokio::time::sleep_until(set_up + Duration::from_secs(1)).await;
        run("nft", &["chain ip others f { policy drop; }"]);
        becomes_blocked(&client, true, "it drops").await;
        let told = told(&client).split_off(seen);
        assert!(told.ends_with(&[true]) && !told[..told.len() - 1].contains(&true), "{told:?}");
        run("nft", &["delete table ip others"]);
        tared.stop();
    });
}

/// Nobody tells of changes there: it is looked at when something starts.
#[test]
fn privileged_the_old_iptables_is_seen_too() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let starts_until = async |want: bool, about: &str| {
            let end = Instant::now() + Duration::from_secs(20);
            loop {
                let path = started(&client, "c", "true").await;
                client.remove(&path).await.done();
                if is_blocked(&client).await == want {
                    return;
                }
                assert!(Instant::now() < end, "{about}: it does not become {want}");
            }
        };
        starts_until(false, "nothing is there").await;
        for program in ["iptables-legacy", "ip6tables-legacy"] {
            for (policy, want) in [("DROP", true), ("ACCEPT", false)] {
                // A rule before it, so that the policy is not the first thing of the chain.
                run(program, &["-A", "FORWARD", "-i", "lo", "-j", "ACCEPT"]);
                run(program, &["-P", "FORWARD", policy]);
                starts_until(want, &format!("{program} {policy}")).await;
            }
        }
        assert!(tared.log().contains("chain FORWARD of ip6tables-legacy"), "it is said where");
        std::fs::remove_file("/run/xtables.lock").unwrap();
        tared.stop();
    });
}

/// A host whose way out is a bridge, as hosts of virtual machines have it: behind it is all the world.
fn make_bridged_outside() {
    for command in [
        "netns add outside",
        "link add br0 type bridge",
        "link add out0 type veth peer name eth0 netns outside",
        "link set out0 master br0 up",
        "addr add 203.0.113.1/24 dev br0",
        "link set br0 up",
        "-n outside addr add 203.0.113.2/24 dev eth0",
        "-n outside link set eth0 up",
        "route add default via 203.0.113.2 dev br0",
    ] {
        run("ip", &command.split(' ').collect::<Vec<_>>());
    }
}

fn remove_bridged_outside() {
    run("ip", &["netns", "del", "outside"]);
    run("ip", &["link", "del", "br0"]);
    while run("ip", &["-o", "link"]).contains("out0") {
        std::thread::sleep(Duration::from_millis(20));
    }
    rustix::mount::unmount("/run/netns", rustix::mount::UnmountFlags::empty()).unwrap();
}

/// As Docker sets itself up, with a bridge of its own; also when it begins anew.
fn docker() {
    let _ = std::process::Command::new("nft").args(["delete table ip filter"]).output();
    for line in [
        "add table ip filter",
        "add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }",
        "add chain ip filter DOCKER-USER",
        "add rule ip filter FORWARD counter jump DOCKER-USER",
        "add rule ip filter FORWARD iifname docker0 oifname != docker0 counter accept",
    ] {
        run("nft", &[line]);
    }
}

/// Whom the listener sees when somebody in that namespace calls it.
fn seen_from(namespace: &str, listener: &TcpListener) -> Option<IpAddr> {
    let to = listener.local_addr().unwrap();
    let called: Option<TcpStream> =
        in_network(namespace, || connect(&to.ip().to_string(), to.port()));
    called.map(|_stream| listener.accept().unwrap().1.ip())
}

/// Which of these bridges what comes from containers may go out by, while nothing starts or ends.
fn follow_the_ways_out() {
    let lets_out = |want: &[&str], about: &str| {
        let by = |bridge: &str| format!(" by {bridge}\"");
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let chain = run("nft", &["list", "chain", "ip", "filter", "DOCKER-USER"]);
            if ["br0", "br1"].iter().all(|it| chain.contains(&by(it)) == want.contains(it)) {
                return;
            }
            assert!(Instant::now() < end, "{about}: {chain}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let ip = |line: &str| run("ip", &line.split(' ').collect::<Vec<_>>());
    lets_out(&["br0"], "as it is");
    for line in [
        "link add br1 type bridge",
        "addr add 198.51.100.1/24 dev br1",
        "link set br1 up",
        "route replace default via 198.51.100.2 dev br1",
    ] {
        ip(line);
    }
    lets_out(&["br1"], "it moves");
    ip("route append default via 203.0.113.2 dev br0 metric 9");
    lets_out(&["br0", "br1"], "there are two");
    ip("link set br1 down");
    lets_out(&["br0"], "one is set down, and its routes go without a word");
    ip("route del default");
    lets_out(&[], "there is none");
    ip("route add default via 203.0.113.2 dev br0");
    lets_out(&["br0"], "it is back");
    ip("link del br1");
}

#[test]
fn privileged_containers_get_out_by_a_bridge_beside_docker_also_when_it_begins_anew() {
    on_scratch_host(async |host| {
        make_bridged_outside();
        docker();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", "sleep 1000").await;
        let listener = in_network("outside", || TcpListener::bind((OUTSIDE, 80)).unwrap());
        let of_host: Option<IpAddr> = Some([203, 0, 113, 1].into());
        let gets_out = |about: &str| {
            let end = Instant::now() + Duration::from_secs(20);
            while seen_from(&namespace_of(&path), &listener) != of_host {
                assert!(Instant::now() < end, "{about}");
            }
        };
        gets_out("at first");
        assert!(!is_blocked(&client).await);
        docker();
        gets_out("after Docker began anew");
        follow_the_ways_out();
        // What a container of ours may not reach beside it is Docker's to say.
        run("ip", &["link", "add", "docker0", "type", "bridge"]);
        run("ip", &["netns", "add", "docked"]);
        let veth = "link add dk0 type veth peer name eth0 netns docked";
        run("ip", &veth.split(' ').collect::<Vec<_>>());
        for command in [
            "link set dk0 master docker0 up",
            "addr add 172.31.0.1/24 dev docker0",
            "link set docker0 up",
            "-n docked addr add 172.31.0.2/24 dev eth0",
            "-n docked link set eth0 up",
            "-n docked route add default via 172.31.0.1",
        ] {
            run("ip", &command.split(' ').collect::<Vec<_>>());
        }
        let docked = in_network("docked", || TcpListener::bind("172.31.0.2:80").unwrap());
        assert_eq!(seen_from(&namespace_of(&path), &docked), None);
        drop((docked, listener));
        run("ip", &["netns", "del", "docked"]);
        run("ip", &["link", "del", "docker0"]);
        while run("ip", &["-o", "link"]).contains("dk0") {
            std::thread::sleep(Duration::from_millis(20));
        }
        client.remove(&path).await.done();
        tared.stop();
        assert!(!run("nft", &["list", "ruleset"]).contains("tare-netns"), "its rules go with it");
        run("nft", &["delete table ip filter"]);
        remove_bridged_outside();
    });
}
