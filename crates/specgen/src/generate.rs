//! The whole: from what will run, and the facts, to the files of the bundle.

use std::collections::BTreeMap;

use oci_spec::runtime::Root;

use crate::document::{Config, MANAGER_ANNOTATION, OCI_VERSION, STOP_SIGNAL_ANNOTATION};
use crate::effective::Effective;
use crate::error::Error;
use crate::facts::{HostFacts, Placement, RootfsFacts};
use crate::hosts::hosts;
use crate::linux::linux;
use crate::mounts::mounts;
use crate::names::Hostname;
use crate::process::{bounding, process};
use crate::request::NetworkMode;
use crate::resolv_conf::resolv_conf;
use crate::resources::check_controllers;
use crate::user;
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
    pub files: Vec<TextFile>,
    /// What the person who asked should know.
    pub warnings: Vec<Warning>,
}

/// A file that is bound into the container.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TextFile {
    /// Name in [`Placement::files_dir`].
    pub name: &'static str,
    /// Where it is seen in the container.
    pub target: &'static str,
    /// What it says.
    pub content: String,
    /// Its mode bits; it belongs to the container's root.
    pub mode: u32,
}

/// Makes the configuration of a container; same input, same bytes.
///
/// # Errors
/// [`Error::NoCommand`], [`Error::User`], [`Error::Capabilities`], [`Error::Ulimit`],
/// [`Error::Controller`] and [`Error::AppArmor`] when what was asked for cannot be had with this
/// image on this host.
pub fn generate(
    effective: &Effective,
    host: &HostFacts,
    rootfs: &RootfsFacts,
    placement: &Placement,
) -> Result<Generated, Error> {
    let mut warnings = Vec::new();
    let user = user::resolve(&effective.user, rootfs)
        .map_err(|source| Error::User { user: effective.user.to_string(), source })?;
    let hostname = hostname(effective, host, placement);
    let bounding = bounding(effective, host)?;
    check_controllers(&effective.resources, &host.controllers)?;
    let process = process(effective, host, &user, hostname, bounding, &mut warnings)?;
    let files = text_files(effective, host, placement, hostname, &mut warnings);
    let stop_signal = effective.stop_signal.number().to_string();
    let config = Config {
        oci_version: OCI_VERSION,
        process,
        root: root(effective, placement),
        hostname: hostname.as_str(),
        mounts: mounts(placement, &files, effective.rootfs_access),
        annotations: annotations(effective, &stop_signal),
        linux: linux(effective, host, placement, bounding),
    };
    let config = serde_json::to_vec(&config).map_err(Error::encode)?;
    Ok(Generated { config, files, warnings })
}

/// In the host's network a container goes by the host's name, as in podman.
fn hostname<'a>(
    effective: &'a Effective,
    host: &'a HostFacts,
    placement: &'a Placement,
) -> &'a Hostname {
    let of_network = match effective.network_mode {
        NetworkMode::Host => host.hostname.as_ref(),
        NetworkMode::Private | NetworkMode::None => None,
    };
    effective.hostname.as_ref().or(of_network).unwrap_or(&placement.default_hostname)
}

fn text_files(
    effective: &Effective,
    host: &HostFacts,
    placement: &Placement,
    hostname: &Hostname,
    warnings: &mut Vec<Warning>,
) -> Vec<TextFile> {
    let resolv_conf = resolv_conf(effective, host, placement, warnings);
    let file = |name, target, content| TextFile { name, target, content, mode: 0o644 };
    vec![
        file("resolv.conf", "/etc/resolv.conf", resolv_conf),
        file("hosts", "/etc/hosts", hosts(effective, placement, hostname)),
        file("hostname", "/etc/hostname", format!("{hostname}\n")),
        // Its being there is the message; podman fills it for privileged containers only.
        file("containerenv", "/run/.containerenv", String::new()),
    ]
}

fn root(effective: &Effective, placement: &Placement) -> Root {
    let mut root = Root::default();
    root.set_path(placement.rootfs.as_str().into())
        .set_readonly(Some(effective.rootfs_access.into()));
    root
}

fn annotations<'a>(effective: &'a Effective, stop_signal: &'a str) -> BTreeMap<&'a str, &'a str> {
    let asked = effective.annotations.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    asked.chain([(MANAGER_ANNOTATION, MANAGER), (STOP_SIGNAL_ANNOTATION, stop_signal)]).collect()
}

#[cfg(test)]
#[path = "generate_tests.rs"]
mod tests;
