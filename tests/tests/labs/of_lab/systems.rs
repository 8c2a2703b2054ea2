//! What a system leaves when it goes, however that comes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use rustix::process::Signal;

use crate::place::{Place, interruptible, nothing_is_left, prints, signal};
use crate::traces::groups;

/// Waits until nothing is left of the system that a process made.
fn nothing_is_left_of(place: &Place, owner: u32) {
    nothing_is_left(|| [place.left(), groups(&format!("run-{owner}"))].concat());
}

#[test]
fn privileged_a_lab_system_gives_an_exit_code_and_leaves_nothing() {
    let place = Place::with("root");
    let mut child = place.run_in_system("systemctl is-active dbus.socket && exit 3");
    assert_eq!(child.wait().unwrap().code(), Some(3));
    nothing_is_left_of(&place, child.id());
}

#[test]
fn privileged_an_interrupted_bench_leaves_no_system() {
    let place = Place::with("root");
    let mut bench = interruptible(env!("CARGO_BIN_EXE_tare-bench"))
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
    nothing_is_left_of(&place, owner);
}

#[test]
fn privileged_a_lab_system_whose_owner_was_killed_goes_with_the_next_one() {
    let place = Place::with("root");
    let mut killed = place.run_in_system("echo up; sleep 1000");
    prints(&mut killed);
    killed.kill().unwrap();
    killed.wait().unwrap();
    let of_killed = || groups(&format!("run-{}", killed.id()));
    assert!(!of_killed().is_empty(), "it is there");
    let mut next = place.run_in_system("true");
    assert_eq!(next.wait().unwrap().code(), Some(0));
    nothing_is_left_of(&place, next.id());
    assert_eq!(of_killed(), Vec::<String>::new(), "the first one has gone");
}
