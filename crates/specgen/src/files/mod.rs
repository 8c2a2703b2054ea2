//! The small files that are bound into a container, or written into its root file system.

pub(crate) mod hosts;
pub(crate) mod passwd;
pub(crate) mod resolv_conf;
pub(crate) mod secret;
mod subscription;
pub(crate) mod timezone;

use std::fmt::Write;

use crate::effective::Effective;
use crate::error::Error;
use crate::facts::{HostFacts, Placement, RootfsFacts, SharedFiles};
use crate::generate::hostname;
use crate::idmap;
use crate::mount::MountTarget;
use crate::names::Hostname;
use crate::request::{FileChoice, NetworkMode, Privileged};
use crate::text::AbsolutePath;
use crate::warning::Warning;

pub use hosts::{BaseHosts, HOST_NAME, HostsAddress, MAX_HOSTS_FILE};
pub use passwd::{PasswdEntry, SeenAt, seen_at};
pub use resolv_conf::{MAX_NAMESERVERS, Stub, stub};
pub use secret::{EnvName, SecretName, SecretTarget, SecretUse, SecretValue};
pub use subscription::{Subscription, parse_mounts_conf};
pub use timezone::{Timezone, ZoneName};

/// A file that is bound into the container.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BoundFile {
    /// Name in [`Placement::files_dir`].
    pub name: String,
    /// Where it is seen in the container.
    pub target: MountTarget,
    /// What is in it.
    pub content: Content,
    /// Its mode bits.
    pub mode: u32,
    /// Its owner, in the terms of the host.
    pub uid: u32,
    /// Its group, in the terms of the host.
    pub gid: u32,
    /// Another container's file, which is bound in its place.
    pub(crate) shared: Option<AbsolutePath>,
    /// Whether it is read-only in every container.
    pub(crate) read_only: bool,
}

/// Content of a file, which may be a secret: `Debug` tells the length only.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(pub Vec<u8>);

impl AsRef<[u8]> for Content {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// A file that is written into the root file system, so that the container can change it.
///
/// Whoever writes it resolves the path inside the root, follows no symbolic link at its end, and
/// replaces nothing but a regular file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RootfsFile {
    /// Where.
    pub path: MountTarget,
    /// The whole of what is to be in it.
    pub content: Vec<u8>,
    /// Its mode bits if it is not there yet.
    pub mode: u32,
}

/// A symbolic link that is made in the root file system; in place of a file that is there, but not
/// of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// Where; resolved inside the root.
    pub path: MountTarget,
    /// What it points to.
    pub to: String,
}

/// Makes files for one container.
pub(crate) struct Maker<'a> {
    effective: &'a Effective,
    placement: &'a Placement,
}

impl<'a> Maker<'a> {
    pub(crate) const fn new(effective: &'a Effective, placement: &'a Placement) -> Self {
        Self { effective, placement }
    }

    /// A file that belongs to the container's root and everybody may read.
    pub(crate) fn file(&self, name: &str, target: &str, content: impl Into<Vec<u8>>) -> BoundFile {
        self.owned(name, MountTarget::known(target), content.into(), (0o644, 0, 0))
    }

    /// A file of somebody in the container; who is not mapped there is its root.
    pub(crate) fn owned(
        &self,
        name: &str,
        target: MountTarget,
        content: Vec<u8>,
        (mode, uid, gid): (u32, u32, u32),
    ) -> BoundFile {
        let outside = |id, map: &[idmap::IdMapping]| match map {
            [] => id,
            map => idmap::outside(id, map).or_else(|| idmap::outside(0, map)).unwrap_or_default(),
        };
        BoundFile {
            name: name.to_owned(),
            target,
            content: Content(content),
            mode,
            uid: outside(uid, self.effective.uid_map(self.placement)),
            gid: outside(gid, self.effective.gid_map(self.placement)),
            shared: None,
            read_only: false,
        }
    }

