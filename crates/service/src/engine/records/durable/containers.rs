//! Containers: what was asked for, and how the last life went.

use std::time::Duration;

use rusqlite::{Connection, Row, params};
use tare_runtime::{ContainerId, ContainerName};
use tare_specgen::{Categories, Request};
use tare_storage::Digest;

use super::{Connections, Pins, UserRange, not_text, text, uses};
use crate::db::Error;
use crate::engine::clock::Usec;
use crate::engine::lifecycle::Lifecycle;
use crate::engine::records::document::{from_document, to_document};
use crate::engine::view::{Exit, ExitReason};

/// A container. Of this, only its definition ever changes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ContainerRow {
    pub(crate) id: ContainerId,
    pub(crate) owner_uid: u32,
    pub(crate) created: Usec,
    pub(crate) root: Root,
    /// The subordinate ids it was given, if it has a user namespace of its own.
    pub(crate) users: Option<UserRange>,
    /// What keeps it apart from others on a host with `SELinux`, if it has run on one.
    pub(crate) categories: Option<Categories>,
    pub(crate) definition: DefinitionRow,
}

/// What a container is to be, as it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DefinitionRow {
    /// Counts its changes.
    pub(crate) revision: u64,
    pub(crate) name: ContainerName,
    pub(crate) request: Request,
    pub(crate) connections: Connections,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) pins: Pins,
}

/// What the root file system of a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// An image, with what the container writes on top.
    Image {
        id: Digest,
        /// As its creator named it.
        reference: String,
    },
}

/// The last life of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LifeRow {
    pub(crate) started: Option<Usec>,
    pub(crate) finished: Option<Usec>,
    pub(crate) exit: Option<Exit>,
    /// Whether it ended because somebody wanted it to.
    pub(crate) asked: bool,
    /// How often it was started by itself since somebody started it.
    pub(crate) restarts: u32,
}

impl LifeRow {
    /// For how long it ran; nothing if it did not.
    pub(crate) fn ran(&self) -> Duration {
        match (self.started, self.finished) {
            (Some(started), Some(finished)) => {
                Duration::from_micros(finished.0.saturating_sub(started.0))
            }
            _ => Duration::ZERO,
        }
    }
}

/// Adds a container. Ids are [given](super::assign_range) to it after that.
pub(crate) fn insert_container(c: &Connection, row: &ContainerRow) -> Result<(), Error> {
    let Root::Image { id: image, reference } = &row.root;
    c.prepare_cached(
        "INSERT INTO containers (id, owner_uid, created_usec, image_id, image_reference,
                                 revision, name, request, connections, lifecycle, pins)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute(params![
        row.id.as_str(),
        row.owner_uid,
        row.created.as_i64(),
        image.to_string(),
        reference,
        as_i64(row.definition.revision),
        row.definition.name.as_str(),
        to_document("request", &row.definition.request)?,
        to_document("connections", &row.definition.connections)?,
        to_document("lifecycle", &row.definition.lifecycle)?,
        to_document("pins", &row.definition.pins)?,
    ])?;
    uses::replace(c, &row.id, &uses::uses(&row.definition))
}

/// Changes what a container is to be, and with that what it needs.
pub(crate) fn update_definition(
    c: &Connection,
    id: &ContainerId,
    definition: &DefinitionRow,
) -> Result<(), Error> {
    c.prepare_cached(
        "UPDATE containers SET revision = ?2, name = ?3, request = ?4, connections = ?5,
                lifecycle = ?6, pins = ?7 WHERE id = ?1",
    )?
    .execute(params![
        id.as_str(),
        as_i64(definition.revision),
        definition.name.as_str(),
        to_document("request", &definition.request)?,
        to_document("connections", &definition.connections)?,
        to_document("lifecycle", &definition.lifecycle)?,
        to_document("pins", &definition.pins)?,
    ])?;
    uses::replace(c, id, &uses::uses(definition))
}

/// Takes a container out, with what it uses.
pub(crate) fn delete_container(c: &Connection, id: &ContainerId) -> Result<(), Error> {
    c.prepare_cached("DELETE FROM containers WHERE id = ?1")?.execute([id.as_str()])?;
    Ok(())
}

