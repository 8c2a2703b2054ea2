//! Where a test's own systems and machines are.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use system_tests::world::{Guard, Scope};
use tempfile::TempDir;

/// Longer than a system takes to come or to go.
const PATIENCE: Duration = Duration::from_secs(120);

/// The scripts of the lab.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("lab").join(name)
}

/// A place for systems and machines of this test's own, which are copied from the same base. What is in it when
/// it goes, mounted from there, or knows of it, has been left.
pub(crate) struct Place {
    /// Looks when it is dropped, before the place goes.
    guard: Option<Guard>,
    dir: TempDir,
}

impl Place {
    /// With what all are copied from, which is made if it is not there: `root` or `image`.
    pub(crate) fn with(what: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "needs root");
        let base =
            Command::new(script("base")).arg(what).stderr(Stdio::inherit()).output().unwrap();
        assert!(base.status.success(), "{base:?}");
        let made = PathBuf::from(String::from_utf8(base.stdout).unwrap().trim());
        let base = made.parent().unwrap();
        let dir = tempfile::Builder::new().prefix("tare-lab-").tempdir_in("/var/tmp").unwrap();
        let place = dir.path().to_owned();
        symlink(base, place.join(base.file_name().unwrap())).unwrap();
        // It stays for whoever comes next.
        for shared in ["run", "owners", "machines", "died"] {
            fs::create_dir(place.join(shared)).unwrap();
        }
        for shared in ["owning", "lock"] {
            fs::write(place.join(shared), "").unwrap();
        }
        let marks = vec![place.display().to_string()];
        Self { guard: Some(Guard::new(Scope::of_marked(vec![place], marks))), dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Runs a shell script in a system of its own.
    pub(crate) fn run_in_system(&self, shell_script: &str) -> Child {
        self.run("lab", "run", shell_script)
    }

    /// Runs a shell script in a machine of its own.
    pub(crate) fn run_in_machine(&self, shell_script: &str) -> Child {
        self.run("vm", "apparmor", shell_script)
    }

    fn run(&self, program: &str, verb: &str, shell_script: &str) -> Child {
        let mut command = interruptible(script(program));
        command.args([verb, "/bin/sh", "-c", shell_script]);
        self.start(&mut command)
    }

    /// Starts a program that makes systems here, with nothing to read.
    pub(crate) fn start(&self, command: &mut Command) -> Child {
        command.env("TARE_LAB", self.path()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// What there is of its systems and machines, beside what they are copied from.
    pub(crate) fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for dir in ["run", "owners", "machines"] {
            for entry in fs::read_dir(self.path().join(dir)).into_iter().flatten() {
                left.push(entry.unwrap().path().display().to_string());
            }
        }
        left.extend(self.processes());
        left
    }

    /// Processes that were told of this place, or see anything that is mounted in it.
    pub(crate) fn processes(&self) -> Vec<String> {
        let mark = self.path().to_str().unwrap();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap() {
            let process = entry.unwrap().path();
            let read = |file| fs::read_to_string(process.join(file)).unwrap_or_default();
            if process.join("root").exists()
                && (read("cmdline") + &read("mountinfo")).contains(mark)
            {
                found.push(format!("{} {}", process.display(), read("cmdline").replace('\0', " ")));
            }
        }
        found
    }
}

impl Drop for Place {
    /// What it finds left goes, after it was told.
    fn drop(&mut self) {
        let guard = self.guard.take();
        let told = catch_unwind(AssertUnwindSafe(|| drop(guard)));
        for system in fs::read_dir(self.path().join("run")).into_iter().flatten().flatten() {
            let mut down = Command::new(script("lab"));
            down.arg("down").arg(system.file_name()).env("TARE_LAB", self.path());
            let _ = down.status();
        }
        told.unwrap_or_else(|panic| resume_unwind(panic));
    }
}

/// A program that hears of a Ctrl-C, also where whoever runs the tests has put that off: what is started
/// with `&` or `nohup` has, and a shell cannot take it back.
pub(crate) fn interruptible(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal=INT").arg(program);
    command
}

/// Waits until what it prints begins.
pub(crate) fn prints(child: &mut Child) {
    use std::io::Read;
    let mut byte = [0];
    let output: &mut ChildStdout = child.stdout.as_mut().unwrap();
    output.read_exact(&mut byte).expect("it ended early");
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// The same to all of a job, as a terminal does with what it shows.
pub(crate) fn signal_group(leader: &Child, signal: Signal) {
    kill_process_group(Pid::from_child(leader), signal).unwrap();
}

/// Waits until nothing is there; `look` says what is.
pub(crate) fn nothing_is_left(look: impl Fn() -> Vec<String>) {
    wait_until("it to be gone", || {
        let left = look();
        if left.is_empty() { Ok(()) } else { Err(format!("left: {left:#?}")) }
    });
}

/// Waits until `holds` does; it says what else is the case.
pub(crate) fn wait_until(what: &str, holds: impl Fn() -> Result<(), String>) {
    let end = Instant::now() + PATIENCE;
    while let Err(why) = holds() {
        assert!(Instant::now() < end, "waited in vain for {what}: {why}");
        sleep(Duration::from_millis(50));
    }
}
