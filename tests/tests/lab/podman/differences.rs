//! In what the configurations of Tare are meant to be others than podman's, and why.

/// Fields that may be different.
#[derive(Debug)]
pub(crate) struct Difference {
    /// Name of the case; all if it is empty.
    case: &'static str,
    /// Where: all that begins so if it ends in `*`.
    path: &'static str,
    /// For whoever reads a failure.
    #[expect(dead_code, reason = "printed")]
    why: &'static str,
}

impl Difference {
    pub(crate) fn fits(&self, case: &str, path: &str) -> bool {
        let is_there = match self.path.strip_suffix('*') {
            Some(beginning) => path.starts_with(beginning),
            None => path == self.path,
        };
        is_there && (self.case.is_empty() || self.case == case)
    }
}

const fn all(path: &'static str, why: &'static str) -> Difference {
    Difference { case: "", path, why }
}

const fn of(case: &'static str, path: &'static str, why: &'static str) -> Difference {
    Difference { case, path, why }
}

pub(crate) const DIFFERENCES: &[Difference] = &[
    all("ociVersion", "the lowest version that has all that is said"),
    all("annotations.io.container.manager", "each says its name"),
    all("annotations.org.systemd.property.*", "the scope is made by the service, with these"),
    of("privileged", "annotations.io.podman.annotations.privileged", "for podman's own use"),
    of("no-seccomp", "annotations.io.podman.annotations.seccomp", "for podman's own use"),
    all("linux.cgroupsPath", "the scope is made by the service: the runtime gets a group in it"),
    all("linux.resources.pids.limit", "said to podman, so that it sets none"),
    all("root.path", "each has its places"),
    all("mounts./dev/shm.source", "each has its places"),
    all("mounts./etc/hostname.source", "each has its places"),
    all("mounts./etc/hosts.source", "each has its places"),
    all("mounts./run/.containerenv.source", "each has its places"),
    all("mounts./data.source", "what was opened, in place of what is there by that path later"),
    all("process.env.container=*", "each says its name; 'oci' is what systemd knows for others"),
    // What is bound from the host's side.
    all("mounts./etc/hostname.options.*", "no device, program or set-user-ID bit is of use there"),
    all("mounts./etc/hosts.options.*", "no device, program or set-user-ID bit is of use there"),
    all(
        "mounts./run/.containerenv.options.*",
        "no device, program or set-user-ID bit is of use there",
    ),
    all("mounts./etc/resolv.conf*", "there without a network, too; else as the files above"),
    all("mounts./dev/shm.options.private", "there is nothing below it"),
    all("mounts./dev/shm.options.rprivate", "there is nothing below it"),
    all("mounts./sys/fs/cgroup.options.rprivate", "nothing is mounted before it that could spread"),
    of("bind-read-only", "mounts./data.options.*", "no devices and set-user-ID unless asked for"),
    of("bind-slave", "mounts./data.options.*", "no devices and set-user-ID unless asked for"),
    of(
        "tmpfs",
        "mounts./mem.options.noexec",
        "no programs unless asked for, as podman's manual has it",
    ),
    of("privileged", "mounts./sys.options.*", "read-write is what it is anyway"),
    of("privileged", "mounts./sys/fs/cgroup.options.rw", "read-write is what it is anyway"),
    of("systemd", "mounts./run.options.", "an empty option is none"),
    of("systemd", "mounts./run/lock.options.", "an empty option is none"),
    of("systemd", "mounts./tmp.options.", "an empty option is none"),
    of("systemd", "mounts./var/log/journal.options.", "an empty option is none"),
    of("systemd", "process.env.container_uuid=*", "each container has its id"),
    of("read-only-all", "mounts./dev.options.ro", "what every program needs to write to stays so"),
    of(
        "read-only-all",
        "mounts./dev/shm.options.ro",
        "what every program needs to write to stays so",
    ),
    // What tells of the host, or reaches it.
    all("linux.maskedPaths./proc/asound", "tells of the host: hidden, in place of read-only"),
    all("linux.readonlyPaths./proc/asound", "tells of the host: hidden, in place of read-only"),
    all(
        "linux.maskedPaths./proc/interrupts",
        "tells of what others do (as the specification advises)",
    ),
    all("linux.maskedPaths./sys/dev/block", "tells of the disks of the host"),
    all(
        "linux.sysctl.net.ipv4.ping_group_range",
        "any group of the container may ping, not root's alone",
    ),
    all("process.user.additionalGids.*", "the primary group is always among them (CVE-2022-2989)"),
    of(
        "cap-of-user",
        "process.capabilities.*",
        "none is inheritable (CVE-2022-27651), and so none ambient",
    ),
    // Devices.
    of("device", "linux.devices.*", "the mode without the kind, which is said beside it"),
    of("device-read", "linux.devices.*", "the mode without the kind, which is said beside it"),
    of(
        "privileged",
        "linux.devices.*",
        "the mode without the kind; and the runtime makes some itself",
    ),
];
