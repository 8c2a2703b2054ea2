//! Services of systemd, and what they need.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tokio::process::Command;

use crate::Result;

/// A service that keeps containers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service {
    /// Its units; one that is not there needs nothing.
    units: &'static [&'static str],
    /// What starts it when it is called; nothing if the bus does.
    socket: Option<&'static str>,
}

/// Ours.
pub(crate) const TARE: Service =
    Service { units: &["tared.service", "tare-spawn.service", "tare-names.service"], socket: None };
/// Theirs.
pub(crate) const PODMAN: Service =
    Service { units: &["podman.service"], socket: Some("podman.socket") };

/// What is called so supervises one container.
const SUPERVISOR: &str = "conmon";

impl Service {
    /// Makes it start when it is called.
    pub(crate) async fn listen(self) -> Result<()> {
        match self.socket {
            Some(socket) => systemctl(&["start", socket]).await.map(drop),
            None => Ok(()),
        }
    }

    /// Ends it. The next call starts it again.
    pub(crate) async fn stop(self) -> Result<()> {
        systemctl(&["stop", self.units[0]]).await?;
        self.listen().await
    }

    /// Bytes of its processes in memory that is now mapped, whoever shares it.
    pub(crate) async fn resident(self) -> Result<u64> {
        let processes = self.processes().await?;
        if processes.is_empty() {
            return Err(format!("{} does not run", self.units[0]).into());
        }
        processes.iter().map(|pid| field(*pid, SHARES, "Rss:")).sum()
    }

    /// Forgets how much its processes had in memory at most.
    pub(crate) async fn forget_peak(self) -> Result<()> {
        for pid in self.processes().await? {
            fs::write(format!("/proc/{pid}/clear_refs"), RESET_PEAK)?;
        }
        Ok(())
    }

    /// Bytes each of its processes had in memory at most since then, together.
    pub(crate) async fn peak(self) -> Result<u64> {
        self.processes().await?.iter().map(|pid| field(*pid, "status", "VmHWM:")).sum()
    }

    /// Bytes of its processes and of all supervisors on the host, each page divided by how many
    /// processes share it. Only one service may have containers.
    pub(crate) async fn share(self) -> Result<u64> {
        let mut processes = self.processes().await?;
        processes.extend(supervisors()?);
        processes.iter().map(|pid| field(*pid, SHARES, "Pss:")).sum()
    }

    async fn processes(self) -> Result<BTreeSet<u32>> {
        let mut all = BTreeSet::new();
        for unit in self.units {
            let group = systemctl(&["show", "--value", "--property=ControlGroup", unit]).await?;
            if !group.is_empty() {
                collect(
                    &Path::new("/sys/fs/cgroup").join(group.trim_start_matches('/')),
                    &mut all,
                )?;
            }
        }
        Ok(all)
    }
}

/// The processes of a control group and those below.
fn collect(group: &Path, found: &mut BTreeSet<u32>) -> Result<()> {
    for pid in fs::read_to_string(group.join("cgroup.procs"))?.lines() {
        found.insert(pid.parse()?);
    }
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), found)?;
        }
    }
    Ok(())
}

fn supervisors() -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse() else { continue };
        // It may have ended since.
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.trim_end() == SUPERVISOR {
            found.push(pid);
        }
    }
    Ok(found)
}

/// What the kernel says of all mappings of a process together.
const SHARES: &str = "smaps_rollup";
/// For `clear_refs`: the peak of resident memory is what it is now.
const RESET_PEAK: &str = "5";

/// What the kernel says of a process, in a file of its own; in bytes.
fn field(pid: u32, file: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kilobytes: u64 = kilobytes.ok_or_else(|| format!("no {name} of process {pid}"))?.parse()?;
    Ok(1024 * kilobytes)
}

/// What systemctl prints.
async fn systemctl(arguments: &[&str]) -> Result<String> {
    let output = Command::new("systemctl").args(arguments).output().await?;
    if !output.status.success() {
        return Err(format!("systemctl {arguments:?}: {output:?}").into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().into())
}
