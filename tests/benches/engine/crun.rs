//! The OCI runtime alone: no image, no network, nobody who watches.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rustix::process::{Pid, WaitOptions, waitpid};
use tokio::process::Command as Program;
use tokio::task::spawn_blocking;

use super::{Checkpoints, Command, Engine, GOES_ON, Network, bundle, end};
use crate::Result;

/// Calls crun; its containers' processes become children of ours, who is their subreaper.
#[derive(Debug)]
pub(crate) struct Crun {
    dir: PathBuf,
    rootfs: PathBuf,
    created: Cell<u32>,
}

impl Crun {
    /// Keeps bundles below `dir`.
    pub(crate) fn new(dir: PathBuf, rootfs: PathBuf) -> Result<Self> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        fs::create_dir_all(dir.join("bundles"))?;
        Ok(Self { dir, rootfs, created: Cell::new(0) })
    }

    fn bundle(&self, id: &str) -> PathBuf {
        self.dir.join("bundles").join(id)
    }

    async fn run(&self, arguments: &[&str]) -> Result<()> {
        let (mut crun, log) = (Program::new("crun"), self.dir.join("log"));
        fs::write(&log, "")?;
        crun.arg("--root").arg(self.dir.join("state")).arg("--log").arg(&log).args(arguments);
        // Containers have all three too: what they print is nobody's, and CRIU leaves no file of ours.
        crun.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = crun.status().await?;
        if status.success() {
            return Ok(());
        }
        Err(format!("crun {arguments:?}: {status}: {}", fs::read_to_string(log)?).into())
    }
}

#[async_trait(?Send)]
impl Engine for Crun {
    async fn create(&self, _: Network, command: Command) -> Result<String> {
        self.created.set(self.created.get() + 1);
        let id = format!("bench-{}", self.created.get());
        let bundle = self.bundle(&id);
        fs::create_dir(&bundle)?;
        let config = bundle::config(&self.rootfs, command, &id);
        fs::write(bundle.join("config.json"), config.to_string())?;
        Ok(id)
    }

    async fn start(&self, id: &str) -> Result<()> {
        let bundle = self.bundle(id);
        let (dir, pid_file) = (path(&bundle)?, bundle.join("pid"));
        self.run(&["create", "--bundle", dir, "--pid-file", path(&pid_file)?, id]).await?;
        self.run(&["start", id]).await
    }

    async fn kill(&self, id: &str) -> Result<()> {
        self.run(&["kill", id, "KILL"]).await
    }

    async fn wait(&self, id: &str) -> Result<i32> {
        let pid = fs::read_to_string(self.bundle(id).join("pid"))?.trim().parse()?;
        let pid = Pid::from_raw(pid).ok_or("no process 0")?;
        let ended = spawn_blocking(move || waitpid(Some(pid), WaitOptions::empty())).await??;
        let (_, status) = ended.ok_or("waitpid(2) came back too early")?;
        let code = status.exit_status().or_else(|| Some(128 + status.terminating_signal()?));
        code.ok_or_else(|| format!("{id} ended by {status:?}").into())
    }

    async fn remove(&self, id: &str) -> Result<()> {
        self.run(&["delete", id]).await?;
        Ok(fs::remove_dir_all(self.bundle(id))?)
    }

    async fn list(&self) -> Result<Vec<String>> {
        let name = |entry: std::io::Result<fs::DirEntry>| {
            Ok(entry?.file_name().to_string_lossy().into_owned())
        };
        fs::read_dir(self.dir.join("bundles"))?.map(name).collect()
    }
}

#[async_trait(?Send)]
impl Checkpoints for Crun {
    async fn there_and_back(&self) -> Result<[Duration; 2]> {
        let id = self.create(Network::None, GOES_ON).await?;
        self.start(&id).await?;
        let bundle = self.bundle(&id);
        let [images, work, pid_file] = ["images", "work", "pid"].map(|name| bundle.join(name));
        for dir in [&images, &work] {
            fs::create_dir(dir)?;
        }
        // The host may have control groups of version 1 too, which confuse CRIU.
        let where_to = ["--manage-cgroups-mode=ignore", "--image-path", path(&images)?];
        let where_to = [&where_to[..], &["--work-path", path(&work)?]].concat();

        let begun = Instant::now();
        self.run(&[&["checkpoint"], &where_to[..], &[&id]].concat()).await?;
        let there = begun.elapsed();
        self.wait(&id).await?;
        self.run(&["delete", "--force", &id]).await?;

        let anew = ["--detach", "--bundle", path(&bundle)?, "--pid-file", path(&pid_file)?, &id];
        let begun = Instant::now();
        self.run(&[&["restore"], &where_to[..], &anew].concat()).await?;
        let back = begun.elapsed();
        end(self, &id).await?;
        Ok([there, back])
    }
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| format!("{} is no text", path.display()).into())
}
