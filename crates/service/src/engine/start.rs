//! Starting a container.
//!
//! What will be made is decided and written down first, with the address it gets, in one
//! transaction. Then network and file systems are made, and conmon is started and registered, side
//! by side; the configuration is generated from what is known by then, and conmon is let go to have
//! the runtime make the container. Whatever fails, the same written record says what to take down.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tare_spawn::{CgroupPath, OciRuntime, Place, PlacedMount, Prepared};
use tare_specgen::{Effective, NetworkMode};

use super::attach::AtStart;
use super::bundle::FileSystems;
use super::checkpoint::{CheckpointId, Resume};
use super::container::{Container, Life, Now, Pace, Running};
use super::end::Unwritten;
use super::follow::Plan;
use super::jobs::{Job, JobKind, Origin, Output};
use super::network::Plugged;
use super::object::ObjectId;
use super::ports::Ports;
use super::process::give_up;
use super::records::Version;
use super::records::durable::{self, Connections, LifeRow};
use super::records::volatile::{self, Doing, Incarnation, Stage};
use super::users;
use super::view::{self, Exit};
use super::{Engine, Error, Health, Pending};
use crate::authority::{Action, Ask, Authorized, Caller, Question};

/// A start that is written down, and nothing else of it done.
struct Begun {
    record: Box<Incarnation>,
    /// Addresses it got that the kernel may know connections of.
    unrested: Vec<IpAddr>,
    /// Ports of the host that are held for it.
    ports: Ports,
}

/// A container to be started.
#[derive(Debug)]
pub struct Start {
    /// Which.
    pub container: Arc<view::Container>,
    /// What it has by the time it runs.
    pub at_start: AtStart,
}

/// Who wants a container to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartedBy {
    /// A caller.
    Somebody,
    /// Its restart policy.
    Policy,
}

/// How far a container is brought.
#[derive(Debug)]
pub(super) enum Goal {
    /// It runs.
    Run(AtStart),
    /// It is made, and its first process waits.
    Wait,
    /// It goes on from a checkpoint.
    GoOn(CheckpointId),
}

impl StartedBy {
    /// Nothing else follows the last end, and restarts are counted from what somebody started.
    fn count(self, life: &mut Life) {
        life.next = Plan::NONE;
        match self {
            Self::Somebody => (life.last.restarts, life.short) = (0, 0),
            Self::Policy => life.last.restarts = life.last.restarts.saturating_add(1),
        }
    }
}

impl Ask for Start {
    fn question(&self, by: &Caller) -> Question {
        let mut question =
            Question::about(Action::ManageContainers, &self.container, by).with("verb", "start");
        let more = self.at_start.question(&self.container, by);
        question.needs.extend(more.into_iter().flat_map(|more| more.needs));
        question
    }
}

impl Engine {
    /// Begins to start a container.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there can be no job, [`Error::NoInput`] and [`Error::NoTerminal`] if it has not
    /// what it is started with.
    pub fn start(&self, request: Authorized<Start>) -> Result<Pending, Error> {
        let (Start { container, at_start }, by) = request.into_parts();
        at_start.check(self.container(&container.id)?.as_ref())?;
        let engine = self.clone();
        let object = ObjectId::Container(container.id.clone());
        self.pending(
            JobKind::StartContainer,
            Some(object),
            Origin::Caller(&by),
            move |job| async move {
                let goal = Goal::Run(at_start);
                engine.start_for(&container, &job, StartedBy::Somebody, goal).await?;
                Ok(Output::default())
            },
        )
    }

    pub(super) async fn start_container(
        &self,
        asked: &view::Container,
        job: &Job,
        by: StartedBy,
    ) -> Result<(), Error> {
        self.start_for(asked, job, by, Goal::Run(AtStart::default())).await
    }

