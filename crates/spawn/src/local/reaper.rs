//! Collects dead processes that became children of this process without being started by it.
//!
//! conmon leaves its parent, and where that is a child subreaper it becomes its child again. Nobody
//! waits for it there; and until somebody does, the kernel does not tell how a process ended.
//!
//! Where a conmon was killed, what it watched over becomes a child of this process, too. So the exit
//! file that conmon cannot write any more is written here.

use std::collections::HashMap;
use std::io;
use std::mem::take;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus, waitid};

use super::orphans;
use crate::launch::Fd;
use crate::step::Step;
use crate::{CgroupPath, sys};

/// How many processes are watched together at most: a group that is cleared can hold thousands, but
/// all but a few are children of one another or of a container's first process.
const MAX_FAMILY: usize = 256;
/// How many ends are heard of at a time.
const MAX_EVENTS: usize = 64;
/// What stands for the order to end; families are counted from 0.
const STOP: u64 = u64::MAX;

/// A thread that waits for processes, once [`start`](Self::start)ed; it ends when this is dropped.
///
/// It waits for processes it was told of only, so it takes no child away from anybody else.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
    running: OnceLock<Running>,
}

#[derive(Debug)]
struct Running {
    watched: Arc<Watched>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Watched {
    epoll: OwnedFd,
    stop: OwnedFd,
    families: Mutex<Families>,
}

impl Reaper {
    /// Starts the thread, unless it runs. Its namespaces are those of the calling thread.
    pub(crate) fn start(&self) -> io::Result<()> {
        if self.running.get().is_none() {
            // If two do so at once, one of the threads ends again.
            let _ = self.running.set(Running::new()?);
        }
        Ok(())
    }

    /// Collects those of `family` that are children of this process when they have ended.
    pub(crate) fn watch(&self, family: Vec<Relative>) {
        if let Some(running) = self.running.get() {
            running.watched.watch(family, Vec::new());
        }
    }

    /// A family that is yet to be found, and is watched from when this is dropped.
    pub(crate) fn kin(&self) -> Kin<'_> {
        Kin { reaper: self, family: Vec::new(), doomed: Vec::new() }
    }
}

impl Running {
    fn new() -> io::Result<Self> {
        let watched = Arc::new(Watched::new()?);
        let ours = watched.clone();
        let thread = thread::Builder::new().name("tare-reaper".into()).spawn(move || ours.run())?;
        Ok(Self { watched, thread: Some(thread) })
    }
}

impl Drop for Running {
    #[expect(clippy::disallowed_methods, reason = "tells its own thread, and nobody else")]
    fn drop(&mut self) {
        let told = rustix::io::write(&self.watched.stop, &1_u64.to_ne_bytes());
        if let (Ok(_), Some(thread)) = (told, self.thread.take()) {
            // A panic there has been printed, and nobody depends on it any more.
            let _ = thread.join();
        }
    }
}

impl Watched {
    fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
        epoll::add(&epoll, &stop, EventData::new_u64(STOP), EventFlags::IN)?;
        Ok(Self { epoll, stop, families: Mutex::default() })
    }

    fn watch(&self, family: Vec<Relative>, doomed: Vec<CgroupPath>) {
        if family.is_empty() {
            return;
        }
        if let Err(source) = self.add(family, doomed) {
            // What was asked for is done all the same; all that is lost is an entry in a table.
            tracing::warn!(%source, "cannot watch a process; it may stay as a zombie");
        }
    }

    fn add(&self, family: Vec<Relative>, doomed: Vec<CgroupPath>) -> io::Result<()> {
        let mut families = self.families();
        for (key, pidfd) in families.add(family, doomed) {
            epoll::add(&self.epoll, pidfd, EventData::new_u64(key), EventFlags::IN)?;
        }
        Ok(())
    }

    fn run(&self) {
        let mut events = Vec::with_capacity(MAX_EVENTS);
        loop {
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return tracing::error!(%errno, "cannot wait for processes any more"),
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    STOP => return,
                    key => self.ended(key),
                }
            }
        }
    }

    fn ended(&self, key: u64) {
        let mut families = self.families();
        if let Some(pidfd) = families.pidfd(key) {
            // It stays readable; and the caller holds the same open file, so closing is not enough.
            let _ = epoll::delete(&self.epoll, pidfd);
        }
        let doomed = families.ended(key, reap);
        drop(families);
        // Those whose parent was the last of them are our children now.
        self.watch(orphans(&doomed), doomed);
    }

    fn families(&self) -> MutexGuard<'_, Families> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn orphans(doomed: &[CgroupPath]) -> Vec<Relative> {
    doomed.iter().flat_map(orphans::of_group).map(Into::into).collect()
}

/// A process to be watched.
#[derive(Debug)]
pub(crate) struct Relative {
    /// Known of all but those that were adopted.
    pid: Option<Pid>,
    pidfd: OwnedFd,
    /// Where its exit code goes if this process is the one to learn it.
    exit_file: Option<PathBuf>,
}

