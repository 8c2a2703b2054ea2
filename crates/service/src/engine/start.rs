//! Starting a container.
//!
//! What will be made is decided and written down first, with the address it gets, in one
//! transaction. Then network and file systems are made side by side, the configuration is
//! generated from what is known by then, and the runtime makes the container. Whatever fails, the
//! same written record says what to take down.

use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tare_runtime::ContainerId;
use tare_runtime::identity::Identity;
use tare_spawn::{
    Cause, CgroupPath, Create, Incarnation as Number, Layout, Place, PlacedMount, Stdin, Target,
};
use tare_specgen::{
    Effective, Generated, NetworkFacts, NetworkMode, Placement, RootfsFacts, generate,
};
use tare_storage::{Access, FileName, NewFile, Rootfs, mount_shm, write_files};

use tokio::sync::RwLock;

use super::blocking::brief;
use super::clock::Usec;
use super::container::{Container, Life, Running};
use super::host;
use super::jobs::{Job, JobKind, Output, Subject};
use super::network::{self, Lease};
use super::records::durable::{self, LifeRow};
use super::records::volatile::{self, Incarnation, Stage};
use super::view::{self, Exit, ExitReason, State};
use super::watched::Watched;
use super::{Engine, Error, Pending, key, spawn_id};
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::effects;

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
        let id = container.id.clone();
        let engine = self.clone();
        let subject = Subject::Container(id.clone());
        self.pending(JobKind::StartContainer, &subject, &by, move |job| async move {
            let container = engine.container(&id)?;
            engine.start_container(&container, &job).await?;
            Ok(Output::default())
        })
    }

    async fn start_container(&self, container: &Arc<Container>, job: &Job) -> Result<(), Error> {
        let mut life = job.or_canceled(container.lock()).await??;
        if life.running.is_some() {
            return Err(container.wrong_state("to be stopped"));
        }
        if life.unlisted {
            return Err(container.wrong_state("to be removed"));
        }
        self.mend(container, &mut life).await?;
        self.check_alone(container)?;
        let effective = self.effective(container)?;
        let before = container.state();
        let record = self.begin(container, &mut life, &effective).await?;
        match self.carry_out(container, &record, &effective, job).await {
            Ok(running) => {
                self.now_runs(container, &mut life, running);
                Ok(())
            }
            Err(Error::Canceled) => {
                self.take_back(container, &mut life, record, before).await;
                Err(Error::Canceled)
            }
            Err(error) => {
                let exit = Exit { code: -1, signal: 0, reason: ExitReason::StartFailed };
                if let Err(worse) = self.end_as(container, &mut life, &record, exit, None).await {
                    job.log(3, worse.chain());
                }
                Err(error)
            }
        }
    }

    /// Two of them on one root file system would destroy it: if there are processes in its control
    /// group that nobody recorded, it does not start.
    fn check_alone(&self, container: &Container) -> Result<(), Error> {
        let group = self.host.cgroups().open(self.cgroup(&container.row.id).as_str());
        match group.and_then(|group| group.map_or(Ok(false), |group| group.is_populated())) {
            Ok(false) => Ok(()),
            Ok(true) => Err(Error::StillThere(container.row.name.clone())),
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
        let id = container.row.id.clone();
        let record = Incarnation {
            v: 1,
            cgroup: self.cgroup(&id),
            container: id.clone(),
            number: life.incarnation,
            stage: Stage::Preparing,
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
        let written = self
            .run
            .run(move |c| {
                let mut record = record;
                if wants_network {
                    let Lease::Taken(address) = engine.network.lease(c, &id)? else {
                        return Ok(None);
                    };
                    record.network = Some(engine.network.wanted(&id, address));
                    record.addresses = vec![engine.network.seen(address)];
                }
                volatile::put_incarnation(c, &record)?;
                Ok(Some(record))
            })
            .await?;
        let record = written.ok_or_else(|| Error::AddressesExhausted(network::DEFAULT.into()))?;
        container.show(|view| view.state = State::Starting);
        Ok(record)
    }

    fn cgroup(&self, id: &ContainerId) -> CgroupPath {
        let path = format!("{}/{id}", self.tag.cgroup_root());
        path.parse().expect("a tag and an id make a control group's path")
    }

    /// All effects of a start, up to the running process.
    async fn carry_out(
        &self,
        container: &Arc<Container>,
        record: &Incarnation,
        effective: &Effective,
        job: &Job,
    ) -> Result<Running, Error> {
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
        let mut running = self.create_process(container, record, mounts).await?;
        // From here on the start is carried through, also by another daemon if this one dies.
        job.point_of_no_return()?;
        job.stage("starting");
        running.record.stage = Stage::Starting;
        self.write_record(&running.record).await?;
        self.run_process(container, &running).await?;
        running.record.stage = Stage::Running;
        running.record.started = Some(Usec::now());
        running.record.started_monotonic = Some(Usec::now_monotonic());
        self.write_record(&running.record).await?;
        Ok(running)
    }

    pub(super) async fn write_record(&self, record: &Incarnation) -> Result<(), Error> {
        let record = record.clone();
        Ok(self.run.run(move |c| volatile::put_incarnation(c, &record)).await?)
    }

    async fn connect(&self, container: &Container, record: &Incarnation) -> Result<(), Error> {
        match record.network.clone() {
            Some(wanted) => self.network.set_up(&container.row.name, wanted).await,
            None => Ok(()),
        }
    }

    async fn mount(
        &self,
        container: &Container,
        effective: &Effective,
    ) -> Result<FileSystems, Error> {
        let layers = self.containers_image(&container.row)?.layers.clone();
        let (store, key, name) =
            (self.store.clone(), key(&container.row.id), container.row.name.clone());
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
        placement.names = container.row.name.as_str().parse().into_iter().collect();
        placement.networks = record.addresses.iter().map(network_facts).collect();
        Ok(placement)
    }

    async fn create_process(
        &self,
        container: &Arc<Container>,
        record: &Incarnation,
        mounts: Vec<PlacedMount>,
    ) -> Result<Running, Error> {
        let request = Create {
            id: spawn_id(&record.container),
            incarnation: Number(record.number),
            runtime: record.runtime,
            cgroup: record.cgroup.clone(),
            log_path: self.log_path(&record.container),
            stdin: Stdin::Null,
        };
        let (spawner, name, mut record) =
            (self.spawner.clone(), container.row.name.clone(), record.clone());
        let (record, created) = brief(move || {
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
            record.supervisor = Some(identity(&created.supervisor.pidfd)?);
            record.init = Some(identity(&created.init.pidfd)?);
            Ok((record, created))
        })
        .await?;
        let watch = |pidfd| {
            Watched::new(pidfd).map(Arc::new).map_err(|source| Error::Process {
                what: "watch the processes of",
                name: container.row.name.clone(),
                source,
            })
        };
        Ok(Running {
            record,
            init: watch(created.init.pidfd)?,
            supervisor: Some(watch(created.supervisor.pidfd)?),
            in_use: Arc::new(RwLock::new(())),
        })
    }

    pub(super) async fn run_process(
        &self,
        container: &Container,
        running: &Running,
    ) -> Result<(), Error> {
        let supervisor = running.supervisor(&container.row.name)?.pidfd();
        let (spawner, name, target) =
            (self.spawner.clone(), container.row.name.clone(), target(&running.record));
        brief(move || {
            spawner
                .start(&target, supervisor.as_fd())
                .map_err(|source| runtime_error("start", &name, source))
        })
        .await
    }

    /// Shows that it runs, and watches for its end.
    pub(super) fn now_runs(&self, container: &Arc<Container>, life: &mut Life, running: Running) {
        let record = &running.record;
        life.last = LifeRow { started: record.started, finished: None, exit: None };
        // Only for after a power cut, to know that it ran; the start does not wait for the disk.
        let (id, last) = (container.row.id.clone(), life.last);
        self.state.post(move |c| durable::update_life(c, &id, &last));
        let process = record
            .init
            .as_ref()
            .map(|init| view::Process { pid: init.pid, pidfd_id: init.pidfd_inode });
        container.show(|view| {
            view.state = State::Running;
            view.process = process;
            view.exit = None;
            view.started = record.started;
            view.started_monotonic = record.started_monotonic;
            view.finished = None;
            view.cgroup = record.cgroup.to_string();
            view.addresses.clone_from(&record.addresses);
        });
        container.set_running(life, Some(running.clone()));
        self.watch(container.clone(), running);
    }

    /// As if the start had never been asked for.
    async fn take_back(
        &self,
        container: &Container,
        life: &mut Life,
        record: Incarnation,
        before: State,
    ) {
        let remains = self.tear_down(&record, None).await;
        remains.log();
        let forgotten = remains.is_empty() && self.forget_record(&record).await.is_ok();
        life.broken = (!forgotten).then_some(record);
        container.show(|view| view.state = if forgotten { before } else { State::Broken });
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
    let said = said(&source).to_ascii_lowercase();
    // As podman does: neither runtime has a code for it.
    if said.contains("permission denied") && said.contains("exec") {
        Error::CommandNotExecutable { name, source }
    } else if said.contains("executable file") && said.contains("not found")
        || said.contains("no such file or directory") && said.contains("exec")
    {
        Error::CommandNotFound { name, source }
    } else {
        Error::Runtime { verb, name, source }
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
    effects::make_dir(&layout.files(), 0o700).map_err(failed)?;
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
