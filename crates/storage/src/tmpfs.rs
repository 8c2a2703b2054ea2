//! Filesystems in memory: `/dev/shm` of containers, and what they are told to keep there.

use std::num::NonZeroU64;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::mount::MountAttrFlags;

use crate::error::{Error, Failure};
use crate::names::FileLabel;
use crate::sys::{NewFd, Step, kernel_messages, perform};

/// What a filesystem in memory is like. It is always `nosuid` and `nodev`.
#[derive(Clone, Debug)]
#[must_use]
pub struct TmpfsOptions {
    source: &'static str,
    size: NonZeroU64,
    inodes: Option<NonZeroU64>,
    mode: u32,
    owner: (u32, u32),
    label: Option<FileLabel>,
    programs: bool,
}

impl TmpfsOptions {
    /// At most `size` bytes; everybody may write, but remove only what is theirs (mode 1777).
    ///
    /// A size of 0 cannot be said: to the kernel it means no limit.
    pub fn new(size: NonZeroU64) -> Self {
        Self {
            source: "tmpfs",
            size,
            inodes: None,
            mode: 0o1777,
            owner: (0, 0),
            label: None,
            programs: false,
        }
    }

    /// Sets how many files there may be; without, the kernel allows as many as half of the pages of
    /// memory.
    pub fn with_inodes(mut self, inodes: NonZeroU64) -> Self {
        self.inodes = Some(inodes);
        self
    }

    /// Sets the mode of its root, of which the lower twelve bits count.
    pub fn with_mode(mut self, mode: u32) -> Self {
        self.mode = mode & 0o7777;
        self
    }

    /// Sets owner and group of its root.
    pub fn with_owner(mut self, uid: u32, gid: u32) -> Self {
        self.owner = (uid, gid);
        self
    }

    /// Sets the label of everything in it; for hosts with `SELinux`, the kernel refuses it elsewhere.
    pub fn with_label(mut self, label: FileLabel) -> Self {
        self.label = Some(label);
        self
    }

    /// Lets programs be started from it.
    pub fn with_programs(mut self) -> Self {
        self.programs = true;
        self
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        let (uid, gid) = self.owner;
        let mut options = vec![
            ("source", self.source.to_owned()),
            ("mode", format!("{:o}", self.mode)),
            ("size", self.size.to_string()),
            ("uid", uid.to_string()),
            ("gid", gid.to_string()),
        ];
        options.extend(self.inodes.map(|inodes| ("nr_inodes", inodes.to_string())));
        options.extend(self.label.as_ref().map(|label| ("context", label.to_string())));
        options
    }

    fn attributes(&self) -> MountAttrFlags {
        let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, !self.programs);
        attributes
    }
}

/// Mounts a `tmpfs` of at most `size` bytes, mode 1777, for shared memory.
///
/// The mount is detached, `nosuid`, `nodev` and `noexec`; it is gone when the last descriptor of
/// it is closed, unless `move_mount(2)` puts it somewhere. `label` is for hosts with `SELinux`; the
/// kernel refuses it elsewhere. What is in it counts for the control group of who wrote it.
///
/// Needs `CAP_SYS_ADMIN`.
///
/// # Errors
///
/// [`Error::MountTmpfs`].
pub fn mount_shm(size: NonZeroU64, label: Option<&FileLabel>) -> Result<OwnedFd, Error> {
    mount_shm_of((0, 0), size, label)
}

/// [`mount_shm`] whose root belongs to this user and group.
///
/// # Errors
///
/// [`Error::MountTmpfs`].
pub fn mount_shm_of(
    owner: (u32, u32),
    size: NonZeroU64,
    label: Option<&FileLabel>,
) -> Result<OwnedFd, Error> {
    let options = TmpfsOptions { source: "shm", owner, ..TmpfsOptions::new(size) };
    mount_tmpfs(&TmpfsOptions { label: label.cloned(), ..options })
}

/// Mounts a filesystem in memory, detached like that of [`mount_shm`].
///
/// Needs `CAP_SYS_ADMIN`.
///
/// # Errors
///
/// [`Error::MountTmpfs`].
pub fn mount_tmpfs(options: &TmpfsOptions) -> Result<OwnedFd, Error> {
    let size = options.size.get();
    let fail = |message, source| Error::MountTmpfs { size, message, source };
    let fs = perform(&NewFd::Fs { kind: "tmpfs" }).map_err(|source| fail(String::new(), source))?;
    mount(fs.as_fd(), options).map_err(|source| fail(kernel_messages(fs.as_fd()), source))
}

fn mount(fs: BorrowedFd<'_>, options: &TmpfsOptions) -> Result<OwnedFd, Failure> {
    for (key, value) in options.options() {
        perform(&Step::Set { fs, key, value: &value })?;
    }
    perform(&Step::CreateFs { fs })?;
    perform(&NewFd::Mount { fs, attributes: options.attributes() })
}
