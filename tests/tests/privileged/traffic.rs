//! What arrives where, by packets and not by rules.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use system_tests::network::{in_network, make_outside};
use system_tests::{Client, Options, Tared, on_scratch_host, run};
use zbus::{OwnedObjectPath, Variant};

use crate::networks::namespace_of;

pub(crate) type Row = HashMap<String, Variant<'static>>;

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Longer than anything here is under way: once a second the kernel asks again who has an address
/// that packets wait for.
const A_WHILE: Duration = Duration::from_millis(1500);

pub(crate) fn row<const N: usize>(pairs: [(&str, Variant<'static>); N]) -> Row {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn port(protocol: &'static str) -> Row {
    row([
        ("HostPort", 8080_u16.into()),
        ("ContainerPort", 80_u16.into()),
        ("Protocol", protocol.into()),
    ])
}

pub(crate) async fn network(client: &Client, name: &str, options: Options<'_>) {
    let _: OwnedObjectPath = client.manager("CreateNetwork", &(name, options)).await.unwrap();
}

/// A container that waits, at this place of a network and with these ports.
pub(crate) async fn waiting(
    client: &Client,
    name: &str,
    place: Row,
    ports: Vec<Row>,
) -> OwnedObjectPath {
    let options = Options::from([
        ("Command", vec!["sleep", "1000"].into()),
        ("Networks", vec![place].into()),
        ("PublishedPorts", ports.into()),
    ]);
    let path = client.create_with(name, options).await.unwrap();
    client.start(&path).await.done();
    path
}

/// The way of IPv6 beside that of IPv4.
pub(crate) fn make_outside_with_v6() {
    make_outside();
    for command in [
        "-n outside route add default via 203.0.113.1",
        "addr add 2001:db8:f::1/64 dev out0 nodad",
        "-n outside addr add 2001:db8:f::2/64 dev eth0 nodad",
        "-n outside route add default via 2001:db8:f::1",
    ] {
        run("ip", &command.split(' ').collect::<Vec<_>>());
    }
    // Where the host forwards, the kernel has one route more for each of its addresses.
    fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
}

pub(crate) fn remove_outside() {
    run("ip", &["netns", "del", "outside"]);
    while run("ip", &["-o", "link"]).contains("out0") {
        thread::sleep(Duration::from_millis(20));
    }
    rustix::mount::unmount("/run/netns", rustix::mount::UnmountFlags::empty()).unwrap();
}

/// As whom a server sees one who calls from there and is answered.
pub(crate) fn called(from: &str, to: SocketAddr, server: &TcpListener) -> IpAddr {
    let mut caller = in_network(from, || TcpStream::connect_timeout(&to, PATIENCE).unwrap());
    let (mut answering, peer) = server.accept().unwrap();
    answering.write_all(b"hello").unwrap();
    let mut heard = [0; 5];
    caller.set_read_timeout(Some(PATIENCE)).unwrap();
    caller.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
    peer.ip()
}

/// The same by datagrams; who answers is who was asked.
fn written(from: &str, to: SocketAddr, server: &UdpSocket) -> IpAddr {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let caller = in_network(from, || UdpSocket::bind(any).unwrap());
    for socket in [server, &caller] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    caller.send_to(b"hi", to).unwrap();
    let mut heard = [0; 16];
    let (_, peer) = server.recv_from(&mut heard).unwrap();
    server.send_to(b"hello", peer).unwrap();
    let (length, by) = caller.recv_from(&mut heard).unwrap();
    assert_eq!((&heard[..length], by), (&b"hello"[..], to));
    peer.ip()
}

#[test]
fn privileged_a_published_port_answers_in_both_families_and_sees_who_asks() {
    on_scratch_host(async |host| {
        make_outside_with_v6();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        network(&client, "both", Options::from([("IPv6", true.into())])).await;
        let place = || row([("Network", "both".into())]);
        let ports = vec![port("tcp"), port("udp")];
        let web = waiting(&client, "web", place(), ports).await;
        let sibling = waiting(&client, "sibling", place(), Vec::new()).await;
        let (inside, beside) = (namespace_of(&web), namespace_of(&sibling));
        for (family, any, of_host, outside) in [
            ("iptables", "0.0.0.0:80", "203.0.113.1:8080", "203.0.113.2"),
            ("ip6tables", "[::]:80", "[2001:db8:f::1]:8080", "2001:db8:f::2"),
        ] {
            let tcp = in_network(&inside, || TcpListener::bind(any).unwrap());
            let udp = in_network(&inside, || UdpSocket::bind(any).unwrap());
            let (of_host, outside): (SocketAddr, IpAddr) =
                (of_host.parse().unwrap(), outside.parse().unwrap());
            for setting in ["0", "1"] {
                let file = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
                fs::write(file, setting).unwrap();
                for from in ["outside", &beside, &inside] {
                    let seen = [called(from, of_host, &tcp), written(from, of_host, &udp)];
                    for seen in seen {
                        assert_eq!(seen == outside, from == "outside", "{family} {setting} {from}");
                    }
                }
            }
        }
        client.remove(&sibling).await.done();
        client.remove(&web).await.done();
        for to in ["203.0.113.1:8080", "[2001:db8:f::1]:8080"] {
            let to: SocketAddr = to.parse().unwrap();
            in_network("outside", || TcpStream::connect_timeout(&to, PATIENCE)).unwrap_err();
        }
        tared.stop();
        remove_outside();
    });
}

/// Sockets that send to somebody on and on.
struct Streams {
    stop: Arc<AtomicBool>,
    sends: Vec<thread::JoinHandle<()>>,
}

impl Streams {
    fn begin(streams: [(Arc<UdpSocket>, SocketAddr); 2]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let begin = |(socket, to): (Arc<UdpSocket>, SocketAddr)| {
            let stop = stop.clone();
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // It is told that nobody is there.
                    let _ = socket.send_to(b"more", to);
                    thread::sleep(Duration::from_micros(200));
                }
            })
        };
        let sends = streams.map(begin).into();
        Self { stop, sends }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.sends.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// Whether anything arrives within a while.
fn hears(socket: &UdpSocket) -> bool {
    socket.set_read_timeout(Some(A_WHILE)).unwrap();
    socket.recv_from(&mut [0; 16]).is_ok()
}

#[test]
fn privileged_who_gets_the_address_of_another_hears_nothing_that_was_meant_for_that_one() {
    on_scratch_host(async |host| {
        make_outside_with_v6();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let subnet = vec![row([("Subnet", "10.99.0.0/24".into())])];
        network(&client, "net", Options::from([("Subnets", subnet.into())])).await;
        // Whoever asks for an address gets it at once.
        let place = || row([("Network", "net".into()), ("Addresses", vec!["10.99.0.9"].into())]);
        let sockets = |path: &OwnedObjectPath| {
            let at = |port: u16| UdpSocket::bind(("10.99.0.9", port)).unwrap();
            in_network(&namespace_of(path), || [at(80), at(7000)])
        };
        let [far, near] = [7, 0].map(|port| {
            Arc::new(in_network("outside", || UdpSocket::bind(("203.0.113.2", port)).unwrap()))
        });
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut tenant = waiting(&client, "c0", place(), vec![port("udp")]).await;
        for round in 1..4 {
            let [serves, asks] = sockets(&tenant);
            asks.send_to(b"hi", "203.0.113.2:7").unwrap();
            let (_, peer) = far.recv_from(&mut [0; 16]).unwrap();
            let streams = Streams::begin([
                (near.clone(), "203.0.113.1:8080".parse().unwrap()),
                (far.clone(), peer),
            ]);
            assert!(hears(&serves) && hears(&asks), "both arrive");
            drop((serves, asks));
            client.remove(&tenant).await.done();
            // Nothing is published by it, and it asks nobody.
            tenant = waiting(&client, &format!("c{round}"), place(), Vec::new()).await;
            let [serves, asks] = sockets(&tenant);
            assert!(!hears(&serves), "what was meant for the port of the one before");
            assert!(!hears(&asks), "what answers the one before");
            let more = (vec![port("udp")], 0_u64);
            client.call(&tenant, "Container", "PublishPorts", &more).await.unwrap();
            assert!(hears(&serves), "now it is meant for this one");
            streams.end();
        }
        client.remove(&tenant).await.done();
        drop((far, near));
        tared.stop();
        remove_outside();
    });
}

#[test]
fn privileged_what_somebody_took_away_of_a_network_is_in_nobodys_way() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let place = || row([("Network", "tare".into())]);
        let table = run("nft", &["-j", "list", "tables"]);
        assert!(!table.contains("inet"), "nothing is used yet: {table}");
        for what in ["namespace", "interface", "both"] {
            let path = waiting(&client, "c", place(), vec![port("tcp"), port("udp")]).await;
            let namespace = namespace_of(&path);
            let interface = format!("ve{}", &namespace[namespace.len() - 12..]);
            if what != "interface" {
                run("ip", &["netns", "del", &namespace]);
            }
            if what != "namespace" {
                run("ip", &["link", "del", &interface]);
            }
            client.stop(&path).await.done();
            assert!(!run("ip", &["-o", "link"]).contains(&interface), "{what}");
            let rules = run("nft", &["list", "ruleset"]);
            assert!(!rules.contains("8080"), "{what}: {rules}");
            // And it starts again as if nothing had been.
            client.start(&path).await.done();
            let listener =
                in_network(&namespace_of(&path), || TcpListener::bind("0.0.0.0:80").unwrap());
            TcpStream::connect_timeout(&"127.0.0.1:8080".parse().unwrap(), PATIENCE).unwrap();
            drop(listener);
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}
