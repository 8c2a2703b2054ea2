//! Which address a new container gets. Pure: the caller keeps the leases and reads the clock.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

/// The addresses of one subnet that containers can have.
///
/// Without the gateway, the network address (in IPv6 the subnet-router anycast address) and in
/// IPv4 the broadcast address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    subnet: IpNet,
    gateway: IpAddr,
    quarantine: Duration,
}

/// An address that a container had once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freed {
    /// The address.
    pub address: IpAddr,
    /// When it was given back.
    pub at: SystemTime,
}

/// The answer of [`Pool::choose`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// An address that was never used; it becomes the new `highest`.
    Fresh(IpAddr),
    /// The oldest freed address; its quarantine is over.
    Reused(IpAddr),
    /// Nothing now; the oldest freed address can be had after this time.
    Wait(Duration),
    /// Every address is in use.
    Exhausted,
}

/// The subnet cannot serve containers behind that gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPool {
    /// The gateway is not one of the addresses that hosts can have in the subnet.
    #[error("gateway {gateway} is not a host address of subnet {subnet}")]
    Gateway {
        /// The subnet.
        subnet: IpNet,
        /// The gateway given.
        gateway: IpAddr,
    },
    /// Beside the gateway there is no address left.
    #[error("subnet {subnet} has no room for a container")]
    TooSmall {
        /// The subnet.
        subnet: IpNet,
    },
}

impl Pool {
    /// The pool of `subnet`, in which `gateway` is taken and a freed address rests for
    /// `quarantine`, so that what a client still sends to the old tenant never reaches the next.
    ///
    /// # Errors
    ///
    /// [`InvalidPool`] if the gateway is no host address of the subnet or nothing else is.
    pub fn new(subnet: IpNet, gateway: IpAddr, quarantine: Duration) -> Result<Self, InvalidPool> {
        let pool = Self { subnet: subnet.trunc(), gateway, quarantine };
        let (first, last) = pool.bounds();
        if first >= last {
            return Err(InvalidPool::TooSmall { subnet });
        }
        if !subnet.contains(&gateway) || !(first..=last).contains(&number(gateway)) {
            return Err(InvalidPool::Gateway { subnet, gateway });
        }
        Ok(pool)
    }

