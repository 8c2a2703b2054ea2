//! All mounts of a container, in one order that does not change.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::Serialize;

use super::kernel::{self, BOUND};
use super::options::{Flag, Kind, Propagation, Spread, id_maps};
use super::request::{MountRequest, MountSource};
use super::target::{MountTarget, depth};
use crate::effective::Effective;
use crate::error::Error;
use crate::facts::{HostFacts, KernelVersion, Placement, RootfsFacts};
use crate::files::BoundFile;
use crate::idmap::{self, IdMapping, OciMapping};
use crate::request::RootfsAccess;
use crate::services;

/// An entry of `mounts`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OciMount<'a> {
    pub(crate) destination: Cow<'a, str>,
    #[serde(rename = "type")]
    kind: &'static str,
    source: Cow<'a, str>,
    options: Vec<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    uid_mappings: Vec<OciMapping>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gid_mappings: Vec<OciMapping>,
}

impl<'a> OciMount<'a> {
    pub(crate) fn new(
        destination: impl Into<Cow<'a, str>>,
        kind: &'static str,
        source: impl Into<Cow<'a, str>>,
        options: &[&'static str],
    ) -> Self {
        Self {
            destination: destination.into(),
            kind,
            source: source.into(),
            options: options.iter().map(|option| Cow::Borrowed(*option)).collect(),
            uid_mappings: Vec::new(),
            gid_mappings: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, options: &[&'static str]) -> Self {
        self.options.extend(options.iter().map(|option| Cow::Borrowed(*option)));
        self
    }

    pub(crate) fn with_text(mut self, option: impl Into<Cow<'a, str>>) -> Self {
        self.options.push(option.into());
        self
    }
}

/// All mounts: what everybody has, less what was asked for on the same place; then what was asked
/// for. Parents come before what is in them, and else the order is that of the request.
///
/// # Errors
/// [`Error::Option`] when two mounts meet on one place in the root file system, or one leads to
/// where nothing may be mounted; [`Error::Kernel`] for what the host's kernel cannot do;
/// [`Error::Placement`] when a source was not laid in place.
pub(crate) fn mounts<'a>(
    effective: &'a Effective,
    host: &'a HostFacts,
    rootfs: &'a RootfsFacts,
    placement: &'a Placement,
    files: &'a [BoundFile],
) -> Result<Vec<OciMount<'a>>, Error> {
    let asked = asked(effective, host, rootfs, placement)?;
    let taken: BTreeSet<String> = asked.iter().map(|mount| mount.destination.to_string()).collect();
    let mut list = kernel::mounts(effective, placement);
    list.extend(services::mounts(effective, host, placement));
    list.extend(files.iter().map(|file| bound(file, effective, placement)));
    list.retain(|mount| !taken.contains(&*mount.destination));
    last_of_each(&mut list);
    list.extend(asked);
    list.sort_by_cached_key(|mount| depth(&mount.destination));
    Ok(list)
}

/// What is for systemd, say, is in place of what everybody has.
fn last_of_each(list: &mut Vec<OciMount<'_>>) {
    let mut at = 0;
    while at < list.len() {
        let replaced = list[at + 1..].iter().any(|mount| mount.destination == list[at].destination);
        if replaced {
            list.remove(at);
        } else {
            at += 1;
        }
    }
}

fn bound<'a>(file: &'a BoundFile, effective: &Effective, placement: &Placement) -> OciMount<'a> {
    let source = match &file.shared {
        Some(path) => Cow::Borrowed(path.as_str()),
        None => Cow::Owned(format!("{}/{}", placement.files_dir, file.name)),
    };
    let mount = OciMount::new(file.target.as_str(), "bind", source, &BOUND);
    let read_only = file.read_only || effective.request.rootfs_access == RootfsAccess::ReadOnly;
    if read_only { mount.with(&["ro"]) } else { mount }
}

fn asked<'a>(
    effective: &'a Effective,
    host: &HostFacts,
    rootfs: &'a RootfsFacts,
    placement: &'a Placement,
) -> Result<Vec<OciMount<'a>>, Error> {
    let mut seen = BTreeSet::new();
    let mut list = Vec::with_capacity(effective.request.mounts.len());
    for mount in effective.request.mounts.iter().chain(&placement.cdi.mounts) {
        let target = rootfs.resolved.get(&mount.target).unwrap_or(&mount.target);
        if !seen.insert(target) {
            let rule = "has two mounts whose targets are one place in the image";
            return Err(Error::Option { option: "Mounts", rule });
        }
        check_kernel(mount, host.kernel)?;
        list.push(one(mount, target, effective, placement)?);
    }
    Ok(list)
}

fn check_kernel(mount: &MountRequest, kernel: KernelVersion) -> Result<(), Error> {
    let needs = |what, (major, minor)| {
        let needed = KernelVersion { major, minor };
        if kernel >= needed { Ok(()) } else { Err(Error::Kernel { what, needed }) }
    };
    mount.kinds().try_for_each(|kind| match kind {
        Kind::RecursiveReadOnly => needs("mount option rro", (5, 12)),
        Kind::IdMap(_) => needs("mount option idmap", (5, 12)),
        Kind::NoSymFollow => needs("mount option nosymfollow", (5, 10)),
        _ => Ok(()),
    })
}

