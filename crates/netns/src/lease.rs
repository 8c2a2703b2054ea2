//! Which address a new container gets. Pure: the caller keeps the leases and reads the clock.

use std::fmt;
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
    /// First and last address that are chosen, as numbers.
    range: (u128, u128),
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
    /// A range that ends before it begins.
    #[error("range of addresses from {first} to {last} is backwards")]
    Backwards {
        /// Its first address.
        first: IpAddr,
        /// Its last address.
        last: IpAddr,
    },
    /// A range with addresses that containers cannot have in the subnet.
    #[error("range of addresses from {first} to {last} is not within subnet {subnet}")]
    RangeOutside {
        /// The subnet.
        subnet: IpNet,
        /// Its first address.
        first: IpAddr,
        /// Its last address.
        last: IpAddr,
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
        let subnet = subnet.trunc();
        let (first, last) = bounds(subnet);
        let pool = Self { subnet, gateway, range: (first, last), quarantine };
        if first >= last {
            return Err(InvalidPool::TooSmall { subnet });
        }
        if !subnet.contains(&gateway) || !(first..=last).contains(&number(gateway)) {
            return Err(InvalidPool::Gateway { subnet, gateway });
        }
        Ok(pool)
    }

    /// The same, but only addresses from `first` to `last` are chosen; a container that asks for
    /// one can still have any.
    ///
    /// # Errors
    ///
    /// [`InvalidPool::Backwards`]; [`InvalidPool::RangeOutside`], [`InvalidPool::TooSmall`] if the
    /// gateway is all there is in it.
    pub fn with_range(self, first: IpAddr, last: IpAddr) -> Result<Self, InvalidPool> {
        let subnet = self.subnet;
        let (lowest, highest) = bounds(subnet);
        let within =
            |address| subnet.contains(&address) && (lowest..=highest).contains(&number(address));
        if !within(first) || !within(last) {
            return Err(InvalidPool::RangeOutside { subnet, first, last });
        }
        let range = (number(first), number(last));
        if range.0 > range.1 {
            return Err(InvalidPool::Backwards { first, last });
        }
        if range.0 == range.1 && first == self.gateway {
            return Err(InvalidPool::TooSmall { subnet });
        }
        Ok(Self { range, ..self })
    }

    /// The first address that a host can have in `subnet`, the usual gateway.
    pub fn first_host(subnet: IpNet) -> Option<IpAddr> {
        let (first, last) = bounds(subnet);
        (first <= last).then(|| address(subnet, first))
    }

    /// Whether `address` is among those that are chosen.
    pub fn offers(&self, address: IpAddr) -> bool {
        let (first, last) = self.range;
        self.contains(address) && (first..=last).contains(&number(address))
    }

    /// Whether a container can have `address`.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (first, last) = bounds(self.subnet);
        self.subnet.contains(&address)
            && address != self.gateway
            && (first..=last).contains(&number(address))
    }

    /// The next address to hand out, in constant time.
    ///
    /// `highest` is the highest address ever handed out in this pool (or one known to be taken:
    /// the choice then goes on after it), `oldest_freed` the address that was given back first of
    /// those now free. That comes first once it has rested, so that no more addresses are ever used
    /// than are had or rest at one time; then those never used, in rising order.
    pub fn choose(
        &self,
        highest: Option<IpAddr>,
        oldest_freed: Option<Freed>,
        now: SystemTime,
    ) -> Choice {
        let known = |address| {
            let in_order = highest.is_some_and(|highest| number(address) <= number(highest));
            Ok::<_, std::convert::Infallible>(in_order)
        };
        match self.choose_beside(highest, known, oldest_freed, now) {
            Ok(choice) => choice,
            Err(never) => match never {},
        }
    }

    /// The same where some addresses are not handed out in order, but asked for.
    ///
    /// `mark` is the highest address ever *chosen*, whatever was asked for; `is_known` tells
    /// whether somebody has or had an address. One that was passed over while it was known is
    /// handed out when all after `mark` are.
    ///
    /// # Errors
    ///
    /// What `is_known` fails with.
    pub fn choose_beside<E>(
        &self,
        mark: Option<IpAddr>,
        is_known: impl FnMut(IpAddr) -> Result<bool, E>,
        oldest_freed: Option<Freed>,
        now: SystemTime,
    ) -> Result<Choice, E> {
        let otherwise = match oldest_freed.filter(|freed| self.offers(freed.address)) {
            None => Choice::Exhausted,
            Some(freed) => match self.rest(freed, now) {
                Duration::ZERO => return Ok(Choice::Reused(freed.address)),
                rest => Choice::Wait(rest),
            },
        };
        Ok(self.fresh(mark, is_known)?.map_or(otherwise, Choice::Fresh))
    }

    /// The lowest address of the range after `mark` that nobody is known to have had; else the lowest.
    fn fresh<E>(
        &self,
        mark: Option<IpAddr>,
        mut is_known: impl FnMut(IpAddr) -> Result<bool, E>,
    ) -> Result<Option<IpAddr>, E> {
        let (first, last) = self.range;
        let after = mark.map_or(first, |mark| number(mark).saturating_add(1).max(first));
        for candidate in (after..=last).chain(first..after.min(last.saturating_add(1))) {
            let address = address(self.subnet, candidate);
            if address != self.gateway && !is_known(address)? {
                return Ok(Some(address));
            }
        }
        Ok(None)
    }

    /// How long `freed` still has to rest. A clock set back counts as no time gone by.
    fn rest(&self, freed: Freed, now: SystemTime) -> Duration {
        let rested = now.duration_since(freed.at).unwrap_or_default();
        self.quarantine.saturating_sub(rested)
    }
}

