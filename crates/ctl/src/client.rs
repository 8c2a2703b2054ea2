//! The interfaces of the contract, as far as the commands need them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use zbus::address::transport::{Transport, Unix, UnixSocket};
use zbus::connection::Builder;
use zbus::{
    Address, Connection, Fd, ObjectPath, OwnedFd, OwnedObjectPath, OwnedVariant, Variant, proxy,
};

/// Options as they are sent.
pub(crate) type Options<'a> = HashMap<&'static str, Variant<'a>>;
/// One row of a list.
pub(crate) type Row = HashMap<String, OwnedVariant>;

/// Connects to the bus at `address`, or to the system bus.
pub(crate) async fn connect(address: Option<&str>) -> zbus::Result<Connection> {
    match address {
        Some(address) => match escaped_path(address) {
            Some(path) => {
                let socket = Unix::new(UnixSocket::File(path));
                Builder::address(Address::from(Transport::Unix(socket))).build().await
            }
            None => Builder::address(address).build().await,
        },
        None => Connection::system().await,
    }
}

/// The path in an address that has escapes in it, as `tared` prints it; zbus would take them for what
/// they stand as.
fn escaped_path(address: &str) -> Option<PathBuf> {
    let path = address.strip_prefix("unix:path=").filter(|path| path.contains('%'))?;
    let path = path.split(',').next().unwrap_or_default();
    let bytes = percent_encoding::percent_decode_str(path).collect::<Vec<u8>>();
    Some(OsString::from_vec(bytes).into())
}

