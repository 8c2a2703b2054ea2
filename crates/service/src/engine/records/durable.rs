//! `state.db`: containers, images, networks.

use std::collections::{BTreeMap, HashSet};

use ipnet::Ipv4Net;
use rusqlite::{Connection, Row, params};
use tare_netns::InterfaceName;
use tare_runtime::{ContainerId, ContainerName};
use tare_specgen::Request;
use tare_storage::{ChainId, Digest};

use crate::db::{Error, from_document, to_document};
use crate::engine::clock::Usec;
use crate::engine::view::{Exit, ExitReason};

/// From nothing to the present schema, a step an entry. Only ever appended to.
pub(crate) const MIGRATIONS: &[&str] = &["
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
CREATE TABLE images (
    id           TEXT PRIMARY KEY,
    pulled_usec  INTEGER NOT NULL,
    size         INTEGER NOT NULL
) STRICT;
CREATE TABLE image_layers (
    image_id  TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
    position  INTEGER NOT NULL,
    chain_id  TEXT NOT NULL,
    PRIMARY KEY (image_id, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE image_references (
    reference  TEXT PRIMARY KEY,
    image_id   TEXT NOT NULL REFERENCES images ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE TABLE containers (
    id               TEXT PRIMARY KEY,
    name             TEXT NOT NULL UNIQUE,
    owner_uid        INTEGER NOT NULL,
    image_id         TEXT NOT NULL REFERENCES images,
    image_reference  TEXT NOT NULL,
    created_usec     INTEGER NOT NULL,
    privileged       INTEGER NOT NULL,
    request          TEXT NOT NULL,
    started_usec     INTEGER,
    finished_usec    INTEGER,
    exit_code        INTEGER,
    exit_signal      INTEGER,
    exit_reason      TEXT
) STRICT;
CREATE TABLE networks (
    name          TEXT PRIMARY KEY,
    id            TEXT NOT NULL UNIQUE,
    owner_uid     INTEGER NOT NULL,
    created_usec  INTEGER NOT NULL,
    bridge        TEXT NOT NULL UNIQUE,
    subnet        TEXT NOT NULL
) STRICT;
"];

/// A container, as it was asked for; nothing of this ever changes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ContainerRow {
    pub(crate) id: ContainerId,
    pub(crate) name: ContainerName,
    pub(crate) owner_uid: u32,
    pub(crate) image_id: Digest,
    pub(crate) image_reference: String,
    pub(crate) created: Usec,
    pub(crate) privileged: bool,
    pub(crate) request: Request,
}

/// The last life of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LifeRow {
    pub(crate) started: Option<Usec>,
    pub(crate) finished: Option<Usec>,
    pub(crate) exit: Option<Exit>,
}

/// An image; its configuration is a blob of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageRow {
    pub(crate) id: Digest,
    pub(crate) pulled: Usec,
    pub(crate) size: u64,
    pub(crate) layers: Vec<ChainId>,
    pub(crate) references: Vec<String>,
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetworkRow {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) owner_uid: u32,
    pub(crate) created: Usec,
    pub(crate) bridge: InterfaceName,
    pub(crate) subnet: Ipv4Net,
}

/// Adds a container.
pub(crate) fn insert_container(c: &Connection, row: &ContainerRow) -> Result<(), Error> {
    let request = to_document("request", &row.request)?;
    c.prepare_cached(
        "INSERT INTO containers (id, name, owner_uid, image_id, image_reference, created_usec,
                                 privileged, request)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        row.id.as_str(),
        row.name.as_str(),
        row.owner_uid,
        row.image_id.to_string(),
        row.image_reference,
        row.created.as_i64(),
        row.privileged,
        request,
    ])?;
    Ok(())
}

/// Takes a container out.
pub(crate) fn delete_container(c: &Connection, id: &ContainerId) -> Result<(), Error> {
    c.prepare_cached("DELETE FROM containers WHERE id = ?1")?.execute([id.as_str()])?;
    Ok(())
}

/// Writes the last life of a container.
pub(crate) fn update_life(c: &Connection, id: &ContainerId, life: &LifeRow) -> Result<(), Error> {
    c.prepare_cached(
        "UPDATE containers SET started_usec = ?2, finished_usec = ?3, exit_code = ?4,
                exit_signal = ?5, exit_reason = ?6 WHERE id = ?1",
    )?
    .execute(params![
        id.as_str(),
        life.started.map(Usec::as_i64),
        life.finished.map(Usec::as_i64),
        life.exit.map(|exit| exit.code),
        life.exit.map(|exit| exit.signal),
        life.exit.map(|exit| exit.reason.as_str()),
    ])?;
    Ok(())
}

/// A container as it is found: one that cannot be read is no reason not to read the others.
pub(crate) type Found = Result<(ContainerRow, LifeRow), crate::engine::Error>;

/// All containers.
pub(crate) fn containers(c: &Connection) -> Result<Vec<Found>, Error> {
    let mut query = c.prepare("SELECT * FROM containers ORDER BY created_usec")?;
    let mut rows = query.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let read = container(row).and_then(|container| Ok((container, life(row)?)));
        found.push(read.map_err(Into::into));
    }
    Ok(found)
}

/// The ids of all containers, also of those that cannot be read.
pub(crate) fn container_ids(c: &Connection) -> Result<Vec<ContainerId>, Error> {
    let mut query = c.prepare("SELECT id FROM containers")?;
    let ids = query.query_map([], |row| row.get::<_, String>(0))?;
    ids.map(|id| id?.parse().map_err(|_| not_text(0, "id"))).collect()
}

