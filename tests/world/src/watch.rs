//! Cases that hang.

use std::collections::HashMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{env, fs, io, process};

use rustix::process::{Pid, Signal, kill_process};

use super::processes::{mount_namespace, parent};
use super::{Host, Scope, names_in};

/// Longer than any case takes, on a slow machine, too.
const LONGEST: Duration = Duration::from_secs(900);
/// How long a case may then take to fail.
const GRACE: Duration = Duration::from_secs(20);
/// What a program of tests ends with in which one has failed.
const FAILED: i32 = 101;

/// How long a case may take: fifteen minutes, or as many seconds as `$TARE_CASE_LIMIT` says.
///
/// # Panics
///
/// If that is no number.
pub fn case_limit() -> Duration {
    let asked = env::var("TARE_CASE_LIMIT").ok();
    let asked = asked.map(|it| it.parse().expect("TARE_CASE_LIMIT is a number of seconds"));
    asked.map_or(LONGEST, Duration::from_secs)
}

/// Has a case fail that hangs, so that what comes after it is run all the same.
///
/// One that waits for a message gives up after [`case_limit`], where who runs it sees to that. One that
/// waits for a program hears a moment later that it was killed. If that is of no help either, nothing can end
/// it but the end of the whole program of tests; before that the case is told by its name.
#[derive(Debug)]
#[must_use = "the case is over when it is dropped"]
pub struct Watch {
    /// Nothing is sent: it is dropped.
    over: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to count, for the case of the calling thread. `known` is what else is known of it.
    pub fn begin(scope: &Scope, known: impl FnOnce() -> String + Send + 'static) -> Self {
        let case = Case::of_this_thread(scope);
        let (over, is_over) = channel();
        let watch = move || case.watch(&is_over, known);
        let thread = thread::Builder::new().name("watch".into()).spawn(watch);
        Self { over: Some(over), thread: Some(thread.expect("there can be one more thread")) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A case, as others see it.
struct Case {
    name: String,
    scope: Scope,
    namespace: Option<String>,
}

impl Case {
    fn of_this_thread(scope: &Scope) -> Self {
        let name = thread::current().name().unwrap_or("a case").to_owned();
        Self { name, scope: scope.clone(), namespace: mount_namespace("thread-self") }
    }

    fn watch(self, is_over: &Receiver<()>, known: impl FnOnce() -> String) {
        let goes_on = |time| is_over.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
        if goes_on(case_limit() + GRACE) {
            self.kill_programs();
            if goes_on(GRACE) {
                self.give_up(known);
            }
        }
    }

    /// Ends what the case has started, and may wait for: a shell before what it waits for, since it would go on
    /// after that, and come to a good end.
    fn kill_programs(&self) {
        let ours = descendants().into_iter().filter(|pid| self.has_started(*pid));
        let ours: Vec<_> = ours.filter_map(Pid::from_raw).collect();
        for pid in ours {
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Whether a process that this one has started is of the case, and not of one beside it.
    fn has_started(&self, pid: i32) -> bool {
        let read = |file| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        match self.scope.host {
            Host::Own => mount_namespace(&pid.to_string()) == self.namespace,
            Host::Shared => ["cmdline", "environ"]
                .iter()
                .any(|file| self.scope.bears_mark(&String::from_utf8_lossy(&read(file)))),
        }
    }

    /// What is printed here is not kept for the end of the case, as what it prints itself.
    fn give_up(&self, known: impl FnOnce() -> String) {
        let known = catch_unwind(AssertUnwindSafe(known)).unwrap_or_default();
        let mut said = format!("\ntest {} ... FAILED: it hangs. Its threads wait in:\n", self.name);
        for thread in names_in("/proc/self/task".as_ref()) {
            let task = PathBuf::from("/proc/self/task").join(thread);
            let read = |file| fs::read_to_string(task.join(file)).unwrap_or_default();
            said.extend(["  ", read("comm").trim_end(), ": ", &read("wchan"), "\n"]);
        }
        super::processes(&self.scope).iter().for_each(super::Process::kill);
        // No thread can be ended from outside. The last is in the form in which results are counted.
        let last =
            "test result: FAILED. 0 passed; 1 failed; whatever else is in this program was cut off";
        let _ = writeln!(io::stderr(), "{said}{known}\n{last}");
        process::exit(FAILED);
    }
}

/// The processes that this one has started, and those that they have, after who has started them.
fn descendants() -> Vec<i32> {
    let pids = names_in("/proc".as_ref()).into_iter().filter_map(|name| name.parse().ok());
    let parents: HashMap<i32, i32> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let this = i32::try_from(process::id()).unwrap_or_default();
    let depth = |pid: &i32| {
        let mut line = std::iter::successors(parents.get(pid), |parent| parents.get(parent));
        line.position(|parent| *parent == this)
    };
    let mut ours: Vec<_> = parents.keys().filter_map(|pid| Some((depth(pid)?, *pid))).collect();
    ours.sort_unstable();
    ours.into_iter().map(|(_, pid)| pid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processes::command_line;
    use std::process::{Command, Stdio};

    #[test]
    fn what_a_case_has_started_is_found_with_all_below_it() {
        let mark = format!("mark-of-{}", process::id());
        let mut command = Command::new("sh");
        // Two commands, or the shell would become the first.
        command.args(["-c", "sleep 1000; :"]).env("MARK", &mark).stdin(Stdio::null());
        let mut shell = command.spawn().unwrap();
        let pid = i32::try_from(shell.id()).unwrap();
        let below = || descendants().into_iter().find(|it| parent(*it) == Some(pid));
        while below().is_none_or(|it| command_line(it) != "sleep 1000") {
            thread::yield_now();
        }
        let below = below().unwrap();
        let case =
            |mark: &str| Case::of_this_thread(&Scope::of_marked(Vec::new(), vec![mark.into()]));
        let ours = case(&mark);
        for pid in [pid, below] {
            assert!(ours.has_started(pid));
            assert!(!case("mark-of-another").has_started(pid));
            let own = Case { scope: Scope::default(), ..case("") };
            assert!(own.has_started(pid), "it is in the namespace of this thread");
        }
        ours.kill_programs();
        assert!(!shell.wait().unwrap().success(), "it was killed before what it waits for");
        while parent(below).is_some_and(|_| !command_line(below).is_empty()) {
            thread::yield_now();
        }
    }

    #[test]
    fn a_case_that_ends_is_watched_no_longer() {
        drop(Watch::begin(&Scope::default(), || unreachable!("it does not hang")));
    }
}