#[proxy(
    interface = "org.tare.Containers1.Manager",
    default_service = "org.tare.Containers1",
    default_path = "/org/tare/Containers1"
)]
pub(crate) trait Manager {
    fn get_container(&self, id_or_name: &str) -> zbus::Result<OwnedObjectPath>;
    fn list_containers(&self, filter: Options<'_>) -> zbus::Result<(Vec<Row>, u64)>;
    #[zbus(allow_interactive_auth)]
    fn create_container(
        &self,
        name: &str,
        image: &str,
        options: Options<'_>,
    ) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn generate_spec(
        &self,
        image: &str,
        options: Options<'_>,
        flags: u64,
    ) -> zbus::Result<(String, Vec<String>, String)>;
    #[zbus(allow_interactive_auth)]
    fn inspect_container(&self, name: &str, flags: u64) -> zbus::Result<String>;
    fn get_stats(&self, containers: &[OwnedObjectPath], flags: u64) -> zbus::Result<Vec<Row>>;
    #[zbus(allow_interactive_auth)]
    fn run_container(
        &self,
        name: &str,
        image: &str,
        options: Options<'_>,
    ) -> zbus::Result<OwnedObjectPath>;
    fn get_volume(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn list_volumes(&self, filter: Options<'_>) -> zbus::Result<(Vec<Row>, u64)>;
    fn list_checkpoints(&self, filter: Options<'_>) -> zbus::Result<(Vec<Row>, u64)>;
    #[zbus(allow_interactive_auth)]
    fn create_volume(&self, name: &str, options: Options<'_>) -> zbus::Result<OwnedObjectPath>;
    fn get_secret(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn list_secrets(&self, filter: Options<'_>) -> zbus::Result<(Vec<Row>, u64)>;
    #[zbus(allow_interactive_auth)]
    fn create_secret(
        &self,
        name: &str,
        data: Fd<'_>,
        options: Options<'_>,
    ) -> zbus::Result<OwnedObjectPath>;
    fn get_image(&self, reference: &str) -> zbus::Result<OwnedObjectPath>;
    fn list_images(&self, filter: Options<'_>) -> zbus::Result<(Vec<Row>, u64)>;
    #[zbus(allow_interactive_auth)]
    fn import_image(&self, archive: Fd<'_>, options: Options<'_>) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn pull_image(&self, reference: &str, options: Options<'_>) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn prune(&self, kinds: &[&str], filter: Options<'_>) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn export_images(
        &self,
        references: &[String],
        archive: Fd<'_>,
        options: Options<'_>,
    ) -> zbus::Result<OwnedObjectPath>;

    fn get_network(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn list_networks(&self, filter: Options<'_>) -> zbus::Result<(Vec<Row>, u64)>;
    #[zbus(allow_interactive_auth)]
    fn create_network(&self, name: &str, options: Options<'_>) -> zbus::Result<OwnedObjectPath>;

    fn get_events(&self, since: u64, max: u32) -> zbus::Result<(u64, Vec<Row>)>;
    fn subscribe(&self, flags: u64) -> zbus::Result<()>;

    #[zbus(signal)]
    fn event(
        &self,
        seqnum: u64,
        timestamp: u64,
        r#type: &str,
        action: &str,
        object: OwnedObjectPath,
        attributes: HashMap<String, OwnedVariant>,
    ) -> zbus::Result<()>;
    #[zbus(signal)]
    fn job_removed(
        &self,
        id: u32,
        job: OwnedObjectPath,
        r#type: &str,
        object: OwnedObjectPath,
        result: &str,
        error_name: &str,
        error_message: &str,
    ) -> zbus::Result<()>;
}

#[proxy(interface = "org.tare.Containers1.Container", default_service = "org.tare.Containers1")]
pub(crate) trait Container {
    #[zbus(allow_interactive_auth)]
    fn prepare(&self, options: Options<'_>) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn cleanup(&self, flags: u64) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn start(&self, flags: u64, options: Options<'_>) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn stop(&self, timeout_usec: u64, flags: u64) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn restart(&self, timeout_usec: u64, flags: u64) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn pause(&self, flags: u64) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn resume(&self, flags: u64) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn kill(&self, whom: &str, signal: i32, flags: u64) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn rename(&self, new_name: &str, flags: u64) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn update(&self, limits: Options<'_>) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn remove(&self, flags: u64) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn exec(
        &self,
        argv: &[&str],
        options: Options<'_>,
    ) -> zbus::Result<(OwnedObjectPath, HashMap<String, OwnedFd>)>;
    #[zbus(allow_interactive_auth)]
    fn attach(&self, options: Options<'_>) -> zbus::Result<HashMap<String, OwnedFd>>;
    #[zbus(allow_interactive_auth)]
    fn resize(&self, rows: u16, columns: u16) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn get_changes(&self, max: u32, flags: u64) -> zbus::Result<(Vec<(String, Vec<u8>)>, bool)>;
    #[zbus(allow_interactive_auth)]
    fn export(&self, archive: Fd<'_>, options: Options<'_>) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn mount_rootfs(&self, flags: u64) -> zbus::Result<String>;
    #[zbus(allow_interactive_auth)]
    fn unmount_rootfs(&self, flags: u64) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn commit(&self, reference: &str, options: Options<'_>) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn checkpoint(&self, options: Options<'_>) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn restore(
        &self,
        checkpoint: &OwnedObjectPath,
        options: Options<'_>,
    ) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn copy_in(
        &self,
        archive: Fd<'_>,
        path: &str,
        options: Options<'_>,
    ) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn copy_out(
        &self,
        path: &str,
        archive: Fd<'_>,
        options: Options<'_>,
    ) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn get_processes(&self, flags: u64) -> zbus::Result<Vec<Row>>;
    #[zbus(allow_interactive_auth)]
    fn open_logs(&self, options: Options<'_>) -> zbus::Result<OwnedFd>;

    #[zbus(allow_interactive_auth)]
    fn connect_network(&self, network: &ObjectPath<'_>, options: Options<'_>) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn disconnect_network(&self, network: &ObjectPath<'_>, flags: u64) -> zbus::Result<()>;

    #[zbus(signal)]
    fn exited(&self, exit_code: i32, signal: i32, reason: &str, timestamp: u64)
    -> zbus::Result<()>;

    #[zbus(property)]
    fn id(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn state(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn exit_code(&self) -> zbus::Result<i32>;
    #[zbus(property(emits_changed_signal = "const"), name = "TTY")]
    fn tty(&self) -> zbus::Result<bool>;
}

#[proxy(interface = "org.tare.Containers1.Network", default_service = "org.tare.Containers1")]
pub(crate) trait Network {
    #[zbus(allow_interactive_auth)]
    fn remove(&self, flags: u64) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn update(&self, options: Options<'_>) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn inspect(&self, flags: u64) -> zbus::Result<String>;
}

#[proxy(interface = "org.tare.Containers1.Image", default_service = "org.tare.Containers1")]
pub(crate) trait Image {
    #[zbus(allow_interactive_auth)]
    fn remove(&self, flags: u64) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn tag(&self, reference: &str, flags: u64) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn untag(&self, reference: &str, flags: u64) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn push(&self, destination: &str, options: Options<'_>) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn inspect(&self, flags: u64) -> zbus::Result<String>;
    #[zbus(allow_interactive_auth)]
    fn get_history(&self) -> zbus::Result<Vec<Row>>;

    #[zbus(property(emits_changed_signal = "false"))]
    fn references(&self) -> zbus::Result<Vec<String>>;
}

#[proxy(interface = "org.tare.Containers1.Job", default_service = "org.tare.Containers1")]
pub(crate) trait Job {
    fn open_log(&self, flags: u64) -> zbus::Result<OwnedFd>;

    #[zbus(property(emits_changed_signal = "false"))]
    fn output(&self) -> zbus::Result<HashMap<String, OwnedVariant>>;
}

/// The network of that name.
pub(crate) async fn network<'c>(
    connection: &'c Connection,
    name: &str,
) -> zbus::Result<NetworkProxy<'c>> {
    let path = ManagerProxy::new(connection).await?.get_network(name).await?;
    NetworkProxy::builder(connection)
        .path(path)
        .cache_properties(zbus::proxy::CacheProperties::No)
        .build()
        .await
}

#[proxy(interface = "org.tare.Containers1.Secret", default_service = "org.tare.Containers1")]
pub(crate) trait Secret {
    #[zbus(allow_interactive_auth)]
    fn remove(&self, flags: u64) -> zbus::Result<()>;
    #[zbus(allow_interactive_auth)]
    fn replace(&self, data: Fd<'_>, flags: u64) -> zbus::Result<()>;
}

/// The secret of that name.
pub(crate) async fn secret<'c>(
    connection: &'c Connection,
    name: &str,
) -> zbus::Result<SecretProxy<'c>> {
    let path = ManagerProxy::new(connection).await?.get_secret(name).await?;
    SecretProxy::builder(connection).path(path).build().await
}

#[proxy(interface = "org.tare.Containers1.Volume", default_service = "org.tare.Containers1")]
pub(crate) trait Volume {
    #[zbus(allow_interactive_auth)]
    fn export(&self, archive: Fd<'_>, options: Options<'_>) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn import(&self, archive: Fd<'_>, options: Options<'_>) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn get_usage(&self, flags: u64) -> zbus::Result<u64>;
    #[zbus(allow_interactive_auth)]
    fn remove(&self, flags: u64) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn inspect(&self, flags: u64) -> zbus::Result<String>;
}

/// The volume of that name.
pub(crate) async fn volume<'c>(
    connection: &'c Connection,
    name: &str,
) -> zbus::Result<VolumeProxy<'c>> {
    let path = ManagerProxy::new(connection).await?.get_volume(name).await?;
    VolumeProxy::builder(connection).path(path).build().await
}

#[proxy(interface = "org.tare.Containers1.Checkpoint", default_service = "org.tare.Containers1")]
pub(crate) trait Checkpoint {
    #[zbus(allow_interactive_auth)]
    fn restore_as(&self, name: &str, options: Options<'_>) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn remove(&self, flags: u64) -> zbus::Result<OwnedObjectPath>;
    #[zbus(allow_interactive_auth)]
    fn inspect(&self, flags: u64) -> zbus::Result<String>;
}

/// The checkpoint of that path.
pub(crate) async fn checkpoint(
    connection: &Connection,
    path: OwnedObjectPath,
) -> zbus::Result<CheckpointProxy<'_>> {
    CheckpointProxy::builder(connection).path(path).build().await
}

/// The image of that name or digest.
pub(crate) async fn image<'c>(
    connection: &'c Connection,
    name: &str,
) -> zbus::Result<ImageProxy<'c>> {
    let path = ManagerProxy::new(connection).await?.get_image(name).await?;
    ImageProxy::builder(connection)
        .path(path)
        .cache_properties(zbus::proxy::CacheProperties::No)
        .build()
        .await
}

/// The container of that name or id.
pub(crate) async fn container<'c>(
    connection: &'c Connection,
    name: &str,
) -> zbus::Result<ContainerProxy<'c>> {
    let path = ManagerProxy::new(connection).await?.get_container(name).await?;
    ContainerProxy::builder(connection)
        .path(path)
        .cache_properties(zbus::proxy::CacheProperties::No)
        .build()
        .await
}
