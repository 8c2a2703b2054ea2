//! What follows the end of a container by itself.

use std::time::Duration;

use system_tests::{Client, Options, Tared, failure, on_scratch_host, signal};
use zbus::OwnedObjectPath;

use super::crash::{gone, pid};

async fn create(client: &Client, name: &str, script: &str, policy: &str) -> OwnedObjectPath {
    let options = Options::from([
        ("Command", vec!["sh", "-c", script].into()),
        ("RestartPolicy", policy.into()),
        ("NetworkMode", "none".into()),
    ]);
    client.create_with(name, options).await.unwrap()
}

async fn create_to_be_removed(client: &Client, name: &str, script: &str) -> OwnedObjectPath {
    let volume = [("Target".to_string(), zbus::Variant::from("/own"))];
    let volumes = vec![std::collections::HashMap::from(volume)];
    let options = Options::from([
        ("Command", vec!["sh", "-c", script].into()),
        ("AutoRemove", true.into()),
        ("Volumes", volumes.into()),
        ("NetworkMode", "none".into()),
    ]);
    client.create_with(name, options).await.unwrap()
}

/// Waits until a container has been started by itself that often.
async fn restarts(client: &Client, path: &OwnedObjectPath, count: u32) {
    while client.container(path).await.get::<u32>("RestartCount") < count {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn state(client: &Client, path: &OwnedObjectPath, wanted: &str) {
    while client.container(path).await.text("State") != wanted {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Longer than the pause before any start of these tests.
async fn nothing_follows(client: &Client, path: &OwnedObjectPath) {
    let before = client.container(path).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = client.container(path).await;
    for same in ["State", "RestartCount", "StartedTimestamp"] {
        assert_eq!(after.0[same], before.0[same], "{same}");
    }
}

async fn removed(client: &Client, path: &OwnedObjectPath) {
    client
        .until("the removal of a container", |message| {
            signal::<(OwnedObjectPath, Vec<String>)>(
                message,
                "/org/tare/Containers1",
                "InterfacesRemoved",
            )
            .filter(|(gone, _)| gone == path)
        })
        .await;
}

#[test]
fn privileged_what_fails_is_started_again_so_often() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let fails = create(&client, "fails", "exit 3", "on-failure:2").await;
        client.start(&fails).await.done();
        restarts(&client, &fails, 2).await;
        state(&client, &fails, "exited").await;
        nothing_follows(&client, &fails).await;
        assert_eq!(client.container(&fails).await.get::<i32>("ExitCode"), 3);
        // Whoever starts it begins to count anew.
        client.start(&fails).await.done();
        restarts(&client, &fails, 1).await;

        let ends = create(&client, "ends", "exit 0", "on-failure").await;
        client.start(&ends).await.done();
        client.exit(&ends).await;
        nothing_follows(&client, &ends).await;
        for path in [&fails, &ends] {
            client.remove(path).await.done();
        }
        tared.stop();
    });
}

#[test]
fn privileged_what_somebody_stopped_stays_so() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let runs = create(&client, "runs", "sleep 1000", "always").await;
        client.start(&runs).await.done();
        let first = client.container(&runs).await.get::<u32>("PID");
        // A signal is nobody's wish that it stays down.
        client.call(&runs, "Container", "Kill", &("init", 9_i32, 0_u64)).await.unwrap();
        restarts(&client, &runs, 1).await;
        state(&client, &runs, "running").await;
        assert_ne!(client.container(&runs).await.get::<u32>("PID"), first);
        client.stop(&runs).await.done();
        nothing_follows(&client, &runs).await;

        // To stop what waits to be started again is to stop it.
        let ends = create(&client, "ends", "exit 0", "unless-stopped").await;
        client.start(&ends).await.done();
        restarts(&client, &ends, 3).await;
        loop {
            state(&client, &ends, "exited").await;
            if client.stop(&ends).await.result == "done" {
                break;
            }
        }
        nothing_follows(&client, &ends).await;

        // A restart by somebody is one, whatever the policy.
        client.start(&runs).await.done();
        let body = (1_000_000_u64, 0_u64);
        client.job(&runs, "Container", "Restart", &body).await.unwrap().done();
        assert_eq!(client.container(&runs).await.get::<u32>("RestartCount"), 0);
        for path in [&runs, &ends] {
            client.remove(path).await.done();
        }
        tared.stop();
    });
}

