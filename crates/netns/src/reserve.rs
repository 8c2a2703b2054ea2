//! Taking ports of the host before anything is set up that would lead them away.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use crate::{Error, PortRequest, Protocol, PublishedPort, fault, sys};

/// A free port is sought so often: one that is free in IPv4 can be taken in IPv6.
const ANY_TRIES: u32 = 16;

/// A port of the host that is held by a socket.
#[derive(Debug)]
#[non_exhaustive]
pub struct HeldPort {
    /// The socket; it is bound. Some of those at `::1` listen, see [`listens`](Self::listens).
    pub socket: OwnedFd,
    /// What it is bound to.
    pub address: SocketAddr,
    /// Its protocol.
    pub protocol: Protocol,
}

impl HeldPort {
    /// Whether connections, or datagrams, come in here and not by the firewall: TCP and UDP at
    /// `::1`. They are for who holds this to take, and to pass on.
    pub fn listens(&self) -> bool {
        self.protocol != Protocol::Sctp && self.address.ip() == IpAddr::V6(Ipv6Addr::LOCALHOST)
    }
}

/// Ports of the host that are held, so that nobody else gets them.
///
/// They are held as long as the sockets are open, in whatever process.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Reservation {
    /// The ports, in the order they were asked for, none of them left open.
    pub ports: Vec<PublishedPort>,
    /// What holds them.
    pub sockets: Vec<HeldPort>,
}

/// Takes `ports` of the host, in the network namespace of the calling thread: all or none.
///
/// A port that is asked for at all addresses is taken in both families, and one that is left open
/// is the same in both. At `::1`, TCP and UDP listen: the firewall leads nothing from there.
///
/// # Errors
///
/// [`Error::InvalidPorts`] if two of them are the same; [`Error::PortInUse`] for the first that
/// somebody has; [`Error::NoHostAddress`]; [`Error::Reserve`].
pub fn reserve(ports: &[PortRequest]) -> Result<Reservation, Error> {
    crate::port::check_ports(ports).map_err(|source| Error::InvalidPorts { source })?;
    let mut reservation = Reservation::default();
    for port in ports {
        let (settled, sockets) = hold(port).map_err(|source| refused(port, source))?;
        reservation.ports.push(settled);
        reservation.sockets.extend(sockets);
    }
    Ok(reservation)
}

fn refused(port: &PortRequest, source: io::Error) -> Error {
    let (at, port) = (port.at(), port.to_string());
    match (source.kind(), at) {
        (io::ErrorKind::AddrInUse, _) => Error::PortInUse { port },
        (io::ErrorKind::AddrNotAvailable, Some(address)) => Error::NoHostAddress { address },
        _ => Error::Reserve { port, source },
    }
}

fn hold(port: &PortRequest) -> io::Result<(PublishedPort, Vec<HeldPort>)> {
    if port.host().is_some() {
        return hold_all(port);
    }
    for _ in 1..ANY_TRIES {
        match hold_all(port) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            held => return held,
        }
    }
    hold_all(port)
}

fn hold_all(port: &PortRequest) -> io::Result<(PublishedPort, Vec<HeldPort>)> {
    let mut sockets = Vec::new();
    let mut first = port.host().unwrap_or(0);
    for address in addresses(port) {
        for offset in 0..port.count() {
            // Cannot overflow: the range was checked.
            let wanted = SocketAddr::new(address, first + offset);
            fault::point(&format_args!("bind {wanted}/{}", port.protocol()))?;
            let Some((socket, number)) = sys::bind(wanted, port.protocol())? else { continue };
            let address = SocketAddr::new(address, number);
            let held = HeldPort { socket, address, protocol: port.protocol() };
            let listener = listener(&held)?;
            sockets.push(held);
            sockets.extend(listener);
            if first == 0 {
                first = number;
            }
        }
    }
    if first == 0 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok((port.settle(first), sockets))
}

/// What listens at `::1`, if the port is offered there: the firewall cannot lead that to a container.
/// A port that is held at that address alone listens itself.
fn listener(held: &HeldPort) -> io::Result<Option<HeldPort>> {
    let (at, protocol) = (held.address.ip(), held.protocol);
    if !(at.is_unspecified() || at.is_loopback()) || at.is_ipv4() || protocol == Protocol::Sctp {
        return Ok(None);
    }
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, held.address.port()));
    fault::point(&format_args!("listen on {address}/{protocol}"))?;
    if at.is_loopback() {
        sys::listen_at(&held.socket, protocol)?;
        return Ok(None);
    }
    let socket = sys::listen_beside(&held.socket, address.port(), protocol)?;
    Ok(socket.map(|socket| HeldPort { socket, address, protocol }))
}

fn addresses(port: &PortRequest) -> Vec<IpAddr> {
    match port.at() {
        Some(at) => vec![at],
        None if sys::has_ipv6() => {
            vec![Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()]
        }
        None => vec![Ipv4Addr::UNSPECIFIED.into()],
    }
}
