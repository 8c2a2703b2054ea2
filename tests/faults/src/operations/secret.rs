//! Secrets.

use std::os::fd::AsFd;

use system_tests::image::file_of;
use system_tests::{Client, Options};
use zbus::{Fd, OwnedObjectPath};

use super::there::refused;
use super::{Operation, Owes, Until};
use crate::lab::Lab;

const NAME: &str = "s";

/// Keeps a secret.
#[derive(Debug, Default)]
pub struct CreateSecret;

impl Operation for CreateSecret {
    const NAME: &str = "create a secret";
    const METHODS: &[&str] = &["Manager.CreateSecret"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Restarted;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        self.clear(lab.client()).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let data = file_of(b"hush");
        let body = (NAME, Fd::from(data.as_fd()), Options::new());
        refused(client.manager::<_, OwnedObjectPath>("CreateSecret", &body).await)
    }

    async fn is_whole(&self, client: &Client) -> bool {
        secret(client).await.is_some()
    }

    async fn clear(&self, client: &Client) {
        if self.is_whole(client).await {
            RemoveSecret.run(client).await.unwrap();
        }
    }
}

/// Keeps another in its place.
#[derive(Debug, Default)]
pub struct ReplaceSecret;

impl Operation for ReplaceSecret {
    const NAME: &str = "replace a secret";
    const METHODS: &[&str] = &["Secret.Replace"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Restarted;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        CreateSecret.prepare(lab).await;
        CreateSecret.run(lab.client()).await.unwrap();
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let secret = secret(client).await.expect("it was prepared");
        let data = file_of(b"and another");
        let body = (Fd::from(data.as_fd()), 0_u64);
        refused(client.call(&secret, "Secret", "Replace", &body).await)
    }

    async fn is_whole(&self, client: &Client) -> bool {
        CreateSecret.is_whole(client).await
    }

    async fn clear(&self, client: &Client) {
        CreateSecret.clear(client).await;
    }
}

/// Forgets it.
#[derive(Debug, Default)]
pub struct RemoveSecret;

impl Operation for RemoveSecret {
    const NAME: &str = "remove a secret";
    const METHODS: &[&str] = &["Secret.Remove"];
    const OWES: Owes = Owes::Retry;
    const LEFTOVERS: Until = Until::Restarted;

    async fn prepare(&mut self, lab: &Lab<'_>) {
        if self.is_whole(lab.client()).await {
            CreateSecret.run(lab.client()).await.unwrap();
        }
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        let Some(secret) = secret(client).await else { return Err("it is gone".into()) };
        refused(client.call(&secret, "Secret", "Remove", &0_u64).await)
    }

    async fn is_whole(&self, client: &Client) -> bool {
        secret(client).await.is_none()
    }

    async fn clear(&self, client: &Client) {
        CreateSecret.clear(client).await;
    }
}

async fn secret(client: &Client) -> Option<OwnedObjectPath> {
    client.manager("GetSecret", &NAME).await.ok()
}
