//! `org.tare.Containers1.Container`.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use tare_netns::PortRequest;
use tare_runtime::ContainerId;
use tare_specgen::TerminalSize;
use tare_storage::{Change, ChangeKind};
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{Fd, ObjectPath, OwnedFd, OwnedObjectPath, Variant, interface};

use super::bound;
use super::context::{Context, JobPath};
use super::counts::Counts;
use super::kind::Kind;
use super::paths;
use super::registry::Shown;
use super::stats;
use super::value::{Dict, values};
use crate::api::{self, ApiError, flags, no_options};
use crate::authority::Caller;
use crate::engine::object::{ObjectId, Seen};
use crate::engine::view::{self, State};
use crate::engine::{
    AskedConnection, Cleanup, Connect, Disconnect, Engine, Exec, ListProcesses, OpenLogs, Pause,
    Prepare, ProcessRow, Publish, Rename, Resize, Resume, Unpublish,
};

/// One container.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    context: Arc<Context>,
    id: ContainerId,
    shown: Shown<view::Container>,
}

impl Kind for Container {
    type View = view::Container;

    const ASKED_FOR: &[&str] = &["Limits"];

    fn new(context: &Arc<Context>, shown: Shown<view::Container>) -> Self {
        Self { context: context.clone(), id: shown.get().id.clone(), shown }
    }

    fn shown(&self) -> &Shown<view::Container> {
        &self.shown
    }

    fn counts(view: &view::Container) -> Counts {
        let running = matches!(view.state, State::Running | State::Paused | State::Stopping);
        Counts { containers: 1, running: running.into(), ..Counts::default() }
    }
}

impl Container {
    /// Itself, by its id: a name may look like anything.
    fn view(&self) -> Result<Arc<view::Container>, ApiError> {
        Ok(self.context.engine.get(&self.id)?)
    }

    fn network(&self, path: &ObjectPath<'_>) -> Result<Arc<view::Network>, ApiError> {
        let name = paths::network(path).map_or_else(|| path.to_string(), |name| name.to_string());
        Ok(self.context.engine.find_network(&name)?)
    }
}

#[interface(name = "org.tare.Containers1.Container", introspection_docs = false)]
impl Container {
    #[zbus(out_args("job"))]
    async fn prepare(
        &self,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request = || {
            no_options(values(options)?)?;
            Ok(Prepare { container: self.view()? })
        };
        self.context.job(&header, request, Engine::prepare_container).await
    }

    #[zbus(out_args("job"))]
    async fn cleanup(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request = || {
            self::flags(flags, 0)?;
            Ok(Cleanup { container: self.view()? })
        };
        self.context.job(&header, request, Engine::clean_up).await
    }

    #[zbus(out_args("job"))]
    async fn start(
        &self,
        flags: u64,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request = || api::attach::start(flags, values(options)?, || self.view());
        self.context.job(&header, request, Engine::start).await
    }

    #[zbus(out_args("job"))]
    async fn stop(
        &self,
        timeout_usec: u64,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request = || api::change::stop(timeout_usec, flags, || self.view());
        self.context.job(&header, request, Engine::stop).await
    }

    #[zbus(out_args("job"))]
    async fn restart(
        &self,
        timeout_usec: u64,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request = || api::change::restart(timeout_usec, flags, || self.view());
        self.context.job(&header, request, Engine::restart).await
    }

    async fn pause(&self, flags: u64, #[zbus(header)] header: Header<'_>) -> Result<(), ApiError> {
        let request = || {
            self::flags(flags, 0)?;
            Ok(Pause { container: self.view()? })
        };
        self.context.act(&header, request, async |engine, pause| engine.pause(pause).await).await
    }

    async fn resume(&self, flags: u64, #[zbus(header)] header: Header<'_>) -> Result<(), ApiError> {
        let request = || {
            self::flags(flags, 0)?;
            Ok(Resume { container: self.view()? })
        };
        self.context.act(&header, request, async |engine, resume| engine.resume(resume).await).await
    }

    async fn kill(
        &self,
        whom: &str,
        signal: i32,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        let request = || api::change::kill(whom, signal, flags, || self.view());
        self.context.act(&header, request, async |engine, kill| engine.kill(kill).await).await
    }

