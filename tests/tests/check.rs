//! `make check`: what it takes for passed.
#![expect(clippy::unwrap_used, reason = "where a test fails, it fails")]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Targets of a host that lacks something, in the place of our own.
const TARGETS: &str = "
.PHONY: good good2 bad cannot hides ready-good ready-bad ready-cannot ready-hides
good good2:
\t@echo 'test result: ok. 3 passed; 0 failed; 0 ignored'
bad:
\t@echo 'test one::that_fails ... FAILED'
\t@printf '%s\\n' '' 'thread one panicked at a.rs:1:2:' 'left: 1' 'stack backtrace:' '  0: main' ''
\t@echo 'test result: FAILED. 1 passed; 2 failed; 0 ignored'; exit 1
# One thing cannot be done, and beside it another fails.
hides:
\t@echo 'lab: cannot run here: no qemu'; echo 'test result: FAILED. 0 passed; 1 failed;'; exit 1
cannot:
\t@echo 'setup: cannot run here: no packages'; exit 77
ready-cannot: cannot
ready-good ready-bad ready-hides:
\t@true
";

fn tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools").join(name)
}

/// A program that does that.
fn script(dir: &Path, name: &str, does: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{does}\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    path
}

/// Whether it passes, and what it prints.
fn check(stages: &[&str], accept: &str) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let targets = dir.path().join("targets");
    fs::write(&targets, TARGETS).unwrap();
    let make = script(dir.path(), "make", &format!("exec make -f {} \"$@\"", targets.display()));
    // An ordinary user, whoever runs this.
    let user = dir.path().join("user");
    fs::create_dir(&user).unwrap();
    script(&user, "id", "echo 1000");
    script(&user, "sudo", "echo root is asked for");
    let path = format!("{}:{}", user.display(), std::env::var("PATH").unwrap());
    let output = Command::new(tool("check.sh"))
        .args(stages)
        .env("MAKE", &make)
        .env("PATH", path)
        .env("ACCEPT", accept)
        // Of a make that runs this.
        .env_remove("MAKEFLAGS")
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn what_cannot_run_fails_unless_that_is_accepted_and_what_can_is_never_left_out() {
    for (about, stages, accept, passes, says) in [
        ("all is well", &["good"][..], "", true, "3 tests passed, 0 failed; 0 of 1"),
        ("a failure", &["bad", "good"], "", false, "4 tests passed, 2 failed; 1 of 2"),
        ("its name", &["bad", "good"], "", false, "failed: bad\n  one::that_fails\n    thread one"),
        ("and how", &["bad", "good"], "", false, " panicked at a.rs:1:2:\n    left: 1\nall of it"),
        ("one that is accepted but can run", &["bad", "good"], "bad", false, "failed: bad"),
        ("a failure beside what cannot run", &["hides"], "hides", false, "failed: hides"),
        ("it cannot run", &["cannot", "good"], "", false, "failed: cannot"),
        ("another is accepted", &["cannot", "good"], "good", false, "failed: cannot"),
        (
            "that is accepted",
            &["cannot", "good"],
            "bad cannot",
            true,
            "cannot run here, which was accepted: cannot: no packages",
        ),
        ("no such stage", &["nothing"], "nothing", false, "failed: nothing"),
        ("lanes", &["good", "--", "cannot", "ready-good good2"], "cannot", true, "0 of 4 stages"),
        ("a failure in a lane", &["good", "--", "good2", "bad"], "", false, "1 of 3 stages failed"),
    ] {
        let (passed, said) = check(stages, accept);
        assert_eq!(passed, passes, "{about}: {said}");
        assert!(said.contains(says), "{about}: {said}");
        let [.., took, counted] = &said.lines().collect::<Vec<_>>()[..] else { panic!("{said}") };
        assert!(took.starts_with("all of it took 0 min "), "{about}: {said}");
        assert!(counted.contains(" tests passed, "), "{about}: {said}");
    }
}

/// A lane has no terminal to ask at.
#[test]
fn root_is_asked_for_before_lanes_begin_and_not_where_there_are_none() {
    let asked = "root is asked for";
    assert!(!check(&["good"], "").1.contains(asked));
    let (_, said) = check(&["good", "--", "good2"], "");
    let at = |text: &str| said.find(text).unwrap_or_else(|| panic!("{text}: {said}"));
    assert!(at("== good: ok") < at(asked) && at(asked) < at("== good2\n"), "{said}");
}

/// What a program with tests says at its end.
const OF_ONE: &str = "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out";
const OF_NONE: &str = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 4 filtered out";
const LEFT_OUT: &str = "test result: ok. 0 passed; 0 failed; 2 ignored; 0 measured; 2 filtered out";
const FAILS: &str =
    "test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out";

#[test]
fn where_no_test_has_run_none_has_passed() {
    let dir = tempfile::tempdir().unwrap();
    for (about, says, code, wanted) in [
        ("one program of several has a test", &[OF_NONE, OF_ONE, OF_NONE][..], 0, 0),
        ("no program has one of that name", &[OF_NONE, OF_NONE], 0, 4),
        ("it is there, and left out", &[LEFT_OUT], 0, 4),
        ("nothing was built to be run", &[], 0, 4),
        ("one fails", &[OF_NONE, FAILS], 101, 101),
        ("it cannot be built", &[], 101, 101),
    ] {
        let does = format!("printf '%s\\n' '{}'; exit {code}", says.join("' '"));
        let output = Command::new(tool("cargo-test.sh"))
            .args(["here", "--", "that_name"])
            .env("CARGO", script(dir.path(), "cargo", &does))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(wanted), "{about}: {output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(says.iter().all(|line| said.contains(line)), "{about}: all is passed on: {said}");
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(complaint.contains("no test ran"), wanted == 4, "{about}: {complaint}");
        assert_eq!(complaint.contains("that_name"), wanted == 4, "{about}: {complaint}");
    }
}

/// Cargo, and a program with tests that it runs.
const AT_WORK: &str = "
trap 'echo cargo has heard; exit 1' TERM
sh -c 'trap \"echo a test has heard; exit\" TERM; echo at work
for i in $(seq 100); do sleep 0.1; done' &
wait";

#[test]
fn who_runs_tests_and_is_told_to_end_tells_it_and_waits() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = Command::new(tool("cargo-test.sh"))
        .arg("here")
        .env("CARGO", script(dir.path(), "cargo", AT_WORK))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut said, mut first) = (BufReader::new(running.stdout.take().unwrap()), String::new());
    said.read_line(&mut first).unwrap();
    assert_eq!(first, "at work\n");
    kill_process(Pid::from_child(&running), Signal::TERM).unwrap();
    assert_eq!(running.wait().unwrap().code(), Some(143));
    // Nobody is left who could say more.
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    let mut heard: Vec<_> = rest.lines().collect();
    heard.sort_unstable();
    assert_eq!(heard, ["a test has heard", "cargo has heard"]);
}
