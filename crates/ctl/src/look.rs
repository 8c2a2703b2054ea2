//! What is shown of containers.

use std::collections::HashMap;
use std::process::ExitCode;

use serde_json::Value;
use zbus::{Connection, OwnedObjectPath};

use crate::client::{self, ManagerProxy, Options};
use crate::output::{number, say, text};
use crate::{Failure, Outcome};

pub(crate) async fn inspect(bus: &Connection, name: &str) -> Outcome {
    let document = ManagerProxy::new(bus).await?.inspect_container(name, 0).await?;
    let document: Value = serde_json::from_str(&document)
        .map_err(|error| Failure::Usage(format!("the service sent no JSON: {error}")))?;
    say(&format!("{document:#}"))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn top(bus: &Connection, name: &str) -> Outcome {
    let rows = client::container(bus, name).await?.get_processes(0).await?;
    say(&format!(
        "{:>8}  {:>8}  {:>8}  {:>10}  {:>12}  COMMAND",
        "PID", "INSIDE", "UID", "CPU ms", "MEMORY"
    ))?;
    for row in &rows {
        let [pid, inside, uid] = ["PID", "ContainerPID", "UID"].map(|key| number(row, key));
        let (cpu, memory) =
            (number(row, "CPUUsageNSec") / 1_000_000, number(row, "MemoryResident"));
        // It may hold anything, and a terminal obeys some of it.
        let command: String = text(row, "Command").chars().filter(|c| !c.is_control()).collect();
        say(&format!("{pid:>8}  {inside:>8}  {uid:>8}  {cpu:>10}  {memory:>12}  {command}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn stats(bus: &Connection, names: &[String]) -> Outcome {
    let manager = ManagerProxy::new(bus).await?;
    let mut paths: Vec<OwnedObjectPath> = Vec::new();
    for name in names {
        paths.push(manager.get_container(name).await?);
    }
    let (containers, _) = manager.list_containers(Options::new()).await?;
    let names: HashMap<String, String> =
        containers.iter().map(|row| (text(row, "Id"), text(row, "Name"))).collect();
    say(&format!("{:<20}  {:>12}  {:>14}  {:>6}", "NAME", "CPU ms", "MEMORY", "PIDS"))?;
    for row in manager.get_stats(&paths, 0).await? {
        let path = row.get("Container").and_then(|path| path.try_clone().ok());
        let path = path.and_then(|path| OwnedObjectPath::try_from(path).ok());
        let id =
            path.as_ref().and_then(|path| path.as_str().rsplit('/').next()).unwrap_or_default();
        let name = names.get(id).map_or(id, String::as_str);
        let [cpu, memory, pids] =
            ["CPUUsageNSec", "MemoryCurrent", "PidsCurrent"].map(|key| known(&row, key));
        let cpu = cpu.map(|nsec| nsec / 1_000_000);
        say(&format!("{name:<20}  {:>12}  {:>14}  {:>6}", shown(cpu), shown(memory), shown(pids)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn known(row: &client::Row, key: &str) -> Option<u64> {
    row.contains_key(key).then(|| number(row, key))
}

/// A host may lack the control group that would know.
fn shown(figure: Option<u64>) -> String {
    figure.map_or_else(|| "-".into(), |figure| figure.to_string())
}
