//! The shape of config.json.
//!
//! It is ours where it matters, and of `oci-spec` where not, for three reasons: `oci-spec` keeps
//! capabilities and maps in hash tables, whose order changes from run to run; here texts are borrowed
//! from the request, where `oci-spec` wants a copy of each; and the rules of the seccomp profile go
//! in as they were rendered when it was parsed. Tests read what comes out with `oci-spec`, and with
//! the schema.

use std::borrow::Cow;
use std::collections::BTreeMap;

use oci_spec::runtime::{Root, User};
use serde::Serialize;

use crate::capability::CapabilitySet;
use crate::cgroup::Limits;
use crate::device::OciDevice;
use crate::hooks::OciHooks;
use crate::idmap::OciMapping;
use crate::mount::OciMount;
use crate::namespace::Namespace;
use crate::rlimit::{RlimitKind, Ulimit};
use crate::seccomp::Filter;
use crate::services::{IntelRdt, RdtSchema};
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hostname: Option<&'a str>,
    pub(crate) mounts: Vec<OciMount<'a>>,
    #[serde(skip_serializing_if = "OciHooks::is_empty_for_runtime")]
    pub(crate) hooks: OciHooks,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) selinux_label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) oom_score_adj: Option<i32>,
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
    pub(crate) namespaces: Vec<Namespace<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) uid_mappings: Vec<OciMapping>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) gid_mappings: Vec<OciMapping>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) time_offsets: BTreeMap<&'static str, TimeOffset>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) devices: Vec<OciDevice<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) cgroups_path: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) sysctl: BTreeMap<&'a str, Cow<'a, str>>,
    pub(crate) resources: Limits<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rootfs_propagation: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seccomp: Option<Filter<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) masked_paths: Vec<Cow<'static, str>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(crate) readonly_paths: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mount_label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) intel_rdt: Option<Rdt<'a>>,
}

/// An entry of `linux.timeOffsets`.
#[derive(Debug, Serialize)]
pub(crate) struct TimeOffset {
    pub(crate) secs: i64,
}

/// `linux.intelRdt`.
#[derive(Debug, Serialize)]
pub(crate) struct Rdt<'a> {
    #[serde(rename = "closID")]
    clos_id: &'a str,
    #[serde(rename = "l3CacheSchema", skip_serializing_if = "Option::is_none")]
    l3_cache: Option<&'a str>,
    #[serde(rename = "memBwSchema", skip_serializing_if = "Option::is_none")]
    memory_bandwidth: Option<&'a str>,
}

impl<'a> From<&'a IntelRdt> for Rdt<'a> {
    fn from(rdt: &'a IntelRdt) -> Self {
        Self {
            clos_id: rdt.clos_id.as_str(),
            l3_cache: rdt.l3_cache.as_ref().map(RdtSchema::as_str),
            memory_bandwidth: rdt.memory_bandwidth.as_ref().map(RdtSchema::as_str),
        }
    }
}