    #[zbus(out_args("job"))]
    async fn remove(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request = || api::change::remove(flags, || self.view());
        self.context.job(&header, request, Engine::remove).await
    }

    async fn rename(
        &self,
        new_name: &str,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        let request = || {
            self::flags(flags, 0)?;
            Ok(Rename { container: self.view()?, name: api::change::name(new_name)? })
        };
        let rename = async |engine: Engine, rename| engine.rename(rename).await;
        self.context.act(&header, request, rename).await
    }

    async fn update(
        &self,
        limits: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        let request = || api::update::update(values(limits)?, || self.view());
        self.context.act(&header, request, async |engine, update| engine.update(update).await).await
    }

    #[zbus(out_args("process", "fds"))]
    async fn exec(
        &self,
        argv: Vec<String>,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(OwnedObjectPath, HashMap<&'static str, Fd<'static>>), ApiError> {
        let request = || {
            let (request, stdio) = api::exec::exec(&argv, values(options)?)?;
            Ok(Exec { container: self.view()?, request, stdio })
        };
        let exec = async |engine: Engine, exec| engine.exec(exec).await;
        let executed = self.context.act(&header, request, exec).await?;
        let pty = executed.terminal.map(|fd| ("pty", fd.into()));
        let fds = named(executed.pipes).chain(pty);
        Ok((paths::of(&ObjectId::Process(self.id.clone(), executed.number)), fds.collect()))
    }

    #[zbus(out_args("fds"))]
    async fn attach(
        &self,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<HashMap<&'static str, Fd<'static>>, ApiError> {
        let request = || api::attach::attach(values(options)?, || self.view());
        let attach = async |engine: Engine, attach| engine.attach(attach).await;
        let pipes = self.context.act(&header, request, attach).await?;
        Ok(named(pipes).collect())
    }

    async fn resize(
        &self,
        rows: u16,
        columns: u16,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        let size = TerminalSize { rows, columns };
        let request = || Ok(Resize { container: self.view()?, size });
        self.context.act(&header, request, async |engine, resize| engine.resize(resize).await).await
    }

    #[zbus(out_args("json"))]
    async fn inspect(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<String, ApiError> {
        let request = || api::look::inspect(flags, || self.view());
        self.context.act(&header, request, async |engine, inspect| engine.inspect(inspect)).await
    }

    #[zbus(out_args("processes"))]
    async fn get_processes(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<HashMap<&'static str, Variant<'static>>>, ApiError> {
        let request = || {
            self::flags(flags, 0)?;
            Ok(ListProcesses { container: self.view()? })
        };
        let list = async |engine: Engine, list| engine.processes(list).await;
        Ok(self.context.act(&header, request, list).await?.iter().map(process).collect())
    }

    #[zbus(out_args("stats"))]
    async fn get_stats(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<HashMap<&'static str, Variant<'static>>, ApiError> {
        let answer = async |engine: &Engine, _: &Caller| {
            self::flags(flags, 0)?;
            Ok(stats::dict(engine.stats(&self.id).await?))
        };
        self.context.answer(&header, answer).await
    }

    #[zbus(out_args("stream"))]
    async fn open_stats(
        &self,
        interval_usec: u64,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedFd, ApiError> {
        let answer = async |engine: &Engine, by: &Caller| {
            self::flags(flags, 0)?;
            let interval = api::look::interval(interval_usec)?;
            Ok(engine.open_stats(&self.id, interval, by)?.into())
        };
        self.context.answer(&header, answer).await
    }

    #[zbus(out_args("pidfd"), name = "OpenPIDFD")]
    async fn open_pidfd(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedFd, ApiError> {
        let answer = async |engine: &Engine, _: &Caller| {
            self::flags(flags, 0)?;
            Ok(engine.open_pidfd(&*self.view()?)?.into())
        };
        self.context.answer(&header, answer).await
    }

    #[zbus(out_args("stream"), name = "WaitFD")]
    async fn wait_fd(
        &self,
        condition: &str,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedFd, ApiError> {
        let answer = async |engine: &Engine, by: &Caller| {
            self::flags(flags, 0)?;
            let condition = api::look::condition(condition)?;
            Ok(engine.wait_fd(&*self.view()?, condition, by)?.into())
        };
        self.context.answer(&header, answer).await
    }

    #[zbus(out_args("stream"))]
    async fn open_logs(
        &self,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedFd, ApiError> {
        let request = || {
            let (filter, which) = api::logs::logs(values(options)?)?;
            Ok(OpenLogs { container: self.view()?, filter, which })
        };
        let open = async |engine: Engine, logs| engine.open_logs(logs);
        Ok(self.context.act(&header, request, open).await?.into())
    }

    #[zbus(out_args("changes", "truncated"))]
    async fn get_changes(
        &self,
        max: u32,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(Vec<(&'static str, Vec<u8>)>, bool), ApiError> {
        let request = || api::files::changes(max, flags, || self.view());
        let list = async |engine: Engine, changes| engine.changes(changes).await;
        let (changes, truncated) = self.context.act(&header, request, list).await?;
        Ok((changes.into_iter().map(change).collect(), truncated))
    }

    #[zbus(out_args("job"))]
    async fn export(
        &self,
        archive: OwnedFd,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request = || api::files::export(archive.into(), values(options)?, || self.view());
        self.context.job(&header, request, Engine::export_container).await
    }

    #[zbus(out_args("job"))]
    async fn commit(
        &self,
        reference: &str,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request = || api::files::commit(reference, values(options)?, || self.view());
        self.context.job(&header, request, Engine::commit).await
    }

    #[zbus(out_args("job"))]
    async fn checkpoint(
        &self,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request = || api::checkpoint::checkpoint(values(options)?, || self.view());
        self.context.job(&header, request, Engine::checkpoint).await
    }

    #[zbus(out_args("job"))]
    async fn restore(
        &self,
        checkpoint: ObjectPath<'_>,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let find = || {
            let id = api::checkpoint::id(&checkpoint, paths::thing(&checkpoint))?;
            Ok(self.context.engine.find_checkpoint(&id)?)
        };
        let request = || api::checkpoint::restore(values(options)?, find, || self.view());
        self.context.job(&header, request, Engine::restore).await
    }

    #[zbus(out_args("job"))]
    async fn copy_in(
        &self,
        archive: OwnedFd,
        path: &str,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request =
            || api::files::copy_in(archive.into(), path, values(options)?, || self.view());
        self.context.job(&header, request, Engine::copy_in).await
    }

    #[zbus(out_args("job"))]
    async fn copy_out(
        &self,
        path: &str,
        archive: OwnedFd,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<JobPath, ApiError> {
        let request =
            || api::files::copy_out(path, archive.into(), values(options)?, || self.view());
        self.context.job(&header, request, Engine::copy_out).await
    }

    #[zbus(out_args("rootfs"))]
    async fn open_root_directory(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<OwnedFd, ApiError> {
        let request = || api::files::open_root(flags, || self.view());
        let open = async |engine: Engine, root| engine.open_root(root).await;
        Ok(self.context.act(&header, request, open).await?.into())
    }

    #[zbus(out_args("path"))]
    async fn mount_rootfs(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<String, ApiError> {
        let bond = self.context.bond(&self.context.caller(&header).await?);
        let request = || api::files::mount_root(flags, bond.clone(), || self.view());
        let mount = async |engine: Engine, root| engine.mount_root(root).await;
        let path = self.context.act(&header, request, mount).await?;
        bound::watch(&self.context, &bond);
        Ok(path.display().to_string())
    }

    async fn unmount_rootfs(
        &self,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        let request = async |by: &Caller| {
            api::files::unmount_root(flags, self.context.bond(by), || self.view())
        };
        let unmount = async |engine: Engine, root| engine.unmount_root(root).await;
        self.context.act_by(&header, request, unmount).await
    }

    async fn connect_network(
        &self,
        network: ObjectPath<'_>,
        options: Dict,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        let request = || {
            let connection = api::network::connection(values(options)?)?;
            let network = self.network(&network)?.name.to_string();
            Ok(Connect { container: self.view()?, asked: AskedConnection { network, connection } })
        };
        let connect = async |engine: Engine, connect| engine.connect(connect).await;
        self.context.act(&header, request, connect).await
    }

    async fn disconnect_network(
        &self,
        network: ObjectPath<'_>,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        let request = || {
            self::flags(flags, 0)?;
            Ok(Disconnect { container: self.view()?, network: self.network(&network)? })
        };
        let disconnect = async |engine: Engine, disconnect| engine.disconnect(disconnect).await;
        self.context.act(&header, request, disconnect).await
    }

    #[zbus(out_args("published"))]
    async fn publish_ports(
        &self,
        ports: Vec<Dict>,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<HashMap<&'static str, Variant<'static>>>, ApiError> {
        let request = || {
            self::flags(flags, 0)?;
            Ok(Publish { container: self.view()?, ports: port_list(ports)? })
        };
        let publish = async |engine: Engine, publish| engine.publish(publish).await;
        let published = self.context.act(&header, request, publish).await?;
        Ok(published.iter().map(port).collect())
    }

    async fn unpublish_ports(
        &self,
        ports: Vec<Dict>,
        flags: u64,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        let request = || {
            self::flags(flags, 0)?;
            Ok(Unpublish { container: self.view()?, ports: port_list(ports)? })
        };
        let unpublish = async |engine: Engine, unpublish| engine.unpublish(unpublish).await;
        self.context.act(&header, request, unpublish).await
    }

    #[zbus(signal)]
    pub(crate) async fn exited(
        emitter: &SignalEmitter<'_>,
        exit_code: i32,
        signal: i32,
        reason: &str,
        timestamp: u64,
    ) -> zbus::Result<()>;

    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> String {
        self.id.to_string()
    }

    #[zbus(property)]
    fn name(&self) -> String {
        self.shown.get().name.to_string()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn image_id(&self) -> String {
        self.shown.get().image_id.to_string()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn image_reference(&self) -> String {
        self.shown.get().image_reference.clone()
    }

    #[zbus(property(emits_changed_signal = "const"), name = "OwnerUID")]
    fn owner_uid(&self) -> u32 {
        self.shown.get().owner_uid
    }

    #[zbus(property)]
    fn privileged(&self) -> bool {
        self.shown.get().privileged
    }

    #[zbus(property)]
    fn state(&self) -> &'static str {
        self.shown.get().state.as_str()
    }

    #[zbus(property, name = "PID")]
    fn pid(&self) -> u32 {
        self.shown.get().process.map_or(0, |process| process.pid)
    }

    #[zbus(property, name = "PIDFDId")]
    fn pidfd_id(&self) -> u64 {
        self.shown.get().process.map_or(0, |process| process.pidfd_id)
    }

    #[zbus(property)]
    fn exit_code(&self) -> i32 {
        self.shown.get().exit.map_or(-1, |exit| exit.code)
    }

    #[zbus(property)]
    fn exit_signal(&self) -> i32 {
        self.shown.get().exit.map_or(0, |exit| exit.signal)
    }

    #[zbus(property)]
    fn exit_reason(&self) -> &'static str {
        self.shown.get().exit.map_or("", |exit| exit.reason.as_str())
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn created_timestamp(&self) -> u64 {
        self.shown.get().created.0
    }

    #[zbus(property)]
    fn started_timestamp(&self) -> u64 {
        self.shown.get().started.unwrap_or_default().0
    }

    #[zbus(property)]
    fn started_timestamp_monotonic(&self) -> u64 {
        self.shown.get().started_monotonic.unwrap_or_default().0
    }

    #[zbus(property)]
    fn finished_timestamp(&self) -> u64 {
        self.shown.get().finished.unwrap_or_default().0
    }

    #[zbus(property)]
    fn restart_policy(&self) -> String {
        self.shown.get().lifecycle.restart.to_string()
    }

    #[zbus(property)]
    fn restart_count(&self) -> u32 {
        self.shown.get().restarts
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn auto_remove(&self) -> bool {
        self.shown.get().lifecycle.auto_remove
    }

    #[zbus(property)]
    fn health(&self) -> &'static str {
        self.shown.get().health.as_str()
    }

    #[zbus(property(emits_changed_signal = "const"), name = "TTY")]
    fn tty(&self) -> bool {
        self.shown.get().terminal
    }

    #[zbus(property, name = "CGroupPath")]
    fn cgroup_path(&self) -> String {
        self.shown.get().cgroup.clone()
    }

    #[zbus(property)]
    fn networks(&self) -> Vec<OwnedObjectPath> {
        let view = self.shown.get();
        view.networks.iter().map(|name| paths::of(&ObjectId::Network(name.clone()))).collect()
    }

    #[zbus(property)]
    fn published_ports(&self) -> Vec<HashMap<&'static str, Variant<'static>>> {
        self.shown.get().ports.iter().map(port).collect()
    }

    #[zbus(property, name = "IPAddresses")]
    fn ip_addresses(&self) -> Vec<HashMap<&'static str, Variant<'static>>> {
        self.shown.get().addresses.iter().map(address).collect()
    }

    #[zbus(property)]
    fn jobs(&self) -> Vec<OwnedObjectPath> {
        self.shown.get().jobs.iter().map(|id| paths::of(&ObjectId::Job(*id))).collect()
    }

    #[zbus(property)]
    fn processes(&self) -> Vec<OwnedObjectPath> {
        let view = self.shown.get();
        let id = |number: &u32| ObjectId::Process(view.id.clone(), *number);
        view.processes.iter().map(|number| paths::of(&id(number))).collect()
    }

    #[zbus(property(emits_changed_signal = "invalidates"))]
    fn limits(&self) -> HashMap<&'static str, Variant<'static>> {
        super::limits::dict(&self.shown.get())
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn public_labels(&self) -> BTreeMap<String, String> {
        self.shown.get().public_labels.clone()
    }
}

/// Pipes by the names of what they lead to.
fn named(
    pipes: [Option<std::os::fd::OwnedFd>; 3],
) -> impl Iterator<Item = (&'static str, Fd<'static>)> {
    let fds = ["stdin", "stdout", "stderr"].into_iter().zip(pipes);
    fds.filter_map(|(name, fd)| Some((name, fd?.into())))
}

fn change(change: Change) -> (&'static str, Vec<u8>) {
    let kind = match change.kind {
        ChangeKind::Added => "added",
        ChangeKind::Modified => "modified",
        ChangeKind::Deleted => "deleted",
    };
    (kind, change.path.into_os_string().into_vec())
}

fn process(process: &ProcessRow) -> HashMap<&'static str, Variant<'static>> {
    HashMap::from([
        ("PID", Variant::from(process.pid)),
        ("ParentPID", process.parent.into()),
        ("ContainerPID", process.pid_inside.into()),
        ("UID", process.uid.into()),
        ("State", process.state.to_string().into()),
        ("Command", process.command.clone().into()),
        ("CPUUsageNSec", process.cpu_nsec.into()),
        ("MemoryResident", process.resident.into()),
    ])
}

fn address(address: &view::Address) -> HashMap<&'static str, Variant<'static>> {
    let gateway = address.gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
    let network = paths::of(&ObjectId::Network(address.network.clone()));
    HashMap::from([
        ("Network", Variant::from(ObjectPath::from(network))),
        ("Interface", address.interface.to_string().into()),
        ("Address", address.address.to_string().into()),
        ("Gateway", gateway.into()),
        ("MAC", address.mac.to_string().into()),
    ])
}

fn port(port: &view::Port) -> HashMap<&'static str, Variant<'static>> {
    let at = port.at.map(|at| at.to_string()).unwrap_or_default();
    HashMap::from([
        ("HostAddress", Variant::from(at)),
        ("HostPort", port.host.into()),
        ("ContainerPort", port.container.into()),
        ("Range", port.count.into()),
        ("Protocol", port.protocol.as_str().into()),
    ])
}

fn port_list(ports: Vec<Dict>) -> Result<Vec<PortRequest>, ApiError> {
    api::network::port_list(ports.into_iter().map(values).collect::<Result<_, _>>()?)
}

/// A container in a list.
pub(crate) fn row(view: &view::Container) -> HashMap<&'static str, Variant<'static>> {
    let labels: HashMap<String, String> = view.public_labels.clone().into_iter().collect();
    HashMap::from([
        ("Path", Variant::from(zbus::ObjectPath::from(paths::of(&view.id())))),
        ("Id", view.id.to_string().into()),
        ("Name", view.name.to_string().into()),
        ("State", view.state.as_str().into()),
        ("PID", view.process.map_or(0, |process| process.pid).into()),
        ("ExitCode", view.exit.map_or(-1, |exit| exit.code).into()),
        ("ImageId", view.image_id.to_string().into()),
        ("ImageReference", view.image_reference.clone().into()),
        ("CreatedTimestamp", view.created.0.into()),
        ("OwnerUID", view.owner_uid.into()),
        ("PublicLabels", labels.into()),
    ])
}
