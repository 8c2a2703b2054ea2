//! Going on from a checkpoint.
//!
//! That is a start, but for what makes the first process: CRIU does, from the images. All that a start
//! gives the container is made anew, and as it was: the checkpoint knows its addresses, and what was in
//! its shared memory, which has ended with it. Its files are those that it has now: none that were
//! written since are lost.

use std::fs::File;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tare_runtime::{ContainerId, ContainerName};
use tare_spawn::{Layout, OciRuntime, Place, PlacedMount};
use tare_storage::{BindOptions, Devices, Limits, MountAccess, Rootfs, bind};
use tokio::sync::OwnedRwLockReadGuard;

use super::files::{Archive, Files};
use super::said::{complaint, said};
use super::{After, Checkpoint, CheckpointId, Extras};
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::engine::blocking::brief;
use crate::engine::host::check_criu;
use crate::engine::jobs::{Job, JobKind, Origin, Output};
use crate::engine::object::ObjectId;
use crate::engine::records::durable::{CheckpointRow, Joined, LifeRow};
use crate::engine::start::{Goal, StartedBy};
use crate::engine::{Engine, Error, Pending, view};

/// A stopped container that is to go on from a checkpoint.
#[derive(Debug)]
pub struct Restore {
    /// Which.
    pub container: Arc<view::Container>,
    /// From which.
    pub checkpoint: Arc<view::Checkpoint>,
}

impl Ask for Restore {
    fn question(&self, by: &Caller) -> Question {
        Question::about(Action::RestoreContainer, &self.container, by).with("verb", "restore")
    }
}

/// Of which container a checkpoint is that another one goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// Of the same: it is that one again.
    Same,
    /// Of another, which may run meanwhile.
    Another,
}

impl Whose {
    fn of(checkpoint: &CheckpointRow, container: &ContainerId) -> Self {
        if checkpoint.container == *container { Self::Same } else { Self::Another }
    }
}

/// What a start goes on from.
#[derive(Debug)]
pub(in crate::engine) struct Resume {
    checkpoint: Arc<Checkpoint>,
    whose: Whose,
    /// Nobody removes it meanwhile.
    _files: OwnedRwLockReadGuard<()>,
    images: OwnedFd,
    /// What was in its shared memory, if that is known.
    memory: Option<File>,
}

impl Engine {
    /// Begins to restore a container.
    ///
    /// # Errors
    ///
    /// [`Error::NoCriu`], or [`Error::Host`] if there can be no job.
    pub fn restore(&self, request: Authorized<Restore>) -> Result<Pending, Error> {
        let (request, by) = request.into_parts();
        check_criu()?;
        let engine = self.clone();
        let object = ObjectId::Container(request.container.id.clone());
        self.pending(
            JobKind::RestoreContainer,
            Some(object),
            Origin::Caller(&by),
            move |job| async move {
                engine.restore_now(&request, &job).await?;
                Ok(Output::default())
            },
        )
    }

    async fn restore_now(&self, request: &Restore, job: &Job) -> Result<(), Error> {
        if request.checkpoint.container != request.container.id {
            let (name, checkpoint) =
                (request.container.name.clone(), request.checkpoint.id.clone());
            return Err(Error::OtherCheckpoint { name, checkpoint });
        }
        let goal = Goal::GoOn(request.checkpoint.id.clone());
        self.start_for(&request.container, job, StartedBy::Somebody, goal).await
    }

    /// What a container goes on from, whose lock is held.
    pub(in crate::engine) async fn resume_from(
        &self,
        id: &CheckpointId,
        container: &ContainerId,
        job: &Job,
    ) -> Result<Resume, Error> {
        let (checkpoint, held) = self.hold_checkpoint(id, job).await?;
        let files = Files::new(&self.instance, id);
        let whose = Whose::of(&checkpoint.row, container);
        let (first, container) = (checkpoint.row.container.clone(), container.clone());
        let (images, memory) = brief(move || {
            let images = match whose {
                Whose::Same => files.images()?,
                Whose::Another => {
                    files.images_for(&first, &container)?;
                    files.open_images_for(&container)?
                }
            };
            Ok((images, files.archive(Archive::Memory)?))
        })
        .await?;
        Ok(Resume { checkpoint, whose, _files: held, images, memory })
    }
}

