//! Shows on the bus what the engine tells, in order, and is the only one to add or remove objects.
//!
//! Waits for the bus alone, never for the engine, so the engine may wait for it.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use zbus::names::InterfaceName;
use zbus::object_server::{Interface, SignalEmitter};
use zbus::{Connection, OwnedObjectPath, OwnedVariant, Variant};

use super::checkpoint::Checkpoint;
use super::container::Container;
use super::context::Context;
use super::counts::Counts;
use super::history::{self, Happening};
use super::image::Image;
use super::job::{self, Job};
use super::kind::{Kind, Node};
use super::manager::Manager;
use super::network::Network;
use super::object_manager::ObjectManager;
use super::process::Process;
use super::registry::Shown;
use super::secret::Secret;
use super::volume::Volume;
use super::{bound, introspect, paths};
use crate::engine::events::Event;
use crate::engine::jobs::{JobView, LogLine, Outcome};
use crate::engine::object::{Change, End, ObjectId, Seen};

/// The counts of the manager change with nearly everything; they are told this long after the
/// first change, with those that came meanwhile.
const COUNTS_INTERVAL: Duration = Duration::from_millis(100);

/// Properties by name.
pub(crate) type Properties = HashMap<String, OwnedVariant>;

/// Shows events until the engine is gone.
pub(crate) async fn run(
    connection: Connection,
    context: Arc<Context>,
    mut told: mpsc::UnboundedReceiver<Event>,
) {
    let taints = context.taints();
    let mut publisher =
        Publisher { connection, context, counts: Counts::default(), taints, due: None };
    loop {
        let shown = tokio::select! {
            event = told.recv() => match event {
                Some(event) => publisher.show(event).await,
                None => return,
            },
            () = reached(publisher.due) => publisher.tell_counts().await,
        };
        if let Err(error) = shown {
            // The bus is gone, and the daemon ends because of that.
            tracing::debug!("cannot show an event on the bus: {error}");
        }
    }
}

async fn reached(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}

struct Publisher {
    connection: Connection,
    context: Arc<Context>,
    /// As they were told last.
    counts: Counts,
    /// The same.
    taints: Vec<String>,
    /// When they are told again, if they have changed.
    due: Option<Instant>,
}

impl Publisher {
    async fn show(&mut self, event: Event) -> zbus::Result<()> {
        if let Event::Barrier(shown) = event {
            let _ = shown.send(());
            return Ok(());
        }
        if let Event::Tainted = event {
            return self.tell_taints().await;
        }
        // Whether names are answered on a network is a reason, too.
        let may_taint = matches!(event, Event::Network(_));
        let coming = history::coming(&event);
        let mut result = self.show_change(event).await;
        if let Some(coming) = coming {
            let happening = self.context.history.add(coming);
            result = result.and(self.tell_subscribers(&happening).await);
        }
        if may_taint {
            result = result.and(self.tell_taints().await);
        }
        if self.due.is_none() && self.context.registry.counts() != self.counts {
            self.due = Some(Instant::now() + COUNTS_INTERVAL);
        }
        result
    }

    /// To each of them alone: nobody else is woken up by it. Whoever does not read is cut off by the bus,
    /// and asks then for what it has missed.
    async fn tell_subscribers(&self, happening: &Happening) -> zbus::Result<()> {
        let Happening { seqnum, at, kind, action, object, .. } = happening;
        let mut told = Ok(());
        for name in self.context.subscribers.all() {
            let emitter = self.manager()?.set_destination(name.into());
            let (object, attributes) = (paths::of(object).into(), happening.attributes());
            let sent =
                Manager::event(&emitter, *seqnum, at.0, kind, action, object, attributes).await;
            told = told.and(sent);
        }
        told
    }

