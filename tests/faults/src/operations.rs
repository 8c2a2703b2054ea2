//! What is tried: what has to be there before, what is done, and how it is taken away again.

use std::fs;

use serde::Serialize;
use system_tests::image::file_of;
use system_tests::{Client, Ended, Options, Refused};
use tar::{Builder, EntryType, Header};
use zbus::{DynamicType, OwnedObjectPath};

use crate::lab::Lab;

/// What a failed operation owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owes {
    /// All is as it was before.
    Before,
    /// It can be repeated, and then all is as if it had not failed.
    Retry,
}

/// Until when something stays that a failed operation could not take back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Somebody stops the container.
    Stopped,
    /// The daemon starts again.
    Restarted,
    /// Somebody removes the container.
    Removed,
}

/// What a daemon can be asked to do.
#[expect(async_fn_in_trait, reason = "tests have one thread")]
pub trait Operation {
    /// For people.
    const NAME: &str;
    /// What it owes if it fails.
    const OWES: Owes;
    /// Until when something stays that could not be taken back.
    const LEFTOVERS: Until;

    /// Makes what it needs, or what of that is missing.
    async fn prepare(&mut self, lab: &Lab<'_>);

    /// Does it, or says why it was not done.
    async fn run(&self, client: &Client) -> Result<(), String>;

    /// Whether it is done, and done whole.
    async fn is_whole(&self, client: &Client) -> bool;

    /// Takes away what was prepared and done.
    async fn clear(&self, client: &Client) {
        if container(client).await.is_some() {
            Remove.run(client).await.unwrap();
        }
    }
}

/// Creates a container.
#[derive(Debug)]
pub struct Create;

impl Operation for Create {
    const NAME: &str = "create";
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Restarted;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        self.clear(lab.client()).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        // To be stopped at once, where it is stopped.
        let command = ("Command", vec!["/bin/busybox", "sleep", "1000"].into());
        let options = Options::from([command, ("StopSignal", 9_i32.into())]);
        let created = client.create_with("c", options).await;
        created.map(drop).map_err(|refused| format!("{refused:?}"))
    }

    async fn is_whole(&self, client: &Client) -> bool {
        state(client).await == "configured"
    }
}

/// Starts a container that ran before.
#[derive(Debug)]
pub struct Start;

impl Operation for Start {
    const NAME: &str = "start";
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Stopped;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        // Not again if it has run already.
        if state(lab.client()).await != "exited" {
            Exec.prepare(lab).await;
            Stop.run(lab.client()).await.unwrap();
        }
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        job(client, "Start", &(0_u64, Options::new())).await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        Exec.is_whole(client).await
    }
}

/// Runs a process in a container.
#[derive(Debug)]
pub struct Exec;

impl Operation for Exec {
    const NAME: &str = "exec";
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Removed;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        let client = lab.client();
        if container(client).await.is_none() {
            Create.run(client).await.unwrap();
        }
        if state(client).await != "running" {
            Start.run(client).await.unwrap();
        }
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let argv = ["/bin/busybox", "echo", "hello"];
        let path = the_container(client).await;
        match client.exec_argv(&path, &argv, Options::new(), b"").await {
            Ok(executed) if (executed.code, executed.stdout.as_str()) == (0, "hello\n") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    async fn is_whole(&self, client: &Client) -> bool {
        state(client).await == "running" && self.run(client).await.is_ok()
    }
}

/// Stops a container.
#[derive(Debug)]
pub struct Stop;

impl Operation for Stop {
    const NAME: &str = "stop";
    const OWES: Owes = Owes::Retry;
    const LEFTOVERS: Until = Until::Stopped;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        Exec.prepare(lab).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        job(client, "Stop", &(1_000_000_u64, 0_u64)).await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        state(client).await == "exited"
    }
}

/// Removes a container that has files and a log.
#[derive(Debug)]
pub struct Remove;