    fn shared(&self, target: &str, path: &AbsolutePath) -> BoundFile {
        let mut file = self.file("", target, Vec::new());
        file.shared = Some(path.clone());
        file
    }
}

/// The two files that change while a container runs; those that are not the service's are not here.
///
/// The same input as for [`crate::generate`] gives the same bytes as there; but where that refuses a
/// `host-gateway` since the host has no address, its line is left out.
pub fn live_files(
    effective: &Effective,
    host: &HostFacts,
    rootfs: &RootfsFacts,
    placement: &Placement,
    warnings: &mut Vec<Warning>,
) -> Vec<BoundFile> {
    let mut files = network_files(effective, host, rootfs, placement, warnings);
    files.retain(|file| file.shared.is_none());
    files
}

fn network_files(
    effective: &Effective,
    host: &HostFacts,
    rootfs: &RootfsFacts,
    placement: &Placement,
    warnings: &mut Vec<Warning>,
) -> Vec<BoundFile> {
    let (request, make) = (&effective.request, Maker::new(effective, placement));
    let name = hostname(effective, host, placement);
    let of_other = files_of_other(effective, placement);
    let mut files = Vec::with_capacity(2);
    if request.resolv_conf == FileChoice::Managed {
        files.push(if let Some(other) = of_other {
            make.shared("/etc/resolv.conf", &other.resolv_conf)
        } else {
            let text = resolv_conf::resolv_conf(effective, host, placement, warnings);
            make.file("resolv.conf", "/etc/resolv.conf", text)
        });
    }
    if request.hosts_file == FileChoice::Managed {
        files.push(if let Some(other) = of_other {
            make.shared("/etc/hosts", &other.hosts)
        } else {
            let text = hosts::hosts(effective, host, rootfs, placement, name, warnings);
            make.file("hosts", "/etc/hosts", text)
        });
    }
    files
}

/// The files of the container whose network it shares, if they are to be bound in place of its own.
fn files_of_other<'a>(effective: &Effective, placement: &'a Placement) -> Option<&'a SharedFiles> {
    match effective.request.network_mode {
        NetworkMode::Container(_) => placement.shared_files.as_ref(),
        _ => None,
    }
}

/// All files that are bound in, but for those of accounts and zones.
pub(crate) fn bound_files(
    effective: &Effective,
    host: &HostFacts,
    rootfs: &RootfsFacts,
    placement: &Placement,
    hostname: &Hostname,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<BoundFile>, Error> {
    let make = Maker::new(effective, placement);
    let request = &effective.request;
    if request.hosts_file == FileChoice::Managed && files_of_other(effective, placement).is_none() {
        hosts::check(effective, placement)?;
    }
    let mut files = network_files(effective, host, rootfs, placement, warnings);
    if request.hostname_file == FileChoice::Managed {
        files.push(make.file("hostname", "/etc/hostname", format!("{hostname}\n")));
    }
    let containerenv = containerenv(effective, placement);
    files.push(make.file("containerenv", "/run/.containerenv", containerenv));
    files.extend(secret::files(effective, placement)?);
    if host.fips {
        files.push(make.file("system-fips", "/run/secrets/system-fips", ""));
    }
    Ok(files)
}

/// Its being there is the message; as in podman only a privileged container is told more, which
/// tools like toolbox read.
fn containerenv(effective: &Effective, placement: &Placement) -> String {
    let (Some(about), Privileged::Yes) = (&placement.about, effective.request.privileged) else {
        return String::new();
    };
    let id = placement.id.as_ref().map_or("", |id| id.as_str());
    let lines = [
        ("engine", "tare"),
        ("name", about.name.as_str()),
        ("id", id),
        ("image", about.image.as_str()),
        ("imageid", about.image_id.as_ref().map_or("", |image| image.as_str())),
        ("rootless", "0"),
    ];
    let mut text = String::new();
    for (name, value) in lines {
        let _ = writeln!(text, "{name}=\"{value}\"");
    }
    text
}

#[cfg(test)]
mod tests;
