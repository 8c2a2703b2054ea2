//! What the engine writes down: rows and the SQL that reads and writes them.
//!
//! Two databases. [`durable`] outlives a power cut and holds what was promised to callers;
//! [`volatile`] lives in the run directory and holds what dies with the boot: what each running
//! container is made of, written before it is made, so that a later daemon can take it over or
//! take it down. Whether something may be removed is decided by [`durable`] alone: nothing in
//! [`volatile`] is ever the last to refer to anything.

mod document;
pub(super) mod durable;
pub(super) mod volatile;

pub(super) use document::Version;
use rusqlite::{Connection, OptionalExtension};

use crate::db::Error;

/// A value of the daemon as a whole; both databases have such.
pub(super) fn meta(c: &Connection, key: &str) -> Result<Option<String>, Error> {
    let mut query = c.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    Ok(query.query_row([key], |row| row.get(0)).optional()?)
}

/// Sets a value of the daemon as a whole.
pub(super) fn set_meta(c: &Connection, key: &str, value: &str) -> Result<(), Error> {
    c.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)", [key, value])?;
    Ok(())
}

/// Forgets a value of the daemon as a whole.
pub(super) fn unset_meta(c: &Connection, key: &str) -> Result<(), Error> {
    c.execute("DELETE FROM meta WHERE key = ?1", [key])?;
    Ok(())
}
