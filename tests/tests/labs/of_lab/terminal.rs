//! What people begin at a terminal: `make lab`, `make check`. A Ctrl-C there is for all that is at work.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::place::{Place, interruptible, nothing_is_left, script, signal_group, wait_until};

const CTRL_C: &[u8] = b"\x03";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().into()
}

/// `make lab` of what is built already.
const MAKE_LAB: [&str; 6] = ["make", "-o", "setup-lab", "-o", "build", "lab"];

/// Somebody at a terminal.
struct Terminal {
    job: Child,
    said: String,
}

impl Terminal {
    /// Has `make lab` run there.
    fn with_lab(place: &Place) -> Self {
        let mut command = interruptible("script");
        command.args(["--quiet", "--flush", "--return", "--command", &MAKE_LAB.join(" ")]);
        command.arg("/dev/null").current_dir(root()).env("TARE_LAB", place.path());
        // Of a make that runs this.
        command.env_remove("MAKEFLAGS").env("TERM", "dumb");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self { job: command.spawn().unwrap(), said: String::new() }
    }

    fn types(&mut self, keys: &[u8]) {
        let keyboard = self.job.stdin.as_mut().unwrap();
        keyboard.write_all(keys).unwrap();
        keyboard.flush().unwrap();
    }

    /// Waits until it shows that; all it has shown since it was last looked at.
    fn shows(&mut self, wanted: &str) -> String {
        let (mut byte, mut bytes) = ([0], Vec::new());
        while !String::from_utf8_lossy(&bytes).contains(wanted) {
            let more = self.job.stdout.as_mut().unwrap().read(&mut byte).unwrap();
            self.said.push(char::from(byte[0]));
            assert_eq!(more, 1, "{wanted} was not shown, but: {}", self.said);
            bytes.push(byte[0]);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn ended(mut self) -> Option<i32> {
        let mut rest = Vec::new();
        self.job.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
        self.job.wait().unwrap().code()
    }
}

#[test]
fn privileged_the_shell_of_a_lab_has_a_tared_and_leaves_nothing() {
    let place = Place::with("root");
    let mut terminal = Terminal::with_lab(&place);
    terminal.shows("It goes when you leave.");
    // The word is not in what is typed.
    terminal.types(b"busctl --no-pager tree org.tare.Containers1; echo 'the' end\n");
    let tree = terminal.shows("the end");
    assert!(tree.contains("/org/tare/Containers1"), "{tree}");
    // A Ctrl-C is for what runs in it.
    terminal.types(b"sh -c 'echo \"at\" work; exec sleep 1000'\n");
    terminal.shows("at work");
    terminal.types(CTRL_C);
    terminal.types(b"tarectl ps; systemctl is-active tared; echo 'all' well\n");
    let said = terminal.shows("all well");
    assert!(said.contains("NAME") && said.contains("\nactive"), "{said}");
    terminal.types(b"exit\n");
    assert_eq!(terminal.ended(), Some(0));
    nothing_is_left(|| place.left());
}

#[test]
fn privileged_a_lab_that_is_interrupted_while_it_comes_up_leaves_nothing() {
    let place = Place::with("root");
    let mut terminal = Terminal::with_lab(&place);
    // The command, before it is carried out; then there is something to be left.
    terminal.shows("tests/lab/lab shell");
    wait_until("a system", || {
        let left = place.left();
        if left.iter().any(|it| it.contains("/run/")) { Ok(()) } else { Err(format!("{left:?}")) }
    });
    terminal.types(CTRL_C);
    assert_ne!(terminal.ended(), Some(0));
    nothing_is_left(|| place.left());
}

/// Has a command run as a job of its own, with something to read that never comes.
fn job(place: &Place, command: &mut Command) -> Child {
    command.env("TARE_LAB", place.path()).env_remove("MAKEFLAGS").process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn privileged_an_interrupted_shell_leaves_no_lab() {
    let place = Place::with("root");
    let mut command = interruptible(MAKE_LAB[0]);
    let mut shell = job(&place, command.args(&MAKE_LAB[1..]).current_dir(root()));
    let mut said = BufReader::new(shell.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.contains("It goes when you leave.")));
    signal_group(&shell, Signal::INT);
    assert!(!shell.wait().unwrap().success());
    nothing_is_left(|| place.left());
}

#[test]
fn privileged_an_interrupted_check_leaves_nothing_of_any_lane() {
    let place = Place::with("root");
    let dir = tempfile::tempdir().unwrap();
    let [targets, make, next] = ["targets", "make", "next"].map(|name| dir.path().join(name));
    let lab = script("lab");
    let lab = format!("@{} run /bin/sh -c 'echo it is up; exec sleep 1000'", lab.display());
    let rules = format!("first second:\n\t{lab}\nnext:\n\t@touch {}\n", next.display());
    fs::write(&targets, rules).unwrap();
    fs::write(&make, format!("#!/bin/sh\nexec make -f {} \"$@\"\n", targets.display())).unwrap();
    fs::set_permissions(&make, fs::Permissions::from_mode(0o700)).unwrap();

    let mut command = interruptible(root().join("tools/check.sh"));
    let mut check =
        job(&place, command.args(["--", "first next", "second next"]).env("MAKE", &make));
    let mut said = BufReader::new(check.stdout.take().unwrap()).lines().map(Result::unwrap);
    let up = said.by_ref().filter(|line| line.ends_with(": it is up")).take(2);
    assert_eq!(up.count(), 2);
    signal_group(&check, Signal::INT);
    assert_eq!(check.wait().unwrap().code(), Some(130));
    assert!(!next.exists(), "nothing is begun any more");
    assert_eq!(place.left(), Vec::<String>::new(), "it has waited for all of them");
}
