//! Taking over what an earlier daemon left: what runs goes on, what was half made goes away.
//!
//! What cannot be read or taken down is one object's misfortune, and is said aloud; it does not
//! keep the others from being served.

use std::ffi::OsString;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tare_runtime::ContainerId;
use tare_runtime::identity::{self, Identity};
use tare_spawn::{ErrorKind, Incarnation as Number, Layout};

use super::container::{Container, Life, Now, Running};
use super::end::Unwritten;
use super::process::target;
use super::records::durable::{self, ContainerRow, LifeRow};
use super::records::volatile::{self, Doing, Incarnation, Stage};
use super::view::Exit;
use super::watched::Watched;
use super::{Engine, Error, spawn_id};
use crate::db;

/// So many containers are settled side by side: each waits for the kernel, a runtime or the disk
/// most of the time.
const AT_ONCE: usize = 16;

/// Whether what was written down is still there.
enum Liveness {
    /// Its first process is.
    Alive(Arc<Running>),
    /// It is gone.
    Gone,
    /// Nobody can say: it is left alone.
    Unknown(Error),
}

impl Engine {
    /// Reads all containers and settles each of them. Before this nobody is answered.
    pub(super) async fn adopt(&self) -> Result<(), Error> {
        for row in self.state.run(durable::containers).await? {
            match row.map_err(Error::from).and_then(|(row, last)| self.load(&row, last)) {
                Ok(()) => {}
                Err(error) => self.host.taint_unreadable("a container", &error),
            }
        }
        self.recall_root_mounts().await?;
        let sessions = self.recall_sessions().await?;
        let records = self.run.run(volatile::all::<Incarnation>).await?;
        let settled = records.into_iter().map(|record| async {
            match record {
                Ok(record) => self.settle(record).await,
                Err((id, error)) => self.leave_alone(&id, error).await,
            }
        });
        stream::iter(settled).buffer_unordered(AT_ONCE).collect::<()>().await;
        self.answer_again().await;
        self.show_shared().await;
        self.resume_sessions(sessions).await;
        self.settle_the_lost().await;
        self.sweep().await;
        self.follow_earlier_ends().await;
        Ok(())
    }

    /// Names on the networks of those that go on.
    async fn answer_again(&self) {
        let containers = self.containers.all().into_iter();
        let goes_on = containers.filter(|container| container.running().is_some());
        let networks = goes_on.flat_map(|container| {
            let connections = &container.definition().row.connections;
            connections.networks.iter().map(|j| j.network.clone()).collect::<Vec<_>>()
        });
        self.networks.answer_again(networks.collect()).await;
    }

    /// Addresses of those that go on in the network of another.
    async fn show_shared(&self) {
        for container in self.containers.all() {
            if let Ok(life) = container.lock().await {
                self.show_borrowed(&container, &life).await;
            }
        }
    }

    fn load(&self, row: &ContainerRow, last: LifeRow) -> Result<(), Error> {
        let definition = self.define(&row.root, row.owner_uid, row.definition.clone())?;
        self.volumes.join(&row.id, &row.definition.request);
        self.sharers.join(&row.id, &row.definition.request);
        self.secrets.join(&row.id, &row.definition.request);
        self.networks.rejoin(&row.id, &row.definition.connections);
        let (events, names) = (self.events.clone(), self.networks.names.clone());
        let container = Arc::new(Container::new(row, definition, last, events, names));
        self.containers.insert(container);
        self.join_images(&row.id, &row.root, &row.definition.request);
        Ok(())
    }

    /// What a container is made of cannot be read: it may run, so it is neither ended nor removed.
    async fn leave_alone(&self, id: &ContainerId, error: db::Error) {
        self.host.taint_unreadable("what a container is made of", &error.into());
        if let Some(container) = self.containers.get(id)
            && let Ok(mut life) = container.lock().await
        {
            life.now = Now::Unreadable;
            container.show(&life);
        }
    }

    async fn settle(&self, record: Incarnation) {
        let settled = match self.containers.get(&record.container) {
            Some(container) => self.settle_known(&container, Box::new(record)).await,
            // Its row was deleted, and then the daemon ended.
            None => self.settle_orphan(&record).await,
        };
        if let Err(error) = settled {
            tracing::error!("{}", error.chain());
        }
    }

    async fn settle_orphan(&self, record: &Incarnation) -> Result<(), Error> {
        let remains = self.tear_down(record, None).await;
        remains.log();
        if remains.is_empty() { self.forget_record(&record.container).await } else { Ok(()) }
    }

    async fn settle_known(
        &self,
        container: &Arc<Container>,
        record: Box<Incarnation>,
    ) -> Result<(), Error> {
        let mut life = container.lock().await?;
        life.incarnation = record.number;
        life.session = self.last_session(&record);
        life.last.started = record.started.or(life.last.started);
        life.last.asked = record.to_end;
        let exit = match record.stage {
            Stage::Preparing => Exit::NEVER_RAN,
            Stage::Ended { exit, finished } if life.last.finished == Some(finished) => {
                // Known, and told: only the rest of it has to go.
                life.now = Now::Broken(record);
                container.show(&life);
                tracing::debug!(container_id = %container.id, exit_code = exit.code, "once more");
                return self.mend(container, &mut life).await;
            }
            Stage::Ended { exit, .. } => exit,
            Stage::Running => match self.liveness(&record) {
                Liveness::Alive(running) => match self.ends_checkpointed(&record, &running).await {
                    Some(exit) => exit,
                    None => return self.go_on(container, &mut life, record, running).await,
                },
                Liveness::Gone if !record.was_let_run() => Exit::NEVER_RAN,
                Liveness::Gone => self.exit_of_gone(&record),
                Liveness::Unknown(error) => {
                    life.now = Now::Broken(record);
                    container.show(&life);
                    return Err(error);
                }
            },
        };
        self.end_as(container, &mut life, record, exit, None, Unwritten::GoOn).await
    }

