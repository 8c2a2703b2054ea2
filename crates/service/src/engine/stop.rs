//! Stopping a container, and sending signals to it.
//!
//! Its lock is held to look and to change, not while time passes: whoever wants to kill what
//! somebody else stops gently need not wait for that.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tare_runtime::{Signal, signal};

use super::container::{Container, Running};
use super::jobs::{Job, JobKind, Output, Subject};
use super::view::{self, State};
use super::{Engine, Error, Pending};
use crate::authority::{Action, Ask, Authorized, Caller, Question};

/// After SIGKILL a process is gone, or the kernel cannot end it, and nobody can.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

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
        let engine = self.clone();
        let subject = Subject::Container(request.container.id.clone());
        self.pending(JobKind::StopContainer, &subject, &by, move |job| async move {
            let container = engine.container(&request.container.id)?;
            engine.stop_container(&container, &request, &job).await?;
            Ok(Output::default())
        })
    }

    /// Sends a signal to a container; does not wait for what comes of it.
    ///
    /// # Errors
    ///
    /// [`Error::NotRunning`], [`Error::Process`].
    pub fn kill(&self, request: Authorized<Kill>) -> Result<(), Error> {
        let (request, _) = request.into_parts();
        let container = self.container(&request.container.id)?;
        let name = &container.row.name;
        let running = container.running().ok_or(Error::NotRunning(name.clone()))?;
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

    fn kill_all(&self, container: &Container, running: &Running) -> Result<(), Error> {
        let payload = running.record.cgroup.payload();
        let killed = self
            .host
            .cgroups()
            .open(payload.as_str())
            .and_then(|group| group.map_or(Ok(()), |group| group.kill()));
        killed.map_err(|source| Error::Process {
            what: "kill all processes of",
            name: container.row.name.clone(),
            source: std::io::Error::other(source),
        })
    }

    async fn stop_container(
        &self,
        container: &Arc<Container>,
        request: &Stop,
        job: &Job,
    ) -> Result<(), Error> {
        let mut life = job.or_canceled(container.lock()).await??;
        let Some(running) = life.running.clone() else {
            return match request.needed {
                // It was stopped, but something of it stayed.
                _ if life.broken.is_some() => self.mend(container, &mut life).await,
                Needed::Nothing => Ok(()),
                Needed::Running => Err(Error::NotRunning(container.row.name.clone())),
            };
        };
        drop(life);
        container.show_while(&running, State::Stopping);
        let stopped = async {
            self.ask_to_stop(container, &running, request.timeout, job).await?;
            self.kill_and_end(container, &running).await?;
            // Whoever watches it may have been first to take it down, and told nobody of failures.
            match container.lock().await {
                Ok(mut life) => self.mend(container, &mut life).await,
                // Removed meanwhile.
                Err(_) => Ok(()),
            }
        };
        let stopped = stopped.await;
        if stopped.is_err() {
            container.show_while(&running, State::Running);
        }
        stopped
    }

    /// The stop signal, and its time.
    async fn ask_to_stop(
        &self,
        container: &Container,
        running: &Running,
        timeout: Option<Duration>,
        job: &Job,
    ) -> Result<(), Error> {
        let effective = self.effective(container)?;
        let timeout = timeout.unwrap_or_else(|| Duration::from_micros(effective.stop_timeout_usec));
        let stop_signal = Signal::from_number(effective.stop_signal.number())
            .map_err(|error| Error::Bug(error.to_string()))?;
        // It may have ended a moment ago: then there is nothing to wait for either.
        let _ = signal::send(running.init.as_fd(), stop_signal);
        let _ = job.or_canceled(tokio::time::timeout(timeout, running.init.ended())).await?;
        Ok(())
    }

    /// Kills what is left of a container that runs, and ends it.
    pub(super) async fn kill_and_end(
        &self,
        container: &Arc<Container>,
        running: &Running,
    ) -> Result<(), Error> {
        self.kill_all(container, running)?;
        if tokio::time::timeout(KILL_TIMEOUT, running.init.ended()).await.is_err() {
            return Err(Error::Process {
                what: "end the processes of",
                name: container.row.name.clone(),
                source: std::io::ErrorKind::TimedOut.into(),
            });
        }
        self.end(container, running.record.number).await
    }
}
