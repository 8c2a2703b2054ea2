//! Making and removing containers: rows and directories, nothing that runs.
//!
//! The order is the protocol: a container's directories are made before its row and deleted after
//! it, so whatever directory has no row is left over from a crash and can be taken away.

use std::path::PathBuf;
use std::sync::Arc;

use tare_runtime::{ContainerId, ContainerName};
use tare_specgen::{Effective, Reason, Request, effective, reasons};

use super::blocking::brief;
use super::clock::Usec;
use super::container::{Container, Life, Now};
use super::images::Image;
use super::jobs::{Job, JobKind, Output};
use super::object::ObjectId;
use super::records::durable::{self, ContainerRow, DefinitionRow, LifeRow, Root};
use super::view;
use super::{Engine, Error, Inner, Pending, Reference, key, random_id};
use crate::authority::{Action, Ask, Authorized, Caller, Question};

/// A container that could be made: resolved once, and frozen, so that what is asked about is what
/// is made.
#[derive(Debug)]
pub struct Draft {
    name: Option<ContainerName>,
    image: Arc<Image>,
    image_reference: String,
    request: Request,
    reasons: Vec<Reason>,
}

impl Ask for Draft {
    fn question(&self, _: &Caller) -> Question {
        let action = if self.reasons.is_empty() {
            Action::CreateContainer
        } else {
            Action::CreatePrivilegedContainer
        };
        let reasons: Vec<String> = self.reasons.iter().map(ToString::to_string).collect();
        Question::new(action)
            .with("container", self.name.as_ref().map_or("", |name| name.as_str()))
            .with("image", &self.image_reference)
            .with("verb", "create")
            .with_reasons(reasons.join(", "))
            .with("privileged", if reasons.is_empty() { "false" } else { "true" })
    }
}

/// A container to be removed.
#[derive(Debug)]
pub struct Remove {
    /// Which.
    pub container: Arc<view::Container>,
    /// What to do if it runs.
    pub running: IfRunning,
}

/// What to do with a container that runs and must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfRunning {
    /// Nothing; that is an error.
    Refuse,
    /// Kill it first.
    Kill,
}

impl Inner {
    /// Lays a request over an image.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`], [`Error::NoSuchImage`], [`Error::InvalidReference`].
    pub fn draft(&self, name: &str, image: &str, request: Request) -> Result<Draft, Error> {
        let name = match name {
            "" => None,
            name => Some(container_name(name)?),
        };
        let found = self.images.find(image)?;
        let reasons = reasons(&effective(&request, &found.defaults));
        let image_reference = match image.parse::<Reference>() {
            Ok(reference) => reference.to_string(),
            Err(_) => found.id.to_string(),
        };
        Ok(Draft { name, image: found, image_reference, request, reasons })
    }

    /// Makes a container; nothing of it runs.
    ///
    /// # Errors
    ///
    /// [`Error::NameInUse`]; else if directories or row cannot be written. Nothing is left then.
    pub async fn create(&self, draft: Authorized<Draft>) -> Result<ContainerId, Error> {
        let (draft, by) = draft.into_parts();
        let id = self.unused_id()?;
        let reservation = match draft.name.clone() {
            Some(name) => self.containers.reserve(name)?,
            None => self.reserve_made_up(&draft.image_reference, &id)?,
        };
        let definition =
            DefinitionRow { revision: 1, name: reservation.name().clone(), request: draft.request };
        let row = ContainerRow {
            id: id.clone(),
            owner_uid: by.uid,
            root: Root::Image { id: draft.image.id, reference: draft.image_reference },
            created: Usec::now(),
            definition: definition.clone(),
        };
        let definition = self.define(&row.root, definition)?;
        self.write_container(&row).await?;
        let container = Container::new(&row, definition, LifeRow::default(), self.events.clone());
        reservation.fulfil(Arc::new(container));
        Ok(id)
    }

    async fn write_container(&self, row: &ContainerRow) -> Result<(), Error> {
        let (store, id) = (self.store.clone(), row.id.clone());
        let image = self.image_of(&row.root)?;
        brief(move || {
            let top = image.layers.last().ok_or_else(|| Error::Bug("no layers".into()))?;
            store.create_container(&key(&id), top).map_err(Error::Storage)
        })
        .await?;
        let written = row.clone();
        let done = self.state.run(move |c| durable::insert_container(c, &written)).await;
        if done.is_err() {
            self.delete_directories(&row.id).await?;
        }
        Ok(done?)
    }

    /// The image a container was made from; it cannot be removed while the container is there.
    pub(super) fn image_of(&self, root: &Root) -> Result<Arc<Image>, Error> {
        let Root::Image { id, .. } = root;
        self.images.find(&id.to_string())
    }

