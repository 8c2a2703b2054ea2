//! What operations are done to: one container, one network, one volume, some images.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use serde::Serialize;
use system_tests::image::file_of;
use system_tests::{Client, Ended, Options, ROOT, Refused, asked_in};
use tar::{Builder, EntryType, Header};
use zbus::{DynamicType, OwnedObjectPath, Variant};

use super::{CreateNetwork, Exec, Operation, Publish, Remove, SECOND};
use crate::lab::Lab;

/// Names are answered within this, also by a server that was killed a moment ago.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// The volume that a container has.
pub(crate) const VOLUME: &str = "v";

/// Brings about what stays after its first use: another network, bridges, the firewall, what comes with
/// the first published port.
pub async fn ask_for_what_stays(lab: &Lab<'_>) {
    let client = lab.client();
    if client.manager::<_, OwnedObjectPath>("GetNetwork", &SECOND).await.is_err() {
        let body = (SECOND, Options::from([("IPv6", true.into())]));
        client.manager::<_, OwnedObjectPath>("CreateNetwork", &body).await.unwrap();
    }
    create_with_all(client).await.unwrap();
    Exec.prepare(lab).await;
    Exec.clear(client).await;
    Exec.prepare(lab).await;
    Publish.run(client).await.unwrap();
    Exec.clear(client).await;
}

/// Takes away what does not go with the daemon.
pub async fn take_away_what_stays(client: &Client) {
    clear(client).await;
    if let Ok(second) = client.manager::<_, OwnedObjectPath>("GetNetwork", &SECOND).await {
        refused(client.call(&second, "Network", "Remove", &0_u64).await).unwrap();
    }
}

/// Nothing of what operations make is there any more.
pub(super) async fn clear(client: &Client) {
    if container(client).await.is_some() {
        Remove.run(client).await.unwrap();
    }
    if let Some(volume) = volume(client).await {
        done(client.job(&volume, "Volume", "Remove", &0_u64).await).unwrap();
    }
    if network(client).await.is_some() {
        CreateNetwork.clear(client).await;
    }
}

/// Makes a container with little of its own.
pub(super) async fn create(client: &Client) -> Result<(), String> {
    refused(client.create_with("c", plain()).await)
}

/// What a container with little of its own is made of.
pub(super) fn plain<'a>() -> Options<'a> {
    // To be stopped at once, where it is stopped.
    let command = ("Command", vec!["/bin/busybox", "sleep", "1000"].into());
    Options::from([command, ("StopSignal", 9_i32.into())])
}

/// Makes a container that has one of all that takes steps of its own when it is made or started.
pub(super) async fn create_with_all(client: &Client) -> Result<(), String> {
    refused(client.create_with("c", all()).await)
}

fn all<'a>() -> Options<'a> {
    let port = |protocol: &'a str| {
        let (host, container) = (8082_u16.into(), 80_u16.into());
        Options::from([
            ("HostPort", host),
            ("ContainerPort", container),
            ("Protocol", protocol.into()),
        ])
    };
    let at = |target: &'a str| ("Target", Variant::from(target));
    let named = Options::from([("Name", VOLUME.into()), at("/named")]);
    let of_host = [("Source", "/usr".into()), at("/host"), ("ReadOnly", true.into())];
    let of_image = Options::from([("Image", "busybox".into()), at("/image")]);
    let on = |network: &'a str| Options::from([("Network", network.into())]);
    let mut options = plain();
    options.extend([
        ("PublishedPorts", vec![port("tcp"), port("udp")].into()),
        ("Volumes", vec![named, Options::from([at("/own")])].into()),
        ("Mounts", vec![Options::from(of_host), of_image].into()),
        ("Tmpfs", vec![Options::from([at("/memory")])].into()),
        ("Networks", vec![on("tare"), on(SECOND)].into()),
    ]);
    options
}

/// The container that all is tried on, if it is there.
pub(super) async fn container(client: &Client) -> Option<OwnedObjectPath> {
    client.manager("GetContainer", &"c").await.ok()
}

pub(super) async fn the_container(client: &Client) -> OwnedObjectPath {
    container(client).await.expect("it was prepared")
}

pub(super) async fn state(client: &Client) -> String {
    match container(client).await {
        Some(path) => client.container(&path).await.text("State"),
        None => "none".into(),
    }
}

