//! The shape of config.json.
//!
//! Leaves are the types of `oci-spec`. The nodes above them are ours, for two reasons: `oci-spec`
//! keeps capabilities in hash sets, whose order changes from run to run, and here the rules of the
//! seccomp profile go in as they were rendered when it was parsed.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxNamespace, Mount, Root, User};
use serde::Serialize;

use crate::capability::CapabilitySet;
use crate::cgroup::Limits;
use crate::rlimit::{RlimitKind, Ulimit};
use crate::seccomp::Filter;
use crate::text::EnvVar;

/// Version of the runtime-spec: the newest that crun 1.8 and runc 1.1 know, and later ones read.
pub(crate) const OCI_VERSION: &str = "1.0.2";

/// Says who keeps the container.
pub(crate) const MANAGER_ANNOTATION: &str = "io.container.manager";

/// Number of the signal that stops the container, in decimal.
pub(crate) const STOP_SIGNAL_ANNOTATION: &str = "org.opencontainers.image.stopSignal";

/// The whole file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Config<'a> {
    pub(crate) oci_version: &'a str,
    pub(crate) process: Process<'a>,
    pub(crate) root: Root,
    pub(crate) hostname: &'a str,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) annotations: BTreeMap<&'a str, &'a str>,
    pub(crate) linux: Linux<'a>,
}

/// `process`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Process<'a> {
    pub(crate) terminal: bool,
    pub(crate) user: User,
    pub(crate) args: Vec<&'a str>,
    pub(crate) env: Vec<EnvVar>,
    pub(crate) cwd: &'a str,
    pub(crate) capabilities: Capabilities,
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) no_new_privileges: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) apparmor_profile: Option<&'a str>,
}

/// `process.capabilities`.
#[derive(Debug, Serialize)]
pub(crate) struct Capabilities {
    bounding: CapabilitySet,
    effective: CapabilitySet,
    permitted: CapabilitySet,
    inheritable: CapabilitySet,
    ambient: CapabilitySet,
}

impl Capabilities {
    /// Only root holds what the container may have at most; for others it is a bound.
    ///
    /// Inheritable and ambient stay empty, or a program with file capabilities would get more
    /// than it should (CVE-2022-27649).
    pub(crate) fn new(bounding: CapabilitySet, uid: u32) -> Self {
        let held = if uid == 0 { bounding } else { CapabilitySet::EMPTY };
        Self {
            bounding,
            effective: held,
            permitted: held,
            inheritable: CapabilitySet::EMPTY,
            ambient: CapabilitySet::EMPTY,
        }
    }
}

/// An entry of `process.rlimits`.
#[derive(Debug, Serialize)]
pub(crate) struct Rlimit {
    #[serde(rename = "type")]
    kind: RlimitKind,
    soft: u64,
    hard: u64,
}

impl From<Ulimit> for Rlimit {
    fn from(limit: Ulimit) -> Self {
        Self { kind: limit.kind(), soft: limit.soft(), hard: limit.hard() }
    }
}

/// `linux`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Linux<'a> {
    pub(crate) namespaces: Vec<LinuxNamespace>,
    pub(crate) cgroups_path: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) sysctl: BTreeMap<&'static str, &'static str>,
    pub(crate) resources: Limits<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seccomp: Option<Filter<'a>>,
    pub(crate) masked_paths: Vec<String>,
    pub(crate) readonly_paths: &'a [&'a str],
}
