//! Taking a checkpoint of a container that runs.
//!
//! CRIU writes it down and then waits, and nothing in the container moves. Now its files are read, all is flushed,
//! the directory gets its name, and the row is written; that is when there is a checkpoint, and only
//! then may the container end. Whatever fails before, it goes on, and nothing is left. Its lock is held
//! all the while: nothing about it may change, and a stop waits. To be killed it need not wait.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use tare_checkpoint::{DumpStats, Extra};
use tare_runtime::ContainerName;
use tare_spawn::{Dumped, Layout};
use tokio::sync::OwnedRwLockWriteGuard;
use tokio::time::timeout;

use super::commit::{Committed, commit};
use super::files::Files;
use super::said::{complaint, said, version};
use super::{After, Changes, CheckpointId, Extras};
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::effects;
use crate::engine::blocking::{brief, unbounded};
use crate::engine::clock::Usec;
use crate::engine::container::{Container, Life, Now, Pace, Running};
use crate::engine::error::Uncheckpointable;
use crate::engine::host::check_criu;
use crate::engine::jobs::{Job, JobKind, Origin, Output, Produced};
use crate::engine::object::ObjectId;
use crate::engine::records::Version;
use crate::engine::records::durable::{self, CheckpointDefinition, CheckpointRow};
use crate::engine::records::volatile::{self, Doing};
use crate::engine::{Engine, Error, Pending, view};
use crate::engine::{namespaces, users};

/// How long it may take until nothing is being executed in it any more.
const SESSIONS_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked.
const PAUSE: Duration = Duration::from_millis(20);

/// A container that a checkpoint is to be taken of.
#[derive(Debug)]
pub struct Checkpoint {
    /// Which.
    pub container: Arc<view::Container>,
    /// How the checkpoint is called; without one, by the beginning of its id.
    pub name: Option<ContainerName>,
    /// What becomes of the container.
    pub after: After,
    /// What is taken along.
    pub extras: Extras,
    /// What becomes of the files that it has changed.
    pub changes: Changes,
}

impl Ask for Checkpoint {
    fn question(&self, by: &Caller) -> Question {
        Question::about(Action::CheckpointContainer, &self.container, by).with("verb", "checkpoint")
    }
}

/// A checkpoint as it is taken.
struct Taking<'t> {
    container: &'t Container,
    running: &'t Arc<Running>,
    request: &'t Checkpoint,
    files: Files,
    id: CheckpointId,
    owner_uid: u32,
}

impl Engine {
    /// Begins to take a checkpoint.
    ///
    /// # Errors
    ///
    /// [`Error::NoCriu`], or [`Error::Host`] if there can be no job.
    pub fn checkpoint(&self, request: Authorized<Checkpoint>) -> Result<Pending, Error> {
        let (request, by) = request.into_parts();
        check_criu()?;
        let (engine, owner_uid) = (self.clone(), by.uid);
        let object = ObjectId::Container(request.container.id.clone());
        self.pending(
            JobKind::CheckpointContainer,
            Some(object),
            Origin::Caller(&by),
            move |job| async move {
                let id = engine.take_checkpoint(&request, owner_uid, &job).await?;
                Ok(Output(vec![("Checkpoint", Produced::Object(ObjectId::Checkpoint(id)))]))
            },
        )
    }

    async fn take_checkpoint(
        &self,
        request: &Checkpoint,
        owner_uid: u32,
        job: &Arc<Job>,
    ) -> Result<CheckpointId, Error> {
        let container = self.container(&request.container.id)?;
        let mut life = job.or_canceled(container.lock_unchanged(&request.container)).await??;
        // Before anything of it is in the checkpoint.
        self.settle_owed(&container, &mut life).await?;
        let running = checkpointable(&container, &life, request.after)?;
        let alone = self.nothing_executed(&container, &running).await?;
        let id = CheckpointId::random()?;
        let files = Files::new(&self.instance, &id);
        let taking = Taking {
            container: &container,
            running: &running,
            request,
            files,
            id: id.clone(),
            owner_uid,
        };
        let taken = self.take(&taking, &mut life, job).await;
        self.clear_work(&running).await;
        match taken {
            Ok(row) => self.checkpoints.insert(row),
            Err(error) => {
                self.take_back_checkpoint(&taking).await;
                return Err(error);
            }
        }
        if request.after == After::Ends {
            self.end_checkpointed(&container, &mut life, &running).await?;
        }
        drop(alone);
        Ok(id)
    }

