//! Removes what is bound to a caller that has left.

use std::sync::Arc;
use std::time::Duration;

use super::jobs::{JobKind, Origin, Output};
use super::lifecycle::Bond;
use super::object::ObjectId;
use super::remove::{IfRunning, OwnVolumes, Remove};
use super::{Engine, Error, Pending, view};

/// Before what was in the way is looked at again.
const PAUSE: Duration = Duration::from_millis(200);

impl Engine {
    /// Begins to remove all containers that are bound to this caller, with the volumes that were made
    /// for them alone.
    pub fn abandon(&self, bond: &Bond) {
        let is_bound = |view: &Arc<view::Container>| view.lifecycle.bound_to.as_ref() == Some(bond);
        for container in self.containers().into_iter().filter(is_bound) {
            let (name, id) = (container.name.clone(), container.id.clone());
            tracing::info!(
                container = %name, container_id = %id, "is removed: whoever made it has left the bus"
            );
            match self.remove_abandoned(&container) {
                Ok(job) => job.run(),
                Err(error) => tracing::error!(
                    container = %name, container_id = %id, "{}", error.chain()
                ),
            }
        }
    }

    fn remove_abandoned(&self, container: &view::Container) -> Result<Pending, Error> {
        self.check_serving()?;
        let (engine, id) = (self.clone(), container.id.clone());
        let object = ObjectId::Container(id.clone());
        self.pending(JobKind::RemoveContainer, Some(object), Origin::Host, move |job| async move {
            loop {
                // As it is now: it may have been renamed.
                let Ok(known) = engine.container(&id) else { return Ok(Output::default()) };
                let request = Remove {
                    container: known.view(),
                    running: IfRunning::Kill,
                    volumes: OwnVolumes::Remove,
                };
                match engine.remove_container(&request, &job).await {
                    Err(error) if is_passing(&error) => {
                        job.or_canceled(tokio::time::sleep(PAUSE)).await?;
                    }
                    removed => return removed.map(|()| Output::default()),
                }
            }
        })
    }
}

/// Whether it is in the way of a removal and will not be for good: somebody who shares its network, and
/// perhaps goes for the same reason, or is at work on it.
fn is_passing(error: &Error) -> bool {
    matches!(error, Error::NamespacesShared { .. } | Error::Changed(_) | Error::InvalidState { .. })
}
