//! What a container asks for on one network.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::lease::{self, Holder, InvalidAddress};
use crate::{Attachment, Driver, InterfaceName, InvalidName, Link, MacAddress, Member, Network};

/// Most aliases of one container on one network.
pub const MAX_ALIASES: usize = 64;

/// Another name of a container on a network: a host name as RFC 1123 has it, in small letters.
///
/// 1 to 253 bytes of labels separated by dots, each 1 to 63 bytes of `[a-z0-9_-]` that neither
/// begins nor ends with `-`. Capitals are taken for small letters, as the DNS takes them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Alias(Box<str>);

impl Alias {
    /// Longest accepted name, in bytes.
    pub const MAX_LEN: usize = 253;
    /// Longest accepted part between dots, in bytes.
    pub const MAX_LABEL_LEN: usize = 63;

    /// The name in small letters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Alias {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !(1..=Self::MAX_LEN).contains(&text.len()) {
            return Err(InvalidName::Length { got: text.len(), max: Self::MAX_LEN });
        }
        let mut start = 0;
        for label in text.split('.') {
            check_label(label, start)?;
            start += label.len() + 1;
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

/// `start` is where the label begins in the name.
fn check_label(label: &str, start: usize) -> Result<(), InvalidName> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if let Some(at) = label.bytes().position(|byte| !allowed(byte)) {
        return Err(InvalidName::Byte { at: start + at });
    }
    if !(1..=Alias::MAX_LABEL_LEN).contains(&label.len()) {
        return Err(InvalidName::Length { got: label.len(), max: Alias::MAX_LABEL_LEN });
    }
    match (label.starts_with('-'), label.ends_with('-')) {
        (true, _) => Err(InvalidName::Byte { at: start }),
        (_, true) => Err(InvalidName::Byte { at: start + label.len() - 1 }),
        _ => Ok(()),
    }
}

impl TryFrom<String> for Alias {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Alias> for String {
    fn from(alias: Alias) -> Self {
        alias.0.into()
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a container asks for on one network; all of it can be left open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Addresses, at most one in each subnet.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Hardware address; the one that belongs to its first address if absent.
    #[serde(default)]
    pub mac: Option<MacAddress>,
    /// Name of the interface; the first of `eth0`, `eth1` ... that is free if absent.
    #[serde(default)]
    pub interface: Option<InterfaceName>,
    /// Other names of the container.
    #[serde(default)]
    pub aliases: Vec<Alias>,
}

/// What is wrong with a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidConnection {
    /// The address is in none of the network's subnets.
    #[error("address {address} is in no subnet of the network")]
    Outside {
        /// The address.
        address: IpAddr,
    },
    /// Two addresses are in one subnet.
    #[error("two addresses are in subnet {subnet}")]
    TwoInOne {
        /// The subnet.
        subnet: IpNet,
    },
    /// No container can have the address, or another one has it.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// An alias is there twice.
    #[error("alias {alias} is there twice")]
    AliasTwice {
        /// The alias.
        alias: Alias,
    },
    /// More than [`MAX_ALIASES`] aliases.
    #[error("{count} aliases are more than {MAX_ALIASES}")]
    TooManyAliases {
        /// Aliases given.
        count: usize,
    },
    /// The interface's name is that of the loopback, or another network's in the container.
    #[error("interface {interface} is there already")]
    InterfaceTaken {
        /// The interface.
        interface: InterfaceName,
    },
}

impl Connection {
    /// Refuses what cannot be had on `network`; `holder` tells who has an address, if anybody.
    ///
    /// # Errors
    ///
    /// [`InvalidConnection`], but not `InterfaceTaken`.
    pub fn check(
        &self,
        network: &Network,
        holder: impl Fn(IpAddr) -> Option<Holder>,
    ) -> Result<(), InvalidConnection> {
        let mut used = BTreeSet::new();
        for &address in &self.addresses {
            let subnet =
                network.subnet_of(address).ok_or(InvalidConnection::Outside { address })?;
            lease::check_static(&subnet.pool(std::time::Duration::ZERO), address, holder(address))?;
            if !used.insert(subnet.subnet()) {
                return Err(InvalidConnection::TwoInOne { subnet: subnet.subnet() });
            }
        }
        check_aliases(&self.aliases)
    }

