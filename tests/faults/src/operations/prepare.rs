//! A container that is made and waits.

use system_tests::{Client, Options};

use super::there::{job, state};
use super::{Operation, Owes, Start, Until};
use crate::helper::Helper;
use crate::lab::Lab;

/// Makes all that a start needs, but for the start.
#[derive(Debug, Default)]
pub struct Prepare;

impl Operation for Prepare {
    const NAME: &str = "prepare";
    const METHODS: &[&str] = &["Container.Prepare"];
    const OWES: Owes = Owes::Before;
    const LEFTOVERS: Until = Until::Stopped;
    const HELPERS: &[Helper] = &[Helper::Spawn, Helper::Names];

    async fn prepare(&mut self, lab: &Lab<'_>) {
        if self.is_whole(lab.client()).await {
            CleanUp.run(lab.client()).await.unwrap();
        }
        Start.prepare(lab).await;
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        job(client, "Prepare", &Options::new()).await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        state(client).await == "created"
    }
}

/// Takes that down again.
#[derive(Debug, Default)]
pub struct CleanUp;

impl Operation for CleanUp {
    const NAME: &str = "clean up";
    const METHODS: &[&str] = &["Container.Cleanup"];
    const OWES: Owes = Owes::Retry;
    const LEFTOVERS: Until = Until::Stopped;
    const HELPERS: &[Helper] = &[Helper::Spawn, Helper::Names];

    async fn prepare(&mut self, lab: &Lab<'_>) {
        if !Prepare.is_whole(lab.client()).await {
            Prepare.prepare(lab).await;
            Prepare.run(lab.client()).await.unwrap();
        }
    }

    async fn run(&self, client: &Client) -> Result<(), String> {
        job(client, "Cleanup", &0_u64).await
    }

    async fn is_whole(&self, client: &Client) -> bool {
        state(client).await == "exited"
    }
}
