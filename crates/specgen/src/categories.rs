//! What keeps containers of one SELinux type apart.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::text::{InvalidText, Problem};

/// Categories the policies of distributions have.
const COUNT: u16 = 1024;

/// Two different categories of SELinux, the lower one first: `c3,c7`.
///
/// There are 523,776 pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Categories {
    low: u16,
    high: u16,
}

impl Categories {
    /// A pair that is not taken: the first of `drawn` that is one, as any two numbers may be, or the
    /// lowest; nothing if all are taken.
    pub fn choose(
        taken: &BTreeSet<Self>,
        drawn: impl IntoIterator<Item = (u16, u16)>,
    ) -> Option<Self> {
        let drawn = drawn.into_iter();
        let drawn = drawn.filter_map(|(one, other)| Self::new(one % COUNT, other % COUNT));
        drawn.chain(Self::all()).find(|pair| !taken.contains(pair))
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
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |part: &str| {
            let digits = part.strip_prefix('c')?;
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
        };
        let pair = text.split_once(',');
        let pair = pair.and_then(|(one, other)| Self::new(number(one)?, number(other)?));
        let problem = Problem::Form("is not like c3,c7");
        pair.ok_or_else(|| InvalidText::new("pair of categories", problem))
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
            ("c+1,c2", None),
            ("c1,c2,c3", None),
        ] {
            let parsed = text.parse::<Categories>().ok().map(|pair| pair.to_string());
            assert_eq!(parsed.as_deref(), want, "{text}");
        }
    }

    #[test]
    fn the_last_free_pair_is_found_and_none_when_all_are_taken() {
        let mut taken: BTreeSet<_> = Categories::all().collect();
        assert_eq!(taken.len(), 523_776);
        assert_eq!(Categories::choose(&taken, [(1, 2)]), None);
        let last: Categories = "c500,c900".parse().unwrap();
        taken.remove(&last);
        assert_eq!(Categories::choose(&taken, [(1, 2), (7, 7)]), Some(last));
    }

    #[test]
    fn what_was_drawn_is_had_if_it_is_free() {
        let choose = |taken: &BTreeSet<_>| {
            Categories::choose(taken, [(7, 7), (5, 5 + COUNT), (2000, 3)]).unwrap().to_string()
        };
        let mut taken = BTreeSet::new();
        assert_eq!(choose(&taken), "c3,c976");
        taken.insert("c3,c976".parse().unwrap());
        assert_eq!(choose(&taken), "c0,c1");
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_not_taken(
            draws in proptest::collection::vec(any::<(u16, u16)>(), 50),
            tries in 0_usize..4,
        ) {
            let mut taken = BTreeSet::new();
            for at in 0..draws.len() {
                let drawn = draws.iter().copied().cycle().skip(at).take(tries);
                let pair = Categories::choose(&taken, drawn).unwrap();
                prop_assert_eq!(pair.to_string().parse(), Ok(pair));
                prop_assert!(taken.insert(pair), "{} again", pair);
            }
        }
    }
}
