//! What somebody new does first.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use system_tests::on_scratch_host;

const NOTHING_LEFT: &str = "nothing left behind";

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/demo.sh")
}

#[test]
fn privileged_the_demo_ends_well_and_leaves_nothing_and_so_it_does_again() {
    on_scratch_host(async |_| {
        for _ in 0..2 {
            let output = Command::new(script()).stdin(Stdio::null()).output().unwrap();
            let shown = String::from_utf8_lossy(&output.stdout);
            let complains = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{shown}\n{complains}");
            for told in ["a page from web", "s \"exited\"", "i 7", NOTHING_LEFT] {
                assert!(shown.contains(told), "{told}: {shown}");
            }
        }
    });
}

/// With Ctrl-C, which is for all that is in its process group.
#[test]
fn privileged_a_demo_that_is_interrupted_leaves_nothing() {
    on_scratch_host(async |_| {
        let mut command = Command::new("env");
        command.arg("--default-signal=INT").arg(script()).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut demo = command.spawn().unwrap();
        let mut said = BufReader::new(demo.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(said.any(|line| line.contains("a page from web")), "its container runs");
        kill_process_group(Pid::from_child(&demo), Signal::INT).unwrap();
        let rest: Vec<String> = said.collect();
        assert!(!demo.wait().unwrap().success());
        assert!(rest.iter().any(|line| line.starts_with(NOTHING_LEFT)), "{}", rest.join("\n"));
    });
}
