//! The end of a container: how it came, written down, and told once.
//!
//! The exit is written down before anything is taken down, since conmon's exit file goes with the
//! bundle; it is durable before anybody is told; and the record of the incarnation goes last. So a
//! daemon that is killed anywhere here is followed by one that knows how it ended, and whether
//! that was told. Where nothing can be written it is taken down all the same: a full disk is no
//! reason to let processes run.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tare_runtime::exit;
use tare_runtime::exit::{ExitFile, Exited};
use tare_spawn::{Incarnation as Number, Layout};

use super::clock::Usec;
use super::container::{Container, Life, Running};
use super::events::Event;
use super::records::durable::{self, LifeRow};
use super::records::volatile::{self, Incarnation, Stage};
use super::teardown::Remains;
use super::view::{Exit, ExitReason, State};
use super::watched::Watched;
use super::{Engine, Error, spawn_id};

/// conmon writes the exit file and ends a moment after the container; if it takes longer than this
/// something holds it, and the file is read as it is.
const SUPERVISOR_TIMEOUT: Duration = Duration::from_secs(10);

impl Engine {
    /// Waits, as long as it runs, for the end of a container.
    pub(super) fn watch(&self, container: Arc<Container>, running: Running) {
        let engine = self.clone();
        tokio::spawn(async move {
            running.init.ended().await;
            if let Err(error) = engine.end(&container, running.record.number).await {
                tracing::error!(container = %container.row.id, "{}", error.chain());
            }
        });
    }

    /// The end of incarnation `number`, whose first process is gone; whoever comes second finds
    /// nothing to do.
    pub(super) async fn end(&self, container: &Arc<Container>, number: u32) -> Result<(), Error> {
        let Ok(mut life) = container.lock().await else { return Ok(()) };
        let Some(running) = life.running.clone().filter(|r| r.record.number == number) else {
            return Ok(());
        };
        // Whoever executes something in it is done first: it cannot take long any more.
        let _alone = running.in_use.write().await;
        let exit = self.exit_of(&running).await;
        let supervisor = running.supervisor.as_deref();
        self.end_as(container, &mut life, &running.record, exit, supervisor).await
    }

    /// Ends a container in a way that is known: writes that down, takes down what there is of it,
    /// and tells.
    pub(super) async fn end_as(
        &self,
        container: &Arc<Container>,
        life: &mut Life,
        record: &Incarnation,
        exit: Exit,
        supervisor: Option<&Watched>,
    ) -> Result<(), Error> {
        let finished = Usec::now();
        let record = Incarnation { stage: Stage::Ended { exit, finished }, ..record.clone() };
        if let Err(error) = self.write_record(&record).await {
            tracing::error!(container = %record.container, "its end is not noted: {}", error.chain());
        }
        life.last = LifeRow { finished: Some(finished), exit: Some(exit), ..life.last };
        let remains = self.tear_down(&record, supervisor).await;
        let done = self.write_end(container, life, &record, &remains).await;
        remains.log();
        let failed = done.and_then(|()| remains.report(&container.row.name));
        life.broken = failed.is_err().then_some(record);
        self.tell_end(container, life, exit, finished);
        failed
    }

    /// Tries again to finish the end of a broken container.
    pub(super) async fn mend(
        &self,
        container: &Arc<Container>,
        life: &mut Life,
    ) -> Result<(), Error> {
        let Some(record) = life.broken.clone() else { return Ok(()) };
        let remains = self.tear_down(&record, None).await;
        self.write_end(container, life, &record, &remains).await?;
        remains.report(&container.row.name)?;
        life.broken = None;
        container.show(|view| view.state = State::Exited);
        Ok(())
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
        let (id, last) = (container.row.id.clone(), life.last);
        self.state.run(move |c| durable::update_life(c, &id, &last)).await?;
        if remains.is_empty() {
            self.forget_record(record).await?;
        }
        Ok(())
    }

    /// Nothing of an incarnation is left.
    pub(super) async fn forget_record(&self, record: &Incarnation) -> Result<(), Error> {
        let (id, now) = (record.container.clone(), Usec::now());
        Ok(self.run.run(move |c| volatile::end_incarnation(c, &id, now)).await?)
    }

    fn tell_end(&self, container: &Container, life: &mut Life, exit: Exit, finished: Usec) {
        container.set_running(life, None);
        tracing::info!(
            container = %container.row.id,
            exit_code = exit.code,
            reason = exit.reason.as_str(),
            "ended"
        );
        self.events.tell(Event::ContainerExited(container.row.id.clone(), exit, finished));
        let broken = life.broken.is_some();
        container.show(|view| {
            view.state = if broken { State::Broken } else { State::Exited };
            view.process = None;
            view.exit = Some(exit);
            view.finished = Some(finished);
            view.started_monotonic = None;
            view.cgroup = String::new();
            view.addresses = Vec::new();
            view.processes = Vec::new();
        });
    }

    async fn exit_of(&self, running: &Running) -> Exit {
        if let Some(supervisor) = &running.supervisor
            && tokio::time::timeout(SUPERVISOR_TIMEOUT, supervisor.ended()).await.is_err()
        {
            tracing::warn!(container = %running.record.container, "conmon outlives its container");
        }
        self.exit_now(&running.record, exit::exit_info(running.init.as_fd()).ok().flatten())
    }

    /// How a container ended, from what conmon wrote and what the kernel may still know.
    pub(super) fn exit_now(&self, record: &Incarnation, kernel: Option<Exited>) -> Exit {
        let id = spawn_id(&record.container);
        let layout = Layout::new(self.instance.run_dir(), &id, Number(record.number));
        let file = exit::read_exit_file(&layout.exit_dir(), &record.container);
        let file = file.unwrap_or_else(|error| {
            tracing::warn!(container = %record.container, "{error}");
            None
        });
        how(file, kernel)
    }
}

/// conmon knows the code, the kernel knows whether a signal made it.
pub(super) fn how(file: Option<ExitFile>, kernel: Option<Exited>) -> Exit {
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

#[cfg(test)]
mod tests {
    use super::*;
    use tare_runtime::Signal;
    use tare_runtime::exit::ExitCode;

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
