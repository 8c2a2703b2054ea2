//! Ports that a container publishes, in all the ways they can be asked for, by what arrives.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, recvfrom, sendto,
    socket_with,
};
use system_tests::network::in_network;
use system_tests::{Options, Tared, failure, on_scratch_host};
use zbus::Variant;

use crate::networks::namespace_of;
use crate::traffic::{PATIENCE, Row, make_outside_with_v6, network, remove_outside, row, waiting};

/// The host as others see it, and one of those.
pub(crate) const HOST: [&str; 2] = ["203.0.113.1", "2001:db8:f::1"];
const OUTSIDE: [&str; 2] = ["203.0.113.2", "2001:db8:f::2"];

/// As many ports of the host, from `host` on, to those of the container from `inside` on; at one
/// address, or at all.
pub(crate) fn port(
    at: &'static str,
    protocol: &'static str,
    host: u16,
    inside: u16,
    count: u16,
) -> Row {
    row([
        ("HostAddress", at.into()),
        ("Protocol", protocol.into()),
        ("HostPort", host.into()),
        ("ContainerPort", inside.into()),
        ("Range", count.into()),
    ])
}

pub(crate) fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

/// Something that is published, and where each of its ports is to be found.
struct Case {
    about: &'static str,
    port: Row,
    /// From where, to what, and the port of the container that it leads to, if it does.
    calls: Vec<(&'static str, SocketAddr, Option<u16>)>,
}

/// A range at all addresses; each host address alone; and all of one family.
fn cases(protocol: &'static str) -> Vec<Case> {
    let range = HOST.iter().flat_map(|of_host| {
        let led = |nth: u16| ("outside", at(of_host, 8100 + nth), Some(80 + nth));
        (0..3).map(led).chain([("outside", at(of_host, 8103), None)])
    });
    let one = |about, address, host, calls| Case {
        about,
        port: port(address, protocol, host, 80, 1),
        calls,
    };
    vec![
        Case { about: "a range", port: port("", protocol, 8100, 80, 3), calls: range.collect() },
        one(
            "an address of IPv4",
            HOST[0],
            8200,
            vec![
                ("outside", at(HOST[0], 8200), Some(80)),
                ("host", at(HOST[0], 8200), Some(80)),
                ("outside", at(HOST[1], 8200), None),
                ("host", at("127.0.0.1", 8200), None),
            ],
        ),
        one(
            "an address of IPv6",
            HOST[1],
            8201,
            vec![
                ("outside", at(HOST[1], 8201), Some(80)),
                ("host", at(HOST[1], 8201), Some(80)),
                ("outside", at(HOST[0], 8201), None),
                ("host", at("::1", 8201), None),
            ],
        ),
        one(
            "the loopback of IPv4",
            "127.0.0.1",
            8202,
            vec![
                ("host", at("127.0.0.1", 8202), Some(80)),
                ("host", at("127.0.0.2", 8202), None),
                ("host", at("::1", 8202), None),
                ("outside", at(HOST[0], 8202), None),
            ],
        ),
        one(
            "the loopback of IPv6",
            "::1",
            8203,
            vec![
                ("host", at("::1", 8203), Some(80)),
                ("host", at("127.0.0.1", 8203), None),
                ("outside", at(HOST[1], 8203), None),
            ],
        ),
        one(
            "all of IPv4",
            "0.0.0.0",
            8204,
            vec![
                ("outside", at(HOST[0], 8204), Some(80)),
                ("host", at("127.0.0.1", 8204), Some(80)),
                ("outside", at(HOST[1], 8204), None),
            ],
        ),
        one(
            "all of IPv6",
            "::",
            8205,
            vec![
                ("outside", at(HOST[1], 8205), Some(80)),
                ("host", at("::1", 8205), Some(80)),
                ("outside", at(HOST[0], 8205), None),
            ],
        ),
    ]
}

/// In the network namespace of that name, or in that of this thread.
fn from<T: Send>(place: &str, body: impl FnOnce() -> T + Send) -> T {
    if place == "host" { body() } else { in_network(place, body) }
}

/// Asks those who may have been called until one of them was.
pub(crate) fn until_one<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Some(found) => return found,
            None if Instant::now() > end => panic!("nothing arrives"),
            None => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// At which port of the container a caller arrives, and as who; `None` if it is refused.
pub(crate) fn connects(
    place: &str,
    to: SocketAddr,
    servers: &[TcpListener],
) -> Option<(u16, IpAddr)> {
    let _caller = from(place, || TcpStream::connect_timeout(&to, PATIENCE)).ok()?;
    let accepted = |server: &TcpListener| {
        let (_, peer) = server.accept().ok()?;
        Some((server.local_addr().unwrap().port(), peer.ip().to_canonical()))
    };
    Some(until_one(|| servers.iter().find_map(accepted)))
}

/// The same of a datagram that is answered, by who was asked.
pub(crate) fn sends(place: &str, to: SocketAddr, servers: &[UdpSocket]) -> Option<(u16, IpAddr)> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let caller = from(place, || UdpSocket::bind(any).unwrap());
    caller.connect(to).unwrap();
    caller.set_read_timeout(Some(PATIENCE)).unwrap();
    caller.send(b"hi").unwrap();
    let received = |server: &UdpSocket| {
        let (_, peer) = server.recv_from(&mut [0; 16]).ok()?;
        server.send_to(b"hello", peer).unwrap();
        Some((server.local_addr().unwrap().port(), peer.ip().to_canonical()))
    };
    let refused = || caller.take_error().unwrap().map(|_| None);
    let found = until_one(|| refused().or_else(|| servers.iter().find_map(received).map(Some)))?;
    caller.recv(&mut [0; 16]).unwrap();
    Some(found)
}

