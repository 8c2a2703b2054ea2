//! Networks, containers and a client outside, and what they send each other.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use tare_netns::{
    Bridge, ContainerRules, Driver, Firewall, IpFamily, MacAddress, Names, Namespace, Network,
    NetworkOptions, PortRequest, Protocol, Publication, PublishedPort, Reach, SubnetOptions,
    Wanted, enter, teardown,
};

use crate::common::{ensure_bridge, name, setup, veth};

/// How long something is waited for that must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long something is waited for that must not come.
const SILENCE: Duration = Duration::from_millis(250);

/// The addresses of the client outside.
pub(crate) const CLIENT: [&str; 2] = ["192.0.2.2", "2001:db8::2"];
/// The host's addresses outside.
pub(crate) const HOST: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

/// A host that forwards, with a firewall and a client outside.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) firewall: Firewall,
    pub(crate) client: Namespace,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let firewall = Firewall::open(&name("tare")).unwrap();
        for family in [IpFamily::V4, IpFamily::V6] {
            firewall.enable_forwarding(family).unwrap();
        }
        let gateways = vec![name("192.0.2.1/24"), name("2001:db8::1/64")];
        let outside = Bridge { name: name("out0"), gateways, mtu: None, vlan: None };
        ensure_bridge(&outside).unwrap();
        let client = setup(&Wanted {
            namespace: name("client"),
            attachments: vec![tare_netns::Attachment {
                link: veth("out0", "ve-client"),
                interface: name("eth0"),
                mac: MacAddress::for_address(name(CLIENT[0])),
                addresses: vec![name("192.0.2.2/24"), name("2001:db8::2/64")],
                gateways: HOST.map(name).to_vec(),
                position: 0,
            }],
        });
        Self { firewall, client: client.unwrap() }
    }

    /// Network number `number`, with its bridge.
    pub(crate) fn network(&self, number: u8, reach: Reach) -> Network {
        let network = network(number, reach);
        ensure_bridge(&network.bridge().unwrap()).unwrap();
        self.firewall.add_network(&network.rules().unwrap()).unwrap();
        network
    }

    /// A container in `network` whose addresses end in `host`.
    pub(crate) fn container(&self, network: &Network, host: u8) -> Container {
        self.publishing(network, host, &[])
    }

    pub(crate) fn publishing(
        &self,
        network: &Network,
        host: u8,
        ports: &[PublishedPort],
    ) -> Container {
        let container = Container::new(network, host, ports);
        self.firewall.admit(&container.rules).unwrap();
        container
    }

    pub(crate) fn remove(&self, container: &Container) {
        self.firewall.dismiss(&container.rules).unwrap();
        teardown(&container.wanted).unwrap();
    }
}

pub(crate) fn network(number: u8, reach: Reach) -> Network {
    let subnets = [format!("10.88.{number}.0/24"), format!("fd00:88:0:{number}::/64")];
    Network::new(&NetworkOptions {
        driver: Driver::Bridge { interface: name(&format!("tare{number}")), vlan: None },
        subnets: subnets.map(|subnet| SubnetOptions::new(name(&subnet))).to_vec(),
        mtu: None,
        reach,
        names: Names::Off,
    })
    .unwrap()
}

#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) wanted: Wanted,
    pub(crate) namespace: Namespace,
    pub(crate) rules: ContainerRules,
    /// IPv4, IPv6.
    pub(crate) addresses: [IpAddr; 2],
}

impl Container {
    pub(crate) fn new(network: &Network, host: u8, ports: &[PublishedPort]) -> Self {
        let (wanted, rules, addresses) = plan(network, host, ports);
        Self { namespace: setup(&wanted).unwrap(), wanted, rules, addresses }
    }
}

/// What a container in `network` is, before it is made.
pub(crate) fn plan(
    network: &Network,
    host: u8,
    ports: &[PublishedPort],
) -> (Wanted, ContainerRules, [IpAddr; 2]) {
    let bridge = network.bridge().unwrap();
    let addresses = [0, 1].map(|at| with_last_byte(bridge.gateways[at].addr(), host));
    let mac = MacAddress::for_address(addresses[0]);
    let end = name(&format!("ve-{}-{host}", bridge.name));
    let attachment = network.attachment(name("eth0"), end, mac, &addresses);
    let wanted = Wanted {
        namespace: name(&format!("{}-{host}", bridge.name)),
        attachments: vec![attachment],
    };
    let publications = ports.iter().map(|&port| publication(port, &bridge, addresses)).collect();
    let members = network.member(&addresses).into_iter().collect();
    (wanted, ContainerRules { members, publications }, addresses)
}

fn publication(port: PublishedPort, bridge: &Bridge, addresses: [IpAddr; 2]) -> Publication {
    let (IpAddr::V4(v4), IpAddr::V6(v6)) = addresses.into() else { panic!("{addresses:?}") };
    Publication { port, bridge: Some(bridge.name.clone()), v4: Some(v4), v6: Some(v6) }
}

