//! How mounts that are made here are to be, from what was asked for.

use std::os::fd::BorrowedFd;

use tare_specgen::{MountRequest, Request};
use tare_storage::{BindOptions, MountAccess, Propagation, selinux_enabled};

use crate::engine::Error;

/// Device nodes and set-user-id programs have no effect unless that was asked for, and what cannot be
/// written to cannot be written to below either.
pub(in crate::engine) fn bind_options<'u>(
    request: &MountRequest,
    users: Option<BorrowedFd<'u>>,
) -> BindOptions<'u> {
    let said =
        |words: &[&str]| request.options.iter().any(|it| words.contains(&it.to_string().as_str()));
    let mut options =
        users.map_or_else(BindOptions::new, |users| BindOptions::new().with_users(users));
    if said(&["dev"]) {
        options = options.with_devices();
    }
    if said(&["suid"]) {
        options = options.with_setuid();
    }
    if said(&["noexec"]) {
        options = options.without_programs();
    }
    if said(&["nosymfollow"]) {
        options = options.without_links();
    }
    if said(&["slave", "rslave"]) {
        options = options.with_propagation(Propagation::Slave);
    }
    if bool::from(request.access) || said(&["ro", "rro"]) {
        options = options.with_access(MountAccess::ReadOnly);
    }
    options
}

/// Whether what is mounted below comes along: it does, as in podman, unless `bind` is said.
pub(super) fn is_recursive(request: &MountRequest) -> bool {
    !request.options.iter().any(|it| it.to_string() == "bind")
}

/// Refuses to leave undone what `z` and `Z` ask for. Without `SELinux` there is nothing to do.
pub(in crate::engine) fn check_labels(request: &Request) -> Result<(), Error> {
    let mut options = request.mounts.iter().flat_map(|mount| &mount.options);
    let asked = options.any(|it| matches!(it.to_string().as_str(), "z" | "Z"));
    if asked && selinux_enabled() { Err(Error::NoRelabel) } else { Ok(()) }
}
