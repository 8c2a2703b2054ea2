//! The containers' own layers: what their processes change.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::digest::ChainId;
use crate::error::{Error, Failure};
use crate::names::ContainerKey;
use crate::remove::Removed;
use crate::store::{Published, Store, open_directory};
use crate::sys::{self, Stat, Step, Target, perform};

/// Names in a container's directory, and in that of each image it writes to: what it changed, and the room
/// overlayfs works in.
pub(crate) const UPPER: &str = "upper";
pub(crate) const WORK: &str = "work";

impl Store {
    /// Creates the layer of a container that stands on the layer `top`, durably.
    ///
    /// The root of an overlay shows owner and mode of its uppermost directory, so the new one gets
    /// those of `top`.
    ///
    /// # Errors
    ///
    /// [`Error::NoLayer`], [`Error::ContainerExists`] or [`Error::CreateContainer`]; the store is
    /// as before then.
    pub fn create_container(&self, key: &ContainerKey, top: &ChainId) -> Result<(), Error> {
        self.create_container_with(key, top, &[])
    }

    /// [`create_container`](Self::create_container) of one that also writes to other `images`, each by its
    /// uppermost layer; see [`mount_image`](Self::mount_image). What it changes of them is its own, and goes
    /// with it.
    ///
    /// # Errors
    ///
    /// Those.
    pub fn create_container_with(
        &self,
        key: &ContainerKey,
        top: &ChainId,
        images: &[ChainId],
    ) -> Result<(), Error> {
        let top = self.open_layer(top)?;
        let fail = |source| Error::CreateContainer { key: key.clone(), source };
        let scratch = self.scratch("container").map_err(fail)?;
        let filled = fill(scratch.dir(), top.as_fd()).map_err(fail).and_then(|()| {
            let mut images = images.iter().enumerate();
            images.try_for_each(|(nth, top)| {
                let top = self.open_layer(top)?;
                make_own(scratch.dir(), nth, top.as_fd()).map_err(fail)
            })
        });
        if let Err(error) = filled {
            return Err(scratch.discard(error));
        }
        match scratch.publish(self.containers.as_fd(), OsStr::new(key.as_str()), fail)? {
            Published::Now => Ok(()),
            Published::AlreadyThere => Err(Error::ContainerExists { key: key.clone() }),
        }
    }

    /// Removes the layer of a container, which must not be mounted.
    ///
    /// # Errors
    ///
    /// [`Error::RemoveContainer`].
    pub fn remove_container(&self, key: &ContainerKey) -> Result<Removed, Error> {
        self.take_container_out(key)
            .map_err(|source| Error::RemoveContainer { key: key.clone(), source })
    }

    /// The containers that have a layer, in no order.
    ///
    /// # Errors
    ///
    /// [`Error::List`].
    pub fn containers(&self) -> Result<Vec<ContainerKey>, Error> {
        let names = sys::list(&self.containers)
            .map_err(Failure::read("read the directory"))
            .map_err(|source| Error::List { what: "containers", source })?;
        let parse = |name: OsString| {
            let key = name.to_str().and_then(|name| name.parse().ok());
            if key.is_none() {
                tracing::warn!(?name, "not a container");
            }
            key
        };
        Ok(names.into_iter().filter_map(parse).collect())
    }

    fn take_container_out(&self, key: &ContainerKey) -> Result<Removed, Failure> {
        // Not flushed, unlike a layer: nobody mounts a container that is being removed, and
        // removing it again removes the rest.
        match self.move_out("container", self.containers.as_fd(), OsStr::new(key.as_str()))? {
            Some(doomed) => doomed.remove(),
            None => Ok(Removed::WasAbsent),
        }
    }
}

/// Opens, in the directory of all containers, what a container changed and the room overlayfs works
/// in; `None` if it has no layer.
pub(crate) fn open_container_in(
    containers: BorrowedFd<'_>,
    key: &ContainerKey,
) -> Result<Option<[OwnedFd; 2]>, Failure> {
    let own = match open_directory(containers, key.as_str()) {
        Err(failure) if failure.is(Errno::NOENT) => return Ok(None),
        own => own?,
    };
    Ok(Some([open_directory(own.as_fd(), UPPER)?, open_directory(own.as_fd(), WORK)?]))
}

/// Name of the directory of what a container changes of the `nth` image it writes to.
pub(crate) fn name_of_image(nth: usize) -> String {
    format!("image-{nth}")
}

fn make_own(dir: BorrowedFd<'_>, nth: usize, top: BorrowedFd<'_>) -> Result<(), Failure> {
    let name = name_of_image(nth);
    perform(&Step::MakeDir { dir, name: OsStr::new(&name) })?;
    fill(open_directory(dir, &name)?.as_fd(), top)
}

fn fill(dir: BorrowedFd<'_>, top: BorrowedFd<'_>) -> Result<(), Failure> {
    let Stat { mode, uid, gid, .. } =
        sys::stat(top).map_err(Failure::read("look at the layer below"))?;
    for name in [UPPER, WORK] {
        perform(&Step::MakeDir { dir, name: OsStr::new(name) })?;
    }
    let upper = open_directory(dir, UPPER)?;
    let target = Target::Open(upper.as_fd());
    perform(&Step::Own { target, uid, gid })?;
    perform(&Step::Mode { target, mode })
}
