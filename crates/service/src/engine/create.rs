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
use super::container::{Container, Life};
use super::events::Event;
use super::images::Image;
use super::jobs::{Job, JobKind, Output, Subject};
use super::records::durable::{self, ContainerRow, LifeRow};
use super::view::{self, State};
use super::{Engine, Error, Inner, Pending, Reference, key, network, random_id};
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::effects;

/// A container that could be made: resolved once, and frozen, so that what is asked about is what
/// is made.
#[derive(Debug)]
pub struct Draft {
    name: Option<ContainerName>,
    image: Arc<Image>,
    image_reference: String,
    request: Request,
    effective: Effective,
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
            name => Some(parse_name(name)?),
        };
        let found = self.images.find(image)?;
        let effective = effective(&request, &found.defaults);
        let reasons = reasons(&effective);
        let image_reference = match image.parse::<Reference>() {
            Ok(reference) => reference.to_string(),
            Err(_) => found.id.to_string(),
        };
        Ok(Draft { name, image: found, image_reference, request, effective, reasons })
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
        let row = ContainerRow {
            id: id.clone(),
            name: reservation.name().clone(),
            owner_uid: by.uid,
            image_id: draft.image.id,
            image_reference: draft.image_reference,
            created: Usec::now(),
            privileged: !draft.reasons.is_empty(),
            request: draft.request,
        };
        self.write_container(&row).await?;
        let view = self.first_view(&row, &LifeRow::default(), &draft.effective);
        let container = Container::new(row, LifeRow::default(), view, self.events.clone());
        self.events.tell(Event::ContainerAdded(container.view()));
        reservation.fulfil(Arc::new(container));
        tracing::info!(container = %id, caller_uid = by.uid, "created");
        Ok(id)
    }

    async fn write_container(&self, row: &ContainerRow) -> Result<(), Error> {
        let (store, id) = (self.store.clone(), row.id.clone());
        let image = self.containers_image(row)?;
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
    pub(super) fn containers_image(&self, row: &ContainerRow) -> Result<Arc<Image>, Error> {
        self.images.find(&row.image_id.to_string())
    }

    async fn delete_directories(&self, id: &ContainerId) -> Result<(), Error> {
        let (store, id, log) = (self.store.clone(), id.clone(), self.log_path(id));
        brief(move || {
            store.remove_container(&key(&id)).map_err(Error::Storage)?;
            effects::remove_file(&log)
                .map_err(|source| Error::Host { what: "delete the log of a container", source })
        })
        .await
    }

    /// Where what a container writes is kept.
    pub(super) fn log_path(&self, id: &ContainerId) -> PathBuf {
        self.instance.logs_dir().join(id.as_str())
    }

    /// What a container is made of, with the settings of today where nobody asked for anything.
    pub(super) fn effective(&self, container: &Container) -> Result<Effective, Error> {
        self.effective_of(&container.row)
    }

    pub(super) fn effective_of(&self, row: &ContainerRow) -> Result<Effective, Error> {
        let mut effective = effective(&row.request, &self.containers_image(row)?.defaults);
        if row.request.stop_timeout_usec.is_none() {
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
            let name = parse_name(&format!("{base:.100}-{}", &id.as_str()[at * 4..at * 4 + 4]))?;
            match self.containers.reserve(name) {
                Ok(reservation) => return Ok(reservation),
                Err(error) => taken = Some(error),
            }
        }
        Err(taken.unwrap_or(Error::Bug("no name".into())))
    }

    /// What is seen of a container that does not run.
    pub(super) fn first_view(
        &self,
        row: &ContainerRow,
        last: &LifeRow,
        effective: &Effective,
    ) -> view::Container {
        let on_network = effective.network_mode == tare_specgen::NetworkMode::Private;
        view::Container {
            id: row.id.clone(),
            name: row.name.clone(),
            image_id: row.image_id,
            image_reference: row.image_reference.clone(),
            owner_uid: row.owner_uid,
            privileged: row.privileged,
            state: if last.exit.is_some() { State::Exited } else { State::Configured },
            process: None,
            exit: last.exit,
            created: row.created,
            started: last.started,
            started_monotonic: None,
            finished: last.finished,
            cgroup: String::new(),
            networks: on_network.then(|| network::DEFAULT.into()).into_iter().collect(),
            addresses: Vec::new(),
            public_labels: self
                .public_labels(effective.labels.iter().map(|(k, v)| (k.as_str(), v.as_str()))),
            jobs: Vec::new(),
            processes: Vec::new(),
        }
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
        let subject = Subject::Container(request.container.id.clone());
        self.pending(JobKind::RemoveContainer, &subject, &by, move |job| async move {
            let container = engine.container(&request.container.id)?;
            engine.remove_container(&container, request.running, &job).await?;
            Ok(Output::default())
        })
    }

    async fn remove_container(
        &self,
        container: &Arc<Container>,
        if_running: IfRunning,
        job: &Job,
    ) -> Result<(), Error> {
        let mut life = job.or_canceled(container.lock()).await??;
        if let Some(running) = life.running.clone() {
            if if_running == IfRunning::Refuse {
                return Err(container.wrong_state("to be stopped"));
            }
            drop(life);
            self.kill_and_end(container, &running).await?;
            life = job.or_canceled(container.lock()).await??;
            if life.running.is_some() {
                return Err(container.wrong_state("to be stopped"));
            }
        }
        match self.mend(container, &mut life).await {
            // All but a note of its end is taken down; to be removed is how it makes space.
            Err(Error::NoSpace(_)) => {}
            mended => mended?,
        }
        job.point_of_no_return()?;
        let before = container.state();
        container.show(|view| view.state = State::Removing);
        let forgotten = self.forget(container, &mut life).await;
        if forgotten.is_err() {
            // What has no row any more can only be removed.
            let state = if life.unlisted { State::Broken } else { before };
            container.show(|view| view.state = state);
        }
        forgotten
    }

    /// Row first, then directories: what has no row is swept away at the latest by the next start
    /// of the daemon. Until all is gone the container is there, so that this can be repeated.
    async fn forget(&self, container: &Container, life: &mut Life) -> Result<(), Error> {
        let id = &container.row.id;
        if !life.unlisted {
            self.delete_row(id).await?;
            life.unlisted = true;
        }
        if let Some(record) = &life.broken {
            self.forget_record(record).await?;
            life.broken = None;
        }
        self.delete_directories(id).await?;
        life.removed = true;
        self.containers.remove(container);
        self.events.tell(Event::ContainerRemoved(id.clone()));
        Ok(())
    }

    async fn delete_row(&self, id: &ContainerId) -> Result<(), Error> {
        let delete = || {
            let id = id.clone();
            self.state.run(move |c| durable::delete_container(c, &id))
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

fn parse_name(name: &str) -> Result<ContainerName, Error> {
    name.parse()
        .map_err(|source| Error::InvalidName { name: super::table::shortened(name), source })
}
