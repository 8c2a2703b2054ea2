//! What kind of control groups a host has; figures, freezing and killing of one group.
//!
//! Only cgroup2 is read. On hosts whose controllers sit in version 1, containers still get groups
//! in the cgroup2 hierarchy beside it, and the figures of absent controllers are absent.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat, openat2};
use serde::Serialize;

use crate::Error;
use crate::step::{Order, Step, run};

/// Longest file of a control group that is read, in bytes: room for 100,000 pids.
const MAX_FILE: u64 = 1 << 20;
/// How deep groups are followed; the kernel's own default limit is far higher, sense is not.
const MAX_DEPTH: usize = 32;

/// Which control groups a host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// cgroup2 alone, at `/sys/fs/cgroup`.
    Unified,
    /// Controllers in version 1, and cgroup2 mounted beside them.
    Hybrid,
    /// Version 1 alone, or nothing.
    Legacy,
}

/// The control groups of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// What there is.
    pub kind: Kind,
    /// Where cgroup2 is mounted, if it is.
    pub cgroup2_mount: Option<PathBuf>,
    /// The controllers of cgroup2, like `memory`.
    pub controllers: Vec<String>,
}

impl Host {
    /// Looks at the mounts of this process.
    ///
    /// # Errors
    ///
    /// [`Error::CgroupHost`].
    pub fn detect() -> Result<Self, Error> {
        let detect = || -> io::Result<Self> {
            let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo")?;
            let unified = cgroups_rs::hierarchies::is_cgroup2_unified_mode();
            let (kind, cgroup2_mount) = classify(unified, &mounts);
            let controllers = match &cgroup2_mount {
                Some(mount) => std::fs::read_to_string(mount.join("cgroup.controllers"))?,
                None => String::new(),
            };
            let controllers = controllers.split_ascii_whitespace().map(Into::into).collect();
            Ok(Self { kind, cgroup2_mount, controllers })
        };
        detect().map_err(|source| Error::CgroupHost { source })
    }

    /// Opens the group at `path`, absolute below the root of cgroup2. `None` if it is not there.
    ///
    /// # Errors
    ///
    /// [`Error::CgroupOpen`], also if the host has no cgroup2.
    pub fn open(&self, path: &str) -> Result<Option<Cgroup>, Error> {
        let open = || -> io::Result<OwnedFd> {
            let root = self.cgroup2_mount.as_ref().ok_or(io::ErrorKind::Unsupported)?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = rustix::fs::open(root, flags, Mode::empty())?;
            open_below(root.as_fd(), path.trim_start_matches('/'))
        };
        match open() {
            Ok(dir) => Ok(Some(Cgroup { path: path.into(), dir })),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(source) => Err(Error::CgroupOpen { path: path.into(), source }),
        }
    }
}

/// Has the kernel get ready to move processes between control groups.
///
/// Before it moves the first one, it waits for a grace period of RCU, which takes 8 to 16 ms; what
/// follows within about that time is moved at once. This moves the calling process to the group that
/// it is in, and returns when that is done. Who has it done so much before a process must be moved
/// does not wait then.
///
/// # Errors
///
/// [`Error::CgroupHost`], [`Error::CgroupOpen`] and those of the step.
pub fn expect_moves(host: &Host) -> Result<(), Error> {
    let groups = std::fs::read_to_string("/proc/self/cgroup");
    let groups = groups.map_err(|source| Error::CgroupHost { source })?;
    match own_group(&groups).map(|own| host.open(own)).transpose()?.flatten() {
        Some(group) => group.order(Order::TakeMe),
        None => Ok(()),
    }
}

/// The group of a process in cgroup2, by its `/proc/<pid>/cgroup`, if it is below the root that is seen
/// here; see `cgroup_namespaces(7)`.
fn own_group(groups: &str) -> Option<&str> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    (!group.starts_with("/..")).then_some(group)
}

fn open_below(dir: impl AsFd, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(openat2(dir, path.as_ref(), flags, Mode::empty(), within)?)
}

