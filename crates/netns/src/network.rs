//! What a network is, parsed once: nothing that could not be built is expressible.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::lease::{InvalidPool, Pool};
use crate::{Bridge, Driver, IpFamily, NetworkRules, Reach};

/// Most subnets of one network: every container gets an address in each.
pub const MAX_SUBNETS: usize = 16;

/// Smallest and largest MTU in bytes: what IPv4 asks of every host is 68 (RFC 791), IPv6 1,280
/// (RFC 8200), and a packet's length has 16 bits.
const MTU: std::ops::RangeInclusive<u32> = 68..=65_535;
const MIN_MTU_IPV6: u32 = 1280;

/// Whether names of containers are answered on a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Names {
    /// They are.
    #[default]
    Answered,
    /// They are not.
    Off,
}

/// A range of addresses, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRange {
    /// The lowest.
    pub first: IpAddr,
    /// The highest.
    pub last: IpAddr,
}

/// A subnet as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetOptions {
    /// The subnet; bits beyond its prefix do not matter.
    pub subnet: IpNet,
    /// The way out; the first host address if absent.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// What containers get their addresses from if they do not ask for one; all if absent.
    #[serde(default)]
    pub range: Option<AddressRange>,
}

impl SubnetOptions {
    /// A subnet with the first host address as its gateway.
    pub fn new(subnet: IpNet) -> Self {
        Self { subnet, gateway: None, range: None }
    }
}

/// A network as it is asked for; [`Network`] is one that can be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkOptions {
    /// What it is made of.
    pub driver: Driver,
    /// Its subnets, each of which gives every container an address.
    pub subnets: Vec<SubnetOptions>,
    /// Largest packet in bytes; the kernel's default, or the parent's, if absent.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// How far its containers get.
    #[serde(default)]
    pub reach: Reach,
    /// Whether their names are answered.
    #[serde(default)]
    pub names: Names,
}

/// What is wrong with a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidNetwork {
    /// No subnet.
    #[error("a network needs a subnet")]
    NoSubnet,
    /// More than [`MAX_SUBNETS`] subnets.
    #[error("{count} subnets are more than {MAX_SUBNETS}")]
    TooManySubnets {
        /// Subnets asked for.
        count: usize,
    },
    /// Two of its subnets overlap.
    #[error("subnets {first} and {second} overlap")]
    Overlap {
        /// The one.
        first: IpNet,
        /// The other.
        second: IpNet,
    },
    /// Addresses that no host has: multicast, loopback, link-local and "this network".
    #[error("subnet {subnet} has addresses that no container can have")]
    Reserved {
        /// The subnet.
        subnet: IpNet,
    },
    /// No room for containers, a gateway outside, or a range that is none.
    #[error(transparent)]
    Pool(#[from] InvalidPool),
    /// The MTU is too small or too large.
    #[error("MTU {mtu} is not within {min} to {max} bytes")]
    Mtu {
        /// The MTU.
        mtu: u32,
        /// The smallest possible.
        min: u32,
        /// The largest possible.
        max: u32,
    },
    /// The number of a VLAN is not within 1 to 4094.
    #[error("number of a VLAN is not within 1 to 4094")]
    Vlan,
    /// There is no such mode of macvlan.
    #[error("mode of a macvlan network is none of bridge, private, vepa and passthru")]
    Mode,
    /// Macvlan goes past the host's firewall.
    #[error("a macvlan network cannot be isolated")]
    IsolatedMacvlan,
}

/// A subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    net: IpNet,
    gateway: IpAddr,
    range: Option<AddressRange>,
}

impl Subnet {
    fn new(options: &SubnetOptions) -> Result<Self, InvalidNetwork> {
        let subnet = options.subnet.trunc();
        if is_reserved(&subnet) {
            return Err(InvalidNetwork::Reserved { subnet });
        }
        let gateway = options.gateway.or_else(|| Pool::first_host(subnet));
        let gateway = gateway.ok_or(InvalidPool::TooSmall { subnet })?;
        let subnet = Self { net: subnet, gateway, range: options.range };
        subnet.try_pool(Duration::ZERO)?;
        Ok(subnet)
    }

    /// The subnet itself.
    pub fn subnet(&self) -> IpNet {
        self.net
    }

    /// The way out.
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// What containers get their addresses from if they do not ask for one.
    pub fn range(&self) -> Option<AddressRange> {
        self.range
    }

    /// `address` with the subnet's prefix length.
    pub fn with_prefix(&self, address: IpAddr) -> IpNet {
        let full = IpNet::from(address);
        IpNet::new(address, self.net.prefix_len()).unwrap_or(full)
    }

    /// What addresses for containers are chosen from; a freed one rests for `quarantine`.
    pub fn pool(&self, quarantine: Duration) -> Pool {
        self.try_pool(quarantine).expect("this was tried in `new`")
    }

    fn try_pool(&self, quarantine: Duration) -> Result<Pool, InvalidPool> {
        let pool = Pool::new(self.net, self.gateway, quarantine)?;
        match self.range {
            None => Ok(pool),
            Some(AddressRange { first, last }) => pool.with_range(first, last),
        }
    }
}

/// Subnets that overlap these have addresses that mean something else.
fn is_reserved(subnet: &IpNet) -> bool {
    let reserved = match subnet {
        IpNet::V4(_) => &["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"][..],
        // `::/8` has the loopback, "unspecified" and the forms that IPv4 addresses take.
        IpNet::V6(_) => &["::/8", "fe80::/10", "ff00::/8"],
    };
    reserved.iter().filter_map(|net| net.parse().ok()).any(|net| overlap(&net, subnet))
}