fn one<'a>(
    mount: &'a MountRequest,
    target: &'a MountTarget,
    effective: &'a Effective,
    placement: &'a Placement,
) -> Result<OciMount<'a>, Error> {
    let target = target.as_str();
    let new = match &mount.source {
        MountSource::Tmpfs => OciMount::new(target, "tmpfs", "tmpfs", &[]),
        MountSource::Devpts => OciMount::new(target, "devpts", "devpts", &["newinstance"]),
        MountSource::Host(path) => {
            let source = placement.mounts.get(&mount.target).unwrap_or(path);
            OciMount::new(target, "bind", source.as_str(), &[])
        }
        MountSource::Volume { .. } | MountSource::Image { .. } => {
            let source = placement.mounts.get(&mount.target).ok_or_else(|| Error::Placement {
                what: format!("the source of the mount on {}", mount.target),
            })?;
            OciMount::new(target, "bind", source.as_str(), &[])
        }
    };
    with_id_maps(with_options(new, mount), mount, effective, placement)
}

/// As podman: private, without devices and set-user-ID programs unless somebody says otherwise;
/// memory and terminals also without programs.
fn with_options<'a>(new: OciMount<'a>, mount: &'a MountRequest) -> OciMount<'a> {
    let file_system = !mount.needs_source();
    let propagation = mount.propagation().map_or("rprivate", Propagation::as_str);
    let recursive = !mount.kinds().any(|kind| *kind == Kind::Bind { recursive: false });
    let mut new = match (file_system, recursive) {
        (true, _) => new,
        (false, true) => new.with(&["rbind"]),
        (false, false) => new.with(&["bind"]),
    };
    new = new.with(&[if mount.is_read_only() { "ro" } else { "rw" }, propagation]);
    for (flag, on, off, default) in [
        (Flag::NoSuid, "nosuid", "suid", true),
        (Flag::NoDev, "nodev", "dev", true),
        (Flag::NoExec, "noexec", "exec", file_system),
    ] {
        match mount.flag(flag) {
            Some(true) => new = new.with(&[on]),
            None if default => new = new.with(&[on]),
            Some(false) => new = new.with(&[off]),
            None => {}
        }
    }
    if copies_up(mount) {
        new = new.with(&["tmpcopyup"]);
    }
    for kind in mount.kinds() {
        new = match kind {
            Kind::RecursiveReadOnly => new.with(&["rro"]),
            Kind::NoSymFollow => new.with(&["nosymfollow"]),
            Kind::Plain(word) => new.with(&[word]),
            Kind::Parameter(name, value) => new.with_text(format!("{name}={value}")),
            _ => new,
        };
    }
    new
}

/// What the image has at the place is copied into new memory, as in podman.
fn copies_up(mount: &MountRequest) -> bool {
    let refused = mount.kinds().any(|kind| *kind == Kind::CopyUp(false));
    mount.source == MountSource::Tmpfs && !refused
}

impl MountRequest {
    pub(crate) fn propagation(&self) -> Option<Propagation> {
        self.kinds().find_map(|kind| match kind {
            Kind::Propagation(propagation) => Some(*propagation),
            _ => None,
        })
    }
}

fn with_id_maps<'a>(
    mut new: OciMount<'a>,
    mount: &MountRequest,
    effective: &Effective,
    placement: &Placement,
) -> Result<OciMount<'a>, Error> {
    let text = mount.kinds().find_map(|kind| match kind {
        Kind::IdMap(text) => Some(text),
        _ => None,
    });
    let Some(text) = text else { return Ok(new) };
    let (users, groups) = (effective.uid_map(placement), effective.gid_map(placement));
    let maps = id_maps(text).and_then(|(uids, gids)| {
        let resolve = |map: Option<idmap::MountMap>, own: &[IdMapping]| match map {
            Some(map) => map.resolve(own),
            None => Ok(own.to_vec()),
        };
        Ok((resolve(uids, users)?, resolve(gids, groups)?))
    });
    let rule = "has a mount with idmap and no map: the container has no user namespace";
    match maps {
        Ok((uids, gids)) if !uids.is_empty() && !gids.is_empty() => {
            (new.uid_mappings, new.gid_mappings) = (idmap::oci(&uids), idmap::oci(&gids));
            new = new.with(&["idmap"]);
            Ok(new)
        }
        Ok(_) => Err(Error::Option { option: "Mounts", rule }),
        Err(_) => Err(Error::Option {
            option: "Mounts",
            rule: "has an idmap with a range that the container's user namespace does not have",
        }),
    }
}

/// `linux.rootfsPropagation`: what a mount needs, its parent must have too.
///
/// Nothing if no mount spreads: what runtimes do then is recursive, what "private" asks for is not.
pub(crate) fn propagation(effective: &Effective) -> Option<&'static str> {
    let spreads: Vec<_> = effective
        .request
        .mounts
        .iter()
        .filter_map(|mount| mount.propagation().map(|propagation| propagation.how))
        .collect();
    if spreads.contains(&Spread::Shared) {
        Some("shared")
    } else if spreads.contains(&Spread::Slave) {
        Some("rslave")
    } else {
        None
    }
}
