//! `make check`: what it takes for passed.
#![expect(clippy::unwrap_used, reason = "where a test fails, it fails")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Targets of a host that lacks something, in the place of our own.
const TARGETS: &str = "
.PHONY: good good2 bad cannot hides ready-good ready-bad ready-cannot ready-hides
good good2:
\t@echo 'test result: ok. 3 passed; 0 failed; 0 ignored'
bad:
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

/// Whether it passes, and what it prints.
fn check(stages: &[&str], accept: &str) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let (targets, make) = (dir.path().join("targets"), dir.path().join("make"));
    fs::write(&targets, TARGETS).unwrap();
    fs::write(&make, format!("#!/bin/sh\nexec make -f {} \"$@\"\n", targets.display())).unwrap();
    fs::set_permissions(&make, Permissions::from_mode(0o700)).unwrap();
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/check.sh"))
        .args(stages)
        .env("MAKE", &make)
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
    }
}
