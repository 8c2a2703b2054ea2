//! What is done with images.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;
use zbus::{Connection, Fd, OwnedObjectPath};

use crate::cli::{Import, Pull, Push};
use crate::client::{self, JobProxy, ManagerProxy, Options};
use crate::memory::memory;
use crate::output::{number, say, text};
use crate::{Failure, Outcome, job};

/// `Remove`: with all its names, and its containers first.
const FORCE: u64 = 1 | 2;
/// `Inspect`: with configuration and manifest.
const ALL: u64 = 1 | 2;

pub(crate) async fn import(bus: &Connection, command: Import) -> Outcome {
    let archive = input_file(&command.archive)?;
    let mut options = Options::new();
    let texts = [
        ("Reference", command.reference),
        ("Format", command.format),
        ("Platform", command.platform),
    ];
    for (key, value) in texts {
        if let Some(value) = value {
            options.insert(key, value.into());
        }
    }
    if !command.command.is_empty() {
        options.insert("Command", command.command.into());
    }
    if !command.env.is_empty() {
        options.insert("Env", command.env.into());
    }
    let manager = ManagerProxy::new(bus).await?;
    let job = job::run(bus, || manager.import_image(Fd::from(archive.as_fd()), options)).await?;
    say_images(bus, job).await
}

pub(crate) async fn pull(bus: &Connection, command: Pull) -> Outcome {
    let mut options = Options::new();
    for (key, value) in [("Policy", command.policy), ("Platform", command.platform)] {
        if let Some(value) = value {
            options.insert(key, value.into());
        }
    }
    if command.insecure {
        options.insert("TLSVerify", false.into());
    }
    if let Some(path) = command.authfile {
        let memfd = credentials(&path)?;
        options.insert("Auth", Fd::from(memfd).into());
    }
    let manager = ManagerProxy::new(bus).await?;
    let job = job::run(bus, || manager.pull_image(&command.image, options)).await?;
    let output = JobProxy::builder(bus).path(job).build().await?.output().await?;
    let full = text(&output, "Reference");
    if !full.starts_with(&command.image) {
        // It is by that name that containers are made from it.
        let told = writeln!(std::io::stderr(), "tarectl: '{}' is {full}", command.image);
        told.map_err(Failure::io("cannot write"))?;
    }
    say(&text(&output, "Id"))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn push(bus: &Connection, command: Push) -> Outcome {
    let image = client::image(bus, &command.image).await?;
    let destination = command.destination.unwrap_or(command.image);
    let mut options = Options::new();
    if command.insecure {
        options.insert("TLSVerify", false.into());
    }
    if let Some(path) = command.authfile {
        let memfd = credentials(&path)?;
        options.insert("Auth", Fd::from(memfd).into());
    }
    let job = job::run(bus, || image.push(&destination, options)).await?;
    let output = JobProxy::builder(bus).path(job).build().await?.output().await?;
    say(&text(&output, "Digest"))?;
    Ok(ExitCode::SUCCESS)
}

/// Credentials for a registry, out of a file.
fn credentials(file: &Path) -> Result<OwnedFd, Failure> {
    let read = std::fs::read(file).and_then(|text| memory("auth", &text));
    read.map_err(Failure::io(file.display().to_string()))
}

pub(crate) async fn export(
    bus: &Connection,
    format: Option<String>,
    output: Option<&Path>,
    images: &[String],
) -> Outcome {
    let archive = output_file(output)?;
    let mut options = Options::new();
    if let Some(format) = format {
        options.insert("Format", format.into());
    }
    let manager = ManagerProxy::new(bus).await?;
    let export = || manager.export_images(images, Fd::from(archive.as_fd()), options);
    job::run(bus, export).await?;
    Ok(ExitCode::SUCCESS)
}

/// A file to read, or standard input.
pub(crate) fn input_file(path: &Path) -> Result<File, Failure> {
    if path.as_os_str() != "-" {
        return File::open(path).map_err(Failure::io(path.display().to_string()));
    }
    let stdin = std::io::stdin().as_fd().try_clone_to_owned();
    Ok(File::from(stdin.map_err(Failure::io("standard input"))?))
}

/// A file to write, or standard output.
pub(crate) fn output_file(path: Option<&Path>) -> Result<File, Failure> {
    if let Some(path) = path {
        return File::create(path).map_err(Failure::io(path.display().to_string()));
    }
    let stdout = std::io::stdout().as_fd().try_clone_to_owned();
    Ok(File::from(stdout.map_err(Failure::io("standard output"))?))
}

pub(crate) async fn list(bus: &Connection) -> Outcome {
    let (rows, _) = ManagerProxy::new(bus).await?.list_images(Options::new()).await?;
    say(&format!("{:<40}  {:<12}  {:>12}", "REFERENCE", "IMAGE ID", "SIZE"))?;
    for row in &rows {
        let id = text(row, "Id");
        let short = id.strip_prefix("sha256:").unwrap_or(&id);
        say(&format!("{:<40}  {short:.12}  {:>12}", text(row, "Name"), number(row, "Size")))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The ids of the images that a job brought.
async fn say_images(bus: &Connection, job: OwnedObjectPath) -> Outcome {
    let output = JobProxy::builder(bus).path(job).build().await?.output().await?;
    if let Some(images) = output.get("Images") {
        for image in Vec::<OwnedObjectPath>::try_from(images.try_clone()?)? {
            let id = image.as_str().rsplit('/').next().unwrap_or_default();
            say(&id.replacen('_', ":", 1))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn remove(bus: &Connection, force: bool, images: &[String]) -> Outcome {
    for name in images {
        let image = client::image(bus, name).await?;
        job::run(bus, || image.remove(if force { FORCE } else { 0 })).await?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn prune(bus: &Connection, all: bool, dry_run: bool) -> Outcome {
    prune_kind(bus, if all { "images-all" } else { "images" }, dry_run).await
}

pub(crate) async fn prune_kind(bus: &Connection, kind: &str, dry_run: bool) -> Outcome {
    let manager = ManagerProxy::new(bus).await?;
    let kinds = [kind];
    let filter = Options::from([("DryRun", dry_run.into())]);
    let job = job::run(bus, || manager.prune(&kinds, filter)).await?;
    let output = JobProxy::builder(bus).path(job).build().await?.output().await?;
    if let Some(removed) = output.get("Removed") {
        for id in Vec::<String>::try_from(removed.try_clone()?)? {
            say(&id)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn tag(bus: &Connection, image: &str, names: &[String]) -> Outcome {
    let image = client::image(bus, image).await?;
    for name in names {
        image.tag(name, 0).await?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn untag(bus: &Connection, image: &str, names: Vec<String>) -> Outcome {
    let image = client::image(bus, image).await?;
    let names = if names.is_empty() { image.references().await? } else { names };
    for name in &names {
        image.untag(name, 0).await?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn history(bus: &Connection, image: &str) -> Outcome {
    let history = client::image(bus, image).await?.get_history().await?;
    say(&format!("{:>12}  CREATED BY", "SIZE"))?;
    // The last step first, as everybody shows it.
    for step in history.iter().rev() {
        let by = text(step, "CreatedBy").replace(|c: char| c.is_control(), " ");
        say(&format!("{:>12}  {by}", number(step, "Size")))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn inspect(bus: &Connection, image: &str) -> Outcome {
    let json = client::image(bus, image).await?.inspect(ALL).await?;
    let document: Value = serde_json::from_str(&json)
        .map_err(|error| Failure::Usage(format!("what came is no JSON: {error}")))?;
    say(&format!("{document:#}"))?;
    Ok(ExitCode::SUCCESS)
}
