//! Ports of a container that the host offers as its own.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::IpFamily;

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Transmission Control Protocol.
    Tcp,
    /// User Datagram Protocol.
    Udp,
    /// Stream Control Transmission Protocol.
    Sctp,
}

impl Protocol {
    const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The protocol's name in small letters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// `IPPROTO_*`.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.number() == number)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = InvalidPort;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = |protocol: &Self| protocol.as_str() == text;
        Self::ALL.into_iter().find(named).ok_or(InvalidPort::Protocol)
    }
}

/// What is wrong with a port to publish.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPort {
    /// The protocol is none of `tcp`, `udp` and `sctp`.
    #[error("protocol is none of tcp, udp and sctp")]
    Protocol,
    /// The container's port is 0.
    #[error("port 0 of a container cannot be published")]
    Zero,
    /// A range without ports.
    #[error("range of ports is empty")]
    EmptyRange,
    /// A range goes beyond port 65535.
    #[error("range of {count} ports from {first} ends beyond port 65535")]
    BeyondLast {
        /// Its first port.
        first: u16,
        /// Its length.
        count: u16,
    },
    /// A range is longer than [`MAX_PORTS`].
    #[error("{count} ports are more than {MAX_PORTS}")]
    TooMany {
        /// Ports asked for.
        count: usize,
    },
    /// A range whose ports on the host are left open.
    #[error("a range of ports needs its first port on the host")]
    AnyRange,
    /// The address is none that a host offers ports at: a multicast one, one of a single link, or of IPv4
    /// in IPv6's form.
    #[error("a port cannot be published at address {address}")]
    Address {
        /// The address.
        address: IpAddr,
    },
    /// Two of the ports are the same port of the host.
    #[error("{first} and {second} overlap")]
    Overlap {
        /// The one, as it is written.
        first: String,
        /// The other.
        second: String,
    },
}

/// Most ports that one container can publish: each is a socket that is held while it runs, and
/// processes have 1,024 of these unless somebody says otherwise.
pub const MAX_PORTS: usize = 1000;

/// Ports of the host that are asked for: `count` in a row from `host`, or one that is free.
///
/// `host` is 0 only for "any", and then `count` is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct PortRequest(Raw);

/// Ports of a container that the host offers as its own: `count` in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct PublishedPort(Raw);

/// Both, as they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Raw {
    at: Option<IpAddr>,
    protocol: Protocol,
    host: u16,
    container: u16,
    count: u16,
}

impl PortRequest {
    /// Asks for ports: `count` from `host`, which lead to as many from `container`.
    ///
    /// `host` 0 means any port. `at` is the host's address to offer them at, or all its addresses;
    /// `0.0.0.0` and `::` mean all those of their family.
    ///
    /// # Errors
    ///
    /// [`InvalidPort`], but neither `Protocol` nor `Overlap`.
    pub fn new(
        at: Option<IpAddr>,
        protocol: Protocol,
        host: u16,
        container: u16,
        count: u16,
    ) -> Result<Self, InvalidPort> {
        // What was published before is still known by what it was.
        if let Some(address) = at.filter(is_unfit) {
            return Err(InvalidPort::Address { address });
        }
        Raw { at, protocol, host, container, count }.check().map(Self)
    }

    /// The address of the host that was named.
    pub fn at(&self) -> Option<IpAddr> {
        self.0.at
    }

    /// The protocol.
    pub fn protocol(&self) -> Protocol {
        self.0.protocol
    }

    /// The first port on the host; `None` for any.
    pub fn host(&self) -> Option<u16> {
        (self.0.host != 0).then_some(self.0.host)
    }

    /// The first port in the container.
    pub fn container(&self) -> u16 {
        self.0.container
    }

    /// How many in a row.
    pub fn count(&self) -> u16 {
        self.0.count
    }

    /// Whether they have a port of the host in common, at an address that both are offered at. One
    /// that is left open is nobody's yet.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.overlaps(&other.0)
    }

    /// The same with `host` as the first port on the host, where that was left open.
    pub(crate) fn settle(&self, host: u16) -> PublishedPort {
        PublishedPort(Raw { host: self.host().unwrap_or(host), ..self.0 })
    }
}

impl PublishedPort {
    /// The address of the host that was named.
    pub fn at(&self) -> Option<IpAddr> {
        self.0.at
    }

    /// The protocol.
    pub fn protocol(&self) -> Protocol {
        self.0.protocol
    }

    /// The first port on the host.
    pub fn host(&self) -> u16 {
        self.0.host
    }

    /// The first port in the container.
    pub fn container(&self) -> u16 {
        self.0.container
    }

    /// How many in a row.
    pub fn count(&self) -> u16 {
        self.0.count
    }

