//! The processes of a container: its conmon, and its first one.

use std::fs::DirBuilder;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;

use tare_runtime::BadCommand;
use tare_runtime::identity::Identity;
use tare_spawn::{
    Cause, Create, Created, Incarnation as Number, Layout, PlacedMount, Prepared, Started, Stdin,
    Target,
};
use tare_specgen::Effective;
use tokio::sync::RwLock;

use super::blocking::brief;
use super::container::{Container, Running};
use super::records::volatile::Incarnation;
use super::scope::Outline;
use super::stop::KILL_TIMEOUT;
use super::watched::{Watched, has_ended};
use super::{Engine, Error, spawn_id};

/// What the end of a container may take beside its own time and that of a kill.
const TEAR_DOWN: Duration = Duration::from_secs(10);

impl Engine {
    /// Starts the conmon of a container, which waits, and registers it.
    pub(super) async fn prepare_process(
        &self,
        container: &Container,
        record: &Incarnation,
        effective: &Effective,
    ) -> Result<Box<dyn Prepared>, Error> {
        let request = Create {
            id: spawn_id(&record.container),
            incarnation: Number(record.number),
            runtime: record.runtime,
            cgroup: record.cgroup.clone(),
            log_path: self.log_path(&record.container),
            stdin: Stdin::Null,
        };
        let (spawner, name) = (self.spawner.clone(), container.row.name.clone());
        let run_dir = self.instance.run_dir().to_path_buf();
        let prepared = brief(move || {
            let layout = Layout::new(&run_dir, &request.id, request.incarnation);
            let failed = |source| Error::Host { what: "make the bundle of a container", source };
            // The other directories of the bundle are the spawner's to make.
            DirBuilder::new().recursive(true).mode(0o700).create(layout.files()).map_err(failed)?;
            spawner.prepare(&request).map_err(|source| runtime_error("create", &name, source))
        })
        .await?;
        let outline = outline(container, effective);
        let registered =
            self.groups.register(&record.container, prepared.supervisor(), outline).await;
        match registered {
            Ok(()) => Ok(prepared),
            // If conmon has ended, it is the one to say why.
            Err(_) if has_ended(&prepared.supervisor().pidfd) => Ok(prepared),
            Err(source) => {
                let name = container.row.name.clone();
                brief(move || {
                    drop(prepared);
                    Err(Error::Process { what: "register", name, source })
                })
                .await
            }
        }
    }

    /// Lets conmon go.
    pub(super) async fn create_process(
        &self,
        container: &Arc<Container>,
        record: &Incarnation,
        conmon: Box<dyn Prepared>,
        mounts: Vec<PlacedMount>,
    ) -> Result<Running, Error> {
        let (name, mut record) = (container.row.name.clone(), record.clone());
        let (record, created) = brief(move || {
            let created =
                conmon.create(mounts).map_err(|source| runtime_error("create", &name, source))?;
            let identity = |process: &Started| {
                Identity::of(process.pidfd.as_fd()).map_err(|source| Error::Process {
                    what: "watch the processes of",
                    name: name.clone(),
                    source: std::io::Error::other(source),
                })
            };
            record.supervisor = Some(identity(&created.supervisor)?);
            record.init = Some(identity(&created.init)?);
            Ok((record, created))
        })
        .await?;
        let watch = |pidfd: OwnedFd| {
            Watched::new(pidfd).map(Arc::new).map_err(|source| Error::Process {
                what: "watch the processes of",
                name: container.row.name.clone(),
                source,
            })
        };
        let Created { supervisor, init } = created;
        Ok(Running {
            record,
            init: watch(init.pidfd)?,
            supervisor: Some(watch(supervisor.pidfd)?),
            in_use: Arc::new(RwLock::new(())),
        })
    }

    /// Lets the first process go.
    pub(super) async fn run_process(
        &self,
        container: &Container,
        running: &Running,
    ) -> Result<(), Error> {
        let supervisor = running.supervisor(&container.row.name)?.pidfd();
        let (spawner, name, target) =
            (self.spawner.clone(), container.row.name.clone(), target(&running.record));
        brief(move || {
            spawner
                .start(&target, supervisor.as_fd())
                .map_err(|source| runtime_error("start", &name, source))
        })
        .await
    }
}

fn outline(container: &Container, effective: &Effective) -> Outline {
    let stop_timeout = Duration::from_micros(effective.stop_timeout_usec);
    Outline {
        description: format!("Container {}", container.row.name),
        // The service manager kills only after all that we do would have.
        stop_timeout: stop_timeout.saturating_add(KILL_TIMEOUT + TEAR_DOWN),
        stop_signal: effective.stop_signal.number(),
    }
}

/// The container of a record, as the spawner knows it.
pub(super) fn target(record: &Incarnation) -> Target {
    Target {
        id: spawn_id(&record.container),
        incarnation: Number(record.number),
        runtime: record.runtime,
    }
}

/// What the runtime said, by what the caller can do about it.
pub(super) fn runtime_error(
    verb: &'static str,
    name: &tare_runtime::ContainerName,
    source: tare_spawn::Error,
) -> Error {
    let source = Box::new(source);
    let name = name.clone();
    match BadCommand::from_message(said(&source)) {
        Some(BadCommand::NotFound) => Error::CommandNotFound { name, source },
        Some(BadCommand::NotExecutable) => Error::CommandNotExecutable { name, source },
        _ => Error::Runtime { verb, name, source },
    }
}

/// What a runtime had to say when it failed.
fn said(error: &tare_spawn::Error) -> &str {
    match error.cause() {
        Some(Cause::Runtime { message, .. }) => message,
        _ => "",
    }
}
