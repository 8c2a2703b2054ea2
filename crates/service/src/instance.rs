//! One daemon on its two directories, and the names it gives to things of the host.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tare_netns::{InterfaceName, NamespaceName, TableName};
use tare_runtime::ContainerId;
use tare_spawn::CgroupPath;

use crate::effects;

/// Where an installed daemon keeps what must outlive a reboot.
pub const DEFAULT_STATE: &str = "/var/lib/tare";
/// Where it keeps what dies with the boot.
pub const DEFAULT_RUN: &str = "/run/tare";

/// How often what another has is tried to be taken, and how long in between.
const TRIES: u32 = 25;
const PAUSE: Duration = Duration::from_millis(20);

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
    /// A directory whose path the programs that containers need cannot take.
    #[error("{} cannot be used: {why}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
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
    /// [`Error::Held`] names the daemon that has one of them already; [`Error::Unusable`] comes
    /// before anything is made.
    pub fn open(state: &Path, run: &Path) -> Result<Self, Error> {
        let (state, run) = (&usable(state)?, &usable(run)?);
        // conmon is told `<driver>:<path>` of a log.
        refuse_if(state, |c| c == ':', "it has a colon in it")?;
        if state == run {
            return Err(Error::Unusable {
                path: state.into(),
                why: "it cannot be both directories",
            });
        }
        for dir in [state, run] {
            refuse_foreign(dir)?;
            refuse_held(dir)?;
        }
        // Whoever comes second changes nothing of what the first has.
        let locks = [take(state, 0o700)?, take(run, 0o755)?];
        set_mode(state, 0o700)?;
        // Searchable by all: the bus socket of a private daemon is below it.
        set_mode(run, 0o755)?;
        let instance = Self { state: state.into(), run: run.into(), _locks: locks };
        // Root of a container that is somebody else on the host goes through it to what is its own; all in it
        // is private.
        make_dir(&instance.containers_run_dir(), 0o711)?;
        for private in [instance.run_db_dir(), instance.logs_dir(), instance.checkpoints_dir()] {
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

    /// What was written down of containers.
    pub fn checkpoints_dir(&self) -> PathBuf {
        self.state.join("checkpoints")
    }

    /// Where roots of containers are mounted for whoever asks for that.
    pub fn mounts_dir(&self) -> PathBuf {
        self.run.join("mounts")
    }

    fn containers_run_dir(&self) -> PathBuf {
        self.run.join("containers")
    }

    /// Whether this daemon works on the default directory, and so needs no tag in its names.
    pub fn is_default(&self) -> bool {
        self.state == Path::new(DEFAULT_STATE)
    }
}

/// The same directory for every program, wherever that runs.
fn usable(dir: &Path) -> Result<PathBuf, Error> {
    let dir =
        std::path::absolute(dir).map_err(|source| Error::Create { path: dir.into(), source })?;
    refuse_if(&dir, char::is_control, "it has a control character in it")?;
    Ok(dir)
}

fn refuse_if(path: &Path, bad: fn(char) -> bool, why: &'static str) -> Result<(), Error> {
    let refused = |why| Err(Error::Unusable { path: path.into(), why });
    match path.to_str() {
        // Configurations of containers, and the bus, have paths as texts.
        None => refused("it is not UTF-8"),
        Some(text) if text.contains(bad) => refused(why),
        Some(_) => Ok(()),
    }
}

/// A directory that is there already and is somebody else's, or that others may write to, is no
/// place for what only this daemon may change; `/tmp` is one.
fn refuse_foreign(dir: &Path) -> Result<(), Error> {
    let failed = |source| Error::Create { path: dir.into(), source };
    let named = match std::fs::symlink_metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        named => named.map_err(failed)?,
    };
    // A link of one's own may lead to another disk.
    let found = std::fs::metadata(dir).map_err(failed)?;
    let refused = |why| Err(Error::Unusable { path: dir.into(), why });
    if !found.is_dir() {
        return refused("it is no directory");
    }
    let own = rustix::process::geteuid().as_raw();
    if named.uid() != own || found.uid() != own {
        return refused("it belongs to another user");
    }
    if found.mode() & 0o022 != 0 {
        return refused("others may write to it");
    }
    Ok(())
}

