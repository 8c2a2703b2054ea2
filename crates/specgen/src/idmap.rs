//! Maps of user and group ids; see `user_namespaces(7)`.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::{InvalidText, Problem};

/// Most lines of one map: of the longest ones, so many fit into one write of less than a page, as the kernel
/// wants it.
pub const MAX_ID_MAPPINGS: usize = 120;

/// A range of ids and what it is outside: `(inside, outside, how many)`, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(u32, u32, u32)", into = "(u32, u32, u32)")]
pub struct IdMapping {
    inside: u32,
    outside: u32,
    size: u32,
}

impl IdMapping {
    /// A range.
    ///
    /// # Errors
    /// When it is empty, or goes beyond the last id (4294967294).
    pub fn new(inside: u32, outside: u32, size: u32) -> Result<Self, InvalidText> {
        let fits = |first: u32| first.checked_add(size).is_some();
        if size == 0 || !fits(inside) || !fits(outside) {
            let rule = "is empty, or goes beyond 4294967294";
            return Err(InvalidText::new("id mapping", Problem::Form(rule)));
        }
        Ok(Self { inside, outside, size })
    }

    /// The first id inside.
    pub const fn inside(self) -> u32 {
        self.inside
    }

    /// What it is outside.
    pub const fn outside(self) -> u32 {
        self.outside
    }

    /// How many ids.
    pub const fn size(self) -> u32 {
        self.size
    }

    /// What this id is outside, if it is in the range.
    fn outside_of(self, id: u32) -> Option<u32> {
        let offset = id.checked_sub(self.inside)?;
        (offset < self.size).then(|| self.outside + offset)
    }
}

impl TryFrom<(u32, u32, u32)> for IdMapping {
    type Error = InvalidText;

    fn try_from((inside, outside, size): (u32, u32, u32)) -> Result<Self, Self::Error> {
        Self::new(inside, outside, size)
    }
}

impl From<IdMapping> for (u32, u32, u32) {
    fn from(mapping: IdMapping) -> Self {
        (mapping.inside, mapping.outside, mapping.size)
    }
}

/// What an id is outside; nothing if no range has it.
pub(crate) fn outside(id: u32, map: &[IdMapping]) -> Option<u32> {
    map.iter().find_map(|mapping| mapping.outside_of(id))
}

/// Whether no two ranges have an id in common, inside or outside, and there are not too many.
pub(crate) fn is_proper(map: &[IdMapping]) -> bool {
    let disjoint = |first: fn(&IdMapping) -> u32| {
        let mut ranges: Vec<_> = map.iter().map(|m| (first(m), m.size)).collect();
        ranges.sort_unstable();
        ranges.windows(2).all(|pair| pair[1].0 - pair[0].0 >= pair[0].1)
    };
    map.len() <= MAX_ID_MAPPINGS && disjoint(|m| m.inside) && disjoint(|m| m.outside)
}

/// Whether root is nobody by a map that is not empty: then nobody could make the container.
pub(crate) fn lacks_root(map: &[IdMapping]) -> bool {
    !map.is_empty() && outside(0, map).is_none()
}

/// An entry of `uidMappings` and `gidMappings`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct OciMapping {
    #[serde(rename = "containerID")]
    container: u32,
    #[serde(rename = "hostID")]
    host: u32,
    size: u32,
}

pub(crate) fn oci(map: &[IdMapping]) -> Vec<OciMapping> {
    map.iter().map(|m| OciMapping { container: m.inside, host: m.outside, size: m.size }).collect()
}

/// A map of a mount that was asked for by `idmap=`: as in podman, `inside-outside-size`, where a
/// leading `@` says that the outside is in the terms of the container's own user namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountMap {
    ranges: Vec<(bool, IdMapping)>,
}

