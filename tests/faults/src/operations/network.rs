//! Networks, who is on them, and ports that lead there.

use std::collections::HashMap;

use system_tests::{Client, Options};
use zbus::{OwnedObjectPath, Variant};

use super::there::{container, is_found, network, refused, the_container, the_network};
use super::{Exec, Operation, Owes, Until};
use crate::helper::Helper;
use crate::lab::Lab;

/// A network, with addresses of both families, that stays.
pub const SECOND: &str = "second";

/// Makes a network; nothing of it is on the host.
#[derive(Debug, Default)]
pub struct CreateNetwork;

impl Operation for CreateNetwork {
    const NAME: &str = "create a network";
    const METHODS: &[&str] = &["Manager.CreateNetwork"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Restarted;
    const HELPERS: &[Helper] = &[Helper::Names];

    async fn prepare(&mut self, lab: &Lab<'_>) {
        self.clear(lab.client()).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let body = ("n", Options::new());
        let made = client.manager::<_, OwnedObjectPath>("CreateNetwork", &body).await;
        refused(made)
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
#[derive(Debug, Default)]
pub struct RemoveNetwork;

impl Operation for RemoveNetwork {
    const NAME: &str = "remove a network";
    const METHODS: &[&str] = &["Network.Remove"];
    const OWES: Owes = Owes::Retry;
    const LEFTOVERS: Until = Until::Stopped;
    const HELPERS: &[Helper] = &[Helper::Names];

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
        refused(removed)
    }

    async fn is_whole(&self, client: &Client) -> bool {
        network(client).await.is_none() && networks(client).await == 1
    }
}

/// Puts a container that runs on one more network.
#[derive(Debug, Default)]
pub struct Connect;

impl Operation for Connect {
    const NAME: &str = "connect";
    const METHODS: &[&str] = &["Container.ConnectNetwork"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Removed;
    const HELPERS: &[Helper] = &[Helper::Names];

    async fn prepare(&mut self, lab: &Lab<'_>) {
        // It was used before: its bridge stays.
        RemoveNetwork.prepare(lab).await;
        Disconnect.run(lab.client()).await.unwrap();
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let (path, network) = (the_container(client).await, the_network(client).await);
        let body = (network, Options::new());
        let done = client.call(&path, "Container", "ConnectNetwork", &body).await;
        refused(done)
    }

    async fn is_whole(&self, client: &Client) -> bool {
        networks(client).await == 2
            && Exec.is_whole(client).await
            && interfaces(client).await == "eth0\neth1\nlo\n"
            && is_found(client).await
    }
}

/// Takes a container that runs off a network.
#[derive(Debug, Default)]
pub struct Disconnect;

impl Operation for Disconnect {
    const NAME: &str = "disconnect";
    const METHODS: &[&str] = &["Container.DisconnectNetwork"];
    const OWES: Owes = Owes::Retry;
    const LEFTOVERS: Until = Until::Removed;
    const HELPERS: &[Helper] = &[Helper::Names];

    async fn prepare(&mut self, lab: &Lab<'_>) {
        RemoveNetwork.prepare(lab).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let (path, network) = (the_container(client).await, the_network(client).await);
        let done = client.call(&path, "Container", "DisconnectNetwork", &(network, 0_u64)).await;
        refused(done)
    }

    async fn is_whole(&self, client: &Client) -> bool {
        networks(client).await == 1 && addresses(client).await == 1 && is_found(client).await
    }
}

/// Publishes a port of a container that runs.
#[derive(Debug, Default)]
pub struct Publish;

impl Operation for Publish {
    const NAME: &str = "publish a port";
    const METHODS: &[&str] = &["Container.PublishPorts"];
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
#[derive(Debug, Default)]
pub struct Unpublish;

impl Operation for Unpublish {
    const NAME: &str = "unpublish a port";
    const METHODS: &[&str] = &["Container.UnpublishPorts"];
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
    refused(done)
}

/// How many ports of the container are published.
async fn published(client: &Client) -> usize {
    let Some(path) = container(client).await else { return 0 };
    let ports = client.container(&path).await.get::<Variant<'static>>("PublishedPorts");
    let ports: Vec<HashMap<String, Variant<'static>>> = ports.try_into().unwrap();
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
    let addresses = client.container(&path).await.get::<Variant<'static>>("IPAddresses");
    let addresses: Vec<HashMap<String, Variant<'static>>> = addresses.try_into().unwrap();
    addresses.len()
}

/// The interfaces that the container has, by name.
async fn interfaces(client: &Client) -> String {
    let Some(path) = container(client).await else { return String::new() };
    let argv = ["/bin/busybox", "ls", "/sys/class/net"];
    client.exec_argv(&path, &argv, Options::new(), b"").await.unwrap().stdout
}
