//! Images from and to a registry.

use system_tests::registry::{Access, REGISTRY, Registry};
use system_tests::{Client, Options};

use super::image::OTHER;
use super::there::{done, image, import, manage, remove_image, the_image};
use super::{Operation, Owes, Until};
use crate::lab::Lab;

/// What it is called there, and then here.
fn reference() -> String {
    format!("{REGISTRY}/other:1")
}

fn options() -> Options<'static> {
    Options::from([("TLSVerify", false.into())])
}

fn begin() -> Registry {
    let dir = tempfile::Builder::new().prefix("registry-").tempdir_in("/var/tmp").unwrap();
    // It takes that away itself.
    Registry::start_in(dir.keep(), Access::Open)
}

async fn push(client: &Client) -> Result<(), String> {
    let path = the_image(client, OTHER).await;
    done(client.job(&path, "Image", "Push", &(reference(), options())).await)
}

/// Brings an image from a registry.
#[derive(Debug, Default)]
pub struct Pull {
    registry: Option<Registry>,
}

impl Operation for Pull {
    const NAME: &str = "pull";
    const METHODS: &[&str] = &["Manager.PullImage"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Restarted;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        self.clear(lab.client()).await;
        if self.registry.is_none() {
            self.registry = Some(begin());
            import(lab.client(), OTHER).await.unwrap();
            push(lab.client()).await.unwrap();
            remove_image(lab.client(), OTHER).await;
        }
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let mut options = options();
        options.insert("Retries", 0_u32.into());
        manage(client, "PullImage", &(reference(), options)).await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        image(client, &reference()).await.is_some()
    }

    async fn clear(&self, client: &Client) {
        remove_image(client, &reference()).await;
    }
}

/// Sends an image to a registry, which has most of it already.
#[derive(Debug, Default)]
pub struct Push {
    registry: Option<Registry>,
}

impl Operation for Push {
    const NAME: &str = "push";
    const METHODS: &[&str] = &["Image.Push"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Restarted;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        if self.registry.is_none() {
            self.registry = Some(begin());
        }
        if image(lab.client(), OTHER).await.is_none() {
            import(lab.client(), OTHER).await.unwrap();
        }
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        push(client).await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        image(client, OTHER).await.is_some()
    }

    async fn clear(&self, client: &Client) {
        remove_image(client, OTHER).await;
    }
}
