//! Containers that are made and wait to be started, and taking down what is there of one that does not
//! run.
//!
//! One that waits is as one that runs, but that its first process has not been let go: it has its network,
//! its root and its conmon, and a new daemon takes it over. Nothing of it is an end if it goes away again.

use std::sync::Arc;

use super::attach::AtStart;
use super::container::{Container, Life, Now, Pace, Running};
use super::jobs::{Job, JobKind, Origin, Output};
use super::object::ObjectId;
use super::records::volatile::{Doing, Incarnation};
use super::start::{Goal, StartedBy};
use super::view;
use super::{Engine, Error, Pending};
use crate::authority::{Action, Ask, Authorized, Caller, Question};

/// A container to be made ready to run.
#[derive(Debug)]
pub struct Prepare {
    /// Which.
    pub container: Arc<view::Container>,
}

/// A container that does not run, of which nothing is to stay on the host.
#[derive(Debug)]
pub struct Cleanup {
    /// Which.
    pub container: Arc<view::Container>,
}

impl Ask for Prepare {
    fn question(&self, by: &Caller) -> Question {
        Question::about(Action::ManageContainers, &self.container, by).with("verb", "prepare")
    }
}

impl Ask for Cleanup {
    fn question(&self, by: &Caller) -> Question {
        Question::about(Action::ManageContainers, &self.container, by).with("verb", "clean up")
    }
}

impl Engine {
    /// Begins to make a container, which then waits to be started.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there can be no job.
    pub fn prepare_container(&self, request: Authorized<Prepare>) -> Result<Pending, Error> {
        let (Prepare { container }, by) = request.into_parts();
        let (engine, origin) = (self.clone(), Origin::Caller(&by));
        let object = Some(ObjectId::Container(container.id.clone()));
        self.pending(JobKind::PrepareContainer, object, origin, move |job| async move {
            engine.start_for(&container, &job, StartedBy::Somebody, Goal::Wait).await?;
            Ok(Output::default())
        })
    }

    /// Begins to take down what there is of a container that does not run.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there can be no job.
    pub fn clean_up(&self, request: Authorized<Cleanup>) -> Result<Pending, Error> {
        let (Cleanup { container: asked }, by) = request.into_parts();
        let (engine, origin) = (self.clone(), Origin::Caller(&by));
        let object = Some(ObjectId::Container(asked.id.clone()));
        self.pending(JobKind::CleanupContainer, object, origin, move |job| async move {
            let container = engine.container(&asked.id)?;
            let mut life = job.or_canceled(container.lock_unchanged(&asked)).await??;
            if life.running().is_some() && !life.waits() {
                return Err(container.wrong_state("to be stopped"));
            }
            container.check_listed(&life)?;
            job.point_of_no_return()?;
            engine.take_down_waiting(&container, &mut life).await?;
            engine.mend(&container, &mut life).await?;
            Ok(Output::default())
        })
    }

    /// Takes a container down that waits to be started; whether it did. It is then what it was before.
    pub(super) async fn take_down_waiting(
        &self,
        container: &Arc<Container>,
        life: &mut Life,
    ) -> Result<bool, Error> {
        if !life.waits() {
            return Ok(false);
        }
        let Now::Running { record, mut ports, .. } = std::mem::replace(&mut life.now, Now::Idle)
        else {
            return Ok(false);
        };
        container.hide_names();
        life.root.let_go();
        ports.let_go().await;
        life.now = Now::Broken(record);
        let mended = self.mend(container, life).await;
        self.refresh_sharers(container);
        container.show(life);
        mended.map(|()| true)
    }

    /// From now on a container is there that waits to be started, and its end is watched for.
    pub(super) fn now_waits(
        &self,
        container: &Arc<Container>,
        life: &mut Life,
        record: Box<Incarnation>,
        running: Arc<Running>,
        ports: super::ports::Ports,
    ) {
        let pace = Pace::Waiting;
        life.now = Now::Running { record, running: running.clone(), stopping: 0, pace, ports };
        container.show(life);
        self.watch(container.clone(), running);
    }

    /// Starts a container that waits for it.
    pub(super) async fn start_waiting(
        &self,
        container: &Arc<Container>,
        life: &mut Life,
        job: &Job,
        at_start: AtStart,
    ) -> Result<(), Error> {
        self.settle_owed(container, life).await?;
        let Now::Running { record, running, .. } = &mut life.now else {
            return Err(Error::Bug("what waits is not there".into()));
        };
        let (mut record, running) = (record.clone(), running.clone());
        self.attach_at_start(container, &running, at_start).await?;
        job.point_of_no_return()?;
        job.stage("starting");
        container.show_names(&record);
        let started = self.amend(&mut record, Doing::Start, self.run_process(container, &running));
        if let Err(error) = started.await {
            self.take_down_failed(container, life, record, job).await;
            return Err(error);
        }
        let now = std::mem::replace(&mut life.now, Now::Starting);
        if let Now::Running { ports, .. } = now {
            self.runs(container, life, record, &running, Pace::Free, ports);
        }
        Ok(())
    }
}