fn with_last_byte(address: IpAddr, last: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            [a, b, c, last].into()
        }
        IpAddr::V6(v6) => (u128::from(v6) & !0xff | u128::from(last)).to_be_bytes().into(),
    }
}

pub(crate) fn port(at: Option<&str>, protocol: Protocol, host: u16, inside: u16) -> PublishedPort {
    range(at, protocol, host, inside, 1)
}

pub(crate) fn range(
    at: Option<&str>,
    protocol: Protocol,
    host: u16,
    inside: u16,
    count: u16,
) -> PublishedPort {
    let request = PortRequest::new(at.map(name), protocol, host, inside, count).unwrap();
    serde_json::from_value(serde_json::to_value(request).unwrap()).unwrap()
}

#[expect(clippy::needless_pass_by_value, reason = "as it comes: text or an address")]
pub(crate) fn to(address: impl ToString, port: u16) -> SocketAddr {
    (name::<IpAddr>(&address.to_string()), port).into()
}

/// Runs `body` in `place`, or on the host.
pub(crate) fn within<T: Send>(place: Option<&Namespace>, body: impl FnOnce() -> T + Send) -> T {
    match place {
        Some(namespace) => enter(namespace.as_fd(), body).unwrap(),
        None => body(),
    }
}

pub(crate) fn udp(place: Option<&Namespace>, address: SocketAddr) -> UdpSocket {
    within(place, || UdpSocket::bind(address).unwrap())
}

pub(crate) fn listen(place: Option<&Namespace>, address: SocketAddr) -> TcpListener {
    within(place, || TcpListener::bind(address).unwrap())
}

/// Sends to `target` and back, and returns whom the receiver took for the sender.
pub(crate) fn udp_exchange(from: &UdpSocket, at: &UdpSocket, target: SocketAddr) -> IpAddr {
    // A datagram can be lost while a neighbour is looked for, or hear of an earlier refusal.
    let end = Instant::now() + PATIENCE;
    let seen = loop {
        match udp_seen(from, at, target, SILENCE) {
            Some(seen) => break seen,
            None => assert!(Instant::now() < end, "{target}"),
        }
    };
    at.send_to(b"back", seen).unwrap();
    let mut buffer = [0; 16];
    from.set_read_timeout(Some(PATIENCE)).unwrap();
    let (length, answer_from) = from.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], answer_from), (&b"back"[..], target), "the one that was asked");
    seen.ip()
}

/// Whether nothing that is sent to `target` arrives.
pub(crate) fn udp_is_lost(from: &UdpSocket, at: &UdpSocket, target: SocketAddr) -> bool {
    udp_seen(from, at, target, SILENCE).is_none()
}

fn udp_seen(
    from: &UdpSocket,
    at: &UdpSocket,
    target: SocketAddr,
    wait: Duration,
) -> Option<SocketAddr> {
    // An answer that nobody is there may come back first.
    let sent = from.send_to(b"there", target).or_else(|_| from.send_to(b"there", target));
    if sent.is_err() {
        return None;
    }
    at.set_read_timeout(Some(wait)).unwrap();
    let mut buffer = [0; 16];
    let (length, seen) = at.recv_from(&mut buffer).ok()?;
    assert_eq!(&buffer[..length], b"there");
    Some(seen)
}

/// Connects to `target`, where `at` has to accept; whom it took for the client.
pub(crate) fn tcp_exchange(
    place: Option<&Namespace>,
    at: &TcpListener,
    target: SocketAddr,
) -> IpAddr {
    let (mut client, mut server) = tcp_pair(place, at, target);
    client.write_all(b"there").unwrap();
    let mut buffer = [0; 5];
    server.read_exact(&mut buffer).unwrap();
    server.write_all(&buffer).unwrap();
    client.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"there");
    server.peer_addr().unwrap().ip()
}

/// A connection to `target`, and its end at `at`.
pub(crate) fn tcp_pair(
    place: Option<&Namespace>,
    at: &TcpListener,
    target: SocketAddr,
) -> (TcpStream, TcpStream) {
    let client = within(place, || TcpStream::connect_timeout(&target, PATIENCE));
    let client = client.unwrap_or_else(|error| panic!("{target}: {error}"));
    let (server, _) = at.accept().unwrap();
    for end in [&client, &server] {
        end.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    (client, server)
}

/// Whether nobody listens at `target`, and somebody says so.
pub(crate) fn tcp_is_refused(place: Option<&Namespace>, target: SocketAddr) -> bool {
    tcp_error(place, target, PATIENCE) == io::ErrorKind::ConnectionRefused
}

/// Whether there is no answer from `target`.
pub(crate) fn tcp_is_lost(place: Option<&Namespace>, target: SocketAddr) -> bool {
    tcp_error(place, target, SILENCE) == io::ErrorKind::TimedOut
}

fn tcp_error(place: Option<&Namespace>, target: SocketAddr, wait: Duration) -> io::ErrorKind {
    let client = within(place, || TcpStream::connect_timeout(&target, wait));
    client.map(|_| ()).expect_err("nobody may be reached").kind()
}
