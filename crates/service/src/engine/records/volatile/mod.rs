//! `run.db`: what each running container is made of, and who has which address.

mod incarnation;
mod leases;
mod record;

pub(crate) use incarnation::{Doing, Incarnation, Stage, end_incarnation};
pub(crate) use leases::{forget_free_leases, highest_lease, leased, oldest_free_lease, take_lease};
pub(crate) use record::{all, keys, put};

/// From nothing to the present schema. The file dies with the boot, but not with an upgrade.
pub(crate) const MIGRATIONS: &[&str] = &[include_str!("0001.sql")];

#[cfg(test)]
fn scratch() -> rusqlite::Connection {
    let c = rusqlite::Connection::open_in_memory().unwrap();
    for sql in MIGRATIONS {
        c.execute_batch(sql).unwrap();
    }
    c
}
