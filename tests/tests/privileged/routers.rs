//! A host that forwards packets for containers, and is no router for anybody else because of that.

use std::fs;

use system_tests::{Client, Options, Tared, failure, on_scratch_host, run};

use super::started;
use crate::networks::{network, on, row};

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// Whether the host's own packets are kept from being forwarded: it was no router before.
fn is_closed() -> bool {
    let rules = run("nft", &["list", "ruleset"]);
    let set = rules.split("set closed {").nth(1).expect("there is the table");
    set.split('}').next().unwrap().contains("elements")
}

/// A container that starts does not get onto a network whose bridge cannot be made.
async fn fails_to_make_a_bridge(client: &Client) {
    network(client, "n", Options::from([("Interface", "taken0".into())])).await.unwrap();
    run("ip", &["link", "add", "taken0", "type", "veth", "peer", "name", "taken1"]);
    let n = row([("Network", "n".into())]);
    let path = client.create_with("fails", on("true", vec![n])).await.unwrap();
    let ended = client.start(&path).await;
    assert!(failure(&ended).ends_with("NetworkFailed"), "{}", failure(&ended));
    client.remove(&path).await.done();
    run("ip", &["link", "del", "taken0"]);
}

#[test]
fn privileged_a_host_that_was_made_no_router_for_containers_may_become_one() {
    on_scratch_host(async |host| {
        fs::write(IP_FORWARD, "0").unwrap();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        fails_to_make_a_bridge(&client).await;
        assert_eq!(fs::read_to_string(IP_FORWARD).unwrap(), "0\n");
        // The administrator makes it one.
        fs::write(IP_FORWARD, "1").unwrap();
        tared.kill9();
        let mut tared = tared.restart();
        let client = tared.client().await;
        let path = started(&client, "c", "sleep 1000").await;
        assert!(!is_closed(), "it was a router before");
        client.remove(&path).await.done();
        // Until it is none: then it is us.
        fs::write(IP_FORWARD, "0").unwrap();
        tared.kill9();
        let mut tared = tared.restart();
        let client = tared.client().await;
        let path = started(&client, "c", "sleep 1000").await;
        assert_eq!(fs::read_to_string(IP_FORWARD).unwrap(), "1\n");
        assert!(is_closed(), "it was none before");
        tared.kill9();
        let mut tared = tared.restart();
        let client = tared.client().await;
        assert!(is_closed(), "nor would it be now");
        client.remove(&path).await.done();
        tared.stop();
    });
}
