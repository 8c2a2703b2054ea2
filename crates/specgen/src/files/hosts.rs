//! The container's `/etc/hosts`; see hosts(5).
//!
//! The host's own file is not copied unless somebody asks for it: it tells names of the host's
//! world, and its entry for the host's own name is wrong in the container (B17).

use std::fmt::{self, Write};
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::effective::Effective;
use crate::error::Error;
use crate::facts::{HostFacts, NetworkFacts, Placement, RootfsFacts};
use crate::names::{DomainName, Hostname};
use crate::request::NetworkMode;
use crate::text::{AbsolutePath, InvalidText, Problem, string_form};
use crate::warning::Warning;

/// The name under which a container finds its host.
pub const HOST_NAME: &str = "host.tare.internal";

/// Largest file that a hosts file is begun with, in bytes.
pub const MAX_HOSTS_FILE: usize = 1 << 20;

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const LOCALHOST: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";

/// What the file begins with: `none`, `host`, `image`, or a file of the host by its path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum BaseHosts {
    /// Nothing.
    #[default]
    None,
    /// The entries of the host's own file.
    Host,
    /// The entries of the image's file.
    Image,
    /// The entries of this file.
    Path(AbsolutePath),
}

impl FromStr for BaseHosts {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            "host" => Ok(Self::Host),
            "image" => Ok(Self::Image),
            path if path.starts_with('/') => path.parse().map(Self::Path),
            _ => {
                let rule = Problem::Form("is none of: none host image /PATH");
                Err(InvalidText::new("base of the hosts file", rule))
            }
        }
    }
}

impl fmt::Display for BaseHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Host => "host",
            Self::Image => "image",
            Self::Path(path) => path.as_str(),
        })
    }
}

string_form!(BaseHosts);

/// The address of a line that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum HostsAddress {
    /// This one.
    Ip(IpAddr),
    /// The host's address in the first of the container's networks where it has one; `host-gateway`.
    HostGateway,
}

impl FromStr for HostsAddress {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "host-gateway" {
            return Ok(Self::HostGateway);
        }
        let rule = Problem::Form("is neither an address nor host-gateway");
        text.parse().map(Self::Ip).map_err(|_| InvalidText::new("address of a host", rule))
    }
}

impl fmt::Display for HostsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "{address}"),
            Self::HostGateway => f.write_str("host-gateway"),
        }
    }
}

string_form!(HostsAddress);

/// An error if a container that is to start asks for the host's address, and there is none. One that
/// runs may have left the networks where it is, and goes without.
pub(crate) fn check(effective: &Effective, placement: &Placement) -> Result<(), Error> {
    let asks = effective.request.hosts.values().any(|asked| *asked == HostsAddress::HostGateway);
    if asks && address_of_host(effective, placement).is_none() {
        let rule = "has a host-gateway, and the host has no address on its networks";
        return Err(Error::Option { option: "Hosts", rule });
    }
    Ok(())
}

/// The text of the file: loopback, what was asked for, its own names, the host, and last the
/// entries that it begins with for others: the first entry of a name is the one that counts.
pub(crate) fn hosts(
    effective: &Effective,
    host: &HostFacts,
    rootfs: &RootfsFacts,
    placement: &Placement,
    hostname: &Hostname,
    warnings: &mut Vec<Warning>,
) -> String {
    let mut text = LOCALHOST.to_owned();
    let of_host = address_of_host(effective, placement);
    for (name, address) in &effective.request.hosts {
        let address = match address {
            HostsAddress::Ip(address) => Some(address),
            HostsAddress::HostGateway => of_host,
        };
        if let Some(address) = address {
            let _ = writeln!(text, "{address} {name}");
        } else {
            warnings.push(Warning::HostGatewayLeftOut { name: name.clone() });
        }
    }
    let names = own_names(hostname, &placement.names);
    for address in own_addresses(&placement.networks) {
        let _ = writeln!(text, "{address} {names}");
    }
    // Who shares its network is found on loopback.
    for name in &placement.joined_names {
        let _ = writeln!(text, "{LOOPBACK} {name}");
    }
    if let Some(address) = of_host {
        let _ = writeln!(text, "{address} {HOST_NAME}");
    }
    base(&mut text, effective, host, rootfs, placement, &names);
    text
}

