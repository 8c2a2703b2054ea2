//! Removing containers, with all that is theirs.

use std::sync::Arc;

use tare_runtime::ContainerId;
use tare_storage::VolumeName;

use super::container::{Container, Life, Now};
use super::jobs::{Job, JobKind, Origin, Output};
use super::object::ObjectId;
use super::records::{durable, volatile};
use super::view;
use super::{Engine, Error, Pending};
use crate::authority::{Action, Ask, Authorized, Caller, Question};

/// A container to be removed.
#[derive(Debug)]
pub struct Remove {
    /// Which.
    pub container: Arc<view::Container>,
    /// What to do if it runs.
    pub running: IfRunning,
    /// What becomes of the volumes that were made for it alone.
    pub volumes: OwnVolumes,
}

/// What becomes of the anonymous volumes of a container that is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnVolumes {
    /// They stay.
    Keep,
    /// They are removed with all that is in them, but for those that others use.
    Remove,
}

/// What to do with a container that runs and must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfRunning {
    /// Nothing; that is an error.
    Refuse,
    /// Kill it first.
    Kill,
}

impl Ask for Remove {
    fn question(&self, by: &Caller) -> Question {
        Question::about(Action::RemoveContainers, &self.container, by).with("verb", "remove")
    }
}

impl Engine {
    /// Begins to remove a container and its data.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there can be no job.
    pub fn remove(&self, request: Authorized<Remove>) -> Result<Pending, Error> {
        let (request, by) = request.into_parts();
        let engine = self.clone();
        let object = ObjectId::Container(request.container.id.clone());
        self.pending(
            JobKind::RemoveContainer,
            Some(object),
            Origin::Caller(&by),
            move |job| async move {
                engine.remove_container(&request, &job).await?;
                Ok(Output::default())
            },
        )
    }

    pub(super) async fn remove_container(
        &self,
        Remove { container: asked, running: if_running, volumes }: &Remove,
        job: &Job,
    ) -> Result<(), Error> {
        let container = &self.container(&asked.id)?;
        let mut life = job.or_canceled(container.lock_unchanged(asked)).await??;
        self.check_unshared(container)?;
        container.check_unwritten(&life)?;
        self.take_down_waiting(container, &mut life).await?;
        if let Some(running) = life.running().cloned() {
            if *if_running == IfRunning::Refuse {
                return Err(container.wrong_state("to be stopped"));
            }
            // It is gone for good: nothing follows this end but that.
            self.to_end(container, &mut life, running.number()).await;
            life.kept += 1;
            drop(life);
            let ended = self.kill_and_end(container, &running).await;
            if let Ok(mut life) = container.lock().await {
                life.kept -= 1;
                self.no_more_to_end(container, &mut life, running.number()).await;
            }
            ended?;
            life = job.or_canceled(container.lock_unchanged(asked)).await??;
            if life.running().is_some() {
                return Err(container.wrong_state("to be stopped"));
            }
        }
        if *if_running == IfRunning::Refuse {
            self.check_alone(container)?;
        }
        container.check_unwritten(&life)?;
        match self.mend(container, &mut life).await {
            // All but a note of its end is taken down; to be removed is how it makes space.
            Err(Error::NoSpace(_)) => {}
            mended => mended?,
        }
        // Whatever is written down or not: what lives does not lose its root.
        self.check_alone(container)?;
        job.point_of_no_return()?;
        self.forget_or_keep(container, &mut life, *volumes).await
    }

    /// Removes a container that was made a moment ago and does not run.
    pub(super) async fn take_back(&self, id: &ContainerId) -> Result<(), Error> {
        let container = self.container(id)?;
        let mut life = container.lock().await?;
        // Somebody else has started it since.
        if life.running().is_some() {
            return Err(container.wrong_state("to be stopped"));
        }
        self.mend(&container, &mut life).await?;
        self.check_alone(&container)?;
        // It was made with them a moment ago.
        self.forget_or_keep(&container, &mut life, OwnVolumes::Remove).await
    }

    async fn forget_or_keep(
        &self,
        container: &Container,
        life: &mut Life,
        volumes: OwnVolumes,
    ) -> Result<(), Error> {
        let before = std::mem::replace(&mut life.now, Now::Removing);
        container.show(life);
        let forgotten = self.forget(container, life, before, volumes).await;
        container.show(life);
        if forgotten.is_ok() {
            let row = &container.definition().row;
            self.networks.leave(&container.id, &row.connections.networks);
            self.leave_images(&container.id, &container.root, &row.request);
            self.sharers.leave(&container.id, &row.request);
            self.secrets.leave(&container.id, &row.request);
            self.containers.remove(container);
            container.remove();
        }
        forgotten
    }

    /// Row first, then directories: what has no row is swept away at the latest by the next start
    /// of the daemon. Until all is gone the container is there, so that this can be repeated.
    async fn forget(
        &self,
        container: &Container,
        life: &mut Life,
        before: Now,
        volumes: OwnVolumes,
    ) -> Result<(), Error> {
        if let Err(error) = self.unmount_everywhere(container, life).await {
            life.now = before;
            return Err(error);
        }
        let is_recorded = matches!(before, Now::Broken(_) | Now::Unlisted);
        if !matches!(before, Now::Unlisted)
            && let Err(error) = self.delete_row_and(container, volumes).await
        {
            life.now = before;
            return Err(error);
        }
        life.now = Now::Unlisted;
        if is_recorded {
            self.forget_record(&container.id).await?;
        }
        let id = container.id.clone();
        self.run.post(move |c| volatile::forget_sessions(c, &id));
        self.delete_directories(&container.id).await?;
        self.remove_checkpoints_of(&container.id).await?;
        life.now = Now::Removed;
        Ok(())
    }

    /// The row, and the container's own volumes if that is asked for.
    async fn delete_row_and(
        &self,
        container: &Container,
        volumes: OwnVolumes,
    ) -> Result<(), Error> {
        let request = container.definition().row.request.clone();
        let own = match volumes {
            OwnVolumes::Remove => self.anonymous_of(&request),
            OwnVolumes::Keep => Vec::new(),
        };
        // Nobody begins to use one of them before it is gone.
        let _alone = if own.is_empty() { None } else { Some(self.volumes.changing.lock().await) };
        let doomed = match self.delete_row(&container.id, own).await {
            // Another has come meanwhile that shares its network.
            Err(Error::Database(error)) if error.is_in_use() => {
                self.check_unshared(container)?;
                return Err(Error::Database(error));
            }
            deleted => deleted?,
        };
        self.volumes.leave(&container.id, &request);
        self.remove_doomed(doomed).await;
        Ok(())
    }

    /// Takes out a container and those of these volumes that nobody else uses, which are returned.
    async fn delete_row(
        &self,
        id: &ContainerId,
        own: Vec<VolumeName>,
    ) -> Result<Vec<VolumeName>, Error> {
        let delete = || {
            let (id, own) = (id.clone(), own.clone());
            self.state.run(move |c| {
                durable::delete_container(c, &id)?;
                durable::doom_unused(c, own)
            })
        };
        match delete().await.map_err(Error::from) {
            // The disk may be full of what it wrote. If the daemon ends in between, there is a
            // container without content, which can still be removed.
            Err(Error::NoSpace(_)) => {
                self.delete_directories(id).await?;
                Ok(delete().await?)
            }
            deleted => deleted,
        }
    }
}
