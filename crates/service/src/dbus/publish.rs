//! Shows on the bus what the engine tells, in order, and is the only one to add or remove objects.
//!
//! Waits for the bus alone, never for the engine, so the engine may wait for it.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use zbus::names::InterfaceName;
use zbus::object_server::{Interface, SignalEmitter};
use zbus::{Connection, OwnedObjectPath, OwnedVariant, Variant};

use super::container::Container;
use super::context::Context;
use super::image::Image;
use super::job::{self, Job};
use super::manager::Manager;
use super::object_manager::ObjectManager;
use super::process::Process;
use super::registry::{Counts, Object};
use super::{introspect, paths};
use crate::engine::clock::Usec;
use crate::engine::events::Event;
use crate::engine::jobs::JobView;
use crate::engine::view::{self, Exit, State};

/// Properties of the contract whose changes are not told.
const QUIET: [&str; 0] = [];

/// Properties by name.
pub(crate) type Properties = HashMap<String, OwnedVariant>;

/// Shows events until the engine is gone.
pub(crate) async fn run(
    connection: Connection,
    context: Arc<Context>,
    mut told: mpsc::UnboundedReceiver<Event>,
) {
    let publisher = Publisher { connection, context };
    while let Some(event) = told.recv().await {
        if let Err(error) = publisher.show(event).await {
            // The bus is gone, and the daemon ends because of that.
            tracing::debug!("cannot show an event on the bus: {error}");
        }
    }
}

struct Publisher {
    connection: Connection,
    context: Arc<Context>,
}

impl Publisher {
    async fn show(&self, event: Event) -> zbus::Result<()> {
        if let Event::Barrier(shown) = event {
            let _ = shown.send(());
            return Ok(());
        }
        let result = self.show_change(event).await;
        self.context.registry.event_shown();
        result
    }

    async fn show_change(&self, event: Event) -> zbus::Result<()> {
        match event {
            Event::ContainerAdded(view) => self.container_added(view).await,
            Event::ContainerChanged { old, new } => self.container_changed(&old, new).await,
            Event::ContainerExited(id, exit, at) => self.container_exited(&id, exit, at).await,
            Event::ContainerRemoved(id) => self.container_removed(&id).await,
            Event::ImageAdded(view) => self.image_added(view).await,
            Event::ImageChanged { new, .. } => self.image_changed(new).await,
            Event::ImageRemoved(id) => self.image_removed(&id).await,
            Event::ProcessAdded(view) => self.process_added(view).await,
            Event::ProcessExited { new, exit, .. } => self.process_exited(new, exit).await,
            Event::ProcessRemoved(id, number) => self.take(&paths::process(&id, number)).await,
            Event::JobAdded(view) => self.job_added(view).await,
            Event::JobChanged { new, .. } => self.job_changed(new).await,
            Event::JobLogged { id, to, line } => self.job_logged(id, to, line).await,
            Event::JobFinished(view) => self.job_finished(&view).await,
            Event::JobForgotten(id) => self.take(&paths::job(id)).await,
            Event::Barrier(_) => Ok(()),
        }
    }

    async fn container_added(&self, view: Arc<view::Container>) -> zbus::Result<()> {
        let (path, running) = (paths::container(&view.id), runs(view.state));
        let container = Container::new(self.context.clone(), view);
        self.put(path, container.clone(), Object::Container(container)).await?;
        self.count(|counts| {
            counts.containers += 1;
            counts.running += u32::from(running);
        })
        .await
    }

    async fn container_changed(
        &self,
        old: &view::Container,
        new: Arc<view::Container>,
    ) -> zbus::Result<()> {
        let path = paths::container(&new.id);
        let (before, after) = (runs(old.state), runs(new.state));
        if let Some(Object::Container(container)) = self.context.registry.get(&path) {
            self.change(&path, &container, || container.show(new)).await?;
        }
        self.count(|counts| {
            counts.running = counts.running + u32::from(after) - u32::from(before);
        })
        .await
    }

    async fn container_exited(
        &self,
        id: &tare_runtime::ContainerId,
        exit: Exit,
        at: Usec,
    ) -> zbus::Result<()> {
        let emitter = SignalEmitter::new(&self.connection, paths::container(id))?;
        let reason = exit.reason.as_str();
        Container::exited(&emitter, exit.code, exit.signal, reason, at.0).await
    }

    async fn container_removed(&self, id: &tare_runtime::ContainerId) -> zbus::Result<()> {
        self.take(&paths::container(id)).await?;
        self.count(|counts| counts.containers -= 1).await
    }

    async fn image_added(&self, view: Arc<view::Image>) -> zbus::Result<()> {
        let path = paths::image(&view.id);
        let image = Image::new(view);
        self.put(path, image.clone(), Object::Image(image)).await?;
        self.count(|counts| counts.images += 1).await
    }

    async fn image_changed(&self, new: Arc<view::Image>) -> zbus::Result<()> {
        let path = paths::image(&new.id);
        match self.context.registry.get(&path) {
            Some(Object::Image(image)) => self.change(&path, &image, || image.show(new)).await,
            _ => Ok(()),
        }
    }

    async fn image_removed(&self, id: &tare_storage::Digest) -> zbus::Result<()> {
        self.take(&paths::image(id)).await?;
        self.count(|counts| counts.images -= 1).await
    }

    async fn process_added(&self, view: Arc<view::ExecSession>) -> zbus::Result<()> {
        let path = paths::process(&view.container, view.number);
        let process = Process::new(view);
        self.put(path, process.clone(), Object::Process(process)).await
    }

