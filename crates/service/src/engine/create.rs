//! Making containers: directories and rows, nothing that runs.
//!
//! The order is the protocol: a container's directories are made before its row and deleted after
//! it, so whatever directory has no row is left over from a crash and can be taken away.

use std::path::PathBuf;
use std::sync::Arc;

use tare_netns::{Connection, PortRequest};
use tare_runtime::{ContainerId, ContainerName};
use tare_specgen::{Effective, Foreign, ImageDefaults, Reason, Request, effective, reasons};

use super::blocking::brief;
use super::clock::Usec;
use super::container::Container;
use super::device::{self, AskedDevice};
use super::images::Image;
use super::records::durable::{self, Connections, ContainerRow, DefinitionRow, LifeRow, Root};
use super::{Error, Inner, Reference, key, random_id};
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::effects;

/// A container that could be made: resolved once, and frozen, so that what is asked about is what
/// is made.
#[derive(Debug)]
pub struct Draft {
    name: Option<ContainerName>,
    /// That there is none is told after the question: a refusal does not depend on it.
    image: Result<Arc<Image>, Error>,
    image_reference: String,
    /// Likewise, that something of the host is not there.
    request: Result<Request, Error>,
    connections: Connections,
    reasons: Vec<Reason>,
}

/// A container as somebody asks for it.
#[derive(Debug, Default)]
pub struct Asked {
    /// All that is no other object's business.
    pub request: Request,
    /// Networks to be on; the default one if there is none.
    pub networks: Vec<AskedConnection>,
    /// Ports that the host is to offer.
    pub ports: Vec<PortRequest>,
    /// Devices of the host.
    pub devices: Vec<AskedDevice>,
}

/// A place in a network as somebody asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskedConnection {
    /// Name of the network.
    pub network: String,
    /// What is asked for there.
    pub connection: Connection,
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

/// A draft of which nothing is missing.
#[derive(Debug)]
pub(super) struct ReadyDraft {
    name: Option<ContainerName>,
    image: Arc<Image>,
    image_reference: String,
    request: Request,
    connections: Connections,
}

impl Draft {
    /// If there is all that it needs, and something to run.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchImage`], [`Error::NoDevice`], [`Error::NoCommand`], [`Error::InvalidSpec`].
    pub(super) fn ready(self) -> Result<ReadyDraft, Error> {
        let Self { name, image, image_reference, request, connections, .. } = self;
        let (image, request) = (image?, request?);
        let effective = effective(&request, &image.defaults, &Foreign::default());
        if effective.map_err(Error::InvalidSpec)?.argv.is_empty() {
            return Err(Error::NoCommand);
        }
        Ok(ReadyDraft { name, image, image_reference, request, connections })
    }
}

impl Inner {
    /// Lays a request over an image.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`], [`Error::InvalidReference`], [`Error::InvalidSpec`].
    pub fn draft(&self, name: &str, image: &str, asked: Asked) -> Result<Draft, Error> {
        let Asked { mut request, networks, ports, devices } = asked;
        let name = match name {
            "" => None,
            name => Some(container_name(name)?),
        };
        let found = match self.images.find(image) {
            Err(malformed @ Error::InvalidReference { .. }) => return Err(malformed),
            found => found,
        };
        // Nothing that an image says is a reason.
        let nothing = ImageDefaults::default();
        let defaults = found.as_ref().map_or(&nothing, |image| &image.defaults);
        let effective =
            effective(&request, defaults, &Foreign::default()).map_err(Error::InvalidSpec)?;
        let mut reasons = reasons(&effective);
        reasons.extend(devices.iter().map(|device| Reason::Device(device.path.clone())));
        let image_reference = match (image.parse::<Reference>(), &found) {
            (Ok(reference), _) => reference.to_string(),
            (Err(_), Ok(found)) => found.id.to_string(),
            (Err(_), Err(_)) => image.to_string(),
        };
        let connections = self.connections(&request, networks, ports)?;
        let request = device::look(&devices).map(|devices| {
            request.devices = devices;
            request
        });
        Ok(Draft { name, image: found, image_reference, request, connections, reasons })
    }

    /// Makes a container; nothing of it runs.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchImage`], [`Error::NoCommand`], [`Error::NameInUse`]; else if directories or row cannot be written. Nothing is left then.
    pub async fn create(&self, draft: Authorized<Draft>) -> Result<ContainerId, Error> {
        let (draft, by) = draft.into_parts();
        self.create_for(draft.ready()?, by.uid).await
    }

    /// Makes a container of a user.
    pub(super) async fn create_for(
        &self,
        draft: ReadyDraft,
        owner_uid: u32,
    ) -> Result<ContainerId, Error> {
        let ReadyDraft { name, image, image_reference, request, connections } = draft;
        let id = self.unused_id()?;
        let reservation = match name {
            Some(name) => self.containers.reserve(name)?,
            None => self.reserve_made_up(&image_reference, &id)?,
        };
        let definition =
            DefinitionRow { revision: 1, name: reservation.name().clone(), request, connections };
        let row = ContainerRow {
            id: id.clone(),
            owner_uid,
            root: Root::Image { id: image.id, reference: image_reference },
            created: Usec::now(),
            definition: definition.clone(),
        };
        let definition = self.define(&row.root, definition)?;
        let networks = &row.definition.connections.networks;
        self.networks.join(&id, networks).await.map_err(|error| self.name_holder(error))?;
        if let Err(error) = self.write_container(&row).await {
            self.networks.leave(&id, networks);
            return Err(error);
        }
        let (events, names) = (self.events.clone(), self.networks.names.clone());
        let container = Container::new(&row, definition, LifeRow::default(), events, names);
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

    /// Deletes all a container has written.
    pub(super) async fn delete_directories(&self, id: &ContainerId) -> Result<(), Error> {
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
        self.effective_of(&container.root, &container.definition().row.request)
    }

    pub(super) fn effective_of(&self, root: &Root, request: &Request) -> Result<Effective, Error> {
        let mut effective = effective(request, &self.image_of(root)?.defaults, &Foreign::default())
            .map_err(Error::InvalidSpec)?;
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

/// The name of a container, from a caller.
///
/// # Errors
///
/// [`Error::InvalidName`].
pub fn container_name(name: &str) -> Result<ContainerName, Error> {
    name.parse()
        .map_err(|source| Error::InvalidName { name: super::table::shortened(name), source })
}