    /// The name of its interface beside those the container has.
    ///
    /// # Errors
    ///
    /// [`InvalidConnection::InterfaceTaken`].
    pub fn interface(&self, taken: &[InterfaceName]) -> Result<InterfaceName, InvalidConnection> {
        match &self.interface {
            None => Ok(next_interface(taken)),
            Some(name) if taken.contains(name) || *name == InterfaceName::loopback() => {
                Err(InvalidConnection::InterfaceTaken { interface: name.clone() })
            }
            Some(name) => Ok(name.clone()),
        }
    }
}

fn check_aliases(aliases: &[Alias]) -> Result<(), InvalidConnection> {
    if aliases.len() > MAX_ALIASES {
        return Err(InvalidConnection::TooManyAliases { count: aliases.len() });
    }
    let mut seen = BTreeSet::new();
    match aliases.iter().find(|alias| !seen.insert(*alias)) {
        Some(alias) => Err(InvalidConnection::AliasTwice { alias: alias.clone() }),
        None => Ok(()),
    }
}

/// The first of `eth0`, `eth1` ... that is not `taken`.
pub fn next_interface(taken: &[InterfaceName]) -> InterfaceName {
    let named = |number| format!("eth{number}").parse().expect("a name of at most 15 bytes");
    // One of them more than are taken: not all of these can be.
    let free = (0..=taken.len()).map(named).find(|name| !taken.contains(name));
    free.expect("one is free")
}

impl Network {
    /// A container's interface on this network, with an address in each of its subnets.
    ///
    /// `host_interface` is the host's end of the veth pair; macvlan has none. It is the first one.
    pub fn attachment(
        &self,
        interface: InterfaceName,
        host_interface: InterfaceName,
        mac: MacAddress,
        addresses: &[IpAddr],
    ) -> Attachment {
        let prefixed = |&address: &IpAddr| Some(self.subnet_of(address)?.with_prefix(address));
        let link = match self.driver().clone() {
            Driver::Bridge { interface: bridge, vlan } => {
                Link::Bridge { bridge, host_interface, vlan }
            }
            Driver::Macvlan { parent, mode } => Link::Macvlan { parent, mode, mtu: self.mtu() },
        };
        Attachment {
            link,
            interface,
            mac,
            addresses: addresses.iter().filter_map(prefixed).collect(),
            gateways: self.default_gateways(),
            position: 0,
        }
    }

    /// The container's place in this network, for the firewall; none in macvlan, which goes past.
    pub fn member(&self, addresses: &[IpAddr]) -> Option<Member> {
        let rules = self.rules()?;
        Some(Member { bridge: rules.bridge, addresses: addresses.to_vec(), reach: rules.reach })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InvalidName, NetworkOptions, Reach, SubnetOptions};
    use proptest::prelude::*;

    fn network() -> Network {
        let subnets = ["10.88.0.0/24", "fd00:88::/64"];
        Network::new(&NetworkOptions {
            driver: Driver::Bridge { interface: "tare0".parse().unwrap(), vlan: None },
            subnets: subnets.map(|net| SubnetOptions::new(net.parse().unwrap())).to_vec(),
            mtu: None,
            reach: Reach::Open,
            names: crate::Names::Answered,
        })
        .unwrap()
    }

