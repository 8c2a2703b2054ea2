//! Images, their names, and what of the store they need.

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
    /// Base first.
    pub(crate) layers: Vec<LayerRow>,
    pub(crate) references: Vec<String>,
    /// Digests of the manifests it is known by, the one that came last first.
    pub(crate) manifests: Vec<Digest>,
    /// Its layers as they came, in no order.
    pub(crate) layer_blobs: Vec<Digest>,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LayerRow {
    pub(crate) chain_id: ChainId,
    /// Bytes of its content.
    pub(crate) size: u64,
}

impl ImageRow {
    /// Bytes of content in all layers.
    pub(crate) fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }
}

/// Adds an image, or what is new about it; moves `references` to it. The image as it is then.
pub(crate) fn put_image(c: &Connection, image: &ImageRow) -> Result<ImageRow, Error> {
    let id = image.id.to_string();
    c.execute(
        "INSERT INTO images (id, pulled_usec, size) VALUES (?1, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET pulled_usec = excluded.pulled_usec",
        params![id, image.pulled.as_i64(), signed(image.size())],
    )?;
    for (position, layer) in image.layers.iter().enumerate() {
        c.execute(
            "INSERT OR REPLACE INTO image_layers (image_id, position, chain_id, size)
             VALUES (?1, ?2, ?3, ?4)",
            params![id, signed(position as u64), layer.chain_id.to_string(), signed(layer.size)],
        )?;
    }
    for (kind, blobs) in [("manifest", &image.manifests), ("layer", &image.layer_blobs)] {
        for digest in blobs {
            c.execute(
                "INSERT OR REPLACE INTO image_blobs (image_id, digest, kind, added_usec)
                 VALUES (?1, ?2, ?3, ?4)",
                params![id, digest.to_string(), kind, image.pulled.as_i64()],
            )?;
        }
    }
    for reference in &image.references {
        put_reference(c, reference, &image.id)?;
    }
    select(c, Some(&image.id))?.pop().ok_or_else(|| not_text(0, "id"))
}

/// Gives an image a name; another that has it loses it.
pub(crate) fn put_reference(c: &Connection, reference: &str, image: &Digest) -> Result<(), Error> {
    c.execute(
        "INSERT OR REPLACE INTO image_references (reference, image_id) VALUES (?1, ?2)",
        [reference, &image.to_string()],
    )?;
    Ok(())
}

/// Takes a name away from whatever image has it.
pub(crate) fn delete_reference(c: &Connection, reference: &str) -> Result<(), Error> {
    c.execute("DELETE FROM image_references WHERE reference = ?1", [reference])?;
    Ok(())
}

/// Takes an image out, with its names. It is refused while a container needs it.
pub(crate) fn delete_image(c: &Connection, image: &Digest) -> Result<(), Error> {
    c.execute("DELETE FROM images WHERE id = ?1", [image.to_string()])?;
    Ok(())
}

/// All images.
pub(crate) fn images(c: &Connection) -> Result<Vec<ImageRow>, Error> {
    select(c, None)
}

/// What all images need of the store, also images that cannot be read.
pub(crate) fn needed(c: &Connection) -> Result<Needed, Error> {
    let layers = texts(c, "SELECT DISTINCT chain_id FROM image_layers")?;
    let blobs = texts(c, "SELECT id FROM images UNION SELECT digest FROM image_blobs")?;
    Ok(Needed {
        layers: layers.iter().map(|text| parse(text)).collect::<Result<_, _>>()?,
        blobs: blobs.iter().map(|text| parse(text)).collect::<Result<_, _>>()?,
    })
}

/// All images, or that one.
fn select(c: &Connection, one: Option<&Digest>) -> Result<Vec<ImageRow>, Error> {
    let one = one.map(ToString::to_string);
    let mut layers = layers(c, one.as_deref())?;
    let grouped = |sql: &str| grouped(c, sql, one.as_deref());
    let mut references = grouped(
        "SELECT image_id, reference FROM image_references
         WHERE ?1 IS NULL OR image_id = ?1 ORDER BY reference",
    )?;
    let mut manifests = grouped(
        "SELECT image_id, digest FROM image_blobs WHERE kind = 'manifest'
         AND (?1 IS NULL OR image_id = ?1) ORDER BY added_usec DESC, digest",
    )?;
    let mut blobs = grouped(
        "SELECT image_id, digest FROM image_blobs WHERE kind = 'layer'
         AND (?1 IS NULL OR image_id = ?1) ORDER BY digest",
    )?;
    let mut query = c.prepare("SELECT * FROM images WHERE ?1 IS NULL OR id = ?1 ORDER BY id")?;
    let mut rows = query.query([&one])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get("id")?;
        found.push(ImageRow {
            id: text(row, "id")?,
            pulled: Usec::from_i64(row.get("pulled_usec")?),
            layers: layers.remove(&id).unwrap_or_default(),
            references: references.remove(&id).unwrap_or_default(),
            manifests: digests(manifests.remove(&id))?,
            layer_blobs: digests(blobs.remove(&id))?,
        });
    }
    Ok(found)
}

type Groups<T> = BTreeMap<String, Vec<T>>;