/// Whether two networks have addresses in common.
pub(crate) fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// A network that can be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NetworkOptions", into = "NetworkOptions")]
pub struct Network {
    driver: Driver,
    subnets: Vec<Subnet>,
    mtu: Option<u32>,
    reach: Reach,
    names: Names,
}

impl Network {
    /// The network of these options, if it can be had.
    ///
    /// # Errors
    ///
    /// [`InvalidNetwork`].
    pub fn new(options: &NetworkOptions) -> Result<Self, InvalidNetwork> {
        let NetworkOptions { driver, subnets, mtu, reach, names } = options;
        match subnets.len() {
            0 => return Err(InvalidNetwork::NoSubnet),
            1..=MAX_SUBNETS => {}
            count => return Err(InvalidNetwork::TooManySubnets { count }),
        }
        if matches!(driver, Driver::Macvlan { .. }) && *reach == Reach::Isolated {
            return Err(InvalidNetwork::IsolatedMacvlan);
        }
        let subnets: Vec<Subnet> = subnets.iter().map(Subnet::new).collect::<Result<_, _>>()?;
        check_overlap(&subnets)?;
        let network =
            Self { driver: driver.clone(), subnets, mtu: *mtu, reach: *reach, names: *names };
        network.check_mtu()?;
        Ok(network)
    }

    fn check_mtu(&self) -> Result<(), InvalidNetwork> {
        let max = *MTU.end();
        let min = if self.has(IpFamily::V6) { MIN_MTU_IPV6 } else { *MTU.start() };
        match self.mtu {
            Some(mtu) if !(min..=max).contains(&mtu) => Err(InvalidNetwork::Mtu { mtu, min, max }),
            _ => Ok(()),
        }
    }

    /// What it is made of.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// Its subnets, at least one.
    pub fn subnets(&self) -> &[Subnet] {
        &self.subnets
    }

    /// Largest packet in bytes.
    pub fn mtu(&self) -> Option<u32> {
        self.mtu
    }

    /// How far its containers get.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// Whether their names are answered.
    pub fn names(&self) -> Names {
        self.names
    }

    /// Whether it has a subnet of that family.
    pub fn has(&self, family: IpFamily) -> bool {
        self.subnets.iter().any(|subnet| IpFamily::of(subnet.gateway) == family)
    }

    /// Whether the host has to forward packets of that family for it.
    pub fn is_forwarded(&self, family: IpFamily) -> bool {
        self.reach != Reach::Internal && self.has(family)
    }

    /// The subnet that has `address`.
    pub fn subnet_of(&self, address: IpAddr) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.net.contains(&address))
    }

    /// The first of its subnets that overlaps one of `others`, and that one: for the subnets of
    /// other networks and [`host_prefixes`](crate::host_prefixes).
    pub fn overlap(&self, others: &[IpNet]) -> Option<(IpNet, IpNet)> {
        self.subnets.iter().find_map(|subnet| {
            let other = others.iter().find(|other| overlap(&subnet.net, other))?;
            Some((subnet.net, *other))
        })
    }

    /// The bridge that has to be on the host; none for macvlan.
    pub fn bridge(&self) -> Option<Bridge> {
        let Driver::Bridge { interface, vlan } = &self.driver else { return None };
        Some(Bridge {
            name: interface.clone(),
            gateways: self.subnets.iter().map(|s| s.with_prefix(s.gateway)).collect(),
            mtu: self.mtu,
            vlan: *vlan,
        })
    }

    /// What the firewall has to know of it; nothing for macvlan, which goes past it.
    pub fn rules(&self) -> Option<NetworkRules> {
        let Driver::Bridge { interface, .. } = &self.driver else { return None };
        Some(NetworkRules { bridge: interface.clone(), reach: self.reach })
    }

    /// The next hops of its containers' default routes: the first gateway of each family, none if
    /// nothing leaves the network.
    pub fn default_gateways(&self) -> Vec<IpAddr> {
        if self.reach == Reach::Internal {
            return Vec::new();
        }
        self.first_gateways().collect()
    }

    /// Where containers find the host on it, whether or not anything leaves the network; nowhere on
    /// macvlan, whose gateways are other machines.
    pub fn host_address(&self) -> Option<IpAddr> {
        match self.driver {
            Driver::Bridge { .. } => self.first_gateways().next(),
            Driver::Macvlan { .. } => None,
        }
    }

    /// That of IPv4 comes first.
    fn first_gateways(&self) -> impl Iterator<Item = IpAddr> {
        let first = |family| {
            let mut gateways = self.subnets.iter().map(Subnet::gateway);
            gateways.find(|&gateway| IpFamily::of(gateway) == family)
        };
        [IpFamily::V4, IpFamily::V6].into_iter().filter_map(first)
    }
}

fn check_overlap(subnets: &[Subnet]) -> Result<(), InvalidNetwork> {
    for (at, first) in subnets.iter().enumerate() {
        let overlapping = |second: &&Subnet| overlap(&first.net, &second.net);
        if let Some(second) = subnets[at + 1..].iter().find(overlapping) {
            return Err(InvalidNetwork::Overlap { first: first.net, second: second.net });
        }
    }
    Ok(())
}

impl TryFrom<NetworkOptions> for Network {
    type Error = InvalidNetwork;

    fn try_from(options: NetworkOptions) -> Result<Self, Self::Error> {
        Self::new(&options)
    }
}

impl From<Network> for NetworkOptions {
    fn from(network: Network) -> Self {
        let subnets = network.subnets.into_iter().map(|subnet| SubnetOptions {
            subnet: subnet.net,
            gateway: Some(subnet.gateway),
            range: subnet.range,
        });
        Self {
            driver: network.driver,
            subnets: subnets.collect(),
            mtu: network.mtu,
            reach: network.reach,
            names: network.names,
        }
    }
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
