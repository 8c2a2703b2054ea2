//! Images that are mounted in containers of others.

use std::collections::BTreeSet;

use tare_runtime::ContainerId;
use tare_specgen::{MountRequest, MountSource, Request, SubPath};
use tare_storage::{ChainId, Digest};

use super::AskedMount;
use crate::engine::records::durable::Root;
use crate::engine::{Error, Inner};

/// The images that a request mounts.
pub(in crate::engine) fn mounted_images(request: &Request) -> BTreeSet<Digest> {
    let image = |mount: &MountRequest| match &mount.source {
        MountSource::Image { image, .. } => image.as_str().parse().ok(),
        _ => None,
    };
    request.mounts.iter().filter_map(image).collect()
}

/// Whether a mount is of an image that its container writes to: what it changes of that is its own.
pub(super) fn is_written(mount: &MountRequest) -> bool {
    matches!(mount.source, MountSource::Image { .. }) && !mount.is_read_only()
}

impl Inner {
    /// The uppermost layers of the images that a container writes to, in the order of the mounts.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchImage`].
    pub(in crate::engine) fn written_images(
        &self,
        request: &Request,
    ) -> Result<Vec<ChainId>, Error> {
        let written = request.mounts.iter().filter(|mount| is_written(mount));
        let images = written.filter_map(|mount| match &mount.source {
            MountSource::Image { image, .. } => Some(self.images.find(image.as_str())),
            _ => None,
        });
        images
            .map(|image| {
                let top = image?.layers.last().copied();
                top.ok_or_else(|| Error::Bug("no layers".into()))
            })
            .collect()
    }

    /// The mount of an image by its name, or of a directory in it.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchImage`], [`Error::InvalidReference`].
    pub(in crate::engine) fn image_mount(
        &self,
        name: &str,
        sub_path: Option<SubPath>,
        asked: AskedMount,
    ) -> Result<MountRequest, Error> {
        let id = self.images.find(name)?.id.to_string();
        let image =
            id.parse().map_err(|error: tare_specgen::InvalidText| Error::Bug(error.to_string()))?;
        let source = MountSource::Image { image, sub_path };
        let mut mount = MountRequest::new(asked.target, source);
        (mount.access, mount.options) = (asked.access, asked.options);
        Ok(mount)
    }

    /// A container needs its image, and those it mounts, from now on.
    pub(in crate::engine) fn join_images(&self, id: &ContainerId, root: &Root, request: &Request) {
        for image in images(root, request) {
            self.images.join(&image, id);
        }
    }

    /// A container is gone, and needs them no more.
    pub(in crate::engine) fn leave_images(&self, id: &ContainerId, root: &Root, request: &Request) {
        for image in images(root, request) {
            self.images.leave(&image, id);
        }
    }
}

/// Each once, however it is needed.
fn images(root: &Root, request: &Request) -> BTreeSet<Digest> {
    let mut images = mounted_images(request);
    let Root::Image { id, .. } = root;
    images.insert(*id);
    images
}
