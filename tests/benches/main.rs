//! Figures: ours, podman's service and the bare runtime, measured alternately in one run.
//!
//! Boots a lab system, copies itself into it, and measures there what the rows say. Everybody has
//! a turn in each round, so that what slows the machine down slows down everybody; what counts is
//! how many times better one is than the other in the same round.
//!
//! No figure makes it fail, unless `--strict` is said. A row that cannot be measured does: an exit code that is not the one
//! the container ended with, a container that is still there, anything left behind.

mod compare;
mod condition;
mod cpu;
mod engine;
mod figures;
mod inside;
mod leftovers;
mod made_up;
mod outside;
mod report;
mod row;
mod rows;
mod service;
mod stage;
mod table;
mod verdicts;

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::row::Row;
use crate::stage::Depth;

/// Where everything of this program is in the lab.
const SCRATCH: &str = "/var/lib/tare-bench";

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Error>;

/// Measures Tare, podman and the bare runtime side by side, in a lab system.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
#[derive(Debug, Parser)]
struct Options {
    /// Do so little that it takes a minute; the figures say nothing then.
    #[arg(long)]
    quick: bool,
    /// Measure only these, separated by commas.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Measure only these contestants, by their names in the table; to profile them.
    #[arg(long, value_delimiter = ',')]
    who: Vec<String>,
    /// Where to write everything.
    #[arg(long, default_value = "target/bench/report.json")]
    json: PathBuf,
    /// Compare with what was written before.
    #[arg(long)]
    against: Option<PathBuf>,
    /// Fail where a promise is missed, or, with --against, where a ratio is not within 20 %.
    #[arg(long)]
    strict: bool,
    /// Say what can be measured, and measure nothing.
    #[arg(long)]
    list: bool,
    /// Measure on this very system, and print everything.
    #[arg(long, hide = true)]
    inside: bool,
}

impl Options {
    fn depth(&self) -> Depth {
        if self.quick { Depth::Quick } else { Depth::Full }
    }

    fn chosen(&self) -> Result<Vec<&'static Row>> {
        for name in &self.rows {
            if !rows::all().any(|row| row.name == name) {
                return Err(format!("there is no row {name}; --list tells which there are").into());
            }
        }
        let chosen = |row: &&Row| self.rows.is_empty() || self.rows.iter().any(|it| it == row.name);
        Ok(rows::all().filter(chosen).collect())
    }

    /// What is passed on to the program inside the lab.
    fn inside(&self) -> Vec<String> {
        let mut options = vec!["--inside".to_string()];
        options.extend(self.quick.then(|| "--quick".into()));
        for (option, names) in [("--rows", &self.rows), ("--who", &self.who)] {
            options.extend((!names.is_empty()).then(|| format!("{option}={}", names.join(","))));
        }
        options
    }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(error);
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<bool> {
    let rows = options.chosen()?;
    if options.list {
        rows.iter().try_for_each(|row| print(&format!("{:18} {}\n", row.name, row.measures)))?;
        return Ok(true);
    }
    // One thread: there are few processors, and others are to be measured on them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = tokio::task::LocalSet::new();
    if options.inside {
        let report = tasks.block_on(&runtime, inside::run(&rows, options))?;
        print(&report.to_json()?)?;
        return Ok(true);
    }
    tasks.block_on(&runtime, outside::run(options))
}

fn print(text: &str) -> Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Tells whoever waits.
fn say(what: impl Display) {
    // There is nobody else to tell if this fails.
    let _ = writeln!(std::io::stderr(), "bench: {what}");
}
