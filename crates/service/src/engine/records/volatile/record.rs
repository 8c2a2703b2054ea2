//! Documents about what is there now, by kind and key.

use std::fmt::Display;
use std::str::FromStr;

use rusqlite::{Connection, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::db::Error;
use crate::engine::records::document::{from_document, to_document};

/// Something that is there now, and that a later daemon must know of.
pub(crate) trait Record: Serialize + DeserializeOwned {
    /// What it is, in one word. Part of the stored form.
    const KIND: &'static str;
    /// What tells one from another.
    type Key: Display + FromStr;

    /// Its key.
    fn key(&self) -> &Self::Key;
}

/// A record as it is found: what cannot be read is still there, and known by its key.
pub(crate) type Found<R> = Result<R, (<R as Record>::Key, Error)>;

/// Writes a record, over the one of its key.
pub(crate) fn put<R: Record>(c: &Connection, record: &R) -> Result<(), Error> {
    c.prepare_cached("INSERT OR REPLACE INTO records (kind, key, document) VALUES (?1, ?2, ?3)")?
        .execute(params![R::KIND, record.key().to_string(), to_document(R::KIND, record)?])?;
    Ok(())
}

/// Forgets a record, also one that cannot be read.
pub(crate) fn delete<R: Record>(c: &Connection, key: &R::Key) -> Result<(), Error> {
    c.prepare_cached("DELETE FROM records WHERE kind = ?1 AND key = ?2")?
        .execute(params![R::KIND, key.to_string()])?;
    Ok(())
}

/// All records of a kind. A key that is none belongs to nothing and is passed over.
pub(crate) fn all<R: Record>(c: &Connection) -> Result<Vec<Found<R>>, Error> {
    let mut query = c.prepare("SELECT key, document FROM records WHERE kind = ?1")?;
    let mut rows = query.query([R::KIND])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        if let Ok(key) = row.get::<_, String>(0)?.parse::<R::Key>() {
            let document: String = row.get(1)?;
            found.push(from_document(R::KIND, &document).map_err(|error| (key, error)));
        }
    }
    Ok(found)
}

/// The keys of all records of a kind, also of those that cannot be read.
pub(crate) fn keys<R: Record>(c: &Connection) -> Result<Vec<R::Key>, Error> {
    let mut query = c.prepare("SELECT key FROM records WHERE kind = ?1")?;
    let keys = query.query_map([R::KIND], |row| row.get::<_, String>(0))?;
    Ok(keys.collect::<Result<Vec<_>, _>>()?.iter().filter_map(|key| key.parse().ok()).collect())
}