/// Before anything is made in either directory. Who comes in between is met when they are taken.
fn refuse_held(dir: &Path) -> Result<(), Error> {
    // What is wrong with a file that cannot be opened is said then, too.
    match File::open(dir.join("lock")) {
        Ok(mut file) => lock_or_say(dir, &mut file),
        Err(_) => Ok(()),
    }
}

/// Makes a directory if it is missing, and takes it for this process.
fn take(dir: &Path, mode: u32) -> Result<File, Error> {
    effects::make_dir(dir, mode).map_err(|source| Error::Create { path: dir.into(), source })?;
    lock(dir)
}

fn make_dir(path: &Path, mode: u32) -> Result<(), Error> {
    effects::make_dir(path, mode)
        .map_err(|source| Error::Create { path: path.into(), source })
        .and_then(|()| set_mode(path, mode))
}

/// Also where it was there before, with another mode.
fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    effects::set_mode(path, mode).map_err(|source| Error::Create { path: path.into(), source })
}

fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let failed = |source| Error::Lock { path: path.clone(), source };
    let mut file = effects::open_lock(&path).map_err(failed)?;
    lock_or_say(dir, &mut file)?;
    let us = format!("process {} (tared)\n", std::process::id());
    effects::rewrite(&mut file, &us).map_err(failed)?;
    Ok(file)
}

/// Takes what a daemon has alone, if need be a moment later.
///
/// One that was killed has it until the last of its threads is gone, which may be in the kernel for
/// some ten milliseconds after its first one has ended, and closes one descriptor after the other.
pub(crate) fn patiently<T, E>(
    is_held: impl Fn(&E) -> bool,
    mut take: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    for _ in 0..TRIES {
        match take() {
            Err(error) if is_held(&error) => std::thread::sleep(PAUSE),
            taken => return taken,
        }
    }
    take()
}

/// Takes the lock of a directory, or says who has it.
fn lock_or_say(dir: &Path, file: &mut File) -> Result<(), Error> {
    let is_held = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
    patiently(is_held, || effects::lock(file)).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => Error::Held { path: dir.into(), holder: holder(file) },
        _ => Error::Lock { path: dir.join("lock"), source },
    })
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

    /// The bridge of that number; the default network has the first: `tare0`, `tare0-1a2b3c`.
    pub fn bridge(&self, number: u32) -> InterfaceName {
        parsed(&self.mark(&format!("tare{number}"), '-'))
    }

    /// What the network namespaces and scopes of this daemon begin with.
    fn namespace_prefix(&self) -> String {
        format!("{}-", self.mark("tare", '-'))
    }

    /// The network namespace of a container: `tare-<first 12 digits>`.
    pub fn namespace(&self, id: &ContainerId) -> NamespaceName {
        parsed(&format!("{}{}", self.namespace_prefix(), id.short()))
    }

    /// The scope of a container, where a service manager has those: `tare-<first 12 digits>.scope`.
    pub fn scope(&self, id: &ContainerId) -> String {
        format!("{}{}.scope", self.namespace_prefix(), id.short())
    }

    /// Whether a name is that of a scope of this daemon, and of no other.
    pub fn is_scope(&self, name: &str) -> bool {
        let digits = name
            .strip_prefix(&self.namespace_prefix())
            .and_then(|rest| rest.strip_suffix(".scope"));
        digits.is_some_and(is_short_id)
    }

    /// Whether a name is that of a network namespace of this daemon, and of no other.
    pub fn is_namespace(&self, name: &str) -> bool {
        name.strip_prefix(&self.namespace_prefix()).is_some_and(is_short_id)
    }

    /// The AppArmor profile of containers: `tare-default`, `tare-default-1a2b3c`.
    pub fn profile(&self) -> String {
        self.mark("tare-default", '-')
    }

    /// The control group all containers of this daemon are in, below the cgroup2 root, where there
    /// is no such service manager.
    pub fn cgroup_root(&self) -> CgroupPath {
        parsed(&format!("/{}", self.mark("tare", '-')))
    }

    /// The name of a container's control group in one that is not only ours.
    pub fn cgroup_name(&self, id: &ContainerId) -> String {
        format!("{}-{id}", self.mark("tare", '-'))
    }

    /// The control group of a container there.
    pub fn cgroup(&self, id: &ContainerId) -> CgroupPath {
        parsed(&format!("{}/{id}", self.cgroup_root()))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or(""))
    }
}

