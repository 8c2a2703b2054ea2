//! What makes a container privileged, in words for the person who is asked.

use std::collections::BTreeSet;
use std::fmt;

use crate::apparmor::{AppArmor, AppArmorName};
use crate::capability::{Capability, CapabilitySet};
use crate::cdi::CdiName;
use crate::device::DeviceCgroupRule;
use crate::effective::Effective;
use crate::files::BaseHosts;
use crate::mount::{Flag, Kind, MountSource, Spread};
use crate::namespace::{NamespaceKind, NamespaceMode};
use crate::request::{CgroupParent, NetworkMode, Privileged, RuntimeName, Seccomp};
use crate::resources::CgroupFile;
use crate::rlimit::RlimitKind;
use crate::selinux::{SELinux, SELinuxParts};
use crate::text::{AbsolutePath, LabelKey, word_type};

word_type! {
    /// What kind of thing belongs to somebody else.
    ForeignKind, "kind of thing",
    /// A volume.
    #[default]
    "volume" => Volume,
    /// A network.
    "network" => Network,
    /// A secret.
    "secret" => Secret,
    /// A container whose namespaces are joined.
    "container" => Container,
}

/// What the names in a request turn out to be: what of it is not its owner's, or reaches the host itself, and what
/// is not made from an image. Whoever resolves the names finds out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Foreign {
    /// Things of other owners, by kind and name.
    pub things: BTreeSet<(ForeignKind, String)>,
    /// Privileged containers, by name, whose namespaces it joins.
    pub privileged: BTreeSet<String>,
    /// Where the root file system comes from.
    pub root: RootSource,
    /// The site wants every container to have a user namespace of its own.
    pub user_namespace_required: bool,
}

word_type! {
    /// Where the root file system of a container comes from.
    RootSource, "root file system",
    /// From an image.
    #[default]
    "image" => Image,
    /// It is a directory of the host's.
    "rootfs" => Rootfs,
    /// It is in a bundle that somebody made, with a configuration of its own.
    "bundle" => Bundle,
}