    /// Whether a container can have `address`.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (first, last) = self.bounds();
        self.subnet.contains(&address)
            && address != self.gateway
            && (first..=last).contains(&number(address))
    }

    /// The next address to hand out, in constant time.
    ///
    /// `highest` is the highest address ever handed out in this pool (or one known to be taken:
    /// the choice then goes on after it), `oldest_freed` the address that was given back first of
    /// those now free. Addresses never used come first, in rising order.
    pub fn choose(
        &self,
        highest: Option<IpAddr>,
        oldest_freed: Option<Freed>,
        now: SystemTime,
    ) -> Choice {
        if let Some(address) = self.fresh(highest) {
            return Choice::Fresh(address);
        }
        match oldest_freed.filter(|freed| self.contains(freed.address)) {
            None => Choice::Exhausted,
            Some(freed) => match self.rest(freed, now) {
                Duration::ZERO => Choice::Reused(freed.address),
                rest => Choice::Wait(rest),
            },
        }
    }

    /// The lowest address after `highest` that a container can have.
    fn fresh(&self, highest: Option<IpAddr>) -> Option<IpAddr> {
        let (first, last) = self.bounds();
        let after = highest.map_or(Some(0), |address| number(address).checked_add(1))?;
        let mut candidate = after.max(first);
        if candidate == number(self.gateway) {
            candidate = candidate.checked_add(1)?;
        }
        (candidate <= last).then(|| self.address(candidate))
    }

    /// How long `freed` still has to rest. A clock set back counts as no time gone by.
    fn rest(&self, freed: Freed, now: SystemTime) -> Duration {
        let rested = now.duration_since(freed.at).unwrap_or_default();
        self.quarantine.saturating_sub(rested)
    }

    /// First and last host address as numbers; empty (first > last) where there is none.
    fn bounds(&self) -> (u128, u128) {
        let (network, last) = (number(self.subnet.network()), number(self.subnet.broadcast()));
        match self.subnet {
            IpNet::V4(_) => (network + 1, last.saturating_sub(1)),
            IpNet::V6(_) => (network.saturating_add(1), last),
        }
    }

    fn address(&self, number: u128) -> IpAddr {
        match self.subnet {
            IpNet::V4(_) => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
            IpNet::V6(_) => Ipv6Addr::from(number).into(),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const QUARANTINE: Duration = Duration::from_secs(60);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn pool(subnet: &str, gateway: &str) -> Result<Pool, InvalidPool> {
        Pool::new(subnet.parse().unwrap(), ip(gateway), QUARANTINE)
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_pool_needs_a_gateway_and_room() {
        let cases = [
            ("usual", "10.88.0.0/24", "10.88.0.1", true),
            ("host bits set", "10.88.0.9/24", "10.88.0.1", true),
            ("smallest", "10.88.0.0/30", "10.88.0.2", true),
            ("point to point", "10.88.0.0/31", "10.88.0.1", false),
            ("one address", "10.88.0.0/32", "10.88.0.0", false),
            ("gateway outside", "10.88.0.0/24", "10.88.1.1", false),
            ("gateway is the network", "10.88.0.0/24", "10.88.0.0", false),
            ("gateway is the broadcast", "10.88.0.0/24", "10.88.0.255", false),
            ("gateway of another family", "10.88.0.0/24", "::a58:1", false),
            ("everything", "0.0.0.0/0", "10.88.0.1", true),
            ("IPv6", "fd00::/64", "fd00::1", true),
            ("IPv6, all of it", "::/0", "fd00::1", true),
            ("IPv6, one address", "fd00::/128", "fd00::", false),
        ];
        for (about, subnet, gateway, want) in cases {
            assert_eq!(pool(subnet, gateway).is_ok(), want, "{about}");
        }
    }

    #[test]
    fn never_used_addresses_come_first_then_the_oldest_rested_one() {
        let pool = pool("10.88.0.0/29", "10.88.0.3").unwrap();
        let freed = Some(Freed { address: ip("10.88.0.1"), at: at(100) });
        let cases = [
            ("empty", None, None, Choice::Fresh(ip("10.88.0.1"))),
            ("gateway is skipped", Some("10.88.0.2"), None, Choice::Fresh(ip("10.88.0.4"))),
            ("fresh before freed", Some("10.88.0.5"), freed, Choice::Fresh(ip("10.88.0.6"))),
            ("broadcast is skipped", Some("10.88.0.6"), None, Choice::Exhausted),
            ("resting", Some("10.88.0.6"), freed, Choice::Wait(Duration::from_secs(10))),
            ("mark below the subnet", Some("10.0.0.9"), None, Choice::Fresh(ip("10.88.0.1"))),
            ("mark above the subnet", Some("10.99.0.9"), None, Choice::Exhausted),
        ];
        for (about, highest, freed, want) in cases {
            assert_eq!(pool.choose(highest.map(ip), freed, at(150)), want, "{about}");
        }
        let full = Some(ip("10.88.0.6"));
        assert_eq!(pool.choose(full, freed, at(160)), Choice::Reused(ip("10.88.0.1")));
        let clock_set_back = pool.choose(full, freed, at(10));
        assert_eq!(clock_set_back, Choice::Wait(QUARANTINE));
        let foreign = Some(Freed { address: ip("10.99.0.1"), at: at(0) });
        assert_eq!(pool.choose(full, foreign, at(999)), Choice::Exhausted);
    }

    proptest! {
        #[test]
        fn handing_out_to_the_end_gives_every_host_address_once(
            prefix_len in 24_u8..=30, gateway in 0_usize..500,
        ) {
            let subnet = IpNet::new(ip("10.88.0.0"), prefix_len).unwrap();
            let hosts: Vec<IpAddr> = subnet.hosts().collect();
            let gateway = hosts[gateway % hosts.len()];
            let pool = Pool::new(subnet, gateway, QUARANTINE).unwrap();
            let mut given = Vec::new();
            while let Choice::Fresh(address) = pool.choose(given.last().copied(), None, at(0)) {
                prop_assert!(given.len() < hosts.len(), "it ends");
                given.push(address);
            }
            prop_assert!(given.is_sorted());
            let given: BTreeSet<_> = given.into_iter().collect();
            let want = hosts.into_iter().filter(|&host| host != gateway).collect();
            prop_assert_eq!(given, want);
        }
    }
}
