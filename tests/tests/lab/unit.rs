//! The unit: how the service is started, ends, and is started again.

use std::path::Path;
use std::process::Command;

use system_tests::Ring::System;
use system_tests::{Client, bin, in_lab, run, started};

/// The main process of a unit; 0 if there is none.
pub(crate) fn main_pid(unit: &str) -> u32 {
    let value = run("systemctl", &["show", "--property=MainPID", "--value", unit]);
    value.trim().parse().unwrap()
}

#[test]
fn lab_a_call_starts_the_service() {
    in_lab(System, async |lab| {
        run("systemctl", &["stop", "tared.service"]);
        assert_eq!(main_pid("tared.service"), 0);
        let client = lab.client().await;
        assert_eq!(client.list("ListContainers").await.len(), 0);
        assert_ne!(main_pid("tared.service"), 0);
    });
}

/// By the name that the compiler gives to where the hook of a test would be.
#[test]
fn lab_what_is_installed_asks_no_test_before_it_does_something() {
    in_lab(System, async |_| {
        let asks = |program: &Path| {
            let mut grep = Command::new("grep");
            grep.args(["--quiet", "--text", "5fault4HOOK\\|5fault6hooked4HOOK"]).arg(program);
            grep.status().unwrap().success()
        };
        for program in ["tared", "tare-spawn", "tare-names", "tare-worker"] {
            assert!(!asks(&Path::new("/usr/libexec").join(program)), "{program}");
        }
        for program in ["tare-spawn-faulty", "tare-names-faulty"] {
            assert!(asks(&bin(program)), "{program}: one that does is not seen");
        }
    });
}

#[test]
fn lab_containers_do_not_notice_a_restart_of_the_service() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", "trap 'exit 6' TERM; while :; do sleep 0.1; done").await;
        let before = client.container(&path).await;
        for how in [&["restart"][..], &["kill", "--signal=KILL"]] {
            let daemon = main_pid("tared.service");
            run("systemctl", &[how, &["tared.service"]].concat());
            another_daemon(&client, daemon).await;
            let after = client.container(&path).await;
            for same in ["State", "PID", "PIDFDId", "CGroupPath", "StartedTimestamp"] {
                assert_eq!(after.0[same], before.0[same], "{same} after {how:?}");
            }
            assert_eq!(client.exec(&path, "exit 3").await.code, 3, "after {how:?}");
        }
        client.stop(&path).await.done();
        assert_eq!(client.exit(&path).await.code, 6);
        client.remove(&path).await.done();
    });
}

/// Waits until the service has the name again, with another process than `old`.
pub(crate) async fn another_daemon(client: &Client, old: u32) {
    while !client.is_there().await || [0, old].contains(&main_pid("tared.service")) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