/// What a mount table means, given whether `/sys/fs/cgroup` is cgroup2.
fn classify(unified: bool, mountinfo: &str) -> (Kind, Option<PathBuf>) {
    if unified {
        return (Kind::Unified, Some("/sys/fs/cgroup".into()));
    }
    let cgroup2 = mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        // Only a mount of the whole hierarchy shows all groups.
        let (root, mount) = (fields.next()?, fields.next()?);
        (root == "/" && after.starts_with("cgroup2 ")).then(|| PathBuf::from(mount))
    });
    (if cgroup2.is_some() { Kind::Hybrid } else { Kind::Legacy }, cgroup2)
}

/// One control group, held by its directory: it never comes to mean a later one of that name.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    dir: OwnedFd,
}

/// What a group has used and may use. `None`: the controller is not there, or no limit is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Figures {
    /// CPU time, in microseconds.
    pub cpu_usec: Option<u64>,
    /// Of it in user space, in microseconds.
    pub cpu_user_usec: Option<u64>,
    /// Of it in the kernel, in microseconds.
    pub cpu_system_usec: Option<u64>,
    /// For how long it was throttled, in microseconds.
    pub cpu_throttled_usec: Option<u64>,
    /// Memory in use, in bytes.
    pub memory_bytes: Option<u64>,
    /// The most memory that was in use, in bytes (Linux 5.19).
    pub memory_peak_bytes: Option<u64>,
    /// Limit of memory, in bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Swap in use, in bytes.
    pub memory_swap_bytes: Option<u64>,
    /// How many processes were killed for lack of memory.
    pub oom_kills: Option<u64>,
    /// Number of tasks.
    pub pids: Option<u64>,
    /// Limit of the number of tasks.
    pub pids_limit: Option<u64>,
    /// Share of the last ten seconds in which something of it waited for a processor, in hundredths
    /// of a percent.
    pub pressure_cpu: Option<u32>,
    /// The same of memory.
    pub pressure_memory: Option<u32>,
    /// The same of disks.
    pub pressure_io: Option<u32>,
}

/// What a group has read from and written to one disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DiskFigures {
    /// Major and minor number of the disk.
    pub device: (u32, u32),
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Number of reads.
    pub reads: u64,
    /// Number of writes.
    pub writes: u64,
}

impl Cgroup {
    /// Kills all processes in it and below, at once. In one that has been removed since it was opened
    /// there are none.
    ///
    /// # Errors
    ///
    /// [`Error::Step`].
    pub fn kill(&self) -> Result<(), Error> {
        match self.order(Order::Kill) {
            Err(Error::Step { source, .. }) if is_gone(&source) && self.is_removed() => Ok(()),
            killed => killed,
        }
    }

    /// What every group has cannot be read any more: a missing file says no more than that.
    fn is_removed(&self) -> bool {
        read_file(&self.dir, "cgroup.procs").is_err_and(|error| is_gone(&error))
    }

    /// Begins to stop all processes in it and below; [`is_frozen`](Self::is_frozen) tells when
    /// they have.
    ///
    /// # Errors
    ///
    /// [`Error::Step`].
    pub fn freeze(&self) -> Result<(), Error> {
        self.order(Order::Freeze)
    }

    /// Lets them run again.
    ///
    /// # Errors
    ///
    /// [`Error::Step`].
    pub fn thaw(&self) -> Result<(), Error> {
        self.order(Order::Thaw)
    }

    /// Writes `text` to `file`, one that limits what its processes may use.
    ///
    /// # Errors
    ///
    /// [`Error::Step`], also if there is no such file: its controller is not there, or the kernel
    /// lacks it.
    pub fn limit(&self, file: &str, text: &str) -> Result<(), Error> {
        let step = Step::Limit { dir: self.dir.as_fd(), path: &self.path, file, text };
        if file.contains('/') {
            let source = io::ErrorKind::InvalidInput.into();
            return Err(Error::Step { step: step.to_string(), source });
        }
        run(&step)
    }