/// Twelve digits and no more, so that no name with a tag is taken for one without.
fn is_short_id(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_hexdigit())
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
    use std::os::unix::fs::PermissionsExt;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "what others have made")]
    fn a_place_of_others_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (shared, file) = (at("shared"), at("file"));
        std::fs::create_dir(&shared).unwrap();
        std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o1777)).unwrap();
        std::fs::write(&file, "").unwrap();
        for bad in [&shared, &file] {
            for (state, run) in [(bad, &at("r")), (&at("s"), bad)] {
                let refused = Instance::open(state, run).map(drop);
                assert!(matches!(refused, Err(Error::Unusable { .. })), "{refused:?}");
            }
        }
        assert_eq!(std::fs::metadata(&shared).unwrap().mode() & 0o7777, 0o1777);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is made");
        std::fs::create_dir(at("disk")).unwrap();
        std::os::unix::fs::symlink(at("disk"), at("s")).unwrap();
        Instance::open(&at("s"), &at("r")).map(drop).unwrap();
    }

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
            assert!(!other.exists(), "nothing is made");
        }
        drop(first);
        Instance::open(&state, &run).unwrap();
    }

    #[test]
    fn one_that_is_about_to_be_gone_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (state, run) = (dir.path().join("s"), dir.path().join("r"));
        let first = Instance::open(&state, &run).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(4 * PAUSE);
                drop(first);
            });
            Instance::open(&state, &run).map(drop).unwrap();
        });
    }

    #[test]
    fn directories_are_absolute_and_such_as_conmon_takes() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("r");
        for bad in ["a:b", "a\nb", "a\u{7f}b"] {
            let state = dir.path().join(bad);
            let refused = Instance::open(&state, &run).unwrap_err();
            assert!(matches!(refused, Error::Unusable { .. }), "{bad:?}: {refused:?}");
            assert!(!state.exists() && !run.exists(), "{bad:?}: nothing is made");
        }
        let here = std::env::current_dir().unwrap();
        let up = "../".repeat(here.components().count());
        let relative = Path::new(&up).join(dir.path().strip_prefix("/").unwrap());
        let instance = Instance::open(&relative.join("s"), &relative.join("a:b")).unwrap();
        assert!(instance.state_dir().is_absolute() && instance.run_dir().is_absolute());
    }

    #[test]
    fn names_tell_daemons_apart() {
        let tag = Tag::new("1a2b3c").unwrap();
        let id: ContainerId = "0123456789abcdef".repeat(4).parse().unwrap();
        assert_eq!(tag.table().to_string(), "tare_1a2b3c");
        assert_eq!(tag.bridge(0).to_string(), "tare0-1a2b3c");
        assert_eq!(tag.namespace(&id).to_string(), "tare-1a2b3c-0123456789ab");
        assert_eq!(tag.cgroup_root().as_str(), "/tare-1a2b3c");
        assert_eq!(Tag::NONE.cgroup(&id).to_string(), format!("/tare/{id}"));
        assert_eq!(tag.scope(&id), "tare-1a2b3c-0123456789ab.scope");
        assert_eq!(Tag::NONE.namespace(&id).to_string(), "tare-0123456789ab");
        assert_eq!(Tag::NONE.bridge(0).to_string(), "tare0");
        for (name, ours) in [
            ("tare-0123456789ab", true),
            ("tare-1a2b3c-0123456789ab", false),
            ("tare-0123456789abc", false),
            ("tare-0123456789ag", false),
            ("other-0123456789ab", false),
        ] {
            assert_eq!(Tag::NONE.is_namespace(name), ours, "{name}");
            assert_eq!(Tag::NONE.is_scope(&format!("{name}.scope")), ours, "{name}");
            assert!(!Tag::NONE.is_scope(name), "{name}");
        }
        assert!(tag.is_scope("tare-1a2b3c-0123456789ab.scope"));
        for bad in ["", "12345", "1234567", "12345G", "12345A"] {
            assert_eq!(Tag::new(bad), None, "{bad}");
        }
    }
}
