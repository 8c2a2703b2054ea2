//! What cannot be asked of the network of a container that runs: refused before any effect.

use std::collections::HashMap;
use std::net::{TcpListener, UdpSocket};

use system_tests::{Client, Options, Tared, on_scratch_host, run};
use zbus::{OwnedObjectPath, Variant};

use super::started;

type Row = HashMap<String, Variant<'static>>;

fn row<const N: usize>(pairs: [(&str, Variant<'static>); N]) -> Row {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn port(host: u16, inside: u16, protocol: &'static str) -> Row {
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
        ]);
        client.call(&other, "Container", "ConnectNetwork", &(&net, taken)).await.unwrap();
        let busy = TcpListener::bind("0.0.0.0:8081").unwrap();
        let busy_udp = UdpSocket::bind("[::1]:8082").unwrap();
        let before = all(&client, &web).await;

        for (key, value, error) in [
            ("MAC", "nonsense".into(), "InvalidArgs"),
            ("MAC", "01:00:5e:00:00:01".into(), "InvalidArgs"),
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
        for (ports, error) in [
            (vec![port(8080, 0, "tcp")], "InvalidArgs"),
            (vec![port(8080, 80, "icmp")], "InvalidArgs"),
            (vec![range(8080, 0)], "InvalidArgs"),
            (vec![range(65_535, 2)], "InvalidArgs"),
            (vec![range(0, 2)], "InvalidArgs"),
            (vec![range(8000, 1001)], "InvalidArgs"),
            (vec![range(8080, 3), port(8082, 80, "tcp")], "InvalidArgs"),
            (vec![port(8080, 80, "tcp"), port(8081, 80, "tcp")], "PortInUse"),
            (vec![port(8080, 80, "tcp"), port(8082, 80, "udp")], "PortInUse"),
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
