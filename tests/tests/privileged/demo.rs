//! What somebody new does first.

use std::path::Path;
use std::process::{Command, Stdio};

use system_tests::on_scratch_host;

#[test]
fn privileged_the_demo_ends_well_and_leaves_nothing_and_so_it_does_again() {
    on_scratch_host(async |_| {
        for _ in 0..2 {
            let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/demo.sh");
            let output = Command::new(demo).stdin(Stdio::null()).output().unwrap();
            let shown = String::from_utf8_lossy(&output.stdout);
            let complains = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{shown}\n{complains}");
            for told in ["a page from web", "s \"exited\"", "i 7", "nothing left behind"] {
                assert!(shown.contains(told), "{told}: {shown}");
            }
        }
    });
}