    fn order(&self, order: Order) -> Result<(), Error> {
        run(&Step::Cgroup { dir: self.dir.as_fd(), path: &self.path, order })
    }

    /// Whether there are processes in it or below. In one that has been removed since it was opened there
    /// are none.
    ///
    /// # Errors
    ///
    /// [`Error::CgroupRead`].
    pub fn is_populated(&self) -> Result<bool, Error> {
        match read_file(&self.dir, "cgroup.events") {
            Ok(events) => Ok(keyed(&events, "populated") == Some(1)),
            Err(error) if is_gone(&error) && self.is_removed() => Ok(false),
            Err(error) => Err(self.read_error("cgroup.events", error)),
        }
    }

    /// Whether all processes in it and below are stopped.
    ///
    /// # Errors
    ///
    /// [`Error::CgroupRead`].
    pub fn is_frozen(&self) -> Result<bool, Error> {
        Ok(keyed(&self.read("cgroup.events")?, "frozen") == Some(1))
    }

    /// The pids in it and below, as seen from this process; they may be gone by now.
    ///
    /// # Errors
    ///
    /// [`Error::CgroupRead`].
    pub fn processes(&self) -> Result<Vec<u32>, Error> {
        let mut pids = Vec::new();
        collect_pids(&self.dir, MAX_DEPTH, &mut pids)
            .map_err(|source| self.read_error("cgroup.procs", source))?;
        Ok(pids)
    }

    /// What it has used and may use.
    ///
    /// # Errors
    ///
    /// [`Error::CgroupRead`].
    pub fn figures(&self) -> Result<Figures, Error> {
        let cpu = self.read("cpu.stat")?;
        let events = self.read_if_there("memory.events")?;
        let number = |file| Ok::<_, Error>(self.read_if_there(file)?.trim().parse().ok());
        Ok(Figures {
            cpu_usec: keyed(&cpu, "usage_usec"),
            cpu_user_usec: keyed(&cpu, "user_usec"),
            cpu_system_usec: keyed(&cpu, "system_usec"),
            cpu_throttled_usec: keyed(&cpu, "throttled_usec"),
            memory_bytes: number("memory.current")?,
            memory_peak_bytes: number("memory.peak")?,
            memory_limit_bytes: number("memory.max")?,
            memory_swap_bytes: number("memory.swap.current")?,
            oom_kills: keyed(&events, "oom_kill"),
            pids: number("pids.current")?,
            pids_limit: number("pids.max")?,
            pressure_cpu: self.pressure("cpu.pressure")?,
            pressure_memory: self.pressure("memory.pressure")?,
            pressure_io: self.pressure("io.pressure")?,
        })
    }

    /// What it has read and written, by disk; nothing where the controller is absent.
    ///
    /// # Errors
    ///
    /// [`Error::CgroupRead`].
    pub fn disks(&self) -> Result<Vec<DiskFigures>, Error> {
        Ok(self.read_if_there("io.stat")?.lines().filter_map(disk).collect())
    }

    /// A kernel may have these files and not keep them up.
    fn pressure(&self, file: &'static str) -> Result<Option<u32>, Error> {
        match read_file(&self.dir, file) {
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    || error.raw_os_error() == Some(libc::EOPNOTSUPP) =>
            {
                Ok(None)
            }
            Err(error) => Err(self.read_error(file, error)),
            Ok(text) => Ok(some_of_ten_seconds(&text)),
        }
    }

    fn read(&self, file: &'static str) -> Result<String, Error> {
        read_file(&self.dir, file).map_err(|source| self.read_error(file, source))
    }

    /// Empty if there is no such file.
    fn read_if_there(&self, file: &'static str) -> Result<String, Error> {
        match read_file(&self.dir, file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            result => result.map_err(|source| self.read_error(file, source)),
        }
    }

    fn read_error(&self, file: &'static str, source: io::Error) -> Error {
        Error::CgroupRead { path: self.path.clone(), file, source }
    }
}

