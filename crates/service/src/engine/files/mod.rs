//! Files of containers: what they changed, and how files come in and out.
//!
//! What is read alone is read in a mount of its own, over which nobody writes: so a container may start,
//! end and go on while that lasts, and no lock is held. What a process in a container sees, with all that
//! is mounted there, is found through its root. A container that is written to meanwhile does not start
//! ([`Writing`]), for two mounts of one root that are both written to destroy it.

mod changes;
mod commit;
mod copy;
mod instruction;
mod mounted;
mod root;

pub use changes::GetChanges;
pub(super) use commit::Made;
pub use commit::{Commit, Meanwhile};
pub(super) use copy::pour;
pub use copy::{CopyIn, CopyOut, ExportContainer};
pub use instruction::Instruction;
pub(in crate::engine) use mounted::RootHolders;
pub use mounted::{MountRoot, UnmountRoot};
pub use root::OpenRoot;

use std::os::fd::OwnedFd;

use tare_storage::Rootfs;

use super::container::{Container, Running};
use super::{Error, Inner, exec, key, users, view};
use crate::authority::{Action, Caller, Question};

/// What is asked about files of a container.
fn transfer(container: &view::Container, verb: &str) -> Question {
    Question::new(Action::TransferFiles)
        .with("container", container.name.as_str())
        .with("verb", verb)
}

/// The same for files at places where something of the host may be mounted.
fn transfer_inside(container: &view::Container, verb: &str, by: &Caller) -> Question {
    let question = transfer(container, verb);
    if container.privileged && by.uid != 0 {
        question.and(Action::ExecPrivilegedContainer)
    } else {
        question
    }
}

/// The root as a process of the container sees it, with all that is mounted there.
///
/// # Errors
///
/// [`Error::NotRunning`], [`Error::InvalidState`].
fn inside(container: &Container, running: &Running) -> Result<Rootfs, Error> {
    // Archives have owners as they are in the container, and all that is seen from here is mapped.
    if users::are_own(&container.definition().row.request) {
        return Err(container.wrong_state("to be stopped, as it has users of its own"));
    }
    let root = exec::root_of(&container.name(), running.pid)?;
    // If it has not ended by now, that was its own root and not that of a later process.
    if running.init.has_ended() {
        return Err(Error::NotRunning(container.name()));
    }
    Ok(Rootfs::from_fd(OwnedFd::from(root)))
}

impl Inner {
    /// The root of a container, without anything that is mounted on it, to be read. Blocks.
    ///
    /// # Errors
    ///
    /// [`Error::Mount`].
    fn root_to_read(&self, container: &Container) -> Result<Rootfs, Error> {
        let layers = self.image_of(&container.root)?.layers.clone();
        let mounted = self.store.mount_to_read(&layers, &key(&container.id));
        mounted.map_err(|source| Error::Mount { name: container.name(), source })
    }
}
