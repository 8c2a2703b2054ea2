//! The use cases: containers, images and networks, and what is done with them.
//!
//! Knows nothing of D-Bus: it takes requests that are parsed and [`Authorized`], and tells what
//! happened as [`events`]. Each container has a lock, held by whoever changes it and never while
//! another's is held; what is seen of it is an immutable [`view`], read without any lock.

mod abandon;
mod adopt;
mod amend;
mod apparmor;
mod attach;
mod blocking;
mod bundle;
mod checkpoint;
pub mod clock;
mod connect;
mod container;
mod create;
mod device;
mod dry_run;
mod end;
mod env_file;
mod error;
pub mod events;
mod exec;
mod files;
mod follow;
mod given;
mod health;
mod host;
mod images;
mod inside;
mod inspect;
pub mod jobs;
pub mod lifecycle;
mod limits;
mod live_files;
mod logs;
mod mount;
mod names;
mod namespaces;
mod network;
pub mod object;
mod of_host;
mod open;
mod pause;
mod ports;
mod prepare;
mod process;
mod processes;
mod proxy;
mod prune;
mod publish;
mod records;
mod redefine;
mod reference;
mod remove;
mod resolvers;
mod restart;
mod run;
pub mod scope;
mod secret;
mod selinux;
mod session_calls;
mod sessions;
mod shared;
mod start;
mod stats;
mod still;
mod stop;
mod streams;
mod sweep;
#[expect(unsafe_code, reason = "registering file descriptors")]
mod sys;
mod table;
mod teardown;
mod usage;
mod users;
pub mod view;
mod volume;
mod wait;
mod watched;
mod whose;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tare_runtime::ContainerId;
use tare_spawn::Spawner;
use tare_storage::{ContainerKey, Store};

pub use attach::{AtStart, Attach, Input, Resize};
pub use checkpoint::{
    After, AskedCopy, Changes, CheckpointId, Extras, InspectCheckpoint, RemoveCheckpoint, Restore,
    RestoreAs, TakeCheckpoint,
};
pub use connect::{Connect, Disconnect};
pub use create::{Asked, AskedConnection, Draft, container_name};
pub use device::AskedDevice;
pub use dry_run::{Defaults, DryRun, Shown};
pub use error::{Error, Uncheckpointable};
pub use exec::{Exec, Executed, Stdio};
pub use files::{
    Commit, CopyIn, CopyOut, ExportContainer, GetChanges, Instruction, Meanwhile, MountRoot,
    OpenRoot, UnmountRoot,
};
pub use health::Health;
pub use images::{
    ArchiveFormat, ExportImages, HistoryEntry, ImageHistory, ImageParts, ImportImage, InspectImage,
    Names, OpenImageRoot, Prune, Pruned, PullImage, PullWhen, PushImage, RemoveImage, RootfsConfig,
    TagImage, UntagImage, Users,
};
pub use inspect::{Inspect, Part};
pub use limits::Update;
pub use logs::{OpenLogs, Which};
pub use mount::{AskedMount, AskedSource};
pub use network::{
    AskedDriver, AskedNetwork, AskedSubnet, CreateNetwork, InspectNetwork, Members, NetworkChanges,
    RemoveNetwork, UpdateNetwork, Zones,
};
pub use of_host::Untrusted;
pub use open::Means;
pub use pause::{Pause, Resume};
pub use prepare::{Cleanup, Prepare};
pub use processes::{ListProcesses, ProcessRow};
pub use publish::{Publish, Unpublish};
pub use redefine::Rename;
pub use reference::Reference;
pub use remove::{IfRunning, OwnVolumes, Remove};
pub use restart::Restart;
pub use secret::{CreateSecret, RemoveSecret, ReplaceSecret};
pub use session_calls::{KillSession, ResizeSession, SessionOf};
pub use start::Start;
pub use stats::{Cell, Figure, Stats};
pub use stop::{Kill, Needed, Stop, Whom};
pub use volume::{
    AskedVolume, Before, CreateVolume, ExportVolume, GetUsage, ImportVolume, InspectVolume,
    RemoveVolume,
};
pub use wait::Condition;

use crate::config::Config;
use crate::db::Db;
use crate::instance::{Instance, Tag};
use events::Events;
use jobs::{Job, JobKind, Jobs, Origin, Output};
use object::ObjectId;

/// Images that are pulled at once; others wait.
const PULLS: usize = 4;
/// Images that are looked into at once for nothing but to show something; others wait.
const LOOKS: usize = 8;
/// A label whose key or value is longer, in bytes, is not shown to everybody.
const LONGEST_PUBLIC_LABEL: usize = 1024;
/// More labels of one thing are not shown to everybody.
const MOST_PUBLIC_LABELS: usize = 64;

/// The engine; a handle, cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

