//! Who speaks with registries: a `tare-worker` for each pull and each push. The daemon itself has nothing of
//! HTTP and TLS.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;
use tare_worker::Session;

use crate::bus::Bus;
use crate::config;
use crate::effects;
use crate::spawner::is_sandboxed;

/// The socket of `tare-worker.socket` in the run directory.
const SOCKET: &str = "worker.sock";
/// The program, beside that of the daemon.
const PROGRAM: &str = "tare-worker";

/// Why there is no worker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No socket, and the daemon must not start programs itself.
    #[error("nobody listens at {}: start tare-worker.socket", .0.display())]
    Missing(PathBuf),
    /// Nobody takes the connection.
    #[error("cannot connect to {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The program does not start.
    #[error("cannot start {}", program.display())]
    Start {
        /// Which.
        program: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// How workers are had.
#[derive(Clone, Debug)]
pub struct Workers {
    setting: config::Helper,
    is_installed: bool,
    usual: PathBuf,
}

/// A connection to a worker, which ends with it.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) session: Session,
    /// Of one that the daemon has started.
    process: Option<Child>,
}

#[cfg(test)]
impl Worker {
    /// One that somebody else is.
    pub(crate) fn of(session: Session) -> Self {
        Self { session, process: None }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It has no state; ending is all there is to it, and that takes no time.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Workers {
    /// Those that the settings say; where they leave it open, the daemon on the system bus connects to
    /// `tare-worker.socket` if that listens, and any other starts the program beside its own.
    pub fn choose(setting: &config::Helper, bus: &Bus, run_dir: &Path) -> Self {
        Self {
            setting: setting.clone(),
            is_installed: *bus == Bus::System,
            usual: run_dir.join(SOCKET),
        }
    }

    /// A new one. Blocks, but not for long.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub(crate) fn have_one(&self) -> Result<Worker, Error> {
        let usual = &self.usual;
        match decide(&self.setting, self.is_installed, usual.exists(), is_sandboxed()) {
            Choice::At(path) => connect(path.unwrap_or_else(|| usual.clone())),
            Choice::Program => start(),
            Choice::Neither => Err(Error::Missing(usual.clone())),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Choice {
    /// One that somebody starts who listens at this socket, or at the usual one.
    At(Option<PathBuf>),
    /// The program itself.
    Program,
    Neither,
}

fn decide(
    setting: &config::Helper,
    is_installed: bool,
    is_there: bool,
    is_sandboxed: bool,
) -> Choice {
    match setting {
        config::Helper::Socket(path) => Choice::At(Some(path.clone())),
        config::Helper::Auto if is_installed && is_there => Choice::At(None),
        // It could not give up what it would have from here: neither user nor group.
        config::Helper::Auto if is_installed && is_sandboxed => Choice::Neither,
        config::Helper::Auto | config::Helper::Local => Choice::Program,
    }
}

fn connect(path: PathBuf) -> Result<Worker, Error> {
    let connected = effects::connect_packets(&path).and_then(|socket| {
        // Who listens is who was there when the socket was made, be it the service manager.
        let uid = socket_peercred(&socket)?.uid;
        let is_trusted = uid.is_root() || uid == geteuid();
        if is_trusted { Ok(socket) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    });
    match connected {
        Ok(socket) => Ok(Worker { session: Session::new(socket), process: None }),
        Err(source) => Err(Error::Connect { path, source }),
    }
}

fn start() -> Result<Worker, Error> {
    let program = program().map_err(|source| Error::Start { program: PROGRAM.into(), source })?;
    let started = Session::pair().and_then(|(session, theirs)| {
        let mut command = Command::new(&program);
        // What it says is for people; the daemon's own standard output is not for that. And what is sent to
        // the group of the daemon is not for it: jobs at work are let come to their end.
        command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).process_group(0);
        let process = Some(effects::start_worker(&mut command)?);
        Ok(Worker { session, process })
    });
    started.map_err(|source| Error::Start { program, source })
}

fn program() -> io::Result<PathBuf> {
    // Of one that was replaced meanwhile, the directory is still right.
    Ok(std::env::current_exe()?.with_file_name(PROGRAM))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Helper::{Auto, Local, Socket};

    #[test]
    fn who_is_not_installed_needs_nothing_that_is() {
        let other = || PathBuf::from("/run/other.sock");
        for (setting, is_installed, is_there, is_sandboxed, want) in [
            (Auto, true, true, true, Choice::At(None)),
            (Auto, true, true, false, Choice::At(None)),
            (Auto, true, false, false, Choice::Program),
            (Auto, true, false, true, Choice::Neither),
            (Auto, false, true, true, Choice::Program),
            (Local, true, true, true, Choice::Program),
            (Socket(other()), false, false, false, Choice::At(Some(other()))),
            (Socket(other()), true, true, true, Choice::At(Some(other()))),
        ] {
            let choice = decide(&setting, is_installed, is_there, is_sandboxed);
            assert_eq!(choice, want, "{setting:?} {is_installed} {is_there} {is_sandboxed}");
        }
    }

    #[test]
    fn where_nobody_listens_the_socket_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("none.sock");
        let workers = Workers::choose(&Socket(path.clone()), &Bus::Private, dir.path());
        let error = workers.have_one().unwrap_err();
        assert!(matches!(&error, Error::Connect { path: at, .. } if *at == path), "{error:?}");
    }
}
