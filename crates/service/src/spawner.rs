//! Who starts programs for the daemon: `tare-spawn`, or the daemon itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tare_spawn::{Local, Remote, Settings, Spawner};

use crate::bus::Bus;
use crate::config;

/// The socket of `tare-spawn` in the run directory.
const SOCKET: &str = "spawn.sock";

/// Why nobody can start programs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No `tare-spawn`, and the daemon must not do it itself.
    #[error(
        "nobody listens at {}, and containers would inherit the sandbox of this process: \
         start tare-spawn.socket",
        .0.display()
    )]
    Missing(PathBuf),
    /// `tare-spawn` cannot be used, programs are missing, or orphans cannot be adopted.
    #[error("programs cannot be started")]
    Spawner(#[source] tare_spawn::Error),
}

/// The spawner that the settings say; where they leave it open, `tare-spawn` for the daemon on the
/// system bus if it is there, and the daemon itself for one on any other bus, which somebody started
/// for a while, and which is to need nothing that is installed.
///
/// Changes the whole process if that is the one, see [`Local::adopt_orphans`].
///
/// # Errors
///
/// [`Error`].
pub fn choose(
    setting: &config::Helper,
    bus: &Bus,
    run_dir: &Path,
) -> Result<Arc<dyn Spawner>, Error> {
    let usual = run_dir.join(SOCKET);
    match decide(setting, bus, usual.exists(), is_sandboxed()) {
        Choice::Remote(socket) => remote(&socket.unwrap_or(usual), run_dir),
        Choice::Local => local(run_dir),
        Choice::Neither => Err(Error::Missing(usual)),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Choice {
    /// At this socket, or at the usual one.
    Remote(Option<PathBuf>),
    Local,
    Neither,
}

fn decide(setting: &config::Helper, bus: &Bus, is_there: bool, is_sandboxed: bool) -> Choice {
    let is_installed = *bus == Bus::System;
    match setting {
        config::Helper::Socket(path) => Choice::Remote(Some(path.clone())),
        config::Helper::Auto if is_installed && is_there => Choice::Remote(None),
        config::Helper::Auto if is_installed && is_sandboxed => Choice::Neither,
        config::Helper::Auto | config::Helper::Local => Choice::Local,
    }
}

/// Whether this process can gain no privileges, and so no container could: as `tared.service` has it.
pub(crate) fn is_sandboxed() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("NoNewPrivs:").is_some_and(|it| it.trim() != "0"))
}

fn remote(socket: &Path, run_dir: &Path) -> Result<Arc<dyn Spawner>, Error> {
    let remote = Remote::connect(socket, run_dir).map_err(Error::Spawner)?;
    tracing::info!("programs are started by the tare-spawn at {}", socket.display());
    Ok(Arc::new(remote))
}

fn local(run_dir: &Path) -> Result<Arc<dyn Spawner>, Error> {
    let local = Settings::find(run_dir).map(Local::new).map_err(Error::Spawner)?;
    // Where PID 1 is slow to reap, an exit code would be unknown to the kernel until it has.
    local.adopt_orphans().map_err(Error::Spawner)?;
    Ok(Arc::new(local))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Helper::{Auto, Socket};

    #[test]
    fn who_is_not_installed_needs_nothing_that_is() {
        let elsewhere = || PathBuf::from("/run/other.sock");
        let at = || Bus::At("unix:path=/run/x".into());
        for (setting, bus, is_there, is_sandboxed, want) in [
            (Auto, Bus::System, true, true, Choice::Remote(None)),
            (Auto, Bus::System, true, false, Choice::Remote(None)),
            (Auto, Bus::System, false, false, Choice::Local),
            (Auto, Bus::System, false, true, Choice::Neither),
            (Auto, Bus::Private, true, true, Choice::Local),
            (Auto, Bus::Session, true, false, Choice::Local),
            (Auto, at(), true, false, Choice::Local),
            (config::Helper::Local, Bus::System, true, true, Choice::Local),
            (Socket(elsewhere()), Bus::Private, false, false, Choice::Remote(Some(elsewhere()))),
            (Socket(elsewhere()), at(), true, false, Choice::Remote(Some(elsewhere()))),
        ] {
            let choice = decide(&setting, &bus, is_there, is_sandboxed);
            assert_eq!(choice, want, "{setting:?} {bus:?} {is_there} {is_sandboxed}");
        }
    }
}
