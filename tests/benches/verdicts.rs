//! Which promises hold.

use std::fmt;

use crate::report::{Measured, Report};

/// The rows of a report for which something is promised.
#[derive(Debug)]
pub(crate) struct Verdicts {
    all: usize,
    /// Those that miss it, each with its host.
    missed: Vec<String>,
}

impl Verdicts {
    pub(crate) fn of(report: &Report) -> Self {
        let promised: Vec<&Measured> =
            report.rows.iter().filter(|row| row.must.is_some() || row.failed.is_some()).collect();
        let misses = |row: &&&Measured| !row.must.as_ref().is_some_and(|must| must.kept);
        let name = |row: &&Measured| format!("{} ({})", row.name, row.condition.name());
        Self { all: promised.len(), missed: promised.iter().filter(misses).map(name).collect() }
    }

    /// Whether all hold.
    pub(crate) fn all_hold(&self) -> bool {
        self.missed.is_empty()
    }
}

impl fmt::Display for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "what must be: {} of {} hold", self.all - self.missed.len(), self.all)?;
        if !self.missed.is_empty() {
            write!(f, ", these miss: {}", self.missed.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::Condition;
    use crate::report::tests::{ROW, turns};
    use crate::row::{Promise, Row, Who};

    #[test]
    fn what_misses_is_named() {
        let row = |name, least| Row { name, must: Some(Promise::Times(least, Who::Podman)), ..ROW };
        let all = [10.0, 50.0, 5.0].map(|figure| turns([figure]));
        let measured = |row: &Row| Measured::new(row, Condition::Plain, &all);
        let rows = vec![measured(&row("good", 4.0)), measured(&row("bad", 6.0)), measured(&ROW)];
        let verdicts = Verdicts::of(&Report { rows, ..Report::default() });
        assert!(!verdicts.all_hold());
        assert_eq!(verdicts.to_string(), "what must be: 1 of 2 hold, these miss: bad (plain)");

        let verdicts = Verdicts::of(&Report { rows: vec![measured(&ROW)], ..Report::default() });
        assert!(verdicts.all_hold(), "nothing is promised");
        let failed = Measured::failed(&row("broken", 4.0), Condition::Plain, "why".into());
        let verdicts = Verdicts::of(&Report { rows: vec![failed], ..Report::default() });
        assert!(!verdicts.all_hold(), "what could not be measured does not hold");
    }
}