    pub(super) async fn start_for(
        &self,
        asked: &view::Container,
        job: &Job,
        by: StartedBy,
        goal: Goal,
    ) -> Result<(), Error> {
        let container = &self.container(&asked.id)?;
        self.expect_start();
        self.start_owners(container, job).await?;
        let mut life = job.or_canceled(container.lock_unchanged(asked)).await??;
        let goal = match goal {
            Goal::Run(at_start) if life.waits() => {
                by.count(&mut life);
                return self.start_waiting(container, &mut life, job, at_start).await;
            }
            _ if life.running().is_some() => return Err(container.wrong_state("to be stopped")),
            goal => goal,
        };
        container.check_listed(&life)?;
        container.check_unwritten(&life)?;
        self.mend(container, &mut life).await?;
        self.check_alone(container)?;
        self.check_parent(container)?;
        self.check_foreign_network(container)?;
        self.check_foreign_namespaces(container)?;
        users::check_given(container).await?;
        life.root.is_let_go().await;
        let resume = match &goal {
            Goal::GoOn(checkpoint) => Some(self.resume_from(checkpoint, &container.id, job).await?),
            Goal::Run(_) | Goal::Wait => None,
        };
        let resume = resume.as_ref();
        if let Some(resume) = resume {
            resume.check_age(&life.last, job);
        }
        by.count(&mut life);
        let effective = self.effective(container)?;
        self.give_categories(container, &effective).await?;
        let begun = self.begin(container, &mut life, &effective, resume).await?;
        let Begun { mut record, unrested, ports } = begun;
        let made = (unrested, &ports);
        let waits = matches!(goal, Goal::Wait);
        match self.carry_out(container, &mut record, made, (&effective, resume), job, goal).await {
            Ok((running, root)) => {
                life.root.hold(root);
                if let Some(network) = &record.network {
                    self.networks.take_over(network).await;
                }
                if waits {
                    self.now_waits(container, &mut life, record, running, ports);
                } else {
                    self.now_runs(container, &mut life, record, running, Pace::Free, ports);
                }
                self.refresh_sharers(container);
                self.follow_namespace_of(container);
                Ok(())
            }
            Err(Error::Canceled) => {
                container.hide_names();
                life.now = Now::Broken(record);
                if let Err(worse) = self.mend(container, &mut life).await {
                    job.log(3, worse.chain());
                    container.show(&life);
                }
                Err(Error::Canceled)
            }
            Err(error) => {
                // Until it is taken down.
                life.now = Now::Broken(record.clone());
                self.take_down_failed(container, &mut life, record, job).await;
                Err(error)
            }
        }
    }

    /// Takes down what there is of a container whose start has failed, and tells that it has ended.
    pub(super) async fn take_down_failed(
        &self,
        container: &Arc<Container>,
        life: &mut Life,
        record: Box<Incarnation>,
        job: &Job,
    ) {
        container.hide_names();
        let exit = Exit::NEVER_RAN;
        let undone = self.end_as(container, life, record, exit, None, Unwritten::GoOn).await;
        if let Err(worse) = undone {
            job.log(3, worse.chain());
            container.show(life);
        }
    }

    /// Two of them on one root file system would destroy it: if there are processes in its control
    /// group that nobody recorded, it does not start.
    pub(super) fn check_alone(&self, container: &Container) -> Result<(), Error> {
        let is_populated = |group: &CgroupPath| {
            let group = self.host.cgroups().open(group.as_str())?;
            group.map_or(Ok(false), |group| group.is_populated())
        };
        let definition = container.definition();
        let parent = definition.row.request.cgroup_parent.as_ref();
        for group in self.groups.all_of(&container.id, parent) {
            match is_populated(&group) {
                Ok(false) => {}
                Ok(true) => return Err(Error::StillThere(container.name())),
                Err(error) => {
                    return Err(Error::Host {
                        what: "look into the control group of a container",
                        source: std::io::Error::other(error),
                    });
                }
            }
        }
        Ok(())
    }

