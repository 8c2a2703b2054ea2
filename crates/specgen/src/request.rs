//! What the caller of "create a container" asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::apparmor::AppArmor;
use crate::capability::CapabilityChoice;
use crate::error::Error;
use crate::names::{DnsOption, DomainName, Hostname, SearchDomain};
use crate::resources::Resources;
use crate::rlimit::Ulimit;
use crate::signal::Signal;
use crate::text::{
    AnnotationKey, Argument, EnvVar, InvalidText, LabelKey, Problem, ShmSize, WorkingDir,
};
use crate::user::UserSpec;

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
    pub hosts: BTreeMap<DomainName, IpAddr>,
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
    #[serde(default)]
    pub resources: Resources,
}

impl Request {
    /// Whether its options go together.
    ///
    /// # Errors
    /// [`Error::Option`] that names one that does not.
    pub fn check(&self) -> Result<(), Error> {
        self.resources.check()
    }
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

/// Whether the container may write to its root file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "bool", into = "bool")]
pub enum RootfsAccess {
    /// It may; what it writes goes with the container.
    #[default]
    ReadWrite,
    /// It may not.
    ReadOnly,
}

impl From<bool> for RootfsAccess {
    fn from(read_only: bool) -> Self {
        if read_only { Self::ReadOnly } else { Self::ReadWrite }
    }
}

impl From<RootfsAccess> for bool {
    fn from(access: RootfsAccess) -> Self {
        access == RootfsAccess::ReadOnly
    }
}

/// Whether processes of the container can gain privileges by execve(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "bool", into = "bool")]
pub enum NewPrivileges {
    /// They can, within the capabilities of the container: `sudo` works in it.
    #[default]
    Allowed,
    /// They cannot; see `PR_SET_NO_NEW_PRIVS` in prctl(2).
    Denied,
}

impl From<bool> for NewPrivileges {
    fn from(denied: bool) -> Self {
        if denied { Self::Denied } else { Self::Allowed }
    }
}

impl From<NewPrivileges> for bool {
    fn from(privileges: NewPrivileges) -> Self {
        privileges == NewPrivileges::Denied
    }
}

/// Which network the container sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum NetworkMode {
    /// Its own, joined to a bridge of the host.
    #[default]
    Private,
    /// Its own, with nothing in it but loopback.
    None,
    /// The host's.
    Host,
}

impl FromStr for NetworkMode {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "private" => Ok(Self::Private),
            "none" => Ok(Self::None),
            "host" => Ok(Self::Host),
            _ => Err(InvalidText::new("network mode", Problem::Form("is not known"))),
        }
    }
}

impl fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Private => "private",
            Self::None => "none",
            Self::Host => "host",
        })
    }
}

/// Which system calls are filtered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Seccomp {
    /// Those of the host's profile.
    #[default]
    Default,
    /// None.
    Unconfined,
}

impl FromStr for Seccomp {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "default" => Ok(Self::Default),
            "unconfined" => Ok(Self::Unconfined),
            _ => Err(InvalidText::new("seccomp profile", Problem::Form("is not known"))),
        }
    }
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
        for wrong in ["{}", r#"{"v":2}"#, r#"{"v":1,"Privileged":true}"#, r#"{"v":1,"env":[]}"#] {
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
            assert_eq!(mode.to_string().parse(), Ok(mode));
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.to_string());
        }
    }
}
