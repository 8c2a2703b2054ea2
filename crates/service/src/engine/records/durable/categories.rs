//! Which categories containers have, that keep them apart on a host with `SELinux`.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, params};
use tare_runtime::ContainerId;
use tare_specgen::Categories;

use super::text;
use crate::db::Error;

/// The pair that a container has, or one from now on that no other has, of these that were drawn if it
/// can be; nothing if all are taken.
pub(crate) fn give_categories(
    c: &Connection,
    id: &ContainerId,
    drawn: &[(u16, u16)],
) -> Result<Option<Categories>, Error> {
    let has = c
        .prepare_cached("SELECT pair FROM categories WHERE container = ?1")?
        .query_row([id.as_str()], |row| Ok(text(row, "pair")))
        .optional()?;
    if let Some(has) = has {
        return has.map(Some);
    }
    let Some(pair) = Categories::choose(&taken(c)?, drawn.iter().copied()) else { return Ok(None) };
    c.prepare_cached("INSERT INTO categories (container, pair) VALUES (?1, ?2)")?
        .execute(params![id.as_str(), pair.to_string()])?;
    Ok(Some(pair))
}

fn taken(c: &Connection) -> Result<BTreeSet<Categories>, Error> {
    let mut query = c.prepare_cached("SELECT pair FROM categories")?;
    let pairs = query.query_map([], |row| Ok(text(row, "pair")))?;
    pairs.map(|pair| pair?).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::records::durable::{self, ContainerRow, ImageRow, scratch};
    use tare_storage::Digest;

    #[test]
    fn a_pair_is_one_containers_until_that_is_gone() {
        let c = scratch();
        let image = ImageRow { id: Digest::of(b"image"), ..ImageRow::sample("i") };
        durable::put_image(&c, &image).unwrap();
        let rows = ["a", "b"].map(ContainerRow::sample);
        for row in &rows {
            durable::insert_container(&c, row).unwrap();
        }
        let [a, b] = [0, 1].map(|at| rows[at].id.clone());
        let give = |id, drawn| {
            let pair = give_categories(&c, id, &[drawn]).unwrap();
            pair.unwrap().to_string()
        };
        assert_eq!(give(&a, (7, 3)), "c3,c7");
        assert_eq!(give(&a, (8, 9)), "c3,c7", "it has it already");
        assert_eq!(give(&b, (3, 7)), "c0,c1", "that one is taken");
        let found = |id: &ContainerId| {
            let all = durable::containers(&c).unwrap().into_iter().map(Result::unwrap);
            let mut all = all.filter(|(row, _)| row.id == *id);
            all.next().and_then(|(row, _)| row.categories).map(|pair| pair.to_string())
        };
        assert_eq!(found(&a).as_deref(), Some("c3,c7"));
        durable::delete_container(&c, &a).unwrap();
        durable::delete_container(&c, &b).unwrap();
        let again = ContainerRow::sample("c");
        durable::insert_container(&c, &again).unwrap();
        assert_eq!(found(&again.id), None);
        assert_eq!(give(&again.id, (3, 7)), "c3,c7", "it is free again");
    }

    /// The database itself does not let two have one.
    #[test]
    fn no_two_have_one_pair() {
        let c = scratch();
        let image = ImageRow { id: Digest::of(b"image"), ..ImageRow::sample("i") };
        durable::put_image(&c, &image).unwrap();
        for name in ["a", "b"] {
            let row = ContainerRow::sample(name);
            durable::insert_container(&c, &row).unwrap();
            let given = c.execute(
                "INSERT INTO categories (container, pair) VALUES (?1, 'c1,c2')",
                [row.id.as_str()],
            );
            assert_eq!(given.is_ok(), name == "a", "{name}");
        }
    }
}