impl From<OwnedFd> for Relative {
    fn from(pidfd: OwnedFd) -> Self {
        Self { pid: None, pidfd, exit_file: None }
    }
}

impl From<(Pid, OwnedFd)> for Relative {
    fn from((pid, pidfd): (Pid, OwnedFd)) -> Self {
        Self { pid: Some(pid), pidfd, exit_file: None }
    }
}

/// Whether a process that has ended was a child of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reaped {
    Yes,
    /// It is another's: of its parent's, which may yet end and leave it to us.
    NotOurs,
}

fn reap(relative: &Relative) -> Reaped {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    match waitid(WaitId::PidFd(relative.pidfd.as_fd()), options) {
        Ok(status) => {
            if let (Some(path), Some(code)) = (&relative.exit_file, status.and_then(code_of)) {
                write_exit_file(path, code);
            }
            Reaped::Yes
        }
        Err(_) => Reaped::NotOurs,
    }
}

/// The code that conmon would write.
fn code_of(status: WaitIdStatus) -> Option<i32> {
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))
}

/// In conmon's place; if conmon came to it after all, that counts.
fn write_exit_file(path: &Path, code: i32) {
    match sys::run(&Step::WriteFile(path.into(), code.to_string().into())) {
        Ok(_) => tracing::info!("wrote an exit code, for conmon was killed"),
        // It is there, or the container has been deleted.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {}
        Err(source) => tracing::warn!(%source, "an exit code is lost, for conmon was killed"),
    }
}

/// Families by number. A key is a family's number and a member's place in it.
#[derive(Debug, Default)]
struct Families {
    next: u64,
    all: HashMap<u64, Family>,
}

/// Processes of which one may be the parent of another: conmon and what it started.
///
/// A member that ended and is not ours is tried again when another ends, for that may have been
/// its parent. What is not ours when all have ended never will be.
#[derive(Debug)]
struct Family {
    members: Vec<Member>,
    /// Groups in which something failed. When all have ended, there may be children of theirs in
    /// them that nobody told of.
    doomed: Vec<CgroupPath>,
}

#[derive(Debug)]
struct Member {
    relative: Relative,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Lives,
    Ended,
    Reaped,
}

impl Families {
    fn add(
        &mut self,
        relatives: Vec<Relative>,
        doomed: Vec<CgroupPath>,
    ) -> impl Iterator<Item = (u64, &OwnedFd)> {
        let number = self.next;
        self.next += 1;
        let member = |mut relative: Relative| {
            relative.exit_file =
                relative.exit_file.take().or_else(|| self.exit_file(relative.pid?));
            Member { relative, state: State::Lives }
        };
        let members = relatives.into_iter().take(MAX_FAMILY).map(member).collect();
        let family = self.all.entry(number).insert_entry(Family { members, doomed }).into_mut();
        let first = number * MAX_FAMILY as u64;
        (first..).zip(family.members.iter().map(|member| &member.relative.pidfd))
    }

    /// Where the exit code of a process goes that is in another family already: it may be reaped as
    /// a member of either. What has not been reaped is alone in having its pid.
    fn exit_file(&self, pid: Pid) -> Option<PathBuf> {
        let members = self.all.values().flat_map(|family| &family.members);
        let members = members.filter(|member| member.state != State::Reaped);
        let mut same = members.map(|member| &member.relative).filter(|it| it.pid == Some(pid));
        same.find_map(|relative| relative.exit_file.clone())
    }

    fn pidfd(&self, key: u64) -> Option<&OwnedFd> {
        let (number, place) = place(key);
        Some(&self.all.get(&number)?.members.get(place)?.relative.pidfd)
    }

    /// Gives the groups to look at, if it was the last of its family.
    fn ended(&mut self, key: u64, mut reap: impl FnMut(&Relative) -> Reaped) -> Vec<CgroupPath> {
        let (number, place) = place(key);
        let Some(Family { members, .. }) = self.all.get_mut(&number) else { return Vec::new() };
        members[place].state = State::Ended;
        for member in members.iter_mut().filter(|member| member.state == State::Ended) {
            if reap(&member.relative) == Reaped::Yes {
                member.state = State::Reaped;
            }
        }
        if members.iter().any(|member| member.state == State::Lives) {
            return Vec::new();
        }
        self.all.remove(&number).map(|family| family.doomed).unwrap_or_default()
    }
}

fn place(key: u64) -> (u64, usize) {
    let most = MAX_FAMILY as u64;
    (key / most, usize::try_from(key % most).unwrap_or_default())
}

/// A family being found; see [`Reaper::kin`].
#[derive(Debug)]
pub(crate) struct Kin<'a> {
    reaper: &'a Reaper,
    family: Vec<Relative>,
    doomed: Vec<CgroupPath>,
}

