//! Volumes, and what is said of devices.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use zbus::{Connection, Fd, Variant};

use crate::cli::Volume;
use crate::client::{self, ManagerProxy, Options};
use crate::mount::Entry;
use crate::output::{number, say, text};
use crate::{Failure, Outcome, images, job};

pub(crate) async fn run(bus: &Connection, command: Volume) -> Outcome {
    match command {
        Volume::Ls => list(bus).await,
        Volume::Create { label, size, uid, gid, name } => {
            create(bus, &name, &label, (size, uid, gid)).await
        }
        Volume::Rm { volumes } => remove(bus, &volumes).await,
        Volume::Inspect { volume } => {
            say(&client::volume(bus, &volume).await?.inspect(0).await?)?;
            Ok(ExitCode::SUCCESS)
        }
        Volume::Export { output, volume } => export(bus, output.as_deref(), &volume).await,
        Volume::Import { replace, volume, archive } => {
            import(bus, replace, &volume, &archive).await
        }
        Volume::Usage { volumes } => usage(bus, &volumes).await,
        Volume::Prune { dry_run } => images::prune_kind(bus, "volumes", dry_run).await,
    }
}

async fn list(bus: &Connection) -> Outcome {
    let (rows, _) = ManagerProxy::new(bus).await?.list_volumes(Options::new()).await?;
    say(&format!("{:<64}  {:<8}  {:>6}  CONTAINERS", "NAME", "DRIVER", "OWNER"))?;
    for row in &rows {
        let (name, driver) = (text(row, "Name"), text(row, "Driver"));
        let (owner, containers) = (number(row, "OwnerUID"), number(row, "NContainers"));
        say(&format!("{name:<64}  {driver:<8}  {owner:>6}  {containers}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(
    bus: &Connection,
    name: &str,
    labels: &[String],
    (size, uid, gid): (Option<u64>, u32, u32),
) -> Outcome {
    let mut pairs = HashMap::new();
    for label in labels {
        let pair = label.split_once('=');
        let (key, value) =
            pair.ok_or_else(|| Failure::Usage(format!("{label} is not KEY=VALUE")))?;
        pairs.insert(key, value);
    }
    let mut options =
        Options::from([("Labels", Variant::from(pairs)), ("UID", uid.into()), ("GID", gid.into())]);
    options.extend(size.map(|bytes| ("SizeLimit", bytes.into())));
    ManagerProxy::new(bus).await?.create_volume(name, options).await?;
    say(name)?;
    Ok(ExitCode::SUCCESS)
}

async fn remove(bus: &Connection, volumes: &[String]) -> Outcome {
    for name in volumes {
        let volume = client::volume(bus, name).await?;
        job::run(bus, || volume.remove(0)).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn export(bus: &Connection, output: Option<&Path>, volume: &str) -> Outcome {
    let archive = images::output_file(output)?;
    let volume = client::volume(bus, volume).await?;
    job::run(bus, || volume.export(Fd::from(archive.as_fd()), Options::new())).await?;
    Ok(ExitCode::SUCCESS)
}

async fn import(bus: &Connection, replace: bool, volume: &str, archive: &Path) -> Outcome {
    let archive = images::input_file(archive)?;
    let volume = client::volume(bus, volume).await?;
    let options = Options::from([("Replace", replace.into())]);
    job::run(bus, || volume.import(Fd::from(archive.as_fd()), options)).await?;
    Ok(ExitCode::SUCCESS)
}

async fn usage(bus: &Connection, volumes: &[String]) -> Outcome {
    for name in volumes {
        let bytes = client::volume(bus, name).await?.get_usage(0).await?;
        say(&format!("{bytes:>14}  {name}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Options `Devices` and `CDIDevices`: what begins with no `/` is a name.
pub(crate) fn devices(said: &[String]) -> (Vec<Entry>, Vec<String>) {
    let entry = |text: &String| {
        let keys = ["Path", "Target", "Access"];
        let parts = text.splitn(3, ':').filter(|part| !part.is_empty());
        keys.into_iter().zip(parts.map(|part| part.to_owned().into())).collect()
    };
    let (paths, names): (Vec<_>, Vec<_>) = said.iter().partition(|text| text.starts_with('/'));
    (paths.into_iter().map(entry).collect(), names.into_iter().cloned().collect())
}