    async fn delete_directories(&self, id: &ContainerId) -> Result<(), Error> {
        let (store, id, log) = (self.store.clone(), id.clone(), self.log_path(id));
        brief(move || {
            store.remove_container(&key(&id)).map_err(Error::Storage)?;
            match std::fs::remove_file(&log) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    Err(Error::Host { what: "delete the log of a container", source })
                }
                _ => Ok(()),
            }
        })
        .await
    }

    /// Where what a container writes is kept.
    pub(super) fn log_path(&self, id: &ContainerId) -> PathBuf {
        self.instance.logs_dir().join(id.as_str())
    }

    /// What a container is made of, with the settings of today where nobody asked for anything.
    pub(super) fn effective(&self, container: &Container) -> Result<Effective, Error> {
        self.effective_of(&container.root, &container.definition().row.request)
    }

    pub(super) fn effective_of(&self, root: &Root, request: &Request) -> Result<Effective, Error> {
        let mut effective = effective(request, &self.image_of(root)?.defaults);
        if request.stop_timeout_usec.is_none() {
            let timeout = Usec::from_duration(self.config().containers.stop_timeout);
            effective.stop_timeout_usec = timeout.0;
        }
        Ok(effective)
    }

    /// An id whose first 12 digits no container has: they name its namespace, scope and interface.
    fn unused_id(&self) -> Result<ContainerId, Error> {
        loop {
            let id = random_id()?;
            if !self.containers.has_short_id(&id) {
                return Ok(id);
            }
        }
    }

    /// `<image>-<4 hex>`, from the id, so that it is made up once.
    fn reserve_made_up(
        &self,
        image: &str,
        id: &ContainerId,
    ) -> Result<super::table::Reservation<'_>, Error> {
        let base = image.parse::<Reference>().map(|r| r.base().to_string()).unwrap_or_default();
        let base = if base.parse::<ContainerName>().is_ok() { base } else { "container".into() };
        let mut taken = None;
        for at in 0..16 {
            let name =
                container_name(&format!("{base:.100}-{}", &id.as_str()[at * 4..at * 4 + 4]))?;
            match self.containers.reserve(name) {
                Ok(reservation) => return Ok(reservation),
                Err(error) => taken = Some(error),
            }
        }
        Err(taken.unwrap_or(Error::Bug("no name".into())))
    }
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
        self.pending(JobKind::RemoveContainer, Some(object), &by, move |job| async move {
            engine.remove_container(&request, &job).await?;
            Ok(Output::default())
        })
    }

    async fn remove_container(
        &self,
        Remove { container: asked, running: if_running }: &Remove,
        job: &Job,
    ) -> Result<(), Error> {
        let container = &self.container(&asked.id)?;
        let mut life = job.or_canceled(container.lock_unchanged(asked)).await??;
        if let Some(running) = life.running().cloned() {
            if *if_running == IfRunning::Refuse {
                return Err(container.wrong_state("to be stopped"));
            }
            drop(life);
            self.kill_and_end(container, &running).await?;
            life = job.or_canceled(container.lock_unchanged(asked)).await??;
            if life.running().is_some() {
                return Err(container.wrong_state("to be stopped"));
            }
        }
        if *if_running == IfRunning::Refuse {
            self.check_alone(container)?;
        }
        match self.mend(container, &mut life).await {
            // All but a note of its end is taken down; to be removed is how it makes space.
            Err(Error::NoSpace(_)) => {}
            mended => mended?,
        }
        // Whatever is written down or not: what lives does not lose its root.
        self.check_alone(container)?;
        job.point_of_no_return()?;
        let before = std::mem::replace(&mut life.now, Now::Removing);
        container.show(&life);
        let forgotten = self.forget(container, &mut life, &before).await;
        if forgotten.is_err() && !matches!(life.now, Now::Removed) {
            life.now = before;
            container.show(&life);
        }
        forgotten
    }

    /// Row first, then directories: what has no row is swept away at the latest by the next start
    /// of the daemon.
    async fn forget(
        &self,
        container: &Container,
        life: &mut Life,
        before: &Now,
    ) -> Result<(), Error> {
        let id = container.id.clone();
        let deleted = self.state.run(move |c| durable::delete_container(c, &id)).await;
        match deleted.map_err(Error::from) {
            Ok(()) => {}
            // The disk may be full of what it wrote. If the daemon ends in between, there is a
            // container without content, which can still be removed.
            Err(Error::NoSpace(_)) => {
                self.delete_directories(&container.id).await?;
                let id = container.id.clone();
                self.state.run(move |c| durable::delete_container(c, &id)).await?;
            }
            Err(error) => return Err(error),
        }
        if let Now::Broken(record) = before {
            self.forget_record(&record.container).await?;
        }
        life.now = Now::Removed;
        self.containers.remove(container);
        container.seen.remove();
        self.delete_directories(&container.id).await
    }
}

/// The name of a container, from a caller.
///
/// # Errors
///
/// [`Error::InvalidName`].
pub fn container_name(name: &str) -> Result<ContainerName, Error> {
    name.parse()
        .map_err(|source| Error::InvalidName { name: super::table::shortened(name), source })
}
