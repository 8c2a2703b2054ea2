//! What is known of the host: looked at once when the daemon starts, and the few things that
//! change, each time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tare_runtime::cgroup;
use tare_runtime::version::Program;
use tare_spawn::{
    CgroupPath, Create, Incarnation, Layout, Limits, Log, OciRuntime, Spawner, Started, Stdin,
    Trial, Verdict,
};
use tare_specgen::{
    AbsolutePath, Architecture, Argument, CapabilitySet, CgroupMode, Effective, Foreign, HostFacts,
    Hostname, ImageDefaults, Init, KernelVersion, NetworkMode, Placement, Request, RlimitKind,
    RootfsFacts, SELinux, SELinuxPolicy, SeccompProfile, Stub, effective, generate, stub,
};

use tokio::runtime::Handle;

use super::Error;
use super::scope::{Groups, Outline};
use super::selinux;
use crate::config::{self, RuntimeName};
use crate::instance::Instance;

/// Where a site keeps its own seccomp profile, and where a distribution does.
const SECCOMP_PROFILES: [&str; 2] =
    ["/etc/containers/seccomp.json", "/usr/share/containers/seccomp.json"];
/// Where the host says whom it asks for names.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// That, and where it is said who is behind a stub.
pub(super) const RESOLV_CONFS: [&str; 3] =
    [RESOLV_CONF, Stub::SystemdResolved.upstream(), Stub::NetworkManager.upstream()];

/// Where distributions and podman keep catatonit.
const INITS: [&str; 4] = [
    "/usr/libexec/podman/catatonit",
    "/usr/local/libexec/podman/catatonit",
    "/usr/libexec/catatonit/catatonit",
    "/usr/bin/catatonit",
];

/// The first kernel whose overlayfs takes layers with mapped owners.
const MAPS_OWNERS: KernelVersion = KernelVersion { major: 6, minor: 15 };

/// Where runtimes find CRIU.
const CRIUS: [&str; 6] = [
    "/usr/local/sbin/criu",
    "/usr/local/bin/criu",
    "/usr/sbin/criu",
    "/usr/bin/criu",
    "/sbin/criu",
    "/bin/criu",
];

/// How long the scope of a trial may take to stop: nothing of it asks for time.
const TRIAL_STOP: Duration = Duration::from_secs(1);

/// The host.
#[derive(Debug)]
pub(super) struct Host {
    facts: HostFacts,
    cgroups: cgroup::Host,
    runtime: Option<OciRuntime>,
    taints: Vec<&'static str>,
    /// Whether who starts conmon can have it log to the journal.
    journal: bool,
    /// Something that is kept could not be read.
    unreadable: AtomicBool,
}

impl Host {
    /// Looks at the host, and tries the runtimes out if that is set.
    pub(super) fn look(
        instance: &Instance,
        groups: &Groups,
        spawner: &dyn Spawner,
        settings: &config::Runtime,
    ) -> Result<Self, Error> {
        let cgroups = cgroup::Host::detect().map_err(|error| Error::Host {
            what: "find the control groups",
            source: std::io::Error::other(error),
        })?;
        let limits = spawner.limits().map_err(|error| Error::Host {
            what: "find out what containers cannot exceed",
            source: std::io::Error::other(error),
        })?;
        let found = selinux::Found::now();
        let mut taints = Vec::new();
        if found == selinux::Found::NoContexts {
            taints.push("no-selinux-contexts");
        }
        let mut facts = facts(&cgroups, &limits)?;
        facts.selinux = found.policy();
        let journal = spawner.can_log_to_journal();
        let unreadable = false.into();
        let mut host = Self { facts, cgroups, runtime: None, taints, journal, unreadable };
        let mut preferred = settings.preferred.iter().map(|name| match name {
            RuntimeName::Crun => OciRuntime::Crun,
            RuntimeName::Runc => OciRuntime::Runc,
        });
        host.runtime = match settings.trial {
            config::Trial::Always => {
                preferred.find(|it| host.works(*it, instance, groups, spawner))
            }
            config::Trial::Never => preferred.next(),
        };
        if host.runtime.is_none() {
            host.taints.push("no-runtime");
        }
        Ok(host)
    }

    /// The facts a configuration is generated from. What changes while the daemon runs is read
    /// anew.
    pub(super) fn facts(&self) -> HostFacts {
        let name = rustix::system::uname().nodename().to_string_lossy().parse().ok();
        let mut facts = self.facts.clone();
        let Resolvers { own, reachable } = Resolvers::now();
        (facts.hostname, facts.resolv_conf, facts.own_resolv_conf) = (name, reachable, own);
        facts
    }