    /// The ports of the host, and with each the container's.
    pub fn pairs(&self) -> impl Iterator<Item = (u16, u16)> + use<> {
        // Neither can overflow: both ranges were checked.
        let Raw { host, container, count, .. } = self.0;
        (0..count).map(move |offset| (host + offset, container + offset))
    }

    /// Whether it is offered at addresses of that family.
    pub(crate) fn is_at(&self, family: IpFamily) -> bool {
        self.0.is_at(family)
    }

    /// The one address it is offered at; `None` for all of a family.
    pub(crate) fn one_address(&self) -> Option<IpAddr> {
        self.0.at.filter(|at| !at.is_unspecified())
    }

    /// Whether the host reaches it at 127.0.0.1.
    pub(crate) fn is_on_loopback4(&self) -> bool {
        self.is_at(IpFamily::V4) && self.one_address().is_none_or(|at| at.is_loopback())
    }
}

/// Whether no host could offer a port there. A link-local address says nothing without its link.
fn is_unfit(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => {
            v6.is_multicast() || v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some()
        }
    }
}

impl Raw {
    fn check(self) -> Result<Self, InvalidPort> {
        let Self { host, container, count, .. } = self;
        if container == 0 {
            return Err(InvalidPort::Zero);
        }
        if count == 0 {
            return Err(InvalidPort::EmptyRange);
        }
        if usize::from(count) > MAX_PORTS {
            return Err(InvalidPort::TooMany { count: count.into() });
        }
        if host == 0 && count > 1 {
            return Err(InvalidPort::AnyRange);
        }
        match [host, container].into_iter().find(|first| first.checked_add(count - 1).is_none()) {
            Some(first) => Err(InvalidPort::BeyondLast { first, count }),
            None => Ok(self),
        }
    }

    fn is_at(&self, family: IpFamily) -> bool {
        self.at.is_none_or(|at| IpFamily::of(at) == family)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let ends = |raw: &Self| (raw.host, raw.host.saturating_add(raw.count - 1));
        let (a, b) = (ends(self), ends(other));
        let families = [IpFamily::V4, IpFamily::V6];
        let one = |raw: &Self| raw.at.filter(|at| !at.is_unspecified());
        let differ = matches!((one(self), one(other)), (Some(a), Some(b)) if a != b);
        self.protocol == other.protocol
            && self.host != 0
            && a.0 <= b.1
            && b.0 <= a.1
            && !differ
            && families.iter().any(|&family| self.is_at(family) && other.is_at(family))
    }
}

/// Refuses ports of which two are the same port of the host, or that are too many.
///
/// # Errors
///
/// [`InvalidPort::Overlap`], [`InvalidPort::TooMany`].
pub fn check_ports(ports: &[PortRequest]) -> Result<(), InvalidPort> {
    let count = ports.iter().map(|port| usize::from(port.count())).sum();
    if count > MAX_PORTS {
        return Err(InvalidPort::TooMany { count });
    }
    for (at, first) in ports.iter().enumerate() {
        if let Some(second) = ports[at + 1..].iter().find(|second| first.0.overlaps(&second.0)) {
            let (first, second) = (first.to_string(), second.to_string());
            return Err(InvalidPort::Overlap { first, second });
        }
    }
    Ok(())
}

impl TryFrom<Raw> for PortRequest {
    type Error = InvalidPort;

    fn try_from(raw: Raw) -> Result<Self, Self::Error> {
        raw.check().map(Self)
    }
}

impl TryFrom<Raw> for PublishedPort {
    type Error = InvalidPort;

    fn try_from(raw: Raw) -> Result<Self, Self::Error> {
        if raw.host == 0 { Err(InvalidPort::Zero) } else { raw.check().map(Self) }
    }
}

impl From<PortRequest> for Raw {
    fn from(port: PortRequest) -> Self {
        port.0
    }
}

impl From<PublishedPort> for Raw {
    fn from(port: PublishedPort) -> Self {
        port.0
    }
}

impl From<PublishedPort> for PortRequest {
    fn from(port: PublishedPort) -> Self {
        Self(port.0)
    }
}

/// The host's side: `8080/tcp`, `127.0.0.1:8080-8089/udp`, `[::1]:*/tcp`.
impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            None => {}
            Some(IpAddr::V4(v4)) => write!(f, "{v4}:")?,
            Some(IpAddr::V6(v6)) => write!(f, "[{v6}]:")?,
        }
        match (self.host, self.count) {
            (0, _) => write!(f, "*")?,
            (first, 1) => write!(f, "{first}")?,
            (first, count) => write!(f, "{first}-{}", first.saturating_add(count - 1))?,
        }
        write!(f, "/{}", self.protocol)
    }
}

