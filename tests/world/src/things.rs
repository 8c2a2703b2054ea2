//! Things with names, and what differs between two collections of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Things of one kind: how each is, by its name. There may be several of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Things(BTreeMap<String, Vec<String>>);

impl FromIterator<(String, String)> for Things {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(things: I) -> Self {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, how) in things {
            all.entry(name).or_default().push(how);
        }
        // In no order: two collections are the same whichever thing was found first.
        for hows in all.values_mut() {
            hows.sort();
        }
        Self(all)
    }
}

impl Things {
    /// What is in `now` and not here, and the other way round.
    pub(super) fn differences(&self, kind: &'static str, now: &Self) -> Vec<Difference> {
        let names: BTreeSet<&String> = self.0.keys().chain(now.0.keys()).collect();
        let of_name = |name: &String| {
            let (before, after) = (self.of(name), now.of(name));
            let changes = changes(minus(before, after), minus(after, before)).into_iter();
            let difference = |change| Difference { kind, name: name.clone(), change };
            changes.map(difference).collect::<Vec<_>>()
        };
        names.into_iter().flat_map(of_name).collect()
    }

    fn of(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// What and how each is.
    pub(super) fn lines(&self, kind: &str) -> impl Iterator<Item = String> {
        let all = self.0.iter().flat_map(|(name, hows)| hows.iter().map(move |how| (name, how)));
        all.map(move |(name, how)| format!("{kind}: {name}{}", in_brackets(how)))
    }

    /// Each, by name, with how it is.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.0.iter().flat_map(|(name, hows)| hows.iter().map(move |how| (name, how)));
        all.map(|(name, how)| (name.as_str(), how.as_str()))
    }

    /// Forgets those whose names do not fit.
    pub(super) fn retain(&mut self, fits: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| fits(name));
    }
}

/// What is in `all` more often than in `some`.
fn minus(all: &[String], some: &[String]) -> Vec<String> {
    let mut more = all.to_vec();
    for one in some {
        if let Some(at) = more.iter().position(|other| other == one) {
            more.remove(at);
        }
    }
    more
}

fn changes(gone: Vec<String>, new: Vec<String>) -> Vec<Change> {
    if let ([before], [after]) = (gone.as_slice(), new.as_slice()) {
        return vec![Change::Changed { before: before.clone(), after: after.clone() }];
    }
    let gone = gone.into_iter().map(Change::Gone);
    gone.chain(new.into_iter().map(Change::New)).collect()
}

/// One thing that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What kind of thing.
    pub kind: &'static str,
    /// Which.
    pub name: String,
    /// What became of it.
    pub change: Change,
}

/// What became of a thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was not there before; how it is.
    New(String),
    /// It is no longer there; how it was.
    Gone(String),
    /// It is there, but differently.
    Changed {
        /// How it was.
        before: String,
        /// How it is.
        after: String,
    },
}

fn in_brackets(how: &str) -> String {
    if how.is_empty() { String::new() } else { format!(" ({how})") }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, change } = self;
        match change {
            Change::New(how) => write!(f, "new {kind}: {name}{}", in_brackets(how)),
            Change::Gone(how) => write!(f, "gone {kind}: {name}{}", in_brackets(how)),
            Change::Changed { before, after } => {
                write!(f, "changed {kind}: {name}: {before} -> {after}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn things(all: &[(&str, &str)]) -> Things {
        all.iter().map(|(name, how)| ((*name).into(), (*how).into())).collect()
    }

    #[test]
    fn differences_name_what_changed_and_count() {
        for (about, before, after, said) in [
            ("nothing", &[("a", "1"), ("a", "2")][..], &[("a", "2"), ("a", "1")][..], &[][..]),
            ("one more of the same", &[("a", "1")], &[("a", "1"), ("a", "1")], &["new x: a (1)"]),
            ("gone", &[("a", ""), ("b", "")], &[("b", "")], &["gone x: a"]),
            (
                "changed",
                &[("a", "1"), ("a", "2")],
                &[("a", "3"), ("a", "2")],
                &["changed x: a: 1 -> 3"],
            ),
            (
                "all else",
                &[("a", "1")],
                &[("a", "2"), ("a", "3")],
                &["gone x: a (1)", "new x: a (2)", "new x: a (3)"],
            ),
        ] {
            let differences = things(before).differences("x", &things(after));
            let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
            assert_eq!(lines, said, "{about}");
        }
    }
}