#[test]
fn privileged_a_new_daemon_goes_on_with_what_follows() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let runs = create(&client, "runs", "sleep 1000", "always").await;
        let stopped = create(&client, "stopped", "sleep 1000", "always").await;
        let goes = create_to_be_removed(&client, "goes", "sleep 1000").await;
        for path in [&runs, &stopped, &goes] {
            client.start(path).await.done();
        }
        client.stop(&stopped).await.done();
        let processes = [pid(&client.container(&runs).await), pid(&client.container(&goes).await)];
        tared.kill9();
        drop(client);
        for process in processes {
            rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
            gone(process).await;
        }
        let mut tared = tared.restart();
        let client = tared.client().await;
        restarts(&client, &runs, 1).await;
        state(&client, &runs, "running").await;
        assert_eq!(client.container(&stopped).await.text("State"), "exited");
        while client.list("ListContainers").await.len() > 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(client.list("ListVolumes").await.len(), 0, "its volume went with it");
        for path in [&runs, &stopped] {
            client.remove(path).await.done();
        }
        tared.stop();
    });
}

/// Says so in its root, and goes on.
const STUBBORN: &str = "trap 'touch /asked' TERM; while :; do sleep 0.05; done";

#[test]
fn privileged_a_daemon_that_dies_while_it_stops_something_is_followed_by_one_that_knows() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = create(&client, "stubborn", STUBBORN, "always").await;
        client.start(&path).await.done();
        let process = pid(&client.container(&path).await);
        let patience = (1_000_000_000_u64, 0_u64);
        client.call(&path, "Container", "Stop", &patience).await.unwrap();
        while client.exec(&path, "test -e /asked").await.code != 0 {}
        tared.kill9();
        drop(client);
        rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
        gone(process).await;
        let mut tared = tared.restart();
        let client = tared.client().await;
        assert_eq!(client.container(&path).await.text("State"), "exited");
        nothing_follows(&client, &path).await;
        client.remove(&path).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_what_is_to_be_removed_is_when_it_ends() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = create_to_be_removed(&client, "goes", "exit 4").await;
        assert!(client.container(&path).await.get::<bool>("AutoRemove"));
        client.start(&path).await.done();
        assert_eq!(client.exit(&path).await.code, 4, "its end is told");
        removed(&client, &path).await;

        let path = create_to_be_removed(&client, "goes", "sleep 1000").await;
        client.start(&path).await.done();
        let body = (1_000_000_u64, 0_u64);
        client.job(&path, "Container", "Restart", &body).await.unwrap().done();
        assert_eq!(client.container(&path).await.text("State"), "running", "a restart is no end");
        client.stop(&path).await.done();
        removed(&client, &path).await;

        // What never ran stays, so that somebody can look why.
        let options = Options::from([
            ("Command", vec!["/no/such"].into()),
            ("AutoRemove", true.into()),
            ("NetworkMode", "none".into()),
        ]);
        let path = client.create_with("stays", options).await.unwrap();
        let error = client.start(&path).await;
        assert!(failure(&error).ends_with("CommandNotFound"), "{error:?}");
        nothing_follows(&client, &path).await;
        client.remove(&path).await.done();
        assert_eq!(client.list("ListVolumes").await.len(), 0);

        for (auto_remove, policy) in
            [(true, "always"), (false, "sometimes"), (false, "on-failure:0")]
        {
            let options = Options::from([
                ("AutoRemove", auto_remove.into()),
                ("RestartPolicy", policy.into()),
            ]);
            let refused = client.create_with("bad", options).await.unwrap_err();
            assert!(refused.name.ends_with(".InvalidArgs"), "{policy}: {refused:?}");
        }
        tared.stop();
    });
}
