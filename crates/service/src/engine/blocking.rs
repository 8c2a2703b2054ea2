//! The seam between async callers and leaves that block.

use std::thread;

use tokio::sync::oneshot;

use super::Error;

/// Runs `work`, which blocks for no longer than the kernel or a runtime needs.
pub(super) async fn brief<T, F>(work: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Error> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => Err(Error::Bug(panic.to_string())),
    }
}

/// Runs `work` on a thread of its own: it may wait for a caller's file or pipe, which may never
/// come, and no shared thread may be held by that.
pub(super) async fn unbounded<T, F>(name: &'static str, work: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Error> + Send + 'static,
{
    let (sender, answer) = oneshot::channel();
    thread::Builder::new()
        .name(name.into())
        .spawn(move || sender.send(work()))
        .map_err(|source| Error::Host { what: "start a thread", source })?;
    answer.await.unwrap_or_else(|_| Err(Error::Bug(format!("thread {name} panicked"))))
}
