//! Volumes.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use tare_storage::VolumeName;

use super::{not_text, text};
use crate::db::Error;
use crate::engine::clock::Usec;
use crate::engine::records::document::{Version, from_document, to_document};

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VolumeRow {
    pub(crate) name: VolumeName,
    pub(crate) owner_uid: u32,
    pub(crate) created: Usec,
    /// Made for one container.
    pub(crate) anonymous: bool,
    pub(crate) definition: VolumeDefinition,
}

/// What was asked for when it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct VolumeDefinition {
    #[serde(rename = "v")]
    pub(crate) version: Version<1>,
    pub(crate) labels: BTreeMap<String, String>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size_limit: Option<u64>,
}

/// Writes down that directories of volumes are about to be made.
pub(crate) fn begin_volumes(c: &Connection, names: &[VolumeName]) -> Result<(), Error> {
    let mut insert = c.prepare_cached("INSERT OR IGNORE INTO volume_remains VALUES (?1)")?;
    names.iter().try_for_each(|name| insert.execute([name.as_str()]).map(drop))?;
    Ok(())
}

/// Adds a volume whose directory is there.
pub(crate) fn insert_volume(c: &Connection, volume: &VolumeRow) -> Result<(), Error> {
    c.prepare_cached(
        "INSERT INTO volumes (name, owner_uid, created_usec, anonymous, definition)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        volume.name.as_str(),
        volume.owner_uid,
        volume.created.as_i64(),
        volume.anonymous,
        to_document("volume", &volume.definition)?,
    ])?;
    forget_remains(c, &volume.name)
}

/// Takes a volume out, whose directory is to be removed. It is refused while a container needs it.
pub(crate) fn doom_volume(c: &Connection, name: &VolumeName) -> Result<(), Error> {
    c.prepare_cached("DELETE FROM volumes WHERE name = ?1")?.execute([name.as_str()])?;
    begin_volumes(c, std::slice::from_ref(name))
}

/// Takes those volumes out that no container needs; which these are.
pub(crate) fn doom_unused(
    c: &Connection,
    names: Vec<VolumeName>,
) -> Result<Vec<VolumeName>, Error> {
    let mut unused = Vec::new();
    for name in names {
        if !is_volume_used(c, &name)? {
            doom_volume(c, &name)?;
            unused.push(name);
        }
    }
    Ok(unused)
}

/// Whether a container needs a volume.
fn is_volume_used(c: &Connection, name: &VolumeName) -> Result<bool, Error> {
    let mut query = c.prepare_cached("SELECT EXISTS (SELECT * FROM uses WHERE volume = ?1)")?;
    Ok(query.query_row([name.as_str()], |row| row.get(0))?)
}

/// Nothing is there any more of a volume that was taken out.
pub(crate) fn forget_remains(c: &Connection, name: &VolumeName) -> Result<(), Error> {
    c.prepare_cached("DELETE FROM volume_remains WHERE name = ?1")?.execute([name.as_str()])?;
    Ok(())
}

/// Volumes of which something is there that is nobody's.
pub(crate) fn volume_remains(c: &Connection) -> Result<Vec<VolumeName>, Error> {
    let mut query = c.prepare("SELECT name FROM volume_remains ORDER BY name")?;
    let names = query.query_map([], |row| row.get::<_, String>(0))?;
    names.map(|name| name?.parse().map_err(|_| not_text(0, "name"))).collect()
}

/// A volume as it is found: one that cannot be read is no reason not to read the others.
pub(crate) type FoundVolume = Result<VolumeRow, Error>;

/// All volumes.
pub(crate) fn volumes(c: &Connection) -> Result<Vec<FoundVolume>, Error> {
    let mut query = c.prepare("SELECT * FROM volumes ORDER BY name")?;
    let mut rows = query.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(volume(row));
    }
    Ok(found)
}

fn volume(row: &rusqlite::Row<'_>) -> FoundVolume {
    let definition: String = row.get("definition")?;
    Ok(VolumeRow {
        name: text(row, "name")?,
        owner_uid: row.get("owner_uid")?,
        created: Usec::from_i64(row.get("created_usec")?),
        anonymous: row.get("anonymous")?,
        definition: from_document("volume", &definition)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::records::durable::scratch;

    fn sample() -> VolumeRow {
        let labels = [("a".into(), "b".into())].into();
        let definition = VolumeDefinition { labels, ..VolumeDefinition::default() };
        let name = "data".parse().unwrap();
        VolumeRow { name, owner_uid: 7, created: Usec(1), anonymous: true, definition }
    }

    #[test]
    fn a_volume_is_read_as_it_was_written() {
        let c = scratch();
        let volume = sample();
        begin_volumes(&c, std::slice::from_ref(&volume.name)).unwrap();
        assert_eq!(volume_remains(&c).unwrap(), std::slice::from_ref(&volume.name));
        insert_volume(&c, &volume).unwrap();
        assert_eq!(volume_remains(&c).unwrap(), []);
        let read: Vec<_> = volumes(&c).unwrap().into_iter().map(Result::unwrap).collect();
        assert_eq!(read, std::slice::from_ref(&volume));
        let stored: String =
            c.query_row("SELECT definition FROM volumes", [], |row| row.get(0)).unwrap();
        assert_eq!(stored, r#"{"v":1,"Labels":{"a":"b"}}"#, "the stored form is a format");
        doom_volume(&c, &volume.name).unwrap();
        assert!(volumes(&c).unwrap().is_empty());
        assert_eq!(volume_remains(&c).unwrap(), std::slice::from_ref(&volume.name));
        forget_remains(&c, &volume.name).unwrap();
        assert_eq!(volume_remains(&c).unwrap(), []);
    }
}