impl Operation for Remove {
    const NAME: &str = "remove";
    const OWES: Owes = Owes::Retry;
    const LEFTOVERS: Until = Until::Stopped;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        let client = lab.client();
        if container(client).await.is_none() {
            Create.run(client).await.unwrap();
        }
        let id = client.container(&the_container(client).await).await.text("Id");
        let state = lab.state_dir();
        let dir = state.join("containers").join(&id).join("upper/etc");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("hosts"), "what it wrote").unwrap();
        fs::write(state.join("logs").join(&id), "what it said").unwrap();
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        job(client, "Remove", &1_u64).await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        container(client).await.is_none()
    }
}

/// Imports an image: another one each time that went well, since there they stay.
#[derive(Debug, Default)]
pub struct Import {
    number: u32,
}

impl Import {
    fn reference(&self) -> String {
        format!("tried-{:04}", self.number)
    }
}

impl Operation for Import {
    const NAME: &str = "import";
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Restarted;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        while self.is_whole(lab.client()).await {
            self.number += 1;
        }
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let reference = self.reference();
        let archive = file_of(&small_tar(reference.as_bytes()));
        let options = Options::from([("Reference", reference.as_str().into())]);
        done(client.import(&archive, options).await)
    }

    async fn is_whole(&self, client: &Client) -> bool {
        let reference = self.reference();
        client.manager::<_, OwnedObjectPath>("GetImage", &reference.as_str()).await.is_ok()
    }
}

/// Makes a network; nothing of it is on the host.
#[derive(Debug)]
pub struct CreateNetwork;

impl Operation for CreateNetwork {
    const NAME: &str = "create a network";
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Restarted;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        self.clear(lab.client()).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let body = ("n", Options::new());
        let made = client.manager::<_, OwnedObjectPath>("CreateNetwork", &body).await;
        made.map(drop).map_err(|refused| format!("{refused:?}"))
    }

    async fn is_whole(&self, client: &Client) -> bool {
        network(client).await.is_some()
    }

    async fn clear(&self, client: &Client) {
        if network(client).await.is_some() {
            RemoveNetwork.run(client).await.unwrap();
        }
    }
}

/// Removes a network that was used, and takes the container off it that is on it.
#[derive(Debug)]
pub struct RemoveNetwork;

impl Operation for RemoveNetwork {
    const NAME: &str = "remove a network";
    const OWES: Owes = Owes::Retry;
    const LEFTOVERS: Until = Until::Stopped;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        let client = lab.client();
        if network(client).await.is_none() {
            CreateNetwork.run(client).await.unwrap();
        }
        Exec.prepare(lab).await;
        if !Connect.is_whole(client).await {
            Connect.run(client).await.unwrap();
        }
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let Some(path) = network(client).await else { return Err("no network".into()) };
        let removed = client.call(&path, "Network", "Remove", &1_u64).await;
        removed.map(drop).map_err(|refused| format!("{refused:?}"))
    }

    async fn is_whole(&self, client: &Client) -> bool {
        network(client).await.is_none() && networks(client).await == 1
    }
}

/// Puts a container that runs on one more network.
#[derive(Debug)]
pub struct Connect;

impl Operation for Connect {
    const NAME: &str = "connect";
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Removed;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        // It was used before: its bridge stays.
        RemoveNetwork.prepare(lab).await;
        Disconnect.run(lab.client()).await.unwrap();
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let (path, network) = (the_container(client).await, the_network(client).await);
        let body = (network, Options::new());
        let done = client.call(&path, "Container", "ConnectNetwork", &body).await;
        done.map(drop).map_err(|refused| format!("{refused:?}"))
    }

    async fn is_whole(&self, client: &Client) -> bool {
        networks(client).await == 2
            && Exec.is_whole(client).await
            && interfaces(client).await == "eth0\neth1\nlo\n"
    }

    async fn clear(&self, client: &Client) {
        if container(client).await.is_some() {
            Remove.run(client).await.unwrap();
        }
        CreateNetwork.clear(client).await;
    }
}

/// Takes a container that runs off a network.
#[derive(Debug)]
pub struct Disconnect;

