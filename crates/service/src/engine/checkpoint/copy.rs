//! Another container that goes on from a checkpoint, beside the one that it was taken of.
//!
//! It is what that one is to be, but for what nobody else can have: id, name, addresses, hardware
//! addresses and aliases. Its root is the same image, with what had been changed of it in that moment. It
//! keeps the hostname, for its processes know that; volumes and what is mounted of the host are the same.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use tare_netns::PortRequest;
use tare_runtime::ContainerId;
use tare_specgen::{
    Foreign, ForeignKind, LabelKey, NamespaceMode, NetworkMode, Reason, Request, effective, reasons,
};
use tokio::sync::OwnedRwLockReadGuard;

use super::files::{Archive, Files};
use super::{Changes, Checkpoint, CheckpointId, Filling};
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::engine::blocking::brief;
use crate::engine::container::{Container, Definition};
use crate::engine::create::{Draft, ReadyDraft, check_paths};
use crate::engine::error::Uncopyable;
use crate::engine::host::{check_criu, default_hostname};
use crate::engine::jobs::{Job, JobKind, Origin, Output, Produced};
use crate::engine::lifecycle::Lifecycle;
use crate::engine::object::ObjectId;
use crate::engine::records::durable::{Connections, Root};
use crate::engine::start::Goal;
use crate::engine::{Engine, Error, Inner, Pending, container_name, namespaces, secret, view};

/// What is said of a container that is to go on from a checkpoint.
#[derive(Debug, Default)]
pub struct AskedCopy {
    /// Labels over those that the first one has.
    pub labels: BTreeMap<LabelKey, String>,
    /// Ports that the host is to offer, in place of those that it offers of the first one.
    pub ports: Option<Vec<PortRequest>>,
}

/// A container that is to go on from a checkpoint of another.
#[derive(Debug)]
pub struct RestoreAs {
    draft: Draft,
    checkpoint: Arc<view::Checkpoint>,
    /// That it was taken of.
    container: Arc<view::Container>,
}

impl Ask for RestoreAs {
    /// What making it needs, and what restoring the other one does.
    fn question(&self, by: &Caller) -> Question {
        let mut question = self.draft.question(by);
        let restore = Question::about(Action::RestoreContainer, &self.container, by);
        question.needs.extend(restore.needs);
        let question = question.with("checkpoint", self.checkpoint.id.as_str());
        // The new name is whatever the caller likes.
        question.with("source", self.container.name.as_str())
    }
}

impl Inner {
    /// What another container is that goes on from a checkpoint.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`], [`Error::NoSuchContainer`], [`Error::InvalidSpec`]; [`Error::NoOwnNetwork`],
    /// [`Error::InvalidPorts`] and [`Error::Unreachable`] for its ports.
    pub fn draft_copy(
        &self,
        by: &Caller,
        name: &str,
        asked: AskedCopy,
        checkpoint: Arc<view::Checkpoint>,
    ) -> Result<RestoreAs, Error> {
        let name = if name.is_empty() { None } else { Some(container_name(name)?) };
        let first = self.container(&checkpoint.container)?;
        let (view, definition) = (first.view(), first.definition());
        let Root::Image { reference, .. } = &first.root;
        let image = self.image_of(&first.root)?;
        let mut request = request(&first, &definition)?;
        request.labels.extend(asked.labels);
        let effective = effective(&request, &image.defaults, &Foreign::default());
        let mut reasons = reasons(&effective.map_err(Error::InvalidSpec)?);
        // All that it was given is now somebody else's.
        if view.owner_uid != by.uid {
            reasons.push(Reason::Foreign(ForeignKind::Container, view.name.to_string()));
        }
        let draft = Draft {
            name,
            image: Ok(image),
            image_reference: reference.clone(),
            connections: self.connections_like(&definition.row.connections, asked.ports)?,
            volumes: self.claims_of(&request)?,
            lifecycle: Lifecycle { bound_to: None, ..definition.row.lifecycle.clone() },
            sources: Vec::new(),
            joins: self.shared_by(&request),
            secrets: self.owned_secrets(&request),
            pins: definition.row.pins.clone(),
            request: self
                .check_copyable(&first, &definition, &checkpoint)
                .and_then(|()| check_origin(by, &request))
                .map(|()| request),
            reasons,
        };
        Ok(RestoreAs { draft, checkpoint, container: view })
    }