    /// What its policy has for containers, if it uses `SELinux`.
    pub(super) fn selinux(&self) -> Option<&SELinuxPolicy> {
        self.facts.selinux.as_ref()
    }

    /// The control groups of the host.
    pub(super) fn cgroups(&self) -> &cgroup::Host {
        &self.cgroups
    }

    /// The runtime containers are made with.
    pub(super) fn runtime(&self) -> Option<OciRuntime> {
        self.runtime
    }

    /// Whether conmon can log to the journal, if there is one: a `tare-spawn` from before an upgrade goes on,
    /// and cannot have it do so.
    pub(super) fn can_log_to_journal(&self) -> bool {
        self.journal
    }

    /// Why the service is degraded.
    pub(super) fn taints(&self) -> Vec<&'static str> {
        let cgroups = (self.cgroups.kind != cgroup::Kind::Unified).then_some("cgroups-not-unified");
        let unreadable = self.unreadable.load(Ordering::Relaxed).then_some("unreadable-records");
        self.taints.iter().copied().chain(cgroups).chain(unreadable).collect()
    }

    /// Something that is kept cannot be read: it is left as it is, and the rest is served.
    pub(super) fn taint_unreadable(&self, what: &str, error: &Error) {
        tracing::error!("{what} cannot be read: {}", error.chain());
        self.unreadable.store(true, Ordering::Relaxed);
    }

    /// What works here.
    pub(super) fn features(&self) -> Vec<&'static str> {
        let cgroups = (self.cgroups.kind == cgroup::Kind::Unified).then_some("cgroup-v2");
        let criu = has_criu().then_some("checkpoint");
        let maps = (self.facts.kernel >= MAPS_OWNERS).then_some("idmapped-mounts");
        let selinux = self.selinux().map(|_| "selinux");
        let runtime = self.runtime.map(OciRuntime::as_str).into_iter();
        runtime.chain(cgroups).chain(criu).chain(maps).chain(selinux).collect()
    }

    /// Whether a runtime makes a container here. That the program is there tells nothing.
    fn works(
        &mut self,
        runtime: OciRuntime,
        instance: &Instance,
        groups: &Groups,
        spawner: &dyn Spawner,
    ) -> bool {
        let probed = trial(&self.facts, runtime, instance, groups).and_then(|(id, trial)| {
            let register = |conmon: &Started| {
                let outline = Outline {
                    slice: None,
                    description: format!("Trial of {runtime}"),
                    stop_timeout: TRIAL_STOP,
                    stop_signal: Signal::TERM.as_raw(),
                };
                Handle::current().block_on(groups.register(&id, conmon, outline))
            };
            let probed = trial.run(spawner, instance.run_dir(), register);
            probed.map_err(|error| Error::Bug(error.to_string()))
        });
        match probed {
            Err(error) => {
                tracing::info!("{runtime} cannot be tried: {}", error.chain());
                false
            }
            Ok(probed) => {
                let works = probed.verdict == Verdict::Works;
                match &probed.verdict {
                    Verdict::Works => tracing::info!("{runtime} works"),
                    Verdict::Fails { reason } => tracing::info!("{runtime} fails: {reason}"),
                }
                if works && has_known_holes(runtime, &probed.version) {
                    self.taints.push("runtime-vulnerable");
                }
                works
            }
        }
    }
}

/// A container that does nothing, with all that real ones have but their own files.
fn trial(
    facts: &HostFacts,
    runtime: OciRuntime,
    instance: &Instance,
    groups: &Groups,
) -> Result<(tare_runtime::ContainerId, Trial), Error> {
    let id = tare_runtime::ContainerId::random().map_err(|error| Error::Bug(error.to_string()))?;
    let spawn_id = super::spawn_id(&id);
    let layout = Layout::new(instance.run_dir(), &spawn_id, Incarnation(1));
    let cgroup = groups.of(&id, None);
    let config_json = trial_config(facts, &layout, &id, &cgroup)?;
    let create = Create {
        id: spawn_id.clone(),
        incarnation: Incarnation(1),
        runtime,
        cgroup,
        log: Log::File(layout.bundle().join("log")),
        stdin: Stdin::Null,
        restore: None,
    };
    let extent = groups.extent(&create.cgroup);
    Ok((id, Trial { create, config_json, extent }))
}

fn has_known_holes(runtime: OciRuntime, version: &str) -> bool {
    let program = match runtime {
        OciRuntime::Crun => Program::Crun,
        OciRuntime::Runc => Program::Runc,
        _ => return false,
    };
    let holes = program.parse_version(version).map(|version| program.known_holes(&version));
    for hole in holes.iter().flatten() {
        tracing::warn!("this version of {runtime} has {} unless it was patched", hole.as_str());
    }
    holes.is_some_and(|holes| !holes.is_empty())
}

