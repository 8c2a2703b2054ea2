//! Networks that are more than a bridge: interfaces on one of the host's, and VLANs, by what arrives.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;
use std::thread;

use system_tests::network::{greet_once, in_network};
use system_tests::vlan::Vlan;
use system_tests::{Client, Options, Tared, failure, on_scratch_host, run};
use zbus::OwnedObjectPath;

use crate::networks::namespace_of;
use crate::traffic::{Row, called, make_outside_with_v6, network, remove_outside, row, waiting};

fn ip(command: &str) -> String {
    run("ip", &command.split(' ').collect::<Vec<_>>())
}

/// What a container hears at an address; nothing if nothing comes.
async fn hears(client: &Client, from: &OwnedObjectPath, address: &str) -> String {
    client.exec(from, &format!("nc -w 3 {address} 80")).await.stdout
}

/// Serves one caller in a network namespace, and says as whom it was seen.
fn serve(place: &str, at: &str) -> thread::JoinHandle<IpAddr> {
    let at: SocketAddr = at.parse().unwrap();
    greet_once(in_network(place, || TcpListener::bind(at).unwrap()))
}

/// A place on the network of a test, with addresses that a container has after each start.
fn kept(addresses: &[&'static str]) -> Row {
    row([("Network", "lan".into()), ("Addresses", addresses.to_vec().into())])
}

/// Containers are hosts of their own on the network that the parent is on.
#[test]
fn privileged_containers_are_on_the_network_of_an_interface_of_the_host() {
    on_scratch_host(async |host| {
        make_outside_with_v6();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let subnets = vec![
            row([("Subnet", "203.0.113.0/24".into()), ("Gateway", "203.0.113.2".into())]),
            row([("Subnet", "2001:db8:f::/64".into()), ("Gateway", "2001:db8:f::2".into())]),
        ];
        let options = Options::from([
            ("Driver", "macvlan".into()),
            ("Parent", "out0".into()),
            ("Subnets", subnets.into()),
        ]);
        let before = ip("-o link");
        network(&client, "lan", options).await;
        let net: OwnedObjectPath = client.manager("GetNetwork", &"lan").await.unwrap();
        let first = kept(&["203.0.113.100", "2001:db8:f::100"]);
        let first = waiting(&client, "first", first, Vec::new()).await;
        let second = kept(&["203.0.113.101", "2001:db8:f::101"]);
        let second = waiting(&client, "second", second, Vec::new()).await;
        let seen = client.properties(&net, "Network").await;
        assert_eq!(
            (seen.text("Driver"), seen.text("InterfaceName")),
            ("macvlan".into(), "out0".into())
        );

        let all_reach = async |client: &Client| {
            for (of_first, of_second, outside) in [
                ("203.0.113.100", "203.0.113.101:80", "203.0.113.2:80"),
                ("2001:db8:f::100", "[2001:db8:f::101]:80", "[2001:db8:f::2]:80"),
            ] {
                let of_first: IpAddr = of_first.parse().unwrap();
                let inside = namespace_of(&second);
                for (place, at) in [(inside.as_str(), of_second), ("outside", outside)] {
                    let to: SocketAddr = at.parse().unwrap();
                    let served = serve(place, at);
                    assert_eq!(
                        hears(client, &first, &to.ip().to_string()).await,
                        "hello\n",
                        "{at}"
                    );
                    assert_eq!(served.join().unwrap(), of_first, "nobody is in between: {at}");
                }
                // Whoever is outside calls a container without any port being published.
                let server = in_network(&inside, || TcpListener::bind(of_second).unwrap());
                let caller = called("outside", of_second.parse().unwrap(), &server);
                assert_eq!(caller, outside.parse::<SocketAddr>().unwrap().ip());
            }
        };
        all_reach(&client).await;
        let link = client.exec(&first, "ip route; ls /sys/class/net").await.stdout;
        assert!(link.contains("default via 203.0.113.2 dev eth0"), "{link}");
        assert_eq!(ip("-o link"), before, "nothing of it is on the host");

        for path in [&first, &second] {
            client.stop(path).await.done();
            client.start(path).await.done();
        }
        all_reach(&client).await;
        drop(client);
        tared.kill9();
        let mut tared = tared.restart();
        let client = tared.client().await;
        all_reach(&client).await;
        for path in [first, second] {
            client.remove(&path).await.done();
        }
        client.call(&net, "Network", "Remove", &0_u64).await.unwrap();
        assert_eq!(ip("-o link"), before);
        tared.stop();
        remove_outside();
    });
}

/// It is there among the containers of such a network, and nobody else can have its address.
#[test]
fn privileged_on_the_link_of_the_host_nobody_gets_an_address_of_the_host() {
    on_scratch_host(async |host| {
        make_outside_with_v6();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let subnet = row([
            ("Subnet", "203.0.113.0/24".into()),
            ("Gateway", "203.0.113.2".into()),
            ("RangeStart", "203.0.113.1".into()),
            ("RangeEnd", "203.0.113.5".into()),
        ]);
        let options = Options::from([
            ("Driver", "macvlan".into()),
            ("Parent", "out0".into()),
            ("Subnets", vec![subnet].into()),
        ]);
        network(&client, "lan", options).await;
        let asking = |address| {
            let command = ("Command", vec!["true"].into());
            Options::from([command, ("Networks", vec![kept(&[address])].into())])
        };
        let refused = client.create_with("first", asking("203.0.113.1")).await.unwrap_err();
        assert_eq!(refused.short(), "AddressInUse", "{refused:?}");
        let any = || row([("Network", "lan".into())]);
        let first = waiting(&client, "first", any(), Vec::new()).await;
        let has = async |path: &OwnedObjectPath| {
            client.exec(path, "ip -o -4 addr show eth0").await.stdout
        };
        assert!(has(&first).await.contains("203.0.113.3/24"), "{}", has(&first).await);
        // It may get others at any time.
        ip("addr add 203.0.113.4/24 dev out0");
        let second = waiting(&client, "second", any(), Vec::new()).await;
        assert!(has(&second).await.contains("203.0.113.5/24"), "{}", has(&second).await);
        ip("addr del 203.0.113.4/24 dev out0");
        for path in [first, second] {
            client.remove(&path).await.done();
        }
        tared.stop();
        remove_outside();
    });
}

/// As in a machine (`vm_containers_of_a_vlan_are_apart`), and over a restart of the daemon; where the kernel
/// cannot keep VLANs apart (`CONFIG_BRIDGE_VLAN_FILTERING`), nothing starts.
#[test]
fn privileged_containers_of_a_vlan_are_apart_or_refused() {
    on_scratch_host(async |host| {
        make_outside_with_v6();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let vlan = Vlan::make(&client).await;
        if !kernel_knows_vlans() {
            let before = ip("-o link");
            let ended = vlan.start(&client).await;
            assert_eq!(failure(&ended), "org.tare.Containers1.Error.NetworkFailed", "{ended:?}");
            assert_eq!(ip("-o link"), before);
            vlan.remove(&client).await;
            tared.stop();
            return remove_outside();
        }
        vlan.start(&client).await.done();
        vlan.all_reach(&client).await;
        drop(client);
        tared.kill9();
        let mut tared = tared.restart();
        let client = tared.client().await;
        vlan.all_reach(&client).await;
        vlan.remove(&client).await;
        tared.stop();
        remove_outside();
    });
}

fn kernel_knows_vlans() -> bool {
    let bridge = ["link", "add", "probe", "type", "bridge", "vlan_filtering", "1"];
    let known = Command::new("ip").args(bridge).output().unwrap().status.success();
    if known {
        ip("link del probe");
    }
    known
}
