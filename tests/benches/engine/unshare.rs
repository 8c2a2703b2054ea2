//! What the kernel itself takes: namespaces, and a process in them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;

use async_trait::async_trait;
use tokio::process::{Child, Command as Program};

use super::{Command, Engine, Network};
use crate::Result;

/// Starts programs by unshare(1).
#[derive(Debug)]
pub(crate) struct Unshare {
    rootfs: PathBuf,
    created: Cell<u32>,
    known: RefCell<HashMap<String, Life>>,
}

#[derive(Debug)]
enum Life {
    Created(Command),
    Started(Child),
}

impl Unshare {
    /// On a root file system that is there.
    pub(crate) fn new(rootfs: PathBuf) -> Self {
        Self { rootfs, created: Cell::new(0), known: RefCell::default() }
    }

    fn taken(&self, id: &str) -> Result<Life> {
        self.known.borrow_mut().remove(id).ok_or_else(|| format!("no container {id}").into())
    }

    fn started(&self, id: &str) -> Result<Child> {
        match self.taken(id)? {
            Life::Started(child) => Ok(child),
            Life::Created(_) => Err(format!("{id} was not started").into()),
        }
    }

    fn keep(&self, id: &str, life: Life) {
        self.known.borrow_mut().insert(id.into(), life);
    }
}

#[async_trait(?Send)]
impl Engine for Unshare {
    async fn create(&self, _: Network, command: Command) -> Result<String> {
        self.created.set(self.created.get() + 1);
        let id = self.created.get().to_string();
        self.keep(&id, Life::Created(command));
        Ok(id)
    }

    async fn start(&self, id: &str) -> Result<()> {
        let Life::Created(command) = self.taken(id)? else {
            return Err(format!("{id} was started before").into());
        };
        let child = Program::new("unshare")
            .args(["--mount", "--pid", "--fork", "--net", "--ipc", "--uts", "--cgroup"])
            .args(["--kill-child", "--root"])
            .arg(&self.rootfs)
            .args(command)
            .stdin(Stdio::null())
            .spawn()?;
        self.keep(id, Life::Started(child));
        Ok(())
    }

    async fn kill(&self, id: &str) -> Result<()> {
        let mut child = self.started(id)?;
        child.start_kill()?;
        self.keep(id, Life::Started(child));
        Ok(())
    }

    async fn wait(&self, id: &str) -> Result<i32> {
        let mut child = self.started(id)?;
        let status = child.wait().await?;
        self.keep(id, Life::Started(child));
        status.code().ok_or_else(|| format!("{id} ended by {status}").into())
    }

    async fn remove(&self, id: &str) -> Result<()> {
        self.started(id).map(drop)
    }

    async fn list(&self) -> Result<Vec<String>> {
        Ok(self.known.borrow().keys().cloned().collect())
    }
}