    #[test]
    fn aliases_are_host_names() {
        use InvalidName::{Byte, Length};
        let label = "a".repeat(63);
        let long = "a".repeat(64);
        let longest = [&*label, &*label, &*label, &label[..61]].join(".");
        let too_long = format!("{longest}a");
        let cases = [
            ("usual", "web", Ok("web")),
            ("capitals", "WeB-1", Ok("web-1")),
            ("dots and underscores", "a_b.c", Ok("a_b.c")),
            ("longest label", label.as_str(), Ok(label.as_str())),
            ("longest", longest.as_str(), Ok(longest.as_str())),
            ("too long", too_long.as_str(), Err(Length { got: 254, max: 253 })),
            ("long label", long.as_str(), Err(Length { got: 64, max: 63 })),
            ("empty", "", Err(Length { got: 0, max: 253 })),
            ("empty label", "a..b", Err(Length { got: 0, max: 63 })),
            ("dot at the end", "a.", Err(Length { got: 0, max: 63 })),
            ("dash first", "a.-b", Err(Byte { at: 2 })),
            ("dash last", "a-.b", Err(Byte { at: 1 })),
            ("newline", "a\nb", Err(Byte { at: 1 })),
            ("space", "a b", Err(Byte { at: 1 })),
            ("not ASCII", "\u{e9}", Err(Byte { at: 0 })),
        ];
        for (about, input, want) in cases {
            let got = input.parse::<Alias>();
            assert_eq!(got.as_ref().map(Alias::as_str).map_err(|e| *e), want, "{about}");
        }
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        use InvalidConnection as E;
        type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], Result<(), E>);
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        let alias = |text: &str| -> Alias { text.parse().unwrap() };
        let taken = |address| (address == ip("10.88.0.9")).then(|| Holder::new("db"));
        let subnet = "10.88.0.0/24".parse().unwrap();
        let held = InvalidAddress::Taken { address: ip("10.88.0.9"), holder: Holder::new("db") };
        let cases: Vec<Case<'_>> = vec![
            ("nothing", &[], &[], Ok(())),
            ("both families", &["10.88.0.2", "fd00:88::2"], &["a", "b"], Ok(())),
            ("outside", &["10.89.0.2"], &[], Err(E::Outside { address: ip("10.89.0.2") })),
            ("two in one", &["10.88.0.2", "10.88.0.3"], &[], Err(E::TwoInOne { subnet })),
            ("taken", &["10.88.0.9"], &[], Err(held.into())),
            ("alias twice", &[], &["web", "WEB"], Err(E::AliasTwice { alias: alias("web") })),
        ];
        for (about, addresses, aliases, want) in cases {
            let connection = Connection {
                addresses: addresses.iter().map(|text| ip(text)).collect(),
                aliases: aliases.iter().map(|text| alias(text)).collect(),
                ..Connection::default()
            };
            assert_eq!(connection.check(&network(), taken), want, "{about}");
        }
        let many: Vec<_> = (0..65).map(|n| alias(&format!("a{n}"))).collect();
        let connection = Connection { aliases: many, ..Connection::default() };
        assert_eq!(connection.check(&network(), taken), Err(E::TooManyAliases { count: 65 }));
    }

    #[test]
    fn interfaces_get_the_first_free_name() {
        let name = |text: &str| -> InterfaceName { text.parse().unwrap() };
        let taken = [name("eth0"), name("eth2"), name("lan")];
        let ask = |interface: Option<&str>| {
            let connection = Connection { interface: interface.map(name), ..Connection::default() };
            connection.interface(&taken)
        };
        let refused = |text| Err(InvalidConnection::InterfaceTaken { interface: name(text) });
        assert_eq!(ask(None), Ok(name("eth1")));
        assert_eq!(ask(Some("wan")), Ok(name("wan")));
        assert_eq!(ask(Some("lan")), refused("lan"));
        assert_eq!(ask(Some("lo")), refused("lo"));
    }

    #[test]
    fn an_attachment_has_the_networks_prefixes_and_gateways() {
        let addresses = ["10.88.0.2", "fd00:88::2"].map(|text| text.parse().unwrap());
        let attachment = network().attachment(
            "eth0".parse().unwrap(),
            "ve1".parse().unwrap(),
            MacAddress::for_address(addresses[0]),
            &addresses,
        );
        assert_eq!(attachment.mac.to_string(), "02:74:0a:58:00:02");
        let nets: Vec<_> = attachment.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(nets, ["10.88.0.2/24", "fd00:88::2/64"]);
        let gateways: Vec<_> = attachment.gateways.iter().map(ToString::to_string).collect();
        assert_eq!(gateways, ["10.88.0.1", "fd00:88::1"]);
    }

    proptest! {
        #[test]
        fn an_accepted_alias_fits_on_a_line_of_a_hosts_file(text in any::<String>()) {
            if let Ok(alias) = text.parse::<Alias>() {
                let fits = |c: char| c.is_ascii_graphic() && c != '#' && !c.is_ascii_uppercase();
                prop_assert!(alias.as_str().chars().all(fits));
            }
        }
    }
}
