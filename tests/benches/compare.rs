//! Two reports, side by side.

use std::fmt;

use crate::condition::Condition;
use crate::figures::Summary;
use crate::report::{Contestant, Measured, Report};
use crate::table::{short, spread};

/// How many times one may be the other for two runs to have found the same.
const SAME: f64 = 1.2;

/// How our figures, and how many times better than others they are, differ between two runs.
#[derive(Debug)]
pub(crate) struct Comparison(Vec<Line>);

/// One thing, as it was and as it is.
#[derive(Debug)]
struct Line {
    row: String,
    condition: Condition,
    what: String,
    kind: Kind,
    before: Summary,
    now: Summary,
}

/// What two runs may be expected to agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// How many times better one is than the other: does not depend on the moment.
    Ratio,
    /// All else is the machine's, and the moment's.
    Figure,
}

impl Comparison {
    /// Of what both reports have.
    pub(crate) fn of(before: &Report, now: &Report) -> Self {
        let both = now.rows.iter().filter_map(|row| {
            let same = |it: &&Measured| it.name == row.name && it.condition == row.condition;
            Some((before.rows.iter().find(same)?, row))
        });
        Self(both.flat_map(|(before, now)| lines(before, now)).collect())
    }

    /// Whether there are ratios, and all of them are what they were.
    pub(crate) fn is_reproduced(&self) -> bool {
        let mut ratios = self.ratios().peekable();
        ratios.peek().is_some() && ratios.all(Line::is_same)
    }

    fn ratios(&self) -> impl Iterator<Item = &Line> {
        self.0.iter().filter(|line| line.kind == Kind::Ratio)
    }
}

/// What is compared, by what name, before and now.
type Pair = (Kind, String, Summary, Summary);

/// All that can be compared of one row.
fn lines(before: &Measured, row: &Measured) -> Vec<Line> {
    let both = row
        .contestants
        .iter()
        .filter_map(|it| Some((before.contestants.iter().find(|old| old.name == it.name)?, it)));
    let line = |(kind, what, before, now): Pair| Line {
        row: row.name.clone(),
        condition: row.condition,
        what,
        kind,
        before,
        now,
    };
    both.flat_map(|(before, contestant)| pairs(row, before, contestant)).map(line).collect()
}

/// Of others only how they compare to ours: their own figures are the machine's.
fn pairs(row: &Measured, before: &Contestant, now: &Contestant) -> [Pair; 2] {
    let name = &now.name;
    match (before.against_ours, now.against_ours) {
        (Some(before), Some(now)) => {
            let (times, cpu) =
                (format!("times better than {name}"), format!("times less cpu than {name}"));
            [
                (Kind::Ratio, times, before.times_better, now.times_better),
                (Kind::Figure, cpu, before.times_less_cpu, now.times_less_cpu),
            ]
        }
        _ => [
            (Kind::Figure, format!("{name}, {}", row.unit), before.summary, now.summary),
            (Kind::Figure, format!("{name}, ms of cpu"), before.cpu, now.cpu),
        ],
    }
}

impl Line {
    fn is_same(&self) -> bool {
        let times = self.now.median / self.before.median;
        (1.0 / SAME..=SAME).contains(&times)
    }

    fn verdict(&self) -> &'static str {
        match (self.kind, self.is_same()) {
            (Kind::Figure, _) => "",
            (Kind::Ratio, true) => "  within 20 %",
            (Kind::Ratio, false) => "  APART",
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [row, host, spread] = ["row", "host", "10 .. 90 % now"];
        write!(f, "{row:18} {host:12} {:30} {:>9} {:>9} {spread:>17} ", "", "before", "now")?;
        writeln!(f, "{:>8}", "change")?;
        self.0.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        let (all, same) =
            (self.ratios().count(), self.ratios().filter(|line| line.is_same()).count());
        writeln!(f, "\n{same} of {all} ratios of the two runs are within 20 % of each other")
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let change = 100.0 * (self.now.median / self.before.median - 1.0);
        let head = format!("{:18} {:12} {:30}", self.row, self.condition.name(), self.what);
        let [before, now] = [self.before, self.now].map(|it| short(it.median));
        let spread = spread(self.now);
        write!(f, "{head} {before:>9} {now:>9} {spread:>17} {change:+6.0} %{}", self.verdict())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{ROW, turns};

    fn report(figures: [f64; 3]) -> Report {
        let all = figures.map(|figure| turns([figure]));
        Report { rows: vec![Measured::new(&ROW, Condition::Plain, &all)], ..Report::default() }
    }

    #[test]
    fn ratios_are_compared_and_figures_are_not() {
        let before = report([10.0, 50.0, 5.0]);
        for (about, now, reproduced) in [
            ("nothing has changed", [10.0, 50.0, 5.0], true),
            ("the machine is slower", [20.0, 100.0, 10.0], true),
            ("just within", [10.0, 59.0, 5.0], true),
            ("better than podman by more", [10.0, 61.0, 5.0], false),
            ("and by less", [10.0, 41.0, 5.0], false),
            ("beside crun alone", [10.0, 50.0, 6.1], false),
        ] {
            let comparison = Comparison::of(&before, &report(now));
            assert_eq!(comparison.is_reproduced(), reproduced, "{about}: {comparison}");
            assert_eq!(comparison.to_string().contains("APART"), !reproduced, "{about}");
        }
    }

    #[test]
    fn nothing_in_common_is_not_the_same() {
        let other = Report::default();
        assert!(!Comparison::of(&other, &report([1.0, 1.0, 1.0])).is_reproduced());
    }
}
