//! `state.db`: containers, images, networks, volumes, and which of them needs which.

mod categories;
mod checkpoints;
mod connections;
mod containers;
mod images;
mod networks;
mod pins;
mod secrets;
mod user_ranges;
mod uses;
mod volumes;

use rusqlite::Row;

use crate::db::Error;

pub(crate) use categories::give_categories;
pub(crate) use checkpoints::{
    CheckpointDefinition, CheckpointRow, checkpoint_ids, checkpoints, delete_checkpoint,
    insert_checkpoint,
};
pub(crate) use connections::{Connections, Joined, NamespacePin};
pub(crate) use containers::{
    ContainerRow, DefinitionRow, LifeRow, Root, container_ids, containers, delete_container,
    insert_container, update_definition, update_life,
};
pub(crate) use images::{
    ImageRow, LayerRow, delete_image, delete_reference, images, needed, put_image, put_reference,
};
pub(crate) use networks::{
    NetworkDefinition, NetworkRow, Subnets, delete_network, insert_network, networks,
    redefine_network,
};

pub(crate) use pins::Pins;
pub(crate) use secrets::{
    SecretRow, Value, delete_secret, insert_secret, replace_secret, secret_value, secrets,
};
pub(crate) use user_ranges::{RANGE_SIZE, UserRange, assign_range};
pub(crate) use volumes::{
    VolumeDefinition, VolumeRow, begin_volumes, doom_unused, doom_volume, forget_remains,
    insert_volume, volume_remains, volumes,
};

/// From nothing to the present schema, a step an entry. Only ever appended to.
pub(crate) const MIGRATIONS: &[&str] = &[
    include_str!("0001.sql"),
    include_str!("0002.sql"),
    include_str!("0003_image_blobs.sql"),
    include_str!("0004_lifecycle.sql"),
    include_str!("0005_mounts.sql"),
    include_str!("0006_shared_networks.sql"),
    include_str!("0007_secrets.sql"),
    include_str!("0008_checkpoints.sql"),
    include_str!("0009_user_ranges.sql"),
    include_str!("0010_categories.sql"),
];

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

#[cfg(test)]
fn scratch() -> rusqlite::Connection {
    let c = rusqlite::Connection::open_in_memory().unwrap();
    c.pragma_update(None, "foreign_keys", "ON").unwrap();
    for sql in MIGRATIONS {
        c.execute_batch(sql).unwrap();
    }
    c
}
