//! Sockets that hold ports of the host.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, bind as bind_to, getsockname, ipproto,
    listen, shutdown, socket_with, sockopt,
};

use crate::Protocol;

/// A backlog for connections that are not accepted until somebody does.
const BACKLOG: i32 = 16;

/// Takes a port of the host; with port 0 one that is free. `None` if the host does not speak the
/// protocol, so that nobody can have the port.
pub(crate) fn bind(address: SocketAddr, protocol: Protocol) -> io::Result<Option<(OwnedFd, u16)>> {
    let socket = match open(address.ip(), protocol) {
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) if protocol == Protocol::Sctp => {
            return Ok(None);
        }
        socket => socket?,
    };
    let bound = match bind_to(&socket, &address) {
        // Nobody may have it but connections that are closed already.
        Err(Errno::ADDRINUSE) if protocol == Protocol::Tcp => listen_on(&socket, address),
        bound => bound,
    };
    bound?;
    let name = SocketAddr::try_from(getsockname(&socket)?)?;
    Ok(Some((socket, name.port())))
}

/// A socket that shares no port with others that say they would share, but does not listen.
fn open(address: IpAddr, protocol: Protocol) -> rustix::io::Result<OwnedFd> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, Some(number))?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(socket)
}

/// Takes a port that closed connections linger on; only who has listened keeps it for himself then.
fn listen_on(socket: impl AsFd, address: SocketAddr) -> rustix::io::Result<()> {
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind_to(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    shutdown(&socket, Shutdown::Read)?;
    sockopt::set_socket_reuseaddr(&socket, false)
}

/// Listens at `::1`, on a port that `holder` has at all addresses: for a moment it shares, but only
/// with one that listens, or has no connections. `None` where there is no `::1`.
pub(crate) fn listen_beside(
    holder: &OwnedFd,
    port: u16,
    protocol: Protocol,
) -> io::Result<Option<OwnedFd>> {
    let socket = open(Ipv6Addr::LOCALHOST.into(), protocol)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseaddr(holder, true)?;
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let bound = bind_to(&socket, &address).and_then(|()| let_in(&socket, protocol));
    sockopt::set_socket_reuseaddr(holder, false)?;
    match bound {
        Ok(()) => Ok(Some(socket)),
        Err(Errno::ADDRNOTAVAIL) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Lets connections come; who takes them comes later. They are to be none that keep the port.
pub(crate) fn listen_at(socket: &OwnedFd, protocol: Protocol) -> io::Result<()> {
    Ok(let_in(socket, protocol)?)
}

/// Datagrams come as they are; nobody else is to have them.
fn let_in(socket: &OwnedFd, protocol: Protocol) -> rustix::io::Result<()> {
    let has_connections = protocol == Protocol::Tcp;
    sockopt::set_socket_reuseaddr(socket, has_connections)?;
    if has_connections { listen(socket, BACKLOG) } else { Ok(()) }
}

/// Whether the host has IPv6 at all.
pub(crate) fn has_ipv6() -> bool {
    open(Ipv6Addr::UNSPECIFIED.into(), Protocol::Udp).is_ok()
}
