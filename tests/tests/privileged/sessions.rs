//! Exec sessions and a daemon that dies.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use system_tests::{Client, Tared, on_scratch_host, started};
use zbus::OwnedObjectPath;

use crate::crash::{gone, pid};

/// Ends with a code when somebody makes a file in its root.
fn until(file: &str, code: i32) -> String {
    format!("while [ ! -e /{file} ]; do sleep 0.05; done; exit {code}")
}

/// Makes a file in the root of a process.
fn touch(process: Pid, file: &str) {
    fs::write(format!("/proc/{}/root/{file}", process.as_raw_nonzero()), "").unwrap();
}

async fn state(client: &Client, session: &OwnedObjectPath) -> (String, i32) {
    let properties = client.properties(session, "Process").await;
    (properties.text("State"), properties.get("ExitCode"))
}

#[test]
fn privileged_exit_codes_of_sessions_outlive_the_daemon() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", "exec sleep 1000").await;
        let init = pid(&client.container(&path).await);
        let told = client.exec(&path, "exit 3").await.process;
        let missed = client.begin_exec(&path, &until("missed", 4)).await;
        let lives = client.begin_exec(&path, &until("lives", 5)).await;
        let missed_pid = pid(&client.properties(&missed, "Process").await);
        let before = client.properties(&lives, "Process").await;
        tared.kill9();
        drop(client);
        touch(init, "missed");
        gone(missed_pid).await;

        let mut tared = tared.restart();
        let client = tared.client().await;
        assert_eq!(state(&client, &told).await, ("exited".into(), 3));
        assert_eq!(state(&client, &missed).await, ("exited".into(), 4));
        assert_eq!(state(&client, &lives).await, ("running".into(), -1));
        let after = client.properties(&lives, "Process").await;
        for same in ["PID", "PIDFDId", "StartedTimestamp", "StartedByUID"] {
            assert_eq!(after.0[same], before.0[same], "{same}");
        }
        let sessions = client.container(&path).await.paths("Processes");
        assert_eq!(sessions, [&told, &missed, &lives].map(Clone::clone));
        let next = client.exec(&path, "exit 6").await;
        assert!(!sessions.contains(&next.process), "no number is given twice: {next:?}");
        touch(init, "lives");
        assert_eq!(client.session_code(&lives).await, 5);
        assert_eq!(state(&client, &lives).await, ("exited".into(), 5));
        client.remove(&path).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_a_session_that_ended_with_its_container_is_known() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", "exec sleep 1000").await;
        let init = pid(&client.container(&path).await);
        let session = client.begin_exec(&path, "exit 7").await;
        client.session_code(&session).await;
        let cut_off = client.begin_exec(&path, "exec sleep 1000").await;
        tared.kill9();
        drop(client);
        kill_process(init, Signal::KILL).unwrap();
        gone(init).await;

        let mut tared = tared.restart();
        let client = tared.client().await;
        assert_eq!(client.container(&path).await.get::<i32>("ExitCode"), 137);
        assert_eq!(state(&client, &session).await, ("exited".into(), 7));
        // It is told when its conmon is done.
        while state(&client, &cut_off).await.0 == "running" {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert_eq!(state(&client, &cut_off).await, ("exited".into(), 137));
        client.remove(&path).await.done();
        tared.stop();
    });
}

/// Whoever hears of an end and then looks finds it: of a session, and of a container.
#[test]
fn privileged_an_end_that_was_told_is_seen() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", "exec sleep 1000").await;
        for _ in 0..50 {
            // Returns when it hears of the end.
            let session = client.exec(&path, "exit 3").await.process;
            assert_eq!(state(&client, &session).await, ("exited".into(), 3));
        }
        kill_process(pid(&client.container(&path).await), Signal::KILL).unwrap();
        client.exit(&path).await;
        assert_eq!(client.container(&path).await.text("State"), "exited");
        client.remove(&path).await.done();
        tared.stop();
    });
}
