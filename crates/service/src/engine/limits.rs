//! Changing the limits of a container, also while it runs, and what follows its end.
//!
//! What its control group is to be told is written down before, with the limits that are wanted. If
//! anything fails, the group is told what the container had before; a daemon that finds a change half
//! made does the same.

use std::sync::Arc;

use tare_specgen::{LimitWrite, Resources};

use super::blocking::unbounded;
use super::container::{Container, Now, Running};
use super::lifecycle::RestartPolicy;
use super::pause::failed_to;
use super::records::durable::DefinitionRow;
use super::records::volatile::{Doing, Incarnation};
use super::view;
use super::{Engine, Error};
use crate::authority::{Action, Ask, Authorized, Caller, Question};

/// A container that is to have other limits.
#[derive(Debug)]
pub struct Update {
    /// Which.
    pub container: Arc<view::Container>,
    /// Those that are to change.
    pub limits: Resources,
    /// What is to follow its end.
    pub restart: Option<RestartPolicy>,
    /// From the stop signal to SIGKILL, in microseconds.
    pub stop_timeout_usec: Option<u64>,
}

impl Ask for Update {
    /// Whoever may manage one's own containers may limit them, not give them more of the host.
    fn question(&self, by: &Caller) -> Question {
        let before = &self.container.limits;
        let question = if before.updated(&self.limits).allow_more_than(before) {
            let action = Question::new(Action::ManageContainers);
            action.with("container", self.container.name.as_str())
        } else {
            Question::about(Action::ManageContainers, &self.container, by)
        };
        question.with("verb", "update")
    }
}

impl Engine {
    /// Changes the limits of a container, all of them or none, also while it runs.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSpec`], [`Error::RemovedAtEnd`], [`Error::Changed`], [`Error::Process`] if the
    /// kernel refuses.
    pub async fn update(&self, request: Authorized<Update>) -> Result<(), Error> {
        let (request, _) = request.into_parts();
        let container = &self.container(&request.container.id)?;
        let mut life = container.lock_unchanged(&request.container).await?;
        container.check_listed(&life)?;
        let mut row = container.definition().row.clone();
        let before = row.request.resources.clone();
        change(&mut row, &request)?;
        let after = row.request.resources.clone();
        let host = self.host.facts();
        let writes = before.changes_to(&after, &host).map_err(Error::InvalidSpec)?;
        let limited = !writes.is_empty();
        if limited {
            self.settle_owed(container, &mut life).await?;
        }
        if let (Now::Running { record, running, .. }, true) = (&mut life.now, limited) {
            self.limit(container, record, running, &after, writes).await?;
        }
        let written = self.redefine(container, &life, |old| *old = row).await;
        let Now::Running { record, running, .. } = &mut life.now else { return written };
        if limited {
            if written.is_err() {
                self.limit_again(container, running, &after).await?;
            }
            self.fulfil(record).await?;
        }
        written
    }

    /// Has a container that runs limited to what is wanted, once that is written down.
    async fn limit(
        &self,
        container: &Container,
        record: &mut Incarnation,
        running: &Running,
        wanted: &Resources,
        writes: Vec<LimitWrite>,
    ) -> Result<(), Error> {
        record.intend(Doing::Limit(Box::new(wanted.clone())));
        self.write_record(record).await?;
        let limited = self.apply(container, running, writes).await;
        if limited.is_err() {
            self.limit_again(container, running, wanted).await?;
            self.fulfil(record).await?;
        }
        limited
    }

    /// Writes to the control group of a container. That takes as long as the kernel needs to take memory
    /// back.
    async fn apply(
        &self,
        container: &Container,
        running: &Running,
        writes: Vec<LimitWrite>,
    ) -> Result<(), Error> {
        let group = self.payload(container, running)?;
        let write = move |write: &LimitWrite| group.limit(&write.file, &write.text);
        let applied = unbounded("limit", move || Ok(writes.iter().try_for_each(write))).await?;
        applied.map_err(|error| failed_to("limit", container, error))
    }

    /// Gives a container that runs the limits back that it is to have, when it may have some of
    /// `others`. Where nothing is different, nothing is done.
    pub(super) async fn limit_again(
        &self,
        container: &Container,
        running: &Running,
        others: &Resources,
    ) -> Result<(), Error> {
        let own = container.definition().row.request.resources.clone();
        let writes = others.changes_to(&own, &self.host.facts()).map_err(Error::InvalidSpec)?;
        if writes.is_empty() {
            return Ok(());
        }
        let (group, id) = (self.payload(container, running)?, container.id.clone());
        unbounded("limit", move || {
            for write in &writes {
                // What was never written needs nothing, and may have no file.
                if let Err(error) = group.limit(&write.file, &write.text) {
                    tracing::debug!(container_id = %id, "{error}");
                }
            }
            Ok(())
        })
        .await
    }
}

/// What a container is to be once this is done.
fn change(row: &mut DefinitionRow, request: &Update) -> Result<(), Error> {
    row.request.resources = row.request.resources.updated(&request.limits);
    if let Some(restart) = request.restart {
        row.lifecycle.restart = restart;
    }
    if row.lifecycle.is_contradictory() {
        return Err(Error::RemovedAtEnd(row.name.clone()));
    }
    if let Some(usec) = request.stop_timeout_usec {
        row.request.stop_timeout_usec = Some(usec);
    }
    Ok(())
}