    /// An error if the group that a container is to be put in is not there.
    fn check_parent(&self, container: &Container) -> Result<(), Error> {
        let definition = container.definition();
        let parent = definition.row.request.cgroup_parent.as_ref();
        self.groups.check(parent)?;
        let Some(needed) = self.groups.needed(parent) else { return Ok(()) };
        match self.host.cgroups().open(needed.as_str()) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Error::CgroupParent("is not there")),
            Err(error) => Err(Error::Host {
                what: "look for the control group a container is to be in",
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
        resume: Option<&Resume>,
    ) -> Result<Begun, Error> {
        // One that was asked for by name may not work here, and will say so.
        let asked = effective.request.runtime.as_ref();
        let asked = asked.and_then(|name| OciRuntime::named(name.as_str()));
        let runtime = resume.map(Resume::runtime).or(asked).or_else(|| self.host.runtime());
        let runtime = runtime.ok_or(Error::NoRuntime)?;
        life.incarnation += 1;
        let id = container.id.clone();
        let record = Incarnation {
            v: Version,
            cgroup: self.groups.of(&id, effective.request.cgroup_parent.as_ref()),
            container: id.clone(),
            number: life.incarnation,
            stage: Stage::Preparing,
            doing: None,
            runtime,
            network: None,
            supervisor: None,
            init: None,
            started: None,
            started_monotonic: None,
            health: Health::None,
            to_end: false,
            still: false,
        };
        let begun = if effective.request.network_mode == NetworkMode::Private {
            self.write_with_network(container, record, resume).await?
        } else {
            self.write_record(&record).await?;
            Begun { record: Box::new(record), unrested: Vec::new(), ports: Ports::default() }
        };
        life.now = Now::Starting;
        container.show(life);
        Ok(begun)
    }

    /// With the addresses it gets, in one transaction, so that none is taken by a container that
    /// was never begun. The ports of the host are taken before that.
    async fn write_with_network(
        &self,
        container: &Container,
        record: Incarnation,
        resume: Option<&Resume>,
    ) -> Result<Begun, Error> {
        let connections = container.definition().row.connections.clone();
        let Connections { mut networks, ports, .. } = connections;
        if let Some(resume) = resume {
            resume.ask_for_addresses(&mut networks);
        }
        self.networks.ready(&container.name(), &networks).await?;
        let reservation = self.reserve(&ports).await?;
        let ports = Ports::of_start(reservation.sockets);
        let (engine, id, published) = (self.clone(), container.id.clone(), reservation.ports);
        self.run
            .run(move |c| {
                let Plugged { record: network, unrested } =
                    engine.networks.plug(c, &id, &networks, &published)?;
                let record = Box::new(Incarnation { network: Some(network), ..record });
                volatile::put(c, &*record)?;
                Ok(Begun { record, unrested, ports })
            })
            .await
    }

    /// All effects of a start, up to the running process; its root comes with it.
    async fn carry_out(
        &self,
        container: &Arc<Container>,
        record: &mut Incarnation,
        (unrested, ports): (Vec<IpAddr>, &Ports),
        (effective, resume): (&Effective, Option<&Resume>),
        job: &Job,
        goal: Goal,
    ) -> Result<(Arc<Running>, OwnedFd), Error> {
        job.stage("preparing");
        if record.network.is_some() {
            self.networks.get_ready(&container.name()).await?;
        }
        let how = (effective, resume);
        let (file_systems, conmon) =
            self.prepare(container, record, (&unrested, ports), how, job).await?;
        let placed = async {
            job.check()?;
            let mut mounts = self.place(container, record, effective, file_systems, job).await?;
            mounts.extend(resume.map(Resume::mount).transpose()?);
            Ok((root_of(&mounts)?, mounts))
        };
        let (root, mounts) = match placed.await {
            Ok(placed) => placed,
            Err(error) => {
                give_up(conmon).await;
                return Err(error);
            }
        };
        job.stage(if resume.is_some() { "restoring" } else { "creating" });
        let running = self.create_process(container, record, conmon, mounts, resume).await?;
        if users::are_own(&effective.request) {
            let process = running.init.pidfd();
            self.plug_in(container, record, &unrested, Some(process)).await?;
        }
        self.check_joined(container, &running)?;
        self.check_in_namespaces(container, &running)?;
        self.borrow_addresses(container, &running);
        let at_start = match goal {
            Goal::Run(at_start) => at_start,
            Goal::GoOn(_) => AtStart::default(),
            Goal::Wait => {
                job.point_of_no_return()?;
                record.stage = Stage::Running;
                self.write_record(record).await?;
                return Ok((running, root));
            }
        };
        self.attach_at_start(container, &running, at_start).await?;
        // From here on the start is carried through, also by another daemon if this one dies.
        job.point_of_no_return()?;
        job.stage("starting");
        // From its first moment on others may ask for it.
        container.show_names(record);
        let run = async {
            match resume {
                None => self.run_process(container, &running).await,
                // It runs already.
                Some(_) => Ok(()),
            }
        };
        self.amend(record, Doing::Start, run).await?;
        Ok((running, root))
    }

    /// All that takes its time and can be made side by side.
    async fn prepare(
        &self,
        container: &Container,
        record: &Incarnation,
        (unrested, ports): (&[IpAddr], &Ports),
        (effective, resume): (&Effective, Option<&Resume>),
        job: &Job,
    ) -> Result<(FileSystems, Box<dyn Prepared>), Error> {
        let network = async {
            // Only who is in a user namespace can make a network that is its own.
            if users::are_own(&effective.request) {
                return Ok(());
            }
            self.plug_in(container, record, unrested, None).await
        };
        let made = tokio::join!(
            self.mount(container, effective, resume),
            network,
            self.prepare_process(container, record, effective, ports, resume),
        );
        let (file_systems, network, conmon) = match made {
            (Ok(file_systems), Ok(()), Ok(conmon)) => return Ok((file_systems, conmon)),
            failed => failed,
        };
        let no_conmon = match conmon {
            Ok(conmon) => {
                give_up(conmon).await;
                None
            }
            Err(error) => Some(error),
        };
        // The storage error wins: it is the one an administrator has to mend first.
        let mut errors = [file_systems.err(), network.err(), no_conmon].into_iter().flatten();
        let first = errors.next().unwrap_or_else(|| Error::Bug("nothing failed".into()));
        errors.for_each(|other| job.log(3, other.chain()));
        Err(first)
    }

    /// Makes its network, or makes that of `process` its own.
    async fn plug_in(
        &self,
        container: &Container,
        record: &Incarnation,
        unrested: &[IpAddr],
        process: Option<Arc<OwnedFd>>,
    ) -> Result<(), Error> {
        match record.network.clone() {
            Some(network) => {
                let name = container.name();
                self.networks.set_up(&name, network, unrested.to_vec(), process).await
            }
            None => Ok(()),
        }
    }

    /// Shows that it runs, and watches for its end.
    pub(super) fn now_runs(
        &self,
        container: &Arc<Container>,
        life: &mut Life,
        record: Box<Incarnation>,
        running: Arc<Running>,
        pace: Pace,
        ports: Ports,
    ) {
        self.runs(container, life, record, &running, pace, ports);
        self.watch(container.clone(), running);
    }

    /// Shows that it runs.
    pub(super) fn runs(
        &self,
        container: &Arc<Container>,
        life: &mut Life,
        record: Box<Incarnation>,
        running: &Arc<Running>,
        pace: Pace,
        mut ports: Ports,
    ) {
        ports.lead(record.publications());
        life.last =
            LifeRow { started: record.started, restarts: life.last.restarts, ..LifeRow::default() };
        // Only for after a power cut, to know that it ran; the start does not wait for the disk.
        let (id, last) = (container.id.clone(), life.last);
        self.state.post(move |c| durable::update_life(c, &id, &last));
        life.now = Now::Running { record, running: running.clone(), stopping: 0, pace, ports };
        container.show(life);
        self.watch_health(container, running);
    }
}

/// The root among what is mounted, once more.
fn root_of(mounts: &[PlacedMount]) -> Result<OwnedFd, Error> {
    let root = mounts.iter().find(|placed| placed.place == Place::Rootfs);
    let root = root.ok_or_else(|| Error::Bug("a container without a root".into()))?;
    root.mount
        .try_clone()
        .map_err(|source| Error::Host { what: "hold the root of a container", source })
}