/// What all use cases share; an [`Engine`] is a handle on it.
#[derive(Debug)]
pub struct Inner {
    instance: Instance,
    tag: Tag,
    config: RwLock<Arc<Config>>,
    state: Db,
    run: Db,
    store: Arc<Store>,
    spawner: Arc<dyn Spawner>,
    workers: crate::workers::Workers,
    groups: scope::Groups,
    confinement: apparmor::Confinement,
    /// Whether what the run directory says of processes is of this boot.
    same_boot: bool,
    host: Arc<host::Host>,
    networks: network::Networks,
    volumes: volume::Volumes,
    secrets: secret::Secrets,
    checkpoints: checkpoint::Checkpoints,
    sharers: shared::Sharers,
    /// Told when a container is in a namespace that somebody made.
    entered: Arc<tokio::sync::Notify>,
    containers: table::Table,
    images: images::Images,
    /// Held by whoever writes down an image.
    registering: tokio::sync::Mutex<()>,
    /// So many images are pulled at once, for whomever.
    pulls: tokio::sync::Semaphore,
    /// So many dry runs look into images at once, for whomever.
    looks: Arc<tokio::sync::Semaphore>,
    usage: usage::Usage,
    /// Held by whoever makes or removes a place where roots are mounted.
    mounting: std::sync::Mutex<()>,
    root_holders: files::RootHolders,
    jobs: Arc<Jobs>,
    streams: streams::Streams,
    /// Whether the service is ending.
    ending: AtomicBool,
    /// Whether all containers are stopped because the host goes down.
    going_down: AtomicBool,
    events: Events,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Engine").field(&self.0.instance).finish()
    }
}

impl std::ops::Deref for Engine {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// A job whose work has not begun: it does so after the caller has been told of it.
#[must_use = "a job that is never run is shown for ever"]
pub struct Pending {
    job: Arc<Job>,
    jobs: Arc<Jobs>,
    work: Pin<Box<dyn Future<Output = Result<Output, Error>> + Send>>,
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pending").field(&self.job).finish()
    }
}

impl Pending {
    /// Its number.
    pub fn id(&self) -> u32 {
        self.job.view().id
    }

    /// Does the work.
    pub fn run(self) {
        self.jobs.run(self.job, self.work);
    }
}

/// What shows the jobs at work on it.
enum ShowsJobs {
    Container(Arc<container::Container>),
    Image(Arc<images::Image>),
}

impl ShowsJobs {
    fn show(&self, change: impl FnOnce(&mut Vec<u32>)) {
        match self {
            Self::Container(container) => drop(container.seen.show(|view| change(&mut view.jobs))),
            Self::Image(image) => drop(image.seen.show(|view| change(&mut view.jobs))),
        }
    }
}

impl Inner {
    /// The settings now.
    pub fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on, these settings. What they say about things that are there already counts for
    /// new ones.
    pub fn set_config(&self, config: Config) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    /// What is seen of all jobs, oldest first.
    pub fn jobs(&self) -> Vec<Arc<jobs::JobView>> {
        self.jobs.list().iter().map(|job| job.view()).collect()
    }

    /// What is seen of the job of that number, also if it is finished and lingers.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchJob`].
    pub fn job(&self, id: u32) -> Result<Arc<jobs::JobView>, Error> {
        Ok(self.jobs.get(id)?.view())
    }

    /// From now on nothing is changed any more: the service is ending. Imports and exports end with
    /// it: they may wait for a caller that keeps silent.
    pub fn refuse_changes(&self) {
        self.ending.store(true, Ordering::Release);
        for job in self.jobs.list() {
            if matches!(
                job.view().kind,
                JobKind::ImportImage
                    | JobKind::ExportImages
                    | JobKind::PullImage
                    | JobKind::PushImage
                    | JobKind::ExportContainer
                    // Its container may stand still.
                    | JobKind::CommitContainer
                    | JobKind::CopyIn
                    | JobKind::CopyOut
                    | JobKind::ExportVolume
                    | JobKind::ImportVolume
            ) {
                // One that cannot be canceled any more is about to end.
                let _ = job.cancel();
            }
        }
    }

    /// From now on containers end because the host goes down, and nobody wanted that of them.
    pub(super) fn host_goes_down(&self) {
        self.going_down.store(true, Ordering::Release);
    }

    pub(super) fn goes_down(&self) -> bool {
        self.going_down.load(Ordering::Acquire)
    }

    /// An error if the service is ending.
    ///
    /// # Errors
    ///
    /// [`Error::ShuttingDown`].
    pub fn check_serving(&self) -> Result<(), Error> {
        if self.ending.load(Ordering::Acquire) { Err(Error::ShuttingDown) } else { Ok(()) }
    }

    /// The directories it works on.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Returns when everything that happened so far has been shown.
    pub async fn shown(&self) {
        self.events.shown().await;
    }

