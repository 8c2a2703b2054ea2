//! Checkpoints: what CRIU wrote down of containers that ran, for them to go on from there.
//!
//! A checkpoint is in a directory of its own, which has its name only when it is complete; its row
//! comes after that, and only then does the container end. So what has no row is nobody's, and a
//! container that has ended for a checkpoint has one.
//!
//! Beside the images of CRIU in `images` there is in that directory what CRIU does not write down:
//! `changes.tar`, a layer of what the container has changed of its image, `shm.tar`, what is in its
//! `/dev/shm`, and CRIU's own figures.

mod capture;
mod commit;
mod copy;
mod files;
mod fill;
mod id;
mod manage;
mod restore;
mod said;
mod take;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use tare_runtime::ContainerId;

use super::events::Events;
use super::object::Visible;
use super::records::durable::{self, CheckpointRow};
use super::{Engine, Error, Inner, host, view};
use crate::db::Db;

pub use copy::{AskedCopy, RestoreAs};
pub(super) use fill::Filling;
pub use id::CheckpointId;
pub use manage::{InspectCheckpoint, RemoveCheckpoint};
pub use restore::Restore;
pub(super) use restore::{Resume, fill_memory, not_restored};
pub use take::Checkpoint as TakeCheckpoint;
pub use tare_spawn::{After, Extras};

/// What becomes of what a container has changed of its image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Changes {
    /// It is the container's alone.
    #[default]
    LeftOut,
    /// It is in the checkpoint, as it was in that moment.
    Kept,
}

/// All checkpoints.
#[derive(Debug)]
pub(super) struct Checkpoints {
    all: RwLock<BTreeMap<CheckpointId, Arc<Checkpoint>>>,
    events: Events,
}

/// A checkpoint.
#[derive(Debug)]
pub(super) struct Checkpoint {
    row: CheckpointRow,
    /// Shared by those who restore it, taken alone by who removes it. Whoever takes the lock of its
    /// container as well has taken that before.
    files: Arc<tokio::sync::RwLock<()>>,
    seen: Visible<view::Checkpoint>,
}

impl Checkpoints {
    /// All checkpoints as they are in the database.
    pub(super) async fn open(state: &Db, events: Events, host: &host::Host) -> Result<Self, Error> {
        let checkpoints = Self { all: RwLock::default(), events };
        for found in state.run(durable::checkpoints).await? {
            match found {
                Ok(row) => checkpoints.insert(row),
                Err(error) => host.taint_unreadable("a checkpoint", &error.into()),
            }
        }
        Ok(checkpoints)
    }

    /// From now on it is seen.
    fn insert(&self, row: CheckpointRow) {
        let seen = Visible::new(view(&row), self.events.clone());
        let checkpoint = Checkpoint { row, files: Arc::default(), seen };
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(checkpoint.row.id.clone(), Arc::new(checkpoint));
    }

    /// The checkpoint of that id.
    pub(super) fn get(&self, id: &CheckpointId) -> Option<Arc<Checkpoint>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn find(&self, id: &CheckpointId) -> Result<Arc<Checkpoint>, Error> {
        self.get(id).ok_or_else(|| Error::NoSuchCheckpoint(id.to_string()))
    }

    fn all(&self) -> Vec<Arc<Checkpoint>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// It is not seen any more.
    fn take(&self, id: &CheckpointId) {
        let taken = self.all.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        if let Some(checkpoint) = taken {
            checkpoint.seen.remove();
        }
    }

    /// All those of a container, which are not seen any more.
    fn take_all_of(&self, container: &ContainerId) -> Vec<Arc<Checkpoint>> {
        let mut its = self.all();
        its.retain(|checkpoint| checkpoint.row.container == *container);
        for checkpoint in &its {
            self.take(&checkpoint.row.id);
        }
        its
    }
}

fn view(row: &CheckpointRow) -> view::Checkpoint {
    view::Checkpoint {
        id: row.id.clone(),
        name: row.name.clone(),
        container: row.container.clone(),
        owner_uid: row.owner_uid,
        created: row.created,
        size: row.size,
        criu: row.definition.criu.clone(),
        kernel: row.definition.kernel.clone(),
        architecture: row.definition.architecture.clone(),
        changes: row.definition.changes,
    }
}

impl Inner {
    /// What is seen of all checkpoints.
    pub fn checkpoints(&self) -> Vec<Arc<view::Checkpoint>> {
        self.checkpoints.all().iter().map(|checkpoint| checkpoint.seen.get()).collect()
    }

    /// What is seen of the checkpoint of that id.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchCheckpoint`].
    pub fn find_checkpoint(&self, id: &CheckpointId) -> Result<Arc<view::Checkpoint>, Error> {
        Ok(self.checkpoints.find(id)?.seen.get())
    }

    /// Whether a container ended because that checkpoint of it was taken.
    pub(super) fn has_checkpoint(&self, id: &CheckpointId) -> bool {
        self.checkpoints.get(id).is_some()
    }
}

impl Engine {
    /// Removes what is there of checkpoints that have no row.
    pub(super) async fn sweep_checkpoints(&self) {
        let swept = match self.state.run(durable::checkpoint_ids).await {
            Ok(known) => files::sweep(&self.instance, known).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = swept {
            tracing::error!("checkpoints are not swept: {}", error.chain());
        }
    }
}
