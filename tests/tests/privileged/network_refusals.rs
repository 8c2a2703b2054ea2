//! What cannot be asked of networks, and of containers on them: refused before any effect.

use std::net::{TcpListener, UdpSocket};

use system_tests::{Client, Options, Refused, Tared, on_scratch_host, run};
use zbus::{OwnedObjectPath, Variant};

use super::networks::{Row, network, on, port, row, with_ports};
use super::started;

fn at_port(host: u16, inside: u16, protocol: &'static str) -> Row {
    row([
        ("HostPort", host.into()),
        ("ContainerPort", inside.into()),
        ("Protocol", protocol.into()),
    ])
}

/// All that the service could have changed, as the host and the bus show it.
async fn all(client: &Client, path: &OwnedObjectPath) -> Vec<String> {
    let of_container = client.container(path).await;
    let shown = |name: &str| format!("{:?}", of_container.0.get(name));
    vec![
        run("nft", &["list", "ruleset"]),
        run("ip", &["-o", "link"]),
        run("ip", &["netns"]),
        client.exec(path, "ip -o -4 addr; ip route; cat /etc/hosts /etc/resolv.conf").await.stdout,
        shown("Networks"),
        shown("IPAddresses"),
        shown("PublishedPorts"),
    ]
}

#[test]
fn privileged_what_a_running_container_cannot_have_is_refused_before_any_effect() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let subnets = vec![row([("Subnet", "10.99.0.0/24".into())])];
        let options = Options::from([("Subnets", subnets.into())]);
        let net: OwnedObjectPath =
            client.manager("CreateNetwork", &("net", options)).await.unwrap();
        let web = started(&client, "web", "sleep 1000").await;
        let other = started(&client, "other", "sleep 1000").await;
        let taken = Options::from([
            ("Addresses", vec!["10.99.0.9"].into()),
            ("Aliases", vec!["db"].into()),
            ("MAC", "02:00:00:00:00:99".into()),
        ]);
        client.call(&other, "Container", "ConnectNetwork", &(&net, taken)).await.unwrap();
        let busy = TcpListener::bind("0.0.0.0:8081").unwrap();
        let busy_udp = UdpSocket::bind("[::1]:8082").unwrap();
        let before = all(&client, &web).await;

        for (key, value, error) in [
            ("MAC", "nonsense".into(), "InvalidArgs"),
            ("MAC", "01:00:5e:00:00:01".into(), "InvalidArgs"),
            ("MAC", "02:00:00:00:00:99".into(), "AddressInUse"),
            ("Interface", "abcdefghijklmnop".into(), "InvalidArgs"),
            ("Interface", "a/b".into(), "InvalidArgs"),
            ("Interface", "a\nb".into(), "InvalidArgs"),
            ("Interface", "eth0".into(), "InvalidArgs"),
            ("Interface", "lo".into(), "InvalidArgs"),
            ("Addresses", vec!["10.98.0.9"].into(), "InvalidArgs"),
            ("Addresses", vec!["10.99.0.1"].into(), "InvalidArgs"),
            ("Addresses", vec!["10.99.0.255"].into(), "InvalidArgs"),
            ("Addresses", vec!["10.99.0.5", "10.99.0.6"].into(), "InvalidArgs"),
            ("Addresses", vec!["10.99.0.9"].into(), "AddressInUse"),
            ("Aliases", vec!["a", "A"].into(), "InvalidArgs"),
            ("Aliases", vec!["a\u{7f}"].into(), "InvalidArgs"),
            ("Aliases", vec!["db"].into(), "NameInUse"),
            ("Alias", vec!["a"].into(), "UnknownOption"),
        ] {
            let options: Options<'_> = [(key, value)].into();
            let about = format!("{options:?}");
            let reply = client.call(&web, "Container", "ConnectNetwork", &(&net, options)).await;
            let refused = reply.map(drop).expect_err(&about);
            assert_eq!(refused.short(), error, "{about}: {refused:?}");
            assert_eq!(all(&client, &web).await, before, "{about}");
        }
        let range = |host: u16, count: u16| {
            row([
                ("HostPort", host.into()),
                ("ContainerPort", 80_u16.into()),
                ("Range", count.into()),
            ])
        };
        let at = |address: &'static str| {
            let mut port = at_port(8080, 80, "tcp");
            port.insert("HostAddress".into(), address.into());
            vec![port]
        };
        for (ports, error) in [
            (at("fe80::1"), "InvalidArgs"),
            (at("::ffff:203.0.113.1"), "InvalidArgs"),
            (at("224.0.0.1"), "InvalidArgs"),
            (vec![at_port(8080, 0, "tcp")], "InvalidArgs"),
            (vec![at_port(8080, 80, "icmp")], "InvalidArgs"),
            (vec![range(8080, 0)], "InvalidArgs"),
            (vec![range(65_535, 2)], "InvalidArgs"),
            (vec![range(0, 2)], "InvalidArgs"),
            (vec![range(8000, 1001)], "InvalidArgs"),
            (vec![range(8080, 3), at_port(8082, 80, "tcp")], "InvalidArgs"),
            (vec![at_port(8080, 80, "tcp"), at_port(8081, 80, "tcp")], "PortInUse"),
            (vec![at_port(8080, 80, "tcp"), at_port(8082, 80, "udp")], "PortInUse"),
        ] {
            let about = format!("{ports:?}");
            let reply = client.call(&web, "Container", "PublishPorts", &(ports, 0_u64)).await;
            let refused = reply.map(drop).expect_err(&about);
            assert_eq!(refused.short(), error, "{about}: {refused:?}");
            assert_eq!(all(&client, &web).await, before, "{about}");
            TcpListener::bind("0.0.0.0:8080").expect("those before it are given back");
        }
        drop((busy, busy_udp));
        for path in [web, other] {
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}

