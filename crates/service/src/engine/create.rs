//! Making containers: directories and rows, nothing that runs.
//!
//! The order is the protocol: a container's directories are made before its row and deleted after
//! it, so whatever directory has no row is left over from a crash and can be taken away.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use tare_netns::{Connection, MacAddress, PortRequest};
use tare_runtime::{ContainerId, ContainerName};
use tare_specgen::{
    BaseHosts, Effective, Foreign, ForeignKind, ImageDefaults, NamespaceKind, Reason, Request,
    SecretName, effective, reasons,
};

use super::blocking::brief;
use super::checkpoint::Filling;
use super::clock::Usec;
use super::container::Container;
use super::device::{self, AskedDevice};
use super::images::Image;
use super::lifecycle::Lifecycle;
use super::mount::{self, AskedMount, HostSource, Opened, Source};
use super::namespaces;
use super::network::default_name;
use super::records::durable::{
    self, Connections, ContainerRow, DefinitionRow, Joined, LifeRow, Pins, Root, UserRange,
    VolumeRow,
};
use super::secret;
use super::shared;
use super::users::{self, Subordinate};
use super::volume::{AskedVolume, Claim};
use super::{Error, Inner, Reference, env_file, key, random_id, view};
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::effects;

/// A container that could be made: resolved once, and frozen, so that what is asked about is what
/// is made.
#[derive(Debug)]
pub struct Draft {
    pub(super) name: Option<ContainerName>,
    /// That there is none is told after the question: a refusal does not depend on it.
    pub(super) image: Result<Arc<Image>, Error>,
    pub(super) image_reference: String,
    /// Likewise, that something of the host is not there.
    pub(super) request: Result<Request, Error>,
    pub(super) connections: Connections,
    pub(super) volumes: Vec<Claim>,
    pub(super) lifecycle: Lifecycle,
    pub(super) sources: Vec<HostSource>,
    /// Whose namespaces it shares.
    pub(super) joins: Vec<Arc<view::Container>>,
    /// The secrets it is given that are there, and whose they are.
    pub(super) secrets: Vec<(SecretName, u32)>,
    /// What is at the paths it names, as far as that is written down before it is made.
    pub(super) pins: Pins,
    pub(super) reasons: Vec<Reason>,
}

/// A container as somebody asks for it.
#[derive(Debug, Default)]
pub struct Asked {
    /// All that is no other object's business.
    pub request: Request,
    /// The containers whose namespaces it shares, by name or id.
    pub joins: Vec<(NamespaceKind, String)>,
    /// Networks to be on; the default one if there is none.
    pub networks: Vec<AskedConnection>,
    /// Ports that the host is to offer.
    pub ports: Vec<PortRequest>,
    /// Devices of the host.
    pub devices: Vec<AskedDevice>,
    /// Volumes.
    pub volumes: Vec<AskedVolume>,
    /// What follows its end.
    pub lifecycle: Lifecycle,
    /// Files and directories of the host, and images.
    pub mounts: Vec<AskedMount>,
    /// A file of variables, under those of the request.
    pub env_file: Option<OwnedFd>,
    /// Whether it goes when whoever asks leaves.
    pub bind_to_caller: bool,
    /// The hardware address it is to have on the first of its networks.
    pub mac: Option<MacAddress>,
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
    fn question(&self, by: &Caller) -> Question {
        let others = self.volumes.iter().filter(|volume| volume.is_foreign(by.uid));
        let others = others.map(|it| Reason::Foreign(ForeignKind::Volume, it.name().into()));
        let joins = self.joins.iter().flat_map(|other| {
            let name = || other.name.to_string();
            let foreign = other.owner_uid != by.uid;
            let foreign = foreign.then(|| Reason::Foreign(ForeignKind::Container, name()));
            foreign.into_iter().chain(other.privileged.then(|| Reason::JoinsPrivileged(name())))
        });
        let secrets = self.secrets.iter().filter(|(_, owner)| *owner != by.uid);
        let secrets =
            secrets.map(|(name, _)| Reason::Foreign(ForeignKind::Secret, name.to_string()));
        let all = self.reasons.iter().cloned().chain(others).chain(joins).chain(secrets);
        let reasons: Vec<String> = all.map(|it| it.to_string()).collect();
        let action = if reasons.is_empty() {
            Action::CreateContainer
        } else {
            Action::CreatePrivilegedContainer
        };
        Question::new(action)
            .with("container", self.name.as_ref().map_or("", |name| name.as_str()))
            .with("image", &self.image_reference)
            .with("verb", "create")
            .with_reasons(reasons.join(", "))
            .with_host_paths(self.host_paths())
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
    volumes: Vec<Claim>,
    lifecycle: Lifecycle,
    sources: Vec<HostSource>,
    secrets: Vec<(SecretName, u32)>,
    pins: Pins,
}

impl Draft {
    pub(super) fn image_reference(&self) -> &str {
        &self.image_reference
    }

