//! Bridges of the host's own that have the name of one of ours: they are left as they are.

use rusqlite::Connection;
use system_tests::{Client, Options, Tared, on_scratch_host, run};
use zbus::{OwnedObjectPath, Variant};

use super::networks::{network, on, row};
use super::started;

const OWN: &str = "own0";

fn shown(bridge: &str) -> String {
    ["link", "addr"].map(|what| run("ip", &["-o", what, "show", "dev", bridge])).concat()
}

/// Makes one; what is shown of it.
fn make(bridge: &str) -> String {
    run("ip", &["link", "add", bridge, "type", "bridge"]);
    run("ip", &["addr", "add", "198.51.100.1/24", "dev", bridge]);
    shown(bridge)
}

/// Whether the firewall knows it.
fn is_known(bridge: &str) -> bool {
    run("nft", &["list", "ruleset"]).contains(&format!("\"{bridge}\""))
}

async fn on_web(client: &Client, name: &str) -> OwnedObjectPath {
    let web = vec![row([("Network", Variant::from("web"))])];
    client.create_with(name, on("sleep 1000", web)).await.unwrap()
}

#[test]
fn privileged_a_bridge_of_the_hosts_own_in_place_of_ours_is_left_alone() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let options = Options::from([("Interface", OWN.into())]);
        let web = network(&client, "web", options).await.unwrap();
        let first = on_web(&client, "first").await;
        client.start(&first).await.done();
        assert!(shown(OWN).contains("alias tare-netns") && is_known(OWN));
        client.stop(&first).await.done();

        run("ip", &["link", "del", OWN]);
        let before = make(OWN);
        let refused = async |tared: &Tared, client: &Client| {
            let ended = client.start(&first).await;
            assert_eq!(ended.error_name, "org.tare.Containers1.Error.NetworkFailed");
            let why = format!("bridge {OWN} is one of the host's own");
            assert!(tared.log().contains(&why), "{ended:?}");
            assert_eq!(shown(OWN), before);
        };
        refused(&tared, &client).await;
        // Whoever comes next finds it there, and nothing is let through by it.
        drop(client);
        tared.kill9();
        let mut tared = tared.restart();
        let client = tared.client().await;
        refused(&tared, &client).await;
        assert!(!is_known(OWN), "{}", run("nft", &["list", "ruleset"]));
        client.call(&web, "Network", "Remove", &1_u64).await.unwrap();
        assert_eq!(shown(OWN), before);
        client.remove(&first).await.done();
        tared.stop();
        assert_eq!(shown(OWN), before);
        run("ip", &["link", "del", OWN]);
    });
}

/// Nobody has asked for that name: the default network takes the next.
#[test]
fn privileged_the_default_network_is_no_bridge_of_the_hosts_own() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        tared.stop();
        let state = Connection::open(tared.setup().state.join("state.db")).unwrap();
        let tag: String = state
            .query_row("SELECT value FROM meta WHERE key = 'tag'", [], |row| row.get(0))
            .unwrap();
        // As if it had never begun here.
        assert_eq!(state.execute("DELETE FROM networks", []).unwrap(), 1);
        drop(state);
        let [taken, next] = ["tare0", "tare1"].map(|name| format!("{name}-{tag}"));
        let before = make(&taken);
        let mut tared = tared.restart();
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", "sleep 1000").await;
        assert!(shown(&next).contains("alias tare-netns"));
        assert_eq!(shown(&taken), before);
        client.remove(&path).await.done();
        tared.stop();
        assert_eq!(shown(&taken), before);
        run("ip", &["link", "del", &taken]);
    });
}

/// As a VPN has it, say.
#[test]
fn privileged_where_the_whole_pool_is_routed_elsewhere_only_what_needs_it_has_to_wait() {
    on_scratch_host(async |host| {
        run("ip", &["route", "add", "blackhole", "10.0.0.0/8"]);
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let of_host = Options::from([
            ("Command", vec!["sleep", "1000"].into()),
            ("NetworkMode", "host".into()),
        ]);
        let of_host = client.create_with("of-host", of_host).await.unwrap();
        client.start(&of_host).await.done();
        let path = client.create("c", "sleep 1000").await;
        let ended = client.start(&path).await;
        assert_eq!(ended.error_name, "org.tare.Containers1.Error.NetworkFailed", "{ended:?}");
        assert!(tared.log().contains("no subnet of 10.88.0.0/16 is free"), "{ended:?}");
        run("ip", &["route", "del", "10.0.0.0/8"]);
        client.start(&path).await.done();
        for path in [of_host, path] {
            client.remove(&path).await.done();
        }
        run("ip", &["route", "add", "blackhole", "10.0.0.0/8"]);
        tared.stop();
        run("ip", &["route", "del", "10.0.0.0/8"]);
    });
}
