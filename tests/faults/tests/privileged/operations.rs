//! What is tried: what has to be there before, what is done, and how it is taken away again.

use std::fs;

use serde::Serialize;
use system_tests::image::file_of;
use system_tests::{Client, Ended, Options, Refused};
use tar::{Builder, EntryType, Header};
use zbus::{DynamicType, OwnedObjectPath};

use super::lab::Lab;

/// What a failed operation owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owes {
    /// All is as it was before.
    Before,
    /// It can be repeated, and then all is as if it had not failed.
    Retry,
}

/// Until when something stays that a failed operation could not take back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// Somebody stops the container.
    Stopped,
    /// The daemon starts again.
    Restarted,
    /// Somebody removes the container.
    Removed,
}

/// What a daemon can be asked to do.
pub(crate) trait Operation {
    const NAME: &str;
    const OWES: Owes;
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
pub(crate) struct Create;

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
pub(crate) struct Start;

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
pub(crate) struct Exec;

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
pub(crate) struct Stop;

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
pub(crate) struct Remove;

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
        let state = lab.host.path("s");
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
#[derive(Default)]
pub(crate) struct Import {
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
