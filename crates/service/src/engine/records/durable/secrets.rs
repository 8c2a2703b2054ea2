//! Secrets.

use std::fmt;

use rusqlite::{Connection, OptionalExtension, params};
use tare_specgen::SecretName;

use super::text;
use crate::db::Error;
use crate::engine::clock::Usec;

/// A secret, but for its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretRow {
    pub(crate) name: SecretName,
    pub(crate) owner_uid: u32,
    pub(crate) created: Usec,
    /// When it got its value.
    pub(crate) modified: Usec,
}

/// What nobody else is to know; `Debug` does not tell it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Value(pub(crate) Vec<u8>);

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Adds a secret.
pub(crate) fn insert_secret(c: &Connection, row: &SecretRow, value: &Value) -> Result<(), Error> {
    c.prepare_cached(
        "INSERT INTO secrets (name, owner_uid, created_usec, modified_usec, value)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        row.name.as_str(),
        row.owner_uid,
        row.created.as_i64(),
        row.modified.as_i64(),
        value.0,
    ])?;
    Ok(())
}

/// Gives a secret another value.
pub(crate) fn replace_secret(
    c: &Connection,
    name: &SecretName,
    modified: Usec,
    value: &Value,
) -> Result<(), Error> {
    forget_what_was(c)?;
    let set = "UPDATE secrets SET modified_usec = ?2, value = ?3 WHERE name = ?1";
    c.prepare_cached(set)?.execute(params![name.as_str(), modified.as_i64(), value.0])?;
    Ok(())
}

/// Takes a secret out. It is refused while a container needs it.
pub(crate) fn delete_secret(c: &Connection, name: &SecretName) -> Result<(), Error> {
    forget_what_was(c)?;
    c.prepare_cached("DELETE FROM secrets WHERE name = ?1")?.execute([name.as_str()])?;
    Ok(())
}

/// What is replaced or deleted is not to be found in the file of the database, either; its log has it until
/// that is written over.
fn forget_what_was(c: &Connection) -> Result<(), Error> {
    Ok(c.pragma_update(None, "secure_delete", "ON")?)
}

/// What a secret says now, if it is there.
pub(crate) fn secret_value(c: &Connection, name: &SecretName) -> Result<Option<Value>, Error> {
    let mut query = c.prepare_cached("SELECT value FROM secrets WHERE name = ?1")?;
    Ok(query.query_row([name.as_str()], |row| row.get(0).map(Value)).optional()?)
}

/// All secrets, without what they say. One that cannot be read is no reason not to read the others.
pub(crate) fn secrets(c: &Connection) -> Result<Vec<Result<SecretRow, Error>>, Error> {
    let mut query =
        c.prepare("SELECT name, owner_uid, created_usec, modified_usec FROM secrets")?;
    let mut rows = query.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(secret(row));
    }
    Ok(found)
}

fn secret(row: &rusqlite::Row<'_>) -> Result<SecretRow, Error> {
    Ok(SecretRow {
        name: text(row, "name")?,
        owner_uid: row.get("owner_uid")?,
        created: Usec::from_i64(row.get("created_usec")?),
        modified: Usec::from_i64(row.get("modified_usec")?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::records::durable::{
        ContainerRow, ImageRow, delete_container, insert_container, put_image, scratch,
    };
    use tare_storage::Digest;

    #[test]
    fn a_secret_is_read_as_it_was_written_and_stays_while_it_is_needed() {
        let c = scratch();
        let name: SecretName = "key".parse().unwrap();
        let row =
            SecretRow { name: name.clone(), owner_uid: 7, created: Usec(1), modified: Usec(2) };
        insert_secret(&c, &row, &Value(b"a\0b".to_vec())).unwrap();
        let read: Vec<_> = secrets(&c).unwrap().into_iter().map(Result::unwrap).collect();
        assert_eq!(read, std::slice::from_ref(&row));
        replace_secret(&c, &name, Usec(3), &Value(b"new".to_vec())).unwrap();
        assert_eq!(secret_value(&c, &name).unwrap(), Some(Value(b"new".to_vec())));
        assert_eq!(secrets(&c).unwrap().remove(0).unwrap().modified, Usec(3));

        put_image(&c, &ImageRow { id: Digest::of(b"image"), ..ImageRow::sample("i") }).unwrap();
        let mut container = ContainerRow::sample("c");
        let used = tare_specgen::SecretUse::file(name.clone());
        container.definition.request.secrets.push(used);
        insert_container(&c, &container).unwrap();
        assert!(delete_secret(&c, &name).unwrap_err().is_in_use());
        delete_container(&c, &container.id).unwrap();
        delete_secret(&c, &name).unwrap();
        assert_eq!(secret_value(&c, &name).unwrap(), None);
        assert!(insert_container(&c, &container).unwrap_err().is_in_use(), "there is none");
        assert_eq!(format!("{:?}", Value(b"hush".to_vec())), "4 bytes");
    }
}
