//! Starting a container.
//!
//! What will be made is decided and written down first, with the address it gets, in one
//! transaction. Then network and file systems are made side by side, the configuration is
//! generated from what is known by then, and the runtime makes the container. Whatever fails, the
//! same written record says what to take down.

use std::fs::DirBuilder;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

use tare_runtime::BadCommand;
use tare_runtime::identity::Identity;
use tare_spawn::{Cause, Create, Incarnation as Number, Layout, Place, PlacedMount, Stdin, Target};
use tare_specgen::{
    Effective, Generated, NetworkFacts, NetworkMode, Placement, RootfsFacts, generate,
};
use tare_storage::{Access, FileName, NewFile, Rootfs, mount_shm, write_files};

use tokio::sync::RwLock;

use super::blocking::brief;
use super::container::{Container, Life, Now, Running};
use super::host;
use super::jobs::{Job, JobKind, Output};
use super::object::ObjectId;
use super::records::Version;
use super::records::durable::{self, LifeRow};
use super::records::volatile::{self, Doing, Incarnation, Stage};
use super::view::{self, Exit, ExitReason};
use super::watched::Watched;
use super::{Engine, Error, Pending, key, spawn_id};
use crate::authority::{Action, Ask, Authorized, Caller, Question};

/// A container to be started.
#[derive(Debug)]
pub struct Start {
    /// Which.
    pub container: Arc<view::Container>,
}

impl Ask for Start {
    fn question(&self, by: &Caller) -> Question {
        Question::about(Action::ManageContainers, &self.container, by).with("verb", "start")
    }
}

/// A passwd or group file larger than this is refused: it would be read into memory.
pub(super) const MAX_ACCOUNTS: usize = tare_specgen::MAX_ACCOUNT_FILE;

/// The file systems of a container, not yet at their places.
struct FileSystems {
    rootfs: Rootfs,
    shm: OwnedFd,
    facts: RootfsFacts,
}

impl Engine {
    /// Begins to start a container.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there can be no job.
    pub fn start(&self, request: Authorized<Start>) -> Result<Pending, Error> {
        let (Start { container }, by) = request.into_parts();
        let engine = self.clone();
        let object = ObjectId::Container(container.id.clone());
        self.pending(JobKind::StartContainer, Some(object), &by, move |job| async move {
            engine.start_container(&container, &job).await?;
            Ok(Output::default())
        })
    }

    async fn start_container(&self, asked: &view::Container, job: &Job) -> Result<(), Error> {
        let container = &self.container(&asked.id)?;
        let mut life = job.or_canceled(container.lock_unchanged(asked)).await??;
        if life.running().is_some() {
            return Err(container.wrong_state("to be stopped"));
        }
        self.mend(container, &mut life).await?;
        self.check_alone(container)?;
        let effective = self.effective(container)?;
        let mut record = Box::new(self.begin(container, &mut life, &effective).await?);
        match self.carry_out(container, &mut record, &effective, job).await {
            Ok(running) => {
                self.now_runs(container, &mut life, record, running);
                Ok(())
            }
            Err(error) => {
                // Until it is taken down.
                life.now = Now::Broken(record.clone());
                let undone = if matches!(error, Error::Canceled) {
                    self.mend(container, &mut life).await
                } else {
                    let exit = Exit { code: -1, signal: 0, reason: ExitReason::StartFailed };
                    self.end_as(container, &mut life, record, exit, None).await
                };
                if let Err(worse) = undone {
                    job.log(3, worse.chain());
                    container.show(&life);
                }
                Err(error)
            }
        }
    }

    /// Two of them on one root file system would destroy it: if there are processes in its control
    /// group that nobody recorded, it does not start.
    pub(super) fn check_alone(&self, container: &Container) -> Result<(), Error> {
        let group = self.host.cgroups().open(self.tag.cgroup(&container.id).as_str());
        match group.and_then(|group| group.map_or(Ok(false), |group| group.is_populated())) {
            Ok(false) => Ok(()),
            Ok(true) => Err(Error::StillThere(container.name())),
            Err(error) => Err(Error::Host {
                what: "look into the control group of a container",
                source: std::io::Error::other(error),
            }),
        }
    }

    /// Decides what will be made and writes it down.
    async fn begin(
        &self,
        container: &Container,
        life: &mut Life,
        effective: &Effective,
    ) -> Result<Incarnation, Error> {
        let runtime = self.host.runtime().ok_or(Error::NoRuntime)?;
        life.incarnation += 1;
        let id = container.id.clone();
        let record = Incarnation {
            v: Version,
            cgroup: self.tag.cgroup(&id),
            container: id.clone(),
            number: life.incarnation,
            stage: Stage::Preparing,
            doing: None,
            runtime,
            network: None,
            addresses: Vec::new(),
            supervisor: None,
            init: None,
            started: None,
            started_monotonic: None,
        };
        let engine = self.clone();
        let wants_network = effective.network_mode == NetworkMode::Private;
        let record = self
            .run
            .run(move |c| {
                let mut record = record;
                if wants_network {
                    let address = engine.network.lease(c, &id)?;
                    record.network = Some(engine.network.wanted(&id, address));
                    record.addresses = vec![engine.network.seen(address)];
                }
                volatile::put(c, &record)?;
                Ok::<_, Error>(record)
            })
            .await?;
        life.now = Now::Starting;
        container.show(life);
        Ok(record)
    }

