#![expect(clippy::disallowed_methods, reason = "this is where the steps are carried out")]

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};

use super::Effect;
use super::step::proc_path;

/// Attributes of a mount, as `mount_setattr(2)` takes them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attributes {
    /// `MOUNT_ATTR_*` to be set and cleared.
    pub(crate) set: u64,
    pub(crate) clear: u64,
    /// `MS_SHARED` and the like; 0 leaves it.
    pub(crate) propagation: u64,
}

/// Changes the attributes of a mount, and of those below it if so wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SetAttributes<'a> {
    pub(crate) mount: BorrowedFd<'a>,
    pub(crate) attributes: Attributes,
    /// Has ids mapped as this user namespace does.
    pub(crate) users: Option<BorrowedFd<'a>>,
    pub(crate) recursive: bool,
}

impl fmt::Display for SetAttributes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.users {
            Some(_) => "map the owners in the mount",
            None => "set the attributes of the mount",
        })
    }
}

impl Effect for SetAttributes<'_> {
    type Output = ();

    fn without(&self) -> Option<()> {
        Some(())
    }

    fn act(&self) -> rustix::io::Result<()> {
        let map = if self.users.is_some() { libc::MOUNT_ATTR_IDMAP } else { 0 };
        let attributes = libc::mount_attr {
            attr_set: self.attributes.set | map,
            attr_clr: self.attributes.clear,
            propagation: self.attributes.propagation,
            userns_fd: self.users.map_or(0, |users| u64::from(users.as_raw_fd().unsigned_abs())),
        };
        let recursive = if self.recursive { libc::AT_RECURSIVE } else { 0 };
        // SAFETY: `attributes` lives through the call and its size is given; the path is a
        // NUL-terminated empty one.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                self.mount.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_EMPTY_PATH | recursive,
                &raw const attributes,
                size_of::<libc::mount_attr>(),
            )
        };
        last_error(result)
    }
}

/// Puts a detached mount over a directory or file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attach<'a> {
    pub(crate) mount: BorrowedFd<'a>,
    pub(crate) dir: BorrowedFd<'a>,
    pub(crate) name: &'a OsStr,
}

impl fmt::Display for Attach<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mount on {:?}", self.name)
    }
}

impl Effect for Attach<'_> {
    type Output = ();

    fn without(&self) -> Option<()> {
        Some(())
    }

    fn act(&self) -> rustix::io::Result<()> {
        // Without `T_SYMLINKS` a link in the last place is not followed.
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(self.mount, c"", self.dir, self.name, flags)
    }
}

/// Unmounts what is mounted over a name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Detach<'a> {
    pub(crate) dir: BorrowedFd<'a>,
    pub(crate) name: &'a OsStr,
    /// Also while somebody uses it.
    pub(crate) in_use: bool,
}

impl fmt::Display for Detach<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unmount {:?}", self.name)
    }
}

impl Effect for Detach<'_> {
    type Output = ();

    fn without(&self) -> Option<()> {
        Some(())
    }

    fn act(&self) -> rustix::io::Result<()> {
        // There is no umount(2) by descriptor; one of what is mounted would keep it busy.
        let path = [proc_path(self.dir).as_bytes(), b"/", self.name.as_bytes()].concat();
        let lazily = if self.in_use { UnmountFlags::DETACH } else { UnmountFlags::empty() };
        unmount(&*path, UnmountFlags::NOFOLLOW | lazily)
    }
}

pub(super) fn last_error(result: libc::c_long) -> rustix::io::Result<()> {
    if result == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}
