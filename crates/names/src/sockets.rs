//! The sockets of one network.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use socket2::{Domain, SockRef, Socket, Type};

use crate::{Error, PORT, effects};

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
        let made = effects::listen(interface, address);
        let (udp, tcp) = made.map_err(|source| {
            let interface = interface.to_owned();
            Error::Listen { address, interface, source }
        })?;
        Ok(Self { udp: udp.into(), tcp: tcp.into() })
    }
}

impl Sockets {
    /// The same at several addresses: all of them, or none.
    pub(crate) fn listen_at(interface: &str, addresses: &[IpAddr]) -> Result<Vec<Self>, Error> {
        addresses.iter().map(|address| Self::listen(interface, *address)).collect()
    }

    /// A pair that somebody else made.
    pub(crate) fn checked(udp: OwnedFd, tcp: OwnedFd) -> io::Result<Self> {
        let (udp, tcp) = (Socket::from(udp), Socket::from(tcp));
        let fits = udp.r#type()? == Type::DGRAM
            && is_inet(udp.domain()?)
            && tcp.r#type()? == Type::STREAM
            && is_inet(tcp.domain()?)
            && tcp.is_listener()?;
        if !fits {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no sockets to answer on"));
        }
        Ok(Self { udp: udp.into(), tcp: tcp.into() })
    }

    /// Whether they are what [`listen`](Self::listen) would make. Those of an interface that is no
    /// more are not, though another has its name.
    pub(crate) fn are_at(&self, interface: &str, address: IpAddr) -> bool {
        let wanted = SocketAddr::new(address, PORT);
        let is_at = |socket: SockRef<'_>| -> io::Result<bool> {
            let bound = socket.device()?.is_some_and(|name| name == interface.as_bytes());
            Ok(bound && socket.local_addr()?.as_socket() == Some(wanted))
        };
        is_at((&self.udp).into()).unwrap_or(false) && is_at((&self.tcp).into()).unwrap_or(false)
    }

    /// The same sockets once more.
    pub(crate) fn duplicate(&self) -> io::Result<Self> {
        Ok(Self { udp: self.udp.try_clone()?, tcp: self.tcp.try_clone()? })
    }
}

fn is_inet(domain: Domain) -> bool {
    domain == Domain::IPV4 || domain == Domain::IPV6
}
