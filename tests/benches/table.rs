//! The table that people read.

use std::fmt::{self, Write};

use crate::figures::Summary;
use crate::report::{Contestant, Judged, Measured, Report};
use crate::verdicts::Verdicts;

/// Everything, a block of lines for each row.
pub(crate) fn render(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut out, report);
    out
}

fn write(out: &mut String, report: &Report) -> fmt::Result {
    let host = &report.host;
    writeln!(
        out,
        "kernel {}, {} processors, load {}",
        host.kernel,
        host.processors,
        host.load.join(" -> ")
    )?;
    writeln!(out, "{}", host.versions.values().cloned().collect::<Vec<_>>().join(", "))?;
    if report.quick {
        writeln!(out, "Quick: these figures say that it works, and nothing else.")?;
    }
    let [row, host, who, median, spread] = ["row", "host", "who", "median", "10 .. 90 %"];
    write!(out, "\n{row:18} {host:12} {who:13} {median:>10} {spread:>19} {:>3} {:>9}", "n", "cpu")?;
    writeln!(out, "  {:13} {:>16} {:13} {:27} aim", "first is", "10 .. 90 %", "in cpu", "must")?;
    report.rows.iter().try_for_each(|row| write_row(out, row))?;
    writeln!(out, "\ncpu: processor time of a turn, of the whole system. What the rows measure:")?;
    let mut told = Vec::new();
    for row in &report.rows {
        if !told.contains(&&row.name) {
            writeln!(out, "{:18} {}", row.name, row.measures)?;
            told.push(&row.name);
        }
    }
    writeln!(out, "\n{}", Verdicts::of(report))
}

fn write_row(out: &mut String, row: &Measured) -> fmt::Result {
    if let Some(why) = &row.failed {
        return writeln!(out, "{:18} {:12} FAILED: {why}", row.name, row.condition.name());
    }
    for (place, contestant) in row.contestants.iter().enumerate() {
        let first = place == 0;
        let (name, condition) =
            if first { (row.name.as_str(), row.condition.name()) } else { ("", "") };
        let promise = |it: &Option<Judged>| it.as_ref().filter(|_| first).map(judged);
        let (must, aim) =
            (promise(&row.must).unwrap_or_default(), promise(&row.aim).unwrap_or_default());
        let line = format!("{name:18} {condition:12} {} {must:27} {aim}", figures(row, contestant));
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn figures(row: &Measured, contestant: &Contestant) -> String {
    let summary = contestant.summary;
    let ours = contestant.against_ours;
    format!(
        "{:13} {:>7} {:2} {:>19} {:>3} {:>6} ms  {:13} {:>16} {:13}",
        contestant.name,
        short(summary.median),
        row.unit.to_string(),
        spread(summary),
        contestant.turns.len(),
        short(contestant.cpu.median),
        ours.map(|it| compared(it.times_better.median)).unwrap_or_default(),
        ours.map(|it| spread(it.times_better)).unwrap_or_default(),
        ours.map(|it| compared(it.times_less_cpu.median)).unwrap_or_default(),
    )
}

fn compared(times: f64) -> String {
    match times {
        1.0.. => format!("{}x better", short(times)),
        _ => format!("{}x worse", short(1.0 / times)),
    }
}

fn judged(judged: &Judged) -> String {
    let Judged { promise, reached, kept } = judged;
    let verdict = if *kept { "holds" } else { "MISSES" };
    format!("{promise}: {verdict}, {}", short(*reached))
}

/// Between what most samples are.
pub(crate) fn spread(summary: Summary) -> String {
    format!("{} .. {}", short(summary.p10), short(summary.p90))
}

/// Three digits that count.
pub(crate) fn short(value: f64) -> String {
    let digits = match value.abs() {
        0.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}