    /// That no other container can go on from a checkpoint is told after the question.
    fn check_copyable(
        &self,
        first: &Container,
        definition: &Definition,
        checkpoint: &view::Checkpoint,
    ) -> Result<(), Error> {
        let request = &definition.row.request;
        let why = if checkpoint.changes == Changes::LeftOut {
            Uncopyable::NoFiles
        } else if !self.anonymous_of(request).is_empty() {
            Uncopyable::OwnVolumes
        } else if !self.written_images(request)?.is_empty() {
            Uncopyable::WrittenImages
        } else if self.categories_of(first)?.is_some() {
            Uncopyable::Categories
        } else {
            return Ok(());
        };
        Err(Error::NotCopyable { checkpoint: checkpoint.id.clone(), why })
    }

    /// The same networks, by other addresses.
    fn connections_like(
        &self,
        first: &Connections,
        ports: Option<Vec<PortRequest>>,
    ) -> Result<Connections, Error> {
        let mut connections = others_own(first);
        if let Some(ports) = ports {
            self.check_ports(&connections, &ports)?;
            connections.ports = ports;
        }
        Ok(connections)
    }

    /// The containers whose namespaces a request shares.
    fn shared_by(&self, request: &Request) -> Vec<Arc<view::Container>> {
        let shared = request.shares_with().into_iter();
        let shared = shared.filter_map(|id| self.containers.get(&id.as_str().parse().ok()?));
        shared.map(|other| other.view()).collect()
    }

    fn owned_secrets(&self, request: &Request) -> Vec<(tare_specgen::SecretName, u32)> {
        let used = secret::used(request).into_iter();
        used.filter_map(|name| self.secrets.owner_of(&name).map(|owner| (name, owner))).collect()
    }
}

/// What root alone may ask for is not given on.
fn check_origin(by: &Caller, request: &Request) -> Result<(), Error> {
    check_paths(by, request)?;
    namespaces::check_caller(by, request)
}

/// What the first one is asked to be, by the hostname that its processes know.
fn request(first: &Container, definition: &Definition) -> Result<Request, Error> {
    let mut request = definition.row.request.clone();
    let has_own = request.namespaces.uts == NamespaceMode::Private
        && request.network_mode != NetworkMode::Host;
    if has_own && request.hostname.is_none() {
        request.hostname = Some(default_hostname(&first.id)?);
    }
    Ok(request)
}

/// Nobody else has the addresses that one asks for, nor its aliases.
fn others_own(first: &Connections) -> Connections {
    let mut connections = first.clone();
    for joined in &mut connections.networks {
        joined.addresses.clear();
        joined.aliases.clear();
        joined.mac = None;
    }
    connections
}

impl Engine {
    /// Begins to make a container that goes on from a checkpoint.
    ///
    /// # Errors
    ///
    /// [`Error::NoCriu`], [`Error::NotCopyable`], [`Error::NoCommand`], [`Error::InvalidSpec`];
    /// [`Error::Host`] if there can be no job.
    pub fn restore_as(&self, request: Authorized<RestoreAs>) -> Result<Pending, Error> {
        let (RestoreAs { draft, checkpoint, .. }, by) = request.into_parts();
        check_criu()?;
        let draft = draft.ready()?;
        let (engine, caller) = (self.clone(), by.clone());
        self.pending(JobKind::RestoreContainer, None, Origin::Caller(&by), move |job| async move {
            let id = engine.make_copy(&checkpoint.id, draft, &caller, &job).await?;
            let goal = Goal::GoOn(checkpoint.id.clone());
            let started = engine.start_or_take_back(&id, &job, goal).await;
            engine.remove_images_for(&checkpoint.id, &id, &job).await;
            started?;
            Ok(Output(vec![("Container", Produced::Object(ObjectId::Container(id)))]))
        })
    }

    /// A container with the files that are in a checkpoint.
    async fn make_copy(
        &self,
        id: &CheckpointId,
        draft: ReadyDraft,
        by: &Caller,
        job: &Arc<Job>,
    ) -> Result<ContainerId, Error> {
        job.stage("copying");
        let (_held, changes) = self.changes_of(id, job).await?;
        self.create_for(draft, by, Filling::Changes(changes, job.clone())).await
    }

    /// What stays of them goes with the checkpoint.
    async fn remove_images_for(&self, checkpoint: &CheckpointId, id: &ContainerId, job: &Job) {
        let (files, id) = (Files::new(&self.instance, checkpoint), id.clone());
        if let Err(error) = brief(move || files.remove_images_for(&id)).await {
            job.log(4, error.chain());
        }
    }

