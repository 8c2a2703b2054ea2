//! The sources of a container's mounts, made when it starts: detached mounts, by descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use tare_runtime::ContainerName;
use tare_specgen::{Effective, MountRequest, MountSource, MountTarget, SubPath};
use tare_storage::{
    ChainId, ContainerKey, Digest, FileLabel, Pin, RootOptions, Rootfs, Store, bind, read_place,
};

use super::image::is_written;
use super::options::is_recursive;
use super::{bind_options, relabel};
use crate::engine::bundle::failed_mount;
use crate::engine::container::Container;
use crate::engine::selinux::Labels;
use crate::engine::{Error, Inner, key, volume};

/// What is seen at a place of a container, not yet there.
#[derive(Debug)]
pub(in crate::engine) struct Source {
    pub(in crate::engine) target: MountTarget,
    pub(in crate::engine) mount: OwnedFd,
}

impl Source {
    /// Reads a regular file in it, or it itself, as the container would see it.
    pub(in crate::engine) fn read(
        &self,
        path: &str,
        max: usize,
    ) -> Result<Option<Vec<u8>>, tare_storage::Error> {
        if path.is_empty() {
            return read_place(self.mount.as_fd(), max);
        }
        // Without a descriptor more, nothing is known of it, as if nothing were there.
        let Ok(root) = self.mount.try_clone() else { return Ok(None) };
        Rootfs::from_fd(root).read_file(path, max)
    }

    /// Whether there is a symbolic link at a path in it.
    pub(super) fn has_link(&self, path: &str) -> Result<bool, tare_storage::Error> {
        // Without a descriptor more nobody knows, and what may be one is not followed.
        let Ok(root) = self.mount.try_clone() else { return Ok(true) };
        Ok(Rootfs::from_fd(root).read_link(path)?.is_some())
    }
}

/// What is to be mounted at a place.
#[derive(Debug)]
pub(in crate::engine) enum Wanted {
    Volume(volume::Wanted),
    Host { request: MountRequest, pin: Pin },
    Image(ImageMount),
}

/// An image, or a directory in it.
#[derive(Debug)]
pub(in crate::engine) struct ImageMount {
    target: MountTarget,
    image: Digest,
    layers: Vec<ChainId>,
    sub_path: Option<SubPath>,
    /// Where the container has what it changes of it, if it may.
    own: Option<(ContainerKey, usize)>,
}

impl ImageMount {
    fn make(
        self,
        store: &Store,
        options: &RootOptions<'_>,
        container: &ContainerName,
    ) -> Result<Source, Error> {
        let failed = |source| failed_mount(container, source);
        let Self { target, image, layers, sub_path, own } = self;
        let whole = match own {
            Some((key, nth)) => store.mount_image(&layers, &key, nth, options),
            None => store.mount_layers_with(&layers, options),
        };
        let whole = whole.map_err(failed)?;
        let mount = match sub_path {
            None => whole,
            Some(path) => {
                let part = store.mount_part(whole, path.as_str()).map_err(failed)?;
                part.ok_or(Error::NoImagePath { image, path })?
            }
        };
        Ok(Source { target, mount })
    }
}

/// How files that are a container's own are mounted.
pub(in crate::engine) fn root_options<'a>(
    users: Option<BorrowedFd<'a>>,
    label: Option<&'a FileLabel>,
) -> RootOptions<'a> {
    let plain = RootOptions::new();
    let labelled = label.map_or(plain, |label| plain.with_label(label));
    users.map_or(labelled, |users| labelled.with_users(users))
}

/// Whether what is mounted has to be made when the container starts.
pub(in crate::engine) fn has_source(source: &MountSource) -> bool {
    matches!(source, MountSource::Volume { .. } | MountSource::Host(_) | MountSource::Image { .. })
}

impl Inner {
    /// The mounts of a container whose sources have to be made.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchVolume`], [`Error::NoSuchImage`].
    pub(in crate::engine) fn wanted_mounts(
        &self,
        container: &Container,
        effective: &Effective,
    ) -> Result<Vec<Wanted>, Error> {
        let definition = container.definition();
        let pins = &definition.row.pins.mounts;
        let (mut wanted, mut written) = (Vec::new(), 0..);
        let mounts = effective.request.mounts.iter();
        for request in mounts.filter(|request| has_source(&request.source)) {
            let target = request.target.clone();
            wanted.push(match &request.source {
                MountSource::Volume { .. } => match self.volumes.wanted(request)? {
                    Some(volume) => Wanted::Volume(volume),
                    None => continue,
                },
                MountSource::Host(_) => {
                    let pin = pins.get(&target).cloned();
                    let pin = pin.ok_or_else(|| Error::Bug(format!("no pin of {target}")))?;
                    Wanted::Host { request: request.clone(), pin }
                }
                MountSource::Image { image, sub_path } => {
                    let image = self.images.find(image.as_str())?;
                    let (layers, sub_path) = (image.layers.clone(), sub_path.clone());
                    let nth = is_written(request).then(|| written.next()).flatten();
                    let own = nth.map(|nth| (key(&container.id), nth));
                    Wanted::Image(ImageMount { target, image: image.id, layers, sub_path, own })
                }
                _ => continue,
            });
        }
        Ok(wanted)
    }
}

impl Wanted {
    /// Whether it is of a filesystem that may never answer, or all of it is looked at.
    pub(in crate::engine) fn may_hang(&self) -> bool {
        match self {
            Self::Host { .. } => true,
            Self::Volume(volume) => volume.is_relabeled(),
            Self::Image(_) => false,
        }
    }

    /// Whether it may be filled from the root when it is made.
    pub(in crate::engine) fn is_filled(&self) -> bool {
        matches!(self, Self::Volume(_))
    }

    /// Makes it, from a root with owners as they are on disk; with owners mapped as a user namespace does, if
    /// there is one; labelled, if there are labels and that was asked for. What is of an image always is: it
    /// is the container's own, and nobody else sees these labels.
    pub(in crate::engine) fn make(
        self,
        store: &Store,
        (rootfs, users): (&Rootfs, Option<BorrowedFd<'_>>),
        labels: Option<&Labels>,
        container: &ContainerName,
    ) -> Result<Source, Error> {
        let failed = |source| failed_mount(container, source);
        match self {
            Self::Volume(wanted) => wanted.make(store, (rootfs, users), labels, container),
            Self::Host { request, pin } => {
                let place = pin.reopen().map_err(|source| match source {
                    tare_storage::Error::PinMoved { .. } => {
                        Error::HostMoved { name: container.clone(), source }
                    }
                    other => failed(other),
                })?;
                relabel(&request, place.as_fd(), labels).map_err(failed)?;
                let mut options = bind_options(&request, users);
                if is_recursive(&request) {
                    options = options.with_mounts_below();
                }
                let mount = bind(place.as_fd(), &options).map_err(failed)?;
                Ok(Source { target: request.target, mount })
            }
            Self::Image(mount) => {
                let own = labels.and_then(|labels| labels.own.as_ref());
                mount.make(store, &root_options(users, own), container)
            }
        }
    }
}
