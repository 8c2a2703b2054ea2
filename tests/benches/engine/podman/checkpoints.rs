//! Checkpoints by podman, which has to be helped where the host has control groups of version 1 too: CRIU
//! must not look at them, and podman cannot tell its runtime so.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hyper::Method;
use rustix::process::{Pid, WaitOptions, waitpid};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::task::spawn_blocking;

use super::Podman;
use crate::Result;
use crate::engine::{Checkpoints, Engine, GOES_ON, Network, end};

/// A runtime that says it. It takes time of its own, so only who makes checkpoints has it.
const RUNTIME: &str = "/usr/local/bin/crun-for-checkpoints";
const SCRIPT: &str = r#"#!/bin/sh
for word; do
    shift
    set -- "$@" "$word"
    case $word in checkpoint | restore) set -- "$@" --manage-cgroups-mode=ignore ;; esac
done
exec crun "$@"
"#;
/// Of a service beside the other one, with that runtime.
const SOCKET: &str = "/run/podman-for-checkpoints.sock";
/// Longer than it takes to come.
const PATIENCE: Duration = Duration::from_secs(20);

#[async_trait(?Send)]
impl Checkpoints for Podman {
    async fn prepare(&self) -> Result<()> {
        fs::write(RUNTIME, SCRIPT)?;
        fs::set_permissions(RUNTIME, Permissions::from_mode(0o755))?;
        // Not as a unit: what systemd starts in a lab is filtered, and who is may not lift the filters of
        // what it dumps.
        let service = Command::new("podman")
            .args(["--runtime", RUNTIME, "system", "service", "--time=0"])
            .arg(format!("unix://{SOCKET}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        *self.checkpoints.borrow_mut() = Some(service);
        let begun = Instant::now();
        while UnixStream::connect(SOCKET).await.is_err() {
            if begun.elapsed() > PATIENCE {
                return Err(format!("nobody listens at {SOCKET}").into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn clean(&self) -> Result<()> {
        let service = self.checkpoints.borrow_mut().take();
        service.ok_or("it was not prepared")?.kill().await?;
        fs::remove_file(SOCKET)?;
        spawn_blocking(reap_supervisors).await?
    }

    async fn there_and_back(&self) -> Result<[Duration; 2]> {
        let service = Self::at(SOCKET);
        let id = service.create(Network::None, GOES_ON).await?;
        service.start(&id).await?;
        let mut took = [Duration::ZERO; 2];
        for (verb, took) in ["checkpoint", "restore"].into_iter().zip(&mut took) {
            let begun = Instant::now();
            service.call(Method::POST, &format!("{id}/{verb}"), String::new()).await?;
            *took = begun.elapsed();
        }
        end(&service, &id).await?;
        Ok(took)
    }
}

/// What a service of ours has left without a parent has become ours.
fn reap_supervisors() -> Result<()> {
    for thread in fs::read_dir("/proc/self/task")? {
        for pid in fs::read_to_string(thread?.path().join("children"))?.split_whitespace() {
            // One that has gone since is nobody's any more.
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if name.trim_end() == "conmon" {
                waitpid(Pid::from_raw(pid.parse()?), WaitOptions::empty())?;
            }
        }
    }
    Ok(())
}