/// As for a real container without network, but for the bound files and the label: the root of the trial is
/// the host's own, read-only, and has no place for them, nor labels of containers.
fn trial_config(
    facts: &HostFacts,
    layout: &Layout<'_>,
    id: &tare_runtime::ContainerId,
    cgroup: &CgroupPath,
) -> Result<Vec<u8>, Error> {
    let bug = |error: &dyn std::fmt::Display| Error::Bug(error.to_string());
    let mut request = Request::default();
    let program: Argument = "/bin/true".parse().map_err(|e| bug(&e))?;
    request.command = vec![program];
    request.network_mode = NetworkMode::None;
    request.selinux = SELinux::Disabled;
    request.rootfs_access = true.into();
    request.read_only_tmpfs = false.into();
    let effective = effective(&request, &ImageDefaults::default(), &Foreign::default())
        .map_err(Error::InvalidSpec)?;
    let placement = placement(layout, id, cgroup)?;
    let generated = generate(&effective, facts, &RootfsFacts::default(), &placement)
        .map_err(Error::InvalidSpec)?;
    let mut config: serde_json::Value =
        serde_json::from_slice(&generated.config).map_err(|e| bug(&e))?;
    if let Some(mounts) = config["mounts"].as_array_mut() {
        mounts.retain(|mount| mount["type"] != "bind");
    }
    serde_json::to_vec(&config).map_err(|e| bug(&e))
}

/// The place of a container without a network of its own.
pub(super) fn placement(
    layout: &Layout<'_>,
    id: &tare_runtime::ContainerId,
    cgroup: &CgroupPath,
) -> Result<Placement, Error> {
    let mut placement = Placement::new(
        path(&layout.rootfs())?,
        path(&layout.files())?,
        path(&layout.shm())?,
        default_hostname(id)?,
        cgroup.payload().to_string(),
    );
    placement.id = id.as_str().parse().ok();
    Ok(placement)
}

/// What a container goes by if nobody says otherwise.
pub(super) fn default_hostname(id: &tare_runtime::ContainerId) -> Result<Hostname, Error> {
    let name = id.short().parse();
    name.map_err(|error: tare_specgen::InvalidText| Error::Bug(error.to_string()))
}

/// A path of ours in a configuration.
pub(super) fn path(path: &Path) -> Result<AbsolutePath, Error> {
    path.to_string_lossy().parse().map_err(|error: tare_specgen::InvalidText| {
        Error::Bug(format!("{}: {error}", path.display()))
    })
}

fn facts(cgroups: &cgroup::Host, limits: &Limits) -> Result<HostFacts, Error> {
    let uname = rustix::system::uname();
    let machine = uname.machine().to_string_lossy();
    let unknown = |_| Error::Host {
        what: "recognise the processor or the kernel",
        source: std::io::ErrorKind::Unsupported.into(),
    };
    let architecture: Architecture = machine.parse().map_err(unknown)?;
    let kernel: KernelVersion = uname.release().to_string_lossy().parse().map_err(unknown)?;
    let mut facts = HostFacts::new(architecture, kernel, seccomp_profile());
    facts.cgroup_mode = match cgroups.kind {
        cgroup::Kind::Unified => CgroupMode::V2,
        cgroup::Kind::Hybrid => CgroupMode::Hybrid,
        cgroup::Kind::Legacy => CgroupMode::V1,
    };
    facts.controllers = cgroups.controllers.iter().cloned().collect();
    facts.swap_limits = swap_limits(cgroups.kind);
    facts.capabilities = CapabilitySet::from_bits(limits.capabilities);
    facts.hard_limits = hard_limits(limits);
    facts.thermal_throttle_cpus = thermal_throttle_cpus();
    Ok(facts)
}

/// Whether the kernel keeps limits of swap: it does where it has swap at all, but on version 1 only
/// if it was told to when it booted.
fn swap_limits(kind: cgroup::Kind) -> bool {
    let file = match kind {
        cgroup::Kind::Unified => "/proc/swaps",
        _ => "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes",
    };
    Path::new(file).exists()
}

/// An error if the host has no CRIU by now.
pub(super) fn check_criu() -> Result<(), Error> {
    if has_criu() { Ok(()) } else { Err(Error::NoCriu) }
}

fn has_criu() -> bool {
    CRIUS.iter().any(|path| Path::new(path).is_file())
}

/// The program that reaps processes, if the container wants one, and the host has one by now.
pub(super) fn init(effective: &Effective) -> Option<AbsolutePath> {
    let wanted = effective.request.init == Init::Yes;
    let found = INITS.iter().find(|path| wanted && Path::new(path).is_file());
    found.and_then(|path| path.parse().ok())
}