impl Resume {
    /// The runtime that can read it.
    pub(in crate::engine) fn runtime(&self) -> OciRuntime {
        self.checkpoint.row.definition.runtime
    }

    /// What CRIU was told to take along, and has to be told again.
    pub(in crate::engine) fn extras(&self) -> Extras {
        self.checkpoint.row.definition.extras
    }

    /// The addresses that it had are the ones it asks for; not those that another had.
    pub(in crate::engine) fn ask_for_addresses(&self, networks: &mut [Joined]) {
        if self.whose == Whose::Another {
            return;
        }
        for joined in networks {
            let had = self.checkpoint.row.definition.addresses.iter();
            let had = had.filter(|(network, _)| *network == joined.network).map(|(_, it)| *it);
            joined.addresses = had.collect();
        }
    }

    /// Says so if the files of the container are later than its memory: CRIU compares sizes alone.
    pub(in crate::engine) fn check_age(&self, last: &LifeRow, job: &Job) {
        if self.whose == Whose::Same && has_run_since(&self.checkpoint.row, last) {
            job.log(4, "the container has run since: its files are later than its memory");
        }
    }

    /// What is to be in its shared memory before it goes on, for [`fill_memory`].
    pub(in crate::engine) fn memory(&self) -> Result<Option<File>, Error> {
        let again = self.memory.as_ref().map(File::try_clone).transpose();
        again.map_err(|source| Error::Host { what: "open the files of a checkpoint", source })
    }

    /// Its images, as a mount.
    pub(in crate::engine) fn mount(&self) -> Result<PlacedMount, Error> {
        let options = BindOptions::new().with_access(MountAccess::ReadOnly);
        let mount = bind(self.images.as_fd(), &options).map_err(Error::Storage)?;
        Ok(PlacedMount { place: Place::Images, mount })
    }
}

/// Puts what was in the shared memory of a container into that of another life. Blocks.
pub(in crate::engine) fn fill_memory(
    name: &ContainerName,
    memory: &OwnedFd,
    content: File,
) -> Result<(), Error> {
    let host = |source| Error::Host { what: "open the shared memory of a container", source };
    let root = Rootfs::from_fd(memory.try_clone().map_err(host)?);
    let filled = root.copy_in("/", content, &ours(), &|_| ControlFlow::Continue(()));
    filled.map(drop).map_err(|source| Error::Mount { name: name.clone(), source })
}

/// What was packed here is unpacked, whatever its size, with all that is in it.
pub(super) fn ours() -> Limits {
    let most = u64::MAX;
    let limits = Limits::default().with_devices(Devices::Make);
    limits.with_entries(most).with_bytes(most).with_ratio(most).with_depth(most)
}

/// Whether a container has run after the checkpoint was taken.
fn has_run_since(checkpoint: &CheckpointRow, last: &LifeRow) -> bool {
    checkpoint.definition.after == After::GoesOn
        || last.started.is_some_and(|started| started > checkpoint.created)
}

/// Why it could not be restored, if CRIU says that.
pub(in crate::engine) fn not_restored(
    name: ContainerName,
    layout: &Layout<'_>,
    source: tare_spawn::Error,
) -> Error {
    Error::Restore { name, source: said(complaint(&layout.restore_log()), source) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::clock::Usec;

    #[test]
    fn a_container_that_went_on_has_run_since() {
        let row = |after| {
            let mut row = CheckpointRow { created: Usec(7), ..CheckpointRow::sample() };
            row.definition.after = after;
            row
        };
        let last = |started| LifeRow { started: Some(Usec(started)), ..LifeRow::default() };
        for (after, started, want) in [
            (After::Ends, 6, false),
            (After::Ends, 8, true),
            (After::GoesOn, 6, true),
            (After::GoesOn, 8, true),
        ] {
            assert_eq!(has_run_since(&row(after), &last(started)), want, "{after:?} {started}");
        }
    }
}
