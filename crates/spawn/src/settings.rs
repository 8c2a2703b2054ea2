use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, OciRuntime};

/// Where programs are looked for, in this order. Not `$PATH`: that is the caller's to choose.
const SEARCH: [&str; 5] =
    ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/usr/libexec/podman"];

/// Magic number of cgroup2, from statfs(2).
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;

/// What `/sys/fs/cgroup` is to conmon and the runtimes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupView {
    /// The host's own: it is cgroup2 already.
    Host,
    /// cgroup2 mounted over whatever the host has there, in the container's mount namespace only.
    Private,
}

impl CgroupView {
    /// The view this host needs.
    pub fn detect() -> Self {
        match rustix::fs::statfs("/sys/fs/cgroup") {
            Ok(found) if found.f_type == CGROUP2_SUPER_MAGIC => Self::Host,
            _ => Self::Private,
        }
    }
}

/// What a spawner may run, and where it keeps things.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The directory everything lies below; see [`Layout`](crate::Layout). Absolute, root's alone.
    pub run_dir: PathBuf,
    /// conmon.
    pub conmon: PathBuf,
    /// crun, if installed.
    pub crun: Option<PathBuf>,
    /// runc, if installed.
    pub runc: Option<PathBuf>,
    /// `apparmor_parser`, if installed.
    pub apparmor_parser: Option<PathBuf>,
    /// What `/sys/fs/cgroup` is to the programs.
    pub cgroups: CgroupView,
}

impl Settings {
    /// Looks for the programs once, in the system's program directories. A program that others
    /// than root can change does not count.
    ///
    /// # Errors
    ///
    /// [`Error::Find`] if there is no conmon.
    pub fn find(run_dir: impl Into<PathBuf>) -> Result<Self, Error> {
        Ok(Self {
            run_dir: run_dir.into(),
            conmon: find("conmon").ok_or(Error::Find { name: "conmon" })?,
            crun: find("crun"),
            runc: find("runc"),
            apparmor_parser: find("apparmor_parser"),
            cgroups: CgroupView::detect(),
        })
    }

    /// The program of a runtime, if installed.
    pub fn program(&self, runtime: OciRuntime) -> Option<&Path> {
        match runtime {
            OciRuntime::Crun => self.crun.as_deref(),
            OciRuntime::Runc => self.runc.as_deref(),
        }
    }
}

fn find(name: &str) -> Option<PathBuf> {
    SEARCH.iter().map(|dir| Path::new(dir).join(name)).find(|path| is_trusted(path))
}

fn is_trusted(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| {
        let mode = found.permissions().mode();
        found.is_file() && found.uid() == 0 && mode & 0o111 != 0 && mode & 0o022 == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_executables_that_root_alone_can_change_are_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::write(&path, "").unwrap();
        let ours = path.metadata().unwrap().uid() == 0;
        for (mode, want) in [(0o755, ours), (0o775, false), (0o757, false), (0o644, false)] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(is_trusted(&path), want, "{mode:o}");
        }
        assert!(!is_trusted(dir.path()), "a directory");
        assert!(!is_trusted(&dir.path().join("absent")));
    }
}