fn layers(c: &Connection, one: Option<&str>) -> Result<Groups<LayerRow>, Error> {
    let mut query = c.prepare(
        "SELECT image_id, chain_id, size FROM image_layers
         WHERE ?1 IS NULL OR image_id = ?1 ORDER BY image_id, position",
    )?;
    let mut rows = query.query([one])?;
    let mut groups = Groups::new();
    while let Some(row) = rows.next()? {
        let size: i64 = row.get("size")?;
        let layer = LayerRow {
            chain_id: text(row, "chain_id")?,
            size: u64::try_from(size).unwrap_or_default(),
        };
        groups.entry(row.get("image_id")?).or_default().push(layer);
    }
    Ok(groups)
}

fn grouped(c: &Connection, sql: &str, one: Option<&str>) -> Result<Groups<String>, Error> {
    let mut query = c.prepare(sql)?;
    let mut rows = query.query([one])?;
    let mut groups = Groups::new();
    while let Some(row) = rows.next()? {
        groups.entry(row.get(0)?).or_default().push(row.get(1)?);
    }
    Ok(groups)
}

fn digests(texts: Option<Vec<String>>) -> Result<Vec<Digest>, Error> {
    texts.unwrap_or_default().iter().map(|text| parse(text)).collect()
}

fn texts(c: &Connection, sql: &str) -> Result<Vec<String>, Error> {
    let mut query = c.prepare(sql)?;
    let texts = query.query_map([], |row| row.get(0))?;
    Ok(texts.collect::<Result<_, _>>()?)
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, Error> {
    text.parse().map_err(|_| not_text(0, "digest"))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
impl ImageRow {
    pub(crate) fn sample(name: &str) -> Self {
        let of = |part: &str| Digest::of(format!("{name}: {part}").as_bytes());
        Self {
            id: of("configuration"),
            pulled: Usec(1),
            layers: vec![LayerRow { chain_id: ChainId::base(of("layer")), size: 7 }],
            references: vec![format!("localhost/{name}:latest")],
            manifests: vec![of("manifest")],
            layer_blobs: vec![of("archive")],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scratch;
    use super::*;

    #[test]
    fn an_image_comes_back_with_all_that_was_ever_said_of_it() {
        let c = scratch();
        let first = ImageRow::sample("a");
        assert_eq!(put_image(&c, &first).unwrap(), first);
        let other = Digest::of(b"another manifest");
        let again = ImageRow {
            pulled: Usec(2),
            references: vec!["localhost/b:1".into()],
            manifests: vec![other],
            layer_blobs: Vec::new(),
            ..first.clone()
        };
        let both = put_image(&c, &again).unwrap();
        assert_eq!(both.references, ["localhost/a:latest", "localhost/b:1"]);
        assert_eq!(both.manifests, [other, first.manifests[0]], "the last one first");
        assert_eq!(both.layer_blobs, first.layer_blobs);
        assert_eq!(images(&c).unwrap(), [both]);
    }

    #[test]
    fn what_no_image_has_is_not_needed() {
        let c = scratch();
        let (a, b) = (ImageRow::sample("a"), ImageRow::sample("b"));
        put_image(&c, &a).unwrap();
        put_image(&c, &b).unwrap();
        delete_image(&c, &b.id).unwrap();
        let blobs = [vec![a.id], a.manifests.clone(), a.layer_blobs.clone()].concat();
        let layers = a.layers.iter().map(|layer| layer.chain_id).collect();
        assert_eq!(needed(&c).unwrap(), Needed { layers, blobs: blobs.into_iter().collect() });
    }

    #[test]
    fn a_name_is_of_one_image() {
        let c = scratch();
        let (a, b) = (ImageRow::sample("a"), ImageRow::sample("b"));
        put_image(&c, &a).unwrap();
        put_image(&c, &b).unwrap();
        let names =
            || -> Vec<_> { images(&c).unwrap().into_iter().map(|i| i.references).collect() };
        put_reference(&c, &b.references[0], &a.id).unwrap();
        assert_eq!(names().concat().len(), 2);
        assert!(names().iter().any(|of_one| of_one.len() == 2), "{:?}", names());
        delete_reference(&c, &b.references[0]).unwrap();
        assert_eq!(names().concat(), a.references);
    }

    #[test]
    fn an_image_of_the_first_schema_has_one_layer_of_its_size() {
        let c = rusqlite::Connection::open_in_memory().unwrap();
        c.execute_batch(super::super::MIGRATIONS[0]).unwrap();
        let (id, chain_id) = (Digest::of(b"i"), ChainId::base(Digest::of(b"l")));
        c.execute("INSERT INTO images VALUES (?1, 5, 42)", [id.to_string()]).unwrap();
        let layer = [id.to_string(), chain_id.to_string()];
        c.execute("INSERT INTO image_layers VALUES (?1, 0, ?2)", layer).unwrap();
        for sql in &super::super::MIGRATIONS[1..] {
            c.execute_batch(sql).unwrap();
        }
        let found = images(&c).unwrap();
        assert_eq!(found[0].layers, [LayerRow { chain_id, size: 42 }]);
    }
}
