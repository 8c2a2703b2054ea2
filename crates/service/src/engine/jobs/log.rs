//! The log of a job, as a stream.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;

use super::{Job, JobState};
use crate::effects;

/// The log from its start, as JSON lines, until the job is finished.
pub(super) fn open(job: Arc<Job>) -> io::Result<OwnedFd> {
    let (reader, writer) = effects::pipe()?;
    let writer = OwnedFd::from(writer);
    rustix::io::ioctl_fionbio(&writer, true)?;
    let mut writer = pipe::Sender::from_owned_fd(writer)?;
    tokio::spawn(async move {
        let mut watch = job.watch();
        let mut written = 0;
        loop {
            let finished = watch.borrow_and_update().state == JobState::Finished;
            for line in job.log_from(written) {
                written += 1;
                let line =
                    json!({"t": line.time.0, "priority": line.priority, "msg": line.message});
                if writer.write_all(format!("{line}\n").as_bytes()).await.is_err() {
                    return;
                }
            }
            if finished || watch.changed().await.is_err() {
                return;
            }
        }
    });
    Ok(reader.into())
}
