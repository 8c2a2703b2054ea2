//! The end of a container: how it came, written down, and told once.
//!
//! The exit is written down before anything is taken down, since conmon's exit file goes with the
//! bundle; it is durable before anybody is told; and the record of the incarnation goes last. So a
//! daemon that is killed anywhere here is followed by one that knows how it ended, and whether
//! that was told.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tare_runtime::ContainerId;
use tare_runtime::exit;
use tare_runtime::exit::{ExitFile, Exited};
use tare_spawn::{Incarnation as Number, Layout};

use super::clock::Usec;
use super::container::{Container, Life, Now, Running};
use super::object::End;
use super::records::durable::{self, LifeRow};
use super::records::volatile::{self, Doing, Incarnation, Stage};
use super::stop::KILL_TIMEOUT;
use super::teardown::Remains;
use super::view::{Exit, ExitReason};
use super::watched::Watched;
use super::{Engine, Error, spawn_id};

/// conmon writes the exit file and ends a moment after the container; if it takes longer than this
/// something holds it, and the file is read as it is.
const SUPERVISOR_TIMEOUT: Duration = Duration::from_secs(10);
/// How long CRIU may take to end a container after its daemon was killed, until that is taken for one that
/// goes on.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked for an exit code where conmon was killed, and how long in between.
const REAPING: u32 = 50;
const REAPING_PAUSE: Duration = Duration::from_millis(20);

/// An end that cannot be written down is tried again after this long, and then less and less often.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A disk that was full may have space again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What to do about an end that cannot be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwritten {
    /// Nothing yet: what conmon wrote of it is still there.
    Wait,
    /// Take the container down all the same: somebody wants it gone, perhaps for its space.
    GoOn,
}

