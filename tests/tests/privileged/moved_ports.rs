//! Published ports of containers whose networks come and go while they run.

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::slice;
use std::thread;
use std::time::Duration;

use system_tests::network::in_network;
use system_tests::{Client, Options, Refused, Tared, on_scratch_host};
use zbus::{OwnedObjectPath, Variant};

use crate::networks::{namespace_of, network};
use crate::published::{HOST, at, connects, port, sends, until_one};
use crate::traffic::{PATIENCE, Row, make_outside_with_v6, remove_outside, row, waiting};

/// Longer than anything here is under way.
const A_WHILE: Duration = Duration::from_millis(500);

/// From where a port of the host is called, and by which address.
const WAYS: [(&str, &str); 6] = [
    ("outside", HOST[0]),
    ("outside", HOST[1]),
    ("host", HOST[0]),
    ("host", HOST[1]),
    ("host", "127.0.0.1"),
    ("host", "::1"),
];

/// What serves in a container, at its port 80, whatever networks it is on.
struct Servers {
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Servers {
    fn of(path: &OwnedObjectPath) -> Self {
        let inside = namespace_of(path);
        let tcp = in_network(&inside, || TcpListener::bind("[::]:80").unwrap());
        let udp = in_network(&inside, || UdpSocket::bind("[::]:80").unwrap());
        tcp.set_nonblocking(true).unwrap();
        udp.set_nonblocking(true).unwrap();
        Self { tcp, udp }
    }

    /// A connection that has arrived.
    fn accept(&self) -> TcpStream {
        until_one(|| self.tcp.accept().ok()).0
    }

    fn receive(&self) {
        until_one(|| self.udp.recv_from(&mut [0; 16]).ok());
    }

    fn hear_nothing(&self) {
        thread::sleep(A_WHILE);
        assert_eq!(self.tcp.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        let heard = self.udp.recv_from(&mut [0; 16]);
        assert_eq!(heard.unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    /// A port of the host that leads here from everywhere, by both protocols.
    fn are_reached_at(&self, number: u16, when: &str) {
        for (from, address) in WAYS {
            let to = at(address, number);
            let arrived = connects(from, to, slice::from_ref(&self.tcp));
            assert!(arrived.is_some(), "{when}: from {from} to {to}");
            let arrived = sends(from, to, slice::from_ref(&self.udp));
            assert!(arrived.is_some(), "{when}: from {from} to {to} by UDP");
        }
    }
}

/// Nobody listens there any more, but that somebody may wait at `::1` until it leads somewhere.
fn are_refused_at(number: u16, ways: &[(&str, &str)]) {
    for (from, address) in ways {
        let (from, to) = (*from, at(address, number));
        let call = || TcpStream::connect_timeout(&to, PATIENCE);
        let called = if from == "host" { call() } else { in_network(from, call) };
        assert_eq!(called.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{from} {to}");
    }
}

fn both(number: u16) -> Vec<Row> {
    ["tcp", "udp"].map(|protocol| port("", protocol, number, 80, 1)).into()
}

fn place(network: &'static str) -> Row {
    row([("Network", network.into())])
}

/// A container on these networks that waits.
async fn on(client: &Client, name: &str, places: Vec<Row>, ports: Vec<Row>) -> OwnedObjectPath {
    let options = Options::from([
        ("Command", vec!["sleep", "1000"].into()),
        ("Networks", places.into()),
        ("PublishedPorts", ports.into()),
    ]);
    let path = client.create_with(name, options).await.unwrap();
    client.start(&path).await.done();
    path
}

async fn connect(
    client: &Client,
    path: &OwnedObjectPath,
    network: &OwnedObjectPath,
    options: Options<'_>,
) {
    let body = (network, options);
    client.call(path, "Container", "ConnectNetwork", &body).await.unwrap();
}

async fn disconnect(client: &Client, path: &OwnedObjectPath, network: &OwnedObjectPath) {
    client.call(path, "Container", "DisconnectNetwork", &(network, 0_u64)).await.unwrap();
}

async fn publish(client: &Client, path: &OwnedObjectPath, ports: Vec<Row>) -> Result<(), Refused> {
    client.call(path, "Container", "PublishPorts", &(ports, 0_u64)).await.map(drop)
}

async fn unpublish(
    client: &Client,
    path: &OwnedObjectPath,
    ports: Vec<Row>,
) -> Result<(), Refused> {
    client.call(path, "Container", "UnpublishPorts", &(ports, 0_u64)).await.map(drop)
}

async fn published(client: &Client, path: &OwnedObjectPath) -> usize {
    let shown: Variant<'static> = client.container(path).await.get("PublishedPorts");
    Vec::<Row>::try_from(shown).unwrap().len()
}

/// Networks of both families.
async fn networks_of_both<const N: usize>(
    client: &Client,
    names: [&str; N],
) -> [OwnedObjectPath; N] {
    let mut paths = Vec::new();
    for name in names {
        let options = Options::from([("IPv6", true.into())]);
        paths.push(network(client, name, options).await.unwrap());
    }
    paths.try_into().unwrap()
}

#[test]
fn privileged_published_ports_follow_a_container_from_network_to_network() {
    on_scratch_host(async |host| {
        make_outside_with_v6();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let [one, two] = networks_of_both(&client, ["one", "two"]).await;
        let ports = both(8080).into_iter().chain(both(8081)).collect();
        let web = on(&client, "web", vec![place("one"), place("two")], ports).await;
        let servers = Servers::of(&web);
        servers.are_reached_at(8080, "on both");
        disconnect(&client, &web, &one).await;
        servers.are_reached_at(8080, "on the second alone");
        drop(client);
        tared.kill9();
        tared = tared.restart();
        servers.are_reached_at(8080, "on the second alone, by the next daemon");

        let client = tared.client().await;
        disconnect(&client, &web, &two).await;
        are_refused_at(8080, &WAYS[..5]);
        assert_eq!(published(&client, &web).await, 4, "they are taken still");
        let refused = publish(&client, &web, both(8082)).await.unwrap_err();
        assert_eq!(refused.short(), "InvalidArgs", "nothing would reach them: {refused:?}");
        unpublish(&client, &web, both(8081)).await.expect("it is published");
        are_refused_at(8081, &WAYS);
        drop(client);
        tared.kill9();
        tared = tared.restart();
        let taken = TcpListener::bind("127.0.0.1:8080").unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);

        let client = tared.client().await;
        connect(&client, &web, &one, Options::new()).await;
        assert_eq!(published(&client, &web).await, 2);
        servers.are_reached_at(8080, "on the first alone");
        drop(client);
        tared.kill9();
        tared = tared.restart();
        servers.are_reached_at(8080, "on the first alone, by the next daemon");

        let client = tared.client().await;
        connect(&client, &web, &two, Options::new()).await;
        servers.are_reached_at(8080, "on both again");
        // The first of its networks is the way out, and the way in.
        disconnect(&client, &web, &one).await;
        connect(&client, &web, &one, Options::new()).await;
        servers.are_reached_at(8080, "on the first again");
        publish(&client, &web, both(8082)).await.unwrap();
        servers.are_reached_at(8082, "published by now");
        unpublish(&client, &web, both(8082)).await.unwrap();
        are_refused_at(8082, &WAYS);
        servers.are_reached_at(8080, "as before");
        drop(servers);
        client.remove(&web).await.done();
        tared.stop();
        remove_outside();
    });
}

/// Connections and datagrams to a published port at `::1`, from before.
struct Callers {
    stream: TcpStream,
    _server: TcpStream,
    sender: UdpSocket,
}

impl Callers {
    fn of(servers: &Servers) -> Self {
        let stream = TcpStream::connect("[::1]:8080").unwrap();
        let server = servers.accept();
        let sender = UdpSocket::bind("[::1]:0").unwrap();
        sender.connect("[::1]:8080").unwrap();
        let callers = Self { stream, _server: server, sender };
        callers.send();
        servers.receive();
        callers
    }

    fn send(&self) {
        self.sender.send(b"hi").unwrap();
    }

    fn stream_ends(&mut self) {
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        match self.stream.read(&mut [0]) {
            Ok(length) => assert_eq!(length, 0, "somebody says something"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
}

/// Whoever asks for an address gets it at once.
#[test]
fn privileged_what_is_passed_on_at_the_loopback_of_ipv6_is_not_for_who_has_the_address_next() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let subnets = vec![row([("Subnet", "10.99.0.0/24".into())])];
        let net = network(&client, "net", Options::from([("Subnets", subnets.into())]));
        let net = net.await.unwrap();
        let tare: OwnedObjectPath = client.manager("GetNetwork", &"tare").await.unwrap();
        let nine = || ("Addresses", vec!["10.99.0.9"].into());
        let at_nine = || row([("Network", "net".into()), nine()]);
        let web = on(&client, "web", vec![at_nine(), place("tare")], both(8080)).await;
        let servers = Servers::of(&web);
        let mut callers = Callers::of(&servers);
        disconnect(&client, &web, &net).await;
        callers.stream_ends();
        let other = waiting(&client, "other", at_nine(), Vec::new()).await;
        let others = Servers::of(&other);
        callers.send();
        servers.receive();
        let stream = TcpStream::connect("[::1]:8080").unwrap();
        servers.accept();
        others.hear_nothing();
        drop((stream, callers, others));
        client.remove(&other).await.done();

        // And if it is on no other network.
        connect(&client, &web, &net, Options::from([nine()])).await;
        let mut callers = Callers::of(&servers);
        disconnect(&client, &web, &tare).await;
        disconnect(&client, &web, &net).await;
        callers.stream_ends();
        let other = waiting(&client, "other", at_nine(), Vec::new()).await;
        let others = Servers::of(&other);
        callers.send();
        let _waits = TcpStream::connect("[::1]:8080").expect("it is let in, and waits");
        others.hear_nothing();
        connect(&client, &web, &tare, Options::new()).await;
        servers.receive();
        servers.accept();
        others.hear_nothing();
        drop((servers, others));
        for path in [web, other] {
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}

#[test]
fn privileged_a_port_leads_to_the_first_network_of_each_family() {
    on_scratch_host(async |host| {
        make_outside_with_v6();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        for (name, subnet) in [("six", "fd00:99::/64"), ("four", "10.99.0.0/24")] {
            let subnets = vec![row([("Subnet", subnet.into())])];
            network(&client, name, Options::from([("Subnets", subnets.into())])).await.unwrap();
        }
        let web = on(&client, "web", vec![place("six"), place("four")], both(8080)).await;
        let servers = Servers::of(&web);
        servers.are_reached_at(8080, "one network for each family");
        publish(&client, &web, both(8081)).await.unwrap();
        servers.are_reached_at(8081, "published while it runs");
        drop((servers, client));
        tared.kill9();
        let mut tared = tared.restart();
        let servers = Servers::of(&web);
        servers.are_reached_at(8081, "by the next daemon");
        let client = tared.client().await;
        drop(servers);
        client.remove(&web).await.done();
        tared.stop();
        remove_outside();
    });
}

/// Whoever is on one of its networks would be answered past the host, by who it did not ask.
#[test]
fn privileged_a_port_answers_on_each_network_of_its_container() {
    on_scratch_host(async |host| {
        make_outside_with_v6();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        networks_of_both(&client, ["one", "two", "three"]).await;
        let web = on(&client, "web", vec![place("one"), place("two")], both(8080)).await;
        let near = waiting(&client, "near", place("two"), Vec::new()).await;
        let far = waiting(&client, "far", place("three"), Vec::new()).await;
        let servers = Servers::of(&web);
        let (itself, near_by, far_off) =
            (namespace_of(&web), namespace_of(&near), namespace_of(&far));
        let own = addresses(&client, &far).await;
        let seen = ["203.0.113.2", "2001:db8:f::2"].map(|it| it.parse::<IpAddr>().unwrap());
        for setting in ["0", "1"] {
            for family in ["iptables", "ip6tables"] {
                let file = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
                fs::write(file, setting).unwrap();
            }
            for (family, address) in HOST.into_iter().enumerate() {
                let to = at(address, 8080);
                let seen_by = |from: &str| {
                    let connected = connects(from, to, slice::from_ref(&servers.tcp));
                    let sent = sends(from, to, slice::from_ref(&servers.udp));
                    [connected, sent].map(|arrived| arrived.expect("it arrives").1)
                };
                seen_by(&near_by);
                seen_by(&itself);
                assert_eq!(seen_by(&far_off), [own[family]; 2], "{setting}");
                assert_eq!(seen_by("outside"), [seen[family]; 2], "{setting}");
            }
        }
        drop(servers);
        for path in [web, near, far] {
            client.remove(&path).await.done();
        }
        tared.stop();
        remove_outside();
    });
}

/// Its addresses, first that of IPv4.
async fn addresses(client: &Client, path: &OwnedObjectPath) -> Vec<IpAddr> {
    let rows: Variant<'static> = client.container(path).await.get("IPAddresses");
    let rows: Vec<Row> = rows.try_into().unwrap();
    let address = |row: &Row| {
        let text = String::try_from(row["Address"].try_clone().unwrap()).unwrap();
        text.split_once('/').unwrap().0.parse().unwrap()
    };
    rows.iter().map(address).collect()
}
