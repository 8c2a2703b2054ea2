//! Roots of containers: overlay mounts by the mount API of descriptors.
//!
//! See [fsopen(2)] and the kernel's [overlayfs.rst].
//!
//! [fsopen(2)]: https://man7.org/linux/man-pages/man2/fsopen.2.html
//! [overlayfs.rst]: https://docs.kernel.org/filesystems/overlayfs.html

mod older;

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::containers::open_container_in;
use crate::digest::ChainId;
use crate::error::{Error, Failure};
use crate::names::ContainerKey;
use crate::rootfs::Rootfs;
use crate::store::Store;
use crate::sys::{NewFd, Step, kernel_messages, perform};

/// Layers the kernel stacks at most (`OVL_MAX_STACK`).
pub(crate) const MAX_LAYERS: usize = 500;

/// What mounts of this crate say they are a mount of.
const SOURCE: &str = "tare";

/// Said outright, since a distribution may build its kernel with other defaults.
const OPTIONS: [(&str, &str); 3] = [
    // With an index, a store that was moved or restored from a backup would not mount, and
    // mounting what is mounted elsewhere would fail instead of being the caller's mistake.
    ("index", "off"),
    // A change of mode or owner copies the whole file up: what a container changed is then all
    // in its own layer, for whoever reads that as a difference; and no attribute in a layer can
    // make one file show the content of another.
    ("metacopy", "off"),
    // The same for renamed directories: none are made, and none found in a layer are followed.
    ("redirect_dir", "nofollow"),
    // Not set: `xino`, for all layers lie on one filesystem, where inode numbers are stable;
    // `volatile`, for such a mount refuses to come back after a power cut; `userxattr`, for this
    // is the mount of root.
];

impl Store {
    /// Mounts the root of a container: its own layer over `layers`, of which the base is first.
    ///
    /// The mount is detached: it is in no namespace, and gone when the last descriptor of it is
    /// closed, unless `move_mount(2)` puts it somewhere. It is `nodev`. Mounting the same
    /// container twice at a time is the caller's mistake. The calling thread must be in the mount
    /// namespace the store was opened in: overlayfs takes no directories of another.
    ///
    /// Needs `CAP_SYS_ADMIN` and Linux 5.14. From 6.13 on, layers are told to the kernel one by one;
    /// before, all at once, each by a descriptor that is open until then.
    ///
    /// # Errors
    ///
    /// [`Error::LayerCount`], [`Error::NoLayer`], [`Error::NoContainer`], [`Error::OpenLayer`],
    /// [`Error::LayersTooLong`] or [`Error::MountRootfs`].
    pub fn mount_rootfs(&self, layers: &[ChainId], key: &ContainerKey) -> Result<Rootfs, Error> {
        if !(1..=MAX_LAYERS).contains(&layers.len()) {
            return Err(Error::LayerCount { count: layers.len() });
        }
        let stack = Stack { layers, key };
        let mount = match stack.mount(self)? {
            Some(mount) => mount,
            None => older::mount(&stack, self)?,
        };
        Ok(Rootfs::from_fd(mount))
    }
}

/// What is to be mounted.
#[derive(Clone, Copy)]
struct Stack<'a> {
    /// The base first.
    layers: &'a [ChainId],
    key: &'a ContainerKey,
}

impl Stack<'_> {
    /// Tells the kernel every directory by a descriptor; `None` if it takes none.
    fn mount(&self, store: &Store) -> Result<Option<OwnedFd>, Error> {
        let [upper, work] = self.open_own(store.containers.as_fd())?;
        let fs = self.open_fs()?;
        let fs = fs.as_fd();
        // The uppermost comes first; one at a time, for 500 descriptors at once are too many.
        for (nth, layer) in self.layers.iter().rev().enumerate() {
            let dir = store.open_layer(layer)?;
            match perform(&Step::SetDir { fs, key: "lowerdir+", dir: dir.as_fd() }) {
                Err(failure) if nth == 0 && is_too_new(&failure) => return Ok(None),
                set => set.map_err(self.failed(fs))?,
            }
        }
        let own = [("upperdir", upper.as_fd()), ("workdir", work.as_fd())];
        { own }
            .into_iter()
            .try_for_each(|(key, dir)| perform(&Step::SetDir { fs, key, dir }))
            .and_then(|()| create(fs))
            .map(Some)
            .map_err(self.failed(fs))
    }

    fn open_own(&self, containers: BorrowedFd<'_>) -> Result<[OwnedFd; 2], Error> {
        let own = open_container_in(containers, self.key).map_err(self.failed_silently())?;
        own.ok_or_else(|| Error::NoContainer { key: self.key.clone() })
    }

    fn open_fs(&self) -> Result<OwnedFd, Error> {
        perform(&NewFd::Fs { kind: "overlay" }).map_err(self.failed_silently())
    }

    /// The error of a failure on which the kernel may have had more to say.
    fn failed(&self, fs: BorrowedFd<'_>) -> impl Fn(Failure) -> Error {
        move |source| self.error(kernel_messages(fs), source)
    }

    /// The error of one on which it had not.
    fn failed_silently(&self) -> impl Fn(Failure) -> Error {
        |source| self.error(String::new(), source)
    }

    fn error(&self, message: String, source: Failure) -> Error {
        Error::MountRootfs { key: self.key.clone(), message, source }
    }
}

/// Whether the kernel takes no directories by descriptor: for overlayfs as it is before 6.5 no
/// filesystem context does (`EOPNOTSUPP`), later ones know no `lowerdir+` or want a text for it
/// (`EINVAL`, which can mean other things: those come up again then).
fn is_too_new(failure: &Failure) -> bool {
    failure.is(Errno::OPNOTSUPP) || failure.is(Errno::INVAL)
}

/// Mounts an overlay that knows its directories.
fn create(fs: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    for (key, value) in [("source", SOURCE)].into_iter().chain(OPTIONS) {
        perform(&Step::Set { fs, key, value })?;
    }
    perform(&Step::CreateFs { fs })?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
    perform(&NewFd::Mount { fs, attributes })
}