    fn host_paths(&self) -> impl Iterator<Item = &str> {
        self.reasons.iter().filter_map(|reason| match reason {
            Reason::HostPath(path) => Some(path.as_str()),
            _ => None,
        })
    }

    /// If there is all that it needs, and something to run.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchImage`], [`Error::NoDevice`], [`Error::NoCommand`], [`Error::InvalidSpec`].
    pub(super) fn ready(self) -> Result<ReadyDraft, Error> {
        let Self {
            name,
            image,
            image_reference,
            request,
            connections,
            volumes,
            lifecycle,
            sources,
            secrets,
            pins,
            ..
        } = self;
        let (image, request) = (image?, request?);
        let effective = effective(&request, &image.defaults, &Foreign::default());
        if effective.map_err(Error::InvalidSpec)?.argv.is_empty() {
            return Err(Error::NoCommand);
        }
        Ok(ReadyDraft {
            name,
            image,
            image_reference,
            request,
            connections,
            volumes,
            lifecycle,
            sources,
            secrets,
            pins,
        })
    }
}

impl ReadyDraft {
    pub(super) fn image(&self) -> &Image {
        &self.image
    }

    pub(super) fn request(&self) -> &Request {
        &self.request
    }

    /// The networks it is to be on.
    pub(super) fn joined(&self) -> &[Joined] {
        &self.connections.networks
    }

    /// What it mounts of the host, for a look at it.
    pub(super) fn into_sources(self) -> Vec<Source> {
        self.sources.into_iter().map(HostSource::into_source).collect()
    }
}

impl Inner {
    /// Lays a request over an image. What is asked for of the host is opened, for root also by path.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`], [`Error::InvalidReference`], [`Error::InvalidSpec`], and for what is
    /// asked for of the host [`Error::SourcePath`], [`Error::OpenSource`], [`Error::NoSourcePath`].
    pub async fn draft(
        &self,
        by: &Caller,
        name: &str,
        image: &str,
        mut asked: Asked,
    ) -> Result<Draft, Error> {
        check_paths(by, &asked.request)?;
        namespaces::check_caller(by, &asked.request)?;
        let opened = mount::open(by, std::mem::take(&mut asked.mounts)).await?;
        if let Some(file) = asked.env_file.take() {
            let mut env = env_file::read(file).await?;
            env.append(&mut asked.request.env);
            asked.request.env = env;
        }
        self.draft_of(name, image, asked, opened)
    }