/// The ids of all images, also of those that cannot be read.
pub(crate) fn image_ids(c: &Connection) -> Result<HashSet<Digest>, Error> {
    let mut query = c.prepare("SELECT id FROM images")?;
    let ids = query.query_map([], |row| row.get::<_, String>(0))?;
    ids.map(|id| id?.parse().map_err(|_| not_text(0, "id"))).collect()
}

/// All layers that images have, also images that cannot be read.
pub(crate) fn layers(c: &Connection) -> Result<HashSet<ChainId>, Error> {
    let mut query = c.prepare("SELECT DISTINCT chain_id FROM image_layers")?;
    let layers = query.query_map([], |row| row.get::<_, String>(0))?;
    layers.map(|layer| layer?.parse().map_err(|_| not_text(0, "chain_id"))).collect()
}

fn container(row: &Row<'_>) -> Result<ContainerRow, Error> {
    let document: String = row.get("request")?;
    Ok(ContainerRow {
        id: text(row, "id")?,
        name: text(row, "name")?,
        owner_uid: row.get("owner_uid")?,
        image_id: text(row, "image_id")?,
        image_reference: row.get("image_reference")?,
        created: Usec::from_i64(row.get("created_usec")?),
        privileged: row.get("privileged")?,
        request: from_document("request", &document)?,
    })
}

fn life(row: &Row<'_>) -> Result<LifeRow, Error> {
    let usec = |column| Ok::<_, Error>(row.get::<_, Option<i64>>(column)?.map(Usec::from_i64));
    let reason = row.get::<_, Option<String>>("exit_reason")?;
    let exit = match (row.get("exit_code")?, row.get("exit_signal")?, reason) {
        (Some(code), Some(signal), Some(reason)) => {
            ExitReason::from_word(&reason).map(|reason| Exit { code, signal, reason })
        }
        _ => None,
    };
    Ok(LifeRow { started: usec("started_usec")?, finished: usec("finished_usec")?, exit })
}

/// A column that holds the text of something with a grammar.
fn text<T: std::str::FromStr>(row: &Row<'_>, column: &'static str) -> Result<T, Error> {
    let text: String = row.get(column)?;
    text.parse()
        .map_err(|_| not_text(row.as_ref().column_index(column).unwrap_or_default(), column))
}

/// A column holds a text that is not what it should be.
fn not_text(index: usize, column: &str) -> Error {
    rusqlite::Error::InvalidColumnType(index, column.into(), rusqlite::types::Type::Text).into()
}

/// Adds an image, or what is new about it; moves `references` to it. All the names it has then.
pub(crate) fn put_image(c: &Connection, image: &ImageRow) -> Result<Vec<String>, Error> {
    let id = image.id.to_string();
    c.execute(
        "INSERT INTO images VALUES (?1, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET pulled_usec = excluded.pulled_usec",
        params![id, image.pulled.as_i64(), i64::try_from(image.size).unwrap_or(i64::MAX)],
    )?;
    for (position, layer) in image.layers.iter().enumerate() {
        c.execute(
            "INSERT OR REPLACE INTO image_layers VALUES (?1, ?2, ?3)",
            params![id, i64::try_from(position).unwrap_or(i64::MAX), layer.to_string()],
        )?;
    }
    for reference in &image.references {
        c.execute("INSERT OR REPLACE INTO image_references VALUES (?1, ?2)", [reference, &id])?;
    }
    let mut query =
        c.prepare("SELECT reference FROM image_references WHERE image_id = ?1 ORDER BY 1")?;
    let names = query.query_map([&id], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

/// All images.
pub(crate) fn images(c: &Connection) -> Result<Vec<ImageRow>, Error> {
    let mut layers =
        grouped(c, "SELECT image_id, chain_id FROM image_layers ORDER BY 1, position")?;
    let mut references =
        grouped(c, "SELECT image_id, reference FROM image_references ORDER BY reference")?;
    let mut query = c.prepare("SELECT * FROM images")?;
    let mut rows = query.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get("id")?;
        let layers = layers.remove(&id).unwrap_or_default();
        found.push(ImageRow {
            id: text(row, "id")?,
            pulled: Usec::from_i64(row.get("pulled_usec")?),
            size: u64::try_from(row.get::<_, i64>("size")?).unwrap_or_default(),
            layers: layers.iter().filter_map(|layer| layer.parse().ok()).collect(),
            references: references.remove(&id).unwrap_or_default(),
        });
    }
    Ok(found)
}

fn grouped(c: &Connection, sql: &str) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let mut query = c.prepare(sql)?;
    let mut rows = query.query([])?;
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        groups.entry(row.get(0)?).or_default().push(row.get(1)?);
    }
    Ok(groups)
}

/// Adds a network.
pub(crate) fn insert_network(c: &Connection, network: &NetworkRow) -> Result<(), Error> {
    c.execute(
        "INSERT INTO networks VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            network.name,
            network.id,
            network.owner_uid,
            network.created.as_i64(),
            network.bridge.as_str(),
            network.subnet.to_string(),
        ],
    )?;
    Ok(())
}

/// All networks.
pub(crate) fn networks(c: &Connection) -> Result<Vec<NetworkRow>, Error> {
    let mut query = c.prepare("SELECT * FROM networks ORDER BY name")?;
    let mut rows = query.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(NetworkRow {
            name: row.get("name")?,
            id: row.get("id")?,
            owner_uid: row.get("owner_uid")?,
            created: Usec::from_i64(row.get("created_usec")?),
            bridge: text(row, "bridge")?,
            subnet: text(row, "subnet")?,
        });
    }
    Ok(found)
}
