//! By which name containers find their host, and where they find it.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use system_tests::{Client, ERROR, Options, RESOLV_CONF, Tared, failure, on_scratch_host, run};
use zbus::{OwnedObjectPath, Variant};

use crate::names::{network, on};

/// Asks for the host by a name of its own, too.
fn asking(networks: &[&'static str]) -> Options<'static> {
    let networks: Vec<_> = networks.iter().map(|network| on(network, &[])).collect();
    Options::from([
        ("Command", vec!["sleep", "1000"].into()),
        ("Networks", networks.into()),
        ("Hosts", HashMap::from([("up", "host-gateway")]).into()),
    ])
}

async fn hosts(client: &Client, path: &OwnedObjectPath) -> String {
    client.exec(path, "cat /etc/hosts").await.stdout
}

/// What it has for a name.
fn address_of<'h>(hosts: &'h str, name: &str) -> Option<&'h str> {
    let entries = hosts.lines().filter_map(|line| line.split_once(' '));
    entries.filter(|(_, names)| *names == name).map(|(address, _)| address).next()
}

/// The host's address on the bridge of a network.
async fn on_bridge(client: &Client, network: &OwnedObjectPath) -> String {
    let bridge: String = client.properties(network, "Network").await.get("InterfaceName");
    let shown = run("ip", &["-o", "-4", "addr", "show", "dev", &bridge]);
    let address = shown.split_whitespace().nth(3).unwrap().split_once('/').unwrap().0;
    address.to_owned()
}

/// Says a word to whoever calls.
fn answer_once(address: &str) -> u16 {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || listener.accept().unwrap().0.write_all(b"it is me\n").unwrap());
    port
}

#[test]
fn privileged_the_host_is_found_where_it_is_and_not_where_the_router_is() {
    on_scratch_host(async |host| {
        run("ip", &["link", "add", "lan0", "type", "veth", "peer", "name", "lan1"]);
        run("ip", &["link", "set", "lan0", "up"]);
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let inside = network(&client, "inside", Options::from([("Internal", true.into())])).await;
        let subnet = HashMap::from([("Subnet", Variant::from("192.0.2.0/24"))]);
        let lan = Options::from([
            ("Driver", "macvlan".into()),
            ("Parent", "lan0".into()),
            ("Subnets", vec![subnet].into()),
        ]);
        network(&client, "lan", lan).await;

        // Nothing leaves an internal network, but the host is on it.
        let within = client.create_with("within", asking(&["inside"])).await.unwrap();
        client.start(&within).await.done();
        let (text, bridge) = (hosts(&client, &within).await, on_bridge(&client, &inside).await);
        for name in ["up", "host.tare.internal"] {
            assert_eq!(address_of(&text, name), Some(&*bridge), "{text}");
            let call = format!("nc -w 5 {name} {}", answer_once(&bridge));
            assert_eq!(client.exec(&within, &call).await.stdout, "it is me\n");
        }

        // The first address of a subnet that is not the host's is a router's.
        let alone = client.create_with("alone", asking(&["lan"])).await.unwrap();
        let refused = client.start(&alone).await;
        assert_eq!(failure(&refused), format!("{ERROR}.InvalidSpec"), "{refused:?}");
        let mut options = asking(&["lan"]);
        options.remove("Hosts");
        let unasked = client.create_with("unasked", options).await.unwrap();
        client.start(&unasked).await.done();
        let text = hosts(&client, &unasked).await;
        assert!(!text.contains("192.0.2.1 ") && !text.contains("host.tare.internal"), "{text}");

        // Where it is on another of its networks, it is found there.
        let both = client.create_with("both", asking(&["lan", "inside"])).await.unwrap();
        client.start(&both).await.done();
        let text = hosts(&client, &both).await;
        for name in ["up", "host.tare.internal"] {
            assert_eq!(address_of(&text, name), Some(&*bridge), "{text}");
        }
        for path in [within, alone, unasked, both] {
            client.remove(&path).await.done();
        }
        tared.stop();
        run("ip", &["link", "del", "lan0"]);
    });
}

/// Waits until a container has a server in its file, and that only.
async fn asks(client: &Client, path: &OwnedObjectPath, server: &str) {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let now = client.exec(path, "cat /etc/resolv.conf").await.stdout;
        let servers: Vec<_> =
            now.lines().filter_map(|line| line.strip_prefix("nameserver ")).collect();
        if servers == [server] {
            return;
        }
        assert!(Instant::now() < end, "it asks {servers:?}, not {server}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Once all of its files stayed as they were, for ever.
#[test]
fn privileged_a_container_that_leaves_its_host_goes_without_its_line() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let net = network(&client, "net", Options::new()).await;
        let web = client.create_with("web", asking(&["net"])).await.unwrap();
        client.start(&web).await.done();
        let (before, bridge) = (hosts(&client, &web).await, on_bridge(&client, &net).await);
        assert_eq!(address_of(&before, "up"), Some(&*bridge), "{before}");
        asks(&client, &web, &bridge).await;

        client.call(&web, "Container", "DisconnectNetwork", &(&net, 0_u64)).await.unwrap();
        let text = hosts(&client, &web).await;
        assert!(!text.contains(&bridge) && !text.contains("up\n"), "{text}");
        assert!(text.lines().any(|line| line.starts_with("127.0.0.1 ") && line.ends_with(" web")));
        asks(&client, &web, "192.0.2.53").await;
        fs::write("/etc/resolv.conf", "nameserver 203.0.113.9\n").unwrap();
        asks(&client, &web, "203.0.113.9").await;
        fs::write("/etc/resolv.conf", RESOLV_CONF).unwrap();

        // Whoever shares its network can start.
        let sharing = Options::from([
            ("Command", vec!["sleep", "1000"].into()),
            ("NetworkMode", "container:web".into()),
        ]);
        let side = client.create_with("side", sharing).await.unwrap();
        client.start(&side).await.done();
        client.remove(&side).await.done();

        // With the network the line comes again; without it there is no start.
        let body = (&net, Options::new());
        client.call(&web, "Container", "ConnectNetwork", &body).await.unwrap();
        assert_eq!(address_of(&hosts(&client, &web).await, "up"), Some(&*bridge));
        asks(&client, &web, &bridge).await;
        client.call(&web, "Container", "DisconnectNetwork", &(&net, 0_u64)).await.unwrap();
        client.stop(&web).await.done();
        let refused = client.start(&web).await;
        assert_eq!(failure(&refused), format!("{ERROR}.InvalidSpec"), "{refused:?}");
        client.remove(&web).await.done();
        tared.stop();
    });
}
