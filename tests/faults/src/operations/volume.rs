//! Volumes.

use std::os::fd::AsFd;

use system_tests::image::file_of;
use system_tests::{Client, Options};
use zbus::{Fd, OwnedObjectPath};

use super::there::{VOLUME, done, manage, refused, small_tar, volume};
use super::{Operation, Owes, Until};
use crate::lab::Lab;

/// What is left of one that is removed: its files, and that they are.
pub(super) const LEAVES: &[(&str, &str)] = &[("file", ""), ("row", " volume_remains ")];

/// Makes a volume.
#[derive(Debug, Default)]
pub struct CreateVolume;

impl Operation for CreateVolume {
    const NAME: &str = "create a volume";
    const METHODS: &[&str] = &["Manager.CreateVolume"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Restarted;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        self.clear(lab.client()).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let body = (VOLUME, Options::new());
        refused(client.manager::<_, OwnedObjectPath>("CreateVolume", &body).await)
    }

    async fn is_whole(&self, client: &Client) -> bool {
        volume(client).await.is_some()
    }
}

/// Removes a volume with something in it.
#[derive(Debug, Default)]
pub struct RemoveVolume;

impl Operation for RemoveVolume {
    const NAME: &str = "remove a volume";
    const METHODS: &[&str] = &["Volume.Remove"];
    const OWES: Owes = Owes::Retry;
    const LEFTOVERS: Until = Until::Restarted;
    const LEAVES: &[(&str, &str)] = LEAVES;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        ExportVolume.prepare(lab).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let Some(volume) = volume(client).await else { return Err("it is gone".into()) };
        done(client.job(&volume, "Volume", "Remove", &0_u64).await)
    }

    async fn is_whole(&self, client: &Client) -> bool {
        volume(client).await.is_none()
    }
}

/// Removes volumes that nobody uses.
#[derive(Debug, Default)]
pub struct PruneVolumes;

impl Operation for PruneVolumes {
    const NAME: &str = "prune volumes";
    const METHODS: &[&str] = &["Manager.Prune"];
    const OWES: Owes = Owes::Retry;
    const LEFTOVERS: Until = Until::Restarted;
    const LEAVES: &[(&str, &str)] = LEAVES;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        ExportVolume.prepare(lab).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        manage(client, "Prune", &(vec!["volumes"], Options::new())).await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        volume(client).await.is_none()
    }
}

/// Unpacks an archive in a volume, in the place of what is there.
#[derive(Debug, Default)]
pub struct ImportVolume;

impl Operation for ImportVolume {
    const NAME: &str = "import into a volume";
    const METHODS: &[&str] = &["Volume.Import"];
    const OWES: Owes = Owes::Again;
    const LEFTOVERS: Until = Until::Removed;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        ExportVolume.prepare(lab).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let Some(volume) = volume(client).await else { return Err("there is none".into()) };
        let content = file_of(&small_tar(b"content"));
        let body = (Fd::from(content.as_fd()), Options::from([("Replace", true.into())]));
        done(client.job(&volume, "Volume", "Import", &body).await)
    }

    async fn is_whole(&self, client: &Client) -> bool {
        volume(client).await.is_some()
    }
}

/// Writes what is in a volume into an archive.
#[derive(Debug, Default)]
pub struct ExportVolume;

impl Operation for ExportVolume {
    const NAME: &str = "export a volume";
    const METHODS: &[&str] = &["Volume.Export"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Removed;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        if volume(lab.client()).await.is_none() {
            CreateVolume.run(lab.client()).await.unwrap();
            ImportVolume.run(lab.client()).await.unwrap();
        }
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let Some(volume) = volume(client).await else { return Err("there is none".into()) };
        let archive = file_of(b"");
        let body = (Fd::from(archive.as_fd()), Options::new());
        done(client.job(&volume, "Volume", "Export", &body).await)?;
        match archive.metadata().unwrap().len() {
            0 => Err("nothing was written".into()),
            _ => Ok(()),
        }
    }

    async fn is_whole(&self, client: &Client) -> bool {
        volume(client).await.is_some()
    }
}
