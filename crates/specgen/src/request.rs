//! What the caller of "create a container" asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::apparmor::AppArmor;
use crate::capability::CapabilityChoice;
use crate::cdi::CdiName;
use crate::device::{DeviceCgroupRule, DeviceRequest};
use crate::files::{BaseHosts, HostsAddress, PasswdEntry, SecretUse, Timezone};
use crate::health::HealthRequest;
use crate::idmap::IdMapping;
use crate::mount::MountRequest;
use crate::names::{DnsOption, DomainName, Hostname, SearchDomain};
use crate::namespace::{ContainerRef, Namespaces};
use crate::patch::SpecPatch;
use crate::resources::Resources;
use crate::rlimit::Ulimit;
use crate::seccomp::SeccompText;
use crate::selinux::SELinux;
use crate::services::{FdName, IntelRdt, LogDriver, SdNotify, SystemdMode};
pub use crate::settings::{CgroupParent, OomScoreAdjust, RuntimeName, TimeOffsets, Umask};
use crate::signal::Signal;
use crate::sysctl::{SysctlName, SysctlValue};
use crate::text::{
    AbsolutePath, AnnotationKey, Argument, EnvVar, InvalidText, LabelKey, Problem, ShmSize,
    WorkingDir, is_default, string_form, switch, word_type,
};
use crate::user::{Account, UserSpec};

