//! What may not be there when a row is done and was not there before.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Result;
use crate::stage::Stage;

/// podman still cleans up after it has answered; the kernel too.
const SETTLING: Duration = Duration::from_secs(20);
/// Where there is something for each container.
const DIRECTORIES: [&str; 8] = [
    "/run/netns",
    "/run/tare/containers",
    "/var/lib/tare/containers",
    "/var/lib/containers/storage/overlay",
    "/var/lib/containers/storage/overlay-containers",
    "/sys/fs/cgroup/tare",
    "/sys/fs/cgroup/tare-bench",
    "/sys/fs/cgroup/machine.slice",
];
/// Its overlay driver's.
const PODMANS_OWN: &str = "/var/lib/containers/storage/overlay";
/// Programs of containers, and those that make them.
const PROGRAMS: [&str; 8] =
    ["conmon", "crun", "runc", "netavark", "aardvark-dns", "sleep", "sh", "unshare"];

/// All that containers can leave, a line for each thing.
#[derive(Debug)]
pub(crate) struct Leftovers(BTreeSet<String>);

impl Leftovers {
    /// What there is now.
    pub(crate) async fn look(stage: &Stage) -> Result<Self> {
        let mut all = BTreeSet::new();
        let mut add = |kind: &str, found: Vec<String>| {
            all.extend(found.into_iter().map(|it| format!("{kind} {it}")));
        };
        add("container of", stage.containers().await?);
        add("file", DIRECTORIES.into_iter().flat_map(names).collect());
        add("link", names("/sys/class/net"));
        add("mount", mounts()?);
        add("firewall:", firewall()?);
        add("process", processes()?);
        Ok(Self(all))
    }

    /// Waits until there is nothing but this.
    pub(crate) async fn settle(&self, stage: &Stage) -> Result<()> {
        let end = Instant::now() + SETTLING;
        loop {
            let now = Self::look(stage).await?;
            let more: Vec<&str> = now.0.difference(&self.0).map(String::as_str).collect();
            if more.is_empty() {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("left behind: {}", more.join("; ")).into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn names(dir: &str) -> Vec<String> {
    // Who made none has no directory.
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}

/// Where they are; not the directory that podman mounts on itself whenever it feels like it.
fn mounts() -> Result<Vec<String>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let places = table.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(places.filter(|place| *place != PODMANS_OWN).map(Into::into).collect())
}

fn firewall() -> Result<Vec<String>> {
    let output = Command::new("nft").args(["list", "ruleset"]).output()?;
    Ok(String::from_utf8(output.stdout)?.lines().map(Into::into).collect())
}

fn processes() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let pid = entry?.file_name().to_string_lossy().into_owned();
        let comm = Path::new("/proc").join(&pid).join("comm");
        // Not a process, or one no more.
        let comm = fs::read_to_string(comm).unwrap_or_default();
        if PROGRAMS.contains(&comm.trim_end()) {
            found.push(format!("{pid} {}", comm.trim_end()));
        }
    }
    Ok(found)
}
