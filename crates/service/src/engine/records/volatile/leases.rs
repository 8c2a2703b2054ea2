//! Who has which address.
//!
//! An address that was given back *rests* once the kernel knows no connection of it any more, and
//! is given out again after that. Until then nobody has it, and nobody gets it.

use std::net::IpAddr;

use ipnet::IpNet;
use rusqlite::{Connection, OptionalExtension, params};
use tare_netns::NetworkName;
use tare_runtime::ContainerId;

use crate::db::Error;
use crate::engine::clock::Usec;

/// How a container came to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was chosen here.
    Chosen,
    /// The container asked for it.
    Asked,
}

/// An address that nobody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Free {
    pub(crate) address: IpAddr,
    /// Since when it rests; `None` while the kernel may know connections of it.
    pub(crate) since: Option<Usec>,
}

/// All addresses that nobody has, and that the kernel may know connections of.
pub(crate) fn unrested(c: &Connection) -> Result<Vec<IpAddr>, Error> {
    let mut query = c.prepare_cached(
        "SELECT address FROM leases WHERE container IS NULL AND freed_usec IS NULL",
    )?;
    let found = query.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
    Ok(found.collect::<Result<Vec<_>, _>>()?.iter().filter_map(|a| from_bytes(a)).collect())
}

/// Takes all addresses from a container.
pub(crate) fn free_leases(c: &Connection, id: &ContainerId) -> Result<(), Error> {
    c.prepare_cached("UPDATE leases SET container = NULL, freed_usec = NULL WHERE container = ?1")?
        .execute([id.as_str()])?;
    Ok(())
}

/// Takes those of one network from a container that runs on.
pub(crate) fn free_leases_on(
    c: &Connection,
    network: &NetworkName,
    id: &ContainerId,
) -> Result<(), Error> {
    c.prepare_cached(
        "UPDATE leases SET container = NULL, freed_usec = NULL
         WHERE container = ?1 AND network = ?2",
    )?
    .execute([id.as_str(), network.as_str()])?;
    Ok(())
}

/// The kernel knows no connections of these any more: those that were chosen rest from now on, and
/// those that were asked for are as if nobody had ever had them.
pub(crate) fn rest(c: &Connection, addresses: &[IpAddr], now: Usec) -> Result<(), Error> {
    let mut rest = c.prepare_cached(
        "UPDATE leases SET freed_usec = ?2 WHERE address = ?1 AND container IS NULL AND chosen = 1",
    )?;
    let mut forget = c.prepare_cached(
        "DELETE FROM leases WHERE address = ?1 AND container IS NULL AND chosen = 0",
    )?;
    for &address in addresses {
        rest.execute(params![to_bytes(address), now.as_i64()])?;
        forget.execute([to_bytes(address)])?;
    }
    Ok(())
}

/// Forgets the addresses of a network that nobody has: it gets others, or is gone.
pub(crate) fn forget_free_leases(c: &Connection, network: &NetworkName) -> Result<(), Error> {
    c.execute("DELETE FROM leases WHERE network = ?1 AND container IS NULL", [network.as_str()])?;
    Ok(())
}

/// Whether containers have addresses of a network.
pub(crate) fn is_leased_from(c: &Connection, network: &NetworkName) -> Result<bool, Error> {
    let mut query = c.prepare_cached(
        "SELECT 1 FROM leases WHERE network = ?1 AND container IS NOT NULL LIMIT 1",
    )?;
    Ok(query.exists([network.as_str()])?)
}

/// All addresses of a network, with whoever has them.
pub(crate) fn leases_of(
    c: &Connection,
    network: &NetworkName,
) -> Result<Vec<(IpAddr, ContainerId)>, Error> {
    let mut query = c.prepare_cached(
        "SELECT address, container FROM leases
         WHERE network = ?1 AND container IS NOT NULL ORDER BY address",
    )?;
    let rows = query.query_map([network.as_str()], |row| {
        Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, String>(1)?))
    })?;
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(rows.iter().filter_map(|(a, id)| Some((from_bytes(a)?, id.parse().ok()?))).collect())
}

