//! The mounts of volumes, made when a container starts.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, PoisonError};

use tare_runtime::ContainerName;
use tare_specgen::{MountRequest, MountSource, SubPath};
use tare_storage::{Limits, Rootfs, Store, bind};

use super::{Volume, Volumes};
use crate::engine::Error;
use crate::engine::bundle::failed_mount;
use crate::engine::mount::{Source, bind_options, relabel};
use crate::engine::selinux::Labels;

/// What is to be mounted at a place.
#[derive(Debug)]
pub(in crate::engine) struct Wanted {
    request: MountRequest,
    volume: Arc<Volume>,
    sub_path: Option<SubPath>,
}

impl Volumes {
    /// What is to be made for a mount, if it is that of a volume.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchVolume`].
    pub(in crate::engine) fn wanted(
        &self,
        request: &MountRequest,
    ) -> Result<Option<Wanted>, Error> {
        let MountSource::Volume { name, sub_path } = &request.source else { return Ok(None) };
        let (volume, sub_path) = (self.find(name.as_str())?, sub_path.clone());
        Ok(Some(Wanted { request: request.clone(), volume, sub_path }))
    }
}

impl Wanted {
    pub(in crate::engine) fn is_relabeled(&self) -> bool {
        self.request.relabeled_for().is_some()
    }

    /// Makes it, with owners mapped as a user namespace does if there is one, from a volume that is first
    /// filled with what the image has there if it is new.
    pub(in crate::engine) fn make(
        self,
        store: &Store,
        (rootfs, users): (&Rootfs, Option<BorrowedFd<'_>>),
        labels: Option<&Labels>,
        container: &ContainerName,
    ) -> Result<Source, Error> {
        let failed = |source| failed_mount(container, source);
        let options = bind_options(&self.request, users);
        let make = |place: BorrowedFd<'_>| {
            relabel(&self.request, place, labels)?;
            bind(place, &options)
        };
        self.fill(store, rootfs).map_err(failed)?;
        let volume = store.open_volume(&self.volume.row.name).map_err(failed)?;
        let mount = match &self.sub_path {
            None => make(volume.as_fd()).map_err(failed)?,
            Some(path) => {
                let found = volume.root().and_then(|root| root.subdirectory(path.as_str()));
                let directory = found.map_err(failed)?.ok_or_else(|| Error::NoSubPath {
                    volume: self.volume.row.name.clone(),
                    path: path.clone(),
                })?;
                make(directory.as_fd()).map_err(failed)?
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
}
