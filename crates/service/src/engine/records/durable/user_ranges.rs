//! Which subordinate ids containers have, for user namespaces of their own.

use std::ops::Range;

use rusqlite::{Connection, params};
use tare_runtime::ContainerId;

use crate::db::Error;

/// How many ids a container has.
pub(crate) const RANGE_SIZE: u32 = 1 << 16;

/// The ids of a container, each the first of [`RANGE_SIZE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UserRange {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Gives a container the lowest ranges in these ids that no other one has; nothing if there are none.
pub(crate) fn assign_range(
    c: &Connection,
    id: &ContainerId,
    uids: &[Range<u32>],
    gids: &[Range<u32>],
) -> Result<Option<UserRange>, Error> {
    let uid = lowest_free(&taken(c, "first_uid")?, uids);
    let gid = lowest_free(&taken(c, "first_gid")?, gids);
    let (Some(uid), Some(gid)) = (uid, gid) else { return Ok(None) };
    c.prepare_cached(
        "INSERT INTO user_ranges (container, first_uid, first_gid) VALUES (?1, ?2, ?3)",
    )?
    .execute(params![id.as_str(), uid, gid])?;
    Ok(Some(UserRange { uid, gid }))
}

fn taken(c: &Connection, column: &str) -> Result<Vec<u32>, Error> {
    let mut query =
        c.prepare_cached(&format!("SELECT {column} FROM user_ranges ORDER BY {column}"))?;
    let firsts = query.query_map([], |row| row.get(0))?;
    Ok(firsts.collect::<Result<_, _>>()?)
}

/// `taken` is in order. What is to be chosen from may have changed since those were.
fn lowest_free(taken: &[u32], ids: &[Range<u32>]) -> Option<u32> {
    let mut free = ids.iter().filter_map(|ids| {
        let mut first = ids.start;
        for &other in taken {
            let is_before = other.saturating_add(RANGE_SIZE) <= first;
            if !is_before && other < first.saturating_add(RANGE_SIZE) {
                first = other.checked_add(RANGE_SIZE)?;
            }
        }
        (first.checked_add(RANGE_SIZE)? <= ids.end).then_some(first)
    });
    free.next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::records::durable::{self, ContainerRow, ImageRow, scratch};
    use tare_storage::Digest;

    const FIRST: u32 = 1 << 20;

    fn ids(count: u32) -> Range<u32> {
        FIRST..FIRST + count * RANGE_SIZE
    }

    #[test]
    fn ranges_are_disjoint_and_those_of_who_has_gone_are_used_again() {
        let c = scratch();
        let image = ImageRow { id: Digest::of(b"image"), ..ImageRow::sample("i") };
        durable::put_image(&c, &image).unwrap();
        let rows: Vec<_> = ["a", "b", "c"].map(ContainerRow::sample).into();
        let (uids, gids) = ([ids(2)], [ids(1), 7 * FIRST..8 * FIRST]);
        let mut got = Vec::new();
        for row in &rows {
            durable::insert_container(&c, row).unwrap();
            got.push(assign_range(&c, &row.id, &uids, &gids).unwrap());
        }
        let range = |uid, gid| Some(UserRange { uid, gid });
        let second = range(FIRST + RANGE_SIZE, 7 * FIRST);
        assert_eq!(got, [range(FIRST, FIRST), second, None], "the third finds none");
        let found = |c: &Connection| {
            let all = durable::containers(c).unwrap().into_iter();
            let mut all: Vec<_> = all.filter_map(|it| it.unwrap().0.users).collect();
            all.sort_by_key(|range| range.uid);
            all
        };
        assert_eq!(found(&c).len(), 2);
        durable::delete_container(&c, &rows[0].id).unwrap();
        assert_eq!(assign_range(&c, &rows[2].id, &uids, &gids).unwrap(), range(FIRST, FIRST));
        assert_eq!(
            found(&c).into_iter().map(Some).collect::<Vec<_>>(),
            [range(FIRST, FIRST), second]
        );
    }

    #[test]
    fn the_lowest_range_that_overlaps_no_other_is_taken() {
        let free = |taken: &[u32], ids: Range<u32>| lowest_free(taken, &[ids]);
        assert_eq!(free(&[], ids(1)), Some(FIRST));
        assert_eq!(free(&[FIRST], ids(1)), None);
        assert_eq!(free(&[FIRST + 5], ids(3)), Some(FIRST + 5 + RANGE_SIZE));
        assert_eq!(free(&[FIRST - 5], ids(2)), Some(FIRST - 5 + RANGE_SIZE));
        assert_eq!(free(&[FIRST + RANGE_SIZE], ids(3)), Some(FIRST));
        assert_eq!(free(&[FIRST - RANGE_SIZE], ids(1)), Some(FIRST), "it ends just there");
        assert_eq!(free(&[], FIRST..FIRST + RANGE_SIZE - 1), None, "it is too short");
        assert_eq!(free(&[u32::MAX - 9], u32::MAX - RANGE_SIZE..u32::MAX), None);
    }
}
