use std::os::fd::BorrowedFd;

use crate::bind::MountAccess;
use crate::names::FileLabel;

/// What a power cut may take of what a container changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// What filesystems always may lose.
    #[default]
    Normal,
    /// Anything: nothing that a container flushes to disk is. After a power cut its root does not
    /// mount again ([`Error::DataMayBeLost`](crate::Error::DataMayBeLost)).
    Volatile,
}

/// How the root of a container is mounted.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct RootOptions<'a> {
    pub(super) access: MountAccess,
    pub(super) durability: Durability,
    pub(super) users: Option<BorrowedFd<'a>>,
    pub(super) label: Option<&'a FileLabel>,
}

impl<'a> RootOptions<'a> {
    /// Writable, of normal durability, owners as they are on disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether the container may write to it.
    pub fn with_access(mut self, access: MountAccess) -> Self {
        self.access = access;
        self
    }

    /// Sets what a power cut may take.
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets the label of everything in it, whatever is on disk; for hosts with `SELinux`, the kernel refuses it
    /// elsewhere.
    pub fn with_label(mut self, label: &'a FileLabel) -> Self {
        self.label = Some(label);
        self
    }

    /// Maps owners as this user namespace does, in the layers and in the container's own: what is root's on
    /// disk is root's in the container, and no file is changed for that. Needs Linux 6.15.
    ///
    /// The kernel lets nobody make anything in a mapped directory who is not mapped there. So the
    /// namespace has to map root of the host, too, from an id that nobody has: overlayfs makes things in the
    /// name of who mounts it, before it gives them away, and so does whoever else writes to the root.
    pub fn with_users(mut self, users: BorrowedFd<'a>) -> Self {
        self.users = Some(users);
        self
    }
}
