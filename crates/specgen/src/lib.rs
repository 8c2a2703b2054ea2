//! From a request and facts to an OCI config.json and the text files bound into the container.
//!
//! A caller's [`Request`] is laid over the [`ImageDefaults`] by [`effective`]; what comes out is
//! what will run. [`reasons`] says why that needs special permission, and [`generate`] makes the
//! bundle's files of it, given [`HostFacts`], [`RootfsFacts`] and a [`Placement`].
//! [`exec_process`] makes the process.json of a further process.
//!
//! Everything is a pure function: **same input, same bytes**.
//!
//! # What it does not do
//! It reads and writes no file, no environment and no clock, starts nothing, makes no mount, talks
//! to nobody, and asks nobody for permission. It does not resolve paths inside the root file
//! system: whoever reads `/etc/passwd` or makes the working directory must do that without
//! leaving it.
//!
//! # Threads
//! All types are plain data, `Send` and `Sync`; nothing blocks.
//!
//! # Privileges and kernels
//! None needed. The output is for crun and runc (runtime-spec 1.0.2) on cgroup v2, hybrid or v1.
//!
//! # References
//! [runtime-spec](https://github.com/opencontainers/runtime-spec/blob/v1.0.2/config.md),
//! [image-spec](https://github.com/opencontainers/image-spec/blob/v1.1.0/config.md),
//! capabilities(7), seccomp(2), resolv.conf(5), hosts(5), passwd(5).

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;

mod accounts;
mod apparmor;
mod capability;
mod categories;
mod cdi;
mod cgroup;
mod cgroup_path;
mod check;
mod device;
mod document;
mod effective;
mod error;
mod exec;
mod facts;
mod files;
mod generate;
mod health;
mod hooks;
mod idmap;
mod image;
mod limit;
mod linux;
mod macros;
mod mount;
mod names;
mod namespace;
mod patch;
mod process;
mod reason;
mod request;
mod resources;
mod rlimit;
mod seccomp;
mod selinux;
mod services;
mod settings;
mod signal;
mod sysctl;
mod text;
mod user;
mod warning;

#[cfg(test)]
mod testing;

pub use accounts::MAX_ACCOUNT_FILE;
pub use apparmor::{AppArmor, AppArmorName, DEFAULT_APPARMOR_PROFILE, apparmor_profile};
pub use capability::{Capability, CapabilityChoice, CapabilitySet};
pub use categories::Categories;
pub use cdi::{CdiEdits, CdiFile, CdiName, MAX_CDI_FILE};
pub use cgroup_path::{CgroupManager, CgroupPlace, cgroups_path};
pub use device::{DeviceAccess, DeviceCgroupRule, DeviceKind, DeviceRequest};
pub use effective::{DEFAULT_STOP_TIMEOUT_USEC, Effective, anonymous_volumes, effective};
pub use error::{Cause, Error, ErrorKind};
pub use exec::{ExecRequest, MAX_CONFIG, TerminalSize, exec_process};
pub use facts::{
    About, Architecture, CgroupMode, HostFacts, ImageName, KernelVersion, NetworkFacts, Placement,
    RootfsFacts, SharedFiles,
};
pub use files::{
    BaseHosts, BoundFile, Content, EnvName, HOST_NAME, HostsAddress, Link, MAX_HOSTS_FILE,
    MAX_NAMESERVERS, PasswdEntry, RootfsFile, SecretName, SecretTarget, SecretUse, SecretValue,
    SeenAt, Stub, Subscription, Timezone, ZoneName, live_files, parse_mounts_conf, seen_at, stub,
};
pub use generate::{Generated, generate};
pub use health::{HealthCheck, HealthRequest, OnFailure};
pub use hooks::{HookProgram, HookStage, Hooks, MAX_HOOK_FILE, OciHooks, PRECREATE_TIMEOUT_SEC};
pub use idmap::{IdMapping, MAX_ID_MAPPINGS};
pub use image::{ExposedPort, ImageDefaults, MAX_IMAGE_CONFIG, Protocol};
pub use limit::LimitWrite;
pub use mount::{
    ImageId, MountOption, MountRequest, MountSource, MountTarget, Sharing, SubPath, VolumeName,
    keeps_its_labels,
};
pub use names::{
    DnsOption, DomainName, Hostname, MAX_DNS_OPTION, MAX_DOMAIN, MAX_HOSTNAME, SearchDomain,
};
pub use namespace::{ContainerRef, NamespaceKind, NamespaceMode, Namespaces, owner_of_shared};
pub use patch::{MAX_SPEC_PATCH, SpecPatch, spec_difference};
pub use reason::{Foreign, ForeignKind, Reason, RootSource, reasons};
pub use request::{
    CgroupParent, FileChoice, Init, NetworkMode, NewPrivileges, OomScoreAdjust, OpenStdin,
    Privileged, ReadOnlyTmpfs, Request, RootfsAccess, RuntimeName, Seccomp, Terminal, TimeOffsets,
    Umask,
};
pub use resources::{
    CgroupFile, CgroupValue, CpuQuota, DeviceNumber, MemoryLimit, NumberList, PageSize, PidsLimit,
    Rate, Resources, UNLIMITED, Weight,
};
pub use rlimit::{RlimitKind, Ulimit};
pub use seccomp::{MAX_SECCOMP_PROFILE, SeccompProfile, SeccompText};
pub use selinux::{
    SELinux, SELinuxContext, SELinuxLabels, SELinuxParts, SELinuxPolicy, selinux_labels,
};
pub use services::{
    ClosId, FdName, INIT_PATH, IntelRdt, LogDriver, RdtSchema, SdNotify, SystemdMode,
};
pub use signal::Signal;
pub use sysctl::{SysctlName, SysctlValue};
pub use text::{
    AbsolutePath, AnnotationKey, Argument, EnvVar, InvalidText, LabelKey, MAX_ARGUMENT, MAX_KEY,
    MAX_PATH, RESERVED_ANNOTATIONS, ShmSize, WorkingDir,
};
pub use user::{Account, AccountName, MAX_ACCOUNT_NAME, MAX_ID, UnknownAccount, UserSpec};
pub use warning::Warning;