/// One way in which a container can reach the host, or somebody else; `Display` is short text for a
/// dialog, without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// It may do nearly everything.
    Privileged,
    /// It shares this namespace with the host.
    HostNamespace(NamespaceKind),
    /// It joins a namespace by a file of the host.
    NamespacePath(NamespaceKind, AbsolutePath),
    /// It chooses which ids of the host its own are.
    IdMap,
    /// It has no user namespace of its own, and the site wants one.
    NoUserNamespace,
    /// It uses something of another owner.
    Foreign(ForeignKind, String),
    /// It joins namespaces of this container, which is privileged: what runs in one meets what runs in the other.
    JoinsPrivileged(String),
    /// It sees this file or directory of the host.
    HostPath(AbsolutePath),
    /// Its mounts spread to the host, files in them are more than data, or of the host and get other labels.
    MountOption(&'static str),
    /// It uses this device.
    Device(AbsolutePath),
    /// It may make and use these devices.
    DeviceCgroupRule(DeviceCgroupRule),
    /// It uses this device, and what comes along with it.
    CdiDevice(CdiName),
    /// It has a capability beyond [`CapabilitySet::DEFAULT`].
    Capability(Capability),
    /// Its system calls are not filtered.
    NoSeccomp,
    /// Its system calls are filtered by a profile that somebody gave.
    SeccompProfile,
    /// It is not confined by AppArmor.
    NoAppArmor,
    /// It is confined by another AppArmor profile than the default one, which may allow more.
    AppArmorProfile(AppArmorName),
    /// It is not labelled.
    NoSELinux,
    /// It has a label that somebody chose, which may be another's.
    SELinuxLabel(SELinuxParts),
    /// The kernel kills others first for want of memory.
    OomScore(i32),
    /// It may have more of the host than others, by this resource limit.
    Ulimit(RlimitKind),
    /// This file of its control group has more than a limit.
    CgroupFile(CgroupFile),
    /// It has caches and memory bandwidth for itself.
    IntelRdt,
    /// It is elsewhere in the host's control groups.
    CgroupParent(CgroupParent),
    /// It runs in a unit with this property.
    UnitProperty(LabelKey),
    /// It is made by this runtime.
    Runtime(RuntimeName),
    /// Programs in this directory run on the host for it.
    HooksDir(AbsolutePath),
    /// What it writes goes to a file of the host.
    LogPath,
    /// Its configuration is changed by hand.
    SpecPatch,
    /// Its root file system is not that of an image.
    Root(RootSource),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Privileged => f.write_str("privileged"),
            Self::HostNamespace(kind) => write!(f, "host {kind}"),
            Self::NamespacePath(kind, path) => write!(f, "{kind} namespace {path}"),
            Self::IdMap => f.write_str("choice of user ids"),
            Self::NoUserNamespace => f.write_str("no user namespace"),
            Self::Foreign(kind, name) => {
                write!(f, "{kind} {} of another user", name.escape_debug())
            }
            Self::JoinsPrivileged(name) => {
                write!(f, "namespaces of privileged container {}", name.escape_debug())
            }
            // It is text, but of any script: what turns the direction of writing is shown as it is.
            Self::HostPath(path) => write!(f, "host path {}", path.as_str().escape_debug()),
            Self::MountOption(option) => write!(f, "mount option {option}"),
            Self::Device(path) => write!(f, "device {path}"),
            Self::DeviceCgroupRule(rule) => write!(f, "devices {rule}"),
            Self::CdiDevice(name) => write!(f, "device {name}"),
            Self::Capability(capability) => write!(f, "capability {}", capability.short_name()),
            Self::NoSeccomp => f.write_str("no seccomp"),
            Self::SeccompProfile => f.write_str("own seccomp profile"),
            Self::NoAppArmor => f.write_str("no AppArmor"),
            Self::AppArmorProfile(name) => write!(f, "AppArmor profile {name}"),
            Self::NoSELinux => f.write_str("no SELinux"),
            Self::SELinuxLabel(label) => write!(f, "SELinux label {label}"),
            Self::OomScore(score) => write!(f, "OOM score {score}"),
            Self::Ulimit(kind) => write!(f, "limit {kind}"),
            Self::CgroupFile(file) => write!(f, "cgroup file {file}"),
            Self::IntelRdt => f.write_str("cache and memory bandwidth"),
            Self::CgroupParent(parent) => write!(f, "cgroup parent {parent}"),
            Self::UnitProperty(name) => write!(f, "unit property {name}"),
            Self::Runtime(name) => write!(f, "runtime {name}"),
            Self::HooksDir(path) => write!(f, "hooks in {path}"),
            Self::LogPath => f.write_str("log in a host path"),
            Self::SpecPatch => f.write_str("changed configuration"),
            Self::Root(source) => write!(f, "{source} of the host"),
        }
    }
}

/// Why this container needs the permission for privileged ones; empty if it does not.
///
/// All of them come from the request: an image can ask for none of these things.
pub fn reasons(effective: &Effective) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if effective.request.privileged == Privileged::Yes {
        reasons.push(Reason::Privileged);
    }
    namespaces(effective, &mut reasons);
    host_paths(effective, &mut reasons);
    devices(effective, &mut reasons);
    confinement(effective, &mut reasons);
    place(effective, &mut reasons);
    let foreign = &effective.foreign;
    if foreign.root != RootSource::Image {
        reasons.push(Reason::Root(foreign.root));
    }
    reasons.extend(foreign.things.iter().map(|(kind, name)| Reason::Foreign(*kind, name.clone())));
    reasons.extend(foreign.privileged.iter().cloned().map(Reason::JoinsPrivileged));
    reasons
}

fn namespaces(effective: &Effective, reasons: &mut Vec<Reason>) {
    let request = &effective.request;
    for (kind, mode) in request.namespaces.iter() {
        // For these two the host's is the default, and says nothing of the host.
        let usual = matches!(kind, NamespaceKind::User | NamespaceKind::Time);
        match mode {
            NamespaceMode::Host if !usual => reasons.push(Reason::HostNamespace(kind)),
            NamespaceMode::Path(path) => {
                reasons.push(Reason::NamespacePath(kind, path.clone()));
            }
            _ => {}
        }
    }
    let network = NamespaceKind::Network;
    match &request.network_mode {
        NetworkMode::Host => reasons.push(Reason::HostNamespace(network)),
        NetworkMode::Path(path) => reasons.push(Reason::NamespacePath(network, path.clone())),
        _ => {}
    }
    if !request.uid_map.is_empty() {
        reasons.push(Reason::IdMap);
    }
    let shares_users = request.namespaces.user == NamespaceMode::Host;
    if effective.foreign.user_namespace_required && shares_users {
        reasons.push(Reason::NoUserNamespace);
    }
}