    /// All effects of a start, up to the running process.
    async fn carry_out(
        &self,
        container: &Arc<Container>,
        record: &mut Incarnation,
        effective: &Effective,
        job: &Job,
    ) -> Result<Arc<Running>, Error> {
        job.stage("preparing");
        let (file_systems, network) =
            tokio::join!(self.mount(container, effective), self.connect(container, record));
        // The storage error wins: it is the one an administrator has to mend first.
        if let (Err(_), Err(other)) = (&file_systems, &network) {
            job.log(3, other.chain());
        }
        let file_systems = file_systems?;
        network?;
        job.check()?;
        let mounts = self.place(container, record, effective, file_systems, job).await?;
        job.stage("creating");
        let running = self.create_process(container, record, mounts).await?;
        // From here on the start is carried through, also by another daemon if this one dies.
        job.point_of_no_return()?;
        job.stage("starting");
        self.amend(record, Doing::Start, self.run_process(container, &running)).await?;
        Ok(running)
    }

    async fn connect(&self, container: &Container, record: &Incarnation) -> Result<(), Error> {
        match record.network.clone() {
            Some(wanted) => self.network.set_up(&container.name(), wanted).await,
            None => Ok(()),
        }
    }

    async fn mount(
        &self,
        container: &Container,
        effective: &Effective,
    ) -> Result<FileSystems, Error> {
        let layers = self.image_of(&container.root)?.layers.clone();
        let (store, key, name) = (self.store.clone(), key(&container.id), container.name());
        let shm_size = NonZeroU64::new(effective.shm_size.bytes())
            .ok_or_else(|| Error::Bug("/dev/shm of no size".into()))?;
        brief(move || {
            let failed = |source| Error::Mount { name: name.clone(), source };
            let rootfs = store.mount_rootfs(&layers, &key).map_err(failed)?;
            let shm = mount_shm(shm_size, None).map_err(failed)?;
            let mut facts = RootfsFacts::default();
            facts.passwd = rootfs.read_file("/etc/passwd", MAX_ACCOUNTS).map_err(failed)?;
            facts.group = rootfs.read_file("/etc/group", MAX_ACCOUNTS).map_err(failed)?;
            Ok(FileSystems { rootfs, shm, facts })
        })
        .await
    }

    /// Generates the configuration and writes it, with the files it binds, into the bundle.
    async fn place(
        &self,
        container: &Container,
        record: &Incarnation,
        effective: &Effective,
        file_systems: FileSystems,
        job: &Job,
    ) -> Result<Vec<PlacedMount>, Error> {
        let FileSystems { rootfs, shm, facts } = file_systems;
        let placement = self.placement(container, record)?;
        let host = self.host.facts();
        let generated =
            generate(effective, &host, &facts, &placement).map_err(Error::InvalidSpec)?;
        for warning in &generated.warnings {
            job.log(4, warning.to_string());
        }
        let (run_dir, id, number) =
            (self.instance.run_dir().to_path_buf(), spawn_id(&record.container), record.number);
        brief(move || write_bundle(&Layout::new(&run_dir, &id, Number(number)), generated)).await?;
        Ok(vec![
            PlacedMount { place: Place::Rootfs, mount: rootfs.into() },
            PlacedMount { place: Place::Shm, mount: shm },
        ])
    }

    fn placement(&self, container: &Container, record: &Incarnation) -> Result<Placement, Error> {
        let id = spawn_id(&record.container);
        let layout = Layout::new(self.instance.run_dir(), &id, Number(record.number));
        let mut placement = host::placement(&layout, &record.container, &record.cgroup)?;
        if let Some(wanted) = &record.network {
            let path = wanted.namespace.path();
            placement.netns = path.to_string_lossy().parse().ok();
        }
        placement.names = container.name().as_str().parse().into_iter().collect();
        placement.networks = record.addresses.iter().map(network_facts).collect();
        Ok(placement)
    }