/// First and last host address as numbers; empty (first > last) where there is none.
fn bounds(subnet: IpNet) -> (u128, u128) {
    let (network, last) = (number(subnet.network()), number(subnet.broadcast()));
    match subnet {
        IpNet::V4(_) => (network + 1, last.saturating_sub(1)),
        IpNet::V6(_) => (network.saturating_add(1), last),
    }
}

/// The address of that number, of the family of `subnet`.
fn address(subnet: IpNet, number: u128) -> IpAddr {
    match subnet {
        IpNet::V4(_) => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        IpNet::V6(_) => Ipv6Addr::from(number).into(),
    }
}

/// Who has an address: the name of a container, for people to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder(Box<str>);

impl Holder {
    /// The holder of that name.
    pub fn new(name: impl Into<Box<str>>) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a container cannot have the address it asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidAddress {
    /// It is not in the subnet, is its gateway, or belongs to no host.
    #[error("address {address} of subnet {subnet} is not for containers")]
    NotForContainers {
        /// The address.
        address: IpAddr,
        /// The subnet.
        subnet: IpNet,
    },
    /// Another container has it.
    #[error("address {address} is taken by {holder}")]
    Taken {
        /// The address.
        address: IpAddr,
        /// Who has it.
        holder: Holder,
    },
}

/// Refuses an address that a container asks for and cannot have; `holder` has it now.
///
/// One that nobody has can be had at once: its last tenant's connections are cut when it is freed.
///
/// # Errors
///
/// [`InvalidAddress`].
pub fn check_static(
    pool: &Pool,
    address: IpAddr,
    holder: Option<Holder>,
) -> Result<(), InvalidAddress> {
    if !pool.contains(address) {
        return Err(InvalidAddress::NotForContainers { address, subnet: pool.subnet });
    }
    match holder {
        Some(holder) => Err(InvalidAddress::Taken { address, holder }),
        None => Ok(()),
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
    fn the_oldest_rested_one_comes_first_then_never_used_addresses() {
        let pool = pool("10.88.0.0/29", "10.88.0.3").unwrap();
        let freed = Some(Freed { address: ip("10.88.0.1"), at: at(100) });
        let cases = [
            ("empty", None, None, Choice::Fresh(ip("10.88.0.1"))),
            ("gateway is skipped", Some("10.88.0.2"), None, Choice::Fresh(ip("10.88.0.4"))),
            ("fresh while it rests", Some("10.88.0.5"), freed, Choice::Fresh(ip("10.88.0.6"))),
            ("broadcast is skipped", Some("10.88.0.6"), None, Choice::Exhausted),
            ("resting", Some("10.88.0.6"), freed, Choice::Wait(Duration::from_secs(10))),
            ("mark below the subnet", Some("10.0.0.9"), None, Choice::Fresh(ip("10.88.0.1"))),
            ("mark above the subnet", Some("10.99.0.9"), None, Choice::Exhausted),
        ];
        for (about, highest, freed, want) in cases {
            assert_eq!(pool.choose(highest.map(ip), freed, at(150)), want, "{about}");
        }
        let full = Some(ip("10.88.0.6"));
        for mark in [Some(ip("10.88.0.5")), full] {
            assert_eq!(pool.choose(mark, freed, at(160)), Choice::Reused(ip("10.88.0.1")));
        }
        let clock_set_back = pool.choose(full, freed, at(10));
        assert_eq!(clock_set_back, Choice::Wait(QUARANTINE));
        let foreign = Some(Freed { address: ip("10.99.0.1"), at: at(0) });
        assert_eq!(pool.choose(full, foreign, at(999)), Choice::Exhausted);
    }

    #[test]
    fn a_range_is_within_the_subnet_and_forwards() {
        let cases = [
            ("usual", "10.88.0.10", "10.88.0.20", "ok"),
            ("one", "10.88.0.10", "10.88.0.10", "ok"),
            ("all", "10.88.0.1", "10.88.0.254", "ok"),
            ("backwards", "10.88.0.20", "10.88.0.10", "backwards"),
            ("from the network address", "10.88.0.0", "10.88.0.9", "not within"),
            ("to the broadcast address", "10.88.0.9", "10.88.0.255", "not within"),
            ("outside", "10.88.1.1", "10.88.1.9", "not within"),
            ("other family", "10.88.0.9", "fd00::1", "not within"),
            ("only the gateway", "10.88.0.1", "10.88.0.1", "no room"),
        ];
        for (about, first, last, want) in cases {
            let pool = pool("10.88.0.0/24", "10.88.0.1").unwrap().with_range(ip(first), ip(last));
            let got = pool.map_or_else(|error| error.to_string(), |_| "ok".to_owned());
            assert!(got.contains(want), "{about}: {got}");
        }
    }

    #[test]
    fn only_the_range_is_chosen_from() {
        let pool = pool("10.88.0.0/24", "10.88.0.11").unwrap();
        let pool = pool.with_range(ip("10.88.0.10"), ip("10.88.0.12")).unwrap();
        let next = |mark: Option<&str>| pool.choose(mark.map(ip), None, at(0));
        assert_eq!(next(None), Choice::Fresh(ip("10.88.0.10")));
        assert_eq!(next(Some("10.88.0.10")), Choice::Fresh(ip("10.88.0.12")), "gateway");
        assert_eq!(next(Some("10.88.0.12")), Choice::Exhausted);
        assert!(pool.contains(ip("10.88.0.99")), "who asks can have others");
        let outside = Freed { address: ip("10.88.0.99"), at: at(0) };
        let last = Some(ip("10.88.0.12"));
        assert_eq!(pool.choose(last, Some(outside), at(999)), Choice::Exhausted);
        let of_range = ["10.88.0.10", "10.88.0.11", "10.88.0.12", "10.88.0.99"];
        let offered = of_range.map(|address| pool.offers(ip(address)));
        assert_eq!(offered, [true, false, true, false], "the gateway is nobody's");
    }

    #[test]
    fn an_address_that_was_asked_for_makes_no_others_unusable() {
        for subnet in ["10.88.0.0/24", "fd00::/64"] {
            let subnet: IpNet = subnet.parse().unwrap();
            let nth = |n: u128| address(subnet, number(subnet.network()) + n);
            let pool = Pool::new(subnet, nth(1), QUARANTINE).unwrap();
            let mut known: BTreeSet<IpAddr> = [nth(3), nth(200)].into();
            let mut mark = None;
            let mut chosen = Vec::new();
            for _ in 0..5 {
                let choice = pool
                    .choose_beside(mark, |a| Ok::<_, ()>(known.contains(&a)), None, at(0))
                    .unwrap();
                let Choice::Fresh(address) = choice else { panic!("{choice:?}") };
                known.insert(address);
                mark = Some(address);
                chosen.push(address);
            }
            assert_eq!(chosen, [2, 4, 5, 6, 7].map(nth));
        }
    }

    #[test]
    fn what_the_caller_cannot_tell_is_no_answer() {
        let pool = pool("10.88.0.0/24", "10.88.0.1").unwrap();
        let failed = pool.choose_beside(None, |_| Err("database"), None, at(0));
        assert_eq!(failed, Err("database"));
    }

    #[test]
    fn an_address_asked_for_is_for_containers_and_free() {
        let pool = pool("10.88.0.0/24", "10.88.0.1").unwrap();
        let ask = |address: &str, holder: Option<&str>| {
            let holder = holder.map(Holder::new);
            check_static(&pool, ip(address), holder).map_err(|error| error.to_string())
        };
        assert_eq!(ask("10.88.0.9", None), Ok(()));
        assert_eq!(
            ask("10.88.0.9", Some("web")),
            Err("address 10.88.0.9 is taken by web".to_owned())
        );
        for address in ["10.88.0.0", "10.88.0.1", "10.88.0.255", "10.89.0.2", "fd00::2"] {
            let want = format!("address {address} of subnet 10.88.0.0/24 is not for containers");
            assert_eq!(ask(address, None), Err(want));
        }
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