/// A request, every part of it parsed and checked; what is left out has the safe default.
///
/// As JSON it has the names of the bus contract and `"v": 1`; unknown keys are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Request {
    #[serde(rename = "v")]
    version: Version,
    /// Arguments after the entry point; empty: those of the image, unless `entrypoint` is given.
    #[serde(default)]
    pub command: Vec<Argument>,
    /// In place of the image's entry point; even an empty one also puts away the image's command.
    #[serde(default)]
    pub entrypoint: Option<Vec<Argument>>,
    /// Added to the image's environment, or in place of its entries of the same name.
    #[serde(default)]
    pub env: Vec<EnvVar>,
    /// Where the process starts; nothing: where the image says, else `/`.
    #[serde(default)]
    pub working_dir: Option<WorkingDir>,
    /// Who the process is; nothing: who the image says, else root.
    #[serde(default)]
    pub user: Option<UserSpec>,
    /// Nothing: the host's name in the host's network, else the first 12 digits of the id.
    #[serde(default)]
    pub hostname: Option<Hostname>,
    /// Added to the labels of the image, or in their place.
    #[serde(default)]
    pub labels: BTreeMap<LabelKey, String>,
    /// Handed to the runtime.
    #[serde(default)]
    pub annotations: BTreeMap<AnnotationKey, Argument>,
    /// Whether the container may write to its root file system.
    #[serde(default, rename = "ReadOnlyRootfs")]
    pub rootfs_access: RootfsAccess,
    /// Nothing: what the image says, else `SIGTERM`.
    #[serde(default)]
    pub stop_signal: Option<Signal>,
    /// Time between the stop signal and `SIGKILL`, in microseconds; nothing: 10 seconds.
    #[serde(default, rename = "StopTimeoutUSec")]
    pub stop_timeout_usec: Option<u64>,
    /// How it is found out whether it is well; nothing: as the image says.
    #[serde(default, rename = "Healthcheck", skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthRequest>,
    /// Which network the container sees.
    #[serde(default)]
    pub network_mode: NetworkMode,
    /// Name servers in place of the host's.
    #[serde(default, rename = "DNS")]
    pub dns: Vec<IpAddr>,
    /// Search list in place of the host's.
    #[serde(default, rename = "DNSSearch")]
    pub dns_search: Vec<SearchDomain>,
    /// Resolver options in place of the host's.
    #[serde(default, rename = "DNSOptions")]
    pub dns_options: Vec<DnsOption>,
    /// Further lines of the hosts file.
    #[serde(default)]
    pub hosts: BTreeMap<DomainName, HostsAddress>,
    /// Capabilities beyond the default ones.
    #[serde(default)]
    pub cap_add: Vec<CapabilityChoice>,
    /// Capabilities to take away; wins over `cap_add` where both name the same.
    #[serde(default)]
    pub cap_drop: Vec<CapabilityChoice>,
    /// Whether set-user-ID programs and file capabilities work.
    #[serde(default, rename = "NoNewPrivileges")]
    pub new_privileges: NewPrivileges,
    /// Resource limits; the last one of a kind counts.
    #[serde(default)]
    pub ulimits: Vec<Ulimit>,
    /// Size of `/dev/shm`; nothing: [`ShmSize::DEFAULT`].
    #[serde(default)]
    pub shm_size: Option<ShmSize>,
    /// Which system calls are filtered.
    #[serde(default)]
    pub seccomp: Seccomp,
    /// Which AppArmor profile confines it.
    #[serde(default, rename = "AppArmorProfile")]
    pub apparmor: AppArmor,
    /// How much of the host it may use.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// Whether it has a terminal of its own.
    #[serde(default, rename = "TTY", skip_serializing_if = "is_default")]
    pub terminal: Terminal,
    /// Whether its standard input is kept open for whoever attaches; with a terminal it is in any case.
    #[serde(default, rename = "OpenStdin", skip_serializing_if = "is_default")]
    pub stdin: OpenStdin,
    /// Whether an init that reaps processes is put in front of the command.
    #[serde(default, skip_serializing_if = "is_default")]
    pub init: Init,
    /// Where its namespaces come from, but for the network's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub namespaces: Namespaces,
    /// User ids of a user namespace of its own; nothing: what the service assigns.
    #[serde(default, rename = "UIDMap", skip_serializing_if = "is_default")]
    pub uid_map: Vec<IdMapping>,
    /// The same for groups; nothing: as `uid_map`.
    #[serde(default, rename = "GIDMap", skip_serializing_if = "is_default")]
    pub gid_map: Vec<IdMapping>,
    /// What its monotonic and boot time clocks are ahead, in a time namespace of its own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub time_offsets: TimeOffsets,
    /// Groups of the process beyond those of its user.
    #[serde(default, skip_serializing_if = "is_default")]
    pub group_add: Vec<Account>,
    /// Permission bits that new files do not get; nothing: 022.
    #[serde(default, skip_serializing_if = "is_default")]
    pub umask: Option<Umask>,
    /// Its time zone; nothing: what the image says.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timezone: Option<Timezone>,
    /// Whether it is made for systemd.
    #[serde(default, skip_serializing_if = "is_default")]
    pub systemd: SystemdMode,
    /// Who says that it is ready.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sd_notify: SdNotify,
    /// Names of the sockets that are passed to its first process, from descriptor 3 on.
    #[serde(default, rename = "ListenFDs", skip_serializing_if = "is_default")]
    pub listen_fds: Vec<FdName>,
    /// How much sooner (up to 1000) or later (down to -1000) the kernel kills it for want of memory.
    #[serde(default, rename = "OOMScoreAdjust", skip_serializing_if = "is_default")]
    pub oom_score_adjust: Option<OomScoreAdjust>,
    /// What is mounted in it, in this order.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mounts: Vec<MountRequest>,
    /// Whether a container that cannot write to its root can write to memory on `/run`, `/tmp` and
    /// `/var/tmp`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only_tmpfs: ReadOnlyTmpfs,
    /// Secrets it is given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub secrets: Vec<SecretUse>,
    /// Settings of its own namespaces.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sysctls: BTreeMap<SysctlName, SysctlValue>,
    /// Devices of the host.
    #[serde(default, skip_serializing_if = "is_default")]
    pub devices: Vec<DeviceRequest>,
    /// Devices it may make nodes of and use.
    #[serde(default, skip_serializing_if = "is_default")]
    pub device_cgroup_rules: Vec<DeviceCgroupRule>,
    /// Devices by name.
    #[serde(default, rename = "CDIDevices", skip_serializing_if = "is_default")]
    pub cdi_devices: Vec<CdiName>,
    /// Whether it may do nearly everything that the host may.
    #[serde(default, skip_serializing_if = "is_default")]
    pub privileged: Privileged,
    /// How it is labelled.
    #[serde(default, rename = "SELinuxLabel", skip_serializing_if = "is_default")]
    pub selinux: SELinux,
    /// Its share of caches and memory bandwidth.
    #[serde(default, skip_serializing_if = "is_default")]
    pub intel_rdt: Option<IntelRdt>,
    /// What the hosts file begins with.
    #[serde(default, skip_serializing_if = "is_default")]
    pub base_hosts: BaseHosts,
    /// Whose `/etc/hosts` it has.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hosts_file: FileChoice,
    /// Whose `/etc/resolv.conf` it has.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resolv_conf: FileChoice,
    /// Whose `/etc/hostname` it has.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hostname_file: FileChoice,
    /// Whether its user is added to its account files.
    #[serde(default, skip_serializing_if = "is_default")]
    pub passwd_entry: PasswdEntry,
    /// Directories of the host with hooks, in place of none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hooks_dirs: Vec<AbsolutePath>,
    /// Where in the host's control groups it goes; nothing: where the service puts all of them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cgroup_parent: Option<CgroupParent>,
    /// The runtime by name, in place of the one that the service takes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub runtime: Option<RuntimeName>,
    /// Properties of the systemd unit it runs in, by name, as the service reads them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unit: BTreeMap<LabelKey, Argument>,
    /// Where what it writes is kept; nothing: in a file.
    #[serde(default, skip_serializing_if = "is_default")]
    pub log_driver: Option<LogDriver>,
    /// Options of the log driver, by name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub log_options: BTreeMap<LabelKey, Argument>,
    /// Changes to config.json.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spec_patch: Option<SpecPatch>,
}

