//! The sockets of one network.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{Error, PORT};

/// Most connections that wait to be taken.
const BACKLOG: i32 = 64;

/// Where a network is asked: an address, over UDP and TCP.
#[derive(Debug)]
pub struct Sockets {
    /// For datagrams.
    pub udp: UdpSocket,
    /// For connections.
    pub tcp: TcpListener,
}

impl Sockets {
    /// Sockets at an address of an interface, for what comes in by that interface alone: who is on
    /// another network cannot ask here, though the host would let it.
    ///
    /// # Errors
    ///
    /// [`Error::Listen`]; [`Error::is_busy`] if somebody else answers there.
    pub fn listen(interface: &str, address: IpAddr) -> Result<Self, Error> {
        let address = SocketAddr::new(address, PORT);
        let listen = || {
            let udp = socket(interface, address, Type::DGRAM, Protocol::UDP)?;
            let tcp = socket(interface, address, Type::STREAM, Protocol::TCP)?;
            tcp.listen(BACKLOG)?;
            Ok(Self { udp: udp.into(), tcp: tcp.into() })
        };
        let interface = interface.to_owned();
        listen().map_err(|source| Error::Listen { address, interface, source })
    }
}

fn socket(
    interface: &str,
    address: SocketAddr,
    kind: Type,
    protocol: Protocol,
) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    if kind == Type::STREAM {
        // Connections of an earlier server may still wait for their end.
        socket.set_reuse_address(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}
