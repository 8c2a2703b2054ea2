//! One directory of a mount, mounted alone.
//!
//! Until Linux 6.15 the kernel makes no mount of a directory in a detached one. So that is put where only a
//! thread sees it, which ends with this.

use std::os::fd::{AsFd as _, OwnedFd};

use super::older::{STAGE, enter_names, enter_own_mounts, name};
use crate::error::{Error, Failure};
use crate::rootfs::Rootfs;
use crate::store::Store;
use crate::sys::{self, NewFd, Own, on_own_thread, perform};

/// Makes a detached mount of a directory in `whole`, links followed inside of that; `None` if nothing is
/// there.
pub(super) fn mount(whole: OwnedFd, store: &Store, path: &str) -> Result<Option<OwnedFd>, Error> {
    let fail = |source| Error::Bind { source };
    on_own_thread(|| {
        perform(&Own::Directory).map_err(fail)?;
        let root = enter_own_mounts(store).map_err(fail)?;
        let at = format!("{}/{STAGE}", name(&root));
        let attach = sys::Attach { mount: whole.as_fd(), dir: root.as_fd(), name: STAGE.as_ref() };
        enter_names().and_then(|()| perform(&attach)).map_err(fail)?;
        let part = copy(whole, path);
        // It must go with its last descriptor, not when the kernel gets to the namespace.
        let unmounted = perform(&Own::Unmount { at: &at }).map_err(fail);
        let part = part?;
        unmounted.map(|()| part)
    })
    .unwrap_or_else(|source| Err(fail(Failure::new(&"start a thread", source))))
}

fn copy(whole: OwnedFd, path: &str) -> Result<Option<OwnedFd>, Error> {
    let Some(directory) = Rootfs::from_fd(whole).subdirectory(path)? else { return Ok(None) };
    perform(&NewFd::Bind { place: directory.as_fd(), recursive: false })
        .map(Some)
        .map_err(|source| Error::Bind { source })
}