/// Version 1 of the JSON form; a number in JSON, and no other number is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
struct Version;

impl TryFrom<u32> for Version {
    type Error = InvalidText;

    fn try_from(version: u32) -> Result<Self, Self::Error> {
        match version {
            1 => Ok(Self),
            _ => Err(InvalidText::new("version of the request", Problem::Form("is not 1"))),
        }
    }
}

impl From<Version> for u32 {
    fn from(_: Version) -> Self {
        1
    }
}

switch! {
    /// Whether the container may write to its root file system.
    RootfsAccess,
    /// It may; what it writes goes with the container.
    false => ReadWrite,
    /// It may not.
    true => ReadOnly,
    default ReadWrite
}

switch! {
    /// Whether processes of the container can gain privileges by execve(2).
    NewPrivileges,
    /// By set-user-ID programs and file capabilities.
    false => Allowed,
    /// They cannot; `no_new_privs` of prctl(2).
    true => Denied,
    default Allowed
}

switch! {
    /// Whether the container has a terminal of its own.
    Terminal,
    /// It has pipes.
    false => No,
    /// It has.
    true => Yes,
    default No
}

switch! {
    /// Whether the container has a standard input that somebody can write to.
    OpenStdin,
    /// It is `/dev/null`.
    false => No,
    /// It is a pipe.
    true => Yes,
    default No
}

switch! {
    /// Whether an init is put in front of the command.
    Init,
    /// The command is process 1.
    false => No,
    /// It reaps what the command leaves behind, and hands signals on.
    true => Yes,
    default No
}

switch! {
    /// Whether a container that cannot write to its root has memory to write to.
    ReadOnlyTmpfs,
    /// It has not.
    false => No,
    /// On `/run`, `/tmp` and `/var/tmp`, as in podman.
    true => Yes,
    default Yes
}

switch! {
    /// Whether the container may do nearly everything that the host may: all capabilities and
    /// devices, nothing masked, no filter and no confinement.
    Privileged,
    /// It may not.
    false => No,
    /// It may.
    true => Yes,
    default No
}

/// Which network the container sees: `private`, `none`, `host`, `container:<id>` or `ns:<path>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum NetworkMode {
    /// Its own, joined to a bridge of the host.
    #[default]
    Private,
    /// Its own, with nothing in it but loopback.
    None,
    /// The host's.
    Host,
    /// That of another container, which must be running.
    Container(ContainerRef),
    /// The one that this file of the host stands for.
    Path(AbsolutePath),
}

impl FromStr for NetworkMode {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "private" => Ok(Self::Private),
            None if text == "none" => Ok(Self::None),
            None if text == "host" => Ok(Self::Host),
            Some(("container", id)) => id.parse().map(Self::Container),
            Some(("ns", path)) => path.parse().map(Self::Path),
            _ => {
                let rule = Problem::Form("is none of: private none host container:ID ns:PATH");
                Err(InvalidText::new("network mode", rule))
            }
        }
    }
}

impl fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private => f.write_str("private"),
            Self::None => f.write_str("none"),
            Self::Host => f.write_str("host"),
            Self::Container(id) => write!(f, "container:{id}"),
            Self::Path(path) => write!(f, "ns:{path}"),
        }
    }
}

string_form!(NetworkMode);

/// Which system calls are filtered: `default`, `unconfined`, or a profile as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Seccomp {
    /// Those of the host's profile.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// Those of this profile.
    Profile(Box<SeccompText>),
}

