//! Who has which address, in a database as the service has it: not flushed, for it dies with the boot.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, params};
use tare_netns::Subnet;
use tare_netns::lease::Choice;

use crate::Result;

/// The tables of the service.
const TABLES: &str =
    include_str!("../../../../crates/service/src/engine/records/volatile/0001.sql");
const DIRECTORY: &str = "/run/tare-bench-leases";

pub(super) struct Leases(Mutex<Connection>);

impl Leases {
    /// None are taken yet.
    pub(super) fn open() -> Result<Self> {
        if Path::new(DIRECTORY).exists() {
            fs::remove_dir_all(DIRECTORY)?;
        }
        fs::create_dir(DIRECTORY)?;
        let connection = Connection::open(Path::new(DIRECTORY).join("run.db"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        connection.execute_batch(TABLES)?;
        Ok(Self(Mutex::new(connection)))
    }

    /// The next address of a subnet, for the container of that number; in one transaction.
    pub(super) fn take(&self, subnet: &Subnet, number: u8) -> Result<IpAddr> {
        let mut connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction()?;
        let highest: Option<[u8; 4]> = transaction
            .prepare_cached("SELECT max(address) FROM leases WHERE network = 'bench' AND chosen = 1")?
            .query_row([], |row| row.get(0))?;
        let highest = highest.map(|bytes| Ipv4Addr::from(bytes).into());
        let pool = subnet.pool(Duration::from_secs(60));
        let Choice::Fresh(address @ IpAddr::V4(v4)) = pool.choose(highest, None, SystemTime::now())
        else {
            return Err("no address is free".into());
        };
        transaction
            .prepare_cached("INSERT INTO leases VALUES ('bench', ?1, ?2, 1, ?3, NULL)")?
            .execute(params![subnet.subnet().to_string(), v4.octets(), number.to_string()])?;
        transaction.commit()?;
        Ok(address)
    }

    pub(super) fn clean(self) -> Result<()> {
        drop(self.0);
        Ok(fs::remove_dir_all(DIRECTORY)?)
    }
}