/// Options of a network of one subnet.
fn subnet(pairs: Vec<(&'static str, &'static str)>) -> Options<'static> {
    let pairs = pairs.into_iter().map(|(key, value)| (key, Variant::from(value)));
    Options::from([("Subnets", vec![row(pairs)].into())])
}

/// All that such a network needs, but perhaps the interface.
fn macvlan_on(parent: &'static str) -> Options<'static> {
    macvlan(parent, "10.7.0.0/24")
}

fn macvlan(parent: &'static str, net: &'static str) -> Options<'static> {
    let mut options = subnet(vec![("Subnet", net)]);
    options.extend([("Driver", "macvlan".into()), ("Parent", parent.into())]);
    options
}

/// Networks that cannot be where `web` has 10.99.0.0/24, and the names of the errors.
fn no_networks() -> Vec<(&'static str, Options<'static>, &'static str)> {
    vec![
        ("web", Options::new(), "NameInUse"),
        ("a/b", Options::new(), "InvalidName"),
        ("a\nb", Options::new(), "InvalidName"),
        (
            "n",
            subnet(vec![
                ("Subnet", "10.7.0.0/24"),
                ("RangeStart", "10.7.0.20"),
                ("RangeEnd", "10.7.0.10"),
            ]),
            "InvalidArgs",
        ),
        ("n", subnet(vec![("Subnet", "10.99.0.128/25")]), "SubnetOverlap"),
        ("n", subnet(vec![("Subnet", "10.7.0.0/24"), ("Gateway", "10.8.0.1")]), "InvalidArgs"),
        ("n", subnet(vec![("Subnet", "127.0.0.0/24")]), "InvalidArgs"),
        (
            "n",
            Options::from([(
                "Subnets",
                vec![
                    row([("Subnet", "10.7.0.0/24".into())]),
                    row([("Subnet", "10.7.0.128/25".into())]),
                ]
                .into(),
            )]),
            "InvalidArgs",
        ),
        ("n", subnet(vec![("Subnet", "10.7.0.0/33")]), "InvalidArgs"),
        ("n", subnet(vec![("Subnet", "10.7.0.0/32")]), "InvalidArgs"),
        ("n", subnet(vec![("Gateway", "10.7.0.1")]), "InvalidArgs"),
        ("n", subnet(vec![("Subnet", "10.7.0.0/24"), ("Gateway", "10.7.0.0")]), "InvalidArgs"),
        ("n", subnet(vec![("Subnet", "10.7.0.0/24"), ("RangeStart", "10.7.0.20")]), "InvalidArgs"),
        (
            "n",
            subnet(vec![
                ("Subnet", "10.7.0.0/24"),
                ("RangeStart", "10.7.0.20"),
                ("RangeEnd", "10.7.1.20"),
            ]),
            "InvalidArgs",
        ),
        ("n", Options::from([("VLAN", 0_u16.into())]), "InvalidArgs"),
        ("n", Options::from([("VLAN", 4095_u16.into())]), "InvalidArgs"),
        ("n", Options::from([("MTU", 10_u32.into())]), "InvalidArgs"),
        ("n", Options::from([("Driver", "vxlan".into())]), "InvalidArgs"),
        ("n", Options::from([("Interface", "a\nb".into())]), "InvalidArgs"),
        ("n", Options::from([("Interface", "..".into())]), "InvalidArgs"),
        ("n", Options::from([("Interface", "lo".into())]), "NameInUse"),
        ("n", Options::from([("Interface", "abcdefghijklmnop".into())]), "InvalidArgs"),
        ("n", macvlan("out0", "10.99.0.0/16"), "SubnetOverlap"),
        ("n", macvlan_on("lo"), "InvalidArgs"),
        ("n", macvlan_on("none-such"), "InvalidArgs"),
        (
            "n",
            Options::from([("Driver", "macvlan".into()), ("Parent", "out0".into())]),
            "InvalidArgs",
        ),
        ("n", Options::from([("Drivr", "bridge".into())]), "UnknownOption"),
    ]
}

