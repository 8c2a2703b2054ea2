//! The processes of a container: its conmon, and its first one.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tare_runtime::identity::Identity;
use tare_runtime::{BadCommand, ContainerName, cgroup};
use tare_spawn::{
    Cause, Create, Incarnation as Number, Layout, PlacedMount, Prepared, Started, Target,
};
use tare_specgen::Effective;

use super::attach::stdin_of;
use super::blocking::brief;
use super::checkpoint::{Resume, not_restored};
use super::container::{Container, Running};
use super::ports::Ports;
use super::records::volatile::Incarnation;
use super::scope::{Outline, slice};
use super::stop::KILL_TIMEOUT;
use super::users::Users;
use super::watched::{Watched, has_ended};
use super::{Engine, Error, Inner, spawn_id};
use crate::effects;

/// What the end of a container may take beside its own time and that of a kill.
const TEAR_DOWN: Duration = Duration::from_secs(10);

impl Inner {
    /// Has the kernel get ready to move processes between control groups, while whoever will need
    /// that does something else: it takes longer than all else that is done before the runtime runs.
    /// A container that is made is likely to be started next.
    pub(super) fn expect_start(&self) {
        let host = self.host.clone();
        tokio::task::spawn_blocking(move || {
            // Without it a start takes longer, and that is all.
            if let Err(error) = cgroup::expect_moves(host.cgroups()) {
                tracing::debug!("{error}");
            }
        });
    }
}

impl Engine {
    /// Starts the conmon of a container, which waits, and registers it.
    pub(super) async fn prepare_process(
        &self,
        container: &Container,
        record: &Incarnation,
        effective: &Effective,
        ports: &Ports,
        resume: Option<&Resume>,
    ) -> Result<Box<dyn Prepared>, Error> {
        let kept = ports.for_conmon();
        let kept = kept.map_err(|source| Error::Host { what: "hold ports of the host", source })?;
        let request = Create {
            id: spawn_id(&record.container),
            incarnation: Number(record.number),
            runtime: record.runtime,
            cgroup: record.cgroup.clone(),
            log: self.log_for_conmon(container)?,
            stdin: stdin_of(&effective.request),
            restore: resume.map(Resume::extras),
        };
        let (spawner, name) = (self.spawner.clone(), container.name());
        let run_dir = self.instance.run_dir().to_path_buf();
        let root = Users::of(&effective.request, container.users)?.map(|users| users.root());
        let prepared = brief(move || {
            let layout = Layout::new(&run_dir, &request.id, request.incarnation);
            let failed = |source| Error::Host { what: "make the bundle of a container", source };
            // The other directories of the bundle are the spawner's to make.
            effects::make_dir(&layout.files(), 0o700).map_err(failed)?;
            if let Some((_, gid)) = root {
                let_through(&layout, gid).map_err(failed)?;
            }
            spawner.prepare(&request, kept).map_err(|source| runtime_error("create", &name, source))
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
                give_up(prepared).await;
                Err(Error::Process { what: "register", name: container.name(), source })
            }
        }
    }

    /// Lets conmon go, which has the first process made; that one waits.
    pub(super) async fn create_process(
        &self,
        container: &Arc<Container>,
        record: &mut Incarnation,
        conmon: Box<dyn Prepared>,
        mounts: Vec<PlacedMount>,
        resume: Option<&Resume>,
    ) -> Result<Arc<Running>, Error> {
        let (name, whose, is_restored) = (container.name(), target(record), resume.is_some());
        let run_dir = self.instance.run_dir().to_path_buf();
        let (created, supervisor, init) = brief(move || {
            let failed = |source| {
                if !is_restored {
                    return runtime_error("create", &name, source);
                }
                let layout = Layout::new(&run_dir, &whose.id, whose.incarnation);
                not_restored(name.clone(), &layout, source)
            };
            let created = conmon.create(mounts).map_err(failed)?;
            let identity = |process: &Started| {
                Identity::of(process.pidfd.as_fd()).map_err(|source| Error::Process {
                    what: "watch the processes of",
                    name: name.clone(),
                    source: std::io::Error::other(source),
                })
            };
            let supervisor = identity(&created.supervisor)?;
            let init = identity(&created.init)?;
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
            in_use: Arc::default(),
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

/// Lets root of a container that is somebody else on the host come to what is mounted in the bundle: runc is
/// that one by then. Nobody else is in its group.
fn let_through(layout: &Layout<'_>, gid: u32) -> std::io::Result<()> {
    for directory in [layout.container(), layout.bundle()] {
        effects::give_to_group(&directory, gid)?;
        effects::set_mode(&directory, 0o710)?;
    }
    Ok(())
}

/// Takes back a conmon that waits in vain.
pub(super) async fn give_up(conmon: Box<dyn Prepared>) {
    let dropped = brief(move || {
        drop(conmon);
        Ok::<_, Error>(())
    });
    if let Err(error) = dropped.await {
        tracing::error!("{}", error.chain());
    }
}

fn outline(container: &Container, effective: &Effective) -> Outline {
    let stop_timeout = Duration::from_micros(effective.stop_timeout_usec);
    let parent = effective.request.cgroup_parent.as_ref();
    Outline {
        slice: parent.and_then(slice).map(ToOwned::to_owned),
        description: format!("Container {}", container.name()),
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
