//! Maps of the ids of user namespaces.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::Refusal;

/// Longest map that the kernel takes in one piece, in bytes; see `user_namespaces(7)`.
const MAX_MAP: usize = 4 << 10;

/// Ids in a user namespace, and what they are outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdRange {
    /// The first one inside.
    pub inside: u32,
    /// What that is outside.
    pub outside: u32,
    /// How many there are.
    pub size: u32,
}

/// Which ids a user namespace has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserMap {
    /// Of users.
    pub uids: Vec<IdRange>,
    /// Of groups.
    pub gids: Vec<IdRange>,
}

impl UserMap {
    /// Both as the kernel reads them: of users, and of groups.
    pub(crate) fn lines(&self) -> Result<[String; 2], Refusal> {
        let [uids, gids] = [lines(&self.uids), lines(&self.gids)];
        let fits = |text: &String| (1..MAX_MAP).contains(&text.len());
        if fits(&uids) && fits(&gids) { Ok([uids, gids]) } else { Err(Refusal::IdMaps) }
    }
}

fn lines(ranges: &[IdRange]) -> String {
    ranges.iter().fold(String::new(), |mut text, IdRange { inside, outside, size }| {
        // Writing to a text does not fail.
        let _ = writeln!(text, "{inside} {outside} {size}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_a_line_for_each_range_and_fits_in_one_piece() {
        let range = |inside| IdRange { inside, outside: 100_000 + inside, size: 1 };
        let map = |count| UserMap { uids: vec![range(7)], gids: (0..count).map(range).collect() };
        let lines = map(2).lines().unwrap();
        assert_eq!(lines, ["7 100007 1\n", "0 100000 1\n1 100001 1\n"]);
        assert_eq!(map(0).lines(), Err(Refusal::IdMaps));
        assert_eq!(map(340).lines(), Err(Refusal::IdMaps));
    }
}
