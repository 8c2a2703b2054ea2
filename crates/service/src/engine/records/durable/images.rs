//! Images, their names and their layers.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};
use tare_storage::{ChainId, Digest, Needed};

use super::{not_text, text};
use crate::db::Error;
use crate::engine::clock::Usec;

/// An image; its configuration is a blob of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageRow {
    pub(crate) id: Digest,
    pub(crate) pulled: Usec,
    pub(crate) size: u64,
    pub(crate) layers: Vec<ChainId>,
    pub(crate) references: Vec<String>,
}

/// Adds an image, or what is new about it; moves `references` to it. All the names it has then.
pub(crate) fn put_image(c: &Connection, image: &ImageRow) -> Result<Vec<String>, Error> {
    let id = image.id.to_string();
    c.execute(
        "INSERT INTO images (id, pulled_usec, size) VALUES (?1, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET pulled_usec = excluded.pulled_usec",
        params![id, image.pulled.as_i64(), i64::try_from(image.size).unwrap_or(i64::MAX)],
    )?;
    for (position, layer) in image.layers.iter().enumerate() {
        c.execute(
            "INSERT OR REPLACE INTO image_layers (image_id, position, chain_id) VALUES (?1, ?2, ?3)",
            params![id, i64::try_from(position).unwrap_or(i64::MAX), layer.to_string()],
        )?;
    }
    for reference in &image.references {
        c.execute(
            "INSERT OR REPLACE INTO image_references (reference, image_id) VALUES (?1, ?2)",
            [reference, &id],
        )?;
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

/// All that images have in the store, also images that cannot be read.
pub(crate) fn needed(c: &Connection) -> Result<Needed, Error> {
    let mut query = c.prepare("SELECT DISTINCT chain_id FROM image_layers")?;
    let layers = query.query_map([], |row| row.get::<_, String>(0))?;
    let layers = layers.map(|layer| layer?.parse().map_err(|_| not_text(0, "chain_id")));
    let layers = layers.collect::<Result<_, Error>>()?;
    let mut query = c.prepare("SELECT id FROM images")?;
    let blobs = query.query_map([], |row| row.get::<_, String>(0))?;
    let blobs = blobs.map(|id| id?.parse().map_err(|_| not_text(0, "id")));
    Ok(Needed { layers, blobs: blobs.collect::<Result<_, Error>>()? })
}
