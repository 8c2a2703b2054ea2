//! What an emulated machine leaves when it goes, however that comes.

use std::fs;
use std::path::PathBuf;
use std::process::Child;

use rustix::process::Signal;

use crate::place::{Place, nothing_is_left, signal, wait_until};

/// Waits until the machine itself runs.
fn is_begun(place: &Place) {
    wait_until("a machine", || {
        let processes = place.processes();
        let runs = processes.iter().any(|it| it.contains("qemu-system-x86_64 -accel"));
        if runs { Ok(()) } else { Err(format!("{processes:#?}")) }
    });
}

/// The files without a name that a machine has, but for those that were in its place.
fn nameless_elsewhere(place: &Place) -> Vec<PathBuf> {
    let of = |process: String| fs::read_dir(format!("{}/fd", process.split(' ').next().unwrap()));
    let links = place.processes().into_iter().flat_map(|it| of(it).into_iter().flatten().flatten());
    let files = links.filter_map(|link| fs::read_link(link.path()).ok());
    let nameless = files.filter(|file| file.to_string_lossy().ends_with(" (deleted)"));
    nameless
        .filter(|file| !file.starts_with(place.path()) && !file.starts_with("/memfd:"))
        .collect()
}

/// Its exit code, and what it said to whoever has an eye on it.
fn ended(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn privileged_a_machine_gives_an_exit_code_and_leaves_nothing() {
    let place = Place::with("image");
    // Beside each other, as they may be.
    let codes = [0, 3].map(|code| (code, place.run_in_machine(&format!("exit {code}"))));
    for (code, child) in codes {
        let (ended_with, said) = ended(child);
        assert_eq!(ended_with, Some(code), "{said}");
    }
    nothing_is_left(|| place.left());
}

#[test]
fn privileged_an_interrupted_machine_leaves_nothing() {
    let place = Place::with("image");
    let child = place.run_in_machine("sleep 1000");
    is_begun(&place);
    assert_eq!(nameless_elsewhere(&place), Vec::<PathBuf>::new(), "it may end before they are so");
    signal(&child, Signal::INT);
    assert_eq!(ended(child).0, Some(130));
    assert_eq!(place.left(), Vec::<String>::new(), "it has waited for its machine");
}

#[test]
fn privileged_a_machine_ends_with_whoever_was_killed_and_leaves_nothing_to_the_next_one() {
    let place = Place::with("image");
    let mut killed = place.run_in_machine("sleep 1000");
    is_begun(&place);
    killed.kill().unwrap();
    killed.wait().unwrap();
    nothing_is_left(|| place.processes());
    assert_eq!(place.left().len(), 1, "its directory");
    let next = place.run_in_machine("sleep 1000");
    is_begun(&place);
    signal(&next, Signal::INT);
    assert_eq!(ended(next).0, Some(130));
    nothing_is_left(|| place.left());
}

/// What the kernel says, then what else it says, then its end; while a test is at work.
const DIES: &str = "printf 'test one ... ok\\ntest two ... '
for line in 'before it' 'BUG: planted by a test' 'after it'; do echo \"<1>$line\" >/dev/kmsg; done
sleep 1
echo c >/proc/sysrq-trigger
sleep 1000";

#[test]
fn privileged_of_a_machine_that_dies_it_is_told_how_and_in_which_test_and_nothing_is_left() {
    let place = Place::with("image");
    let (code, said) = ended(place.run_in_machine(DIES));
    assert_eq!(code, Some(1), "{said}");
    for told in [
        "the kernel of the machine died: ",
        "Kernel panic - not syncing: sysrq triggered crash",
        "BUG: planted by a test",
        "after it",
        "the last that was heard of the program: test two ... ",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    assert!(!said.contains("before it"), "it begins where it went wrong: {said}");
    let kept = fs::read_dir(place.path().join("died")).unwrap().next().unwrap().unwrap();
    let all = fs::read_to_string(kept.path()).unwrap();
    assert!(all.contains("before it"), "all of it is kept");
    fs::remove_file(kept.path()).unwrap();
    nothing_is_left(|| place.left());
}
