//! Two reports, side by side.

use std::fmt::Write;

use crate::figures::Summary;
use crate::report::{Contestant, Measured, Report};
use crate::table::short;

/// How our figures, and how many times better than others they are, differ between two runs.
pub(crate) fn render(before: &Report, now: &Report) -> String {
    let mut out = format!(
        "{:18} {:12} {:30} {:>9} {:>9} {:>8}\n",
        "row", "host", "", "before", "now", "change"
    );
    for row in &now.rows {
        let same = |it: &&Measured| it.name == row.name && it.condition == row.condition;
        let Some(old) = before.rows.iter().find(same) else { continue };
        for contestant in &row.contestants {
            let Some(old) = old.contestants.iter().find(|it| it.name == contestant.name) else {
                continue;
            };
            for (what, before, now) in pairs(row, old, contestant) {
                let change = 100.0 * (now.median / before.median - 1.0);
                let [before, now] = [before, now].map(|it| short(it.median));
                let head = format!("{:18} {:12} {what:30}", row.name, row.condition.name());
                // Writing to a string does not fail.
                let _ = writeln!(out, "{head} {before:>9} {now:>9} {change:+6.0} %");
            }
        }
    }
    out
}

/// Of others only how they compare to ours: their own figures are the machine's.
fn pairs(row: &Measured, before: &Contestant, now: &Contestant) -> [(String, Summary, Summary); 2] {
    let name = &now.name;
    match (before.against_ours, now.against_ours) {
        (Some(before), Some(now)) => [
            (format!("times better than {name}"), before.times_better, now.times_better),
            (format!("times less cpu than {name}"), before.times_less_cpu, now.times_less_cpu),
        ],
        _ => [
            (format!("{name}, {}", row.unit), before.summary, now.summary),
            (format!("{name}, ms of cpu"), before.cpu, now.cpu),
        ],
    }
}