    async fn show_change(&self, event: Event) -> zbus::Result<()> {
        match event {
            Event::Container(change) => {
                if let Change::Added(view) = &change
                    && let Some(bond) = &view.lifecycle.bound_to
                {
                    bound::watch(&self.context, bond);
                }
                self.apply::<Container>(change).await
            }
            Event::Image(change) => self.apply::<Image>(change).await,
            Event::Network(change) => self.apply::<Network>(change).await,
            Event::Volume(change) => self.apply::<Volume>(change).await,
            Event::Secret(change) => self.apply::<Secret>(change).await,
            Event::Checkpoint(change) => self.apply::<Checkpoint>(change).await,
            Event::Process(change) => self.apply::<Process>(change).await,
            Event::Job(Change::Added(view)) => self.job_added(view).await,
            Event::Job(change) => self.apply::<Job>(change).await,
            Event::JobLogged { id, to, line } => self.job_logged(id, to, line).await,
            Event::JobFinished(view) => self.job_finished(&view).await,
            Event::Barrier(_) | Event::Tainted => Ok(()),
        }
    }

    /// What became of an object, whatever it is.
    async fn apply<K: Kind>(&self, change: Change<K::View>) -> zbus::Result<()> {
        let registry = &self.context.registry;
        let none = Counts::default();
        match change {
            Change::Added(view) => {
                let path = paths::of(&view.id());
                registry.count(none, K::counts(&view));
                self.put(&path, K::new(&self.context, Shown::new(view))).await
            }
            Change::Changed { old, new } => {
                let Some(object) = registry.get::<K>(&paths::of(&new.id())) else { return Ok(()) };
                registry.count(K::counts(&old), K::counts(&new));
                self.change(&object, new, None).await
            }
            Change::Ended { old, new, end } => {
                let Some(object) = registry.get::<K>(&paths::of(&new.id())) else { return Ok(()) };
                registry.count(K::counts(&old), K::counts(&new));
                self.change(&object, new, Some(end)).await
            }
            Change::Removed(id) => {
                let path = paths::of(&id);
                let Some(object) = registry.get::<K>(&path) else { return Ok(()) };
                registry.count(K::counts(&object.shown().get()), none);
                self.take::<K>(&path).await
            }
        }
    }

    async fn exited(&self, object: &ObjectId, end: End) -> zbus::Result<()> {
        let End { exit, at } = end;
        let emitter = SignalEmitter::new(&self.connection, paths::of(object))?;
        match object {
            ObjectId::Container(_) => {
                let reason = exit.reason.as_str();
                Container::exited(&emitter, exit.code, exit.signal, reason, at.0).await
            }
            _ => Process::exited(&emitter, exit.code, exit.signal, at.0).await,
        }
    }

    async fn job_added(&self, view: Arc<JobView>) -> zbus::Result<()> {
        let (path, object) = (paths::of(&view.id()), job::object(&view));
        self.apply::<Job>(Change::Added(view.clone())).await?;
        let (id, kind) = (view.id, view.kind.as_str());
        Manager::job_new(&self.manager()?, id, path.into(), kind, object.into()).await
    }

    /// For the one who started it alone: what is logged may name paths.
    async fn job_logged(&self, id: u32, to: String, line: LogLine) -> zbus::Result<()> {
        let to = zbus::names::UniqueName::try_from(to)?;
        let emitter = SignalEmitter::new(&self.connection, paths::of(&ObjectId::Job(id)))?;
        let emitter = emitter.set_destination(to.into());
        Job::log_message(&emitter, line.priority.into(), &line.message).await
    }

    async fn job_finished(&self, view: &JobView) -> zbus::Result<()> {
        if view.outcome != Some(Outcome::Done) {
            self.context.repeats.forget(&paths::of(&view.id()));
        }
        let (error_name, error_message) = job::failure(view);
        Manager::job_removed(
            &self.manager()?,
            view.id,
            paths::of(&view.id()).into(),
            view.kind.as_str(),
            job::object(view).into(),
            job::result(view),
            &error_name,
            &error_message,
        )
        .await
    }