/// Writes the last life of a container.
pub(crate) fn update_life(c: &Connection, id: &ContainerId, life: &LifeRow) -> Result<(), Error> {
    c.prepare_cached(
        "UPDATE containers SET started_usec = ?2, finished_usec = ?3, exit_code = ?4,
                exit_signal = ?5, exit_reason = ?6, asked = ?7, restarts = ?8 WHERE id = ?1",
    )?
    .execute(params![
        id.as_str(),
        life.started.map(Usec::as_i64),
        life.finished.map(Usec::as_i64),
        life.exit.map(|exit| exit.code),
        life.exit.map(|exit| exit.signal),
        life.exit.map(|exit| exit.reason.as_str()),
        life.asked,
        life.restarts,
    ])?;
    Ok(())
}

/// A container as it is found: one that cannot be read is no reason not to read the others.
pub(crate) type Found = Result<(ContainerRow, LifeRow), Error>;

/// All containers.
pub(crate) fn containers(c: &Connection) -> Result<Vec<Found>, Error> {
    let mut query = c.prepare(
        "SELECT containers.*, first_uid, first_gid, pair FROM containers
         LEFT JOIN user_ranges ON user_ranges.container = id
         LEFT JOIN categories ON categories.container = id ORDER BY created_usec",
    )?;
    let mut rows = query.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(container(row).and_then(|container| Ok((container, life(row)?))));
    }
    Ok(found)
}

/// The ids of all containers, also of those that cannot be read.
pub(crate) fn container_ids(c: &Connection) -> Result<Vec<ContainerId>, Error> {
    let mut query = c.prepare("SELECT id FROM containers")?;
    let ids = query.query_map([], |row| row.get::<_, String>(0))?;
    ids.map(|id| id?.parse().map_err(|_| not_text(0, "id"))).collect()
}

fn container(row: &Row<'_>) -> Result<ContainerRow, Error> {
    let request: String = row.get("request")?;
    let connections: String = row.get("connections")?;
    let lifecycle: Option<String> = row.get("lifecycle")?;
    let lifecycle = lifecycle.map(|it| from_document("lifecycle", &it)).transpose()?;
    let pins: String = row.get("pins")?;
    let root = Root::Image { id: text(row, "image_id")?, reference: row.get("image_reference")? };
    let users = match (row.get("first_uid")?, row.get("first_gid")?) {
        (Some(uid), Some(gid)) => Some(UserRange { uid, gid }),
        _ => None,
    };
    let categories = match row.get::<_, Option<String>>("pair")? {
        Some(_) => Some(text(row, "pair")?),
        None => None,
    };
    Ok(ContainerRow {
        id: text(row, "id")?,
        users,
        categories,
        owner_uid: row.get("owner_uid")?,
        created: Usec::from_i64(row.get("created_usec")?),
        root,
        definition: DefinitionRow {
            revision: u64::try_from(row.get::<_, i64>("revision")?).unwrap_or_default(),
            name: text(row, "name")?,
            request: from_document("request", &request)?,
            connections: from_document("connections", &connections)?,
            lifecycle: lifecycle.unwrap_or_default(),
            pins: from_document("pins", &pins)?,
        },
    })
}

fn as_i64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
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
    Ok(LifeRow {
        started: usec("started_usec")?,
        finished: usec("finished_usec")?,
        exit,
        asked: row.get("asked")?,
        restarts: row.get("restarts")?,
    })
}

#[cfg(test)]
impl ContainerRow {
    pub(crate) fn sample(name: &str) -> Self {
        Self {
            id: ContainerId::random().unwrap(),
            owner_uid: 1000,
            created: Usec(1),
            root: Root::Image {
                id: Digest::of(b"image"),
                reference: "localhost/image:latest".into(),
            },
            users: None,
            categories: None,
            definition: DefinitionRow {
                revision: 1,
                name: name.parse().unwrap(),
                request: Request::default(),
                connections: Connections::default(),
                lifecycle: Lifecycle::default(),
                pins: Pins::default(),
            },
        }
    }
}
