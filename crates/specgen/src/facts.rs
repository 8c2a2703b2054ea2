//! What is already known of the host, of the root file system, and of the place of the container.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::str::FromStr;

use crate::apparmor::AppArmorName;
use crate::capability::CapabilitySet;
use crate::categories::Categories;
use crate::cdi::CdiEdits;
use crate::device::DeviceRequest;
use crate::files::{SecretName, SecretValue, Subscription, ZoneName};
use crate::hooks::OciHooks;
use crate::idmap::IdMapping;
use crate::mount::{ImageId, MountTarget};
use crate::names::{DomainName, Hostname};
use crate::namespace::{ContainerRef, NamespaceKind};
use crate::rlimit::RlimitKind;
use crate::seccomp::SeccompProfile;
use crate::selinux::SELinuxPolicy;
use crate::text::{AbsolutePath, InvalidText, Problem, check_bytes, text_type};

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
    /// The profile for containers with [`crate::AppArmor::Default`].
    pub default_apparmor_profile: AppArmorName,
    /// Capabilities in the bounding set of whoever starts the container.
    pub capabilities: CapabilitySet,
    /// Hard resource limits that whoever starts the container cannot exceed. A kind that is not
    /// here is free to set; mind that even root sets `RLIMIT_NOFILE` only up to `fs.nr_open`.
    pub hard_limits: BTreeMap<RlimitKind, u64>,
    /// The host's own name, for containers in its network.
    pub hostname: Option<Hostname>,
    /// Text of the `resolv.conf` whose name servers containers can reach: not the one that names
    /// a stub resolver on loopback. [`crate::stub`] tells of one that does, and what to read instead.
    pub resolv_conf: Option<String>,
    /// Text of the host's own `/etc/resolv.conf`, for containers in its network; nothing: the same.
    pub own_resolv_conf: Option<String>,
    /// Whom containers ask where that names nobody whom they reach; nobody if it is empty. What the
    /// host does not know is then told to whoever they are.
    pub fallback_resolvers: Vec<IpAddr>,
    /// The host's `/etc/hosts`, for [`crate::BaseHosts::Host`]; at most [`crate::MAX_HOSTS_FILE`]
    /// bytes are looked at.
    pub hosts: Option<Vec<u8>>,
    /// What its policy has for containers, if SELinux is in use.
    pub selinux: Option<SELinuxPolicy>,
    /// Whether the host runs in FIPS mode.
    pub fips: bool,
    /// A program that reaps processes, for [`crate::Init::Yes`]: catatonit.
    pub init: Option<AbsolutePath>,
    /// The lowest `oom_score_adj` that whoever starts the container may give: its own, without
    /// `CAP_SYS_RESOURCE`.
    pub lowest_oom_score: Option<i32>,
    /// All devices of the host, for privileged containers.
    pub devices: Vec<DeviceRequest>,
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
            default_apparmor_profile: AppArmorName::default(),
            capabilities: CapabilitySet::EMPTY,
            hard_limits: BTreeMap::new(),
            hostname: None,
            resolv_conf: None,
            own_resolv_conf: None,
            fallback_resolvers: Vec::new(),
            hosts: None,
            selinux: None,
            fips: false,
            init: None,
            lowest_oom_score: None,
            devices: Vec::new(),
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
///
/// The root file system is hostile. Whoever gathers this resolves every path inside the root (a
/// symbolic link at its end included), opens nothing but regular files, without blocking, and reads
/// no more than is said here (B23, B24, CVE-2024-9676, CVE-2025-4437).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RootfsFacts {
    /// `/etc/passwd`, at most [`crate::MAX_ACCOUNT_FILE`] bytes; from where [`crate::seen_at`] says.
    pub passwd: Option<Vec<u8>>,
    /// `/etc/group`, likewise.
    pub group: Option<Vec<u8>>,
    /// `/etc/hosts`, for [`crate::BaseHosts::Image`], at most [`crate::MAX_HOSTS_FILE`] bytes.
    pub hosts: Option<Vec<u8>>,
    /// Targets of mounts of the request that lead elsewhere by way of symbolic links, and where to.
    /// A target that leads to where nothing may be mounted is an error of whoever gathers this: no
    /// [`MountTarget`] can be made of it.
    pub resolved: BTreeMap<MountTarget, MountTarget>,
    /// Whether `/usr/share/zoneinfo` has the zone that was asked for (or [`Placement::local_zone`]),
    /// as a regular file.
    pub has_zone: bool,
    /// Whether `/etc` is a directory without an entry `mtab`.
    pub lacks_mtab: bool,
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
    /// The container's id.
    pub id: Option<ContainerRef>,
    /// What `.containerenv` tells a privileged container of itself.
    pub about: Option<About>,
    /// The namespaces of other containers that are to be joined, as files of this host that hold
    /// them: by descriptor, `/proc/self/fd/N`, and never by a process number that may be another's.
    pub joined: BTreeMap<NamespaceKind, AbsolutePath>,
    /// Hostname of the container whose UTS namespace is joined.
    pub joined_hostname: Option<Hostname>,
    /// The files of the container whose network is joined, bound in place of own ones.
    pub shared_files: Option<SharedFiles>,
    /// Names of those who have joined this container's network.
    pub joined_names: Vec<DomainName>,
    /// Ids of the container's own user namespace, if the request does not give them.
    pub uid_map: Vec<IdMapping>,
    /// The same for groups.
    pub gid_map: Vec<IdMapping>,
    /// Where the sources of the request's mounts lie, by target: volumes and images always; paths
    /// of the host where they were opened and pinned.
    pub mounts: BTreeMap<MountTarget, AbsolutePath>,
    /// The values of the request's secrets.
    pub secrets: BTreeMap<SecretName, SecretValue>,
    /// Content of the file of [`crate::Request::base_hosts`], if that is a path.
    pub base_hosts: Option<Vec<u8>>,
    /// Content of `/etc/netns/NAME/resolv.conf` for a network namespace by path.
    pub netns_resolv_conf: Option<String>,
    /// Name of the host's own time zone, for [`crate::Timezone::Local`].
    pub local_zone: Option<ZoneName>,
    /// The host's file of the time zone, for images without tzdata.
    pub zone_file: Option<Vec<u8>>,
    /// The directory with the notification socket, for [`crate::SdNotify::Container`].
    pub notify_dir: Option<AbsolutePath>,
    /// Copies of what `mounts.conf` lists.
    pub subscriptions: Vec<Subscription>,
    /// What keeps it apart from other containers, on a host with SELinux.
    pub categories: Option<Categories>,
    /// What the CDI devices of the request come to: see [`crate::CdiEdits`].
    pub cdi: CdiEdits,
    /// The OCI hooks that were found: see [`crate::Hooks::select`].
    pub hooks: OciHooks,
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
            id: None,
            about: None,
            joined: BTreeMap::new(),
            joined_hostname: None,
            shared_files: None,
            joined_names: Vec::new(),
            uid_map: Vec::new(),
            gid_map: Vec::new(),
            mounts: BTreeMap::new(),
            secrets: BTreeMap::new(),
            base_hosts: None,
            netns_resolv_conf: None,
            local_zone: None,
            zone_file: None,
            notify_dir: None,
            subscriptions: Vec::new(),
            categories: None,
            cdi: CdiEdits::default(),
            hooks: OciHooks::default(),
            netns: None,
            names: Vec::new(),
            networks: Vec::new(),
        }
    }
}

