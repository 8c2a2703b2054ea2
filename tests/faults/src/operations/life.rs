//! The life of a container.

use std::fs;

use system_tests::{Client, Options};
use zbus::OwnedObjectPath;

use super::there::{
    call, clear, container, create, create_with_all, done, is_found, job, refused, state,
    the_container,
};
use super::{Exec, Operation, Owes, Until, volume};
use crate::helper::Helper;
use crate::lab::Lab;

/// Creates a container that has one of everything.
#[derive(Debug, Default)]
pub struct Create;

impl Operation for Create {
    const NAME: &str = "create";
    const METHODS: &[&str] = &["Manager.CreateContainer"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Restarted;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        self.clear(lab.client()).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        create_with_all(client).await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        state(client).await == "configured"
    }
}

/// Starts a container that ran before.
#[derive(Debug, Default)]
pub struct Start;

impl Operation for Start {
    const NAME: &str = "start";
    const METHODS: &[&str] = &["Container.Start"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Stopped;
    const HELPERS: &[Helper] = &[Helper::Spawn, Helper::Names];

    async fn prepare(&mut self, lab: &Lab<'_>) {
        if container(lab.client()).await.is_none() {
            create_with_all(lab.client()).await.unwrap();
        }
        // Not again if it has run already.
        if state(lab.client()).await != "exited" {
            Stop.prepare(lab).await;
            Stop.run(lab.client()).await.unwrap();
        }
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        job(client, "Start", &(0_u64, Options::new())).await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        Exec.is_whole(client).await && is_found(client).await
    }
}

/// Stops a container.
#[derive(Debug, Default)]
pub struct Stop;

impl Operation for Stop {
    const NAME: &str = "stop";
    const METHODS: &[&str] = &["Container.Stop"];
    const OWES: Owes = Owes::Retry;
    const LEFTOVERS: Until = Until::Stopped;
    const HELPERS: &[Helper] = &[Helper::Spawn, Helper::Names];

    async fn prepare(&mut self, lab: &Lab<'_>) {
        if container(lab.client()).await.is_none() {
            create_with_all(lab.client()).await.unwrap();
        }
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
#[derive(Debug, Default)]
pub struct Remove;

impl Operation for Remove {
    const NAME: &str = "remove";
    const METHODS: &[&str] = &["Container.Remove"];
    const OWES: Owes = Owes::Retry;
    // The volumes that were its own alone are removed after it, and it is gone whatever becomes of that.
    const LEFTOVERS: Until = Until::Restarted;
    const LEAVES: &[(&str, &str)] = volume::LEAVES;
    const HELPERS: &[Helper] = &[Helper::Names];

    async fn prepare(&mut self, lab: &Lab<'_>) {
        let client = lab.client();
        if container(client).await.is_none() {
            create_with_all(client).await.unwrap();
        }
        let id = client.container(&the_container(client).await).await.text("Id");
        let state = lab.state_dir();
        let dir = state.join("containers").join(&id).join("upper/etc");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("hosts"), "what it wrote").unwrap();
        fs::write(state.join("logs").join(&id), "what it said").unwrap();
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        // Also if it runs, and with the volume that is its own.
        job(client, "Remove", &3_u64).await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        container(client).await.is_none()
    }
}

/// Kills the first process of a container.
#[derive(Debug, Default)]
pub struct Kill;

impl Operation for Kill {
    const NAME: &str = "kill";
    const METHODS: &[&str] = &["Container.Kill"];
    const OWES: Owes = Owes::Again;
    const LEFTOVERS: Until = Until::Stopped;
    const HELPERS: &[Helper] = &[Helper::Spawn, Helper::Names];

    async fn prepare(&mut self, lab: &Lab<'_>) {
        Exec.prepare(lab).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let path = the_container(client).await;
        let seen = client.messages().len();
        refused(client.call(&path, "Container", "Kill", &("init", 9_i32, 0_u64)).await)?;
        client.exit_after(seen, &path).await;
        Ok(())
    }

    async fn is_whole(&self, client: &Client) -> bool {
        !["running", "none"].contains(&state(client).await.as_str())
    }
}

/// Stops all processes of a container where they are.
#[derive(Debug, Default)]
pub struct Pause;

impl Operation for Pause {
    const NAME: &str = "pause";
    const METHODS: &[&str] = &["Container.Pause"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Removed;
    const PART: &str = "runtime";

    async fn prepare(&mut self, lab: &Lab<'_>) {
        if state(lab.client()).await == "paused" {
            Resume.run(lab.client()).await.unwrap();
        }
        Exec.prepare(lab).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        call(client, "Pause", &0_u64).await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        state(client).await == "paused"
    }

    async fn is_undone(&self, client: &Client) -> bool {
        Exec.is_whole(client).await
    }
}

/// Lets them go on.
#[derive(Debug, Default)]
pub struct Resume;

impl Operation for Resume {
    const NAME: &str = "resume";
    const METHODS: &[&str] = &["Container.Resume"];
    const OWES: Owes = Owes::Again;
    const LEFTOVERS: Until = Until::Removed;
    const PART: &str = "runtime";

    async fn prepare(&mut self, lab: &Lab<'_>) {
        if state(lab.client()).await != "paused" {
            Exec.prepare(lab).await;
            Pause.run(lab.client()).await.unwrap();
        }
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        call(client, "Resume", &0_u64).await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        Exec.is_whole(client).await
    }
}

/// Gives a container that runs another name.
#[derive(Debug, Default)]
pub struct Rename;

impl Rename {
    async fn renamed(client: &Client) -> Option<OwnedObjectPath> {
        client.manager("GetContainer", &"renamed").await.ok()
    }
}

impl Operation for Rename {
    const NAME: &str = "rename";
    const METHODS: &[&str] = &["Container.Rename"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Removed;
    const HELPERS: &[Helper] = &[Helper::Names];

    async fn prepare(&mut self, lab: &Lab<'_>) {
        if Self::renamed(lab.client()).await.is_some() {
            self.clear(lab.client()).await;
        }
        Exec.prepare(lab).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        call(client, "Rename", &("renamed", 0_u64)).await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        container(client).await.is_none() && Self::renamed(client).await.is_some()
    }

    async fn is_undone(&self, client: &Client) -> bool {
        is_found(client).await
    }

    async fn clear(&self, client: &Client) {
        if let Some(path) = Self::renamed(client).await {
            done(client.job(&path, "Container", "Remove", &1_u64).await).unwrap();
        }
        clear(client).await;
    }
}

/// Changes what happens when a container ends. Its limits are changed where the host can count.
#[derive(Debug, Default)]
pub struct UpdateContainer;

impl Operation for UpdateContainer {
    const NAME: &str = "update";
    const METHODS: &[&str] = &["Container.Update"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Removed;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        if self.is_whole(lab.client()).await {
            self.clear(lab.client()).await;
        }
        if container(lab.client()).await.is_none() {
            create(lab.client()).await.unwrap();
        }
        Exec.prepare(lab).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        call(client, "Update", &Options::from([("RestartPolicy", "on-failure:3".into())])).await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        let Some(path) = container(client).await else { return false };
        let json = client.call(&path, "Container", "Inspect", &0_u64).await.unwrap();
        json.body().deserialize::<String>().unwrap().contains("on-failure:3")
    }
}
