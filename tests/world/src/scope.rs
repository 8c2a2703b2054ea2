//! Where to look.

use std::path::{Path, PathBuf};

use super::{Made, names_in, rows};

/// Where on a host the things of a daemon are.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Whose the rest of the host is: what it has in common (network, firewall, mounts).
    pub host: Host,
    /// Directories whose files and databases count. They need not be there.
    pub directories: Vec<PathBuf>,
    /// What is below them and changes by itself.
    pub apart: Vec<PathBuf>,
    /// Control groups.
    pub groups: Vec<Groups>,
    /// Names of AppArmor profiles.
    pub profiles: Vec<String>,
    /// A process is one of ours if one of these is on its command line or in its mounts.
    pub marks: Vec<String>,
    /// Names of the daemons' programs: of those, the open descriptors count. If there is none, the daemon is
    /// a library that this process uses: of what that has open, what bears a mark counts.
    pub daemons: Vec<String>,
    /// Whether there is a service manager, whose units count.
    pub units: bool,
    /// What a daemon may keep, since it was asked to make it.
    pub made: Made,
}

/// Whose a host is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Host {
    /// Nobody else is there: all of it counts.
    #[default]
    Own,
    /// Others are there as well, and of what they have in common that counts which bears a mark.
    Shared,
}

/// Control groups, and all within them.
#[derive(Clone, Debug)]
pub struct Groups {
    /// The directory they are in.
    pub parent: PathBuf,
    /// What their names begin with.
    pub prefix: String,
}

impl Scope {
    /// The host of a test: `/run` is its own, daemons have their directories in `scratch`, and
    /// bear a tag that is in their databases.
    pub fn of_scratch_host(scratch: &Path) -> Self {
        let below: Vec<PathBuf> = names_in(scratch)
            .into_iter()
            .map(|name| scratch.join(name))
            .filter(|path| path.is_dir())
            .collect();
        let tags = below.iter().filter_map(|dir| rows::tag(&dir.join("state.db")));
        let tags: Vec<String> = tags.collect();
        let group = |tag| Groups { parent: cgroup2(), prefix: format!("tare-{tag}") };
        Self {
            groups: tags.iter().map(group).collect(),
            profiles: tags.iter().map(|tag| format!("tare-default-{tag}")).collect(),
            directories: below.into_iter().chain(["/run".into()]).collect(),
            marks: scratch
                .file_name()
                .map(|name| name.to_string_lossy().into())
                .into_iter()
                .collect(),
            daemons: ["tared", "tared-faulty", "tare-spawn", "tare-names"].map(Into::into).into(),
            ..Self::default()
        }
    }

    /// A machine where the service is installed and everything of it may be compared, so nobody
    /// else's containers are there.
    pub fn of_installed_service() -> Self {
        let groups = [("", "tare"), ("machine.slice", "tare-")];
        let groups = groups.map(|(parent, prefix)| Groups {
            parent: cgroup2().join(parent),
            prefix: prefix.into(),
        });
        Self {
            directories: ["/var/lib/tare", "/run"].map(Into::into).into(),
            apart: APART.map(Into::into).into(),
            groups: groups.into(),
            profiles: vec!["tare-default".into()],
            // The first is where the daemons themselves are; the last is how a file of /run/tare is
            // called in the table of mounts: from the root of the file system it is on.
            marks: ["/usr/libexec/tare", "/var/lib/tare/", "/run/tare/", " /tare/containers/"]
                .map(Into::into)
                .into(),
            daemons: ["tared", "tare-spawn", "tare-names"].map(Into::into).into(),
            units: true,
            ..Self::default()
        }
    }

    /// What a test sees that has namespaces of network and mounts of its own, and [its own
    /// `/run`](crate::own_run): all of it counts. Others are in the same process: of that, what bears one of these
    /// marks does, and other processes that do.
    pub fn of_own_namespaces(marks: Vec<String>) -> Self {
        // The lock of the old iptables, which stays after it.
        let apart = vec!["/run/xtables.lock".into()];
        Self { directories: vec!["/run".into()], apart, marks, ..Self::default() }
    }

    /// A part of a host that others use as well: these directories, what bears one of these marks,
    /// and of this process the descriptors that do.
    pub fn of_marked(directories: Vec<PathBuf>, marks: Vec<String>) -> Self {
        Self { host: Host::Shared, directories, marks, ..Self::default() }
    }

    /// Whether something of a shared host bears a mark; on one's own, everything does.
    pub(crate) fn is_marked(&self, text: &str) -> bool {
        self.host == Host::Own || self.bears_mark(text)
    }

    pub(crate) fn bears_mark(&self, text: &str) -> bool {
        self.marks.iter().any(|mark| text.contains(mark))
    }
}

/// What others have below `/run`, where they write whenever they like.
const APART: [&str; 12] = [
    // Of systemd: what it has of sessions, devices, inhibitors, and who is connected to its journal.
    // Units that somebody made are a kind of their own, and so is what is mounted.
    "/run/systemd",
    "/run/log",
    "/run/udev",
    "/run/user",
    "/run/utmp",
    // Of podman and netavark, which some cases are beside.
    "/run/containers",
    "/run/libpod",
    "/run/lock",
    "/run/xtables.lock",
    // Of firewalld, which stays when that ends.
    "/run/firewalld",
    // What CRIU has found out about the kernel.
    "/run/criu.kdat",
    // Of those who have installed effects fail.
    "/run/tare-faults",
];

/// Where cgroup2 is mounted.
pub fn cgroup2() -> PathBuf {
    let unified = PathBuf::from("/sys/fs/cgroup/unified");
    if unified.exists() { unified } else { "/sys/fs/cgroup".into() }
}
