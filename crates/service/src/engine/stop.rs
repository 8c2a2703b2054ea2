//! Stopping a container, and sending signals to it.
//!
//! Its lock is held to look and to change, not while time passes: whoever wants to kill what
//! somebody else stops gently need not wait for that.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tare_runtime::{Signal, signal};

use super::blocking::brief;
use super::container::{Container, Life, Now, Running};
use super::end::Unwritten;
use super::follow::Plan;
use super::jobs::{Job, JobKind, Origin, Output};
use super::object::ObjectId;
use super::records::durable;
use super::view::{self, State};
use super::{Engine, Error, Pending};
use crate::authority::{Action, Ask, Authorized, Caller, Question};

/// After SIGKILL a process is gone, or the kernel cannot end it, and nobody can.
pub(super) const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// A container to be stopped.
#[derive(Debug)]
pub struct Stop {
    /// Which.
    pub container: Arc<view::Container>,
    /// From the stop signal to SIGKILL; `None`: the container's own.
    pub timeout: Option<Duration>,
    /// Whether it must run.
    pub needed: Needed,
}

/// Whether something that is to be ended must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needed {
    /// It must run.
    Running,
    /// It is fine if it does not.
    Nothing,
}

/// A signal to be sent.
#[derive(Debug)]
pub struct Kill {
    /// To which container.
    pub container: Arc<view::Container>,
    /// To which of its processes.
    pub whom: Whom,
    /// Which signal.
    pub signal: Signal,
}

/// Which processes of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The first one.
    Init,
    /// All of them; only with SIGKILL, for which the kernel has a race-free way.
    All,
}

impl Ask for Stop {
    fn question(&self, by: &Caller) -> Question {
        Question::about(Action::ManageContainers, &self.container, by).with("verb", "stop")
    }
}

impl Ask for Kill {
    fn question(&self, by: &Caller) -> Question {
        Question::about(Action::ManageContainers, &self.container, by).with("verb", "kill")
    }
}

impl Engine {
    /// Begins to stop a container.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there can be no job.
    pub fn stop(&self, request: Authorized<Stop>) -> Result<Pending, Error> {
        let (request, by) = request.into_parts();
        self.stop_for(request, Origin::Caller(&by))
    }

    pub(super) fn stop_for(&self, request: Stop, origin: Origin<'_>) -> Result<Pending, Error> {
        let engine = self.clone();
        let object = ObjectId::Container(request.container.id.clone());
        self.pending(JobKind::StopContainer, Some(object), origin, move |job| async move {
            let container = engine.container(&request.container.id)?;
            engine.stop_container(&container, &request, &job).await?;
            Ok(Output::default())
        })
    }

    /// Begins to stop the container of a scope, because the service manager wants it; `None` if there
    /// is none. Who may tell the service manager to stop a unit was its question to ask.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there can be no job.
    pub fn stop_scope(&self, scope: &str) -> Result<Option<Pending>, Error> {
        let all = self.containers.all();
        let container = all.iter().find(|container| self.tag.scope(&container.id) == scope);
        container.map(|container| self.stop_for_host(container)).transpose()
    }

    /// Begins to stop all containers, if the host goes down: each in its own way, while there is
    /// still somebody to see how it ends.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there can be no job.
    pub async fn stop_with_host(&self) -> Result<Vec<Pending>, Error> {
        let goes_down = match self.groups.manager() {
            Some(manager) => manager.is_stopping().await,
            None => false,
        };
        if goes_down {
            self.host_goes_down();
        }
        let all = if goes_down { self.containers.all() } else { Vec::new() };
        let running = all.iter().filter(|container| container.running().is_some());
        running.map(|container| self.stop_for_host(container)).collect()
    }

    fn stop_for_host(&self, container: &Arc<Container>) -> Result<Pending, Error> {
        let name = container.name();
        tracing::info!(
            container = %name,
            container_id = %container.id,
            "Container '{name}' is stopped: the service manager wants it"
        );
        let request = Stop { container: container.view(), timeout: None, needed: Needed::Nothing };
        self.stop_for(request, Origin::Host)
    }

    /// Sends a signal to a container; does not wait for what comes of it.
    ///
    /// # Errors
    ///
    /// [`Error::NotRunning`], [`Error::Process`].
    pub async fn kill(&self, request: Authorized<Kill>) -> Result<(), Error> {
        let ((request, _), engine) = (request.into_parts(), self.clone());
        brief(move || engine.kill_now(&request)).await
    }

    fn kill_now(&self, request: &Kill) -> Result<(), Error> {
        let container = self.container(&request.container.id)?;
        container.check_unchanged(&request.container)?;
        let name = &request.container.name;
        let running = container.running().filter(|_| container.state() != State::Created);
        let running = running.ok_or_else(|| Error::NotRunning(name.clone()))?;
        match request.whom {
            Whom::All => self.kill_all(&container, &running),
            Whom::Init => signal::send(running.init.as_fd(), request.signal).map_err(|error| {
                if running.init.has_ended() {
                    return Error::NotRunning(name.clone());
                }
                let source = std::io::Error::other(error);
                Error::Process { what: "send a signal to", name: name.clone(), source }
            }),
        }
    }

    pub(super) fn kill_all(&self, container: &Container, running: &Running) -> Result<(), Error> {
        let payload = running.cgroup.payload();
        let killed = self
            .host
            .cgroups()
            .open(payload.as_str())
            .and_then(|group| group.map_or(Ok(()), |group| group.kill()));
        killed.map_err(|source| Error::Process {
            what: "kill all processes of",
            name: container.name(),
            source: std::io::Error::other(source),
        })
    }

