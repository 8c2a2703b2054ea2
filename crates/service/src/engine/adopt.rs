//! Taking over what an earlier daemon left: what runs goes on, what was half made goes away.
//!
//! What cannot be read or taken down is one object's misfortune, and is said aloud; it does not
//! keep the others from being served.

use std::sync::Arc;

use tare_runtime::identity::{self, Identity};
use tare_spawn::{ErrorKind, Incarnation as Number, Layout};
use tokio::sync::RwLock;

use super::clock::Usec;
use super::container::{Container, Running};
use super::events::Event;
use super::records::durable::{self, ContainerRow, LifeRow};
use super::records::volatile::{self, Incarnation, Stage};
use super::view::{Exit, ExitReason, State};
use super::watched::Watched;
use super::{Engine, Error, spawn_id};

/// Whether what was written down is still there.
enum Liveness {
    /// Its first process is.
    Alive(Running),
    /// It is gone.
    Gone,
    /// Nobody can say: it is left alone.
    Unknown(Error),
}

impl Engine {
    /// Reads all containers and settles each of them. Before this nobody is answered.
    pub(super) async fn adopt(&self) -> Result<(), Error> {
        for row in self.state.run(durable::containers).await? {
            match row.and_then(|(row, last)| self.load(row, last)) {
                Ok(()) => {}
                Err(error) => self.host.taint_unreadable("a container", &error),
            }
        }
        let sessions = self.recall_sessions().await?;
        for record in self.run.run(volatile::incarnations).await? {
            match record {
                Ok(record) => self.settle(record).await,
                Err(error) => {
                    self.host.taint_unreadable("what a container is made of", &error.into());
                }
            }
        }
        self.resume_sessions(sessions).await;
        self.settle_the_lost().await;
        self.sweep().await;
        Ok(())
    }

    fn load(&self, row: ContainerRow, last: LifeRow) -> Result<(), Error> {
        let view = self.first_view(&row, &last, &self.effective_of(&row)?);
        let container = Arc::new(Container::new(row, last, view, self.events.clone()));
        self.events.tell(Event::ContainerAdded(container.view()));
        self.containers.insert(container);
        Ok(())
    }

    async fn settle(&self, record: Incarnation) {
        let settled = match self.containers.get(&record.container) {
            Some(container) => self.settle_known(&container, record).await,
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
        if remains.is_empty() { self.forget_record(record).await } else { Ok(()) }
    }

    async fn settle_known(
        &self,
        container: &Arc<Container>,
        record: Incarnation,
    ) -> Result<(), Error> {
        let mut life = container.lock().await?;
        life.incarnation = record.number;
        life.session = self.last_session(&record);
        life.last.started = record.started.or(life.last.started);
        let exit = match record.stage {
            Stage::Preparing => Exit { code: -1, signal: 0, reason: ExitReason::StartFailed },
            Stage::Ended { exit, finished } if life.last.finished == Some(finished) => {
                // Known, and told: only the rest of it has to go.
                life.broken = Some(record);
                container.show(|view| view.state = State::Broken);
                tracing::debug!(container = %container.row.id, exit_code = exit.code, "once more");
                return self.mend(container, &mut life).await;
            }
            Stage::Ended { exit, .. } => exit,
            Stage::Starting | Stage::Running => match self.liveness(&record) {
                Liveness::Alive(running) => {
                    let running = self.carry_through(container, running).await?;
                    self.now_runs(container, &mut life, running);
                    tracing::info!(container = %container.row.id, "taken over");
                    return Ok(());
                }
                Liveness::Gone => self.exit_of_gone(&record),
                Liveness::Unknown(error) => {
                    life.broken = Some(record);
                    container.show(|view| view.state = State::Broken);
                    return Err(error);
                }
            },
        };
        self.end_as(container, &mut life, &record, exit, None).await
    }

    /// Whether its processes are still the ones that were written down.
    fn liveness(&self, record: &Incarnation) -> Liveness {
        let reopen = |identity: &Option<Identity>| -> Result<Option<Arc<Watched>>, Error> {
            let Some(identity) = identity.as_ref().filter(|_| self.same_boot) else {
                return Ok(None);
            };
            let failed = |source| Error::Host { what: "look for a process", source };
            let pidfd =
                identity::reopen(identity).map_err(|error| failed(std::io::Error::other(error)))?;
            pidfd.map(|pidfd| Watched::new(pidfd).map(Arc::new)).transpose().map_err(failed)
        };
        match (reopen(&record.init), reopen(&record.supervisor)) {
            (Ok(Some(init)), Ok(supervisor)) => Liveness::Alive(Running {
                record: record.clone(),
                init,
                supervisor,
                in_use: Arc::new(RwLock::new(())),
            }),
            (Ok(None), _) => Liveness::Gone,
            (Err(error), _) | (_, Err(error)) => Liveness::Unknown(error),
        }
    }

    /// Finishes a start that was decided, and maybe done, when the daemon ended.
    async fn carry_through(
        &self,
        container: &Arc<Container>,
        mut running: Running,
    ) -> Result<Running, Error> {
        if running.record.stage != Stage::Starting {
            return Ok(running);
        }
        if self.waits_for_start(&running.record) {
            match self.run_process(container, &running).await {
                // Then the watch tells.
                Err(Error::Runtime { source, .. }) if source.kind() == ErrorKind::Gone => {}
                started => started?,
            }
        }
        running.record.stage = Stage::Running;
        running.record.started = Some(Usec::now());
        running.record.started_monotonic = Some(Usec::now_monotonic());
        self.write_record(&running.record).await?;
        Ok(running)
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
        let sessions = layout.bundle().join("exec");
        let Ok(entries) = std::fs::read_dir(sessions) else { return 0 };
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .max()
            .unwrap_or(0)
    }

    /// Containers that ran when the host went down: nothing can tell how they ended.
    async fn settle_the_lost(&self) {
        for container in self.containers.all() {
            let Ok(mut life) = container.lock().await else { continue };
            let last = life.last;
            let unaccounted = life.running.is_none() && life.broken.is_none();
            if unaccounted && last.started.is_some() && last.finished.is_none() {
                let exit = Exit { code: -1, signal: 0, reason: ExitReason::Lost };
                life.last = LifeRow { finished: Some(Usec::now()), exit: Some(exit), ..last };
                let (id, ended) = (container.row.id.clone(), life.last);
                self.state.post(move |c| durable::update_life(c, &id, &ended));
                container.show(|view| {
                    view.state = State::Exited;
                    (view.exit, view.finished) = (ended.exit, ended.finished);
                });
            }
        }
    }
}
