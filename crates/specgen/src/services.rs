//! What a container gets for programs that look after it from inside: an init, systemd, sdnotify,
//! sockets that are passed to it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::effective::Effective;
use crate::error::Error;
use crate::facts::{CgroupMode, HostFacts, Placement};
use crate::mount::OciMount;
use crate::namespace::NamespaceMode;
use crate::process::env_var;
use crate::request::{Init, ReadOnlyTmpfs, RootfsAccess};
use crate::text::{Argument, EnvVar, check_bytes, text_type, word_type};

/// Where the init is seen in the container.
pub const INIT_PATH: &str = "/run/tare-init";

/// Where the directory with the notification socket is seen in the container.
const NOTIFY_DIR: &str = "/run/notify";
const NOTIFY_SOCKET: &str = "/run/notify/notify.sock";

word_type! {
    /// Whether the container is made for systemd.
    SystemdMode, "systemd mode",
    /// If its command is systemd, or an `init` in a usual place.
    #[default]
    "auto" => Auto,
    /// Whatever its command is.
    "always" => Always,
    /// Never.
    "off" => Off,
}

word_type! {
    /// Who says that the container is ready; see `sd_notify(3)`.
    SdNotify, "sdnotify mode",
    /// The container itself, over a socket it is given.
    #[default]
    "container" => Container,
    /// The service, once the process runs.
    "conmon" => Conmon,
    /// The service, once the health check passes.
    "healthy" => Healthy,
    /// Nobody.
    "ignore" => Ignore,
}

word_type! {
    /// Where what a container writes is kept.
    LogDriver, "log driver",
    /// In a file of its own.
    #[default]
    "k8s-file" => K8sFile,
    /// In the journal of systemd.
    "journald" => Journald,
}

text_type! {
    /// Name of a socket that is passed on, for `LISTEN_FDNAMES`: 1 to 255 visible ASCII characters
    /// but `:`. See `sd_listen_fds(3)`.
    FdName, "name of a descriptor", |text| {
        check_bytes(text, 255, |_, byte| byte.is_ascii_graphic() && byte != b':')
    }
}

/// An Intel RDT class: a share of the caches and of memory bandwidth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct IntelRdt {
    /// Name of the class in `/sys/fs/resctrl`.
    #[serde(rename = "ClosID")]
    pub clos_id: ClosId,
    /// Its share of the last level cache.
    #[serde(default, rename = "L3CacheSchema", skip_serializing_if = "Option::is_none")]
    pub l3_cache: Option<RdtSchema>,
    /// Its share of memory bandwidth.
    #[serde(default, rename = "MemBwSchema", skip_serializing_if = "Option::is_none")]
    pub memory_bandwidth: Option<RdtSchema>,
}

text_type! {
    /// Name of an RDT class: 1 to 255 bytes of `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, none of the kernel's
    /// own directories.
    ClosId, "RDT class", |text| {
        check_bytes(text, 255, |at, byte| {
            byte.is_ascii_alphanumeric() || at > 0 && matches!(byte, b'_' | b'.' | b'-')
        })?;
        match text {
            "info" | "mon_data" | "mon_groups" => {
                Err(crate::text::Problem::Form("is a directory of the kernel's"))
            }
            _ => Ok(()),
        }
    }
}

text_type! {
    /// A line of an RDT schemata file, as in `L3:0=ff;1=c0` or `MB:0=50`.
    RdtSchema, "RDT schema", |text| {
        check_bytes(text, 1024, |_, byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'=' | b';' | b',')
        })?;
        if ["L3:", "MB:"].iter().any(|start| text.starts_with(start)) {
            Ok(())
        } else {
            Err(crate::text::Problem::Form("does not begin with L3: or MB:"))
        }
    }
}

/// Whether this is the command of a systemd or another init that behaves like it; as podman has it.
pub(crate) fn is_systemd(mode: SystemdMode, argv: &[Argument]) -> bool {
    let words: Vec<&str> = argv.iter().map(Argument::as_str).collect();
    // An image built from a shell line starts it by way of a shell.
    let first = match words[..] {
        ["/bin/sh", "-c", command, ..] => Some(command),
        [first, ..] => Some(first),
        [] => None,
    };
    let known = ["/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init"];
    let looks_so = first.is_some_and(|first| {
        known.contains(&first) || Path::new(first).file_name().is_some_and(|name| name == "systemd")
    });
    match mode {
        SystemdMode::Always => true,
        SystemdMode::Off => false,
        SystemdMode::Auto => looks_so,
    }
}

