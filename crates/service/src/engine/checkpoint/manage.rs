//! Showing and removing checkpoints.

use std::sync::Arc;

use tare_runtime::ContainerId;

use super::files::Files;
use super::take::figures;
use super::{Changes, Checkpoint, CheckpointId};
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::engine::blocking::{brief, unbounded};
use crate::engine::jobs::{Job, JobKind, Origin, Output};
use crate::engine::object::ObjectId;
use crate::engine::records::durable;
use crate::engine::{Engine, Error, Inner, Pending, view};

/// A checkpoint to be removed.
#[derive(Debug)]
pub struct RemoveCheckpoint {
    /// Which.
    pub checkpoint: Arc<view::Checkpoint>,
    /// Of which container.
    pub container: Arc<view::Container>,
}

/// A checkpoint of which all is to be told.
#[derive(Debug)]
pub struct InspectCheckpoint {
    /// Which.
    pub checkpoint: Arc<view::Checkpoint>,
    /// Of which container.
    pub container: Arc<view::Container>,
    /// Whether with CRIU's figures.
    pub with_figures: bool,
}

impl Ask for RemoveCheckpoint {
    fn question(&self, by: &Caller) -> Question {
        Question::about(Action::CheckpointContainer, &self.container, by)
            .with("verb", "remove a checkpoint of")
    }
}

impl Ask for InspectCheckpoint {
    fn question(&self, by: &Caller) -> Question {
        Question::about(Action::CheckpointContainer, &self.container, by)
            .with("verb", "inspect a checkpoint of")
    }
}

impl Engine {
    /// Begins to remove a checkpoint.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there can be no job.
    pub fn remove_checkpoint(
        &self,
        request: Authorized<RemoveCheckpoint>,
    ) -> Result<Pending, Error> {
        let (RemoveCheckpoint { checkpoint, .. }, by) = request.into_parts();
        let engine = self.clone();
        let object = ObjectId::Checkpoint(checkpoint.id.clone());
        self.pending(
            JobKind::RemoveCheckpoint,
            Some(object),
            Origin::Caller(&by),
            move |job| async move {
                engine.remove_checkpoint_now(&checkpoint.id, &job).await?;
                Ok(Output::default())
            },
        )
    }

    async fn remove_checkpoint_now(&self, id: &CheckpointId, job: &Job) -> Result<(), Error> {
        let checkpoint = self.checkpoints.find(id)?;
        let _alone = job.or_canceled(checkpoint.files.write()).await?;
        // Another may have been faster.
        self.checkpoints.find(id)?;
        job.point_of_no_return()?;
        let row = id.clone();
        self.state.run(move |c| durable::delete_checkpoint(c, &row)).await?;
        self.remove_files(&checkpoint).await
    }

    /// Removes what there is of the checkpoints of a container whose row is gone, and with that theirs.
    /// None of them is seen any more, whatever cannot be removed; the first error.
    pub(in crate::engine) async fn remove_checkpoints_of(
        &self,
        id: &ContainerId,
    ) -> Result<(), Error> {
        let mut first = Ok(());
        for checkpoint in self.checkpoints.take_all_of(id) {
            let _alone = checkpoint.files.write().await;
            let removed = self.remove_files(&checkpoint).await;
            if let (Err(_), Err(error)) = (&first, &removed) {
                tracing::error!("{}", error.chain());
            }
            first = first.and(removed);
        }
        first
    }

    /// Of one that has no row; what cannot be removed goes when the next daemon comes.
    async fn remove_files(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let files = Files::new(&self.instance, &checkpoint.row.id);
        self.checkpoints.take(&checkpoint.row.id);
        unbounded("checkpoint", move || files.remove()).await
    }
}

impl Inner {
    /// All about a checkpoint, as JSON.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchCheckpoint`].
    pub async fn inspect_checkpoint(
        &self,
        request: Authorized<InspectCheckpoint>,
    ) -> Result<String, Error> {
        let (InspectCheckpoint { checkpoint, with_figures, .. }, _) = request.into_parts();
        let checkpoint = self.checkpoints.find(&checkpoint.id)?;
        let row = &checkpoint.row;
        let addresses: Vec<_> = row
            .definition
            .addresses
            .iter()
            .map(|(network, address)| {
                serde_json::json!({"Network": network.as_str(), "Address": address.to_string()})
            })
            .collect();
        let mut document = serde_json::json!({
            "v": 1,
            "Id": row.id.as_str(),
            "Name": row.name.as_str(),
            "ContainerId": row.container.as_str(),
            "OwnerUID": row.owner_uid,
            "CreatedTimestamp": row.created.0,
            "Size": row.size,
            "CRIUVersion": row.definition.criu,
            "KernelVersion": row.definition.kernel,
            "Architecture": row.definition.architecture,
            "RootfsIncluded": row.definition.changes == Changes::Kept,
            "Runtime": row.definition.runtime.as_str(),
            "TCPEstablished": row.definition.extras.tcp_established,
            "FileLocks": row.definition.extras.file_locks,
            "ExternalUnixSockets": row.definition.extras.external_unix_sockets,
            "Addresses": addresses,
        });
        if with_figures {
            let files = Files::new(&self.instance, &row.id);
            let stats = brief(move || Ok(files.stats())).await?;
            document["Stats"] = stats.and_then(|stats| figures(&stats)).unwrap_or_default();
        }
        Ok(document.to_string())
    }
}