/// Who has an address.
pub(crate) fn holder(
    c: &Connection,
    network: &NetworkName,
    address: IpAddr,
) -> Result<Option<ContainerId>, Error> {
    let found: Option<Option<String>> = c
        .prepare_cached("SELECT container FROM leases WHERE network = ?1 AND address = ?2")?
        .query_row(params![network.as_str(), to_bytes(address)], |row| row.get(0))
        .optional()?;
    Ok(found.flatten().and_then(|id| id.parse().ok()))
}

/// Whether an address is in the table, whoever has it.
pub(crate) fn is_known(
    c: &Connection,
    network: &NetworkName,
    address: IpAddr,
) -> Result<bool, Error> {
    let mut query = c.prepare_cached("SELECT 1 FROM leases WHERE network = ?1 AND address = ?2")?;
    Ok(query.exists(params![network.as_str(), to_bytes(address)])?)
}

/// The highest address of a subnet that was ever chosen in this boot.
pub(crate) fn highest_chosen(
    c: &Connection,
    network: &NetworkName,
    subnet: IpNet,
) -> Result<Option<IpAddr>, Error> {
    let bytes: Option<Vec<u8>> = c
        .prepare_cached(
            "SELECT max(address) FROM leases WHERE network = ?1 AND subnet = ?2 AND chosen = 1",
        )?
        .query_row([network.as_str(), &subnet.to_string()], |row| row.get(0))?;
    Ok(bytes.as_deref().and_then(from_bytes))
}

/// Addresses that rest, the one that has done so for longest first: in the order of their index, which
/// has to be named, or all are found by having no container, and sorted.
const RESTING: &str = "SELECT address, freed_usec FROM leases INDEXED BY leases_freed
     WHERE network = ?1 AND subnet = ?2 AND container IS NULL AND freed_usec IS NOT NULL
     ORDER BY freed_usec";

/// Addresses that nobody has, and that do not rest yet.
const UNRESTED: &str = "SELECT address, freed_usec FROM leases INDEXED BY leases_freed
     WHERE network = ?1 AND subnet = ?2 AND container IS NULL AND freed_usec IS NULL";

/// The address of a subnet that rests for longest, if `fits`; one that does not rest yet comes
/// last. However many there are, only the first that fits is read.
pub(crate) fn longest_free(
    c: &Connection,
    network: &NetworkName,
    subnet: IpNet,
    fits: impl Fn(IpAddr) -> bool,
) -> Result<Option<Free>, Error> {
    let subnet = subnet.to_string();
    for sql in [RESTING, UNRESTED] {
        let mut query = c.prepare_cached(sql)?;
        let mut rows = query.query([network.as_str(), &subnet])?;
        while let Some(row) = rows.next()? {
            let since: Option<i64> = row.get(1)?;
            match from_bytes(&row.get::<_, Vec<u8>>(0)?) {
                Some(address) if fits(address) => {
                    return Ok(Some(Free { address, since: since.map(Usec::from_i64) }));
                }
                _ => {}
            }
        }
    }
    Ok(None)
}

/// Gives an address to a container. Nobody may have it.
pub(crate) fn take_lease(
    c: &Connection,
    network: &NetworkName,
    subnet: IpNet,
    address: IpAddr,
    origin: Origin,
    id: &ContainerId,
) -> Result<(), Error> {
    let taken = c
        .prepare_cached(
            "INSERT INTO leases (network, subnet, address, chosen, container)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET container = excluded.container, freed_usec = NULL
             WHERE container IS NULL",
        )?
        .execute(params![
            network.as_str(),
            subnet.to_string(),
            to_bytes(address),
            origin == Origin::Chosen,
            id.as_str()
        ])?;
    if taken == 1 { Ok(()) } else { Err(rusqlite::Error::StatementChangedRows(taken).into()) }
}

