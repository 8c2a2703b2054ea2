//! What CRIU does not write down of a container: the files that it has changed, and its shared memory.
//!
//! Both are read while none of its processes moves, after these were written down: so they are as the
//! memory of the processes has them. What is mounted of the host, and volumes, are not the container's.

use std::sync::Arc;

use tare_storage::{ContainerKey, RUNTIME_PATHS, Rootfs, Store, TarStream};

use super::Changes;
use super::files::{Archive, Files};
use crate::engine::blocking::unbounded;
use crate::engine::container::{Container, Running};
use crate::engine::files::pour;
use crate::engine::jobs::Job;
use crate::engine::{Engine, Error, exec, key};

/// Where its shared memory is in every container.
const SHARED_MEMORY: &str = "/dev/shm";

/// A container of which nothing moves.
struct Capture {
    store: Arc<Store>,
    key: ContainerKey,
    /// Its root as its processes see it, with all that is mounted there.
    root: Rootfs,
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
        let root = exec::root_of(&container.name(), running.pid)?;
        // If it has not ended by now, that was its own root and not that of a later process.
        if running.init.has_ended() {
            return Err(Error::NotRunning(container.name()));
        }
        let capture = Capture {
            store: self.store.clone(),
            key: key(&container.id),
            root: Rootfs::from_fd(root.into()),
            changes,
            files: files.clone(),
            job: job.clone(),
        };
        unbounded("checkpoint", move || capture.write()).await
    }
}

impl Capture {
    fn write(&self) -> Result<(), Error> {
        // What has no shared memory any more has nothing in it.
        if let Some(memory) = self.root.subdirectory(SHARED_MEMORY)? {
            self.pour(Archive::Memory, memory.export()?)?;
        }
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