pub(super) async fn network(client: &Client) -> Option<OwnedObjectPath> {
    client.manager("GetNetwork", &"n").await.ok()
}

pub(super) async fn the_network(client: &Client) -> OwnedObjectPath {
    network(client).await.expect("it was prepared")
}

pub(super) async fn volume(client: &Client) -> Option<OwnedObjectPath> {
    client.manager("GetVolume", &VOLUME).await.ok()
}

pub(super) async fn image(client: &Client, reference: &str) -> Option<OwnedObjectPath> {
    client.manager("GetImage", &reference).await.ok()
}

pub(super) async fn the_image(client: &Client, reference: &str) -> OwnedObjectPath {
    image(client, reference).await.expect("it was prepared")
}

/// Imports an image of a few files.
pub(super) async fn import(client: &Client, reference: &str) -> Result<(), String> {
    let archive = file_of(&small_tar(reference.as_bytes()));
    let mut options = Options::new();
    if !reference.is_empty() {
        options.insert("Reference", reference.into());
    }
    done(client.import(&archive, options).await)
}

pub(super) async fn remove_image(client: &Client, reference: &str) {
    if let Some(image) = image(client, reference).await {
        done(client.job(&image, "Image", "Remove", &1_u64).await).unwrap();
    }
}

/// Whether a container that runs finds itself by its name, on all of its networks, before long.
pub async fn is_found(client: &Client) -> bool {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        match asked_in_vain(client).await {
            0 => return true,
            _ if tokio::time::Instant::now() > end => return false,
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// How many of the servers of its networks do not answer that.
async fn asked_in_vain(client: &Client) -> usize {
    let properties = client.container(&the_container(client).await).await;
    let namespace = namespace_of(&properties.text("Id"));
    let addresses: Vec<HashMap<String, Variant<'static>>> =
        properties.get::<Variant<'static>>("IPAddresses").try_into().unwrap();
    let servers = addresses.iter().filter_map(|it| it.get("Gateway"));
    let servers = servers.map(|it| String::try_from(it.try_clone().unwrap()).unwrap());
    // At addresses of IPv4: the others are answered by the same.
    let servers = servers.filter(|it| it.contains('.'));
    servers.filter(|server| asked_in(&namespace, server, "c").is_none()).count()
}

/// The name that its network namespace has on the host.
fn namespace_of(id: &str) -> String {
    let names = fs::read_dir("/run/netns").unwrap();
    let mut names = names.filter_map(|it| it.unwrap().file_name().into_string().ok());
    names.find(|name| name.ends_with(&id[..12])).expect("it runs")
}

/// A job of the container's.
pub(super) async fn job<B>(client: &Client, method: &str, body: &B) -> Result<(), String>
where
    B: Serialize + DynamicType,
{
    let path = the_container(client).await;
    done(client.job(&path, "Container", method, body).await)
}

/// A call of the container's.
pub(super) async fn call<B>(client: &Client, method: &str, body: &B) -> Result<(), String>
where
    B: Serialize + DynamicType,
{
    let path = the_container(client).await;
    refused(client.call(&path, "Container", method, body).await)
}

/// A job of the manager's.
pub(super) async fn manage<B>(client: &Client, method: &str, body: &B) -> Result<(), String>
where
    B: Serialize + DynamicType,
{
    done(client.job(ROOT, "Manager", method, body).await)
}

pub(super) fn refused<T>(called: Result<T, Refused>) -> Result<(), String> {
    called.map(drop).map_err(|refused| format!("{refused:?}"))
}

pub(super) fn done(ended: Result<Ended, Refused>) -> Result<(), String> {
    match ended {
        Ok(ended) if ended.result == "done" => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// One of each kind of entry.
pub(super) fn small_tar(content: &[u8]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    let header = |kind, mode, size: usize| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header
    };
    tar.append_data(&mut header(EntryType::Directory, 0o755, 0), "d", &b""[..]).unwrap();
    let mut file = header(EntryType::Regular, 0o600, content.len());
    tar.append_data(&mut file, "d/file", content).unwrap();
    tar.append_link(&mut header(EntryType::Symlink, 0o777, 0), "d/symbolic", "file").unwrap();
    tar.append_link(&mut header(EntryType::Link, 0o600, 0), "d/hard", "d/file").unwrap();
    tar.into_inner().unwrap()
}
