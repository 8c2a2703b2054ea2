//! What containers can leave behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use crate::host::run;

/// Everything on the host of a test that a container can leave, by kind.
///
/// One thing is not in it by design: `ip_forward`, which stays on once it was needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World(BTreeMap<&'static str, BTreeSet<String>>);

impl World {
    /// The world of the calling thread, whose scratch directory is `scratch`.
    pub(crate) fn capture(scratch: &Path) -> Self {
        let processes = processes(scratch).iter().map(ToString::to_string).collect();
        Self(BTreeMap::from([
            ("link", links()),
            ("address", lines(&run("ip", &["-o", "addr", "show", "scope", "global"]))),
            ("route", routes()),
            ("network namespace", names_in(Path::new("/run/netns"))),
            ("firewall", lines(&run("nft", &["list", "ruleset"]))),
            ("mount", mounts()),
            ("control group", cgroups(scratch)),
            ("process", processes),
            ("file", files(scratch)),
        ]))
    }

    /// What is in `now` and not in this world, and the other way round; a line each.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        for (kind, before) in &self.0 {
            let now = &now.0[kind];
            differences.extend(now.difference(before).map(|it| format!("new {kind}: {it}")));
            differences.extend(before.difference(now).map(|it| format!("gone {kind}: {it}")));
        }
        differences
    }
}

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(|line| line.trim_end().to_string()).collect()
}

/// Without the link-local ones of IPv6, which the kernel makes some time after a link is up, and
/// without the mark that a link has no carrier, which it sets some time after a bridge lost a port.
fn routes() -> BTreeSet<String> {
    let table = run("ip", &["route", "show", "table", "all"]);
    let ours = |route: &&str| !route.contains("fe80::") && !route.contains("ff00::");
    let settled = |route: &str| {
        let words = route.split_whitespace().filter(|word| *word != "linkdown");
        words.collect::<Vec<_>>().join(" ")
    };
    table.lines().filter(ours).map(settled).collect()
}

fn names_in(dir: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(dir) else { return BTreeSet::new() };
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Names and masters. Whether a link is up follows from what is connected to it.
fn links() -> BTreeSet<String> {
    let text = run("ip", &["-o", "link"]);
    let name_and_master = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let master = words.iter().position(|word| *word == "master").map(|at| words[at + 1]);
        format!("{} {}", words[1], master.unwrap_or_default())
    };
    text.lines().map(name_and_master).collect()
}

/// Without the numbers of mounts: what is mounted where, and how.
fn mounts() -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    table.lines().map(|line| line.splitn(3, ' ').nth(2).unwrap().to_string()).collect()
}

/// The groups of the test's daemons: the one thing that others on the machine have beside them.
pub(crate) fn cgroups(scratch: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for tag in tags(scratch) {
        let group = cgroup2().join(format!("tare-{tag}"));
        walk(&group, &mut |path| {
            if path.is_dir() {
                found.insert(path.display().to_string());
            }
        });
        found.extend(group.exists().then(|| group.display().to_string()));
    }
    found
}

/// What tells the names of one daemon from those of another. It is said nowhere but in the
/// database, where the value follows its key.
fn tags(scratch: &Path) -> BTreeSet<String> {
    const KEY: &[u8] = b"tag";
    const LENGTH: usize = 6;
    let mut tags = BTreeSet::new();
    for (instance, file) in names_in(scratch)
        .iter()
        .flat_map(|instance| [(instance, "state.db"), (instance, "state.db-wal")])
    {
        let bytes = fs::read(scratch.join(instance).join(file)).unwrap_or_default();
        let windows = bytes.windows(KEY.len() + LENGTH).filter(|it| it.starts_with(KEY));
        let texts = windows.filter_map(|it| std::str::from_utf8(&it[KEY.len()..]).ok());
        tags.extend(texts.filter(|it| it.bytes().all(|b| b.is_ascii_hexdigit())).map(Into::into));
    }
    tags
}

/// Where cgroup2 is mounted.
fn cgroup2() -> PathBuf {
    let unified = PathBuf::from("/sys/fs/cgroup/unified");
    if unified.exists() { unified } else { "/sys/fs/cgroup".into() }
}

/// All that a daemon keeps for containers, in whatever state or run directory in `scratch`, but
/// for what it needs itself: locks, databases, and directories that stay when they are empty.
fn files(scratch: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for instance in names_in(scratch) {
        for place in ["containers", "logs", "bus", "oci/crun", "oci/runc"] {
            walk(&scratch.join(&instance).join(place), &mut |path| {
                found.insert(path.display().to_string());
            });
        }
    }
    found
}

/// Calls `see` with everything below `dir`.
fn walk(dir: &Path, see: &mut impl FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        see(&entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), see);
        }
    }
}

/// A process that has to do with a test.
#[derive(Debug)]
pub(crate) struct Process {
    pid: i32,
    command_line: String,
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.pid, self.command_line)
    }
}

impl Process {
    /// Ends it.
    pub(crate) fn kill(&self) {
        let _ = kill_process(Pid::from_raw(self.pid).unwrap(), Signal::KILL);
    }
}

/// Processes that name the scratch directory on their command line, or have mounts from it:
/// `tared`, its bus, conmon, runtimes, and everything in a container.
///
/// Zombies have neither, so they do not count: where PID 1 is not a real init, it is slow to reap
/// what nobody else waits for.
pub(crate) fn processes(scratch: &Path) -> Vec<Process> {
    let mark = scratch.file_name().unwrap().to_str().unwrap();
    let own = i32::try_from(std::process::id()).unwrap();
    let pids = names_in(Path::new("/proc")).into_iter().filter_map(|name| name.parse().ok());
    let mut found = Vec::new();
    for pid in pids.filter(|pid| *pid != own) {
        let read = |file| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let line = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        if line.contains(mark) || has_mounts_from(mark, &read("mountinfo")) {
            found.push(Process { pid, command_line: line.trim_end().to_string() });
        }
    }
    found
}

/// Whether something from below the scratch directory is mounted; that the directory itself has
/// the host's `resolv.conf` in it is so for all processes of the test.
fn has_mounts_from(mark: &str, mounts: &[u8]) -> bool {
    String::from_utf8_lossy(mounts)
        .lines()
        .any(|line| line.contains(mark) && !line.contains(&format!("{mark}/resolv.conf")))
}
