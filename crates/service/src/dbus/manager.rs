//! `org.tare.Containers1.Manager`.

#![expect(clippy::too_many_arguments, reason = "the contract has such a signal")]

use std::collections::HashMap;
use std::sync::Arc;

use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{ObjectPath, OwnedFd, OwnedObjectPath, Variant, interface};

use super::context::{Context, JobPath};
use super::value::{Dict, values};
use super::{checkpoint, container, image, job, network, paths, secret, stats, volume};
use crate::api;
use crate::api::{ApiError, Values};
use crate::authority::Caller;
use crate::engine::object::{ObjectId, Seen};
use crate::engine::{AtStart, CreateNetwork, Defaults, Draft, DryRun, Engine, Start, view};

/// Goes up whenever a method, option, property or flag is added.
const API_LEVEL: u32 = 1;

/// `GenerateSpec`: only what is different from what the image gives.
const WITHOUT_DEFAULTS: u64 = 1;

/// A list. The number that goes with it is read first: an event with a higher one may be in the
/// list already, but none is missed.
type List = Vec<HashMap<&'static str, Variant<'static>>>;

/// The entry point.
#[derive(Debug)]
pub(crate) struct Manager {
    context: Arc<Context>,
}

impl Manager {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    fn find(&self, name: &str) -> Result<Arc<view::Container>, ApiError> {
        Ok(self.context.engine.find(name)?)
    }

    /// A container as it is asked for.
    async fn draft(
        &self,
        by: &Caller,
        name: &str,
        image: &str,
        options: Values,
    ) -> Result<Draft, ApiError> {
        let mut asked = api::create::create(options)?;
        if asked.bind_to_caller {
            asked.lifecycle.bound_to = Some(self.context.bond(by));
        }
        Ok(self.context.engine.draft(by, name, image, asked).await?)
    }
}

#[expect(clippy::unused_self, reason = "the macro calls methods, also those of constants")]
#[interface(name = "org.tare.Containers1.Manager", introspection_docs = false)]
impl Manager {
    #[zbus(out_args("container"))]
    fn get_container(&self, id_or_name: &str) -> Result<OwnedObjectPath, ApiError> {
        Ok(paths::of(&self.context.engine.find(id_or_name)?.id()))
    }

