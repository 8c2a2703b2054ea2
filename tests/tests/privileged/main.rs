//! The service as a whole: a real daemon, real programs, over a real bus.
#![expect(clippy::unwrap_used, reason = "where a test fails, it fails")]

mod bad_input;
mod bus;
mod contract;
mod crash;
mod failures;
mod leftovers;
mod life;
mod lists;
mod main_job;
mod network;
mod programs;
mod world;

use system_tests::{Client, Ended};
use zbus::OwnedObjectPath;

/// What all our error names begin with.
const ERROR: &str = "org.tare.Containers1.Error";

/// A container that runs a script.
async fn started(client: &Client, name: &str, script: &str) -> OwnedObjectPath {
    let path = client.create(name, script).await;
    client.start(&path).await.done();
    path
}

/// The error name of a job that failed.
fn failure(ended: &Ended) -> &str {
    assert_eq!(ended.result, "failed", "{ended:?}");
    assert!(!ended.error_message.is_empty(), "{ended:?}");
    &ended.error_name
}
