//! Checkpoints of containers.

use std::process::ExitCode;

use zbus::{Connection, OwnedObjectPath};

use crate::cli::{Checkpoint, Checkpoints};
use crate::client::{self, ContainerProxy, JobProxy, ManagerProxy, Options, Row};
use crate::output::{number, say, text};
use crate::{Failure, Outcome, job, network};

pub(crate) async fn run(bus: &Connection, command: Checkpoints) -> Outcome {
    match command {
        Checkpoints::Ls => list(bus).await,
        Checkpoints::Inspect { checkpoint } => {
            let checkpoint = client::checkpoint(bus, find(bus, &checkpoint).await?).await?;
            say(&checkpoint.inspect(1).await?)?;
            Ok(ExitCode::SUCCESS)
        }
        Checkpoints::Rm { checkpoints } => {
            for name in &checkpoints {
                let checkpoint = client::checkpoint(bus, find(bus, name).await?).await?;
                job::run(bus, || checkpoint.remove(0)).await?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Takes a checkpoint of a container, and prints its id.
pub(crate) async fn take(bus: &Connection, command: Checkpoint) -> Outcome {
    let container = client::container(bus, &command.container).await?;
    let mut options = Options::new();
    for (key, on) in [
        ("LeaveRunning", command.leave_running),
        ("TCPEstablished", command.tcp_established),
        ("FileLocks", command.file_locks),
        ("ExternalUnixSockets", command.external_unix_sockets),
    ] {
        if on {
            options.insert(key, true.into());
        }
    }
    if command.ignore_rootfs {
        options.insert("Rootfs", false.into());
    }
    if let Some(name) = command.name {
        options.insert("Name", name.into());
    }
    let job = job::run(bus, || container.checkpoint(options)).await?;
    say(last_part(&output(bus, job, "Checkpoint").await?))?;
    Ok(ExitCode::SUCCESS)
}

/// Has a container go on from a checkpoint; from its last one, if none is said.
pub(crate) async fn restore(bus: &Connection, container: &str, from: Option<&str>) -> Outcome {
    let container = client::container(bus, container).await?;
    let path = which(bus, &container, from).await?;
    job::run(bus, || container.restore(&path, Options::new())).await?;
    Ok(ExitCode::SUCCESS)
}

/// Has another container go on from a checkpoint, and prints its id.
pub(crate) async fn restore_as(
    bus: &Connection,
    container: &str,
    from: Option<&str>,
    name: &str,
    publish: &[String],
) -> Outcome {
    let container = client::container(bus, container).await?;
    let checkpoint = client::checkpoint(bus, which(bus, &container, from).await?).await?;
    let mut options = Options::new();
    network::publish(&mut options, publish)?;
    let job = job::run(bus, || checkpoint.restore_as(name, options)).await?;
    say(last_part(&output(bus, job, "Container").await?))?;
    Ok(ExitCode::SUCCESS)
}

/// The checkpoint that is meant: the last one of a container, if none is said.
async fn which(
    bus: &Connection,
    container: &ContainerProxy<'_>,
    from: Option<&str>,
) -> Result<OwnedObjectPath, Failure> {
    match from {
        Some(from) => find(bus, from).await,
        None => last_of(bus, container.inner().path().as_str()).await,
    }
}

/// An object that a job has made.
async fn output(
    bus: &Connection,
    job: OwnedObjectPath,
    key: &str,
) -> Result<OwnedObjectPath, Failure> {
    let mut output = JobProxy::builder(bus).path(job).build().await?.output().await?;
    let made = output.remove(key).map(OwnedObjectPath::try_from).transpose()?;
    made.ok_or_else(|| Failure::Usage(format!("the job has no {key}")))
}

async fn rows(bus: &Connection) -> Result<Vec<Row>, Failure> {
    Ok(ManagerProxy::new(bus).await?.list_checkpoints(Options::new()).await?.0)
}

async fn list(bus: &Connection) -> Outcome {
    say(&format!("{:<12}  {:<32}  {:<12}  {:>12}", "ID", "NAME", "CONTAINER", "SIZE"))?;
    for row in &rows(bus).await? {
        let (id, name) = (text(row, "Id"), text(row, "Name"));
        let (container, size) = (object(row, "Container")?, number(row, "Size"));
        let container = last_part(&container);
        say(&format!("{id:<12.12}  {name:<32}  {container:<12.12}  {size:>12}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The checkpoint of that name, or whose id begins like that.
async fn find(bus: &Connection, name: &str) -> Result<OwnedObjectPath, Failure> {
    let fits = |row: &&Row| {
        text(row, "Name") == name || (name.len() >= 12 && text(row, "Id").starts_with(name))
    };
    let rows = rows(bus).await?;
    let found: Vec<&Row> = rows.iter().filter(fits).collect();
    match found[..] {
        [one] => object(one, "Path"),
        [] => Err(Failure::Usage(format!("there is no checkpoint {name}"))),
        _ => Err(Failure::Usage(format!("{name} fits several checkpoints"))),
    }
}

async fn last_of(bus: &Connection, container: &str) -> Result<OwnedObjectPath, Failure> {
    let rows = rows(bus).await?;
    let is_its = |row: &&Row| object(row, "Container").is_ok_and(|path| path.as_str() == container);
    let last = rows.iter().filter(is_its).max_by_key(|row| number(row, "CreatedTimestamp"));
    let last = last.ok_or_else(|| Failure::Usage("it has no checkpoint".into()))?;
    object(last, "Path")
}

/// An object in a row of a list.
fn object(row: &Row, key: &str) -> Result<OwnedObjectPath, Failure> {
    let none = || Failure::Usage(format!("the list has no {key}"));
    let value = row.get(key).and_then(|value| value.try_clone().ok()).ok_or_else(none)?;
    OwnedObjectPath::try_from(value).map_err(|_| none())
}

fn last_part(path: &OwnedObjectPath) -> &str {
    path.as_str().rsplit('/').next().unwrap_or_default()
}