    pub(super) async fn stop_container(
        &self,
        container: &Arc<Container>,
        request: &Stop,
        job: &Job,
    ) -> Result<(), Error> {
        {
            let asked = container.lock_unchanged(&request.container);
            let mut life = job.or_canceled(asked).await??;
            if self.take_down_waiting(container, &mut life).await? {
                return Ok(());
            }
        }
        let Some(running) = self.begin_to_stop(container, request, job).await? else {
            return match request.needed {
                // It would have been started again.
                _ if self.call_off(container).await? => Ok(()),
                // It was stopped, but something of it stayed.
                _ if self.mend_broken(container).await? => Ok(()),
                Needed::Nothing => Ok(()),
                Needed::Running => Err(Error::NotRunning(container.name())),
            };
        };
        let stopped = async {
            self.ask_to_stop(container, &running, request.timeout, job).await?;
            self.kill_and_end(container, &running).await?;
            // Whoever watches it may have been first to take it down, and told nobody of failures.
            self.mend_broken(container).await
        };
        let stopped = stopped.await;
        if stopped.is_err()
            && let Ok(mut life) = container.lock().await
        {
            self.no_more_to_end(container, &mut life, running.number()).await;
        }
        stopped.map(drop)
    }

    /// Nothing follows the last end of a container any more; whether anything was to.
    async fn call_off(&self, container: &Container) -> Result<bool, Error> {
        let mut life = container.lock().await?;
        if !life.next.is_some() {
            return Ok(false);
        }
        life.next = Plan::NONE;
        life.last.asked = true;
        let (id, last) = (container.id.clone(), life.last);
        self.state.run(move |c| durable::update_life(c, &id, &last)).await?;
        Ok(true)
    }

    /// Takes down what is left of a container that was stopped, if anything is; whether there was.
    async fn mend_broken(&self, container: &Arc<Container>) -> Result<bool, Error> {
        // One that was removed meanwhile has nothing left.
        let Ok(mut life) = container.lock().await else { return Ok(false) };
        let broken = matches!(life.now, Now::Broken(_));
        match self.mend(container, &mut life).await {
            // All but a note of its end is taken down; whoever watches it writes that later.
            Err(Error::NoSpace(_)) => Ok(broken),
            mended => mended.map(|()| broken),
        }
    }

    /// Says that somebody stops it; nothing if it does not run.
    async fn begin_to_stop(
        &self,
        container: &Container,
        request: &Stop,
        job: &Job,
    ) -> Result<Option<Arc<Running>>, Error> {
        let asked = container.lock_unchanged(&request.container);
        let mut life = job.or_canceled(asked).await??;
        let Some(running) = life.running().cloned() else { return Ok(None) };
        self.to_end(container, &mut life, running.number()).await;
        Ok(Some(running))
    }

    /// Somebody wants incarnation `number` to end.
    pub(super) async fn to_end(&self, container: &Container, life: &mut Life, number: u32) {
        life.count_stops(number, |stops| stops + 1);
        self.note_stop(life, true).await;
        container.show(life);
    }

    /// They do not any more, or could not bring it about; nothing if it has ended.
    pub(super) async fn no_more_to_end(&self, container: &Container, life: &mut Life, number: u32) {
        life.count_stops(number, |stops| stops - 1);
        if !life.is_stopped_by_somebody() {
            self.note_stop(life, false).await;
        }
        container.show(life);
    }

    /// Writes down that somebody wants it to end, or does not any more, for a daemon that comes to
    /// know how it ended. That is no reason not to stop it.
    async fn note_stop(&self, life: &mut Life, wanted: bool) {
        let Now::Running { record, .. } = &mut life.now else { return };
        // With the host, nobody wants any of them to stay down.
        if record.to_end == wanted || self.goes_down() {
            return;
        }
        record.to_end = wanted;
        if let Err(error) = self.write_record(record).await {
            tracing::warn!(container_id = %record.container, "{}", error.chain());
        }
    }

    /// The stop signal, and its time.
    async fn ask_to_stop(
        &self,
        container: &Container,
        running: &Arc<Running>,
        timeout: Option<Duration>,
        job: &Job,
    ) -> Result<(), Error> {
        let effective = self.effective(container)?;
        let timeout = timeout.unwrap_or_else(|| Duration::from_micros(effective.stop_timeout_usec));
        let stop_signal = Signal::from_number(effective.stop_signal.number())
            .map_err(|error| Error::Bug(error.to_string()))?;
        let whom = running.clone();
        let asked = brief(move || {
            // It may have ended a moment ago: then there is nothing to wait for either.
            let _ = signal::send(whom.init.as_fd(), stop_signal);
            Ok(())
        });
        asked.await?;
        // What is paused gets it when it goes on, before anything else; if it cannot, it is killed.
        if let Err(error) = self.let_go_on(container, running).await {
            job.log(4, error.chain());
        }
        let _ = job.or_canceled(tokio::time::timeout(timeout, running.init.ended())).await?;
        Ok(())
    }

    /// Kills what is left of a container that runs, and ends it.
    pub(super) async fn kill_and_end(
        &self,
        container: &Arc<Container>,
        running: &Arc<Running>,
    ) -> Result<(), Error> {
        let (engine, whose, all) = (self.clone(), container.clone(), running.clone());
        brief(move || engine.kill_all(&whose, &all)).await?;
        if tokio::time::timeout(KILL_TIMEOUT, running.init.ended()).await.is_err() {
            return Err(Error::Process {
                what: "end the processes of",
                name: container.name(),
                source: std::io::ErrorKind::TimedOut.into(),
            });
        }
        match self.end(container, running.number(), Unwritten::GoOn).await {
            // It is taken down. Whoever watches it writes that down when there is space.
            Err(Error::NoSpace(_)) => Ok(()),
            ended => ended,
        }
    }
}