/// The init in front of the command.
///
/// # Errors
/// [`Error::Init`] when one was asked for and the host has none.
pub(crate) fn init<'a>(
    effective: &Effective,
    host: &'a HostFacts,
) -> Result<&'a [&'static str], Error> {
    match effective.request.init {
        Init::No => Ok(&[]),
        Init::Yes if host.init.is_none() => Err(Error::Init),
        Init::Yes => Ok(&[INIT_PATH, "--"]),
    }
}

/// Variables by which programs find these things.
pub(crate) fn env(effective: &Effective, placement: &Placement) -> Vec<EnvVar> {
    let mut env = Vec::new();
    if let (true, Some(id)) = (effective.systemd, &placement.id) {
        env.push(env_var("container_uuid", &id.as_str()[..32]));
    }
    if placement.notify_dir.is_some() && effective.request.sd_notify == SdNotify::Container {
        env.push(env_var("NOTIFY_SOCKET", NOTIFY_SOCKET));
    }
    let fds = &effective.request.listen_fds;
    if !fds.is_empty() {
        let names: Vec<&str> = fds.iter().map(FdName::as_str).collect();
        env.push(env_var("LISTEN_PID", "1"));
        env.push(env_var("LISTEN_FDS", &fds.len().to_string()));
        env.push(env_var("LISTEN_FDNAMES", &names.join(":")));
    }
    env
}

/// The mounts of these things.
pub(crate) fn mounts<'a>(
    effective: &Effective,
    host: &'a HostFacts,
    placement: &'a Placement,
) -> Vec<OciMount<'a>> {
    let mut list = Vec::new();
    if let (Init::Yes, Some(init)) = (effective.request.init, &host.init) {
        let options = ["bind", "private", "ro", "nosuid", "nodev"];
        list.push(OciMount::new(INIT_PATH, "bind", init.as_str(), &options));
    }
    if let (SdNotify::Container, Some(dir)) = (effective.request.sd_notify, &placement.notify_dir) {
        let options = ["bind", "private", "nosuid", "noexec", "nodev"];
        list.push(OciMount::new(NOTIFY_DIR, "bind", dir.as_str(), &options));
    }
    for subscription in &placement.subscriptions {
        let options = ["bind", "rprivate", "nosuid", "nodev"];
        let (target, source) = (subscription.target.as_str(), subscription.source.as_str());
        list.push(OciMount::new(target, "bind", source, &options));
    }
    if effective.systemd {
        systemd(effective, host, &mut list);
    } else if effective.request.rootfs_access == RootfsAccess::ReadOnly
        && effective.request.read_only_tmpfs == ReadOnlyTmpfs::Yes
    {
        list.extend(["/run", "/tmp", "/var/tmp"].map(memory));
    }
    list
}

/// What systemd wants to find; see its "Container Interface". Programs may run from `/run`, and it
/// may grow: systemd keeps both there (B33).
fn systemd(effective: &Effective, host: &HostFacts, list: &mut Vec<OciMount<'_>>) {
    list.extend(["/run", "/run/lock", "/tmp", "/var/log/journal"].map(memory));
    let own = effective.request.namespaces.cgroup != NamespaceMode::Host;
    let cgroup = "/sys/fs/cgroup";
    list.push(match host.cgroup_mode {
        CgroupMode::V2 if own => OciMount::new(cgroup, "cgroup", "cgroup", &["private", "rw"]),
        CgroupMode::V2 => OciMount::new(cgroup, "bind", cgroup, &["bind", "private", "rw"]),
        CgroupMode::Hybrid | CgroupMode::V1 => {
            let systemd = "/sys/fs/cgroup/systemd";
            let options = ["bind", "nodev", "noexec", "nosuid"];
            OciMount::new(systemd, "bind", systemd, &options)
        }
    });
}

fn memory<'a>(target: &'static str) -> OciMount<'a> {
    OciMount::new(target, "tmpfs", "tmpfs", &["rw", "rprivate", "nosuid", "nodev", "tmpcopyup"])
}

/// What must not be seen of version 1's hierarchy of systemd: it runs a program on the host.
pub(crate) fn masked(effective: &Effective, host: &HostFacts) -> Option<&'static str> {
    let v1 = host.cgroup_mode != CgroupMode::V2;
    (effective.systemd && v1).then_some("/sys/fs/cgroup/systemd/release_agent")
}

#[cfg(test)]
#[path = "services_tests.rs"]
mod tests;