    /// All up to the moment when the container may end.
    async fn take(
        &self,
        taking: &Taking<'_>,
        life: &mut Life,
        job: &Arc<Job>,
    ) -> Result<CheckpointRow, Error> {
        job.stage("dumping");
        let dumped = self.dump(taking).await?;
        job.stage("writing");
        let kept = async {
            job.check()?;
            let Taking { container, running, files, .. } = taking;
            self.capture(container, running, taking.request.changes, files, job).await?;
            let row = self.keep(taking).await?;
            job.point_of_no_return()?;
            self.intend_end(taking, life).await?;
            Ok(row)
        };
        let row = match kept.await {
            Ok(row) => row,
            Err(error) => {
                // It goes on by that.
                let dropped = unbounded("checkpoint", move || {
                    drop(dumped);
                    Ok(())
                });
                dropped.await?;
                return Err(error);
            }
        };
        if let Err(error) = self.commit_dump(taking, dumped).await {
            self.intend_no_end(life).await;
            return Err(error);
        }
        Ok(row)
    }

    /// Has CRIU do with the container what was asked for. It may end by that: from here on nothing fails
    /// but that.
    async fn commit_dump(&self, taking: &Taking<'_>, dumped: Box<dyn Dumped>) -> Result<(), Error> {
        let name = taking.container.name();
        match commit(dumped, taking.request.after, &taking.running.init).await {
            Committed::AsAsked => {}
            Committed::Perhaps(source) => {
                let error = Error::Checkpoint { name: name.clone(), source };
                tracing::warn!(container = %name, "its checkpoint is kept all the same: {}", error.chain());
            }
            Committed::No(source) => return Err(Error::Checkpoint { name, source }),
        }
        self.keep_stats(taking).await;
        Ok(())
    }

    /// Keeps CRIU's figures; without them nothing is lost.
    async fn keep_stats(&self, taking: &Taking<'_>) {
        let (stats, files) = (self.layout_of(taking.running).dump_stats(), taking.files.clone());
        let kept = unbounded("checkpoint", move || files.keep_stats(&stats));
        if let Err(error) = kept.await {
            tracing::debug!("{}", error.chain());
        }
    }

    /// Has CRIU write it down.
    async fn dump(&self, taking: &Taking<'_>) -> Result<Box<dyn Dumped>, Error> {
        let (spawner, files) = (self.spawner.clone(), taking.files.clone());
        let (name, running) = (taking.container.name(), taking.running.clone());
        let supervisor = running.supervisor(&name)?.pidfd();
        let request = tare_spawn::Checkpoint {
            target: running.target.clone(),
            after: taking.request.after,
            extras: taking.request.extras,
        };
        let run_dir = self.instance.run_dir().to_path_buf();
        unbounded("checkpoint", move || {
            let layout = running.layout(&run_dir);
            let images: OwnedFd = files.begin()?;
            let work = layout.checkpoint();
            // A daemon that was killed may have left one.
            let made = effects::remove_dir(&work).and_then(|()| effects::make_dir(&work, 0o700));
            made.map_err(|source| Error::Host {
                what: "make a place for CRIU to work at",
                source,
            })?;
            spawner
                .checkpoint(&request, supervisor.as_fd(), images)
                .map_err(|source| refused(name, &layout, source))
        })
        .await
    }

    /// Makes it one that outlives a power cut.
    async fn keep(&self, taking: &Taking<'_>) -> Result<CheckpointRow, Error> {
        let files = taking.files.clone();
        let log = self.layout_of(taking.running).dump_log();
        let (size, criu) = unbounded("checkpoint", move || {
            let criu = version(&log).unwrap_or_default();
            Ok((files.complete()?, criu))
        })
        .await?;
        let uname = rustix::system::uname();
        let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        let addresses = taking.container.view().addresses.clone();
        let name = taking.request.name.clone().or_else(|| taking.id.short().parse().ok());
        let row = CheckpointRow {
            id: taking.id.clone(),
            container: taking.container.id.clone(),
            name: name.ok_or_else(|| Error::Bug("an id that is no name".into()))?,
            owner_uid: taking.owner_uid,
            created: Usec::now(),
            size,
            definition: CheckpointDefinition {
                version: Version,
                runtime: taking.running.target.runtime,
                after: taking.request.after,
                changes: taking.request.changes,
                extras: taking.request.extras,
                addresses: addresses
                    .iter()
                    .map(|it| (it.network.clone(), it.address.addr()))
                    .collect(),
                criu,
                kernel: text(uname.release()),
                architecture: text(uname.machine()),
            },
        };
        let written = row.clone();
        self.state.run(move |c| durable::insert_checkpoint(c, &written)).await?;
        Ok(row)
    }

    /// Writes down that it is about to end for a checkpoint, for a daemon that only finds it gone.
    async fn intend_end(&self, taking: &Taking<'_>, life: &mut Life) -> Result<(), Error> {
        let Now::Running { record, .. } = &mut life.now else { return Ok(()) };
        if taking.request.after == After::GoesOn {
            return Ok(());
        }
        record.intend(Doing::Checkpoint(taking.id.clone()));
        record.to_end = true;
        let written = self.write_record(record).await;
        if written.is_err() {
            self.intend_no_end(life).await;
        }
        written
    }

