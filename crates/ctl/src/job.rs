//! Waiting for jobs.

use std::io::Read;

use futures_util::StreamExt;
use serde_json::Value;
use zbus::{Connection, OwnedObjectPath};

use crate::Failure;
use crate::client::{JobProxy, ManagerProxy};

/// Starts a job by `call` and waits for its end; its path.
///
/// The signal is asked for before the call, so that it cannot come too early.
pub(crate) async fn run<F>(
    connection: &Connection,
    call: impl FnOnce() -> F,
) -> Result<OwnedObjectPath, Failure>
where
    F: Future<Output = zbus::Result<OwnedObjectPath>>,
{
    let manager = ManagerProxy::new(connection).await?;
    let mut ended = manager.receive_job_removed().await?;
    let job = call().await?;
    while let Some(signal) = ended.next().await {
        let end = signal.args()?;
        if end.job != job {
            continue;
        }
        return match end.result {
            "done" => Ok(job),
            "canceled" => Err(Failure::Canceled),
            _ => Err(Failure::Job {
                name: end.error_name.into(),
                message: end.error_message.into(),
                log: log(connection, &job).await,
            }),
        };
    }
    Err(zbus::Error::from(std::io::Error::other("the bus went away")).into())
}

/// What the log of a job says, a line each; empty if it may not be read.
async fn log(connection: &Connection, job: &OwnedObjectPath) -> String {
    let text = async {
        let job = JobProxy::builder(connection).path(job.clone()).build().await?;
        let stream = std::os::fd::OwnedFd::from(job.open_log(0).await?);
        let mut text = String::new();
        // The job is finished, so the log has an end.
        std::fs::File::from(stream).read_to_string(&mut text)?;
        Ok::<_, zbus::Error>(text)
    };
    let text = text.await.unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|line| Some(format!("\n  {}", line["msg"].as_str()?)))
        .collect()
}