impl FromStr for MountMap {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            InvalidText::new("idmap", Problem::Form("is not like 0-100000-65536#70000-70000-1"));
        let range = |part: &str| {
            let (relative, numbers) = match part.strip_prefix('@') {
                Some(rest) => (true, rest),
                None => (false, part),
            };
            let numbers: Vec<u32> = numbers
                .split('-')
                .map(|n| n.parse().ok().filter(|_| n.bytes().all(|b| b.is_ascii_digit())))
                .collect::<Option<_>>()
                .ok_or(wrong)?;
            let [inside, outside, size] = numbers[..] else { return Err(wrong) };
            Ok((relative, IdMapping::new(inside, outside, size)?))
        };
        let ranges = text.split('#').map(range).collect::<Result<_, _>>()?;
        Ok(Self { ranges })
    }
}

impl MountMap {
    /// The map in the terms of the host.
    pub(crate) fn resolve(&self, own: &[IdMapping]) -> Result<Vec<IdMapping>, InvalidText> {
        let unknown = InvalidText::new(
            "idmap",
            Problem::Form("has a relative range that the container's user namespace does not have"),
        );
        let absolute = |&(relative, mapping): &(bool, IdMapping)| {
            if !relative {
                return Ok(mapping);
            }
            let outside = outside(mapping.outside, own).ok_or(unknown)?;
            IdMapping::new(mapping.inside, outside, mapping.size)
        };
        self.ranges.iter().map(absolute).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(ranges: &[(u32, u32, u32)]) -> Vec<IdMapping> {
        ranges.iter().map(|range| IdMapping::try_from(*range).unwrap()).collect()
    }

    #[test]
    fn ranges_and_maps() {
        assert!(IdMapping::new(0, 0, 0).is_err());
        assert!(IdMapping::new(u32::MAX, 0, 1).is_err());
        assert!(IdMapping::new(0, 4_294_967_294, 1).is_ok());
        assert_eq!(outside(5, &map(&[(0, 100, 5), (5, 900, 1)])), Some(900));
        assert_eq!(outside(6, &map(&[(0, 100, 5), (5, 900, 1)])), None);
        assert!(is_proper(&map(&[(5, 0, 1), (0, 100, 5)])));
        assert!(!is_proper(&map(&[(0, 0, 2), (1, 100, 5)])), "inside twice");
        assert!(!is_proper(&map(&[(0, 7, 2), (9, 8, 5)])), "outside twice");
        let many: Vec<_> = (0..=340).map(|n| (n, n, 1)).collect();
        assert!(!is_proper(&map(&many)));
    }

    /// As podman has it, `TestParseOptionIDs`.
    #[test]
    fn maps_of_mounts() {
        let own = map(&[(0, 1000, 10), (10, 5000, 10)]);
        let get = |text: &str| text.parse::<MountMap>().and_then(|m| m.resolve(&own)).ok();
        let cases = [
            ("0-1-10", Some(map(&[(0, 1, 10)]))),
            ("0-1-10#10-11-10", Some(map(&[(0, 1, 10), (10, 11, 10)]))),
            ("@0-1-5", Some(map(&[(0, 1001, 5)]))),
            ("@0-12-5#3-4-1", Some(map(&[(0, 5002, 5), (3, 4, 1)]))),
            ("@0-20-5", None),
            ("", None),
            ("#", None),
            ("0-1", None),
            ("0-1-0", None),
            ("0-1-2-3", None),
            ("0-+1-2", None),
            ("@@0-1-2", None),
        ];
        for (text, want) in cases {
            assert_eq!(get(text), want, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn proper_maps_are_one_to_one(ranges in proptest::collection::vec((0_u32..40, 0_u32..40, 1_u32..9), 0..5)) {
            let map = map(&ranges);
            let ids: Vec<u32> = (0..60).filter_map(|id| outside(id, &map)).collect();
            let mut unique = ids.clone();
            unique.sort_unstable();
            unique.dedup();
            if is_proper(&map) {
                prop_assert_eq!(unique.len(), ids.len());
            }
        }
    }
}
