//! What CRIU does not write down of a container: the files that it has changed, and its shared memory.
//!
//! Both are read while none of its processes moves, after these were written down: so they are as the
//! memory of the processes has them. What is mounted of the host, and volumes, are not the container's.

use std::os::fd::AsFd as _;
use std::sync::Arc;

use tare_storage::{ContainerKey, RUNTIME_PATHS, Rootfs, Store, TarStream, mount_in_view};

use super::Changes;
use super::files::{Archive, Files};
use crate::engine::blocking::unbounded;
use crate::engine::container::{Container, Running};
use crate::engine::files::pour;
use crate::engine::jobs::Job;
use crate::engine::namespaces::{Memory, own_memory};
use crate::engine::{Engine, Error, key};

/// A container of which nothing moves.
struct Capture {
    store: Arc<Store>,
    key: ContainerKey,
    /// What it has of its own as `/dev/shm`, wherever that is, and whatever is mounted there.
    memory: Memory,
    changes: Changes,
    files: Files,
    job: Arc<Job>,
}

impl Engine {
    /// Writes what CRIU does not into the directory of a checkpoint. Whatever cannot be read fails it.
    pub(super) async fn capture(
        &self,
        container: &Container,
        running: &Running,
        changes: Changes,
        files: &Files,
        job: &Arc<Job>,
    ) -> Result<(), Error> {
        let capture = Capture {
            store: self.store.clone(),
            key: key(&container.id),
            memory: own_memory(&self.instance, container, running)?,
            changes,
            files: files.clone(),
            job: job.clone(),
        };
        unbounded("checkpoint", move || capture.write()).await
    }
}

impl Capture {
    fn write(&self) -> Result<(), Error> {
        let memory = mount_in_view(self.memory.view.as_fd(), &self.memory.place)?;
        self.pour(Archive::Memory, Rootfs::from_fd(memory).export()?)?;
        match self.changes {
            Changes::LeftOut => Ok(()),
            Changes::Kept => {
                self.pour(Archive::Changes, self.store.diff(&self.key, RUNTIME_PATHS)?)
            }
        }
    }

    fn pour(&self, archive: Archive, stream: TarStream) -> Result<(), Error> {
        let file = self.files.make(archive)?;
        pour(stream, file, &self.job, &|| Ok(())).map_err(|error| match error {
            // It is no caller's archive.
            Error::WriteArchive(source) => Error::Host { what: "write a checkpoint", source },
            other => other,
        })
    }
}
