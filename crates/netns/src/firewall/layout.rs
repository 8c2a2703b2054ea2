//! The sets and maps of the table, and the bytes of their elements' parts. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::port::Protocol;
use crate::{InterfaceName, IpFamily};

/// Room the kernel gives the name of an interface, its NUL included (`IFNAMSIZ`).
const INTERFACE_NAME_LEN: usize = 16;

/// What one part of a key or of a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    NfProto,
    Ipv4,
    Ipv6,
    Protocol,
    Port,
    Interface,
}

impl Type {
    /// The number nft(8) has for it; the kernel only hands it back.
    fn id(self) -> u32 {
        match self {
            Self::NfProto => 2,
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Interface => 41,
        }
    }

    /// Length of one alone, in bytes.
    fn len(self) -> u32 {
        match self {
            Self::NfProto | Self::Protocol => 1,
            Self::Port => 2,
            Self::Ipv4 => 4,
            Self::Ipv6 | Self::Interface => 16,
        }
    }

    /// Length among others, in 32-bit registers.
    pub(crate) fn words(self) -> u32 {
        self.len().div_ceil(4)
    }
}

/// Bits that one type takes in the number of a concatenation.
const TYPE_BITS: u32 = 6;

/// The number nft(8) has for `types` one after the other.
pub(crate) fn type_id(types: &[Type]) -> u32 {
    types.iter().fold(0, |id, part| id << TYPE_BITS | part.id())
}

/// Length of `types` one after the other, in bytes.
pub(crate) fn type_len(types: &[Type]) -> u32 {
    match types {
        [one] => one.len(),
        several => several.iter().map(|part| part.words() * 4).sum(),
    }
}

/// One of the sets and maps of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Set {
    Networks,
    Internal,
    Isolated,
    Within,
    Localnet,
    Closed,
    Containers(IpFamily),
    Members(IpFamily),
    /// Published at every address of the host.
    Ports(IpFamily),
    /// Published at one address.
    PortsAt(IpFamily),
}

use IpFamily::{V4, V6};

impl Set {
    /// All of them, in the order they are created and listed.
    pub(crate) const ALL: [Self; 14] = [
        Self::Networks,
        Self::Internal,
        Self::Isolated,
        Self::Within,
        Self::Localnet,
        Self::Closed,
        Self::Containers(V4),
        Self::Containers(V6),
        Self::Members(V4),
        Self::Members(V6),
        Self::Ports(V4),
        Self::Ports(V6),
        Self::PortsAt(V4),
        Self::PortsAt(V6),
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Networks => "networks",
            Self::Internal => "internal",
            Self::Isolated => "isolated",
            Self::Within => "within",
            Self::Localnet => "localnet",
            Self::Closed => "closed",
            Self::Containers(V4) => "containers4",
            Self::Containers(V6) => "containers6",
            Self::Members(V4) => "members4",
            Self::Members(V6) => "members6",
            Self::Ports(V4) => "ports4",
            Self::Ports(V6) => "ports6",
            Self::PortsAt(V4) => "ports_at4",
            Self::PortsAt(V6) => "ports_at6",
        }
    }

    pub(crate) fn key(self) -> &'static [Type] {
        use Type::{Interface, Ipv4, Ipv6, NfProto, Port, Protocol};
        match self {
            Self::Networks | Self::Internal | Self::Isolated | Self::Localnet => &[Interface],
            Self::Within => &[Interface, Interface],
            Self::Closed => &[NfProto],
            Self::Containers(V4) => &[Ipv4],
            Self::Containers(V6) => &[Ipv6],
            Self::Members(V4) => &[Interface, Ipv4],
            Self::Members(V6) => &[Interface, Ipv6],
            Self::Ports(_) => &[Protocol, Port],
            Self::PortsAt(V4) => &[Ipv4, Protocol, Port],
            Self::PortsAt(V6) => &[Ipv6, Protocol, Port],
        }
    }

    /// What a map leads to; nothing for a set.
    pub(crate) fn value(self) -> &'static [Type] {
        match self {
            Self::Ports(V4) | Self::PortsAt(V4) => &[Type::Ipv4, Type::Port],
            Self::Ports(V6) | Self::PortsAt(V6) => &[Type::Ipv6, Type::Port],
            _ => &[],
        }
    }
}

/// Puts parts one after the other, each at the start of a register.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn interface(self, name: &InterfaceName) -> Self {
        let mut padded = [0; INTERFACE_NAME_LEN];
        padded[..name.as_str().len()].copy_from_slice(name.as_str().as_bytes());
        self.part(&padded)
    }

    pub(crate) fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => self.part(&v4.octets()),
            IpAddr::V6(v6) => self.part(&v6.octets()),
        }
    }

    pub(crate) fn protocol(self, protocol: Protocol) -> Self {
        self.part(&[protocol.number()])
    }

    pub(crate) fn family(self, family: IpFamily) -> Self {
        self.part(&[family.nfproto()])
    }

    pub(crate) fn port(self, port: u16) -> Self {
        self.part(&port.to_be_bytes())
    }

    pub(crate) fn socket(self, to: SocketAddr) -> Self {
        self.address(to.ip()).port(to.port())
    }

    fn part(mut self, bytes: &[u8]) -> Self {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self.0.extend(bytes);
        self
    }

    /// The bytes of `types`, to which the parts must belong.
    pub(crate) fn finish(mut self, types: &[Type]) -> Vec<u8> {
        if types.len() > 1 {
            self.0.resize(self.0.len().next_multiple_of(4), 0);
        }
        self.0
    }
}

/// Takes apart what [`Writer`] put together.
#[derive(Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    pub(crate) fn interface(&mut self) -> Option<InterfaceName> {
        let padded: [u8; INTERFACE_NAME_LEN] = self.part()?;
        let name = padded.split(|&byte| byte == 0).next()?;
        std::str::from_utf8(name).ok()?.parse().ok()
    }

    pub(crate) fn address(&mut self, family: IpFamily) -> Option<IpAddr> {
        match family {
            V4 => Some(Ipv4Addr::from(self.part::<4>()?).into()),
            V6 => Some(Ipv6Addr::from(self.part::<16>()?).into()),
        }
    }

    pub(crate) fn protocol(&mut self) -> Option<Protocol> {
        Protocol::from_number(self.part::<1>()?[0])
    }

    pub(crate) fn family(&mut self) -> Option<IpFamily> {
        let [number] = self.part::<1>()?;
        [V4, V6].into_iter().find(|family| family.nfproto() == number)
    }

    pub(crate) fn port(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.part()?))
    }

    pub(crate) fn socket(&mut self, family: IpFamily) -> Option<SocketAddr> {
        Some((self.address(family)?, self.port()?).into())
    }

    /// The next `N` bytes; what follows begins at the next register.
    fn part<const N: usize>(&mut self) -> Option<[u8; N]> {
        let part = *self.0.first_chunk()?;
        self.0 = self.0.get(N.next_multiple_of(4)..).unwrap_or_default();
        Some(part)
    }
}
