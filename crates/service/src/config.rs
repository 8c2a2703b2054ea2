//! Settings of the daemon: fragments read from files, merged in order, checked once.
//!
//! `/usr/lib/tare/tared.toml` < `/etc/tare/tared.toml` < `/etc/tare/tared.toml.d/*.toml`, the
//! last in the order of their names. A key that is not known is an error that names it: a setting
//! that is silently ignored is a setting somebody relies on in vain.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use ipnet::Ipv4Net;
use serde::Deserialize;
use serde::de::Error as _;
use tare_specgen::MAX_NAMESERVERS;

use crate::names::is_server;

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
    /// `[registries]`.
    pub registries: Registries,
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
    /// Who answers names of containers: `tare-names`, or the daemon itself. It counts from the next start of the
    /// daemon.
    pub names: Helper,
    /// Who is asked about other names where the host names nobody whom that reaches: nobody, if this is
    /// empty.
    #[serde(rename = "fallback-dns", deserialize_with = "resolvers")]
    pub fallback_dns: Vec<IpAddr>,
}

/// A program of ours that does a part for the daemon: `auto`, `local`, or the path of a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Helper {
    /// Whoever listens at the usual socket in the run directory, if the daemon is on the system bus and that is
    /// there; else as [`Local`](Self::Local).
    #[default]
    Auto,
    /// The daemon itself, or the program beside its own that it starts.
    Local,
    /// Whoever listens there.
    Socket(PathBuf),
}

impl TryFrom<String> for Helper {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "auto" => Ok(Self::Auto),
            "local" => Ok(Self::Local),
            path if path.starts_with('/') => Ok(Self::Socket(path.into())),
            _ => Err("it is auto, local, or the absolute path of a socket"),
        }
    }
}

impl Default for Network {
    fn default() -> Self {
        Self {
            pool: Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 88, 0, 0), 16),
            quarantine: Duration::from_secs(60),
            names: Helper::Auto,
            fallback_dns: Vec::new(),
        }
    }
}

/// Settings of the OCI runtimes. They count from the next start of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Runtime {
    /// Runtimes in the order of preference; the first that works is used.
    pub preferred: Vec<RuntimeName>,
    /// Who starts them, and conmon: `tare-spawn`, or the daemon itself.
    pub spawner: Helper,
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
        let preferred = vec![RuntimeName::Crun, RuntimeName::Runc];
        Self { preferred, spawner: Helper::Auto, trial: Trial::default() }
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
    /// Where what a container writes is kept if whoever creates it does not say.
    #[serde(rename = "log-driver")]
    pub log_driver: LogSetting,
    /// Prefixes of the labels that every local user may read.
    #[serde(rename = "public-label-prefixes")]
    pub public_label_prefixes: Vec<String>,
}

/// Where what containers write is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogSetting {
    /// In the journal, if there is one, and containers are units of systemd; else as
    /// [`K8sFile`](Self::K8sFile).
    #[default]
    Auto,
    /// In the journal.
    Journald,
    /// In a file of each.
    #[serde(rename = "k8s-file")]
    K8sFile,
}

impl Default for Containers {
    fn default() -> Self {
        Self {
            stop_timeout: Duration::from_secs(10),
            log_driver: LogSetting::default(),
            public_label_prefixes: vec![
                "org.tare.public.".into(),
                "org.opencontainers.image.".into(),
            ],
        }
    }
}

/// Settings of registries of images.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Registries {
    /// Who speaks with them: a `tare-worker`, be it one that the daemon starts. It counts from the next start of the
    /// daemon.
    pub worker: Helper,
    /// The file with the host's own credentials, for who gives none.
    #[serde(rename = "auth-file", deserialize_with = "absolute")]
    pub auth_file: PathBuf,
}

impl Default for Registries {
    fn default() -> Self {
        Self { worker: Helper::Auto, auth_file: "/etc/tare/auth.json".into() }
    }
}

fn absolute<'de, D: serde::Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    let path = PathBuf::deserialize(from)?;
    if path.is_absolute() { Ok(path) } else { Err(D::Error::custom("it is an absolute path")) }
}

