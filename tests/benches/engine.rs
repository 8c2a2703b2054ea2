//! Those who keep containers, seen as one: all of them are asked to do the same.

mod bundle;
mod crun;
mod http;
mod images;
mod podman;
mod tare;
mod unshare;

use std::time::Duration;

use async_trait::async_trait;

pub(crate) use crun::Crun;
pub(crate) use images::{Holds, Images};
pub(crate) use podman::Podman;
pub(crate) use tare::Tare;
pub(crate) use unshare::Unshare;

use crate::Result;

/// What the image is called with everybody who has images.
pub(crate) const IMAGE: &str = "localhost/busybox:latest";

/// What ends at once, in a way that nothing else does by accident.
pub(crate) const ENDS: Command = &["/bin/sh", "-c", "exit 7"];
/// The code it ends with.
pub(crate) const ENDS_WITH: i32 = 7;
/// What runs until it is killed.
pub(crate) const RUNS: Command = &["/bin/sleep", "86400"];
/// What goes on as before where it is put away and comes back: a sleep is cut short by that.
pub(crate) const GOES_ON: Command = &["/bin/sh", "-c", "while :; do sleep 86400; done"];
/// The code of what SIGKILL has ended.
pub(crate) const KILLED: i32 = 137;

/// A program and its arguments.
pub(crate) type Command = &'static [&'static str];

/// The network a container has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// An address on the default bridge. Who has no bridge gives it an empty network.
    Bridge,
    /// An empty one of its own.
    None,
}

/// Who keeps containers.
#[async_trait(?Send)]
pub(crate) trait Engine {
    /// Writes down a container; its id.
    async fn create(&self, network: Network, command: Command) -> Result<String>;

    /// Makes its process, which runs when this returns.
    async fn start(&self, id: &str) -> Result<()>;

    /// Kills it.
    async fn kill(&self, id: &str) -> Result<()>;

    /// Waits for its end; its exit code.
    async fn wait(&self, id: &str) -> Result<i32>;

    /// Takes everything of it away.
    async fn remove(&self, id: &str) -> Result<()>;

    /// The ids of all there are.
    async fn list(&self) -> Result<Vec<String>>;
}

/// Who can put a container away, and have it go on.
#[async_trait(?Send)]
pub(crate) trait Checkpoints {
    /// Makes ready what is needed for that alone.
    async fn prepare(&self) -> Result<()> {
        Ok(())
    }

    /// Takes it away.
    async fn clean(&self) -> Result<()> {
        Ok(())
    }

    /// How long both take, of a container that is there for that.
    async fn there_and_back(&self) -> Result<[Duration; 2]>;
}

/// A whole life, of a container that ends by itself.
pub(crate) async fn live(engine: &dyn Engine, network: Network) -> Result<()> {
    let id = engine.create(network, ENDS).await?;
    engine.start(&id).await?;
    let code = engine.wait(&id).await?;
    engine.remove(&id).await?;
    is_code(code, ENDS_WITH)
}

/// Ends a container that runs, and removes it.
pub(crate) async fn end(engine: &dyn Engine, id: &str) -> Result<()> {
    engine.kill(id).await?;
    let code = engine.wait(id).await?;
    engine.remove(id).await?;
    is_code(code, KILLED)
}

/// Removes all containers, whatever they do.
pub(crate) async fn remove_all(engine: &dyn Engine) -> Result<()> {
    for id in engine.list().await? {
        // It may have ended, or be ending.
        let _ = engine.kill(&id).await;
        engine.remove(&id).await?;
    }
    Ok(())
}

fn is_code(code: i32, wanted: i32) -> Result<()> {
    if code == wanted { Ok(()) } else { Err(format!("exit code {code} and not {wanted}").into()) }
}
