//! One daemon on its two directories, and the names it gives to things of the host.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tare_netns::{InterfaceName, NamespaceName, TableName};
use tare_runtime::ContainerId;

use crate::effects;

/// Where an installed daemon keeps what must outlive a reboot.
pub const DEFAULT_STATE: &str = "/var/lib/tare";
/// Where it keeps what dies with the boot.
pub const DEFAULT_RUN: &str = "/run/tare";

/// Why a daemon cannot have its directories.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A directory cannot be made.
    #[error("cannot create the directory {}", path.display())]
    Create {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The lock file in a directory cannot be used.
    #[error("cannot lock {}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Another daemon works on this directory.
    #[error("{} is in use by {holder}", path.display())]
    Held {
        /// The directory.
        path: PathBuf,
        /// Who holds it, as it wrote itself into the lock file.
        holder: String,
    },
}

/// The two directories of one daemon, locked for as long as this value lives.
#[derive(Debug)]
pub struct Instance {
    state: PathBuf,
    run: PathBuf,
    _locks: [File; 2],
}

impl Instance {
    /// Makes both directories if they are missing, and takes them for this process.
    ///
    /// # Errors
    ///
    /// [`Error::Held`] names the daemon that has one of them already.
    pub fn open(state: &Path, run: &Path) -> Result<Self, Error> {
        make_dir(state, 0o700)?;
        // Searchable by all: the bus socket of a private daemon is below it.
        make_dir(run, 0o755)?;
        let locks = [lock(state)?, lock(run)?];
        let instance = Self { state: state.into(), run: run.into(), _locks: locks };
        for private in [instance.containers_run_dir(), instance.run_db_dir(), instance.logs_dir()] {
            make_dir(&private, 0o700)?;
        }
        Ok(instance)
    }

    /// What must outlive a reboot.
    pub fn state_dir(&self) -> &Path {
        &self.state
    }

    /// What dies with the boot.
    pub fn run_dir(&self) -> &Path {
        &self.run
    }

    /// The database of what must outlive a reboot.
    pub fn state_db(&self) -> PathBuf {
        self.state.join("state.db")
    }

    /// The database of what dies with the boot: in a directory that is root's alone, since who may
    /// open a database may lock it.
    pub fn run_db(&self) -> PathBuf {
        self.run_db_dir().join("run.db")
    }

    fn run_db_dir(&self) -> PathBuf {
        self.run.join("db")
    }

    /// What containers write.
    pub fn logs_dir(&self) -> PathBuf {
        self.state.join("logs")
    }

    fn containers_run_dir(&self) -> PathBuf {
        self.run.join("containers")
    }

    /// Whether this daemon works on the default directory, and so needs no tag in its names.
    pub fn is_default(&self) -> bool {
        self.state == Path::new(DEFAULT_STATE)
    }
}

fn make_dir(path: &Path, mode: u32) -> Result<(), Error> {
    effects::make_dir(path, mode)
        // Also where it was there before, with another mode.
        .and_then(|()| effects::set_mode(path, mode))
        .map_err(|source| Error::Create { path: path.into(), source })
}

fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let failed = |source| Error::Lock { path: path.clone(), source };
    let mut file = effects::open_lock(&path).map_err(failed)?;
    match effects::lock(&file) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(Error::Held { path: dir.into(), holder: holder(&mut file) });
        }
        taken => taken.map_err(failed)?,
    }
    let us = format!("process {} (tared)\n", std::process::id());
    effects::rewrite(&mut file, &us).map_err(failed)?;
    Ok(file)
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(128).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().into(),
        _ => "another process".into(),
    }
}

/// What tells the names of one daemon from those of another on the same host: nothing for the
/// installed one, six hex digits, kept in its database, for every other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag(Option<String>);

impl Tag {
    /// The installed daemon's.
    pub const NONE: Self = Self(None);

    /// The tag of a daemon that is not the installed one.
    pub fn new(six_hex_digits: &str) -> Option<Self> {
        let valid = six_hex_digits.len() == 6
            && six_hex_digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        valid.then(|| Self(Some(six_hex_digits.into())))
    }

    /// `base` with the tag appended after `mark`.
    fn mark(&self, base: &str, mark: char) -> String {
        match &self.0 {
            Some(tag) => format!("{base}{mark}{tag}"),
            None => base.into(),
        }
    }

    /// The firewall table: `tare`, `tare_1a2b3c`.
    pub fn table(&self) -> TableName {
        parsed(&self.mark("tare", '_'))
    }

    /// The bridge of the default network: `tare0`, `tare0-1a2b3c`.
    pub fn default_bridge(&self) -> InterfaceName {
        parsed(&self.mark("tare0", '-'))
    }

    /// What the network namespaces of this daemon, and of no other, begin with.
    pub fn namespace_prefix(&self) -> String {
        format!("{}-", self.mark("tare", '-'))
    }

    /// The network namespace of a container: `tare-<first 12 digits>`.
    pub fn namespace(&self, id: &ContainerId) -> NamespaceName {
        parsed(&format!("{}{}", self.namespace_prefix(), id.short()))
    }

    /// The control group all containers of this daemon are in, below the cgroup2 root.
    pub fn cgroup_root(&self) -> String {
        format!("/{}", self.mark("tare", '-'))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or(""))
    }
}

/// A name built from parts whose lengths and letters are fixed.
fn parsed<T: std::str::FromStr>(name: &str) -> T
where
    T::Err: fmt::Debug,
{
    name.parse().expect("a name built from a tag and an id is within every grammar")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_told_who_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let (state, run, other) =
            (dir.path().join("s"), dir.path().join("r"), dir.path().join("o"));
        let first = Instance::open(&state, &run).unwrap();
        for (s, r, held) in [(&state, &other, &state), (&other, &run, &run)] {
            let Err(Error::Held { path, holder }) = Instance::open(s, r) else {
                panic!("two daemons on {}", held.display())
            };
            assert_eq!(&path, held);
            assert_eq!(holder, format!("process {} (tared)", std::process::id()));
        }
        drop(first);
        Instance::open(&state, &run).unwrap();
    }

    #[test]
    fn names_tell_daemons_apart() {
        let tag = Tag::new("1a2b3c").unwrap();
        let id: ContainerId = "0123456789abcdef".repeat(4).parse().unwrap();
        assert_eq!(tag.table().to_string(), "tare_1a2b3c");
        assert_eq!(tag.default_bridge().to_string(), "tare0-1a2b3c");
        assert_eq!(tag.namespace(&id).to_string(), "tare-1a2b3c-0123456789ab");
        assert_eq!(tag.cgroup_root(), "/tare-1a2b3c");
        assert_eq!(Tag::NONE.namespace(&id).to_string(), "tare-0123456789ab");
        assert_eq!(Tag::NONE.default_bridge().to_string(), "tare0");
        for bad in ["", "12345", "1234567", "12345G", "12345A"] {
            assert_eq!(Tag::new(bad), None, "{bad}");
        }
    }
}