    fn draft_of(
        &self,
        name: &str,
        image: &str,
        asked: Asked,
        opened: Vec<Opened>,
    ) -> Result<Draft, Error> {
        let Asked { mut request, joins, networks, ports, devices, volumes, lifecycle, mac, .. } =
            asked;
        let name = match name {
            "" => None,
            name => Some(container_name(name)?),
        };
        let found = match self.images.find(image) {
            Err(malformed @ Error::InvalidReference { .. }) => return Err(malformed),
            found => found,
        };
        self.groups.check(request.cgroup_parent.as_ref())?;
        self.choose_log(&mut request)?;
        // Nothing that an image says is a reason.
        let nothing = ImageDefaults::default();
        let defaults = found.as_ref().map_or(&nothing, |image| &image.defaults);
        let (sources, unknown) = self.add_mounts(&mut request, opened)?;
        let joins = self.join_namespaces(&mut request, &joins);
        let volumes = self.claim(&mut request, volumes, defaults)?;
        let effective =
            effective(&request, defaults, &Foreign::default()).map_err(Error::InvalidSpec)?;
        let mut reasons = reasons(&effective);
        reasons.extend(devices.iter().map(|device| Reason::Device(device.path.clone())));
        let image_reference = match (image.parse::<Reference>(), &found) {
            (Ok(reference), _) => reference.to_string(),
            (Err(_), Ok(found)) => found.id.to_string(),
            (Err(_), Err(_)) => image.to_string(),
        };
        let networks = match mac {
            Some(mac) => with_mac(networks, mac)?,
            None => networks,
        };
        let mut connections = self.connections(&request, networks, ports)?;
        let mut pins = Pins::default();
        let (joins, missing) = match joins {
            Ok(others) => (others.iter().map(|it| it.view()).collect(), None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let secrets = secret::used(&request).into_iter();
        let secrets = secrets
            .filter_map(|name| self.secrets.owner_of(&name).map(|owner| (name, owner)))
            .collect();
        let request = unknown.or(missing).map_or(Ok(()), Err).and_then(|()| {
            self.check_secrets(&request)?;
            connections.namespace = shared::pin(&request.network_mode)?;
            pins.namespaces = namespaces::pin(&request)?;
            request.devices = device::look(&devices)?;
            Ok(request)
        });
        Ok(Draft {
            name,
            image: found,
            image_reference,
            request,
            connections,
            volumes,
            lifecycle,
            sources,
            joins,
            secrets,
            pins,
            reasons,
        })
    }

    /// Adds what was opened to a request. That an image is not there is told after the question.
    fn add_mounts(
        &self,
        request: &mut Request,
        opened: Vec<Opened>,
    ) -> Result<(Vec<HostSource>, Option<Error>), Error> {
        let (mut sources, mut unknown) = (Vec::new(), None);
        for opened in opened {
            match opened {
                Opened::Host(source, mount) => {
                    sources.push(source);
                    request.mounts.push(mount);
                }
                Opened::Image { name, sub_path, asked } => {
                    match self.image_mount(&name, sub_path, asked) {
                        Ok(mount) => request.mounts.push(mount),
                        Err(missing @ Error::NoSuchImage(_)) => unknown = Some(missing),
                        Err(malformed) => return Err(malformed),
                    }
                }
            }
        }
        Ok((sources, unknown))
    }

    /// Makes a container; nothing of it runs.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchImage`], [`Error::NoCommand`], [`Error::NameInUse`], [`Error::NoSubordinateIds`],
    /// [`Error::SubordinateIdsExhausted`]; else if directories or row cannot be written. Nothing is left then.
    pub async fn create(&self, draft: Authorized<Draft>) -> Result<ContainerId, Error> {
        let (draft, by) = draft.into_parts();
        self.create_for(draft.ready()?, &by, Filling::Nothing).await
    }

    /// Makes a container of a user.
    pub(super) async fn create_for(
        &self,
        draft: ReadyDraft,
        by: &Caller,
        filling: Filling,
    ) -> Result<ContainerId, Error> {
        let ReadyDraft {
            name,
            image,
            image_reference,
            request,
            connections,
            volumes,
            lifecycle,
            sources,
            secrets,
            mut pins,
        } = draft;
        self.expect_start();
        pins.mounts.extend(self.pin(sources).await?.mounts);
        let id = self.unused_id()?;
        let reservation = match name {
            Some(name) => self.containers.reserve(name)?,
            None => self.reserve_made_up(&image_reference, &id)?,
        };
        let name = reservation.name().clone();
        let definition = DefinitionRow { revision: 1, name, request, connections, lifecycle, pins };
        let claimed = if volumes.is_empty() {
            None
        } else {
            Some((self.volumes.changing.lock().await, volumes))
        };
        let mut row = ContainerRow {
            id: id.clone(),
            owner_uid: by.uid,
            users: None,
            categories: None,
            root: Root::Image { id: image.id, reference: image_reference },
            created: Usec::now(),
            definition: definition.clone(),
        };
        let definition = self.define(&row.root, by.uid, definition)?;
        let networks = &row.definition.connections.networks;
        self.networks.join(&id, networks).await.map_err(|error| self.name_holder(error))?;
        let written = async {
            let _held = self.secrets.hold(&secrets).await?;
            let volumes = match &claimed {
                Some((_, claims)) => self.make_claimed(claims, by).await?,
                None => Vec::new(),
            };
            self.write_container(&row, volumes, filling).await
        };
        let written = written.await;
        row.users = written.inspect_err(|_| self.networks.leave(&id, networks))?;
        self.volumes.join(&id, &row.definition.request);
        self.sharers.join(&id, &row.definition.request);
        self.secrets.join(&id, &row.definition.request);
        let (events, names) = (self.events.clone(), self.networks.names.clone());
        let container = Container::new(&row, definition, LifeRow::default(), events, names);
        reservation.fulfil(Arc::new(container));
        self.join_images(&id, &row.root, &row.definition.request);
        Ok(id)
    }

    /// With the volumes that are made for it, whose directories are there. Returns the ids it is given.
    async fn write_container(
        &self,
        row: &ContainerRow,
        volumes: Vec<VolumeRow>,
        filling: Filling,
    ) -> Result<Option<UserRange>, Error> {
        let done = self.write_with_directories(row, &volumes, filling).await;
        match &done {
            Ok(_) => {
                let config = self.config();
                for volume in volumes {
                    self.volumes.insert(volume, &config);
                }
            }
            Err(_) => self.unmake(&volumes).await,
        }
        done
    }

    async fn write_with_directories(
        &self,
        row: &ContainerRow,
        volumes: &[VolumeRow],
        filling: Filling,
    ) -> Result<Option<UserRange>, Error> {
        let (store, id) = (self.store.clone(), row.id.clone());
        let image = self.image_of(&row.root)?;
        let written = self.written_images(&row.definition.request)?;
        let ids = if users::are_wanted(&row.definition.request) {
            Some(brief(Subordinate::read).await?)
        } else {
            None
        };
        brief(move || {
            let top = image.layers.last().ok_or_else(|| Error::Bug("no layers".into()))?;
            store.create_container_with(&key(&id), top, &written).map_err(Error::Storage)
        })
        .await?;
        if let Err(error) = self.fill(row, filling).await {
            if let Err(left) = self.delete_directories(&row.id).await {
                tracing::warn!(container_id = %row.id, "what was made of it stays: {}", left.chain());
            }
            return Err(error);
        }
        let (written, volumes) = (row.clone(), volumes.to_vec());
        let done = self.state.run(move |c| {
            volumes.iter().try_for_each(|volume| durable::insert_volume(c, volume))?;
            durable::insert_container(c, &written)?;
            let Some(Subordinate { uids, gids }) = ids else { return Ok(None) };
            let given = durable::assign_range(c, &written.id, &uids, &gids)?;
            given.map(Some).ok_or(Error::SubordinateIdsExhausted)
        });
        let done: Result<_, Error> = done.await;
        if done.is_err() {
            self.delete_directories(&row.id).await?;
            // It may have been removed meanwhile, and then there was nothing to refer to.
            self.image_of(&row.root)?;
            self.check_owners(&row.definition.request)?;
            self.check_secrets(&row.definition.request)?;
        }
        done
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
        let owner = container.view().owner_uid;
        self.effective_of(&container.root, owner, &container.definition().row.request)
    }

    pub(super) fn effective_of(
        &self,
        root: &Root,
        owner_uid: u32,
        request: &Request,
    ) -> Result<Effective, Error> {
        let foreign = self.foreign(owner_uid, request);
        let mut effective = effective(request, &self.image_of(root)?.defaults, &foreign)
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

/// An error if somebody but root names files by paths: those are opened by the service, also for a dry run, which
/// nobody is asked about.
pub(super) fn check_paths(by: &Caller, request: &Request) -> Result<(), Error> {
    let has_base = matches!(request.base_hosts, BaseHosts::Path(_));
    let options = [("HooksDirs", !request.hooks_dirs.is_empty()), ("BaseHosts", has_base)];
    match options.into_iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) if by.uid != 0 => Err(Error::PathsOfOthers(option)),
        _ => Ok(()),
    }
}

/// On the first network, which is the default one where none is said.
fn with_mac(
    mut networks: Vec<AskedConnection>,
    mac: MacAddress,
) -> Result<Vec<AskedConnection>, Error> {
    if networks.is_empty() {
        let network = default_name().to_string();
        networks.push(AskedConnection { network, connection: Connection::default() });
    }
    if networks[0].connection.mac.replace(mac).is_some() {
        return Err(Error::TwoMacs);
    }
    Ok(networks)
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