    /// Takes over a container that runs, or waits to be started.
    async fn go_on(
        &self,
        container: &Arc<Container>,
        life: &mut Life,
        mut record: Box<Incarnation>,
        running: Arc<Running>,
    ) -> Result<(), Error> {
        let waits = !record.was_let_run() && self.waits_for_start(&record);
        if let Err(error) = self.settle_running(container, &mut record, &running).await {
            life.now = Now::Broken(record);
            container.show(life);
            return Err(error);
        }
        let ports = self.hold_again(&record, &running).await;
        if waits {
            self.now_waits(container, life, record, running, ports);
        } else {
            let pace = if record.still {
                self.move_again(&mut record, &running).await
            } else {
                self.pace_of(&running)
            };
            self.now_runs(container, life, record, running, pace, ports);
        }
        let name = container.name();
        tracing::info!(
            container = %name,
            container_id = %container.id,
            "Container '{name}' goes on, and is taken over"
        );
        Ok(())
    }

    /// Whether its processes are still the ones that were written down.
    fn liveness(&self, record: &Incarnation) -> Liveness {
        let reopen = |identity: &Option<Identity>| -> Result<Option<Watched>, Error> {
            let Some(identity) = identity.as_ref().filter(|_| self.same_boot) else {
                return Ok(None);
            };
            let failed = |source| Error::Host { what: "look for a process", source };
            let pidfd =
                identity::reopen(identity).map_err(|error| failed(std::io::Error::other(error)))?;
            pidfd.map(Watched::new).transpose().map_err(failed)
        };
        match (reopen(&record.init), reopen(&record.supervisor)) {
            (Ok(Some(init)), Ok(supervisor)) => Liveness::Alive(Arc::new(Running {
                target: target(record),
                cgroup: record.cgroup.clone(),
                pid: record.init.map_or(0, |init| init.pid),
                init,
                supervisor,
                in_use: Arc::default(),
            })),
            (Ok(None), _) => Liveness::Gone,
            (Err(error), _) | (_, Err(error)) => Liveness::Unknown(error),
        }
    }

    /// Brings a container that runs to what it is to be.
    async fn settle_running(
        &self,
        container: &Arc<Container>,
        record: &mut Incarnation,
        running: &Running,
    ) -> Result<(), Error> {
        self.clear_work(running).await;
        self.settle_doing(container, record, running).await?;
        self.take_back_unpromised(&container.definition().row, record).await
    }

    /// Finishes what was decided, and maybe done, when the daemon ended.
    async fn settle_doing(
        &self,
        container: &Arc<Container>,
        record: &mut Incarnation,
        running: &Running,
    ) -> Result<(), Error> {
        match record.doing.clone() {
            None => return Ok(()),
            Some(Doing::Start) if self.waits_for_start(record) => {
                match self.run_process(container, running).await {
                    // Then the watch tells.
                    Err(Error::Runtime { source, .. }) if source.kind() == ErrorKind::Gone => {}
                    started => started?,
                }
            }
            Some(Doing::Start) => {}
            // Nobody let it end: it goes on, with a checkpoint or without.
            Some(Doing::Checkpoint(_)) => record.to_end = false,
            Some(Doing::Limit(others)) => {
                if let Err(error) = self.limit_again(container, running, &others).await {
                    tracing::warn!(container_id = %container.id, "{}", error.chain());
                }
            }
            Some(doing @ (Doing::Connect(_) | Doing::Disconnect(_))) => {
                return self.settle_network(&container.name(), record, &doing).await;
            }
        }
        self.fulfil(record).await
    }

    /// Both runtimes keep this pipe for as long as the process waits to be started.
    fn waits_for_start(&self, record: &Incarnation) -> bool {
        let id = spawn_id(&record.container);
        let layout = Layout::new(self.instance.run_dir(), &id, Number(record.number));
        layout.runtime_state(record.runtime).join("exec.fifo").exists()
    }

    /// Highest number of an exec session that has left a directory.
    fn last_session(&self, record: &Incarnation) -> u32 {
        let id = spawn_id(&record.container);
        let layout = Layout::new(self.instance.run_dir(), &id, Number(record.number));
        let Ok(entries) = std::fs::read_dir(layout.bundle()) else { return 0 };
        let session = |name: OsString| Layout::session_of(name.to_str()?);
        entries.flatten().filter_map(|entry| session(entry.file_name())).max().unwrap_or(0)
    }

    /// Containers that ran when the host went down: nothing can tell how they ended.
    async fn settle_the_lost(&self) {
        for container in self.containers.all() {
            let Ok(mut life) = container.lock().await else { continue };
            if matches!(life.now, Now::Idle) {
                self.lose(&container, &mut life);
                container.show(&life);
            }
        }
    }
}
