//! Mounts of what is open already: the mounts of containers, made of descriptors.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::error::{Error, Failure};
use crate::sys::{Attributes, NewFd, Own, SetAttributes, on_own_thread, open_root, perform};

/// Whether a mount may be written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountAccess {
    /// It may.
    #[default]
    ReadWrite,
    /// It may not, nor may any mount below it.
    ReadOnly,
}

/// Which mounts and unmounts below a mount show elsewhere, or here; see `mount_namespaces(7)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// None.
    #[default]
    Private,
    /// Those elsewhere show here.
    Slave,
    /// All.
    Shared,
    /// None, and nobody can mount this one elsewhere.
    Unbindable,
}

impl Propagation {
    fn flag(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Slave => libc::MS_SLAVE,
            Self::Shared => libc::MS_SHARED,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// How something is mounted. Device nodes and set-user-id programs have no effect in it unless that
/// is said.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct BindOptions<'a> {
    access: MountAccess,
    attributes: u64,
    propagation: Propagation,
    recursive: bool,
    users: Option<BorrowedFd<'a>>,
}

impl Default for BindOptions<'_> {
    fn default() -> Self {
        Self {
            access: MountAccess::default(),
            attributes: libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID,
            propagation: Propagation::default(),
            recursive: false,
            users: None,
        }
    }
}

impl<'a> BindOptions<'a> {
    /// Private, writable, nodev, nosuid, without the mounts below.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether it may be written to.
    pub fn with_access(mut self, access: MountAccess) -> Self {
        self.access = access;
        self
    }

    /// Lets device nodes work.
    pub fn with_devices(mut self) -> Self {
        self.attributes &= !libc::MOUNT_ATTR_NODEV;
        self
    }

    /// Lets set-user-id programs work.
    pub fn with_setuid(mut self) -> Self {
        self.attributes &= !libc::MOUNT_ATTR_NOSUID;
        self
    }

    /// Lets no program be started.
    pub fn without_programs(mut self) -> Self {
        self.attributes |= libc::MOUNT_ATTR_NOEXEC;
        self
    }

    /// Follows no symbolic link in it (Linux 5.10).
    pub fn without_links(mut self) -> Self {
        self.attributes |= libc::MOUNT_ATTR_NOSYMFOLLOW;
        self
    }

    /// Sets which mounts show elsewhere.
    pub fn with_propagation(mut self, propagation: Propagation) -> Self {
        self.propagation = propagation;
        self
    }

    /// Takes the mounts below along, all with the same attributes.
    pub fn with_mounts_below(mut self) -> Self {
        self.recursive = true;
        self
    }

    /// Maps owners as this user namespace does: what is root's in the namespace is root's on disk.
    ///
    /// Needs a filesystem that can (ext4, XFS, btrfs, tmpfs from Linux 6.3) and no map yet. Who is not mapped
    /// there makes nothing in it; see [`RootOptions::with_users`](crate::RootOptions::with_users).
    pub fn with_users(mut self, users: BorrowedFd<'a>) -> Self {
        self.users = Some(users);
        self
    }
}

/// Makes a detached mount of the file or directory `place`, which may be open without reading it
/// (`O_PATH`).
///
/// The mount is gone when the last descriptor of it is closed, unless `move_mount(2)` puts it
/// somewhere. Needs `CAP_SYS_ADMIN` and Linux 5.12.
///
/// # Errors
///
/// [`Error::Bind`].
pub fn bind(place: BorrowedFd<'_>, options: &BindOptions<'_>) -> Result<OwnedFd, Error> {
    make(place, options).map_err(|source| Error::Bind { source })
}

/// Makes a detached mount of the directory `place` of another mount namespace, that of the process behind
/// the descriptor `process` (a pidfd), with the attributes that it has there.
///
/// The kernel takes nothing from one mount namespace into another but by who is in the first. The path is
/// looked up there, links followed: it must be one that nobody but the caller decides about. Needs
/// `CAP_SYS_ADMIN` and Linux 5.8.
///
/// # Errors
///
/// [`Error::Bind`].
pub fn mount_in_view(process: BorrowedFd<'_>, place: &Path) -> Result<OwnedFd, Error> {
    let copy = || {
        perform(&Own::Directory)?;
        perform(&Own::View { process })?;
        let place = open_root(place).map_err(Failure::read("open it there"))?;
        perform(&NewFd::Bind { place: place.as_fd(), recursive: false })
    };
    on_own_thread(copy)
        .unwrap_or_else(|source| Err(Failure::new(&"start a thread", source)))
        .map_err(|source| Error::Bind { source })
}

pub(crate) fn make(place: BorrowedFd<'_>, options: &BindOptions<'_>) -> Result<OwnedFd, Failure> {
    let BindOptions { access, attributes, propagation, recursive, users } = *options;
    let mount = perform(&NewFd::Bind { place, recursive })?;
    let read_only = match access {
        MountAccess::ReadOnly => libc::MOUNT_ATTR_RDONLY,
        MountAccess::ReadWrite => 0,
    };
    let attributes =
        Attributes { set: attributes | read_only, clear: 0, propagation: propagation.flag() };
    perform(&SetAttributes { mount: mount.as_fd(), attributes, users: None, recursive })?;
    if users.is_some() {
        let attributes = Attributes::default();
        perform(&SetAttributes { mount: mount.as_fd(), attributes, users, recursive })?;
    }
    Ok(mount)
}