fn host_paths(effective: &Effective, reasons: &mut Vec<Reason>) {
    let request = &effective.request;
    for mount in &request.mounts {
        if let MountSource::Host(path) = &mount.source {
            reasons.push(Reason::HostPath(path.clone()));
            // That stays when the container has gone.
            reasons.extend(mount.relabeled_for().map(|it| Reason::MountOption(it.as_str())));
        }
        let widening = mount.kinds().filter_map(|kind| match kind {
            Kind::Flag(Flag::NoDev, false) => Some("dev"),
            Kind::Flag(Flag::NoSuid, false) => Some("suid"),
            Kind::Propagation(spread) if spread.how == Spread::Shared => Some(spread.as_str()),
            Kind::IdMap(map) if !map.is_empty() => Some("idmap"),
            _ => None,
        });
        reasons.extend(widening.map(Reason::MountOption));
    }
    if let BaseHosts::Path(path) = &request.base_hosts {
        reasons.push(Reason::HostPath(path.clone()));
    }
    if request.log_options.keys().any(|key| key.as_str() == "path") {
        reasons.push(Reason::LogPath);
    }
}

fn devices(effective: &Effective, reasons: &mut Vec<Reason>) {
    let request = &effective.request;
    reasons.extend(request.devices.iter().map(|device| Reason::Device(device.path.clone())));
    let rules = request.device_cgroup_rules.iter();
    reasons.extend(rules.map(|rule| Reason::DeviceCgroupRule(*rule)));
    reasons.extend(request.cdi_devices.iter().cloned().map(Reason::CdiDevice));
}

fn confinement(effective: &Effective, reasons: &mut Vec<Reason>) {
    let added = effective.capabilities - CapabilitySet::DEFAULT;
    reasons.extend(added.iter().map(Reason::Capability));
    match &effective.seccomp {
        Seccomp::Default => {}
        Seccomp::Unconfined => reasons.push(Reason::NoSeccomp),
        Seccomp::Profile(_) => reasons.push(Reason::SeccompProfile),
    }
    match &effective.apparmor {
        AppArmor::Default => {}
        AppArmor::Unconfined => reasons.push(Reason::NoAppArmor),
        AppArmor::Named(name) => reasons.push(Reason::AppArmorProfile(name.clone())),
    }
    match &effective.selinux {
        SELinux::Default => {}
        SELinux::Disabled => reasons.push(Reason::NoSELinux),
        SELinux::Label(label) => reasons.push(Reason::SELinuxLabel(label.clone())),
    }
}

fn place(effective: &Effective, reasons: &mut Vec<Reason>) {
    let request = &effective.request;
    let score = request.oom_score_adjust.map(i32::from).filter(|score| *score < 0);
    reasons.extend(score.map(Reason::OomScore));
    let limits = request.ulimits.iter().filter(|limit| limit.widens());
    reasons.extend(limits.map(|limit| Reason::Ulimit(limit.kind())));
    let files = request.resources.unified.keys().filter(|file| !file.only_limits());
    reasons.extend(files.cloned().map(Reason::CgroupFile));
    reasons.extend(request.intel_rdt.as_ref().map(|_| Reason::IntelRdt));
    reasons.extend(request.cgroup_parent.clone().map(Reason::CgroupParent));
    reasons.extend(request.unit.keys().cloned().map(Reason::UnitProperty));
    reasons.extend(request.runtime.clone().map(Reason::Runtime));
    reasons.extend(request.hooks_dirs.iter().cloned().map(Reason::HooksDir));
    reasons.extend(request.spec_patch.as_ref().map(|_| Reason::SpecPatch));
}

#[cfg(test)]
#[path = "reason_tests.rs"]
mod tests;
