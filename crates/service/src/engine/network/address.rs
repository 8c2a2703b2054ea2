//! Addresses for containers.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use tare_netns::Subnet;
use tare_netns::lease::{Choice, Freed};
use tare_runtime::ContainerId;

use super::Network;
use crate::engine::Error;
use crate::engine::records::volatile::leases::{self, Free, Origin};

/// The addresses a container got.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Leased {
    /// One in each subnet of the network, in their order.
    pub(super) addresses: Vec<IpAddr>,
    /// Those among them that the kernel may know connections of.
    pub(super) unrested: Vec<IpAddr>,
}

/// Gives `id` an address in each subnet of a network: that it asks for, or one that is chosen. To
/// be done in one transaction with what is done with them, so that no address is taken by a
/// container that was never begun.
pub(super) fn lease(
    c: &Connection,
    network: &Network,
    asked: &[IpAddr],
    id: &ContainerId,
    quarantine: Duration,
) -> Result<Leased, Error> {
    let definition = network.definition();
    let subnets = definition.network.subnets();
    let is_of_it = |address: &&IpAddr| subnets.iter().any(|it| it.subnet().contains(*address));
    if let Some(&address) = asked.iter().find(|address| !is_of_it(address)) {
        return Err(Error::AddressElsewhere { address, network: network.name.clone() });
    }
    let mut leased = Leased::default();
    for subnet in subnets {
        let asked = asked.iter().copied().find(|address| subnet.subnet().contains(address));
        let (origin, free) = match asked {
            Some(address) => (Origin::Asked, as_asked(c, network, address, id)?),
            None => (Origin::Chosen, choose(c, network, subnet, id, quarantine)?),
        };
        let address = free.address;
        leases::take_lease(c, &network.name, subnet.subnet(), address, origin, id)?;
        leased.addresses.push(address);
        if free.since.is_none() {
            leased.unrested.push(address);
        }
    }
    Ok(leased)
}

fn as_asked(
    c: &Connection,
    network: &Network,
    address: IpAddr,
    id: &ContainerId,
) -> Result<Free, Error> {
    if network.is_of_host(address) {
        return Err(Error::AddressOfHost { address, network: network.name.clone() });
    }
    match leases::holder(c, &network.name, address)? {
        Some(by) if by != *id => {
            Err(Error::AddressInUse { address, network: network.name.clone(), by: by.to_string() })
        }
        // Whoever had it before: nothing of that may reach this one.
        _ => Ok(Free { address, since: None }),
    }
}

