//! The lab itself: what a system leaves when it goes, however that comes.
#![expect(clippy::unwrap_used, reason = "where a test fails, it fails")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longer than a system takes to come or to go.
const PATIENCE: Duration = Duration::from_secs(120);

/// The scripts of the lab.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("lab").join(name)
}

/// A place for lab systems of this test's own, which are copied from the same base.
struct Place(TempDir);

impl Place {
    fn path(&self) -> &Path {
        self.0.path()
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

fn place() -> Place {
    assert!(rustix::process::geteuid().is_root(), "needs root");
    let base = Command::new(script("base")).arg("root").stderr(Stdio::inherit()).output().unwrap();
    assert!(base.status.success(), "{base:?}");
    let root = PathBuf::from(String::from_utf8(base.stdout).unwrap().trim());
    let base = root.parent().unwrap();
    let place = tempfile::Builder::new().prefix("tare-lab-").tempdir_in("/var/tmp").unwrap();
    symlink(base, place.path().join(base.file_name().unwrap())).unwrap();
    Place(place)
}

/// Runs a shell script in a system of its own.
fn run(place: &Path, shell_script: &str) -> Child {
    Command::new(script("lab"))
        .args(["run", "/bin/sh", "-c", shell_script])
        .env("TARE_LAB", place)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until what it prints begins.
fn prints(child: &mut Child) {
    use std::io::Read;
    let mut byte = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut byte).expect("it ended early");
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// What there is of the systems of a place, beside what they are copied from.
fn left(place: &Path) -> Vec<String> {
    let mark = place.to_str().unwrap();
    let mut left = Vec::new();
    for dir in ["run", "owners"] {
        for entry in fs::read_dir(place.join(dir)).into_iter().flatten() {
            left.push(entry.unwrap().path().display().to_string());
        }
    }
    for entry in fs::read_dir("/proc").unwrap() {
        let process = entry.unwrap().path();
        let read = |file| fs::read_to_string(process.join(file)).unwrap_or_default();
        if process.join("root").exists() && (read("cmdline") + &read("mountinfo")).contains(mark) {
            left.push(format!("{} {}", process.display(), read("cmdline").replace('\0', " ")));
        }
    }
    left
}

/// The control groups of the system that a process made.
fn groups(owner: u32) -> Vec<PathBuf> {
    let of_system =
        Command::new(script("boot")).args(["--group", &format!("run-{owner}")]).output();
    let group = PathBuf::from(String::from_utf8(of_system.unwrap().stdout).unwrap().trim());
    group.exists().then_some(group).into_iter().collect()
}

/// Waits until nothing is left.
fn nothing_is_left(place: &Path, owner: u32) {
    let end = Instant::now() + PATIENCE;
    while !left(place).is_empty() || !groups(owner).is_empty() {
        assert!(Instant::now() < end, "left: {:?} {:?}", left(place), groups(owner));
        sleep(Duration::from_millis(50));
    }
}

#[test]
fn privileged_a_lab_system_gives_an_exit_code_and_leaves_nothing() {
    let place = place();
    let mut child = run(place.path(), "systemctl is-active dbus.socket && exit 3");
    assert_eq!(child.wait().unwrap().code(), Some(3));
    nothing_is_left(place.path(), child.id());
}

#[test]
fn privileged_an_interrupted_lab_system_leaves_nothing() {
    let place = place();
    let mut child = run(place.path(), "echo up; sleep 1000");
    prints(&mut child);
    assert!(!left(place.path()).is_empty() && !groups(child.id()).is_empty(), "it is there");
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    nothing_is_left(place.path(), child.id());
}

#[test]
fn privileged_an_interrupted_bench_leaves_no_system() {
    let place = place();
    let mut bench = Command::new(env!("CARGO_BIN_EXE_tare-bench"))
        .args(["--quick", "--rows=life-none"])
        .env("TARE_LAB", place.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It measures.
    let said = BufReader::new(bench.stderr.take().unwrap()).lines().next();
    let system = fs::read_dir(place.path().join("run")).unwrap().next();
    let system = system.unwrap_or_else(|| panic!("it has no system: {said:?}")).unwrap();
    let owner = system.file_name().to_str().unwrap().strip_prefix("run-").unwrap().parse().unwrap();
    signal(&bench, Signal::INT);
    assert!(!bench.wait().unwrap().success());
    nothing_is_left(place.path(), owner);
}

#[test]
fn privileged_a_lab_system_whose_owner_was_killed_goes_with_the_next_one() {
    let place = place();
    let mut killed = run(place.path(), "echo up; sleep 1000");
    prints(&mut killed);
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(!groups(killed.id()).is_empty(), "it is there");
    let mut next = run(place.path(), "true");
    assert_eq!(next.wait().unwrap().code(), Some(0));
    nothing_is_left(place.path(), next.id());
    assert!(groups(killed.id()).is_empty(), "the first one has gone");
}