/// Network order, so that SQLite orders them as numbers.
fn to_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn from_bytes(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::records::volatile::scratch;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 88, 0, last])
    }

    fn name(name: &str) -> NetworkName {
        name.parse().unwrap()
    }

    fn subnet() -> IpNet {
        "10.88.0.0/24".parse().unwrap()
    }

    fn take(c: &Connection, last: u8, id: &ContainerId) -> Result<(), Error> {
        take_lease(c, &name("tare"), subnet(), ip(last), Origin::Chosen, id)
    }

    fn longest(c: &Connection) -> Option<Free> {
        longest_free(c, &name("tare"), subnet(), |_| true).unwrap()
    }

    #[test]
    fn an_address_is_never_given_twice_and_those_that_rest_come_back_oldest_first() {
        let c = scratch();
        let (a, b) = (ContainerId::random().unwrap(), ContainerId::random().unwrap());
        take(&c, 2, &a).unwrap();
        take(&c, 3, &b).unwrap();
        take_lease(&c, &name("other"), subnet(), ip(2), Origin::Chosen, &b).unwrap();
        assert!(take(&c, 2, &b).is_err());
        let highest = |network: &str| highest_chosen(&c, &name(network), subnet()).unwrap();
        assert_eq!((highest("tare"), highest("none")), (Some(ip(3)), None));
        assert_eq!(holder(&c, &name("tare"), ip(2)).unwrap(), Some(a.clone()));

        free_leases(&c, &b).unwrap();
        free_leases(&c, &a).unwrap();
        assert_eq!(unrested(&c).unwrap().len(), 3);
        rest(&c, &[ip(3)], Usec(20)).unwrap();
        let resting = |last, since| Some(Free { address: ip(last), since });
        assert_eq!(longest(&c), resting(3, Some(Usec(20))), "what does not rest comes last");
        rest(&c, &[ip(2)], Usec(10)).unwrap();
        assert_eq!(longest(&c), resting(2, Some(Usec(10))));
        let fits = |address| address != ip(2);
        let other = longest_free(&c, &name("tare"), subnet(), fits).unwrap();
        assert_eq!(other, resting(3, Some(Usec(20))));
        take(&c, 3, &a).unwrap();
        assert_eq!(highest("tare"), Some(ip(3)));
        forget_free_leases(&c, &name("tare")).unwrap();
        assert_eq!(longest(&c), None);
        let still = leases_of(&c, &name("tare")).unwrap();
        assert_eq!(still, [(ip(3), a.clone())], "what somebody has stays");
        free_leases_on(&c, &name("other"), &a).unwrap();
        assert!(is_leased_from(&c, &name("tare")).unwrap());
        free_leases_on(&c, &name("tare"), &a).unwrap();
        assert!(!is_leased_from(&c, &name("tare")).unwrap());
    }

    /// Else each start sorts all that rest, and holds up whoever else writes.
    #[test]
    fn the_longest_free_is_found_by_its_index() {
        let c = scratch();
        for sql in [RESTING, UNRESTED] {
            let mut query = c.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let steps = query.query_map(["n", "s"], |row| row.get::<_, String>(3)).unwrap();
            let steps: Vec<_> = steps.map(Result::unwrap).collect();
            assert_eq!(steps.len(), 1, "{steps:?}");
            assert!(steps[0].contains("INDEX leases_freed (network=? AND subnet=?"), "{steps:?}");
        }
    }

    #[test]
    fn what_was_asked_for_does_not_rest_and_moves_no_mark() {
        let c = scratch();
        let id = ContainerId::random().unwrap();
        take(&c, 2, &id).unwrap();
        take_lease(&c, &name("tare"), subnet(), ip(200), Origin::Asked, &id).unwrap();
        assert_eq!(highest_chosen(&c, &name("tare"), subnet()).unwrap(), Some(ip(2)));
        assert!(is_known(&c, &name("tare"), ip(200)).unwrap());
        free_leases(&c, &id).unwrap();
        rest(&c, &[ip(2), ip(200)], Usec(1)).unwrap();
        assert!(!is_known(&c, &name("tare"), ip(200)).unwrap());
        assert!(is_known(&c, &name("tare"), ip(2)).unwrap());
    }
}
