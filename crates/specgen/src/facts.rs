//! What is already known of the host, of the root file system, and of the place of the container.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::str::FromStr;

use crate::capability::CapabilitySet;
use crate::names::{DomainName, Hostname};
use crate::rlimit::RlimitKind;
use crate::seccomp::SeccompProfile;
use crate::text::{AbsolutePath, InvalidText, Problem};

/// The host, so far as it matters to a container; what is not told is taken as absent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HostFacts {
    /// What the processor understands.
    pub architecture: Architecture,
    /// Version of the running kernel.
    pub kernel: KernelVersion,
    /// The profile for containers with [`crate::Seccomp::Default`].
    pub seccomp_profile: SeccompProfile,
    /// What is mounted at `/sys/fs/cgroup`.
    pub cgroup_mode: CgroupMode,
    /// Names of the cgroup controllers at hand, as in `cgroup.controllers`.
    pub controllers: BTreeSet<String>,
    /// Whether swap can be limited: `memory.swap.max` is there.
    pub swap_limits: bool,
    /// Names of the AppArmor profiles in the kernel, without their modes, as in
    /// `/sys/kernel/security/apparmor/profiles`; nothing if the kernel does not use AppArmor.
    pub apparmor_profiles: Option<BTreeSet<String>>,
    /// Capabilities in the bounding set of whoever starts the container.
    pub capabilities: CapabilitySet,
    /// Hard resource limits that whoever starts the container cannot exceed. A kind that is not
    /// here is free to set; mind that even root sets `RLIMIT_NOFILE` only up to `fs.nr_open`.
    pub hard_limits: BTreeMap<RlimitKind, u64>,
    /// The host's own name, for containers in its network.
    pub hostname: Option<Hostname>,
    /// Text of the `resolv.conf` whose name servers containers can reach: not the one that names
    /// a stub resolver on loopback.
    pub resolv_conf: Option<String>,
    /// Numbers of the processors that have a `thermal_throttle` directory in sysfs.
    pub thermal_throttle_cpus: BTreeSet<u32>,
}

impl HostFacts {
    /// A host with cgroup v2 of which nothing else is known: containers get no capabilities.
    pub fn new(
        architecture: Architecture,
        kernel: KernelVersion,
        seccomp_profile: SeccompProfile,
    ) -> Self {
        Self {
            architecture,
            kernel,
            seccomp_profile,
            cgroup_mode: CgroupMode::V2,
            controllers: BTreeSet::new(),
            swap_limits: false,
            apparmor_profiles: None,
            capabilities: CapabilitySet::EMPTY,
            hard_limits: BTreeMap::new(),
            hostname: None,
            resolv_conf: None,
            thermal_throttle_cpus: BTreeSet::new(),
        }
    }
}

/// A processor architecture; parsed from the machine field of uname(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names say it")]
pub enum Architecture {
    X86_64,
    X86,
    Aarch64,
    Arm,
    Loongarch64,
    Ppc64le,
    Riscv64,
    S390x,
}

impl FromStr for Architecture {
    type Err = InvalidText;

    fn from_str(machine: &str) -> Result<Self, Self::Err> {
        match machine {
            "x86_64" => Ok(Self::X86_64),
            "i386" | "i486" | "i586" | "i686" => Ok(Self::X86),
            "aarch64" => Ok(Self::Aarch64),
            "arm" | "armv6l" | "armv7l" | "armv8l" => Ok(Self::Arm),
            "loongarch64" => Ok(Self::Loongarch64),
            "ppc64le" => Ok(Self::Ppc64le),
            "riscv64" => Ok(Self::Riscv64),
            "s390x" => Ok(Self::S390x),
            _ => Err(InvalidText::new("architecture", Problem::Form("is not known"))),
        }
    }
}

/// Version of a kernel, so far as it tells what the kernel can do; parsed from `6.12.9-amd64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// As in the `6` of 6.12.
    pub major: u32,
    /// As in the `12` of 6.12.
    pub minor: u32,
}

impl FromStr for KernelVersion {
    type Err = InvalidText;

    fn from_str(release: &str) -> Result<Self, Self::Err> {
        let mut numbers =
            release.split(|c: char| !c.is_ascii_digit()).map(|text| text.parse().ok());
        match (numbers.next().flatten(), numbers.next().flatten()) {
            (Some(major), Some(minor)) => Ok(Self { major, minor }),
            _ => Err(InvalidText::new("kernel version", Problem::Form("is not MAJOR.MINOR"))),
        }
    }
}

/// What is mounted at `/sys/fs/cgroup`; see cgroups(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupMode {
    /// cgroup2 alone.
    V2,
    /// The controllers in version 1, systemd's hierarchy in version 2.
    Hybrid,
    /// Version 1 alone.
    V1,
}

/// What was read from inside the container's root file system.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RootfsFacts {
    /// `/etc/passwd`, at most [`crate::MAX_ACCOUNT_FILE`] bytes.
    pub passwd: Option<Vec<u8>>,
    /// `/etc/group`, at most [`crate::MAX_ACCOUNT_FILE`] bytes.
    pub group: Option<Vec<u8>>,
}

/// Where the pieces of one container lie on the host.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Placement {
    /// The root file system.
    pub rootfs: AbsolutePath,
    /// The directory that [`crate::Generated::files`] will be written to.
    pub files_dir: AbsolutePath,
    /// The tmpfs that is bound to `/dev/shm`.
    pub shm: AbsolutePath,
    /// The hostname if nobody asks for another: the first 12 digits of the container's id.
    pub default_hostname: Hostname,
    /// Where the runtime puts the container's cgroup: a path, or `slice:prefix:name` with systemd.
    pub cgroups_path: String,
    /// The network namespace made for the container; nothing: the runtime makes one.
    pub netns: Option<AbsolutePath>,
    /// Other names of the container in its networks: its own and aliases.
    pub names: Vec<DomainName>,
    /// The networks it has been joined to, first the one that leads outside.
    pub networks: Vec<NetworkFacts>,
}

impl Placement {
    /// A container that is in no network yet.
    pub fn new(
        rootfs: AbsolutePath,
        files_dir: AbsolutePath,
        shm: AbsolutePath,
        default_hostname: Hostname,
        cgroups_path: impl Into<String>,
    ) -> Self {
        Self {
            rootfs,
            files_dir,
            shm,
            default_hostname,
            cgroups_path: cgroups_path.into(),
            netns: None,
            names: Vec::new(),
            networks: Vec::new(),
        }
    }
}

/// What the container has in one network.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct NetworkFacts {
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// The host's addresses in that network.
    pub gateways: Vec<IpAddr>,
}

impl NetworkFacts {
    /// The container's addresses and the host's.
    pub fn new(addresses: Vec<IpAddr>, gateways: Vec<IpAddr>) -> Self {
        Self { addresses, gateways }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions() {
        for (text, want) in [
            ("6.12.9-amd64", Some((6, 12))),
            ("5.10", Some((5, 10))),
            ("6.18-rc1", Some((6, 18))),
            ("6", None),
            ("", None),
            ("linux 6.1", None),
            ("99999999999.1", None),
        ] {
            let got = text.parse::<KernelVersion>().ok().map(|v| (v.major, v.minor));
            assert_eq!(got, want, "{text:?}");
        }
        assert!("5.9".parse::<KernelVersion>().unwrap() < "5.10".parse().unwrap());
    }
}
