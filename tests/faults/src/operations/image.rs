//! Images.

use std::os::fd::AsFd;

use system_tests::image::file_of;
use system_tests::{Client, Options};
use zbus::Fd;

use super::there::{done, image, import, manage, refused, remove_image, the_image};
use super::{Operation, Owes, Until};
use crate::lab::Lab;

/// An image that is made and goes again.
pub(super) const OTHER: &str = "other:1";
/// Another name of one that is there.
const TAG: &str = "busybox:tag";

/// Imports an image: another one each time that went well, since there they stay.
#[derive(Debug, Default)]
pub struct Import {
    number: u32,
}

impl Import {
    fn reference(&self) -> String {
        format!("tried-{:04}", self.number)
    }
}

impl Operation for Import {
    const NAME: &str = "import";
    const METHODS: &[&str] = &["Manager.ImportImage"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Restarted;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        while self.is_whole(lab.client()).await {
            self.number += 1;
        }
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        import(client, &self.reference()).await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        image(client, &self.reference()).await.is_some()
    }
}

/// Writes an image into an archive.
#[derive(Debug, Default)]
pub struct ExportImages;

impl Operation for ExportImages {
    const NAME: &str = "export images";
    const METHODS: &[&str] = &["Manager.ExportImages"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Removed;
    const PART: &str = "storage";

    async fn prepare(&mut self, lab: &Lab<'_>) {
        RemoveImage.prepare(lab).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let archive = file_of(b"");
        let body = (vec![OTHER], Fd::from(archive.as_fd()), Options::new());
        manage(client, "ExportImages", &body).await?;
        match archive.metadata().unwrap().len() {
            0 => Err("nothing was written".into()),
            _ => Ok(()),
        }
    }

    async fn is_whole(&self, client: &Client) -> bool {
        image(client, OTHER).await.is_some()
    }

    async fn clear(&self, client: &Client) {
        remove_image(client, OTHER).await;
    }
}

/// Gives an image another name.
#[derive(Debug, Default)]
pub struct Tag;

impl Operation for Tag {
    const NAME: &str = "tag";
    const METHODS: &[&str] = &["Image.Tag"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Restarted;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        self.clear(lab.client()).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let path = the_image(client, "busybox").await;
        refused(client.call(&path, "Image", "Tag", &(TAG, 0_u64)).await)
    }

    async fn is_whole(&self, client: &Client) -> bool {
        image(client, TAG).await.is_some()
    }

    async fn clear(&self, client: &Client) {
        if self.is_whole(client).await {
            Untag.run(client).await.unwrap();
        }
    }
}

/// Takes that name away again.
#[derive(Debug, Default)]
pub struct Untag;

impl Operation for Untag {
    const NAME: &str = "untag";
    const METHODS: &[&str] = &["Image.Untag"];
    const OWES: Owes = Owes::Retry;
    const LEFTOVERS: Until = Until::Removed;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        if !Tag.is_whole(lab.client()).await {
            Tag.run(lab.client()).await.unwrap();
        }
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let path = the_image(client, "busybox").await;
        refused(client.call(&path, "Image", "Untag", &(TAG, 0_u64)).await)
    }

    async fn is_whole(&self, client: &Client) -> bool {
        !Tag.is_whole(client).await
    }

    async fn clear(&self, client: &Client) {
        Tag.clear(client).await;
    }
}

/// Removes an image, with what no other needs of it.
#[derive(Debug, Default)]
pub struct RemoveImage;

impl Operation for RemoveImage {
    const NAME: &str = "remove an image";
    const METHODS: &[&str] = &["Image.Remove"];
    const OWES: Owes = Owes::Retry;
    const LEFTOVERS: Until = Until::Restarted;
    const LEAVES: &[(&str, &str)] = &[("file", "")];

    async fn prepare(&mut self, lab: &Lab<'_>) {
        if self.is_whole(lab.client()).await {
            import(lab.client(), OTHER).await.unwrap();
        }
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let Some(path) = image(client, OTHER).await else { return Err("it is gone".into()) };
        done(client.job(&path, "Image", "Remove", &1_u64).await)
    }

    async fn is_whole(&self, client: &Client) -> bool {
        image(client, OTHER).await.is_none()
    }

    async fn clear(&self, client: &Client) {
        remove_image(client, OTHER).await;
    }
}

/// Removes images that have no name any more.
#[derive(Debug, Default)]
pub struct PruneImages;

impl Operation for PruneImages {
    const NAME: &str = "prune images";
    const METHODS: &[&str] = &["Manager.Prune"];
    const OWES: Owes = Owes::Retry;
    const LEFTOVERS: Until = Until::Restarted;
    const LEAVES: &[(&str, &str)] = &[("file", "")];

    async fn prepare(&mut self, lab: &Lab<'_>) {
        if self.is_whole(lab.client()).await {
            import(lab.client(), "").await.unwrap();
        }
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        manage(client, "Prune", &(vec!["images"], Options::new())).await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        let rows = client.list("ListImages").await;
        rows.iter().all(|row| !row.get::<Vec<String>>("References").is_empty())
    }

    async fn clear(&self, client: &Client) {
        if !self.is_whole(client).await {
            self.run(client).await.unwrap();
        }
    }
}