/// The host's address as the container sees it.
fn address_of_host<'a>(effective: &Effective, placement: &'a Placement) -> Option<&'a IpAddr> {
    match effective.request.network_mode {
        NetworkMode::Host => Some(&LOOPBACK),
        _ => placement.networks.iter().find_map(|net| net.host.as_ref()),
    }
}

/// The entries of the file it begins with, without names that have a line already: an entry for the
/// host's own name, say, would send the container to itself.
fn base(
    text: &mut String,
    effective: &Effective,
    host: &HostFacts,
    rootfs: &RootfsFacts,
    placement: &Placement,
    own: &str,
) {
    let file = match &effective.request.base_hosts {
        BaseHosts::None => None,
        BaseHosts::Host => host.hosts.as_deref(),
        BaseHosts::Image => rootfs.hosts.as_deref(),
        BaseHosts::Path(_) => placement.base_hosts.as_deref(),
    };
    let said = |name: &str| {
        let asked = effective.request.hosts.keys().any(|asked| asked.as_str() == name);
        asked || name == "localhost" || own.split(' ').any(|own| own == name)
    };
    for (address, names) in entries(file.unwrap_or_default()) {
        let names: Vec<_> = names.into_iter().filter(|name| !said(name)).collect();
        if !names.is_empty() {
            let _ = writeln!(text, "{address} {}", names.join(" "));
        }
    }
}

/// The lines of a hosts file that are well formed, without comments; the rest is passed over.
fn entries(file: &[u8]) -> impl Iterator<Item = (IpAddr, Vec<&str>)> {
    let file = &file[..file.len().min(MAX_HOSTS_FILE)];
    file.split(|byte| *byte == b'\n').filter_map(|line| {
        let line = std::str::from_utf8(line).ok()?.split('#').next()?;
        let mut words = line.split_whitespace();
        let address = words.next()?.parse().ok()?;
        Some((address, words.filter(|name| name.parse::<DomainName>().is_ok()).collect()))
    })
}

/// Without an address of its own a container still finds itself, on loopback.
fn own_addresses(networks: &[NetworkFacts]) -> Vec<IpAddr> {
    let addresses: Vec<_> = networks.iter().flat_map(|net| &net.addresses).copied().collect();
    if addresses.is_empty() { vec![LOOPBACK] } else { addresses }
}

