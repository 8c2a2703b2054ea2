//! Checkpoints.

use std::net::IpAddr;

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use tare_netns::NetworkName;
use tare_runtime::{ContainerId, ContainerName};
use tare_spawn::{After, Extras, OciRuntime};

use super::text;
use crate::db::Error;
use crate::engine::checkpoint::{Changes, CheckpointId};
use crate::engine::clock::Usec;
use crate::engine::records::document::{Version, from_document, to_document};

/// A checkpoint, whose directory is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckpointRow {
    pub(crate) id: CheckpointId,
    pub(crate) container: ContainerId,
    pub(crate) name: ContainerName,
    /// Who took it.
    pub(crate) owner_uid: u32,
    pub(crate) created: Usec,
    /// In bytes.
    pub(crate) size: u64,
    pub(crate) definition: CheckpointDefinition,
}

/// What has to be the same when it is restored, and what is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct CheckpointDefinition {
    #[serde(rename = "v")]
    pub(crate) version: Version<1>,
    /// No other one reads it.
    pub(crate) runtime: OciRuntime,
    /// What CRIU was told to take along.
    pub(crate) extras: Extras,
    /// The addresses its sockets may be bound to.
    pub(crate) addresses: Vec<(NetworkName, IpAddr)>,
    pub(crate) criu: String,
    pub(crate) kernel: String,
    pub(crate) architecture: String,
    /// What became of the container.
    #[serde(default = "ends")]
    pub(crate) after: After,
    /// Whether what the container had changed of its image is there, too. It was not at first.
    #[serde(default)]
    pub(crate) changes: Changes,
}

/// It was not written down at first.
fn ends() -> After {
    After::Ends
}

/// Adds a checkpoint.
pub(crate) fn insert_checkpoint(c: &Connection, row: &CheckpointRow) -> Result<(), Error> {
    c.prepare_cached(
        "INSERT INTO checkpoints (id, container, name, owner_uid, created_usec, size, definition)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        row.id.as_str(),
        row.container.as_str(),
        row.name.as_str(),
        row.owner_uid,
        row.created.as_i64(),
        i64::try_from(row.size).unwrap_or(i64::MAX),
        to_document("checkpoint", &row.definition)?,
    ])?;
    Ok(())
}

/// Takes a checkpoint out.
pub(crate) fn delete_checkpoint(c: &Connection, id: &CheckpointId) -> Result<(), Error> {
    c.prepare_cached("DELETE FROM checkpoints WHERE id = ?1")?.execute([id.as_str()])?;
    Ok(())
}

/// The ids of all checkpoints, also of those that cannot be read.
pub(crate) fn checkpoint_ids(c: &Connection) -> Result<Vec<CheckpointId>, Error> {
    let mut query = c.prepare("SELECT id FROM checkpoints")?;
    let ids = query.query_map([], |row| row.get::<_, String>(0))?;
    ids.map(|id| id?.parse().map_err(|_| super::not_text(0, "id"))).collect()
}

/// All checkpoints; one that cannot be read is no reason not to read the others.
pub(crate) fn checkpoints(c: &Connection) -> Result<Vec<Result<CheckpointRow, Error>>, Error> {
    let mut query = c.prepare("SELECT * FROM checkpoints ORDER BY created_usec")?;
    let mut rows = query.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(checkpoint(row));
    }
    Ok(found)
}

fn checkpoint(row: &rusqlite::Row<'_>) -> Result<CheckpointRow, Error> {
    let definition: String = row.get("definition")?;
    Ok(CheckpointRow {
        id: text(row, "id")?,
        container: text(row, "container")?,
        name: text(row, "name")?,
        owner_uid: row.get("owner_uid")?,
        created: Usec::from_i64(row.get("created_usec")?),
        size: row.get::<_, i64>("size")?.unsigned_abs(),
        definition: from_document("checkpoint", &definition)?,
    })
}

#[cfg(test)]
impl CheckpointRow {
    pub(crate) fn sample() -> Self {
        Self {
            id: "7".repeat(64).parse().unwrap(),
            container: "c".repeat(64).parse().unwrap(),
            name: "before".parse().unwrap(),
            owner_uid: 7,
            created: Usec(1),
            size: 4096,
            definition: CheckpointDefinition {
                version: Version,
                runtime: OciRuntime::Crun,
                extras: Extras { file_locks: true, ..Extras::default() },
                addresses: vec![("tare".parse().unwrap(), "10.88.0.2".parse().unwrap())],
                criu: "4.1.1".into(),
                kernel: "6.12.1".into(),
                architecture: "amd64".into(),
                after: After::GoesOn,
                changes: Changes::Kept,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::records::durable::{
        ContainerRow, delete_container, insert_container, scratch,
    };

    #[test]
    fn a_checkpoint_is_read_as_it_was_written_and_goes_with_its_container() {
        let c = scratch();
        c.pragma_update(None, "foreign_keys", "OFF").unwrap();
        let container = ContainerRow::sample("web");
        insert_container(&c, &container).unwrap();
        c.pragma_update(None, "foreign_keys", "ON").unwrap();
        let row = CheckpointRow { container: container.id.clone(), ..CheckpointRow::sample() };
        insert_checkpoint(&c, &row).unwrap();
        let read =
            || -> Vec<_> { checkpoints(&c).unwrap().into_iter().map(Result::unwrap).collect() };
        assert_eq!(read(), std::slice::from_ref(&row));
        assert_eq!(checkpoint_ids(&c).unwrap(), std::slice::from_ref(&row.id));
        let stored: String =
            c.query_row("SELECT definition FROM checkpoints", [], |row| row.get(0)).unwrap();
        let golden = r#"{"v":1,"Runtime":"crun","Extras":{"tcp_established":false,"file_locks":true,"external_unix_sockets":false},"Addresses":[["tare","10.88.0.2"]],"Criu":"4.1.1","Kernel":"6.12.1","Architecture":"amd64","After":"goes-on","Changes":"kept"}"#;
        assert_eq!(stored, golden, "the stored form is a format");
        let earlier = golden.replace(r#","After":"goes-on","Changes":"kept""#, "");
        c.execute("UPDATE checkpoints SET definition = ?1", [earlier]).unwrap();
        assert_eq!(read()[0].definition.after, After::Ends);
        assert_eq!(read()[0].definition.changes, Changes::LeftOut);
        delete_checkpoint(&c, &row.id).unwrap();
        assert_eq!(read(), []);
        insert_checkpoint(&c, &row).unwrap();
        delete_container(&c, &container.id).unwrap();
        assert_eq!(read(), []);
    }
}
