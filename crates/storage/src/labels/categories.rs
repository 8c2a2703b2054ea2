use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::names::InvalidName;

/// Categories the policies of distributions have.
const COUNT: u16 = 1024;

/// Draws before it is counted through; half full, each fails with a chance of one half.
const DRAWS: u32 = 64;

/// Two different categories, by which `SELinux` keeps containers of one type apart: `c3,c7`.
///
/// There are 523,776 pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Categories {
    low: u16,
    high: u16,
}

impl Categories {
    /// A pair that is not taken, drawn by `random`, which gives any number; `None` if all are.
    pub fn choose(taken: &BTreeSet<Self>, mut random: impl FnMut() -> u32) -> Option<Self> {
        let number = |random: u32| u16::try_from(random % u32::from(COUNT)).unwrap_or(0);
        for _ in 0..DRAWS {
            let drawn = Self::new(number(random()), number(random()));
            if let Some(pair) = drawn.filter(|pair| !taken.contains(pair)) {
                return Some(pair);
            }
        }
        Self::all().find(|pair| !taken.contains(pair))
    }

    fn all() -> impl Iterator<Item = Self> {
        (0..COUNT).flat_map(|low| (low + 1..COUNT).map(move |high| Self { low, high }))
    }

    fn new(one: u16, other: u16) -> Option<Self> {
        let (low, high) = (one.min(other), one.max(other));
        (low < high && high < COUNT).then_some(Self { low, high })
    }
}

impl FromStr for Categories {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let number = |part: &str| part.strip_prefix('c')?.parse().ok();
        let pair = text.split_once(',');
        let pair = pair.and_then(|(one, other)| Self::new(number(one)?, number(other)?));
        pair.ok_or(InvalidName::Fields)
    }
}

impl fmt::Display for Categories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{},c{}", self.low, self.high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pairs_are_two_different_categories() {
        for (text, want) in [
            ("c1,c2", Some("c1,c2")),
            ("c1023,c0", Some("c0,c1023")),
            ("c1,c1", None),
            ("c1,c1024", None),
            ("c1", None),
            ("1,2", None),
            ("c-1,c2", None),
        ] {
            let parsed = text.parse::<Categories>().ok().map(|pair| pair.to_string());
            assert_eq!(parsed.as_deref(), want, "{text}");
        }
    }

    #[test]
    fn the_last_free_pair_is_found_and_none_when_all_are_taken() {
        let mut taken: BTreeSet<_> = Categories::all().collect();
        assert_eq!(taken.len(), 523_776);
        assert_eq!(Categories::choose(&taken, || 7), None);
        let last: Categories = "c500,c900".parse().unwrap();
        taken.remove(&last);
        assert_eq!(Categories::choose(&taken, || 7), Some(last));
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_not_taken(draws in proptest::collection::vec(any::<u32>(), 200)) {
            let mut taken = BTreeSet::new();
            let mut draws = draws.into_iter().cycle();
            for _ in 0..50 {
                let pair = Categories::choose(&taken, || draws.next().unwrap()).unwrap();
                prop_assert!(taken.insert(pair), "{pair} again");
            }
        }
    }
}