    fn manager(&self) -> zbus::Result<SignalEmitter<'static>> {
        SignalEmitter::new(&self.connection, paths::ROOT)
    }

    /// Puts an object on the bus.
    async fn put<K: Kind>(&self, path: &OwnedObjectPath, object: K) -> zbus::Result<()> {
        let properties = properties(&self.connection, path, &object).await?;
        let server = self.connection.object_server();
        server.at(path.clone(), object.clone()).await?;
        self.context.registry.insert(path, object);
        introspect::install_above(server, &self.context, path).await?;
        if K::MANAGED {
            let added = HashMap::from([(K::name().to_string(), properties)]);
            ObjectManager::interfaces_added(&self.manager()?, path.clone().into(), added).await?;
        }
        Ok(())
    }

    /// Takes an object off the bus.
    async fn take<K: Kind>(&self, path: &OwnedObjectPath) -> zbus::Result<()> {
        self.context.registry.remove(path);
        self.connection.object_server().remove_named(path.clone(), K::name()).await?;
        if K::MANAGED {
            let removed = vec![K::name().to_string()];
            ObjectManager::interfaces_removed(&self.manager()?, path.clone().into(), removed)
                .await?;
        }
        Ok(())
    }

    /// Tells in one signal what is different about an object, and before that of its end. Whoever
    /// hears either finds the object as it is then.
    async fn change<K: Kind>(
        &self,
        object: &K,
        new: Arc<K::View>,
        end: Option<End>,
    ) -> zbus::Result<()> {
        let id = new.id();
        let path = paths::of(&id);
        let before = properties(&self.connection, &path, object).await?;
        object.shown().set(new);
        let mut after = properties(&self.connection, &path, object).await?;
        after.retain(|name, value| before.get(name) != Some(value));
        if let Some(end) = end {
            self.exited(&id, end).await?;
        }
        let asked_for = K::ASKED_FOR.iter().copied();
        let invalidated: Vec<_> = asked_for.filter(|name| after.remove(*name).is_some()).collect();
        self.properties_changed(&path, &K::name(), after, invalidated).await
    }

    async fn properties_changed(
        &self,
        path: &OwnedObjectPath,
        interface: &InterfaceName<'_>,
        changed: Properties,
        invalidated: Vec<&str>,
    ) -> zbus::Result<()> {
        if changed.is_empty() && invalidated.is_empty() {
            return Ok(());
        }
        let properties = "org.freedesktop.DBus.Properties";
        let body = (interface, changed, invalidated);
        let nobody: Option<&str> = None;
        self.connection.emit_signal(nobody, path, properties, "PropertiesChanged", &body).await
    }

    async fn tell_taints(&mut self) -> zbus::Result<()> {
        let now = self.context.taints();
        if now == self.taints {
            return Ok(());
        }
        self.taints.clone_from(&now);
        let changed = [("Tainted".into(), Variant::from(now).try_into_owned()?)].into();
        self.manager_changed(changed).await
    }

    async fn manager_changed(&self, changed: Properties) -> zbus::Result<()> {
        let root = OwnedObjectPath::try_from(paths::ROOT)?;
        self.properties_changed(&root, &Manager::name(), changed, Vec::new()).await
    }

    async fn tell_counts(&mut self) -> zbus::Result<()> {
        self.due = None;
        let now = self.context.registry.counts();
        let before = std::mem::replace(&mut self.counts, now);
        let changed = before
            .properties()
            .into_iter()
            .zip(now.properties())
            .filter(|(before, now)| before != now)
            .map(|(_, (name, number))| Ok((name.into(), Variant::from(number).try_into_owned()?)))
            .collect::<zbus::Result<Properties>>()?;
        self.manager_changed(changed).await
    }
}

/// All properties of an object.
pub(crate) async fn properties(
    connection: &Connection,
    path: &str,
    object: &dyn Node,
) -> zbus::Result<Properties> {
    let emitter = SignalEmitter::new(connection, path)?;
    Ok(object.get_all(connection.object_server(), connection, None, &emitter).await?)
}