/// Containers that cannot be on `web` as they want to.
fn no_connections() -> Vec<(Options<'static>, &'static str)> {
    let asked = |pairs: Vec<(&'static str, Variant<'static>)>| on("true", vec![row(pairs)]);
    vec![
        (asked(vec![("Network", "none-such".into())]), "NoSuchNetwork"),
        (
            asked(vec![("Network", "web".into()), ("MAC", "01:00:00:00:00:00".into())]),
            "InvalidArgs",
        ),
        (asked(vec![("Network", "web".into()), ("MAC", "02:00:00".into())]), "InvalidArgs"),
        (asked(vec![("Network", "w\nb".into())]), "NoSuchNetwork"),
        (
            asked(vec![("Network", "web".into()), ("Interface", "abcdefghijklmnop".into())]),
            "InvalidArgs",
        ),
        (on("true", vec![row([("Network", "web".into())]); 2].clone()), "InvalidArgs"),
        (asked(vec![("Network", "web".into()), ("Interface", "lo".into())]), "InvalidArgs"),
        (
            asked(vec![("Network", "web".into()), ("Addresses", vec!["10.98.0.2"].into())]),
            "InvalidArgs",
        ),
        (
            asked(vec![("Network", "web".into()), ("Aliases", vec!["db", "DB"].into())]),
            "InvalidArgs",
        ),
        (asked(vec![("Network", "web".into()), ("Aliases", vec!["d\nb"].into())]), "InvalidArgs"),
        (with_ports("true", vec![row([("ContainerPort", 0_u16.into())])]), "InvalidArgs"),
        (with_ports("true", vec![port(8080, "tcp"), port(8080, "tcp")]), "InvalidArgs"),
        (
            with_ports(
                "true",
                vec![row([
                    ("HostPort", 65_535_u16.into()),
                    ("ContainerPort", 80_u16.into()),
                    ("Range", 2_u16.into()),
                ])],
            ),
            "InvalidArgs",
        ),
    ]
}

#[test]
fn privileged_networks_that_cannot_be_are_refused_before_any_effect() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        network(&client, "web", subnet(vec![("Subnet", "10.99.0.0/24")])).await.unwrap();
        run("ip", &["link", "add", "out0", "type", "veth", "peer", "name", "far0"]);
        let bridge = run("ip", &["-o", "link"]);
        let rules = run("nft", &["list", "ruleset"]);
        for (name, options, error) in no_networks() {
            let about = format!("{name} {options:?}");
            let refused = network(&client, name, options).await.expect_err(&about);
            assert_eq!(refused.short(), error, "{about}: {refused:?}");
        }
        for (options, error) in no_connections() {
            let about = format!("{options:?}");
            let refused = client.create_with("c", options).await.unwrap_err();
            assert_eq!(refused.short(), error, "{about}: {refused:?}");
        }
        assert_eq!(client.list("ListNetworks").await.len(), 2);
        assert_eq!(client.list("ListContainers").await.len(), 0);
        assert_eq!(run("ip", &["-o", "link"]), bridge, "nothing is made");
        assert_eq!(run("nft", &["list", "ruleset"]), rules);
        let refused: Refused = client
            .call("/org/tare/Containers1/network/tare", "Network", "Remove", &0_u64)
            .await
            .unwrap_err();
        assert_eq!(refused.short(), "NetworkInUse", "the default network stays");
        network(&client, "n", macvlan_on("out0")).await.expect("the parent is all that was wrong");
        // An address of both would be there twice.
        let refused = network(&client, "again", macvlan_on("out0")).await.unwrap_err();
        assert_eq!(refused.short(), "SubnetOverlap", "{refused:?}");
        run("ip", &["link", "add", "out1", "type", "veth", "peer", "name", "far1"]);
        network(&client, "apart", macvlan_on("out1")).await.expect("it is on another link");
        for link in ["out0", "out1"] {
            run("ip", &["link", "del", link]);
        }
        tared.stop();
    });
}
