//! Files in and out of a container.

use std::os::fd::AsFd;

use system_tests::image::file_of;
use system_tests::{Client, Options};
use zbus::Fd;

use super::there::{
    call, clear, container, create, image, job, remove_image, small_tar, the_container,
};
use super::{Exec, Operation, Owes, Until};
use crate::lab::Lab;

/// The image that a container becomes.
const MADE: &str = "made:1";

/// Writes files into a container that does not run.
#[derive(Debug, Default)]
pub struct CopyIn;

impl Operation for CopyIn {
    const NAME: &str = "copy in";
    const METHODS: &[&str] = &["Container.CopyIn"];
    const OWES: Owes = Owes::Again;
    const LEFTOVERS: Until = Until::Removed;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        is_there(lab).await;
        // In the place of what is there: that has to go.
        if !self.is_whole(lab.client()).await {
            self.run(lab.client()).await.unwrap();
        }
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let archive = file_of(&small_tar(b"content"));
        job(client, "CopyIn", &(Fd::from(archive.as_fd()), "/", Options::new())).await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        CopyOut::of("/d/hard", client).await.is_ok()
    }
}

/// Makes an image of a container that was written to.
#[derive(Debug, Default)]
pub struct Commit;

impl Operation for Commit {
    const NAME: &str = "commit";
    const METHODS: &[&str] = &["Container.Commit"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Restarted;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        remove_image(lab.client(), MADE).await;
        CopyIn.prepare(lab).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let paused = Options::from([("Pause", true.into())]);
        job(client, "Commit", &(MADE, paused)).await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        image(client, MADE).await.is_some()
    }

    async fn clear(&self, client: &Client) {
        remove_image(client, MADE).await;
        clear(client).await;
    }
}

/// Writes a file of a container that does not run into an archive.
#[derive(Debug, Default)]
pub struct CopyOut;

impl CopyOut {
    async fn of(path: &str, client: &Client) -> Result<(), String> {
        let archive = file_of(b"");
        job(client, "CopyOut", &(path, Fd::from(archive.as_fd()), Options::new())).await
    }
}

impl Operation for CopyOut {
    const NAME: &str = "copy out";
    const METHODS: &[&str] = &["Container.CopyOut"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Removed;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        is_there(lab).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        Self::of("/bin", client).await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        container(client).await.is_some()
    }
}

/// Writes all that a container has into an archive.
#[derive(Debug, Default)]
pub struct Export;

impl Operation for Export {
    const NAME: &str = "export";
    const METHODS: &[&str] = &["Container.Export"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Removed;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        is_there(lab).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let archive = file_of(b"");
        job(client, "Export", &(Fd::from(archive.as_fd()), Options::new())).await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        container(client).await.is_some()
    }
}

/// Gives out the root directory of a container.
#[derive(Debug, Default)]
pub struct OpenRoot;

impl Operation for OpenRoot {
    const NAME: &str = "open a root directory";
    const METHODS: &[&str] = &["Container.OpenRootDirectory"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Removed;
    const PART: &str = "storage";

    async fn prepare(&mut self, lab: &Lab<'_>) {
        is_there(lab).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        call(client, "OpenRootDirectory", &1_u64).await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        container(client).await.is_some()
    }
}

/// Mounts the root directory of a container on the host.
#[derive(Debug, Default)]
pub struct MountRoot;

impl Operation for MountRoot {
    const NAME: &str = "mount a root directory";
    const METHODS: &[&str] = &["Container.MountRootfs"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Restarted;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        is_there(lab).await;
        // What an earlier one has mounted.
        let _ = call(lab.client(), "UnmountRootfs", &0_u64).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        call(client, "MountRootfs", &3_u64).await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        container(client).await.is_some()
    }
}

/// Unmounts it again.
#[derive(Debug, Default)]
pub struct UnmountRoot;

impl Operation for UnmountRoot {
    const NAME: &str = "unmount a root directory";
    const METHODS: &[&str] = &["Container.UnmountRootfs"];
    const OWES: Owes = Owes::Again;
    const LEFTOVERS: Until = Until::Restarted;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        MountRoot.prepare(lab).await;
        MountRoot.run(lab.client()).await.unwrap();
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        call(client, "UnmountRootfs", &0_u64).await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        container(client).await.is_some()
    }
}

/// Compares a container that runs with its image.
#[derive(Debug, Default)]
pub struct GetChanges;

impl Operation for GetChanges {
    const NAME: &str = "get changes";
    const METHODS: &[&str] = &["Container.GetChanges"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Removed;
    const PART: &str = "storage";

    async fn prepare(&mut self, lab: &Lab<'_>) {
        Exec.prepare(lab).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let path = the_container(client).await;
        super::there::refused(client.call(&path, "Container", "GetChanges", &(9_u32, 0_u64)).await)
    }

    async fn is_whole(&self, client: &Client) -> bool {
        container(client).await.is_some()
    }
}

async fn is_there(lab: &Lab<'_>) {
    if container(lab.client()).await.is_none() {
        create(lab.client()).await.unwrap();
    }
}
