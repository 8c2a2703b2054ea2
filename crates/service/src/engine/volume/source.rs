//! The sources of a container's mounts, made when it starts: detached mounts, by descriptor.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, PoisonError};

use tare_runtime::ContainerName;
use tare_specgen::{Effective, MountRequest, MountSource, MountTarget, SubPath};
use tare_storage::{BindOptions, Limits, MountAccess, Rootfs, Store, bind};

use super::{Volume, Volumes};
use crate::engine::Error;

/// What is seen at a place of a container, not yet there.
#[derive(Debug)]
pub(in crate::engine) struct Source {
    pub(in crate::engine) target: MountTarget,
    pub(in crate::engine) mount: OwnedFd,
}

impl Source {
    /// Reads a regular file in it, as the container would see it.
    pub(in crate::engine) fn read(
        &self,
        path: &str,
        max: usize,
    ) -> Result<Option<Vec<u8>>, tare_storage::Error> {
        // Without a descriptor more, nothing is known of it, as if nothing were there.
        let Ok(root) = self.mount.try_clone() else { return Ok(None) };
        Rootfs::from_fd(root).read_file(path, max)
    }
}

/// What is to be mounted at a place.
#[derive(Debug)]
pub(in crate::engine) struct Wanted {
    request: MountRequest,
    volume: Arc<Volume>,
    sub_path: Option<SubPath>,
}

impl Volumes {
    /// The mounts of a container whose sources have to be made.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchVolume`].
    pub(in crate::engine) fn wanted(&self, effective: &Effective) -> Result<Vec<Wanted>, Error> {
        let mut wanted = Vec::new();
        for request in &effective.request.mounts {
            if let MountSource::Volume { name, sub_path } = &request.source {
                let volume = self.find(name.as_str())?;
                wanted.push(Wanted {
                    request: request.clone(),
                    volume,
                    sub_path: sub_path.clone(),
                });
            }
        }
        Ok(wanted)
    }
}

impl Wanted {
    /// Makes it, from a volume that is first filled with what the image has there if it is new.
    pub(in crate::engine) fn make(
        self,
        store: &Store,
        rootfs: &Rootfs,
        container: &ContainerName,
    ) -> Result<Source, Error> {
        let failed = |source| Error::Mount { name: container.clone(), source };
        self.fill(store, rootfs).map_err(failed)?;
        let volume = store.open_volume(&self.volume.row.name).map_err(failed)?;
        let mount = match &self.sub_path {
            None => bind(volume.as_fd(), &self.options()).map_err(failed)?,
            Some(path) => {
                let found = volume.root().and_then(|root| root.subdirectory(path.as_str()));
                let directory = found.map_err(failed)?.ok_or_else(|| Error::NoSubPath {
                    volume: self.volume.row.name.clone(),
                    path: path.clone(),
                })?;
                bind(directory.as_fd(), &self.options()).map_err(failed)?
            }
        };
        Ok(Source { target: self.request.target, mount })
    }

    fn fill(&self, store: &Store, rootfs: &Rootfs) -> Result<(), tare_storage::Error> {
        // Two containers may start with it at once.
        let _alone = self.volume.filling.lock().unwrap_or_else(PoisonError::into_inner);
        let volume = store.open_volume(&self.volume.row.name)?;
        if self.sub_path.is_some() {
            return volume.begin_use().map(drop);
        }
        let go_on = |_: u64| ControlFlow::Continue(());
        let target = self.request.target.as_str();
        volume.fill(rootfs, target, &Limits::default(), &go_on).map(drop)
    }

    /// Device nodes and set-user-id programs have no effect unless that was asked for.
    fn options(&self) -> BindOptions<'static> {
        let said = |word: &str| self.request.options.iter().any(|it| it.to_string() == word);
        let mut options = BindOptions::new();
        if said("dev") {
            options = options.with_devices();
        }
        if said("suid") {
            options = options.with_setuid();
        }
        if bool::from(self.request.access) || said("ro") {
            options = options.with_access(MountAccess::ReadOnly);
        }
        options
    }
}
