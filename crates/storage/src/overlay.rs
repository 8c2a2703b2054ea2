//! Roots of containers: overlay mounts by the mount API of descriptors.
//!
//! See [fsopen(2)] and the kernel's [overlayfs.rst].
//!
//! [fsopen(2)]: https://man7.org/linux/man-pages/man2/fsopen.2.html
//! [overlayfs.rst]: https://docs.kernel.org/filesystems/overlayfs.html

mod older;
mod options;
mod part;
mod volatile;

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

pub use options::{Durability, RootOptions};

use crate::bind::{self, BindOptions, MountAccess};
use crate::containers::{UPPER, WORK, name_of_image};
use crate::digest::ChainId;
use crate::error::{Error, Failure};
use crate::layers::open_layer_in;
use crate::names::ContainerKey;
use crate::rootfs::Rootfs;
use crate::store::{NOTHING, Store, open_directory};
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
    // `userxattr`, for this is the mount of root.
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
    /// before, all at once, each by a descriptor that is open until then. From 6.15 on it does not
    /// matter how much else is mounted beside the store.
    ///
    /// # Errors
    ///
    /// [`Error::LayerCount`], [`Error::NoLayer`], [`Error::NoContainer`], [`Error::OpenLayer`],
    /// [`Error::LayersTooLong`], [`Error::DataMayBeLost`], [`Error::OpenContainer`] or
    /// [`Error::MountRootfs`].
    pub fn mount_rootfs(&self, layers: &[ChainId], key: &ContainerKey) -> Result<Rootfs, Error> {
        self.mount_rootfs_with(layers, key, &RootOptions::new())
    }

    /// [`mount_rootfs`](Self::mount_rootfs) with options.
    ///
    /// # Errors
    ///
    /// Those, and [`Error::Unsupported`] for what this kernel cannot.
    pub fn mount_rootfs_with(
        &self,
        layers: &[ChainId],
        key: &ContainerKey,
        options: &RootOptions<'_>,
    ) -> Result<Rootfs, Error> {
        let own = Some(Place { key, image: None });
        let stack = Stack { layers, own, use_of_own: UseOfOwn::Write, options };
        stack.mount_in(self).map(Rootfs::from_fd)
    }

    /// Mounts an image that a container writes to: the `nth` of those that it was
    /// [made](Self::create_container_with) with, by its `layers`, of which the base is first. What the container
    /// changes of it is its own.
    ///
    /// The mount is detached, `nodev` and `nosuid`; what is said of [`mount_rootfs`](Self::mount_rootfs) holds.
    ///
    /// # Errors
    ///
    /// As of [`mount_rootfs_with`](Self::mount_rootfs_with).
    pub fn mount_image(
        &self,
        layers: &[ChainId],
        key: &ContainerKey,
        nth: usize,
        options: &RootOptions<'_>,
    ) -> Result<OwnedFd, Error> {
        let own = Some(Place { key, image: Some(nth) });
        Stack { layers, own, use_of_own: UseOfOwn::Write, options }.mount_in(self)
    }

    /// Mounts the root of a container to be read, whether it is mounted by
    /// [`mount_rootfs`](Self::mount_rootfs), too, or not: what others change in it meanwhile is seen or
    /// not.
    ///
    /// The mount is detached, read-only, `nodev` and `nosuid`.
    ///
    /// # Errors
    ///
    /// As of [`mount_rootfs`](Self::mount_rootfs).
    pub fn mount_to_read(&self, layers: &[ChainId], key: &ContainerKey) -> Result<Rootfs, Error> {
        let options = RootOptions::new().with_access(MountAccess::ReadOnly);
        let own = Some(Place { key, image: None });
        let stack = Stack { layers, own, use_of_own: UseOfOwn::Read, options: &options };
        stack.mount_in(self).map(Rootfs::from_fd)
    }

    /// Mounts `layers`, of which the base is first, to be read: the root of an image.
    ///
    /// The mount is detached, read-only, `nodev` and `nosuid`.
    ///
    /// # Errors
    ///
    /// [`Error::LayerCount`], [`Error::NoLayer`], [`Error::OpenLayer`], [`Error::LayersTooLong`] or
    /// [`Error::MountLayers`].
    pub fn mount_layers(&self, layers: &[ChainId]) -> Result<OwnedFd, Error> {
        self.mount_layers_with(layers, &RootOptions::new())
    }

    /// [`mount_layers`](Self::mount_layers) with a label, or with owners mapped; it is to be read all the same.
    ///
    /// # Errors
    ///
    /// Those, and [`Error::Unsupported`] for what this kernel cannot.
    pub fn mount_layers_with(
        &self,
        layers: &[ChainId],
        options: &RootOptions<'_>,
    ) -> Result<OwnedFd, Error> {
        let options = options.with_access(MountAccess::ReadOnly);
        let stack = Stack { layers, own: None, use_of_own: UseOfOwn::Read, options: &options };
        match (layers, options.label) {
            // As it is, one layer is a directory like any other.
            ([layer], None) => {
                let plain = BindOptions::new().with_access(MountAccess::ReadOnly);
                let options = options.users.map_or(plain, |users| plain.with_users(users));
                let layer = self.open_layer(layer)?;
                bind::make(layer.as_fd(), &options).map_err(stack.failed_silently())
            }
            _ => stack.mount_in(self),
        }
    }

    /// [`mount_layers`](Self::mount_layers) for somebody who is to read it and no more. Whoever has a mount can have it
    /// writable again, in a user namespace of their own; of an overlay that has nothing to write to, the
    /// filesystem itself is read-only.
    ///
    /// # Errors
    ///
    /// As of [`mount_layers`](Self::mount_layers).
    pub fn mount_layers_to_hand_out(&self, layers: &[ChainId]) -> Result<OwnedFd, Error> {
        let options = RootOptions::new().with_access(MountAccess::ReadOnly);
        Stack { layers, own: None, use_of_own: UseOfOwn::Read, options: &options }.mount_in(self)
    }

    /// Mounts one directory of a detached mount in its place, with the same attributes; links in it may lead
    /// there, but not out of it. `None` if nothing is there.
    ///
    /// # Errors
    ///
    /// [`Error::Bind`], and [`Error::ReadFile`] if it is no directory.
    pub fn mount_part(&self, whole: OwnedFd, path: &str) -> Result<Option<OwnedFd>, Error> {
        part::mount(whole, self, path)
    }
}

