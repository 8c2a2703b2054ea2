//! Settings of the daemon: fragments read from files, merged in order, checked once.
//!
//! `/usr/lib/tare/tared.toml` < `/etc/tare/tared.toml` < `/etc/tare/tared.toml.d/*.toml`, the
//! last in the order of their names. A key that is not known is an error that names it: a setting
//! that is silently ignored is a setting somebody relies on in vain.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use ipnet::Ipv4Net;
use serde::Deserialize;

/// What the daemon runs with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// `[network]`.
    pub network: Network,
    /// `[runtime]`.
    pub runtime: Runtime,
    /// `[containers]`.
    pub containers: Containers,
}

/// Settings of networks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Network {
    /// Subnets of networks that name none are cut from this pool, /24 each.
    pub pool: Ipv4Net,
    /// How long a freed address rests before another container gets it.
    #[serde(rename = "quarantine-sec", deserialize_with = "seconds")]
    pub quarantine: Duration,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            pool: Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 88, 0, 0), 16),
            quarantine: Duration::from_secs(60),
        }
    }
}

/// Settings of the OCI runtimes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Runtime {
    /// Runtimes in the order of preference; the first that works is used.
    pub preferred: Vec<RuntimeName>,
    /// Whether it is tried out, at each start of the daemon, which of them works.
    pub trial: Trial,
}

/// Whether runtimes are tried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trial {
    /// Each time, with a container that does nothing.
    #[default]
    Always,
    /// The first one is taken for one that works: for hosts where that is known, and where the
    /// tenth of a second counts.
    Never,
}

impl Default for Runtime {
    fn default() -> Self {
        Self { preferred: vec![RuntimeName::Crun, RuntimeName::Runc], trial: Trial::default() }
    }
}

/// An OCI runtime Tare knows how to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeName {
    /// crun.
    Crun,
    /// runc.
    Runc,
}

/// Settings of containers that their creator may leave out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Containers {
    /// From the stop signal to SIGKILL.
    #[serde(rename = "stop-timeout-sec", deserialize_with = "seconds")]
    pub stop_timeout: Duration,
    /// Prefixes of the labels that every local user may read.
    #[serde(rename = "public-label-prefixes")]
    pub public_label_prefixes: Vec<String>,
}

impl Default for Containers {
    fn default() -> Self {
        Self {
            stop_timeout: Duration::from_secs(10),
            public_label_prefixes: vec![
                "org.tare.public.".into(),
                "org.opencontainers.image.".into(),
            ],
        }
    }
}

fn seconds<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    u64::deserialize(from).map(Duration::from_secs)
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory of settings cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file is not TOML, or the whole is not a configuration.
    #[error("{} is not a valid configuration", path.display())]
    Parse {
        /// The last file that was read.
        path: PathBuf,
        /// What is wrong, and where.
        source: toml::de::Error,
    },
}

/// The places settings are read from.
#[derive(Clone, Debug)]
pub struct Sources {
    files: Vec<PathBuf>,
    drop_ins: Option<PathBuf>,
}

impl Sources {
    /// The places of an installed system.
    pub fn system() -> Self {
        Self {
            files: vec!["/usr/lib/tare/tared.toml".into(), "/etc/tare/tared.toml".into()],
            drop_ins: Some("/etc/tare/tared.toml.d".into()),
        }
    }

    /// One file, and nothing else.
    pub fn only(file: PathBuf) -> Self {
        Self { files: vec![file], drop_ins: None }
    }

    /// Reads and merges them all.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] for a file that is there but cannot be read, [`Error::Parse`].
    pub fn load(&self) -> Result<Config, Error> {
        let mut merged = toml::Table::new();
        let mut last = PathBuf::new();
        for path in self.fragments()? {
            if let Some(text) = read_if_there(&path)? {
                let table = text
                    .parse::<toml::Table>()
                    .map_err(|source| Error::Parse { path: path.clone(), source })?;
                merge(&mut merged, table);
                // Checked after each file, so that the message names the one to blame.
                check(&merged, &path)?;
                last = path;
            }
        }
        check(&merged, &last)
    }

    fn fragments(&self) -> Result<Vec<PathBuf>, Error> {
        let mut all = self.files.clone();
        if let Some(dir) = &self.drop_ins {
            all.extend(drop_ins(dir)?);
        }
        Ok(all)
    }
}

fn check(merged: &toml::Table, path: &Path) -> Result<Config, Error> {
    merged.clone().try_into().map_err(|source| Error::Parse { path: path.into(), source })
}

fn read_if_there(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path: path.into(), source }),
    }
}

fn drop_ins(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = |source| Error::Read { path: dir.into(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(read(source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(read)?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Tables are merged key by key; anything else is replaced by the later one.
fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own")]
mod tests {
    use super::*;

    fn load(files: &[(&str, &str)]) -> Result<Config, Error> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let in_dir = |name: &str| dir.path().join(name);
        Sources { files: vec![in_dir("a"), in_dir("b")], drop_ins: Some(in_dir("d")) }.load()
    }

    #[test]
    fn later_files_win_key_by_key() {
        let config = load(&[
            ("a", "[containers]\nstop-timeout-sec = 3\npublic-label-prefixes = [\"a.\"]"),
            ("b", "[containers]\nstop-timeout-sec = 4"),
            ("d/20.toml", "[network]\npool = \"10.99.0.0/16\""),
            ("d/10.toml", "[network]\npool = \"10.98.0.0/16\""),
            ("d/30.conf", "nonsense"),
        ])
        .unwrap();
        assert_eq!(config.containers.stop_timeout, Duration::from_secs(4));
        assert_eq!(config.containers.public_label_prefixes, ["a."]);
        assert_eq!(config.network.pool.to_string(), "10.99.0.0/16");
    }

    #[test]
    fn no_files_are_the_defaults() {
        assert_eq!(load(&[]).unwrap(), Config::default());
    }

    #[test]
    fn a_wrong_setting_names_itself_and_its_file() {
        for (about, text, wanted) in [
            ("unknown section", "[netwrok]\n", "netwrok"),
            ("unknown key", "[network]\npoool = 1\n", "poool"),
            ("wrong type", "[network]\npool = 7\n", "pool"),
            ("unknown runtime", "[runtime]\npreferred = [\"kata\"]\n", "kata"),
            ("unknown choice", "[runtime]\ntrial = \"maybe\"\n", "maybe"),
            ("not TOML", "[", ""),
        ] {
            let error = load(&[("a", ""), ("b", text)]).unwrap_err();
            let Error::Parse { path, source } = &error else { panic!("{about}: {error:?}") };
            assert!(path.ends_with("b"), "{about}: {}", path.display());
            assert!(source.to_string().contains(wanted), "{about}: {source}");
        }
    }
}
