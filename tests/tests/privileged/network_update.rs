//! What can be changed about a network while containers are on it.

use std::collections::HashMap;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use system_tests::network::{in_network, make_outside};
use system_tests::{Client, Options, Refused, Resolver, Tared, on_scratch_host, run};
use zbus::{OwnedObjectPath, Variant};

async fn update(
    client: &Client,
    path: &OwnedObjectPath,
    options: Options<'_>,
) -> Result<(), Refused> {
    client.call(path, "Network", "Update", &options).await.map(drop)
}

async fn inspect(client: &Client, path: &OwnedObjectPath) -> String {
    client.call(path, "Network", "Inspect", &0_u64).await.unwrap().body().deserialize().unwrap()
}

async fn on(client: &Client, name: &str, network: &str) -> OwnedObjectPath {
    let place = HashMap::from([("Network".to_owned(), Variant::from(network.to_owned()))]);
    let command = ("Command", vec!["sleep", "1000"].into());
    let options = Options::from([command, ("Networks", vec![place].into())]);
    let path = client.create_with(name, options).await.unwrap();
    client.start(&path).await.done();
    path
}

/// Waits until a container has this in its `resolv.conf`.
async fn has(client: &Client, path: &OwnedObjectPath, want: &str) {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let now = client.exec(path, "cat /etc/resolv.conf").await.stdout;
        if now == want {
            return;
        }
        assert!(Instant::now() < end, "{now:?} is not {want:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn found(client: &Client, path: &OwnedObjectPath) -> bool {
    let said = client.exec(path, "nslookup -type=a www.example.org 2>&1").await.stdout;
    said.contains("198.51.100.7")
}

/// A resolver at 203.0.113.2 that is not the host's.
fn make_resolver() -> Resolver {
    make_outside();
    Resolver::on(in_network("outside", || UdpSocket::bind("203.0.113.2:53").unwrap()))
}

fn remove_resolver() {
    run("ip", &["link", "del", "out0"]);
    run("ip", &["netns", "del", "outside"]);
    rustix::mount::unmount("/run/netns", rustix::mount::UnmountFlags::empty()).unwrap();
}

#[test]
fn privileged_a_network_has_resolvers_of_its_own() {
    on_scratch_host(async |host| {
        let resolver = make_resolver();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let network = async |name: &str, dns: bool| -> OwnedObjectPath {
            let options = Options::from([("DNS", dns.into())]);
            client.manager("CreateNetwork", &(name, options)).await.unwrap()
        };
        let (named, mute) = (network("named", true).await, network("mute", false).await);
        let (in_named, in_mute) = (on(&client, "a", "named").await, on(&client, "b", "mute").await);
        // The host has none that is reached.
        let before = client.exec(&in_mute, "cat /etc/resolv.conf").await.stdout;
        let of_named = client.exec(&in_named, "cat /etc/resolv.conf").await.stdout;
        assert!(!found(&client, &in_named).await);
        assert_eq!(resolver.asked(), Vec::<String>::new());

        let add = || Options::from([("AddDNSServers", vec!["203.0.113.2"].into())]);
        for path in [&named, &mute] {
            update(&client, path, add()).await.unwrap();
            update(&client, path, add()).await.expect("it is there already");
        }
        has(&client, &in_mute, "search tare.test\nnameserver 203.0.113.2\n").await;
        assert!(found(&client, &in_named).await && found(&client, &in_mute).await);
        assert!(!resolver.asked().is_empty());
        has(&client, &in_named, &of_named).await;
        let json = inspect(&client, &named).await;
        assert!(json.contains(r#""DNSServers":["203.0.113.2"]"#), "{json}");

        drop(client);
        tared.kill9();
        let mut tared = tared.restart();
        let client = tared.client().await;
        assert!(found(&client, &in_named).await, "it is written down");
        let gone = || Options::from([("RemoveDNSServers", vec!["203.0.113.2"].into())]);
        for path in [&named, &mute] {
            update(&client, path, gone()).await.unwrap();
        }
        has(&client, &in_mute, &before).await;
        assert!(!found(&client, &in_named).await);
        for path in [in_named, in_mute] {
            client.remove(&path).await.done();
        }
        tared.stop();
        remove_resolver();
    });
}

#[test]
fn privileged_what_a_network_cannot_become_is_refused_before_any_effect() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let inside = Options::from([("Internal", true.into())]);
        let inside: OwnedObjectPath =
            client.manager("CreateNetwork", &("inside", inside)).await.unwrap();
        let net: OwnedObjectPath =
            client.manager("CreateNetwork", &("net", Options::new())).await.unwrap();
        let labels = HashMap::from([("org.tare.public.a", "1"), ("hidden", "2")]);
        update(&client, &net, Options::from([("AddLabels", labels.into())])).await.unwrap();
        let public = async || -> HashMap<String, String> {
            let labels: Variant<'static> =
                client.properties(&net, "Network").await.get("PublicLabels");
            labels.try_into().unwrap()
        };
        assert_eq!(public().await, [("org.tare.public.a".to_owned(), "1".to_owned())].into());
        let before = (inspect(&client, &net).await, inspect(&client, &inside).await);
        let servers = |list: &[&'static str]| Variant::from(list.to_vec());
        let four = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"];
        let subnets: Variant<'static> = client.properties(&net, "Network").await.get("Subnets");
        let subnets: Vec<HashMap<String, Variant<'static>>> = subnets.try_into().unwrap();
        let gateway: String = subnets[0]["Gateway"].try_clone().unwrap().try_into().unwrap();
        for (path, key, value) in [
            (&net, "AddDNSServers", vec!["192.0.2.1".to_owned(), gateway].into()),
            (&net, "AddDNSServers", servers(&["127.0.0.1"])),
            (&net, "AddDNSServers", servers(&["::"])),
            (&net, "AddDNSServers", servers(&["ns.example.org"])),
            (&net, "AddDNSServers", servers(&four)),
            (&net, "RemoveDNSServers", servers(&["a\nb"])),
            (&inside, "AddDNSServers", servers(&["192.0.2.1"])),
        ] {
            let options = Options::from([(key, value), ("AddLabels", labels_of("x").into())]);
            let refused = update(&client, path, options).await.unwrap_err();
            assert_eq!(refused.short(), "InvalidArgs", "{key}: {refused:?}");
        }
        let many: HashMap<String, String> =
            (0..1025).map(|at| (at.to_string(), String::new())).collect();
        let refused =
            update(&client, &net, Options::from([("AddLabels", many.into())])).await.unwrap_err();
        assert_eq!(refused.short(), "InvalidArgs", "{refused:?}");
        let refused = update(&client, &net, Options::from([("Subnets", servers(&[]))]));
        assert_eq!(refused.await.unwrap_err().short(), "UnknownOption");
        assert_eq!((inspect(&client, &net).await, inspect(&client, &inside).await), before);
        let gone = Options::from([("RemoveLabels", vec!["org.tare.public.a", "none"].into())]);
        update(&client, &net, gone).await.unwrap();
        assert!(public().await.is_empty());
        tared.stop();
    });
}

fn labels_of(key: &str) -> HashMap<String, String> {
    [(key.to_owned(), String::new())].into()
}
