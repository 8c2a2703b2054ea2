//! `run.db`: what each running container is made of, its exec sessions, who has which address, and whose roots
//! are mounted for whom.

mod incarnation;
pub(crate) mod leases;
mod place;
mod record;
mod root_mount;
mod session;

pub(crate) use incarnation::{Doing, Incarnation, Stage, end_incarnation};
pub(crate) use place::{NetworkRecord, Place};
pub(crate) use record::{all, keys, put};
pub(crate) use root_mount::{RootMount, RootMountKey, forget_root_mount};
pub(crate) use session::{
    Session, SessionKey, SessionStage, forget_session, forget_sessions, may_have_sessions,
};

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