impl FromStr for Seccomp {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "default" => Ok(Self::Default),
            "unconfined" => Ok(Self::Unconfined),
            json if json.trim_start().starts_with('{') => {
                SeccompText::parse(json).map(|profile| Self::Profile(Box::new(profile)))
            }
            _ => {
                let rule = Problem::Form("is neither default nor unconfined nor a profile in JSON");
                Err(InvalidText::new("seccomp profile", rule))
            }
        }
    }
}

impl fmt::Display for Seccomp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Unconfined => "unconfined",
            Self::Profile(profile) => profile.as_str(),
        })
    }
}

string_form!(Seccomp);

word_type! {
    /// Whose a file in `/etc` is.
    FileChoice, "choice of a file",
    /// The service makes it.
    #[default]
    "managed" => Managed,
    /// The image's, as it is.
    "image" => Image,
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"{
        "v": 1, "Command": ["sh"], "Entrypoint": ["/init", "--"], "Env": ["A=b"],
        "WorkingDir": "/srv", "User": "www:33", "Hostname": "web", "Labels": {"a": "b"},
        "Annotations": {"com.example": "c"}, "ReadOnlyRootfs": true, "StopSignal": 3,
        "StopTimeoutUSec": 5, "NetworkMode": "none", "DNS": ["192.0.2.1", "2001:db8::1"],
        "DNSSearch": [".", "example.org"], "DNSOptions": ["ndots:2"],
        "Hosts": {"db": "192.0.2.7"}, "CapAdd": ["CAP_NET_ADMIN"], "CapDrop": ["ALL"],
        "NoNewPrivileges": true, "Ulimits": [["RLIMIT_NOFILE", 10, 20]], "ShmSize": 65536,
        "Seccomp": "unconfined", "AppArmorProfile": "my-profile",
        "Resources": {"Memory": 1048576, "MemorySwap": 18446744073709551615, "CPUWeight": 200,
            "CPUSet": "0-1", "IOReadIOPS": {"8:0": 5}, "HugepageLimits": {"2MB": 0},
            "Unified": {"memory.high": "max"}}
    }"#;

    #[test]
    fn the_stored_form_is_read_back() {
        let request: Request = serde_json::from_str(FULL).unwrap();
        let stored = serde_json::to_value(&request).unwrap();
        assert_eq!(stored, serde_json::from_str::<serde_json::Value>(FULL).unwrap());
        assert_eq!(serde_json::from_value::<Request>(stored).unwrap(), request);
    }

    #[test]
    fn everything_but_the_version_may_be_left_out() {
        assert_eq!(serde_json::from_str::<Request>(r#"{"v":1}"#).unwrap(), Request::default());
        for wrong in ["{}", r#"{"v":2}"#, r#"{"v":1,"Privilege":true}"#, r#"{"v":1,"env":[]}"#] {
            assert!(serde_json::from_str::<Request>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hostile_values_do_not_survive_reading() {
        for wrong in [
            r#""Env":["HOME"]"#,
            r#""Hostname":"x\n6.6.6.6 bank""#,
            r#""DNSSearch":["a\nnameserver 6.6.6.6"]"#,
            r#""DNSOptions":["a b"]"#,
            r#""Hosts":{"a\tb":"192.0.2.1"}"#,
            r#""Hosts":{"a":"fe80::1%eth0"}"#,
            r#""DNS":["127.1"]"#,
            r#""WorkingDir":"/proc/self/fd/7""#,
            r#""User":"4294967296""#,
            r#""Annotations":{"run.oci.handler":"wasm"}"#,
            r#""Ulimits":[["RLIMIT_NOFILE",20,10]]"#,
            r#""StopSignal":65"#,
            r#""ShmSize":0"#,
            r#""Seccomp":"/etc/shadow""#,
            r#""AppArmorProfile":"a\nb""#,
            r#""Resources":{"Memory":1}"#,
            r#""Resources":{"MemoryMax":1048576}"#,
            r#""Resources":{"Unified":{"cgroup.procs":"1"}}"#,
        ] {
            let json = format!("{{\"v\":1,{wrong}}}");
            assert!(serde_json::from_str::<Request>(&json).is_err(), "{wrong}");
        }
    }

    #[test]
    fn modes_are_read_back_from_their_text() {
        for mode in [NetworkMode::Private, NetworkMode::None, NetworkMode::Host] {
            assert_eq!(mode.to_string().parse(), Ok(mode.clone()));
            assert_eq!(serde_json::to_value(mode.clone()).unwrap(), mode.to_string());
        }
    }
}
