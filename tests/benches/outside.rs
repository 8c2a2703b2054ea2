//! What runs on the developer's machine: boots a lab system, measures in it, takes it away again.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::signal::unix::{SignalKind, signal};

use crate::lab::Lab;
use crate::report::Report;
use crate::{Options, Result, SCRATCH, compare, print, say, table};

/// Where this program is in the lab.
const PROGRAM: &str = "/usr/local/libexec/tare-bench";
/// What it writes there.
const REPORT: &str = "report.json";

/// Measures in a system of its own. Whether all rows could be measured.
pub(crate) async fn run(options: &Options) -> Result<bool> {
    let lab = Lab::new(&programs()?);
    // Whatever happens, the value goes at the end of this, and the system with it.
    let report = tokio::select! {
        report = in_lab(&lab, options) => report?,
        name = interrupted() => return Err(format!("ended by {}", name?).into()),
    };
    if let Some(before) = &options.against {
        print(&compare::render(&Report::read(before)?, &report))?;
    }
    print(&table::render(&report))?;
    fs::create_dir_all(options.json.parent().unwrap_or(Path::new(".")))?;
    report.write(&options.json)?;
    say(format_args!("all figures: {}", options.json.display()));
    Ok(report.rows.iter().all(|row| row.failed.is_none()))
}

async fn in_lab(lab: &Lab, options: &Options) -> Result<Report> {
    lab.up().await?;
    let root = lab.root()?;
    let inside = |path: &str| root.join(path.trim_start_matches('/'));
    fs::create_dir_all(inside(PROGRAM).parent().ok_or("no directory")?)?;
    fs::copy(std::env::current_exe()?, inside(PROGRAM))?;
    let output = format!("{SCRATCH}/{REPORT}");
    let mut command = lab.command(PROGRAM);
    command.args(options.inside()).arg("--json").arg(&output);
    let status = tokio::process::Command::from(command).kill_on_drop(true).status().await?;
    if !status.success() {
        return Err(format!("measuring ended with {status}").into());
    }
    Report::read(&inside(&output))
}

/// Where `tared` and `tarectl` are: `$TARE_BIN_DIR`, else beside this program.
fn programs() -> Result<PathBuf> {
    let beside = || Ok(std::env::current_exe()?.parent().ok_or("no directory")?.to_path_buf());
    let dir = std::env::var_os("TARE_BIN_DIR").map_or_else(beside, |dir| Result::Ok(dir.into()))?;
    if dir.join("tared").is_file() {
        return Ok(dir);
    }
    Err(format!("no tared in {}: cargo build --release -p tare-service -p tarectl", dir.display())
        .into())
}

async fn interrupted() -> Result<&'static str> {
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .map(signal)
        .into_iter()
        .collect::<std::io::Result<Vec<_>>>()?;
    let [interrupt, terminate, hang_up] = &mut signals[..] else { return Err("a signal".into()) };
    Ok(tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
        _ = hang_up.recv() => "SIGHUP",
    })
}
