//! Stopping a container and starting it again, as one job.

use std::sync::Arc;
use std::time::Duration;

use super::jobs::{JobKind, Origin, Output};
use super::object::ObjectId;
use super::start::StartedBy;
use super::stop::{Needed, Stop};
use super::view;
use super::{Engine, Error, Pending};
use crate::authority::{Action, Ask, Authorized, Caller, Question};

/// A container to be stopped, if it runs, and started.
#[derive(Debug)]
pub struct Restart {
    /// Which.
    pub container: Arc<view::Container>,
    /// From the stop signal to SIGKILL; `None`: the container's own.
    pub timeout: Option<Duration>,
}

impl Ask for Restart {
    fn question(&self, by: &Caller) -> Question {
        Question::about(Action::ManageContainers, &self.container, by).with("verb", "restart")
    }
}

impl Engine {
    /// Begins to restart a container.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there can be no job.
    pub fn restart(&self, request: Authorized<Restart>) -> Result<Pending, Error> {
        let (request, by) = request.into_parts();
        self.restart_for(request, Origin::Caller(&by))
    }

    pub(super) fn restart_for(
        &self,
        request: Restart,
        origin: Origin<'_>,
    ) -> Result<Pending, Error> {
        let Restart { container: asked, timeout } = request;
        let engine = self.clone();
        let object = Some(ObjectId::Container(asked.id.clone()));
        self.pending(JobKind::RestartContainer, object, origin, move |job| async move {
            let container = engine.container(&asked.id)?;
            let stop = Stop { container: asked.clone(), timeout, needed: Needed::Nothing };
            // Neither removed nor started by itself in between.
            container.lock().await?.kept += 1;
            let restarted = async {
                job.stage("stopping");
                engine.stop_container(&container, &stop, &job).await?;
                engine.start_container(&asked, &job, StartedBy::Somebody).await
            };
            let restarted = restarted.await;
            if let Ok(mut life) = container.lock().await {
                life.kept -= 1;
            }
            restarted.map(|()| Output::default())
        })
    }
}