/// What is to be mounted.
#[derive(Clone, Copy)]
struct Stack<'a> {
    /// The base first.
    layers: &'a [ChainId],
    /// What is uppermost, if that is a container's own.
    own: Option<Place<'a>>,
    use_of_own: UseOfOwn,
    options: &'a RootOptions<'a>,
}

/// Where a container has what it changed.
#[derive(Clone, Copy)]
struct Place<'a> {
    key: &'a ContainerKey,
    /// Of which of the images it writes to; of its root, if of none.
    image: Option<usize>,
}

/// What a container's own layer is mounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UseOfOwn {
    Write,
    /// It is one layer more of those below: overlayfs makes nothing in it, nor beside it.
    Read,
}

/// The directories of a container's own layer.
struct Own {
    upper: OwnedFd,
    work: OwnedFd,
    /// What both are in, if that is mounted by its descriptor alone: until the overlay is.
    _mapped: Option<OwnedFd>,
}

impl Stack<'_> {
    fn mount_in(&self, store: &Store) -> Result<OwnedFd, Error> {
        if !(1..=MAX_LAYERS).contains(&self.layers.len()) {
            return Err(Error::LayerCount { count: self.layers.len() });
        }
        match self.mount(store)? {
            Some(mount) => Ok(mount),
            None if self.options.users.is_some() => {
                Err(Error::Unsupported { what: "layers with mapped owners", needs: "Linux 6.15" })
            }
            None => older::mount(self, store),
        }
    }

    /// Tells the kernel every directory by a descriptor; `None` if it takes none.
    fn mount(&self, store: &Store) -> Result<Option<OwnedFd>, Error> {
        let own = self.open_own(store.containers.as_fd())?;
        let fs = self.open_fs()?;
        let fs = fs.as_fd();
        // The uppermost comes first; one at a time, for 500 descriptors at once are too many. But
        // what is mounted by its descriptor alone has to stay until the overlay is.
        let mut mapped = Vec::new();
        let top = self.open_to_read(store.containers.as_fd())?.map(Ok);
        let layers = self.layers.iter().rev().map(|layer| self.open_layer(store, layer));
        let ground = self.open_ground(store.root.as_fd())?.map(Ok);
        for (nth, plain) in top.into_iter().chain(layers).chain(ground).enumerate() {
            let plain = plain?;
            let dir = self.mapped(plain.as_fd()).map_err(self.failed_silently())?.unwrap_or(plain);
            match perform(&Step::SetDir { fs, key: "lowerdir+", dir: dir.as_fd() }) {
                Err(failure) if nth == 0 && is_too_new(&failure) => return Ok(None),
                set => set.map_err(self.failed(fs))?,
            }
            mapped.extend(self.options.users.map(|_| dir));
        }
        let own =
            own.iter().flat_map(|Own { upper, work, .. }| [("upperdir", upper), ("workdir", work)]);
        { own }
            .try_for_each(|(key, dir)| perform(&Step::SetDir { fs, key, dir: dir.as_fd() }))
            .and_then(|()| self.create(fs))
            .map(Some)
            .map_err(self.failed(fs))
    }

    fn open_layer(&self, store: &Store, layer: &ChainId) -> Result<OwnedFd, Error> {
        match &store.layers_apart {
            // Mapping makes a mount of each of them anyway.
            Some(apart) if self.options.users.is_none() => open_layer_in(apart.as_fd(), layer),
            _ => store.open_layer(layer),
        }
    }

    fn open_container(
        &self,
        containers: BorrowedFd<'_>,
        Place { key, image }: Place<'_>,
    ) -> Result<OwnedFd, Error> {
        let path = match image {
            None => key.as_str().to_owned(),
            Some(nth) => format!("{}/{}", key.as_str(), name_of_image(nth)),
        };
        match open_directory(containers, path) {
            Err(failure) if failure.is(Errno::NOENT) => {
                Err(Error::NoContainer { key: key.clone() })
            }
            dir => dir.map_err(self.failed_silently()),
        }
    }

    /// What the container changed, if that is to be read alone.
    fn open_to_read(&self, containers: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Error> {
        let (Some(own), UseOfOwn::Read) = (self.own, self.use_of_own) else { return Ok(None) };
        let dir = self.open_container(containers, own)?;
        open_directory(dir.as_fd(), UPPER).map(Some).map_err(self.failed_silently())
    }

    /// An empty directory below a layer that is alone: overlayfs wants two at least.
    fn open_ground(&self, root: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Error> {
        if self.own.is_some() || self.layers.len() > 1 {
            return Ok(None);
        }
        open_directory(root, NOTHING).map(Some).map_err(self.failed_silently())
    }

    /// The container's own layer, fit to be mounted.
    fn open_own(&self, containers: BorrowedFd<'_>) -> Result<Option<Own>, Error> {
        let (Some(own), UseOfOwn::Write) = (self.own, self.use_of_own) else { return Ok(None) };
        let dir = self.open_container(containers, own)?;
        volatile::prepare(dir.as_fd(), own.key)?;
        let open = || {
            if self.options.durability == Durability::Volatile {
                volatile::note_boot(dir.as_fd())?;
            }
            // Both have to be of one mount.
            let mapped = self.mapped(dir.as_fd())?;
            let dir = mapped.as_ref().unwrap_or(&dir);
            let [upper, work] = [UPPER, WORK].map(|name| open_directory(dir.as_fd(), name));
            Ok(Some(Own { upper: upper?, work: work?, _mapped: mapped }))
        };
        open().map_err(self.failed_silently())
    }

    /// A mount of a directory with owners mapped; `None` if that is not wanted.
    fn mapped(&self, dir: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Failure> {
        let Some(users) = self.options.users else { return Ok(None) };
        bind::make(dir, &BindOptions::new().with_users(users)).map(Some)
    }

    fn open_fs(&self) -> Result<OwnedFd, Error> {
        perform(&NewFd::Fs { kind: "overlay" }).map_err(self.failed_silently())
    }

    /// Mounts an overlay that knows its directories.
    fn create(&self, fs: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
        for (key, value) in [("source", SOURCE)].into_iter().chain(OPTIONS) {
            perform(&Step::Set { fs, key, value })?;
        }
        if let Some(label) = self.options.label {
            perform(&Step::Set { fs, key: "context", value: label.as_str() })?;
        }
        if self.options.durability == Durability::Volatile {
            perform(&Step::SetFlag { fs, key: "volatile" })?;
        }
        perform(&Step::CreateFs { fs })?;
        perform(&NewFd::Mount { fs, attributes: self.attributes() })
    }

    fn attributes(&self) -> MountAttrFlags {
        let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
        let read_only = self.options.access == MountAccess::ReadOnly;
        attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, read_only);
        // A container has set-user-id programs of its own; whoever reads needs none, and of another image
        // none are wanted.
        let reads = self.use_of_own == UseOfOwn::Read;
        let is_other = self.own.is_some_and(|own| own.image.is_some());
        attributes.set(MountAttrFlags::MOUNT_ATTR_NOSUID, reads || is_other);
        attributes
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
        match self.own {
            Some(own) => Error::MountRootfs { key: own.key.clone(), message, source },
            None => Error::MountLayers { count: self.layers.len(), message, source },
        }
    }
}

/// Whether the kernel takes no directories by descriptor: for overlayfs as it is before 6.5 no
/// filesystem context does (`EOPNOTSUPP`), later ones know no `lowerdir+` or want a text for it
/// (`EINVAL`, which can mean other things: those come up again then).
fn is_too_new(failure: &Failure) -> bool {
    failure.is(Errno::OPNOTSUPP) || failure.is(Errno::INVAL)
}
