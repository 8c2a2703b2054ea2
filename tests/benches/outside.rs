//! What runs on the developer's machine: has a lab system measured in, and shows what came out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::compare::Comparison;
use crate::report::Report;
use crate::verdicts::Verdicts;
use crate::{Options, Result, print, say, table};

/// `lab run PROGRAM` runs a program in a system that is there as long as that.
const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/lab/lab");

/// Measures in a system of its own. Whether all rows could be measured.
pub(crate) async fn run(options: &Options) -> Result<bool> {
    let before = options.against.as_deref().map(Report::read).transpose()?;
    let report = in_lab(options).await?;
    fs::create_dir_all(options.json.parent().unwrap_or_else(|| Path::new("")))?;
    report.write(&options.json)?;
    print(&table::render(&report))?;
    let comparison = before.map(|before| Comparison::of(&before, &report));
    if let Some(comparison) = &comparison {
        print(&format!("\n{comparison}"))?;
    }
    say(format_args!("all figures: {}", options.json.display()));
    let measured = report.rows.iter().all(|row| row.failed.is_none());
    let as_promised = Verdicts::of(&report).all_hold()
        && comparison.as_ref().is_none_or(Comparison::is_reproduced);
    Ok(measured && (as_promised || !options.strict))
}

async fn in_lab(options: &Options) -> Result<Report> {
    let mut lab = Command::new(LAB)
        .arg("run")
        .arg(std::env::current_exe()?)
        .args(options.inside())
        .env("TARE_BIN_DIR", programs()?)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // A Ctrl-C is for us, who pass it on.
        .process_group(0)
        .spawn()?;
    let process = lab.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)).ok_or("no process")?;
    let output = read_to_end(&mut lab);
    tokio::pin!(output);
    tokio::select! {
        text = &mut output => Ok(serde_json::from_str(&text?)?),
        signal = interrupted() => {
            kill_process(process, signal?)?;
            // It takes the system away first.
            output.await.and(Err("interrupted".into()))
        }
    }
}

async fn read_to_end(lab: &mut Child) -> Result<String> {
    let mut text = String::new();
    lab.stdout.take().ok_or("no pipe")?.read_to_string(&mut text).await?;
    let status = lab.wait().await?;
    if status.success() { Ok(text) } else { Err(format!("the lab ended with {status}").into()) }
}

/// Where `tared` and `tarectl` are: `$TARE_BIN_DIR`, else beside this program.
fn programs() -> Result<PathBuf> {
    let beside = || Ok(std::env::current_exe()?.parent().ok_or("no directory")?.to_path_buf());
    std::env::var_os("TARE_BIN_DIR").map_or_else(beside, |dir| Ok(dir.into()))
}

/// Waits for a signal that wants this program to end.
async fn interrupted() -> Result<Signal> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => Ok(Signal::INT),
        _ = terminate.recv() => Ok(Signal::TERM),
        _ = hang_up.recv() => Ok(Signal::HUP),
    }
}