    async fn create_process(
        &self,
        container: &Arc<Container>,
        record: &mut Incarnation,
        mounts: Vec<PlacedMount>,
    ) -> Result<Arc<Running>, Error> {
        let request = Create {
            id: spawn_id(&record.container),
            incarnation: Number(record.number),
            runtime: record.runtime,
            cgroup: record.cgroup.clone(),
            log_path: self.log_path(&record.container),
            stdin: Stdin::Null,
        };
        let (spawner, name) = (self.spawner.clone(), container.name());
        let (created, supervisor, init) = brief(move || {
            let created = spawner
                .create(&request, mounts)
                .map_err(|source| runtime_error("create", &name, source))?;
            let identity = |pidfd: &OwnedFd| {
                Identity::of(pidfd.as_fd()).map_err(|source| Error::Process {
                    what: "watch the processes of",
                    name: name.clone(),
                    source: std::io::Error::other(source),
                })
            };
            let supervisor = identity(&created.supervisor.pidfd)?;
            let init = identity(&created.init.pidfd)?;
            Ok((created, supervisor, init))
        })
        .await?;
        (record.supervisor, record.init) = (Some(supervisor), Some(init));
        let watch = |pidfd| {
            Watched::new(pidfd).map_err(|source| Error::Process {
                what: "watch the processes of",
                name: container.name(),
                source,
            })
        };
        Ok(Arc::new(Running {
            target: target(record),
            cgroup: record.cgroup.clone(),
            pid: init.pid,
            init: watch(created.init.pidfd)?,
            supervisor: Some(watch(created.supervisor.pidfd)?),
            in_use: RwLock::new(()),
        }))
    }

    pub(super) async fn run_process(
        &self,
        container: &Container,
        running: &Running,
    ) -> Result<(), Error> {
        let supervisor = running.supervisor(&container.name())?.pidfd();
        let (spawner, name, target) =
            (self.spawner.clone(), container.name(), running.target.clone());
        brief(move || {
            spawner
                .start(&target, supervisor.as_fd())
                .map_err(|source| runtime_error("start", &name, source))
        })
        .await
    }

    /// Shows that it runs, and watches for its end.
    pub(super) fn now_runs(
        &self,
        container: &Arc<Container>,
        life: &mut Life,
        record: Box<Incarnation>,
        running: Arc<Running>,
    ) {
        life.last = LifeRow { started: record.started, finished: None, exit: None };
        // Only for after a power cut, to know that it ran; the start does not wait for the disk.
        let (id, last) = (container.id.clone(), life.last);
        self.state.post(move |c| durable::update_life(c, &id, &last));
        life.now = Now::Running { record, running: running.clone(), stopping: 0 };
        container.show(life);
        self.watch(container.clone(), running);
    }
}

/// The container of a record, as the spawner knows it.
pub(super) fn target(record: &Incarnation) -> Target {
    Target {
        id: spawn_id(&record.container),
        incarnation: Number(record.number),
        runtime: record.runtime,
    }
}

/// What the runtime said, by what the caller can do about it.
pub(super) fn runtime_error(
    verb: &'static str,
    name: &tare_runtime::ContainerName,
    source: tare_spawn::Error,
) -> Error {
    let source = Box::new(source);
    let name = name.clone();
    match BadCommand::from_message(said(&source)) {
        Some(BadCommand::NotFound) => Error::CommandNotFound { name, source },
        Some(BadCommand::NotExecutable) => Error::CommandNotExecutable { name, source },
        _ => Error::Runtime { verb, name, source },
    }
}

/// What a runtime had to say when it failed.
fn said(error: &tare_spawn::Error) -> &str {
    match error.cause() {
        Some(Cause::Runtime { message, .. }) => message,
        _ => "",
    }
}

/// A name of ours, for a file of ours.
pub(super) fn file_name(name: &str) -> Result<FileName, Error> {
    name.parse().map_err(|error| Error::Bug(format!("file name {name}: {error}")))
}

fn network_facts(address: &view::Address) -> NetworkFacts {
    NetworkFacts::new(vec![address.address.addr()], address.gateway.into_iter().collect())
}

/// The configuration comes last, by a rename: where it is, all the rest is.
fn write_bundle(layout: &Layout<'_>, generated: Generated) -> Result<(), Error> {
    let failed = |source| Error::Host { what: "write the bundle of a container", source };
    // The other directories of the bundle are the spawner's to make.
    DirBuilder::new().recursive(true).mode(0o700).create(layout.files()).map_err(failed)?;
    let open = |path: std::path::PathBuf| std::fs::File::open(path).map_err(failed);
    let files: Vec<NewFile> = generated
        .files
        .into_iter()
        .map(|file| {
            let (name, content) = (file_name(file.name)?, file.content.into_bytes());
            Ok(NewFile { name, content, access: Access::Public })
        })
        .collect::<Result<_, Error>>()?;
    write_files(open(layout.files())?.as_fd(), &files).map_err(Error::Storage)?;
    // It holds the environment, and that may hold secrets.
    let (name, content) = (file_name("config.json")?, generated.config);
    let config = NewFile { name, content, access: Access::Private };
    write_files(open(layout.bundle())?.as_fd(), &[config]).map_err(Error::Storage)
}
