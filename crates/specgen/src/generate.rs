//! The whole: from what will run, and the facts, to the files of the bundle.

use std::collections::BTreeMap;

use oci_spec::runtime::Root;

use crate::document::{Config, MANAGER_ANNOTATION, OCI_VERSION, STOP_SIGNAL_ANNOTATION};
use crate::effective::Effective;
use crate::error::Error;
use crate::facts::{HostFacts, Placement, RootfsFacts};
use crate::files::{self, BoundFile, Link, RootfsFile, passwd, timezone};
use crate::linux::linux;
use crate::mount::{MountTarget, mounts};
use crate::names::Hostname;
use crate::namespace::NamespaceMode;
use crate::process::{Parts, bounding, process};
use crate::request::NetworkMode;
use crate::resources::check_controllers;
use crate::selinux;
use crate::user::{self, ResolvedUser};
use crate::warning::Warning;

/// Value of the annotation that says who keeps the container.
const MANAGER: &str = "tare";

/// What the runtime needs to make a container.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Generated {
    /// Content of config.json.
    ///
    /// It holds the environment, which may hold secrets: write it with mode 0600.
    pub config: Vec<u8>,
    /// The files that are bound into the container; to be written to [`Placement::files_dir`].
    pub files: Vec<BoundFile>,
    /// Files to be written into the root file system before the container starts.
    pub rootfs_files: Vec<RootfsFile>,
    /// Links to be made there.
    pub links: Vec<Link>,
    /// How many descriptors, from 3 on, the first process is to be given.
    pub preserve_fds: usize,
    /// What the person who asked should know.
    pub warnings: Vec<Warning>,
}

/// Makes the configuration of a container; same input, same bytes.
///
/// # Errors
/// Every one of [`Error`] but those of reading images, profiles, hooks and CDI files: when what was
/// asked for cannot be had with this image on this host.
pub fn generate(
    effective: &Effective,
    host: &HostFacts,
    rootfs: &RootfsFacts,
    placement: &Placement,
) -> Result<Generated, Error> {
    let unknown = placement.cdi.unknown.iter();
    let mut warnings: Vec<_> =
        unknown.map(|name| Warning::CdiEditLeftOut { name: name.clone() }).collect();
    let user = user(effective, rootfs, placement)?;
    let hostname = hostname(effective, host, placement);
    let bounding = bounding(effective, host)?;
    check_controllers(&effective.request.resources, &host.controllers)?;
    let mut files =
        files::bound_files(effective, host, rootfs, placement, hostname, &mut warnings)?;
    let (rootfs_files, accounts) =
        passwd::files(effective, &user, rootfs, placement, &mut warnings);
    let (link, zone) = timezone::localtime(effective, rootfs, placement)?;
    files.extend(accounts.into_iter().chain(zone));
    let labels = selinux::labels(effective, host, placement)?;
    let labels = labels.as_ref();
    let selinux_label = labels.map(|labels| labels.process.as_str());
    let parts = Parts { host, placement, user: &user, hostname, bounding, selinux_label };
    let mount_label = labels.map(|labels| labels.files.as_str());
    let stop_signal = effective.stop_signal.number().to_string();
    let config = Config {
        oci_version: OCI_VERSION,
        process: process(effective, &parts, &mut warnings)?,
        root: root(effective, placement),
        hostname: own_hostname(effective, hostname),
        mounts: mounts_unless_joined(effective, host, rootfs, placement, &files)?,
        hooks: placement.hooks.and(&placement.cdi.hooks),
        annotations: annotations(effective, &stop_signal),
        linux: linux(effective, host, placement, bounding, mount_label)?,
    };
    let mut config = serde_json::to_vec(&config).map_err(Error::encode)?;
    if let Some(patch) = &effective.request.spec_patch {
        config = patch.apply(&config).map_err(Error::encode)?;
    }
    files.retain(|file| file.shared.is_none());
    Ok(Generated {
        config,
        files,
        rootfs_files,
        links: link.into_iter().chain(mtab(rootfs)).collect(),
        preserve_fds: effective.request.listen_fds.len(),
        warnings,
    })
}

fn user(
    effective: &Effective,
    rootfs: &RootfsFacts,
    placement: &Placement,
) -> Result<ResolvedUser, Error> {
    let failed = |source| Error::User { user: effective.user.to_string(), source };
    let mut user =
        user::resolve(&effective.user, rootfs, effective.working_dir.as_str()).map_err(failed)?;
    user::add_groups(&mut user, &effective.request.group_add, rootfs)
        .map_err(|source| Error::User { user: "GroupAdd".to_owned(), source })?;
    user.additional_gids.extend(&placement.cdi.additional_gids);
    user.additional_gids.sort_unstable();
    user.additional_gids.dedup();
    Ok(user)
}

/// What the container goes by: as it was asked for; where it shares the name of the host, or the
/// host's network as in podman, the host's; where it shares that of another container, that one's.
pub(crate) fn hostname<'a>(
    effective: &'a Effective,
    host: &'a HostFacts,
    placement: &'a Placement,
) -> &'a Hostname {
    let request = &effective.request;
    let shared = match (&request.namespaces.uts, &request.network_mode) {
        (NamespaceMode::Container(_) | NamespaceMode::Path(_), _) => {
            placement.joined_hostname.as_ref()
        }
        (NamespaceMode::Host, _) | (_, NetworkMode::Host) => host.hostname.as_ref(),
        (NamespaceMode::Private, _) => None,
    };
    request.hostname.as_ref().or(shared).unwrap_or(&placement.default_hostname)
}

/// The name of somebody else's namespace is not set.
fn own_hostname<'a>(effective: &Effective, hostname: &'a Hostname) -> Option<&'a str> {
    let own = effective.request.namespaces.uts == NamespaceMode::Private;
    own.then_some(hostname.as_str())
}

/// Who is in another's mount namespace sees that one's mounts.
fn mounts_unless_joined<'a>(
    effective: &'a Effective,
    host: &'a HostFacts,
    rootfs: &'a RootfsFacts,
    placement: &'a Placement,
    files: &'a [BoundFile],
) -> Result<Vec<crate::mount::OciMount<'a>>, Error> {
    match effective.request.namespaces.mount {
        NamespaceMode::Private => mounts(effective, host, rootfs, placement, files),
        _ => Ok(Vec::new()),
    }
}

/// What programs of old look at for mounts.
fn mtab(rootfs: &RootfsFacts) -> Option<Link> {
    let link = || Link { path: MountTarget::known("/etc/mtab"), to: "/proc/mounts".to_owned() };
    rootfs.lacks_mtab.then(link)
}

fn root(effective: &Effective, placement: &Placement) -> Root {
    let mut root = Root::default();
    root.set_path(placement.rootfs.as_str().into())
        .set_readonly(Some(effective.request.rootfs_access.into()));
    root
}

fn annotations<'a>(effective: &'a Effective, stop_signal: &'a str) -> BTreeMap<&'a str, &'a str> {
    let asked =
        effective.request.annotations.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    asked.chain([(MANAGER_ANNOTATION, MANAGER), (STOP_SIGNAL_ANNOTATION, stop_signal)]).collect()
}

#[cfg(test)]
#[path = "generate_tests.rs"]
mod tests;