impl Engine {
    /// Waits, as long as it runs, for the end of a container.
    pub(super) fn watch(&self, container: Arc<Container>, running: Arc<Running>) {
        let engine = self.clone();
        tokio::spawn(async move {
            running.init.ended().await;
            let mut pause = FIRST_PAUSE;
            while let Err(error) = engine.finish(&container, running.number()).await {
                tracing::error!(container = %container.name(), container_id = %container.id, "{}", error.chain());
                if !matches!(error, Error::NoSpace(_) | Error::Database(_)) {
                    break;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        });
    }

    /// The end of incarnation `number`, or what is left to do of it.
    async fn finish(&self, container: &Arc<Container>, number: u32) -> Result<(), Error> {
        self.end(container, number, Unwritten::Wait).await?;
        let Ok(mut life) = container.lock().await else { return Ok(()) };
        match &life.now {
            Now::Broken(record) if record.number == number => self.mend(container, &mut life).await,
            _ => Ok(()),
        }
    }

    /// The end of incarnation `number`, whose first process is gone; whoever comes second finds
    /// nothing to do.
    pub(super) async fn end(
        &self,
        container: &Arc<Container>,
        number: u32,
        unwritten: Unwritten,
    ) -> Result<(), Error> {
        let Ok(mut life) = container.lock().await else { return Ok(()) };
        let (record, running, stopping) = match &life.now {
            Now::Running { record, running, stopping, .. } if running.number() == number => {
                (record.clone(), running.clone(), *stopping)
            }
            _ => return Ok(()),
        };
        // Whoever stops all with the host wants none of them to stay down.
        life.last.asked = (stopping > 0 || record.to_end) && !self.goes_down();
        container.hide_names();
        // Whoever executes something in it is done first: it cannot take long any more.
        let _alone = running.in_use.write().await;
        let exit = if record.was_let_run() {
            self.exit_of(&record, &running).await
        } else {
            Exit::NEVER_RAN
        };
        let supervisor = running.supervisor.as_ref();
        self.end_as(container, &mut life, record, exit, supervisor, unwritten).await
    }

    /// Ends a container that CRIU has just killed, with its lock held and nothing being executed in it.
    pub(super) async fn end_checkpointed(
        &self,
        container: &Arc<Container>,
        life: &mut Life,
        running: &Running,
    ) -> Result<(), Error> {
        let ended = tokio::time::timeout(KILL_TIMEOUT, running.init.ended()).await;
        let Now::Running { record, .. } = &mut life.now else { return Ok(()) };
        if ended.is_err() {
            record.to_end = false;
            self.fulfil(record).await?;
            return Err(Error::Process {
                what: "end the processes of",
                name: container.name(),
                source: std::io::ErrorKind::TimedOut.into(),
            });
        }
        let record = record.clone();
        life.last.asked = true;
        container.hide_names();
        let exit = self.exit_of(&record, running).await;
        let exit = Exit { reason: ExitReason::Checkpointed, ..exit };
        let supervisor = running.supervisor.as_ref();
        self.end_as(container, life, record, exit, supervisor, Unwritten::GoOn).await
    }

    /// How a container ended that an earlier daemon has a checkpoint of, if it was that one that let CRIU end
    /// it, and not killed a moment before: only the end tells.
    pub(super) async fn ends_checkpointed(
        &self,
        record: &Incarnation,
        running: &Running,
    ) -> Option<Exit> {
        let Some(Doing::Checkpoint(id)) = &record.doing else { return None };
        if !self.has_checkpoint(id) {
            return None;
        }
        tokio::time::timeout(CHECKPOINT_TIMEOUT, running.init.ended()).await.ok()?;
        let exit = self.exit_of(record, running).await;
        Some(Exit { reason: ExitReason::Checkpointed, ..exit })
    }

    /// Ends a container in a way that is known: writes that down, takes down what there is of it,
    /// and tells.
    pub(super) async fn end_as(
        &self,
        container: &Arc<Container>,
        life: &mut Life,
        mut record: Box<Incarnation>,
        exit: Exit,
        supervisor: Option<&Watched>,
        unwritten: Unwritten,
    ) -> Result<(), Error> {
        let finished = Usec::now();
        record.stage = Stage::Ended { exit, finished };
        match self.write_record(&record).await {
            // It is known as long as this daemon lives, and `write_end` may still write it.
            Err(error) if unwritten == Unwritten::GoOn => {
                tracing::error!(container = %container.name(), container_id = %container.id, "{}", error.chain());
            }
            written => written?,
        }
        life.last = LifeRow { finished: Some(finished), exit: Some(exit), ..life.last };
        let remains = self.tear_down(&record, supervisor).await;
        life.root.let_go();
        if let Now::Running { ports, .. } = &mut life.now {
            ports.let_go().await;
        }
        let done = self.write_end(container, life, &record, &remains).await;
        remains.log();
        let failed = done.and_then(|()| remains.report(&container.name()));
        life.now = if failed.is_ok() { Now::Idle } else { Now::Broken(record) };
        tell_end(container, life, exit, finished);
        self.follow_end(container, life, exit);
        self.refresh_sharers(container);
        failed
    }

    /// Tries again to finish the end of a broken container.
    pub(super) async fn mend(
        &self,
        container: &Arc<Container>,
        life: &mut Life,
    ) -> Result<(), Error> {
        match &life.now {
            Now::Broken(record) => {
                let remains = self.tear_down(record, None).await;
                remains.log();
                self.write_end(container, life, record, &remains).await?;
                remains.report(&container.name())?;
            }
            Now::Unreadable => {
                // What lives cannot be ended by one who does not know what it is.
                self.check_alone(container)?;
                self.clear_host(&container.id).await?;
                self.lose(container, life);
                self.forget_record(&container.id).await?;
            }
            _ => return Ok(()),
        }
        life.now = Now::Idle;
        container.show(life);
        Ok(())
    }

    /// If it was not known to have ended: nothing can tell how it did.
    pub(super) fn lose(&self, container: &Container, life: &mut Life) {
        if life.last.started.is_some() && life.last.finished.is_none() {
            let exit = Exit { code: -1, signal: 0, reason: ExitReason::Lost };
            life.last.finished = Some(Usec::now());
            life.last.exit = Some(exit);
            let (id, last) = (container.id.clone(), life.last);
            self.state.post(move |c| durable::update_life(c, &id, &last));
        }
    }

    /// The exit code is durable before the record goes. What could not be taken down stays
    /// recorded, addresses included, so that it is tried again.
    async fn write_end(
        &self,
        container: &Container,
        life: &Life,
        record: &Incarnation,
        remains: &Remains,
    ) -> Result<(), Error> {
        let (id, last) = (container.id.clone(), life.last);
        self.state.run(move |c| durable::update_life(c, &id, &last)).await?;
        if remains.is_empty() {
            self.forget_record(&record.container).await?;
            self.leave_unpromised(container, record);
        }
        Ok(())
    }

    /// Nothing of an incarnation is left.
    pub(super) async fn forget_record(&self, id: &ContainerId) -> Result<(), Error> {
        let id = id.clone();
        self.run.run(move |c| volatile::end_incarnation(c, &id)).await?;
        self.networks.rest();
        Ok(())
    }

    async fn exit_of(&self, record: &Incarnation, running: &Running) -> Exit {
        if let Some(supervisor) = &running.supervisor
            && tokio::time::timeout(SUPERVISOR_TIMEOUT, supervisor.ended()).await.is_err()
        {
            tracing::warn!(container_id = %record.container, "conmon outlives its container");
        }
        let exit = learn_exit(&self.exit_dir(record), &record.container, Some(&running.init)).await;
        by_memory(exit, self.ran_out_of_memory(record))
    }

    /// How a container ended that is gone, from what conmon wrote, or whoever took its place.
    pub(super) fn exit_of_gone(&self, record: &Incarnation) -> Exit {
        let exit = how(written(&self.exit_dir(record), &record.container), None);
        match &record.doing {
            Some(Doing::Checkpoint(id)) if self.has_checkpoint(id) => {
                Exit { reason: ExitReason::Checkpointed, ..exit }
            }
            _ => by_memory(exit, self.ran_out_of_memory(record)),
        }
    }

    /// Whether the kernel killed a process of it for lack of memory: conmon has noted that, or its
    /// control group still counts it.
    fn ran_out_of_memory(&self, record: &Incarnation) -> bool {
        let counted = || {
            let group = self.host.cgroups().open(record.cgroup.payload().as_str()).ok()??;
            group.figures().ok()?.oom_kills
        };
        self.exit_dir(record).join("oom").exists() || counted().is_some_and(|kills| kills > 0)
    }

    fn exit_dir(&self, record: &Incarnation) -> PathBuf {
        let id = spawn_id(&record.container);
        Layout::new(self.instance.run_dir(), &id, Number(record.number)).exit_dir()
    }
}

fn tell_end(container: &Container, life: &Life, exit: Exit, finished: Usec) {
    let (name, reason) = (container.name(), exit.reason.as_str());
    tracing::info!(
        container = %name,
        container_id = %container.id,
        exit_code = exit.code,
        reason,
        "Container '{name}' ended with exit code {} ({reason})",
        exit.code
    );
    container.show_end(life, End { exit, at: finished });
}

/// How a process of `id` ended, by the exit file in `dir` and by what the kernel knows of it.
///
/// Where conmon was killed, whoever reaps the process writes the file, and only then does the kernel
/// tell: a moment after the end was seen.
pub(super) async fn learn_exit(dir: &Path, id: &ContainerId, process: Option<&Watched>) -> Exit {
    let mut waits = REAPING;
    loop {
        let kernel = process.and_then(|process| exit::exit_info(process.as_fd()).ok().flatten());
        let file = written(dir, id);
        if file.is_some() || kernel.is_some() || process.is_none() || waits == 0 {
            return how(file, kernel);
        }
        waits -= 1;
        tokio::time::sleep(REAPING_PAUSE).await;
    }
}

fn written(dir: &Path, id: &ContainerId) -> Option<ExitFile> {
    exit::read_exit_file(dir, id).unwrap_or_else(|error| {
        tracing::warn!(container_id = %id, "{error}");
        None
    })
}

/// conmon knows the code, the kernel knows whether a signal made it.
fn how(file: Option<ExitFile>, kernel: Option<Exited>) -> Exit {
    let signal = match kernel {
        Some(Exited::Signal(signal)) => i32::from(signal.number()),
        _ => 0,
    };
    let code = match (file, kernel) {
        (Some(ExitFile::Code(code)), _) => Some(code),
        (_, Some(exited)) => Some(exited.code()),
        _ => None,
    };
    match code {
        None => Exit { code: -1, signal: 0, reason: ExitReason::Lost },
        Some(code) => {
            let reason = if signal == 0 { ExitReason::Exited } else { ExitReason::Signaled };
            Exit { code: i32::from(code.0), signal, reason }
        }
    }
}

/// A process of a container may lack memory and the container go on; what ended as SIGKILL ends
/// things then did so for that.
fn by_memory(exit: Exit, ran_out: bool) -> Exit {
    const KILLED: i32 = 128 + 9;
    if ran_out && exit.code == KILLED { Exit { reason: ExitReason::Oom, ..exit } } else { exit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tare_runtime::Signal;
    use tare_runtime::exit::ExitCode;

    #[test]
    fn lack_of_memory_is_a_reason_of_what_was_killed() {
        for (code, ran_out, reason) in [
            (137, true, ExitReason::Oom),
            (137, false, ExitReason::Exited),
            (0, true, ExitReason::Exited),
            (143, true, ExitReason::Exited),
        ] {
            let exit = Exit { code, signal: 0, reason: ExitReason::Exited };
            assert_eq!(by_memory(exit, ran_out), Exit { reason, ..exit }, "{code} {ran_out}");
        }
        assert_eq!(ExitReason::from_word("oom"), Some(ExitReason::Oom));
    }

    #[test]
    fn the_code_is_conmons_and_the_signal_the_kernels() {
        let kill = Signal::from_number(9).unwrap();
        let code = |n| Some(ExitFile::Code(ExitCode(n)));
        let exit = |code, signal, reason| Exit { code, signal, reason };
        for (about, file, kernel, want) in [
            ("both say exit", code(3), Some(Exited::Code(3)), exit(3, 0, ExitReason::Exited)),
            ("old kernel", code(3), None, exit(3, 0, ExitReason::Exited)),
            ("137 by itself", code(137), Some(Exited::Code(137)), exit(137, 0, ExitReason::Exited)),
            ("killed", code(137), Some(Exited::Signal(kill)), exit(137, 9, ExitReason::Signaled)),
            ("conmon died", None, Some(Exited::Signal(kill)), exit(137, 9, ExitReason::Signaled)),
            ("conmon gave up", Some(ExitFile::Unknown), None, exit(-1, 0, ExitReason::Lost)),
            ("nobody knows", None, None, exit(-1, 0, ExitReason::Lost)),
        ] {
            assert_eq!(how(file, kernel), want, "{about}");
        }
    }
}