    async fn changes_of(
        &self,
        id: &CheckpointId,
        job: &Job,
    ) -> Result<(OwnedRwLockReadGuard<()>, File), Error> {
        let (_, held) = self.hold_checkpoint(id, job).await?;
        let files = Files::new(&self.instance, id);
        let changes = brief(move || files.archive(Archive::Changes)).await?;
        let none = || Error::NotCopyable { checkpoint: id.clone(), why: Uncopyable::NoFiles };
        Ok((held, changes.ok_or_else(none)?))
    }

    /// A checkpoint, which nobody removes meanwhile.
    pub(super) async fn hold_checkpoint(
        &self,
        id: &CheckpointId,
        job: &Job,
    ) -> Result<(Arc<Checkpoint>, OwnedRwLockReadGuard<()>), Error> {
        let checkpoint = self.checkpoints.find(id)?;
        let held = job.or_canceled(checkpoint.files.clone().read_owned()).await?;
        // It may have been removed meanwhile.
        self.checkpoints.find(id)?;
        Ok((checkpoint, held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{AnyOf, Interactive};
    use crate::engine::records::durable::{CheckpointRow, Joined, Pins};

    fn draft(reasons: Vec<Reason>) -> Draft {
        Draft {
            name: "copy".parse().ok(),
            image: Err(Error::NoSuchImage("x".into())),
            image_reference: "x".into(),
            request: Ok(Request::default()),
            connections: Connections::default(),
            volumes: Vec::new(),
            lifecycle: Lifecycle::default(),
            sources: Vec::new(),
            joins: Vec::new(),
            secrets: Vec::new(),
            pins: Pins::default(),
            reasons,
        }
    }

    #[test]
    fn a_copy_takes_what_making_it_takes_and_what_a_restore_does() {
        let container = Container::sample("c").view();
        let checkpoint = Arc::new(super::super::view(&CheckpointRow::sample()));
        let by = |uid| Caller { uid, bus_name: ":1.7".into(), interactive: Interactive::No };
        for (uid, reasons, create, quietly) in [
            (container.owner_uid, vec![], Action::CreateContainer, true),
            (
                container.owner_uid,
                vec![Reason::Privileged],
                Action::CreatePrivilegedContainer,
                true,
            ),
            (container.owner_uid + 1, vec![], Action::CreateContainer, false),
        ] {
            let (container, checkpoint) = (container.clone(), checkpoint.clone());
            let asked = RestoreAs { draft: draft(reasons), checkpoint, container };
            let quietly = quietly.then_some(Action::ManageOwnContainers).into_iter().collect();
            let restore = AnyOf { quietly, action: Action::RestoreContainer };
            let question = asked.question(&by(uid));
            assert_eq!(question.needs, [create.into(), restore], "{uid}");
            assert_eq!(question.details["container"], "copy");
        }
    }

    #[test]
    fn a_copy_asks_for_nothing_that_the_first_one_has_alone() {
        let joined = Joined {
            network: "web".parse().unwrap(),
            position: 1,
            interface: "eth1".parse().unwrap(),
            addresses: vec!["10.89.0.9".parse().unwrap()],
            mac: Some("02:00:00:00:00:01".parse().unwrap()),
            aliases: vec!["db".parse().unwrap()],
        };
        let first = Connections { networks: vec![joined.clone()], ..Connections::default() };
        let bare = Joined { addresses: Vec::new(), mac: None, aliases: Vec::new(), ..joined };
        assert_eq!(others_own(&first).networks, [bare]);
    }

    #[test]
    fn a_copy_keeps_the_hostname_that_its_processes_know() {
        let first = Container::sample("c");
        let hostname = |change: fn(&mut Request)| {
            let mut definition = (*first.definition()).clone();
            change(&mut definition.row.request);
            request(&first, &definition).unwrap().hostname.map(|name| name.to_string())
        };
        assert_eq!(hostname(|_| {}).as_deref(), Some(first.id.short()));
        assert_eq!(
            hostname(|it| it.hostname = "web".parse().ok()).as_deref(),
            Some("web"),
            "it was asked for"
        );
        assert_eq!(hostname(|it| it.network_mode = NetworkMode::Host), None, "the host's");
        assert_eq!(hostname(|it| it.namespaces.uts = NamespaceMode::Host), None, "the host's");
    }
}