fn choose(
    c: &Connection,
    network: &Network,
    subnet: &Subnet,
    id: &ContainerId,
    quarantine: Duration,
) -> Result<Free, Error> {
    let (name, net) = (&network.name, subnet.subnet());
    let kept = |address| network.is_kept_from(id, address);
    let mark = leases::highest_chosen(c, name, net)?;
    let known = |address| Ok::<_, Error>(kept(address) || leases::is_known(c, name, address)?);
    let pool = subnet.pool(quarantine);
    let longest =
        leases::longest_free(c, name, net, |address| pool.offers(address) && !kept(address))?;
    let freed = longest.and_then(|free| {
        let at = UNIX_EPOCH + Duration::from_micros(free.since?.0);
        Some(Freed { address: free.address, at })
    });
    match (pool.choose_beside(mark, known, freed, SystemTime::now())?, longest) {
        // Nobody had it in this boot, as far as is known here.
        (Choice::Fresh(address), _) => Ok(Free { address, since: Some(super::Usec(0)) }),
        // Where containers come and go faster than addresses rest, the one that has rested
        // longest is better than none.
        (Choice::Reused(_) | Choice::Wait(_) | Choice::Exhausted, Some(free)) => Ok(free),
        _ => Err(Error::AddressesExhausted(name.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::clock::Usec;
    use crate::engine::events::Events;
    use crate::engine::records::durable::{Joined, NetworkRow};
    use crate::engine::records::volatile::MIGRATIONS;
    use std::collections::BTreeMap;

    fn scratch() -> Connection {
        let c = Connection::open_in_memory().unwrap();
        for sql in MIGRATIONS {
            c.execute_batch(sql).unwrap();
        }
        c
    }

    fn network(subnets: &[&str]) -> Network {
        let mut row = NetworkRow::sample("n");
        let subnets: Vec<_> =
            subnets.iter().map(|subnet| serde_json::json!({"subnet": subnet})).collect();
        let options = serde_json::json!({
            "driver": {"bridge": {"interface": "tare0"}}, "subnets": subnets,
        });
        row.definition.network = serde_json::from_value(options).unwrap();
        Network::new(row, BTreeMap::new(), Events::channel().0)
    }

    fn asking<const N: usize>(addresses: [IpAddr; N]) -> Joined {
        Joined { addresses: addresses.to_vec(), ..Joined::sample("n") }
    }

    fn id() -> ContainerId {
        ContainerId::random().unwrap()
    }

    fn give(c: &Connection, network: &Network, asked: &[&str]) -> Result<Vec<String>, Error> {
        let asked: Vec<IpAddr> = asked.iter().map(|address| address.parse().unwrap()).collect();
        let leased = lease(c, network, &asked, &id(), Duration::ZERO)?;
        Ok(leased.addresses.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_subnet_gives_an_address_and_what_was_asked_for_is_passed_over() {
        let (c, network) = (scratch(), network(&["10.88.0.0/24", "fd00:88::/64"]));
        network.join(&id(), &asking(["10.88.0.4".parse().unwrap()])).unwrap();
        assert_eq!(give(&c, &network, &[]).unwrap(), ["10.88.0.2", "fd00:88::2"]);
        assert_eq!(give(&c, &network, &["10.88.0.3"]).unwrap(), ["10.88.0.3", "fd00:88::3"]);
        assert_eq!(give(&c, &network, &[]).unwrap(), ["10.88.0.5", "fd00:88::4"]);
        let refused = give(&c, &network, &["10.88.0.5"]).unwrap_err();
        assert!(matches!(refused, Error::AddressInUse { .. }), "{refused:?}");
    }

    #[test]
    fn what_the_host_has_is_given_to_nobody() {
        let (c, network) = (scratch(), network(&["10.88.0.0/29"]));
        network.keep_for_host(vec!["10.88.0.3".parse().unwrap()]);
        let refused = give(&c, &network, &["10.88.0.3"]).unwrap_err();
        assert!(matches!(refused, Error::AddressOfHost { .. }), "{refused:?}");
        for want in ["10.88.0.2", "10.88.0.4", "10.88.0.5", "10.88.0.6"] {
            assert_eq!(give(&c, &network, &[]).unwrap(), [want]);
        }
        let refused = give(&c, &network, &[]).unwrap_err();
        assert!(matches!(refused, Error::AddressesExhausted(_)), "{refused:?}");
        network.keep_for_host(Vec::new());
        assert_eq!(give(&c, &network, &[]).unwrap(), ["10.88.0.3"]);
    }

    #[test]
    fn what_was_passed_over_is_given_when_there_is_nothing_else() {
        let (c, network) = (scratch(), network(&["10.88.0.0/29"]));
        let asks = id();
        let asked = [IpAddr::from([10, 88, 0, 3])];
        lease(&c, &network, &asked, &asks, Duration::ZERO).unwrap();
        for want in ["10.88.0.2", "10.88.0.4", "10.88.0.5", "10.88.0.6"] {
            assert_eq!(give(&c, &network, &[]).unwrap(), [want]);
        }
        assert!(give(&c, &network, &[]).is_err(), "all are had");
        leases::free_leases(&c, &asks).unwrap();
        leases::rest(&c, &asked, Usec(1)).unwrap();
        assert_eq!(give(&c, &network, &[]).unwrap(), ["10.88.0.3"]);
    }

    /// The default network gets other subnets where the host has a way to those it had.
    #[test]
    fn what_is_asked_for_elsewhere_is_not_replaced() {
        let (c, network) = (scratch(), network(&["10.88.1.0/24"]));
        let refused = give(&c, &network, &["10.88.0.50"]).unwrap_err();
        assert!(matches!(refused, Error::AddressElsewhere { .. }), "{refused:?}");
    }

    /// An IPv6 subnet has fresh addresses for ever.
    #[test]
    fn those_that_have_rested_are_given_before_those_that_nobody_had() {
        let (c, network) = (scratch(), network(&["10.88.0.0/24", "fd00:88::/64"]));
        let rows =
            || -> i64 { c.query_row("SELECT count(*) FROM leases", [], |row| row.get(0)).unwrap() };
        let stays = id();
        lease(&c, &network, &[], &stays, Duration::ZERO).unwrap();
        for _ in 0..200 {
            let id = id();
            let leased = lease(&c, &network, &[], &id, Duration::ZERO).unwrap();
            leases::free_leases(&c, &id).unwrap();
            leases::rest(&c, &leased.addresses, Usec(1)).unwrap();
            assert_eq!(leased.unrested, [] as [IpAddr; 0]);
        }
        assert_eq!(rows(), 4, "two addresses are had, and two rest");
        let leased = lease(&c, &network, &[], &id(), Duration::from_secs(60)).unwrap();
        assert_eq!(rows(), 4, "they have rested since long ago: {leased:?}");
    }

    #[test]
    fn what_rests_is_given_only_from_the_range() {
        let c = scratch();
        let mut row = NetworkRow::sample("n");
        let options = serde_json::json!({
            "driver": {"bridge": {"interface": "tare0"}},
            "subnets": [{
                "subnet": "10.88.0.0/24",
                "range": {"first": "10.88.0.10", "last": "10.88.0.10"},
            }],
        });
        row.definition.network = serde_json::from_value(options).unwrap();
        let network = Network::new(row, BTreeMap::new(), Events::channel().0);
        let asks = id();
        let asked = [IpAddr::from([10, 88, 0, 200])];
        lease(&c, &network, &asked, &asks, Duration::ZERO).unwrap();
        assert_eq!(give(&c, &network, &[]).unwrap(), ["10.88.0.10"]);
        leases::free_leases(&c, &asks).unwrap();
        let refused = give(&c, &network, &[]).unwrap_err();
        assert!(matches!(refused, Error::AddressesExhausted(_)), "{refused:?}");
    }

    #[test]
    fn what_nobody_has_is_given_when_nothing_else_is_left_and_is_said_to_be_unrested() {
        let (c, network) = (scratch(), network(&["10.88.0.0/30"]));
        let (first, second) = (id(), id());
        let lease = |id: &ContainerId| lease(&c, &network, &[], id, Duration::from_secs(60));
        let address = IpAddr::from([10, 88, 0, 2]);
        let got = |unrested| Leased { addresses: vec![address], unrested };
        assert_eq!(lease(&first).unwrap(), got(vec![]));
        let refused = lease(&second).unwrap_err();
        assert!(matches!(refused, Error::AddressesExhausted(_)), "{refused:?}");
        leases::free_leases(&c, &first).unwrap();
        assert_eq!(lease(&second).unwrap(), got(vec![address]));
        leases::free_leases(&c, &second).unwrap();
        leases::rest(&c, &[address], Usec(1)).unwrap();
        network.join(&second, &asking([address])).unwrap();
        assert!(lease(&first).is_err(), "it is kept for another");
        network.leave(&second);
        assert_eq!(lease(&first).unwrap(), got(vec![]));
    }
}
