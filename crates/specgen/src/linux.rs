//! Namespaces, resources and the parts of `/proc` and `/sys` that are hidden.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::capability::CapabilitySet;
use crate::cgroup;
use crate::device;
use crate::document::{Linux, TimeOffset};
use crate::effective::Effective;
use crate::error::Error;
use crate::facts::{HostFacts, Placement};
use crate::idmap;
use crate::mount;
use crate::namespace::{NamespaceMode, namespaces};
use crate::request::{Privileged, Seccomp};
use crate::services;
use crate::sysctl;

/// Hidden from every container: what podman and moby hide, taken together. They tell of the host
/// (keys, timers, memory, interrupts), let its power draw be measured (powercap: a side channel
/// on keys), or are of no use in a container.
const MASKED: [&str; 14] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Shown but not to be written to: what these change is the host's.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The `linux` part of the document.
pub(crate) fn linux<'a>(
    effective: &'a Effective,
    host: &'a HostFacts,
    placement: &'a Placement,
    bounding: CapabilitySet,
    mount_label: Option<&'a str>,
) -> Result<Linux<'a>, Error> {
    let request = &effective.request;
    let mut resources = cgroup::limits(&request.resources, host);
    resources.devices = device::rules(effective, placement);
    let resolve = |profile: &'a crate::seccomp::SeccompProfile| {
        profile.resolve(host.architecture, host.kernel, bounding)
    };
    let seccomp = match &effective.seccomp {
        Seccomp::Default => Some(resolve(&host.seccomp_profile)),
        Seccomp::Unconfined => None,
        Seccomp::Profile(given) => Some(resolve(given.profile())),
    };
    let privileged = request.privileged == Privileged::Yes;
    let masked_paths = masked_paths(effective, host, privileged);
    Ok(Linux {
        namespaces: namespaces(effective, host, placement)?,
        uid_mappings: idmap::oci(effective.uid_map(placement)),
        gid_mappings: idmap::oci(effective.gid_map(placement)),
        time_offsets: time_offsets(effective),
        devices: device::devices(effective, host, placement),
        cgroups_path: &placement.cgroups_path,
        sysctl: sysctl::sysctls(effective, placement),
        resources,
        rootfs_propagation: mount::propagation(effective),
        seccomp,
        masked_paths,
        readonly_paths: if privileged { &[] } else { &READ_ONLY },
        mount_label,
        intel_rdt: request.intel_rdt.as_ref().map(Into::into),
    })
}

fn time_offsets(effective: &Effective) -> BTreeMap<&'static str, TimeOffset> {
    let request = &effective.request;
    let offsets = request.time_offsets;
    [("monotonic", offsets.monotonic), ("boottime", offsets.boottime)]
        .into_iter()
        .filter(|(_, secs)| request.namespaces.time == NamespaceMode::Private && *secs != 0)
        .map(|(clock, secs)| (clock, TimeOffset { secs }))
        .collect()
}

fn masked_paths(
    effective: &Effective,
    host: &HostFacts,
    privileged: bool,
) -> Vec<Cow<'static, str>> {
    let of_systemd = services::masked(effective, host).map(Cow::Borrowed);
    if privileged {
        return of_systemd.into_iter().collect();
    }
    let throttle = |cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle");
    let throttles = host.thermal_throttle_cpus.iter().map(throttle).map(Cow::Owned);
    MASKED.iter().copied().map(Cow::Borrowed).chain(throttles).chain(of_systemd).collect()
}
