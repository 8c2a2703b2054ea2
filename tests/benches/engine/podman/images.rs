//! Images by podman: in and out as `podman` itself does it, all else by its service.

use std::path::Path;

use async_trait::async_trait;
use hyper::Method;
use tokio::process::Command as Program;

use super::{Podman, text};
use crate::Result;
use crate::engine::{Command, Holds, Images, Network};

#[async_trait(?Send)]
impl Images for Podman {
    async fn take_in(&self, archive: &Path, holds: Holds, name: &str) -> Result<()> {
        let archive = archive.to_str().ok_or("no text")?;
        match holds {
            Holds::Rootfs => podman(&["import", "--quiet", archive, name]).await.map(drop),
            Holds::Image => podman(&["load", "--quiet", "--input", archive]).await.map(drop),
        }
    }

    async fn size(&self, name: &str) -> Result<u64> {
        let told = podman(&["image", "inspect", "--format={{.Size}}", name]).await?;
        Ok(told.trim().parse()?)
    }

    async fn remove_image(&self, name: &str) -> Result<()> {
        podman(&["rmi", name]).await.map(drop)
    }

    async fn create_of(&self, name: &str, command: Command) -> Result<String> {
        self.create_from(name, Network::None, command).await
    }

    async fn changes(&self, id: &str) -> Result<Vec<String>> {
        let changes = self.call(Method::GET, &format!("{id}/changes"), String::new()).await?;
        let changes = changes.as_array().ok_or("no list of changes")?;
        changes.iter().map(|change| text(&change["Path"])).collect()
    }
}

/// What it prints.
async fn podman(arguments: &[&str]) -> Result<String> {
    let output = Program::new("podman").args(arguments).output().await?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("podman {arguments:?}: {} {said}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
