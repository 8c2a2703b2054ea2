//! Where a test's own systems and machines are.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longer than a system takes to come or to go.
const PATIENCE: Duration = Duration::from_secs(120);

/// The scripts of the lab.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("lab").join(name)
}

/// A place for systems and machines of this test's own, which are copied from the same base.
pub(crate) struct Place(TempDir);

impl Place {
    /// With what all are copied from, which is made if it is not there: `root` or `image`.
    pub(crate) fn with(what: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "needs root");
        let base =
            Command::new(script("base")).arg(what).stderr(Stdio::inherit()).output().unwrap();
        assert!(base.status.success(), "{base:?}");
        let made = PathBuf::from(String::from_utf8(base.stdout).unwrap().trim());
        let base = made.parent().unwrap();
        let place = tempfile::Builder::new().prefix("tare-lab-").tempdir_in("/var/tmp").unwrap();
        symlink(base, place.path().join(base.file_name().unwrap())).unwrap();
        Self(place)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
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
        Command::new(script(program))
            .args([verb, "/bin/sh", "-c", shell_script])
            .env("TARE_LAB", self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
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
    /// For a test that fails: what it finds left goes.
    fn drop(&mut self) {
        for system in fs::read_dir(self.path().join("run")).into_iter().flatten().flatten() {
            let mut down = Command::new(script("lab"));
            down.arg("down").arg(system.file_name()).env("TARE_LAB", self.path());
            let _ = down.status();
        }
    }
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
