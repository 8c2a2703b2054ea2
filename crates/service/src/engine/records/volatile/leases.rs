//! Who has which address.

use std::net::IpAddr;

use rusqlite::{Connection, OptionalExtension, params};
use tare_runtime::ContainerId;

use crate::db::Error;
use crate::engine::clock::Usec;

/// All addresses that containers have.
pub(crate) fn leased(c: &Connection) -> Result<Vec<IpAddr>, Error> {
    let mut query = c.prepare("SELECT address FROM leases WHERE container IS NOT NULL")?;
    let addresses = query.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
    Ok(addresses.collect::<Result<Vec<_>, _>>()?.iter().filter_map(|a| from_bytes(a)).collect())
}

/// Frees all addresses of a container.
pub(crate) fn free_leases(c: &Connection, id: &ContainerId, now: Usec) -> Result<(), Error> {
    c.prepare_cached("UPDATE leases SET container = NULL, freed_usec = ?2 WHERE container = ?1")?
        .execute(params![id.as_str(), now.as_i64()])?;
    Ok(())
}

/// Forgets the addresses of a network that nobody has: it gets others.
pub(crate) fn forget_free_leases(c: &Connection, network: &str) -> Result<(), Error> {
    c.execute("DELETE FROM leases WHERE network = ?1 AND container IS NULL", [network])?;
    Ok(())
}

/// The highest address of a network that was ever given out in this boot.
pub(crate) fn highest_lease(c: &Connection, network: &str) -> Result<Option<IpAddr>, Error> {
    let bytes: Option<Vec<u8>> = c
        .prepare_cached("SELECT max(address) FROM leases WHERE network = ?1")?
        .query_row([network], |row| row.get(0))?;
    Ok(bytes.as_deref().and_then(from_bytes))
}

/// The address of a network that has been free for longest, and since when.
pub(crate) fn oldest_free_lease(
    c: &Connection,
    network: &str,
) -> Result<Option<(IpAddr, Usec)>, Error> {
    let found: Option<(Vec<u8>, i64)> = c
        .prepare_cached(
            "SELECT address, freed_usec FROM leases
             WHERE network = ?1 AND container IS NULL ORDER BY freed_usec LIMIT 1",
        )?
        .query_row([network], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(found.and_then(|(bytes, at)| Some((from_bytes(&bytes)?, Usec::from_i64(at)))))
}

/// Gives an address to a container. It must be free.
pub(crate) fn take_lease(
    c: &Connection,
    network: &str,
    address: IpAddr,
    id: &ContainerId,
) -> Result<(), Error> {
    let taken = c
        .prepare_cached(
            "INSERT INTO leases (network, address, container) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET container = excluded.container, freed_usec = NULL
             WHERE container IS NULL",
        )?
        .execute(params![network, to_bytes(address), id.as_str()])?;
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

    #[test]
    fn an_address_is_never_given_twice_and_freed_ones_come_back_oldest_first() {
        let c = scratch();
        let (a, b) = (ContainerId::random().unwrap(), ContainerId::random().unwrap());
        let ip = |last: u8| IpAddr::from([10, 88, 0, last]);
        take_lease(&c, "tare", ip(2), &a).unwrap();
        take_lease(&c, "tare", ip(3), &b).unwrap();
        take_lease(&c, "other", ip(2), &b).unwrap();
        assert!(take_lease(&c, "tare", ip(2), &b).is_err());
        assert_eq!(highest_lease(&c, "tare").unwrap(), Some(ip(3)));
        assert_eq!(highest_lease(&c, "none").unwrap(), None);

        free_leases(&c, &b, Usec(10)).unwrap();
        free_leases(&c, &a, Usec(20)).unwrap();
        assert_eq!(oldest_free_lease(&c, "tare").unwrap(), Some((ip(3), Usec(10))));
        take_lease(&c, "tare", ip(3), &a).unwrap();
        assert_eq!(oldest_free_lease(&c, "tare").unwrap(), Some((ip(2), Usec(20))));
        assert_eq!(highest_lease(&c, "tare").unwrap(), Some(ip(3)));
        forget_free_leases(&c, "tare").unwrap();
        assert_eq!(oldest_free_lease(&c, "tare").unwrap(), None);
        assert_eq!(leased(&c).unwrap(), [ip(3)], "what somebody has stays");
    }
}