/// What a container may know of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct About {
    /// Its name.
    pub name: DomainName,
    /// Reference of its image, if it is a plain one.
    pub image: ImageName,
    /// Id of its image.
    pub image_id: Option<ImageId>,
}

impl About {
    /// A container of this name, made from this image.
    pub const fn new(name: DomainName, image: ImageName, image_id: Option<ImageId>) -> Self {
        Self { name, image, image_id }
    }
}

text_type! {
    /// Reference of an image, so far as it goes into a line of its own: 1 to 512 bytes of
    /// `[a-zA-Z0-9_.:/@-]`.
    ImageName, "image reference", |text| check_bytes(text, 512, |_, byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'/' | b'@' | b'-')
    })
}

/// The files that containers share which share a network.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedFiles {
    /// The `resolv.conf` of the one whose network it is.
    pub resolv_conf: AbsolutePath,
    /// Its `hosts`.
    pub hosts: AbsolutePath,
}

impl SharedFiles {
    /// The two files.
    pub const fn new(resolv_conf: AbsolutePath, hosts: AbsolutePath) -> Self {
        Self { resolv_conf, hosts }
    }
}

/// What the container has in one network.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct NetworkFacts {
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// The host's address in that network, if it has one there. A gateway need not be the host.
    pub host: Option<IpAddr>,
    /// The network's own name servers: they answer for names of containers, and ask further.
    pub nameservers: Vec<IpAddr>,
    /// Domains in which the network's names are.
    pub search: Vec<DomainName>,
}

impl NetworkFacts {
    /// The container's addresses and the host's.
    pub fn new(addresses: Vec<IpAddr>, host: Option<IpAddr>) -> Self {
        Self { addresses, host, nameservers: Vec::new(), search: Vec::new() }
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