impl Kin<'_> {
    /// Adds a process; if this process is the one to learn how it ended, that goes to `exit_file`.
    pub(crate) fn add(&mut self, pid: Pid, pidfd: &OwnedFd, exit_file: Option<&Path>) {
        if !self.is_wanted() {
            return;
        }
        match pidfd.try_clone() {
            Ok(pidfd) => {
                let exit_file = exit_file.map(Into::into);
                self.family.push(Relative { pid: Some(pid), pidfd, exit_file });
            }
            Err(source) => tracing::warn!(%source, "cannot watch a process"),
        }
    }

    /// Adds what is in a control group that is about to be cleared.
    pub(crate) fn add_group(&mut self, root: &Fd, path: &CgroupPath) {
        if self.is_wanted() {
            self.family.extend(sys::processes(root, path, MAX_FAMILY).into_iter().map(Into::into));
        }
    }

    /// Adds what is left in a control group whose runtime or conmon failed, whenever it comes to be a
    /// child of this process: what this drop finds there, and what has lost its parent when that
    /// has ended. That looks at all children.
    pub(crate) fn add_doomed_group(&mut self, path: CgroupPath) {
        if self.is_wanted() {
            self.doomed.push(path);
        }
    }

    fn is_wanted(&self) -> bool {
        self.reaper.running.get().is_some()
    }
}

impl Drop for Kin<'_> {
    fn drop(&mut self) {
        let Some(running) = self.reaper.running.get() else { return };
        let (mut family, doomed) = (take(&mut self.family), take(&mut self.doomed));
        family.extend(orphans(&doomed));
        running.watched.watch(family, doomed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(count: usize) -> (Families, Vec<u64>) {
        let mut families = Families::default();
        for _ in 0..3 {
            let pidfd = |_| OwnedFd::from(std::fs::File::open("/dev/null").unwrap()).into();
            families.add((0..count).map(pidfd).collect(), Vec::new()).count();
        }
        let keys = families.all[&1].members.iter().enumerate();
        let keys = keys.map(|(at, _)| (MAX_FAMILY + at) as u64).collect();
        (families, keys)
    }

    #[test]
    fn a_child_of_a_dead_parent_is_tried_again() {
        let (mut families, keys) = family(2);
        families.ended(keys[1], |_| Reaped::NotOurs);
        assert_eq!(families.all[&1].members.len(), 2, "its parent may be in the family");
        let mut tried = 0;
        families.ended(keys[0], |_| {
            tried += 1;
            Reaped::Yes
        });
        assert_eq!(tried, 2);
        assert!(!families.all.contains_key(&1) && families.all.len() == 2);
    }

    #[test]
    fn who_is_in_two_families_has_one_exit_file() {
        let relative = |pid, exit_file: Option<&str>| Relative {
            pid: Pid::from_raw(pid),
            pidfd: std::fs::File::open("/dev/null").unwrap().into(),
            exit_file: exit_file.map(Into::into),
        };
        let mut families = Families::default();
        families.add(vec![relative(7, Some("/x")), relative(8, Some("/y"))], Vec::new()).count();
        families.add(vec![relative(7, None), relative(9, None)], Vec::new()).count();
        let mut files = Vec::new();
        let second = MAX_FAMILY as u64;
        for key in [second, second + 1] {
            families.ended(key, |it| {
                files.push(it.exit_file.clone());
                Reaped::NotOurs
            });
        }
        assert_eq!(files[0].as_deref(), Some(Path::new("/x")));
        assert_eq!(files.last().unwrap().as_deref(), None);
        // The pid of one that was reaped is anybody's.
        families.ended(1, |_| Reaped::Yes);
        families.add(vec![relative(8, None)], Vec::new()).count();
        families.ended(2 * second, |it| {
            assert_eq!(it.exit_file, None);
            Reaped::Yes
        });
    }

    #[test]
    fn what_is_never_ours_is_forgotten() {
        let (mut families, keys) = family(3);
        for key in &keys {
            families.ended(*key, |_| Reaped::NotOurs);
        }
        assert!(!families.all.contains_key(&1));
        families.ended(keys[0], |_| panic!("it is forgotten"));
    }

    #[test]
    fn what_is_reaped_is_not_tried_again() {
        let (mut families, keys) = family(2);
        families.ended(keys[0], |_| Reaped::Yes);
        let mut tried = 0;
        families.ended(keys[1], |_| {
            tried += 1;
            Reaped::NotOurs
        });
        assert_eq!(tried, 1);
    }

    #[test]
    fn a_child_is_reaped_and_the_thread_ends() {
        let reaper = Reaper::default();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let flags = rustix::process::PidfdFlags::empty();
        let pidfd = rustix::process::pidfd_open(pid, flags).unwrap();
        let see = || reaper.kin().add(pid, &pidfd, None);
        see();
        thread::sleep(std::time::Duration::from_millis(20));
        assert!(rustix::process::test_kill_process(pid).is_ok(), "not started yet");
        reaper.start().unwrap();
        let watched = reaper.running.get().unwrap().watched.clone();
        see();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !watched.families().all.is_empty() && std::time::Instant::now() < end {
            thread::sleep(std::time::Duration::from_millis(1));
        }
        let error = child.wait().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECHILD), "it is reaped");
        drop(reaper);
        assert_eq!(Arc::strong_count(&watched), 1, "the thread has ended");
    }
}
