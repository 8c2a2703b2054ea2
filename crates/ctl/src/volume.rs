//! Volumes, and what is said of mounts and devices.

use std::collections::HashMap;
use std::process::ExitCode;

use zbus::{Connection, Variant};

use crate::cli::Volume;
use crate::client::{self, ManagerProxy, Options};
use crate::commands::{number, say, text};
use crate::{Failure, Outcome, job};

pub(crate) async fn run(bus: &Connection, command: Volume) -> Outcome {
    match command {
        Volume::Ls => list(bus).await,
        Volume::Create { label, name } => create(bus, &name, &label).await,
        Volume::Rm { volumes } => remove(bus, &volumes).await,
        Volume::Inspect { volume } => {
            say(&client::volume(bus, &volume).await?.inspect(0).await?)?;
            Ok(ExitCode::SUCCESS)
        }
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

async fn create(bus: &Connection, name: &str, labels: &[String]) -> Outcome {
    let mut pairs = HashMap::new();
    for label in labels {
        let pair = label.split_once('=');
        let (key, value) =
            pair.ok_or_else(|| Failure::Usage(format!("{label} is not KEY=VALUE")))?;
        pairs.insert(key, value);
    }
    let options = Options::from([("Labels", Variant::from(pairs))]);
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

/// One of the dictionaries of an option.
type Entry<'a> = HashMap<&'static str, Variant<'a>>;

/// Option `Volumes`.
pub(crate) fn mounts(said: &[String]) -> Vec<Entry<'static>> {
    let entry = |text: &String| {
        let parts: Vec<&str> = text.splitn(3, ':').collect();
        let (name, target, options) = match parts[..] {
            [name, target, options] => (Some(name), target, options),
            [name, target] if target.starts_with('/') => (Some(name), target, ""),
            [target, options] => (None, target, options),
            _ => (None, text.as_str(), ""),
        };
        let mut entry = memory_at(target, options);
        if let Some(name) = name {
            entry.insert("Name", name.to_owned().into());
        }
        entry
    };
    said.iter().map(entry).collect()
}

/// Option `Tmpfs`.
pub(crate) fn memory(said: &[String]) -> Vec<Entry<'static>> {
    let entry = |text: &String| {
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        memory_at(target, options)
    };
    said.iter().map(entry).collect()
}

fn memory_at(target: &str, options: &str) -> Entry<'static> {
    let words: Vec<String> =
        options.split(',').filter(|word| !word.is_empty()).map(Into::into).collect();
    Entry::from([("Target", target.to_owned().into()), ("Options", words.into())])
}

/// Option `Devices`.
pub(crate) fn devices(said: &[String]) -> Vec<Entry<'static>> {
    let entry = |text: &String| {
        let keys = ["Path", "Target", "Access"];
        let parts = text.splitn(3, ':').filter(|part| !part.is_empty());
        keys.into_iter().zip(parts.map(|part| part.to_owned().into())).collect()
    };
    said.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(entry: &Entry<'_>, key: &str) -> Option<String> {
        let value = entry.get(key)?.try_clone().ok()?;
        match value {
            Variant::Str(text) => Some(text.to_string()),
            list => Vec::<String>::try_from(list).ok().map(|list| list.join(",")),
        }
    }

    #[test]
    fn volumes_are_said_as_in_podman() {
        for (text, name, target, options) in [
            ("data:/data", Some("data"), "/data", ""),
            ("data:/data:ro,noexec", Some("data"), "/data", "ro,noexec"),
            ("/data", None, "/data", ""),
            ("/data:ro", None, "/data", "ro"),
        ] {
            let said = [text.to_owned()];
            let entry = &mounts(&said)[0];
            assert_eq!(words(entry, "Name").as_deref(), name, "{text}");
            assert_eq!(words(entry, "Target").as_deref(), Some(target), "{text}");
            assert_eq!(words(entry, "Options").as_deref(), Some(options), "{text}");
        }
    }
}
