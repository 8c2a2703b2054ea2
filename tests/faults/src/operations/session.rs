//! What is executed in a container.

use std::collections::HashMap;

use system_tests::{Client, Options};
use zbus::{OwnedFd, OwnedObjectPath};

use super::there::{clear, container, create, refused, state, the_container};
use super::{Operation, Owes, Start, Until};
use crate::helper::Helper;
use crate::lab::Lab;

/// Runs a process in a container.
#[derive(Debug, Default)]
pub struct Exec;

impl Operation for Exec {
    const NAME: &str = "exec";
    const METHODS: &[&str] = &["Container.Exec"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Removed;
    const HELPERS: &[Helper] = &[Helper::Spawn];

    async fn prepare(&mut self, lab: &Lab<'_>) {
        let client = lab.client();
        if container(client).await.is_none() {
            create(client).await.unwrap();
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

/// Runs a process in a container that has a terminal of its own.
#[derive(Debug, Default)]
pub struct ExecOnTerminal;

impl Operation for ExecOnTerminal {
    const NAME: &str = "exec on a terminal";
    const METHODS: &[&str] = &["Container.Exec"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Removed;
    const HELPERS: &[Helper] = &[Helper::Spawn];

    async fn prepare(&mut self, lab: &Lab<'_>) {
        Exec.prepare(lab).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let begun = begin_on_terminal(client, &["/bin/busybox", "true"]).await?;
        match client.session_code(&begun.path).await {
            0 => Ok(()),
            code => Err(format!("it ended with {code}")),
        }
    }

    async fn is_whole(&self, client: &Client) -> bool {
        state(client).await == "running" && self.run(client).await.is_ok()
    }
}

/// A session that goes on.
#[derive(Debug)]
struct Session {
    path: OwnedObjectPath,
    #[expect(dead_code, reason = "whoever has it hangs up when it is closed")]
    fds: HashMap<String, OwnedFd>,
}

async fn begin_on_terminal(client: &Client, argv: &[&str]) -> Result<Session, String> {
    let container = the_container(client).await;
    let body = (argv, Options::from([("TTY", true.into())]));
    let reply = client.call(&container, "Container", "Exec", &body).await;
    let reply = reply.map_err(|refused| format!("{refused:?}"))?;
    let (path, fds) = reply.body().deserialize().unwrap();
    Ok(Session { path, fds })
}

/// The state of a session; empty if nothing is known of it.
async fn state_of(client: &Client, session: Option<&Session>) -> String {
    let Some(session) = session else { return String::new() };
    let body = ("org.tare.Containers1.Process", "State");
    let interface = "org.freedesktop.DBus.Properties";
    match client.call(&session.path, interface, "Get", &body).await {
        Ok(reply) => {
            let value: zbus::OwnedVariant = reply.body().deserialize().unwrap();
            String::try_from(value).unwrap()
        }
        Err(_) => String::new(),
    }
}

/// Kills a process that was run in a container.
#[derive(Debug, Default)]
pub struct KillSession {
    session: Option<Session>,
}

impl Operation for KillSession {
    const NAME: &str = "kill a session";
    const METHODS: &[&str] = &["Process.Kill"];
    const OWES: Owes = Owes::Again;
    const LEFTOVERS: Until = Until::Removed;
    const HELPERS: &[Helper] = &[Helper::Spawn];

    async fn prepare(&mut self, lab: &Lab<'_>) {
        Exec.prepare(lab).await;
        if state_of(lab.client(), self.session.as_ref()).await != "running" {
            let argv = ["/bin/busybox", "sleep", "1000"];
            self.session = Some(begin_on_terminal(lab.client(), &argv).await.unwrap());
        }
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let session = self.session.as_ref().expect("it was prepared");
        refused(client.call(&session.path, "Process", "Kill", &(9_i32, 0_u64)).await)?;
        match client.session_code(&session.path).await {
            137 => Ok(()),
            code => Err(format!("it ended with {code}")),
        }
    }

    /// Of one that has ended, a daemon that was started again knows nothing.
    async fn is_whole(&self, client: &Client) -> bool {
        state_of(client, self.session.as_ref()).await != "running"
    }

    async fn clear(&self, client: &Client) {
        clear(client).await;
    }
}
