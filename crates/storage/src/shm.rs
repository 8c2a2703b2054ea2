//! Shared memory of containers (`/dev/shm`).

use std::num::NonZeroU64;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::mount::MountAttrFlags;

use crate::error::{Error, Failure};
use crate::names::MountLabel;
use crate::sys::{NewFd, Step, kernel_messages, perform};

/// Mounts a `tmpfs` of at most `size` bytes, mode 1777, for shared memory.
///
/// The mount is detached, `nosuid`, `nodev` and `noexec`; it is gone when the last descriptor of
/// it is closed, unless `move_mount(2)` puts it somewhere. `label` is for hosts with `SELinux`; the
/// kernel refuses it elsewhere. A size of 0 cannot be said: to the kernel it means no limit.
///
/// Needs `CAP_SYS_ADMIN`.
///
/// # Errors
///
/// [`Error::MountShm`].
pub fn mount_shm(size: NonZeroU64, label: Option<&MountLabel>) -> Result<OwnedFd, Error> {
    let size = size.get();
    let fail = |message, source| Error::MountShm { size, message, source };
    let fs = perform(&NewFd::Fs { kind: "tmpfs" }).map_err(|source| fail(String::new(), source))?;
    mount(fs.as_fd(), size, label).map_err(|source| fail(kernel_messages(fs.as_fd()), source))
}

fn mount(fs: BorrowedFd<'_>, size: u64, label: Option<&MountLabel>) -> Result<OwnedFd, Failure> {
    let size = size.to_string();
    let options = [("source", "shm"), ("mode", "1777"), ("size", &size)];
    for (key, value) in options.into_iter().chain(label.map(|label| ("context", label.as_str()))) {
        perform(&Step::Set { fs, key, value })?;
    }
    perform(&Step::CreateFs { fs })?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    perform(&NewFd::Mount { fs, attributes })
}
