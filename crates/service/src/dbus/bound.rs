//! Containers, and mounts, that go when whoever made them leaves the bus.
//!
//! A bus gives a unique name once, so who has left is known for good; and with another bus all of the
//! one before have left.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use zbus::fdo::DBusProxy;
use zbus::names::BusName;

use super::context::Context;
use crate::engine::lifecycle::Bond;

/// Connections that are waited for until they leave.
#[derive(Debug, Default)]
pub(super) struct Watched(Mutex<HashSet<Bond>>);

/// Has what is bound to a connection removed when that leaves, also if it has left by now.
pub(super) fn watch(context: &Arc<Context>, bond: &Bond) {
    if !context.watched.insert(bond) {
        return;
    }
    let (context, bond) = (context.clone(), bond.clone());
    tokio::spawn(async move {
        let left = left(&context.bus, &context.bus_id, &bond).await;
        // What is bound to it from now on is watched anew, and finds that it has left.
        context.watched.remove(&bond);
        match left {
            Ok(()) => {
                context.engine.abandon(&bond);
                context.engine.unmount_abandoned(&bond);
            }
            // The next daemon looks again.
            Err(error) => tracing::warn!("{} cannot be watched: {error}", bond.name),
        }
    });
}

impl Watched {
    fn insert(&self, bond: &Bond) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(bond.clone())
    }

    fn remove(&self, bond: &Bond) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(bond);
    }
}

/// Returns when the connection has left.
async fn left(bus: &DBusProxy<'_>, bus_id: &str, bond: &Bond) -> zbus::Result<()> {
    if bond.bus != bus_id {
        return Ok(());
    }
    let name = BusName::try_from(bond.name.as_str())?;
    let mut changes = bus.receive_name_owner_changed_with_args(&[(0, bond.name.as_str())]).await?;
    if !bus.name_has_owner(name).await? {
        return Ok(());
    }
    while let Some(change) = changes.next().await {
        if change.args()?.new_owner().is_none() {
            return Ok(());
        }
    }
    Err(zbus::Error::Failure("the bus went away".into()))
}