/// Whoever is not of the host is seen as who it is.
fn check(case: &Case, calls: impl Fn(&str, SocketAddr) -> Option<(u16, IpAddr)>) {
    for (place, to, leads_to) in &case.calls {
        let about = format!("{}: from {place} to {to}", case.about);
        let arrived = calls(place, *to);
        assert_eq!(arrived.map(|(port, _)| port), *leads_to, "{about}");
        if let Some((_, seen)) = arrived {
            let outside = OUTSIDE[usize::from(to.is_ipv6())].parse::<IpAddr>().unwrap();
            assert_eq!(seen == outside, *place == "outside", "{about}, seen as {seen}");
        }
    }
}

#[test]
fn privileged_ports_lead_from_where_they_were_asked_for_to_where_they_were_asked_for() {
    on_scratch_host(async |host| {
        make_outside_with_v6();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        network(&client, "both", Options::from([("IPv6", true.into())])).await;
        let place = row([("Network", "both".into())]);
        let (tcp, udp) = (cases("tcp"), cases("udp"));
        let ports: Vec<Row> = tcp.iter().chain(&udp).map(|case| clone(&case.port)).collect();
        let web = waiting(&client, "web", place, ports).await;
        let inside = namespace_of(&web);
        let ports = [80, 81, 82, 83];
        let bind = |port| in_network(&inside, move || TcpListener::bind(("::", port)).unwrap());
        let servers = ports.map(bind);
        let bind = |port| in_network(&inside, move || UdpSocket::bind(("::", port)).unwrap());
        let servers_udp = ports.map(bind);
        for server in &servers {
            server.set_nonblocking(true).unwrap();
        }
        for server in &servers_udp {
            server.set_nonblocking(true).unwrap();
        }
        for case in &tcp {
            check(case, |place, to| connects(place, to, &servers));
        }
        for case in &udp {
            check(case, |place, to| sends(place, to, &servers_udp));
        }
        drop((servers, servers_udp));
        client.remove(&web).await.done();
        tared.stop();
        remove_outside();
    });
}

fn clone(row: &Row) -> Row {
    row.iter().map(|(key, value)| (key.clone(), value.try_clone().unwrap())).collect()
}

/// The chunk that begins an association (RFC 9260): by hand, for many kernels do not speak SCTP themselves.
fn init(from: u16, to: u16) -> Vec<u8> {
    let mut packet = [from.to_be_bytes(), to.to_be_bytes()].concat();
    packet.extend([0; 8]);
    packet.extend([1, 0, 0, 20]);
    packet.extend(7_u32.to_be_bytes());
    packet.extend(65_536_u32.to_be_bytes());
    packet.extend([0, 1, 0, 1]);
    packet.extend(1_u32.to_be_bytes());
    let sum = crc32c(&packet);
    packet[8..12].copy_from_slice(&sum.to_le_bytes());
    packet
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc));
    !bytes.iter().fold(u32::MAX, byte)
}

fn raw(place: &str, family: AddressFamily) -> OwnedFd {
    let open = || socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::SCTP));
    let socket = in_network(place, || open().unwrap());
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn privileged_associations_begin_through_a_range_of_published_ports() {
    on_scratch_host(async |host| {
        make_outside_with_v6();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        network(&client, "both", Options::from([("IPv6", true.into())])).await;
        let ports = vec![port("", "sctp", 9000, 9100, 2)];
        let web = waiting(&client, "web", row([("Network", "both".into())]), ports).await;
        let inside = namespace_of(&web);
        for (at, family) in [(0, AddressFamily::INET), (1, AddressFamily::INET6)] {
            let (caller, server) = (raw("outside", family), raw(&inside, family));
            for nth in [0, 1] {
                let to = SocketAddr::new(HOST[at].parse().unwrap(), 0);
                sendto(&caller, &init(7000, 9000 + nth), SendFlags::empty(), &to).unwrap();
                let mut buffer = [0; 256];
                let (length, _, from) =
                    recvfrom(&server, &mut buffer, RecvFlags::empty()).expect("it arrives");
                // IPv4 comes with its header.
                let start = if at == 0 { usize::from(buffer[0] & 0xf) * 4 } else { 0 };
                assert_eq!(buffer[start..length], init(7000, 9100 + nth), "{family:?} {nth}");
                let seen = SocketAddr::try_from(from.unwrap()).unwrap().ip();
                assert_eq!(seen, OUTSIDE[at].parse::<IpAddr>().unwrap());
            }
        }
        client.remove(&web).await.done();
        tared.stop();
        remove_outside();
    });
}

