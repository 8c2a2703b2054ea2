//! Where to look.

use std::path::{Path, PathBuf};

use super::{names_in, rows};

/// Where on a host the things of a daemon are; what the whole host has in common (network,
/// firewall, mounts) is looked at anyway.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Directories whose files and databases count. They need not be there.
    pub directories: Vec<PathBuf>,
    /// Control groups.
    pub groups: Vec<Groups>,
    /// Names of AppArmor profiles.
    pub profiles: Vec<String>,
    /// A process is one of ours if one of these is on its command line or in its mounts.
    pub marks: Vec<String>,
    /// Names of the daemons' programs: of those, the open descriptors count.
    pub daemons: Vec<String>,
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
        let directories = ["/var/lib/tare", "/run/tare", "/run/netns", "/run/crun", "/run/runc"];
        Self {
            directories: directories.map(Into::into).into(),
            groups: groups.into(),
            profiles: vec!["tare-default".into()],
            // The last is how a file of /run/tare is called in the table of mounts: from the root
            // of the file system it is on.
            marks: ["/var/lib/tare/", "/run/tare/", " /tare/containers/"].map(Into::into).into(),
            daemons: ["tared", "tare-spawn", "tare-names"].map(Into::into).into(),
        }
    }
}

/// Where cgroup2 is mounted.
pub fn cgroup2() -> PathBuf {
    let unified = PathBuf::from("/sys/fs/cgroup/unified");
    if unified.exists() { unified } else { "/sys/fs/cgroup".into() }
}
