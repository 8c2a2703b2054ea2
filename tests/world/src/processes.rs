//! Processes that have to do with a daemon.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use super::things::Things;
use super::{Scope, cgroups, names_in};

/// A process.
#[derive(Clone, Debug)]
pub struct Process {
    pub(super) pid: i32,
    /// What is on its command line; of one that has ended, its name.
    command_line: String,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Lives,
    /// It has ended, and its parent has not asked how.
    Zombie,
}

impl Process {
    /// Ends it.
    pub fn kill(&self) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// What its program is called.
    fn program(&self) -> &str {
        let program = self.command_line.split(' ').next().unwrap_or_default();
        Path::new(program).file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    pub(super) fn is_daemon(&self, scope: &Scope) -> bool {
        self.fate == Fate::Lives && scope.daemons.iter().any(|name| name == self.program())
    }

    /// A daemon and its bus that were started anew are as good as the old ones.
    fn how(&self, scope: &Scope) -> String {
        match self.fate {
            Fate::Zombie => "has ended, and nobody waits for it".into(),
            Fate::Lives if self.is_daemon(scope) || self.program() == "dbus-daemon" => {
                String::new()
            }
            Fate::Lives => format!("process {}", self.pid),
        }
    }
}

pub(super) fn things(processes: &[Process], scope: &Scope) -> Things {
    processes.iter().map(|it| (it.command_line.clone(), it.how(scope))).collect()
}

/// The processes of a scope: `tared`, its bus, conmon, runtimes, and everything in a container. By
/// their command lines, their mounts, or their control groups; what a daemon has started; and what it
/// should have waited for.
///
/// Other zombies do not count: where PID 1 is not a real init, it is slow to reap what nobody else
/// waits for.
pub fn all(scope: &Scope) -> Vec<Process> {
    let mut search = Search::new(scope);
    let pids = names_in(Path::new("/proc")).into_iter().filter_map(|name| name.parse().ok());
    let (living, ended): (Vec<_>, Vec<_>) = pids.partition(|pid| !command_line(*pid).is_empty());
    let (ours, others): (Vec<_>, Vec<_>) = living.into_iter().partition(|pid| search.is_ours(*pid));
    let lives = |pid| Process { pid, command_line: command_line(pid), fate: Fate::Lives };
    let ours: Vec<Process> = ours.into_iter().map(lives).collect();
    let daemons: Vec<i32> = ours.iter().filter(|it| it.is_daemon(scope)).map(|it| it.pid).collect();
    let is_child = |pid: &i32| parent(*pid).is_some_and(|parent| daemons.contains(&parent));
    let children = others.into_iter().filter(is_child).map(lives);
    let zombies = ended.into_iter().filter_map(|pid| zombie_of(&daemons, pid));
    ours.iter().cloned().chain(children).chain(zombies).collect()
}

/// A search for processes.
struct Search<'s> {
    scope: &'s Scope,
    /// Those in its control groups.
    grouped: BTreeSet<i32>,
    /// Whether something of the scope is mounted in a mount namespace: one answer for all that
    /// share it. In the caller's own there may be, which says nothing of who else is there.
    namespaces: HashMap<String, bool>,
}

impl<'s> Search<'s> {
    fn new(scope: &'s Scope) -> Self {
        let groups = cgroups::all(scope);
        let grouped = groups.iter().flat_map(|group| cgroups::processes_of(group)).collect();
        let own = [mount_namespace("thread-self"), mount_namespace("self")];
        let namespaces = own.into_iter().flatten().map(|own| (own, false)).collect();
        Self { scope, grouped, namespaces }
    }

    fn is_ours(&mut self, pid: i32) -> bool {
        let is_this = u32::try_from(pid).is_ok_and(|pid| pid == std::process::id());
        let marked = |line: &str| self.scope.bears_mark(line);
        let listed = !is_this && (self.grouped.contains(&pid) || marked(&command_line(pid)));
        listed || self.has_mounts_of_ours(pid) || (!is_this && self.is_in_network_of_ours(pid))
    }

    fn is_in_network_of_ours(&self, pid: i32) -> bool {
        let network = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap_or_default();
        self.scope.bears_mark(&network.to_string_lossy())
    }

    fn has_mounts_of_ours(&mut self, pid: i32) -> bool {
        let Some(namespace) = mount_namespace(&pid.to_string()) else { return false };
        let marks = &self.scope.marks;
        *self.namespaces.entry(namespace).or_insert_with(|| {
            let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
            marks.iter().any(|mark| table.contains(mark))
        })
    }
}

pub(super) fn mount_namespace(pid: &str) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// Empty for kernel threads and for processes that have ended.
pub(super) fn command_line(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ").trim_end().to_string()
}

fn zombie_of(daemons: &[i32], pid: i32) -> Option<Process> {
    let (name, state, parent) = stat(pid)?;
    (state == "Z" && daemons.contains(&parent)).then(|| Process {
        pid,
        command_line: format!("{name} of a daemon"),
        fate: Fate::Zombie,
    })
}

/// Who has started a process, or has it now; nobody if it is gone.
pub(super) fn parent(pid: i32) -> Option<i32> {
    stat(pid).map(|(_, _, parent)| parent)
}

/// Its name, state and parent.
fn stat(pid: i32) -> Option<(String, String, i32)> {
    // pid (name) state parent ...; the name may hold anything.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let mut rest = rest.split_whitespace();
    Some((name.into(), rest.next()?.into(), rest.next()?.parse().ok()?))
}