fn own_names(hostname: &Hostname, others: &[DomainName]) -> String {
    let mut names = vec![hostname.as_str()];
    for other in others {
        if !names.contains(&other.as_str()) {
            names.push(other.as_str());
        }
    }
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use proptest::prelude::*;

    fn build(request: &str, change: impl FnOnce(&mut Placement)) -> String {
        let mut placement = testing::placement();
        change(&mut placement);
        let (mut host, mut rootfs) = (testing::host(), testing::rootfs());
        host.hosts = Some(OF_HOST.to_vec());
        rootfs.hosts = Some(b"192.0.2.4 of-image".to_vec());
        placement.base_hosts = Some(b"192.0.2.5 of-path\r\n".to_vec());
        let effective = testing::effective(request);
        let name = "web".parse().unwrap();
        let mut warnings = Vec::new();
        let text = hosts(&effective, &host, &rootfs, &placement, &name, &mut warnings);
        assert_eq!(warnings, []);
        text.strip_prefix(LOCALHOST).expect("localhost comes first").to_owned()
    }

    const OF_HOST: &[u8] = b"# comment\n127.0.0.1\tlocalhost\n127.0.1.1 the-host web\n\n\
        192.0.2.9 db  db.example # other\nnonsense x\n::1 localhost\n192.0.2.8 a\xffb\n192.0.2.7 last";

    #[test]
    fn b17_the_file_it_begins_with() {
        let base = |request: &str| {
            let text = build(request, |_| {});
            text.split_once("host.tare.internal\n").unwrap().1.to_owned()
        };
        assert_eq!(base(""), "");
        let want = "127.0.1.1 the-host\n192.0.2.9 db db.example\n192.0.2.7 last\n";
        assert_eq!(base(r#""BaseHosts":"host""#), want);
        let asked = r#""BaseHosts":"host","Hosts":{"db":"192.0.2.1"}"#;
        let want = "127.0.1.1 the-host\n192.0.2.9 db.example\n192.0.2.7 last\n";
        assert_eq!(base(asked), want);
        assert_eq!(base(r#""BaseHosts":"image""#), "192.0.2.4 of-image\n");
        assert_eq!(base(r#""BaseHosts":"/srv/hosts""#), "192.0.2.5 of-path\n");
    }

    #[test]
    fn b17_gateways_and_neighbours() {
        let asked = build(r#""Hosts":{"up":"host-gateway"}"#, |_| {});
        assert!(asked.starts_with("10.88.0.1 up\n"), "{asked}");
        let host = build(r#""NetworkMode":"host","Hosts":{"up":"host-gateway"}"#, |_| {});
        assert!(host.starts_with("127.0.0.1 up\n"), "{host}");
        assert!(host.ends_with("127.0.0.1 host.tare.internal\n"), "{host}");
        let beside = build(r#""Hosts":{"up":"host-gateway"}"#, |placement| {
            let without = NetworkFacts::new(vec!["192.0.2.2".parse().unwrap()], None);
            placement.networks.insert(0, without);
        });
        assert!(beside.starts_with("10.88.0.1 up\n"), "the host is not on the first: {beside}");
        let joined = build("", |p| p.joined_names = vec!["sidecar".parse().unwrap()]);
        assert!(joined.contains("\n127.0.0.1 sidecar\n"), "{joined}");
        let effective = testing::effective(r#""NetworkMode":"none","Hosts":{"up":"host-gateway"}"#);
        let mut placement = testing::placement();
        placement.networks.clear();
        let error = check(&effective, &placement).unwrap_err();
        assert!(error.to_string().contains("'Hosts'"), "{error}");
    }

    #[test]
    fn own_names_and_others() {
        let bridged = build("", |_| {});
        assert_eq!(bridged, "10.88.0.2 web\n10.88.0.1 host.tare.internal\n");

        let named = build("", |placement| {
            placement.names = ["web", "www", "www"].map(|name| name.parse().unwrap()).to_vec();
            placement.networks.push(NetworkFacts::new(vec!["2001:db8::2".parse().unwrap()], None));
        });
        let want = "10.88.0.2 web www\n2001:db8::2 web www\n10.88.0.1 host.tare.internal\n";
        assert_eq!(named, want);

        let alone = build("", |placement| placement.networks.clear());
        assert_eq!(alone, "127.0.0.1 web\n");

        let asked = build(r#""Hosts":{"db":"192.0.2.7","api":"2001:db8::9"}"#, |placement| {
            placement.networks.clear();
        });
        assert_eq!(asked, "2001:db8::9 api\n192.0.2.7 db\n127.0.0.1 web\n");
    }

    proptest! {
        #[test]
        fn every_line_is_an_address_and_names(
            names in proptest::collection::vec(any::<String>(), 0..4),
            plain in proptest::collection::vec("[a-z.]{1,5}", 0..4),
        ) {
            let count = build("", |placement| {
                placement.names =
                    names.iter().chain(&plain).filter_map(|name| name.parse().ok()).collect();
            });
            prop_assert_eq!(count.lines().count(), 2);
            for line in count.lines() {
                let mut words = line.split(' ');
                prop_assert!(words.next().unwrap().parse::<IpAddr>().is_ok());
                prop_assert!(words.all(|name| name.parse::<DomainName>().is_ok()));
            }
        }
    }
}
