//! Namespaces, resources and the parts of `/proc` and `/sys` that are hidden.

use std::collections::{BTreeMap, BTreeSet};

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};

use crate::capability::CapabilitySet;
use crate::cgroup::{self, DeviceRule};
use crate::document::Linux;
use crate::effective::Effective;
use crate::facts::{CgroupMode, HostFacts, Placement};
use crate::request::{NetworkMode, Seccomp};

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
) -> Linux<'a> {
    let seccomp = match effective.seccomp {
        Seccomp::Default => {
            Some(host.seccomp_profile.resolve(host.architecture, host.kernel, bounding))
        }
        Seccomp::Unconfined => None,
    };
    let mut resources = cgroup::limits(&effective.resources, host);
    resources.devices.push(NO_DEVICE);
    Linux {
        namespaces: namespaces(effective.network_mode, host.cgroup_mode, placement),
        cgroups_path: &placement.cgroups_path,
        sysctl: sysctl(effective.network_mode),
        resources,
        seccomp,
        masked_paths: masked_paths(&host.thermal_throttle_cpus),
        readonly_paths: &READ_ONLY,
        // No rootfsPropagation: what runtimes do then is recursive, what "private" asks for is not.
    }
}

/// A namespace that is not listed is the host's.
fn namespaces(
    network: NetworkMode,
    cgroup: CgroupMode,
    placement: &Placement,
) -> Vec<LinuxNamespace> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    let mut namespaces: Vec<_> = [Pid, Ipc, Uts, Mount].into_iter().map(namespace).collect();
    // On version 1 the paths of all controllers would have to agree for one to be of use.
    if cgroup != CgroupMode::V1 {
        namespaces.push(namespace(Cgroup));
    }
    if network != NetworkMode::Host {
        let mut own = namespace(Network);
        own.set_path(placement.netns.as_ref().map(|path| path.as_str().into()));
        namespaces.push(own);
    }
    namespaces
}

fn namespace(kind: LinuxNamespaceType) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind).set_path(None);
    namespace
}

/// `ping` works for every user of the container, as with docker: it needs no capability then. Only
/// in a network of its own; the host's settings are the host's.
fn sysctl(network: NetworkMode) -> BTreeMap<&'static str, &'static str> {
    let own = network != NetworkMode::Host;
    own.then_some(("net.ipv4.ping_group_range", "0 2147483647")).into_iter().collect()
}

/// No device but the few that runtimes add themselves (`null`, `zero`, `full`, `random`,
/// `urandom`, `tty`, terminals).
const NO_DEVICE: DeviceRule =
    DeviceRule { allow: false, kind: None, major: None, minor: None, access: "rwm" };

fn masked_paths(thermal_throttle_cpus: &BTreeSet<u32>) -> Vec<String> {
    let throttle = |cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle");
    let fixed = MASKED.iter().map(|path| (*path).to_owned());
    fixed.chain(thermal_throttle_cpus.iter().map(throttle)).collect()
}