/// The site's profile if it has one that can be used, else ours.
fn seccomp_profile() -> SeccompProfile {
    for path in SECCOMP_PROFILES {
        match fs::read_to_string(path).ok().map(|text| SeccompProfile::parse(&text)) {
            None => {}
            Some(Ok(profile)) => return profile,
            Some(Err(error)) => tracing::warn!("{path} is not used: {error}"),
        }
    }
    SeccompProfile::embedded()
}

/// What containers cannot exceed, as far as it has a name here.
fn hard_limits(limits: &Limits) -> BTreeMap<RlimitKind, u64> {
    let known = |(name, limit): (&String, &u64)| Some((name.parse().ok()?, *limit));
    limits.resources.iter().filter_map(known).collect()
}

fn thermal_throttle_cpus() -> BTreeSet<u32> {
    let Ok(cpus) = fs::read_dir("/sys/devices/system/cpu") else { return BTreeSet::new() };
    let number =
        |entry: &fs::DirEntry| entry.file_name().to_str()?.strip_prefix("cpu")?.parse::<u32>().ok();
    cpus.flatten()
        .filter(|entry| entry.path().join("thermal_throttle").is_dir())
        .filter_map(|entry| number(&entry))
        .collect()
}

/// Whom the host asks for names, by its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resolvers {
    /// What its own `resolv.conf` says, right for those in its network.
    pub(super) own: Option<String>,
    /// The same for containers in a network of their own: where it names only a stub on the host's
    /// loopback, what is said of those behind that.
    pub(super) reachable: Option<String>,
}

impl Resolvers {
    /// What the files say now.
    pub(super) fn now() -> Self {
        Self::by(|path| fs::read_to_string(path).ok())
    }

    /// The same, where files say this. Whoever has another resolver of its own on loopback, or nobody, is
    /// not taken past that: what else lies about need not be what it wants (B13).
    fn by(read: impl Fn(&str) -> Option<String>) -> Self {
        let own = read(RESOLV_CONF);
        let behind = own.as_deref().and_then(stub).and_then(|stub| read(stub.upstream()));
        Self { reachable: behind.or_else(|| own.clone()), own }
    }

    /// Whether the host has anybody whom it asks, be it a stub on loopback.
    pub(super) fn has_any(&self) -> bool {
        self.own.as_deref().is_some_and(|text| servers(text).next().is_some())
    }
}

fn servers(resolv_conf: &str) -> impl Iterator<Item = IpAddr> {
    let lines = resolv_conf.lines().map(str::split_whitespace);
    lines.filter_map(|mut words| {
        let server = words.next().filter(|it| *it == "nameserver").and_then(|_| words.next());
        server?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b13_who_is_behind_a_stub_is_asked_and_nobody_else() {
        let (resolved, manager) = ("nameserver 192.0.2.1\n", "nameserver 192.0.2.2\n");
        let (all, none) = ([Some(resolved), Some(manager)], [None, None]);
        let of_resolved = "nameserver 127.0.0.53\noptions edns0\n";
        let own_resolver = "search example.org\nnameserver 127.0.0.1\n";
        for (about, own, behind, want) in [
            ("systemd-resolved", Some(of_resolved), all, Some(resolved)),
            ("its file is not there", Some(of_resolved), none, Some(of_resolved)),
            ("that of the other is", Some(of_resolved), [None, Some(manager)], Some(of_resolved)),
            ("NetworkManager", Some(own_resolver), all, Some(manager)),
            ("one of its own", Some(own_resolver), [Some(resolved), None], Some(own_resolver)),
            ("elsewhere on loopback", Some("nameserver ::1\n"), all, Some("nameserver ::1\n")),
            ("nobody", Some(""), all, Some("")),
            ("no file", None, all, None),
            ("others", Some("nameserver 192.0.2.3\n"), all, Some("nameserver 192.0.2.3\n")),
        ] {
            let read = |path: &str| {
                let at = RESOLV_CONFS.iter().position(|known| *known == path)?;
                [own, behind[0], behind[1]][at].map(str::to_owned)
            };
            let got = Resolvers::by(read);
            assert_eq!(got.reachable.as_deref(), want, "{about}");
            assert_eq!(got.own.as_deref(), own, "{about}");
        }
    }

    #[test]
    fn limits_are_known_by_their_names() {
        let resources = [("RLIMIT_NOFILE".into(), 7), ("RLIMIT_NEW".into(), 8)].into();
        assert_eq!(
            hard_limits(&Limits { capabilities: 0, resources }),
            [(RlimitKind::Nofile, 7)].into()
        );
    }
}
