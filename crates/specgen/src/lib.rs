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
mod cgroup;
mod document;
mod effective;
mod error;
mod exec;
mod facts;
mod generate;
mod hosts;
mod image;
mod linux;
mod mounts;
mod names;
mod process;
mod reason;
mod request;
mod resolv_conf;
mod resources;
mod rlimit;
mod seccomp;
mod signal;
mod text;
mod user;
mod warning;

#[cfg(test)]
mod testing;

pub use accounts::MAX_ACCOUNT_FILE;
pub use apparmor::{AppArmor, AppArmorName, DEFAULT_APPARMOR_PROFILE};
pub use capability::{Capability, CapabilityChoice, CapabilitySet};
pub use effective::{DEFAULT_STOP_TIMEOUT_USEC, Effective, effective};
pub use error::{Cause, Error, ErrorKind};
pub use exec::{ExecRequest, MAX_CONFIG, exec_process};
pub use facts::{
    Architecture, CgroupMode, HostFacts, KernelVersion, NetworkFacts, Placement, RootfsFacts,
};
pub use generate::{Generated, TextFile, generate};
pub use hosts::HOST_NAME;
pub use image::{ExposedPort, ImageDefaults, MAX_IMAGE_CONFIG, Protocol};
pub use names::{
    DnsOption, DomainName, Hostname, MAX_DNS_OPTION, MAX_DOMAIN, MAX_HOSTNAME, SearchDomain,
};
pub use reason::{Reason, reasons};
pub use request::{NetworkMode, NewPrivileges, Request, RootfsAccess, Seccomp};
pub use resolv_conf::MAX_NAMESERVERS;
pub use resources::{
    CgroupFile, CgroupValue, CpuQuota, DeviceNumber, MemoryLimit, NumberList, PageSize, PidsLimit,
    Rate, Resources, UNLIMITED, Weight,
};
pub use rlimit::{RlimitKind, Ulimit};
pub use seccomp::{MAX_SECCOMP_PROFILE, SeccompProfile};
pub use signal::Signal;
pub use text::{
    AbsolutePath, AnnotationKey, Argument, EnvVar, InvalidText, LabelKey, MAX_ARGUMENT, MAX_KEY,
    MAX_PATH, RESERVED_ANNOTATIONS, ShmSize, WorkingDir,
};
pub use user::{Account, AccountName, MAX_ACCOUNT_NAME, MAX_ID, UnknownAccount, UserSpec};
pub use warning::Warning;
