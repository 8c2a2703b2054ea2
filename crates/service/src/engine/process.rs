//! The processes of a container: its conmon, and its first one.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tare_runtime::identity::Identity;
use tare_runtime::{BadCommand, ContainerName};
use tare_spawn::{Cause, Create, Incarnation as Number, PlacedMount, Stdin, Target};
use tokio::sync::RwLock;

use super::blocking::brief;
use super::container::{Container, Running};
use super::records::volatile::Incarnation;
use super::watched::Watched;
use super::{Engine, Error, spawn_id};

impl Engine {
    /// Makes the processes of a container; the first one waits.
    pub(super) async fn create_process(
        &self,
        container: &Arc<Container>,
        record: &mut Incarnation,
        mounts: Vec<PlacedMount>,
    ) -> Result<Arc<Running>, Error> {
        let request = Create {
            id: spawn_id(&record.container),
            incarnation: Number(record.number),
            runtime: record.runtime,
            cgroup: record.cgroup.clone(),
            log_path: self.log_path(&record.container),
            stdin: Stdin::Null,
        };
        let (spawner, name) = (self.spawner.clone(), container.name());
        let (created, supervisor, init) = brief(move || {
            let created = spawner
                .create(&request, mounts)
                .map_err(|source| runtime_error("create", &name, source))?;
            let identity = |pidfd: &OwnedFd| {
                Identity::of(pidfd.as_fd()).map_err(|source| Error::Process {
                    what: "watch the processes of",
                    name: name.clone(),
                    source: std::io::Error::other(source),
                })
            };
            let supervisor = identity(&created.supervisor.pidfd)?;
            let init = identity(&created.init.pidfd)?;
            Ok((created, supervisor, init))
        })
        .await?;
        (record.supervisor, record.init) = (Some(supervisor), Some(init));
        let watch = |pidfd| {
            Watched::new(pidfd).map_err(|source| Error::Process {
                what: "watch the processes of",
                name: container.name(),
                source,
            })
        };
        Ok(Arc::new(Running {
            target: target(record),
            cgroup: record.cgroup.clone(),
            pid: init.pid,
            init: watch(created.init.pidfd)?,
            supervisor: Some(watch(created.supervisor.pidfd)?),
            in_use: RwLock::new(()),
        }))
    }

    /// Lets the first process go on.
    pub(super) async fn run_process(
        &self,
        container: &Container,
        running: &Running,
    ) -> Result<(), Error> {
        let supervisor = running.supervisor(&container.name())?.pidfd();
        let (spawner, name, target) =
            (self.spawner.clone(), container.name(), running.target.clone());
        brief(move || {
            spawner
                .start(&target, supervisor.as_fd())
                .map_err(|source| runtime_error("start", &name, source))
        })
        .await
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
    name: &ContainerName,
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