    #[zbus(out_args("container"), name = "GetContainerByPID")]
    async fn get_container_by_pid(
        &self,
        pid: u32,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, ApiError> {
        let pid = if pid == 0 { self.context.caller_pid(&header).await? } else { pid };
        Ok(paths::of(&self.context.engine.container_of_pid(pid)?.id()))
    }

    #[zbus(out_args("container"), name = "GetContainerByPIDFD")]
    fn get_container_by_pidfd(&self, pidfd: OwnedFd) -> Result<OwnedObjectPath, ApiError> {
        let pidfd = std::os::fd::OwnedFd::from(pidfd);
        Ok(paths::of(&self.context.engine.container_of_pidfd(pidfd)?.id()))
    }

    #[zbus(out_args("containers", "seqnum"))]
    fn list_containers(&self, filter: Dict) -> Result<(List, u64), ApiError> {
        let filter = api::list::ContainerFilter::parse(values(filter)?)?;
        let seqnum = self.context.history.last();
        let all = self.context.engine.containers();
        let list = all.iter().filter(|view| filter.fits(view)).take(filter.limit());
        Ok((list.map(|view| container::row(view)).collect(), seqnum))
    }

    #[zbus(out_args("container"))]
    async fn create_container(
        &self,
        name: &str,
        image: &str,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, ApiError> {
        let mut options = values(options)?;
        let id = api::request_id(&mut options)?;
        let draft = async |by: &Caller| self.draft(by, name, image, options).await;
        let create = async |engine: Engine, draft| engine.create(draft).await;
        // What is asked for is large, and would be moved about with every future around it.
        let made = Box::pin(async {
            let id = Box::pin(self.context.act_by(&header, draft, create)).await?;
            Ok(paths::of(&ObjectId::Container(id)))
        });
        self.context.once(&header, ("CreateContainer", id), made).await
    }

    #[zbus(out_args("job"))]
    async fn run_container(
        &self,
        name: &str,
        image: &str,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let mut options = values(options)?;
        let call = ("RunContainer", api::request_id(&mut options)?);
        let draft = async |by: &Caller| self.draft(by, name, image, options).await;
        self.context.job_once(&header, call, draft, Engine::run_container).await
    }

    #[zbus(out_args("spec", "warnings", "action"))]
    async fn generate_spec(
        &self,
        image: &str,
        options: Dict,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(String, Vec<String>, String), ApiError> {
        let dry_run = async |by: &Caller| {
            let with = match api::flags(flags, WITHOUT_DEFAULTS)? {
                WITHOUT_DEFAULTS => Defaults::Omitted,
                _ => Defaults::Shown,
            };
            let mut options = values(options)?;
            api::request_id(&mut options)?;
            Ok(DryRun::new(self.draft(by, "", image, options).await?, with))
        };
        let generate = async |engine: Engine, dry_run| engine.generate_spec(dry_run).await;
        let shown = Box::pin(self.context.act_by(&header, dry_run, generate)).await?;
        Ok((shown.spec, shown.warnings, shown.action))
    }

    #[zbus(out_args("job"))]
    async fn start_container(
        &self,
        name: &str,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request = || {
            api::flags(flags, 0)?;
            Ok(Start { container: self.find(name)?, at_start: AtStart::default() })
        };
        self.context.job(&header, request, Engine::start).await
    }

    #[zbus(out_args("job"))]
    async fn stop_container(
        &self,
        name: &str,
        timeout_usec: u64,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request = || api::change::stop(timeout_usec, flags, || self.find(name));
        self.context.job(&header, request, Engine::stop).await
    }

    #[zbus(out_args("job"))]
    async fn restart_container(
        &self,
        name: &str,
        timeout_usec: u64,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request = || api::change::restart(timeout_usec, flags, || self.find(name));
        self.context.job(&header, request, Engine::restart).await
    }

    async fn kill_container(
        &self,
        name: &str,
        whom: &str,
        signal: i32,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        let request = || api::change::kill(whom, signal, flags, || self.find(name));
        self.context.act(&header, request, async |engine, kill| engine.kill(kill).await).await
    }

    #[zbus(out_args("job"))]
    async fn remove_container(
        &self,
        name: &str,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request = || api::change::remove(flags, || self.find(name));
        self.context.job(&header, request, Engine::remove).await
    }

    #[zbus(out_args("json"))]
    async fn inspect_container(
        &self,
        name: &str,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<String, ApiError> {
        let request = || api::look::inspect(flags, || self.find(name));
        self.context.act(&header, request, async |engine, inspect| engine.inspect(inspect)).await
    }

    #[zbus(out_args("stats"))]
    async fn get_stats(
        &self,
        containers: Vec<OwnedObjectPath>,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<HashMap<&'static str, Variant<'static>>>, ApiError> {
        let answer = async |engine: &Engine, _: &Caller| {
            api::flags(flags, 0)?;
            let ids = containers.iter().map(paths::container).collect::<Result<Vec<_>, _>>()?;
            let all = engine.stats_of(&ids).await?;
            Ok(all.into_iter().map(|(id, stats)| stats::row(id, stats)).collect())
        };
        self.context.answer(&header, answer).await
    }

    #[zbus(out_args("image"))]
    fn get_image(&self, reference: &str) -> Result<OwnedObjectPath, ApiError> {
        Ok(paths::of(&self.context.engine.find_image(reference)?.id()))
    }

    #[zbus(out_args("images", "seqnum"))]
    fn list_images(&self, filter: Dict) -> Result<(List, u64), ApiError> {
        let filter = api::list::ImageFilter::parse(values(filter)?)?;
        let seqnum = self.context.history.last();
        let all = self.context.engine.images();
        let list = all.iter().filter(|view| filter.fits(view)).take(filter.limit());
        Ok((list.map(|view| image::row(view)).collect(), seqnum))
    }

    #[zbus(out_args("job"))]
    async fn import_image(
        &self,
        archive: OwnedFd,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request = || api::import::import(archive.into(), values(options)?);
        self.context.job(&header, request, Engine::import_image).await
    }

    #[zbus(out_args("job"))]
    async fn pull_image(
        &self,
        reference: &str,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request = async |_: &Caller| {
            let pull = api::images::pull(reference, values(options)?)?;
            Ok(self.context.engine.resolve_pull(pull).await?)
        };
        self.context.job_by(&header, request, Engine::pull_image).await
    }

    #[zbus(out_args("job"))]
    async fn export_images(
        &self,
        references: Vec<String>,
        archive: OwnedFd,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request = || api::images::export(references, archive.into(), values(options)?);
        self.context.job(&header, request, Engine::export_images).await
    }

    #[zbus(out_args("network"))]
    fn get_network(&self, name: &str) -> Result<OwnedObjectPath, ApiError> {
        Ok(paths::of(&self.context.engine.find_network(name)?.id()))
    }

    #[zbus(out_args("networks", "seqnum"))]
    fn list_networks(&self, filter: Dict) -> Result<(List, u64), ApiError> {
        let filter = api::list::NetworkFilter::parse(values(filter)?)?;
        let seqnum = self.context.history.last();
        let all = self.context.engine.networks();
        let list = all.iter().filter(|view| filter.fits(view));
        Ok((list.map(|view| network::row(view)).collect(), seqnum))
    }

    #[zbus(out_args("network"))]
    async fn create_network(
        &self,
        name: &str,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, ApiError> {
        let request = || {
            let name = api::network::name(name)?;
            Ok(CreateNetwork { name, asked: api::network::create(values(options)?)? })
        };
        let create = async |engine: Engine, create| engine.create_network(create).await;
        let name = self.context.act(&header, request, create).await?;
        Ok(paths::of(&ObjectId::Network(name)))
    }

    #[zbus(out_args("volume"))]
    fn get_volume(&self, name: &str) -> Result<OwnedObjectPath, ApiError> {
        Ok(paths::of(&self.context.engine.find_volume(name)?.id()))
    }

    #[zbus(out_args("volumes", "seqnum"))]
    fn list_volumes(&self, filter: Dict) -> Result<(List, u64), ApiError> {
        let filter = api::list::VolumeFilter::parse(values(filter)?)?;
        let seqnum = self.context.history.last();
        let all = self.context.engine.volumes();
        let list = all.iter().filter(|view| filter.fits(view));
        Ok((list.map(|view| volume::row(view)).collect(), seqnum))
    }

    #[zbus(out_args("job"))]
    async fn checkpoint_container(
        &self,
        name: &str,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request = || api::checkpoint::checkpoint(values(options)?, || self.find(name));
        self.context.job(&header, request, Engine::checkpoint).await
    }

    #[zbus(out_args("checkpoints", "seqnum"))]
    fn list_checkpoints(&self, filter: Dict) -> Result<(List, u64), ApiError> {
        let filter = api::checkpoint::CheckpointFilter::parse(values(filter)?)?;
        let seqnum = self.context.history.last();
        let all = self.context.engine.checkpoints();
        let list = all.iter().filter(|view| filter.fits(view));
        Ok((list.map(|view| checkpoint::row(view)).collect(), seqnum))
    }

    #[zbus(out_args("volume"))]
    async fn create_volume(
        &self,
        name: &str,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, ApiError> {
        let request = || api::volume::create(name, values(options)?);
        let create = async |engine: Engine, create| engine.create_volume(create).await;
        let name = self.context.act(&header, request, create).await?;
        Ok(paths::of(&ObjectId::Volume(name)))
    }

    #[zbus(out_args("secret"))]
    fn get_secret(&self, name: &str) -> Result<OwnedObjectPath, ApiError> {
        let name = api::secret::name(name)?;
        Ok(paths::of(&self.context.engine.find_secret(&name)?.id()))
    }

    #[zbus(out_args("secrets", "seqnum"))]
    fn list_secrets(&self, filter: Dict) -> Result<(List, u64), ApiError> {
        let filter = api::list::SecretFilter::parse(values(filter)?)?;
        let seqnum = self.context.history.last();
        let all = self.context.engine.secrets();
        let list = all.iter().filter(|view| filter.fits(view));
        Ok((list.map(|view| secret::row(view)).collect(), seqnum))
    }

    #[zbus(out_args("secret"))]
    async fn create_secret(
        &self,
        name: &str,
        data: OwnedFd,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedObjectPath, ApiError> {
        let request = || api::secret::create(name, data.into(), values(options)?);
        let create = async |engine: Engine, create| engine.create_secret(create).await;
        let name = self.context.act(&header, request, create).await?;
        Ok(paths::of(&ObjectId::Secret(name)))
    }

    #[zbus(out_args("job"))]
    async fn prune(
        &self,
        kinds: Vec<String>,
        filter: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request = || api::images::prune(&kinds, values(filter)?);
        self.context.job(&header, request, Engine::prune).await
    }

    #[zbus(out_args("job"))]
    fn get_job(&self, id: u32) -> Result<OwnedObjectPath, ApiError> {
        Ok(paths::of(&self.context.engine.job(id)?.id()))
    }

    #[zbus(out_args("jobs", "seqnum"))]
    fn list_jobs(&self, filter: Dict) -> Result<(List, u64), ApiError> {
        let filter = api::list::JobFilter::parse(values(filter)?)?;
        let seqnum = self.context.history.last();
        let all = self.context.engine.jobs();
        let list = all.iter().filter(|view| filter.fits(view));
        Ok((list.map(|view| job::row(view)).collect(), seqnum))
    }

    async fn cancel_job(
        &self,
        id: u32,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        job::cancel(&self.context, id, flags, &header).await
    }

    #[zbus(out_args("next", "events"))]
    async fn get_events(
        &self,
        since: u64,
        max: u32,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(u64, List), ApiError> {
        let answer = async |_: &Engine, _: &Caller| {
            let (next, events) = self.context.history.after(since, max)?;
            Ok((next, events.iter().map(|event| event.row()).collect()))
        };
        self.context.answer(&header, answer).await
    }

    async fn subscribe(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        let answer = async |_: &Engine, by: &Caller| {
            api::flags(flags, 0)?;
            self.context.subscribe(by).await
        };
        self.context.answer(&header, answer).await
    }

    async fn unsubscribe(&self, #[zbus(header)] header: Header<'_>) -> Result<(), ApiError> {
        let answer = async |_: &Engine, by: &Caller| {
            self.context.subscribers.remove(&by.bus_name);
            Ok(())
        };
        self.context.answer(&header, answer).await
    }

    #[zbus(signal)]
    pub(crate) async fn event(
        emitter: &SignalEmitter<'_>,
        seqnum: u64,
        timestamp: u64,
        r#type: &str,
        action: &str,
        object: ObjectPath<'_>,
        attributes: HashMap<&str, Variant<'_>>,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(crate) async fn job_new(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: ObjectPath<'_>,
        r#type: &str,
        object: ObjectPath<'_>,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(crate) async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: ObjectPath<'_>,
        r#type: &str,
        object: ObjectPath<'_>,
        result: &str,
        error_name: &str,
        error_message: &str,
    ) -> zbus::Result<()>;

    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    #[zbus(property(emits_changed_signal = "const"), name = "APILevel")]
    fn api_level(&self) -> u32 {
        API_LEVEL
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn features(&self) -> Vec<&'static str> {
        self.context.engine.features()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn storage_path(&self) -> String {
        self.context.engine.instance().state_dir().display().to_string()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn storage_driver(&self) -> &'static str {
        "overlay"
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn storage_usage(&self) -> u64 {
        self.context.engine.storage_usage()
    }

    #[zbus(property, name = "NContainers")]
    fn n_containers(&self) -> u32 {
        self.context.registry.counts().containers
    }

    #[zbus(property, name = "NRunning")]
    fn n_running(&self) -> u32 {
        self.context.registry.counts().running
    }

    #[zbus(property, name = "NImages")]
    fn n_images(&self) -> u32 {
        self.context.registry.counts().images
    }

    #[zbus(property, name = "NJobs")]
    fn n_jobs(&self) -> u32 {
        self.context.registry.counts().jobs
    }

    #[zbus(property)]
    fn default_network(&self) -> OwnedObjectPath {
        paths::of(&ObjectId::Network(self.context.engine.default_network()))
    }

    #[zbus(property)]
    fn tainted(&self) -> Vec<String> {
        self.context.taints()
    }
}