    /// Returns when no job is at work.
    pub async fn idle(&self) {
        for job in self.jobs.list() {
            let mut watch = job.watch();
            // An error means that the job is gone, and so not at work.
            let _ = watch.wait_for(|view| view.state == jobs::JobState::Finished).await;
        }
    }

    /// Why the service is degraded; empty when it is not.
    pub fn taints(&self) -> Vec<&'static str> {
        let busy = self.networks.names.is_busy().then_some("dns-busy");
        let blocked = self.networks.is_blocked().then_some("firewall-blocks");
        let of_host = self.host.taints().into_iter().chain(self.confinement.taint());
        of_host.chain(busy).chain(blocked).chain(self.secrets.taint()).collect()
    }

    /// What the service can do here.
    pub fn features(&self) -> Vec<&'static str> {
        self.host.features()
    }

    /// What is seen of the container of that name, id, or beginning of an id.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchContainer`], [`Error::AmbiguousName`].
    pub fn find(&self, name_or_id: &str) -> Result<Arc<view::Container>, Error> {
        Ok(self.containers.find(name_or_id)?.view())
    }

    /// What is seen of the container of that id.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchContainer`].
    pub fn get(&self, id: &ContainerId) -> Result<Arc<view::Container>, Error> {
        Ok(self.container(id)?.view())
    }

    /// What is seen of all containers.
    pub fn containers(&self) -> Vec<Arc<view::Container>> {
        self.containers.all().iter().map(|container| container.view()).collect()
    }

    /// What is seen of all images.
    pub fn images(&self) -> Vec<Arc<view::Image>> {
        self.images.views()
    }

    /// What is seen of the image of that reference or digest.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchImage`], [`Error::InvalidReference`].
    pub fn find_image(&self, reference: &str) -> Result<Arc<view::Image>, Error> {
        self.images.find_view(reference)
    }

    fn container(&self, id: &ContainerId) -> Result<Arc<container::Container>, Error> {
        self.containers.get(id).ok_or_else(|| Error::NoSuchContainer(id.to_string()))
    }

    fn pending<W, F>(
        &self,
        kind: JobKind,
        object: Option<ObjectId>,
        by: Origin<'_>,
        work: W,
    ) -> Result<Pending, Error>
    where
        W: FnOnce(Arc<Job>) -> F,
        F: Future<Output = Result<Output, Error>> + Send + 'static,
    {
        if let Origin::Caller(_) = by {
            self.check_serving()?;
        }
        let job = self.jobs.create(kind, object.clone(), by)?;
        let shows_jobs = object.and_then(|object| self.shows_jobs(&object));
        let id = job.view().id;
        if let Some(shown) = &shows_jobs {
            shown.show(|jobs| jobs.push(id));
        }
        let work = work(job.clone());
        let work = async move {
            let result = work.await;
            if let Some(shown) = shows_jobs {
                shown.show(|jobs| jobs.retain(|other| *other != id));
            }
            result
        };
        Ok(Pending { jobs: self.jobs.clone(), work: Box::pin(work), job })
    }

    /// Who shows the jobs at work on a thing.
    fn shows_jobs(&self, object: &ObjectId) -> Option<ShowsJobs> {
        match object {
            ObjectId::Container(id) => self.containers.get(id).map(ShowsJobs::Container),
            ObjectId::Image(id) => self.images.get(id).map(ShowsJobs::Image),
            _ => None,
        }
    }

    /// Which of some labels every local user may read.
    fn public_labels<'l>(
        &self,
        labels: impl Iterator<Item = (&'l str, &'l str)>,
    ) -> std::collections::BTreeMap<String, String> {
        public_labels(&self.config(), labels)
    }
}

/// The same by these settings.
fn public_labels<'l>(
    config: &Config,
    labels: impl Iterator<Item = (&'l str, &'l str)>,
) -> std::collections::BTreeMap<String, String> {
    let public = |key: &str| {
        config.containers.public_label_prefixes.iter().any(|prefix| key.starts_with(prefix))
    };
    // Everybody gets them with every list: neither long nor many.
    let short = |value: &str| value.len() <= LONGEST_PUBLIC_LABEL;
    labels
        .filter(|(key, value)| public(key) && short(key) && short(value))
        .take(MOST_PUBLIC_LABELS)
        .map(|(k, v)| (k.into(), v.into()))
        .collect()
}

fn random_id() -> Result<ContainerId, Error> {
    ContainerId::random().map_err(|error| Error::Host {
        what: "draw a random number",
        source: std::io::Error::other(error),
    })
}

/// The names storage and the spawner know a container by.
fn key(id: &ContainerId) -> ContainerKey {
    id.as_str().parse().expect("64 hex digits are a storage key")
}

fn spawn_id(id: &ContainerId) -> tare_spawn::ContainerId {
    id.as_str().parse().expect("both are 64 hex digits")
}