#[test]
fn privileged_a_port_is_refused_by_who_has_it_at_that_address() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let place = || row([("Network", "tare".into())]);
        let here = |address| port(address, "tcp", 8080, 80, 1);
        let web = waiting(&client, "web", place(), vec![here("127.0.0.1")]).await;
        let other = waiting(&client, "other", place(), Vec::new()).await;
        let theirs = TcpListener::bind("127.0.0.2:8080").unwrap();
        let publish = async |address| {
            let ports = (vec![here(address)], 0_u64);
            client.call(&other, "Container", "PublishPorts", &ports).await.map(drop)
        };
        for (address, by_web) in [("127.0.0.1", true), ("0.0.0.0", true), ("127.0.0.2", false)] {
            let refused = publish(address).await.unwrap_err();
            assert_eq!(refused.short(), "PortInUse", "{address}: {refused:?}");
            assert_eq!(refused.message.contains("'web'"), by_web, "{address}: {refused:?}");
        }
        for address in ["192.0.2.77", "2001:db8::77"] {
            let refused = publish(address).await.unwrap_err();
            assert_eq!(refused.short(), "InvalidArgs", "{refused:?}");
            assert!(refused.message.contains(address), "{refused:?}");
        }
        drop(theirs);
        publish("127.0.0.2").await.expect("nobody has it there");
        let shown: Variant<'static> = client.container(&other).await.get("PublishedPorts");
        let shown: Vec<Row> = shown.try_into().unwrap();
        assert_eq!(shown.len(), 1, "what was refused has left nothing: {shown:?}");

        let ports = Options::from([
            ("Command", vec!["true"].into()),
            ("PublishedPorts", vec![here("192.0.2.77")].into()),
        ]);
        let early = client.create_with("early", ports).await.expect("it may come before the start");
        let ended = client.start(&early).await;
        assert_eq!(failure(&ended), "org.freedesktop.DBus.Error.InvalidArgs", "{ended:?}");
        assert!(ended.error_message.contains("192.0.2.77"), "{ended:?}");
        for path in [web, other, early] {
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}

/// Addresses are chosen from the range alone, and come back when nobody else is left.
#[test]
fn privileged_addresses_are_chosen_from_the_range_of_a_subnet() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let subnet = |subnet: &'static str, first: &'static str, last: &'static str| {
            row([
                ("Subnet", subnet.into()),
                ("RangeStart", first.into()),
                ("RangeEnd", last.into()),
            ])
        };
        let subnets = vec![
            subnet("10.99.0.0/24", "10.99.0.100", "10.99.0.101"),
            subnet("fd00:99::/64", "fd00:99::1:0", "fd00:99::1:1"),
        ];
        network(&client, "net", Options::from([("Subnets", subnets.into())])).await;
        let place = || row([("Network", "net".into())]);
        let inside = async |path| {
            let show = "ip -o addr show dev eth0 scope global | awk '{ print $4 }' | sort";
            client.exec(path, show).await.stdout
        };
        let first = waiting(&client, "first", place(), Vec::new()).await;
        let second = waiting(&client, "second", place(), Vec::new()).await;
        assert_eq!(inside(&first).await, "10.99.0.100/24\nfd00:99::1:0/64\n");
        assert_eq!(inside(&second).await, "10.99.0.101/24\nfd00:99::1:1/64\n");
        let asks =
            row([("Network", "net".into()), ("Addresses", vec!["10.99.0.7", "fd00:99::7"].into())]);
        let asks = waiting(&client, "asks", asks, Vec::new()).await;
        assert_eq!(inside(&asks).await, "10.99.0.7/24\nfd00:99::7/64\n", "who asks has others");

        let late = Options::from([
            ("Command", vec!["sleep", "1000"].into()),
            ("Networks", vec![place()].into()),
        ]);
        let late = client.create_with("late", late).await.unwrap();
        client.stop(&asks).await.done();
        let ended = client.start(&late).await;
        assert_eq!(failure(&ended), "org.tare.Containers1.Error.NetworkFailed", "{ended:?}");
        assert!(ended.error_message.contains("no free address"), "{ended:?}");
        client.remove(&first).await.done();
        client.start(&late).await.done();
        assert_eq!(inside(&late).await, "10.99.0.100/24\nfd00:99::1:0/64\n");
        for path in [second, asks, late] {
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}