    async fn intend_no_end(&self, life: &mut Life) {
        let Now::Running { record, .. } = &mut life.now else { return };
        record.to_end = false;
        if let Err(error) = self.fulfil(record).await {
            tracing::warn!(container_id = %record.container, "{}", error.chain());
        }
    }

    /// Waits until nothing is being executed in it, and keeps it so: CRIU does not write down what is not
    /// below the first process, and it would be lost.
    async fn nothing_executed(
        &self,
        container: &Container,
        running: &Running,
    ) -> Result<OwnedRwLockWriteGuard<()>, Error> {
        let why =
            || Error::NotCheckpointable { name: container.name(), why: Uncheckpointable::Sessions };
        let (id, number) = (container.id.clone(), running.number());
        let none_left = async {
            let alone = running.in_use.clone().write_owned().await;
            // They are over without that.
            loop {
                let id = id.clone();
                let are_left = move |c: &_| volatile::may_have_sessions(c, &id, number);
                if !self.run.run(are_left).await? {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
            Ok(alone)
        };
        timeout(SESSIONS_TIMEOUT, none_left).await.unwrap_or_else(|_| Err(why()))
    }

    fn layout_of<'l>(&'l self, running: &'l Running) -> Layout<'l> {
        running.layout(self.instance.run_dir())
    }

    /// Removes what CRIU left where it was at work.
    pub(in crate::engine) async fn clear_work(&self, running: &Running) {
        let work = self.layout_of(running).checkpoint();
        let cleared = brief(move || {
            let failed = |source| Error::Host { what: "clear up after a checkpoint", source };
            effects::remove_dir(&work).map_err(failed)
        });
        if let Err(error) = cleared.await {
            tracing::warn!("{}", error.chain());
        }
    }

    /// Row first: what has none is nobody's.
    async fn take_back_checkpoint(&self, taking: &Taking<'_>) {
        let (id, files) = (taking.id.clone(), taking.files.clone());
        let taken_back = async {
            self.state.run(move |c| durable::delete_checkpoint(c, &id)).await?;
            unbounded("checkpoint", move || files.remove()).await
        };
        if let Err(error) = taken_back.await {
            tracing::error!("what there is of a checkpoint stays: {}", error.chain());
        }
    }
}

/// Its processes, if a checkpoint of it can be taken.
fn checkpointable(container: &Container, life: &Life, after: After) -> Result<Arc<Running>, Error> {
    let running = life.running().cloned();
    let running = running.ok_or_else(|| Error::NotRunning(container.name()))?;
    if life.pace(running.number()) != Some(Pace::Free) || life.is_stopped_by_somebody() {
        return Err(container.wrong_state("to be running, and not on the way to another state"));
    }
    // Half of what is copied would be in it.
    container.check_unwritten(life)?;
    let auto_remove = container.definition().row.lifecycle.auto_remove;
    if auto_remove && after == After::Ends {
        let why = Uncheckpointable::AutoRemove;
        return Err(Error::NotCheckpointable { name: container.name(), why });
    }
    if users::are_own(&container.definition().row.request) {
        let why = Uncheckpointable::UserNamespace;
        return Err(Error::NotCheckpointable { name: container.name(), why });
    }
    if namespaces::are_foreign(&container.definition().row.request) {
        let why = Uncheckpointable::Namespaces;
        return Err(Error::NotCheckpointable { name: container.name(), why });
    }
    Ok(running)
}

/// Why CRIU did not do it, by what the caller can do about it.
fn refused(name: ContainerName, layout: &Layout<'_>, source: tare_spawn::Error) -> Error {
    let complaint = complaint(&layout.dump_log());
    let wants = complaint.as_ref().and_then(|complaint| complaint.wants);
    let why = match wants {
        Some(Extra::TcpEstablished) => Uncheckpointable::TcpEstablished,
        Some(Extra::FileLocks) => Uncheckpointable::FileLocks,
        Some(Extra::ExternalUnixSockets) => Uncheckpointable::ExternalUnixSockets,
        _ => return Error::Checkpoint { name, source: said(complaint, source) },
    };
    Error::NotCheckpointable { name, why }
}

/// CRIU's figures, by the names of the contract.
pub(super) fn figures(stats: &[u8]) -> Option<serde_json::Value> {
    let stats = DumpStats::parse(stats)?;
    Some(serde_json::json!({
        "FreezingUSec": stats.freezing_usec,
        "FrozenUSec": stats.frozen_usec,
        "MemoryDumpUSec": stats.memory_dump_usec,
        "MemoryWriteUSec": stats.memory_write_usec,
        "PagesScanned": stats.pages_scanned,
        "PagesSkipped": stats.pages_skipped,
        "PagesWritten": stats.pages_written,
    }))
}