fn read_file(dir: impl AsFd, file: &str) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = File::from(openat(dir, file, flags, Mode::empty())?);
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// The number after `key` in a file of lines `key number`.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
}

/// `some avg10=1.25 ...`, in hundredths.
fn some_of_ten_seconds(text: &str) -> Option<u32> {
    let some = text.lines().find_map(|line| line.strip_prefix("some avg10="))?;
    let (whole, part) = some.split_whitespace().next()?.split_once('.')?;
    Some(whole.parse::<u32>().ok()?.checked_mul(100)? + part.parse::<u32>().ok()?)
}

/// One line of `io.stat`; a disk that was not used may have no figures at all.
fn disk(line: &str) -> Option<DiskFigures> {
    let mut words = line.split_ascii_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let mut figures = DiskFigures { device, ..DiskFigures::default() };
    for (key, value) in words.filter_map(|word| word.split_once('=')) {
        let Ok(value) = value.parse() else { continue };
        match key {
            "rbytes" => figures.read_bytes = value,
            "wbytes" => figures.written_bytes = value,
            "rios" => figures.reads = value,
            "wios" => figures.writes = value,
            _ => {}
        }
    }
    Some(figures)
}

fn collect_pids(dir: &OwnedFd, depth: usize, pids: &mut Vec<u32>) -> io::Result<()> {
    pids.extend(read_file(dir, "cgroup.procs")?.lines().filter_map(|pid| pid.parse::<u32>().ok()));
    if depth == 0 {
        return Ok(());
    }
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_dir = match entry.file_type() {
            FileType::Directory => true,
            FileType::Unknown => {
                let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            }
            _ => false,
        };
        if !is_dir || matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        // A group below may be removed while it is looked at.
        match open_below(dir, Path::new(&*name.to_string_lossy()))
            .and_then(|below| collect_pids(&below, depth - 1, pids))
        {
            Err(error) if !is_gone(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// What is said of a file of a group that has been removed.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 22 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 30 0:28 /nested /elsewhere rw,relatime - cgroup2 cgroup2 rw
33 30 0:28 / /sys/fs/cgroup/unified rw,relatime shared:4 - cgroup2 cgroup2 rw
";

    #[test]
    fn hosts_are_told_apart() {
        for (about, unified, mounts, want) in [
            ("unified", true, "", (Kind::Unified, Some("/sys/fs/cgroup"))),
            ("hybrid", false, HYBRID, (Kind::Hybrid, Some("/sys/fs/cgroup/unified"))),
            ("legacy", false, &HYBRID[..130], (Kind::Legacy, None)),
            ("nothing", false, "", (Kind::Legacy, None)),
        ] {
            let (kind, mount) = classify(unified, mounts);
            assert_eq!((kind, mount.as_deref()), (want.0, want.1.map(Path::new)), "{about}");
        }
    }

    #[test]
    fn keys_are_whole_words() {
        let text = "usage_usec 12\nuser_usec 7\nbad x\n";
        assert_eq!(keyed(text, "usage_usec"), Some(12));
        assert_eq!(keyed(text, "user"), None);
        assert_eq!(keyed(text, "bad"), None);
        assert_eq!(keyed("", "x"), None);
    }

    /// A directory that looks like a control group: reading needs no kernel.
    fn fake(files: &[(&str, &str)]) -> (tempfile::TempDir, Cgroup) {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join("a").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let cgroup2_mount = Some(root.path().to_path_buf());
        let host = Host { kind: Kind::Unified, cgroup2_mount, controllers: vec![] };
        let cgroup = host.open("/a").unwrap().unwrap();
        (root, cgroup)
    }

    #[test]
    fn absent_controllers_have_absent_figures() {
        let (_root, cgroup) = fake(&[
            ("cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\n"),
            ("memory.current", "4096\n"),
            ("memory.max", "max\n"),
            ("memory.events", "oom 1\noom_kill 2\n"),
            ("cpu.pressure", "some avg10=1.25 avg60=0.00 total=7\nfull avg10=9.00 total=0\n"),
            ("io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 \nx\n"),
        ]);
        let want = Figures {
            cpu_usec: Some(5),
            cpu_user_usec: Some(3),
            cpu_system_usec: Some(2),
            memory_bytes: Some(4096),
            oom_kills: Some(2),
            pressure_cpu: Some(125),
            ..Figures::default()
        };
        assert_eq!(cgroup.figures().unwrap(), want);
        let used =
            DiskFigures { device: (8, 0), read_bytes: 10, written_bytes: 20, reads: 1, writes: 2 };
        let unused = DiskFigures { device: (8, 16), ..DiskFigures::default() };
        assert_eq!(cgroup.disks().unwrap(), [used, unused]);
    }

    #[test]
    fn processes_of_groups_below_count() {
        let (_root, cgroup) = fake(&[
            ("cgroup.procs", "1\n2\n"),
            ("b/cgroup.procs", "3\n"),
            ("b/c/cgroup.procs", "4\n"),
            ("cgroup.events", "populated 1\nfrozen 0\n"),
        ]);
        let mut pids = cgroup.processes().unwrap();
        pids.sort_unstable();
        assert_eq!(pids, [1, 2, 3, 4]);
        assert!(cgroup.is_populated().unwrap());
        assert!(!cgroup.is_frozen().unwrap());
    }

    #[test]
    fn orders_are_written_to_the_right_files() {
        let (root, cgroup) =
            fake(&[("cgroup.kill", ""), ("cgroup.freeze", ""), ("cgroup.procs", "")]);
        let content = |file| std::fs::read_to_string(root.path().join("a").join(file)).unwrap();
        cgroup.kill().unwrap();
        assert_eq!(content("cgroup.kill"), "1");
        cgroup.freeze().unwrap();
        assert_eq!(content("cgroup.freeze"), "1");
        cgroup.thaw().unwrap();
        assert_eq!(content("cgroup.freeze"), "0");
        cgroup.order(Order::TakeMe).unwrap();
        assert_eq!(content("cgroup.procs"), "0", "whoever writes it");
    }

    #[test]
    fn the_group_of_a_process_is_that_of_cgroup2() {
        let hybrid = "4:memory:/m\n1:name=systemd:/s\n0::/system.slice/tared.service\n";
        assert_eq!(own_group(hybrid), Some("/system.slice/tared.service"));
        assert_eq!(own_group("0::/\n"), Some("/"));
        assert_eq!(own_group("4:memory:/m\n"), None);
        assert_eq!(own_group("0::/../other\n"), None, "it is not seen from here");
    }

    #[test]
    fn nobody_is_in_a_group_that_was_removed() {
        let (root, cgroup) = fake(&[("cgroup.procs", "1\n")]);
        assert!(matches!(cgroup.kill(), Err(Error::Step { .. })), "it cannot be told to");
        assert!(matches!(cgroup.is_populated(), Err(Error::CgroupRead { .. })), "it does not say");
        std::fs::remove_dir_all(root.path().join("a")).unwrap();
        cgroup.kill().unwrap();
        assert!(!cgroup.is_populated().unwrap());
    }

    #[test]
    fn no_path_leads_out_of_the_hierarchy() {
        let (root, _cgroup) = fake(&[("cgroup.procs", "")]);
        std::os::unix::fs::symlink("/", root.path().join("link")).unwrap();
        let cgroup2_mount = Some(root.path().join("a"));
        let host = Host { kind: Kind::Unified, cgroup2_mount, controllers: vec![] };
        assert!(host.open("/..").is_err());
        assert!(host.open("/absent").unwrap().is_none());
        let cgroup2_mount = Some(root.path().to_path_buf());
        let host = Host { kind: Kind::Unified, cgroup2_mount, controllers: vec![] };
        assert!(host.open("/link").is_err());
        let host = Host { kind: Kind::Legacy, cgroup2_mount: None, controllers: vec![] };
        assert!(host.open("/a").is_err());
    }
}