impl fmt::Display for PortRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(
        at: &str,
        host: u16,
        container: u16,
        count: u16,
    ) -> Result<PortRequest, InvalidPort> {
        let at = (!at.is_empty()).then(|| at.parse().unwrap());
        PortRequest::new(at, Protocol::Tcp, host, container, count)
    }

    #[test]
    fn what_cannot_be_published_is_refused() {
        use InvalidPort::{AnyRange, BeyondLast, EmptyRange, TooMany, Zero};
        let cases = [
            ("usual", (8080, 80, 1), Ok(())),
            ("any", (0, 80, 1), Ok(())),
            ("up to the last", (65526, 65526, 10), Ok(())),
            ("longest", (1, 1, 1000), Ok(())),
            ("port 0", (8080, 0, 1), Err(Zero)),
            ("empty", (8080, 80, 0), Err(EmptyRange)),
            ("any range", (0, 80, 2), Err(AnyRange)),
            ("beyond on the host", (65527, 80, 10), Err(BeyondLast { first: 65527, count: 10 })),
            ("beyond inside", (80, 65535, 2), Err(BeyondLast { first: 65535, count: 2 })),
            ("too long", (1, 1, 1001), Err(TooMany { count: 1001 })),
        ];
        for (about, (host, container, count), want) in cases {
            assert_eq!(request("", host, container, count).map(drop), want, "{about}");
        }
        for at in ["224.0.0.1", "255.255.255.255", "ff02::1", "fe80::1", "::ffff:192.0.2.1"] {
            let refused = InvalidPort::Address { address: at.parse().unwrap() };
            assert_eq!(request(at, 8080, 80, 1), Err(refused), "{at}");
        }
        for at in ["0.0.0.0", "127.0.0.1", "192.0.2.1", "::", "::1", "2001:db8::1", "fd00::1"] {
            request(at, 8080, 80, 1).unwrap();
        }
        assert_eq!("tcp ".parse::<Protocol>(), Err(InvalidPort::Protocol));
        assert_eq!("sctp".parse::<Protocol>(), Ok(Protocol::Sctp));
    }

    #[test]
    fn one_port_of_the_host_leads_to_one_place() {
        let cases = [
            ("same", ("", 80, 1), ("", 80, 1), true),
            ("next", ("", 80, 1), ("", 81, 1), false),
            ("last of a range", ("", 80, 10), ("", 89, 1), true),
            ("after a range", ("", 80, 10), ("", 90, 1), false),
            ("all and one address", ("", 80, 1), ("192.0.2.1", 80, 1), true),
            ("all IPv4 and one", ("0.0.0.0", 80, 1), ("192.0.2.1", 80, 1), true),
            ("all IPv4 and all IPv6", ("0.0.0.0", 80, 1), ("::", 80, 1), false),
            ("two addresses", ("192.0.2.2", 80, 1), ("192.0.2.1", 80, 1), false),
            ("any twice", ("", 0, 1), ("", 0, 1), false),
        ];
        for (about, a, b, want) in cases {
            let port = |(at, host, count)| request(at, host, 1, count).unwrap();
            for ports in [[port(a), port(b)], [port(b), port(a)]] {
                assert_eq!(check_ports(&ports).is_err(), want, "{about}");
            }
        }
        let udp = PortRequest::new(None, Protocol::Udp, 80, 80, 1).unwrap();
        assert_eq!(check_ports(&[udp, request("", 80, 80, 1).unwrap()]), Ok(()));
        let many = [request("", 1, 1, 600).unwrap(), request("", 1001, 1, 600).unwrap()];
        assert_eq!(check_ports(&many), Err(InvalidPort::TooMany { count: 1200 }));
    }

    #[test]
    fn the_stored_form_is_a_format_and_is_checked() {
        let text = r#"{"at":"127.0.0.1","protocol":"udp","host":53,"container":5353,"count":1}"#;
        let port: PublishedPort = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&port).unwrap(), text);
        assert_eq!(port.to_string(), "127.0.0.1:53/udp");
        let any = text.replace("53,", "0,");
        assert!(serde_json::from_str::<PublishedPort>(&any).is_err());
        let once = text.replace("127.0.0.1", "fe80::1");
        assert_eq!(
            serde_json::from_str::<PublishedPort>(&once).unwrap().to_string(),
            "[fe80::1]:53/udp"
        );
        let zero = text.replace("5353", "0");
        assert!(serde_json::from_str::<PortRequest>(&zero).is_err());
    }

    proptest! {
        #[test]
        fn pairs_stay_within_the_ports(host: u16, container: u16, count: u16) {
            if let Ok(port) = request("", host, container, count)
                && host != 0
            {
                let pairs: Vec<_> = port.settle(0).pairs().collect();
                prop_assert_eq!(pairs.len(), usize::from(count));
                prop_assert!(pairs.iter().all(|&(host, container)| host > 0 && container > 0));
            }
        }
    }
}