    async fn process_exited(&self, new: Arc<view::ExecSession>, exit: Exit) -> zbus::Result<()> {
        let path = paths::process(&new.container, new.number);
        let emitter = SignalEmitter::new(&self.connection, path.clone())?;
        Process::exited(&emitter, exit.code, exit.signal, Usec::now().0).await?;
        match self.context.registry.get(&path) {
            Some(Object::Process(process)) => {
                self.change(&path, &process, || process.show(new)).await
            }
            _ => Ok(()),
        }
    }

    async fn job_added(&self, view: Arc<JobView>) -> zbus::Result<()> {
        let (path, object) = (paths::job(view.id), job::object(&view.subject));
        let (id, kind) = (view.id, view.kind.as_str());
        let job = Job::new(self.context.clone(), view);
        self.put(path.clone(), job.clone(), Object::Job(job)).await?;
        self.count(|counts| counts.jobs += 1).await?;
        Manager::job_new(&self.manager()?, id, path.into(), kind, object.into()).await
    }

    async fn job_changed(&self, new: Arc<JobView>) -> zbus::Result<()> {
        let path = paths::job(new.id);
        match self.context.registry.get(&path) {
            Some(Object::Job(job)) => self.change(&path, &job, || job.show(new)).await,
            _ => Ok(()),
        }
    }

    /// For the one who started it alone: what is logged may name paths.
    async fn job_logged(
        &self,
        id: u32,
        to: String,
        line: crate::engine::jobs::LogLine,
    ) -> zbus::Result<()> {
        let to = zbus::names::UniqueName::try_from(to)?;
        let emitter =
            SignalEmitter::new(&self.connection, paths::job(id))?.set_destination(to.into());
        Job::log_message(&emitter, line.priority.into(), &line.message).await
    }

    async fn job_finished(&self, view: &JobView) -> zbus::Result<()> {
        self.count(|counts| counts.jobs -= 1).await?;
        let (path, object) = (paths::job(view.id), job::object(&view.subject));
        let (error_name, error_message) = job::failure(view);
        Manager::job_removed(
            &self.manager()?,
            view.id,
            path.into(),
            view.kind.as_str(),
            object.into(),
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
    async fn put<I: Interface>(
        &self,
        path: OwnedObjectPath,
        interface: I,
        object: Object,
    ) -> zbus::Result<()> {
        let managed = object.is_managed();
        let properties = self.properties(&path, &interface).await?;
        let server = self.connection.object_server();
        server.at(path.clone(), interface).await?;
        self.context.registry.insert(&path, object);
        introspect::install_above(server, &self.context, &path).await?;
        if managed {
            let added = HashMap::from([(I::name().to_string(), properties)]);
            ObjectManager::interfaces_added(&self.manager()?, path.into(), added).await?;
        }
        Ok(())
    }

    /// Takes an object off the bus.
    async fn take(&self, path: &OwnedObjectPath) -> zbus::Result<()> {
        let Some(object) = self.context.registry.remove(path) else { return Ok(()) };
        let name = object.interface();
        self.connection.object_server().remove_named(path.clone(), name.clone()).await?;
        if object.is_managed() {
            let removed = vec![name.to_string()];
            ObjectManager::interfaces_removed(&self.manager()?, path.clone().into(), removed)
                .await?;
        }
        Ok(())
    }

    /// Tells in one signal what `change` makes different about an object.
    async fn change<I: Interface>(
        &self,
        path: &OwnedObjectPath,
        interface: &I,
        change: impl FnOnce(),
    ) -> zbus::Result<()> {
        let before = self.properties(path, interface).await?;
        change();
        let mut after = self.properties(path, interface).await?;
        after.retain(|name, value| {
            !QUIET.contains(&name.as_str()) && before.get(name) != Some(value)
        });
        self.properties_changed(path, &I::name(), after).await
    }

    async fn properties_changed(
        &self,
        path: &OwnedObjectPath,
        interface: &InterfaceName<'_>,
        changed: Properties,
    ) -> zbus::Result<()> {
        if changed.is_empty() {
            return Ok(());
        }
        let properties = "org.freedesktop.DBus.Properties";
        let body = (interface, changed, Vec::<&str>::new());
        let nobody: Option<&str> = None;
        self.connection.emit_signal(nobody, path, properties, "PropertiesChanged", &body).await
    }

    async fn properties<I: Interface>(
        &self,
        path: &OwnedObjectPath,
        interface: &I,
    ) -> zbus::Result<Properties> {
        let emitter = SignalEmitter::new(&self.connection, path.clone())?;
        let server = self.connection.object_server();
        Ok(interface.get_all(server, &self.connection, None, &emitter).await?)
    }

    async fn count(&self, change: impl FnOnce(&mut Counts)) -> zbus::Result<()> {
        let (old, new) = self.context.registry.count(change);
        let numbers = [
            ("NContainers", old.containers, new.containers),
            ("NRunning", old.running, new.running),
            ("NImages", old.images, new.images),
            ("NJobs", old.jobs, new.jobs),
        ];
        let changed = numbers
            .into_iter()
            .filter(|(_, old, new)| old != new)
            .map(|(name, _, new)| Ok((name.into(), Variant::from(new).try_into_owned()?)))
            .collect::<zbus::Result<Properties>>()?;
        let root = OwnedObjectPath::try_from(paths::ROOT)?;
        self.properties_changed(&root, &Manager::name(), changed).await
    }
}

fn runs(state: State) -> bool {
    matches!(state, State::Running | State::Stopping)
}
