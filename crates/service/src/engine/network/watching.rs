//! Following what happens to the host's firewall.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::engine::Error;
use crate::engine::sys::{self, Watches};

/// Acts whenever something has changed that matters, for as long as anybody is there to whom it does; if
/// that is to `rest`, so long after the first change: who changes rules changes many, and what they come
/// to is seen when all of them are there.
pub(super) async fn follow<W: Watches, T>(
    (what, watcher): (&'static str, W),
    rest: Option<Duration>,
    whom: &Weak<T>,
    mut act: impl AsyncFnMut(Arc<T>),
) -> Result<(), Error> {
    let failed = |source| Error::Host { what, source };
    let mut watcher = sys::watched(watcher).map_err(failed)?;
    loop {
        if let Some(rest) = rest {
            drop(watcher.readable().await.map_err(failed)?);
            tokio::time::sleep(rest).await;
        }
        let mut ready = watcher.readable_mut().await.map_err(failed)?;
        // All there is to be told until now: what comes afterwards is a change of its own.
        let changed = ready.get_inner_mut().changed();
        ready.clear_ready();
        let Some(whom) = whom.upgrade() else { return Ok(()) };
        if changed.map_err(|error| failed(std::io::Error::other(error)))? {
            act(whom).await;
        }
    }
}
