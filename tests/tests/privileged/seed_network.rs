//! What went wrong with networks where containers were kept before (by the numbers of those faults), on
//! the whole service. Those of `resolv.conf` and `hosts` as texts are in `tare-specgen`, those of a
//! namespace that is left in `tare-netns`.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use futures_util::future::join_all;
use system_tests::{Client, Options, RESOLV_CONF, Tared, on_scratch_host};
use tokio::time::timeout;
use zbus::{OwnedObjectPath, Variant};

type Row = HashMap<String, Variant<'static>>;

/// Longer than anything here takes that does not wait for itself.
const PATIENCE: Duration = Duration::from_secs(120);

fn options(pairs: Vec<(&'static str, Variant<'static>)>) -> Options<'static> {
    let command = ("Command", vec!["sleep", "1000"].into());
    pairs.into_iter().chain([command]).collect()
}

fn on(networks: &[&'static str]) -> (&'static str, Variant<'static>) {
    let row = |name: &&'static str| Row::from([("Network".to_owned(), (*name).into())]);
    ("Networks", networks.iter().map(row).collect::<Vec<_>>().into())
}

async fn started(client: &Client, name: &str, options: Options<'_>) -> OwnedObjectPath {
    let path = client.create_with(name, options).await.unwrap();
    client.start(&path).await.done();
    path
}

async fn interfaces(client: &Client, path: &OwnedObjectPath) -> Vec<String> {
    let rows: Variant<'static> = client.container(path).await.get("IPAddresses");
    let rows: Vec<Row> = rows.try_into().unwrap();
    let place = |row: &Row| {
        let network: OwnedObjectPath = row["Network"].try_clone().unwrap().try_into().unwrap();
        let interface = String::try_from(row["Interface"].try_clone().unwrap()).unwrap();
        format!("{} {interface}", network.as_str())
    };
    rows.iter().map(place).collect()
}

async fn network(client: &Client, name: &str, options: Options<'_>) -> OwnedObjectPath {
    client.manager("CreateNetwork", &(name, options)).await.unwrap()
}

#[test]
fn privileged_b10_a_container_has_no_network_one_or_several_and_keeps_them() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        for name in ["z", "a"] {
            network(&client, name, Options::from([("IPv6", true.into())])).await;
        }
        let alone = options(vec![("NetworkMode", "none".into())]);
        let alone = started(&client, "alone", alone).await;
        assert_eq!(interfaces(&client, &alone).await, Vec::<String>::new());
        let many = started(&client, "many", options(vec![on(&["z", "tare", "a"])])).await;
        let at = "/org/tare/Containers1/network";
        let of = |name: &str, interface: &str| format!("{at}/{name} {interface}");
        let want = [
            of("z", "eth0"),
            of("z", "eth0"),
            of("tare", "eth1"),
            of("a", "eth2"),
            of("a", "eth2"),
        ];
        for _ in 0..2 {
            assert_eq!(interfaces(&client, &many).await, want, "each address of each network");
            client.stop(&many).await.done();
            client.start(&many).await.done();
        }
        for path in [alone, many] {
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}

#[test]
fn privileged_b13_what_the_host_does_not_know_nobody_is_told() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        network(&client, "mute", Options::from([("DNS", false.into())])).await;
        let said = async |about: &str| {
            let path = started(&client, "c", options(vec![on(&["mute"])])).await;
            let text = client.exec(&path, "cat /etc/resolv.conf").await.stdout;
            client.remove(&path).await.done();
            assert!(!text.contains("nameserver"), "{about}: {text}");
        };
        fs::write("/etc/resolv.conf", "").unwrap();
        said("nothing").await;
        for loopback in ["127.0.0.1", "127.0.0.53", "::1", "fe80::1%eth0"] {
            fs::write("/etc/resolv.conf", format!("nameserver {loopback}\n")).unwrap();
            said(loopback).await;
        }
        fs::write("/etc/resolv.conf", RESOLV_CONF).unwrap();
        tared.stop();
    });
}

#[test]
fn privileged_b15_nothing_of_one_container_is_in_another() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = &tared.client().await;
        client.import_busybox().await;
        let one = |number: u8| async move {
            let own = options(vec![
                ("DNS", vec![format!("192.0.2.{number}")].into()),
                ("DNSSearch", vec![format!("s{number}.example")].into()),
                ("DNSOptions", vec![format!("ndots:{number}")].into()),
            ]);
            let path = started(client, &format!("c{number}"), own).await;
            let text = client.exec(&path, "cat /etc/resolv.conf").await.stdout;
            let want = format!(
                "search s{number}.example\nnameserver 192.0.2.{number}\noptions ndots:{number}\n"
            );
            assert_eq!(text, want);
            path
        };
        for path in join_all((1..=8).map(one)).await {
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}

#[test]
fn privileged_b19_containers_in_one_network_never_wait_for_each_other() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = &tared.client().await;
        client.import_busybox().await;
        let net = &network(client, "net", Options::new()).await;
        let web = &started(client, "web", options(vec![])).await;
        let share = |name: &str| {
            let name = name.to_owned();
            async move {
                let mode = Options::from([("NetworkMode", Variant::from("container:web"))]);
                let own = options(vec![]).into_iter().chain(mode).collect();
                let path = client.create_with(&name, own).await.unwrap();
                for _ in 0..3 {
                    client.start(&path).await.done();
                    client.stop(&path).await.done();
                }
                client.remove(&path).await.done();
            }
        };
        let change = async {
            for _ in 0..6 {
                let body = (net, Options::new());
                client.call(web, "Container", "ConnectNetwork", &body).await.unwrap();
                client.call(web, "Container", "DisconnectNetwork", &(net, 0_u64)).await.unwrap();
            }
        };
        let sharers = join_all(["one", "two", "three"].map(share));
        timeout(PATIENCE, async { tokio::join!(sharers, change) }).await.expect("they are done");
        client.remove(web).await.done();
        tared.stop();
    });
}