impl Operation for Disconnect {
    const NAME: &str = "disconnect";
    const OWES: Owes = Owes::Retry;
    const LEFTOVERS: Until = Until::Removed;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        RemoveNetwork.prepare(lab).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let (path, network) = (the_container(client).await, the_network(client).await);
        let done = client.call(&path, "Container", "DisconnectNetwork", &(network, 0_u64)).await;
        done.map(drop).map_err(|refused| format!("{refused:?}"))
    }

    async fn is_whole(&self, client: &Client) -> bool {
        networks(client).await == 1 && addresses(client).await == 1
    }

    async fn clear(&self, client: &Client) {
        Connect.clear(client).await;
    }
}

/// Publishes a port of a container that runs.
#[derive(Debug)]
pub struct Publish;

impl Operation for Publish {
    const NAME: &str = "publish a port";
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Removed;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        Exec.prepare(lab).await;
        if self.is_whole(lab.client()).await {
            Unpublish.run(lab.client()).await.unwrap();
        }
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        ports(client, "PublishPorts").await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        published(client).await == 1
    }
}

/// Publishes it no more.
#[derive(Debug)]
pub struct Unpublish;

impl Operation for Unpublish {
    const NAME: &str = "unpublish a port";
    const OWES: Owes = Owes::Retry;
    const LEFTOVERS: Until = Until::Removed;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        Exec.prepare(lab).await;
        if !Publish.is_whole(lab.client()).await {
            Publish.run(lab.client()).await.unwrap();
        }
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        ports(client, "UnpublishPorts").await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        published(client).await == 0
    }
}

async fn ports(client: &Client, method: &str) -> Result<(), String> {
    let port = Options::from([("HostPort", 8081_u16.into()), ("ContainerPort", 80_u16.into())]);
    let path = the_container(client).await;
    let done = client.call(&path, "Container", method, &(vec![port], 0_u64)).await;
    done.map(drop).map_err(|refused| format!("{refused:?}"))
}

/// How many ports of the container are published.
async fn published(client: &Client) -> usize {
    let Some(path) = container(client).await else { return 0 };
    let ports = client.container(&path).await.get::<zbus::Variant<'static>>("PublishedPorts");
    let ports: Vec<std::collections::HashMap<String, zbus::Variant<'static>>> =
        ports.try_into().unwrap();
    ports.len()
}

/// How many networks the container is on.
async fn networks(client: &Client) -> usize {
    let Some(path) = container(client).await else { return 0 };
    client.container(&path).await.paths("Networks").len()
}

/// How many addresses the container has.
async fn addresses(client: &Client) -> usize {
    let Some(path) = container(client).await else { return 0 };
    let addresses = client.container(&path).await.get::<zbus::Variant<'static>>("IPAddresses");
    let addresses: Vec<std::collections::HashMap<String, zbus::Variant<'static>>> =
        addresses.try_into().unwrap();
    addresses.len()
}

/// The interfaces that the container has, by name.
async fn interfaces(client: &Client) -> String {
    let Some(path) = container(client).await else { return String::new() };
    let argv = ["/bin/busybox", "ls", "/sys/class/net"];
    client.exec_argv(&path, &argv, Options::new(), b"").await.unwrap().stdout
}

async fn network(client: &Client) -> Option<OwnedObjectPath> {
    client.manager("GetNetwork", &"n").await.ok()
}

async fn the_network(client: &Client) -> OwnedObjectPath {
    network(client).await.expect("it was prepared")
}

/// The container that all is tried on, if it is there.
async fn container(client: &Client) -> Option<OwnedObjectPath> {
    client.manager("GetContainer", &"c").await.ok()
}

async fn the_container(client: &Client) -> OwnedObjectPath {
    container(client).await.expect("it was prepared")
}

async fn state(client: &Client) -> String {
    match container(client).await {
        Some(path) => client.container(&path).await.text("State"),
        None => "none".into(),
    }
}

/// A job of the container's.
async fn job<B>(client: &Client, method: &str, body: &B) -> Result<(), String>
where
    B: Serialize + DynamicType,
{
    let path = the_container(client).await;
    done(client.job(&path, "Container", method, body).await)
}

fn done(ended: Result<Ended, Refused>) -> Result<(), String> {
    match ended {
        Ok(ended) if ended.result == "done" => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// One of each kind of entry.
fn small_tar(content: &[u8]) -> Vec<u8> {
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
