//! `run.db`: what each running container is made of, and who has which address.

use std::net::IpAddr;

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use tare_netns::Wanted;
use tare_runtime::ContainerId;
use tare_runtime::identity::Identity;
use tare_spawn::{CgroupPath, OciRuntime};

use crate::db::{Error, from_document, to_document};
use crate::engine::clock::Usec;
use crate::engine::view::{Address, Exit};

/// From nothing to the present schema. The file dies with the boot, but not with an upgrade.
pub(crate) const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
CREATE TABLE incarnations (
    container  TEXT PRIMARY KEY,
    document   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE leases (
    network     TEXT NOT NULL,
    address     BLOB NOT NULL,
    container   TEXT,
    freed_usec  INTEGER,
    PRIMARY KEY (network, address)
) STRICT, WITHOUT ROWID;
CREATE INDEX leases_of_container ON leases (container);
CREATE INDEX leases_freed ON leases (network, freed_usec) WHERE container IS NULL;
",
    "
CREATE TABLE sessions (
    container  TEXT NOT NULL,
    number     INTEGER NOT NULL,
    document   TEXT NOT NULL,
    PRIMARY KEY (container, number)
) STRICT, WITHOUT ROWID;
",
];

/// How far one start of a container has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[serde(tag = "at")]
pub(crate) enum Stage {
    /// Being made; nothing of it may stay if the daemon ends here.
    Preparing,
    /// All is made and the start has been decided: from here on it is carried through.
    Starting,
    /// Its first process runs, or ran.
    Running,
    /// It has ended; what is left of it has to be taken down, and the end told.
    Ended {
        /// How.
        exit: Exit,
        /// When that was seen.
        finished: Usec,
    },
}

/// One start of a container, from before the first effect until all is taken down again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Incarnation {
    /// Version of this shape.
    pub(crate) v: u32,
    pub(crate) container: ContainerId,
    pub(crate) number: u32,
    pub(crate) stage: Stage,
    pub(crate) runtime: OciRuntime,
    /// Below the cgroup2 root; `supervisor` and `payload` are in it.
    pub(crate) cgroup: CgroupPath,
    /// What is made of the network, if it has one of its own.
    pub(crate) network: Option<Wanted>,
    /// What is seen of it.
    pub(crate) addresses: Vec<Address>,
    pub(crate) supervisor: Option<Identity>,
    pub(crate) init: Option<Identity>,
    pub(crate) started: Option<Usec>,
    pub(crate) started_monotonic: Option<Usec>,
}

/// Writes down how far a start has come.
pub(crate) fn put_incarnation(c: &Connection, incarnation: &Incarnation) -> Result<(), Error> {
    let document = to_document("incarnation", incarnation)?;
    c.prepare_cached("INSERT OR REPLACE INTO incarnations VALUES (?1, ?2)")?
        .execute([incarnation.container.as_str(), &document])?;
    Ok(())
}

/// Forgets a start, after all of it is taken down, and frees its addresses.
pub(crate) fn end_incarnation(c: &Connection, id: &ContainerId, now: Usec) -> Result<(), Error> {
    c.prepare_cached("DELETE FROM incarnations WHERE container = ?1")?.execute([id.as_str()])?;
    c.prepare_cached("UPDATE leases SET container = NULL, freed_usec = ?2 WHERE container = ?1")?
        .execute(params![id.as_str(), now.as_i64()])?;
    Ok(())
}

/// All starts that are not taken down.
pub(crate) fn incarnations(c: &Connection) -> Result<Vec<Result<Incarnation, Error>>, Error> {
    let mut query = c.prepare("SELECT document FROM incarnations")?;
    let mut rows = query.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(from_document("incarnation", &row.get::<_, String>(0)?));
    }
    Ok(found)
}

/// The containers of all starts that are not taken down, also of those that cannot be read.
pub(crate) fn containers(c: &Connection) -> Result<Vec<ContainerId>, Error> {
    let mut query = c.prepare("SELECT container FROM incarnations")?;
    let ids = query.query_map([], |row| row.get::<_, String>(0))?;
    // What is no id is the name of nothing on the host either.
    Ok(ids.collect::<Result<Vec<_>, _>>()?.iter().filter_map(|id| id.parse().ok()).collect())
}

/// All addresses that containers have.
pub(crate) fn leased(c: &Connection) -> Result<Vec<IpAddr>, Error> {
    let mut query = c.prepare("SELECT address FROM leases WHERE container IS NOT NULL")?;
    let addresses = query.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
    Ok(addresses.collect::<Result<Vec<_>, _>>()?.iter().filter_map(|a| from_bytes(a)).collect())
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
            "INSERT INTO leases VALUES (?1, ?2, ?3, NULL)
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

    fn scratch() -> Connection {
        let c = Connection::open_in_memory().unwrap();
        for sql in MIGRATIONS {
            c.execute_batch(sql).unwrap();
        }
        c
    }

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

        end_incarnation(&c, &b, Usec(10)).unwrap();
        end_incarnation(&c, &a, Usec(20)).unwrap();
        assert_eq!(oldest_free_lease(&c, "tare").unwrap(), Some((ip(3), Usec(10))));
        take_lease(&c, "tare", ip(3), &a).unwrap();
        assert_eq!(oldest_free_lease(&c, "tare").unwrap(), Some((ip(2), Usec(20))));
        assert_eq!(highest_lease(&c, "tare").unwrap(), Some(ip(3)));
    }
}