/// As many as a `resolv.conf` can have, at addresses where containers reach somebody.
fn resolvers<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<IpAddr>, D::Error> {
    let listed = Vec::<IpAddr>::deserialize(from)?;
    if let Some(unheard) = listed.iter().find(|it| !is_server(**it)) {
        return Err(D::Error::custom(format!("no container reaches a resolver at {unheard}")));
    }
    if listed.len() > MAX_NAMESERVERS {
        return Err(D::Error::custom(format!("more than {MAX_NAMESERVERS} resolvers")));
    }
    Ok(listed)
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

/// What it means that a file of settings is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// Nobody has set anything there.
    Nothing,
    /// Somebody named it, and relies on it.
    Error,
}

/// The places settings are read from.
#[derive(Clone, Debug)]
pub struct Sources {
    files: Vec<PathBuf>,
    /// Whether a file that is not there is as good as an empty one.
    missing: Missing,
    drop_ins: Option<PathBuf>,
}

impl Sources {
    /// The places of an installed system.
    pub fn system() -> Self {
        Self {
            files: vec!["/usr/lib/tare/tared.toml".into(), "/etc/tare/tared.toml".into()],
            missing: Missing::Nothing,
            drop_ins: Some("/etc/tare/tared.toml.d".into()),
        }
    }

    /// One file, which must be there, and nothing else.
    pub fn only(file: PathBuf) -> Self {
        Self { files: vec![file], missing: Missing::Error, drop_ins: None }
    }

    /// Reads and merges them all.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] for a file that cannot be read, or was named and is not there; [`Error::Parse`].
    pub fn load(&self) -> Result<Config, Error> {
        let mut merged = toml::Table::new();
        let mut last = PathBuf::new();
        for path in self.fragments()? {
            if let Some(text) = read(&path, self.missing)? {
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

fn read(path: &Path, missing: Missing) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound && missing == Missing::Nothing => Ok(None),
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
        let (files, drop_ins) = (vec![in_dir("a"), in_dir("b")], Some(in_dir("d")));
        Sources { files, missing: Missing::Nothing, drop_ins }.load()
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("named.toml");
        let error = Sources::only(file.clone()).load().unwrap_err();
        assert!(matches!(&error, Error::Read { path, .. } if *path == file), "{error:?}");
        fs::write(&file, "").unwrap();
        Sources::only(file).load().unwrap();
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
    fn a_log_driver_is_one_of_three_words() {
        let driver = |text: &str| {
            let file = format!("[containers]\nlog-driver = \"{text}\"");
            load(&[("a", &file)]).map(|config| config.containers.log_driver)
        };
        assert_eq!(driver("auto").unwrap(), LogSetting::Auto);
        assert_eq!(driver("journald").unwrap(), LogSetting::Journald);
        assert_eq!(driver("k8s-file").unwrap(), LogSetting::K8sFile);
        assert!(driver("none").is_err());
    }

    #[test]
    fn a_spawner_is_a_word_or_a_path() {
        let spawner = |text: &str| {
            let file = format!("[runtime]\nspawner = \"{text}\"");
            load(&[("a", &file)]).map(|config| config.runtime.spawner)
        };
        assert_eq!(spawner("auto").unwrap(), Helper::Auto);
        assert_eq!(spawner("local").unwrap(), Helper::Local);
        assert_eq!(spawner("/run/x.sock").unwrap(), Helper::Socket("/run/x.sock".into()));
        for bad in ["", "Local", "run/x.sock"] {
            assert!(spawner(bad).is_err(), "{bad}");
        }
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
            ("no address", "[network]\nfallback-dns = [\"dns.example\"]\n", "IP address"),
            ("a loopback", "[network]\nfallback-dns = [\"::1\"]\n", "::1"),
            (
                "four",
                "[network]\nfallback-dns = [\"1.1.1.1\", \"1.1.1.2\", \"1.1.1.3\", \"1.1.1.4\"]\n",
                "3 resolvers",
            ),
            ("a relative path", "[registries]\nauth-file = \"auth.json\"\n", "absolute"),
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
