//! How mounts that are made here are to be, from what was asked for.

use std::os::fd::BorrowedFd;

use tare_specgen::{MountRequest, Sharing};
use tare_storage::{BindOptions, MountAccess, Propagation, Relabeled};

use crate::engine::selinux::{Labels, homes_now, is_of_host};

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

/// Gives what is open the label that the options ask for, if they do; once, and where there are labels.
pub(in crate::engine) fn relabel(
    request: &MountRequest,
    place: BorrowedFd<'_>,
    labels: Option<&Labels>,
) -> Result<(), tare_storage::Error> {
    let (Some(sharing), Some(labels)) = (request.relabeled_for(), labels) else { return Ok(()) };
    // Who has no label needs none.
    let Some(own) = &labels.own else { return Ok(()) };
    let label = match sharing {
        Sharing::All => &labels.shared,
        Sharing::Alone => own,
    };
    let target = &request.target;
    let homes = homes_now();
    match tare_storage::relabel(place, label, |path| is_of_host(path, &homes))? {
        Relabeled::NotKept => tracing::info!("what is mounted at {target} has no labels"),
        Relabeled::Tree { entries } => tracing::info!("{entries} files for {target} are {label}"),
        Relabeled::AlreadyThere | Relabeled::NotNeeded => {}
    }
    Ok(())
}
