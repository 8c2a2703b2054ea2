//! A container that runs: its processes, held by descriptor.

use std::sync::Arc;

use tare_runtime::ContainerName;
use tare_spawn::{CgroupPath, Layout, Target};
use tokio::sync::RwLock;

use super::super::watched::Watched;
use crate::engine::Error;

/// A container that runs. Nothing of this changes while it does; what does is in its record.
#[derive(Debug)]
pub(in crate::engine) struct Running {
    /// Which start of which container, by which runtime.
    pub(in crate::engine) target: Target,
    /// Where its processes are.
    pub(in crate::engine) cgroup: CgroupPath,
    /// Its first process, in the host's numbering.
    pub(in crate::engine) pid: u32,
    /// The same, by descriptor.
    pub(in crate::engine) init: Watched,
    /// Its conmon; without one there will be no exit file, and nothing can be executed in it.
    pub(in crate::engine) supervisor: Option<Watched>,
    /// Shared by those who execute something in it, taken alone by its end and to pause it; only ever
    /// waited for with the container's lock held.
    pub(in crate::engine) in_use: Arc<RwLock<()>>,
}

impl Running {
    /// Number of its incarnation.
    pub(in crate::engine) fn number(&self) -> u32 {
        self.target.incarnation.0
    }

    /// Where its files are.
    pub(in crate::engine) fn layout<'a>(&'a self, run_dir: &'a std::path::Path) -> Layout<'a> {
        Layout::new(run_dir, &self.target.id, self.target.incarnation)
    }

    /// Its conmon.
    ///
    /// # Errors
    ///
    /// [`Error::NoSupervisor`] if that was killed.
    pub(in crate::engine) fn supervisor(&self, name: &ContainerName) -> Result<&Watched, Error> {
        let alive = self.supervisor.as_ref().filter(|supervisor| !supervisor.has_ended());
        alive.ok_or_else(|| Error::NoSupervisor(name.clone()))
    }
}
