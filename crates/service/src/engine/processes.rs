//! The processes of a container, as `/proc` has them.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, openat};
use rustix::param::{clock_ticks_per_second, page_size};

use super::blocking::brief;
use super::view;
use super::{Engine, Error};
use crate::authority::{Action, Ask, Authorized, Caller, Question};

/// More are not listed: the reply is one message.
const MOST: usize = 8192;
/// Longest command line, in bytes.
const MAX_COMMAND: u64 = 1024;
/// Longest other file of `/proc/PID` that is read, in bytes.
const MAX_FILE: u64 = 16 << 10;

/// A container whose processes are to be listed.
#[derive(Debug)]
pub struct ListProcesses {
    /// Which.
    pub container: Arc<view::Container>,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessRow {
    /// In the host's numbering.
    pub pid: u32,
    /// Its parent's; 0 if that is none we can see.
    pub parent: u32,
    /// Its number in the container.
    pub pid_inside: u32,
    /// Its effective user, in the host's numbering.
    pub uid: u32,
    /// As the kernel has it: R, S, D, Z, T and others.
    pub state: char,
    /// Its arguments, with spaces between them; the name of the program where it has none.
    pub command: String,
    /// Processor time.
    pub cpu_nsec: u64,
    /// Memory that is in use, in bytes.
    pub resident: u64,
}

impl Ask for ListProcesses {
    fn question(&self, by: &Caller) -> Question {
        let verb = "list the processes of";
        Question::about(Action::InspectContainers, &self.container, by).with("verb", verb)
    }
}

impl Engine {
    /// The processes of a container, by number.
    ///
    /// # Errors
    ///
    /// [`Error::NotRunning`], [`Error::Process`].
    pub async fn processes(
        &self,
        request: Authorized<ListProcesses>,
    ) -> Result<Vec<ProcessRow>, Error> {
        let (ListProcesses { container: asked }, _) = request.into_parts();
        let container = self.container(&asked.id)?;
        container.check_unchanged(&asked)?;
        let running = container.running().ok_or_else(|| Error::NotRunning(container.name()))?;
        let group = self.payload(&container, &running)?;
        let within = running.cgroup.payload().to_string();
        brief(move || {
            let failed =
                |error| super::pause::failed_to("list the processes of", &container, error);
            let mut pids = group.processes().map_err(failed)?;
            pids.sort_unstable();
            // One that is gone by now is none.
            let row = |pid| row(pid, &within).ok().flatten();
            Ok(pids.into_iter().filter_map(row).take(MOST).collect())
        })
        .await
    }
}

/// All of it is read of one process, whatever becomes of its number.
fn row(pid: u32, within: &str) -> io::Result<Option<ProcessRow>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty())?;
    if !read(&dir, "cgroup", MAX_FILE)?.lines().any(|line| is_in(line, within)) {
        return Ok(None);
    }
    let status = read(&dir, "status", MAX_FILE)?;
    let stat = read(&dir, "stat", MAX_FILE)?;
    let command = read(&dir, "cmdline", MAX_COMMAND)?;
    Ok(parse(pid, &stat, &status, &command))
}

fn is_in(line: &str, within: &str) -> bool {
    let below = line.strip_prefix("0::").and_then(|group| group.strip_prefix(within));
    below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

fn read(dir: &OwnedFd, file: &str, most: u64) -> io::Result<String> {
    let file = openat(dir, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = Vec::new();
    File::from(file).take(most).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// See `proc_pid_stat(5)` and `proc_pid_status(5)`.
fn parse(pid: u32, stat: &str, status: &str, command: &str) -> Option<ProcessRow> {
    // The name may have spaces and parentheses in it.
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let of = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
    let ticks = number(11)?.saturating_add(number(12)?);
    let arguments = command.trim_end_matches('\0').replace('\0', " ");
    Some(ProcessRow {
        pid,
        parent: u32::try_from(number(1)?).ok()?,
        pid_inside: of("NSpid:")?.split_ascii_whitespace().last()?.parse().ok()?,
        uid: of("Uid:")?.split_ascii_whitespace().nth(1)?.parse().ok()?,
        state: fields.first()?.chars().next()?,
        command: if arguments.is_empty() { name.to_string() } else { arguments },
        cpu_nsec: ticks.saturating_mul(1_000_000_000 / clock_ticks_per_second().max(1)),
        resident: number(21)?.saturating_mul(u64::try_from(page_size()).ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_look_like_anything() {
        let stat = "17 (a) R 9 (b)) S 3 17 17 0 -1 4194560 1 2 3 4 100 50 0 0 20 0 1 0 5 8192 2 9";
        let status = "Name:\tx\nUid:\t1\t7\t1\t1\nNSpid:\t17\t4\n";
        let row = parse(17, stat, status, "sh\0-c\0true\0").unwrap();
        let tick = 1_000_000_000 / clock_ticks_per_second();
        let want = ProcessRow {
            pid: 17,
            parent: 3,
            pid_inside: 4,
            uid: 7,
            state: 'S',
            command: "sh -c true".into(),
            cpu_nsec: 150 * tick,
            resident: 2 * page_size() as u64,
        };
        assert_eq!(row, want);
        assert_eq!(parse(17, stat, status, "").unwrap().command, "a) R 9 (b)");
        assert_eq!(parse(17, "17 (a", status, ""), None);
    }

    #[test]
    fn we_are_a_process() {
        let ours = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let group = ours.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
        let found = row(std::process::id(), group).unwrap().unwrap();
        assert_eq!(found.uid, rustix::process::geteuid().as_raw());
        assert!(found.resident > 0);
        assert_eq!(row(std::process::id(), "/nowhere").unwrap(), None);
    }
}
