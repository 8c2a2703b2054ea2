//! Containers that are made and wait: nothing of them is missed, and nothing of them is left.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;

use system_tests::{Client, ERROR, Ended, Options, Tared, failure, on_scratch_host, started};
use zbus::{OwnedFd, OwnedObjectPath};

use crate::crash::{gone, pid};

async fn prepare(client: &Client, path: &OwnedObjectPath) -> Ended {
    client.job(path, "Container", "Prepare", &Options::new()).await.unwrap()
}

async fn clean_up(client: &Client, path: &OwnedObjectPath) -> Ended {
    client.job(path, "Container", "Cleanup", &0_u64).await.unwrap()
}

async fn state(client: &Client, path: &OwnedObjectPath) -> String {
    client.container(path).await.get("State")
}

/// What it writes from now on, to standard output and error.
async fn outputs(client: &Client, path: &OwnedObjectPath) -> [File; 2] {
    let reply = client.call(path, "Container", "Attach", &Options::new()).await.unwrap();
    let mut fds: HashMap<String, OwnedFd> = reply.body().deserialize().unwrap();
    ["stdout", "stderr"].map(|name| std::os::fd::OwnedFd::from(fds.remove(name).unwrap()).into())
}

fn rest(mut of: File) -> String {
    let mut text = String::new();
    of.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn privileged_a_container_that_is_prepared_waits_and_misses_nothing() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = client.create("c", "hostname -i; exit 3").await;
        prepare(&client, &path).await.done();
        assert_eq!(state(&client, &path).await, "created");
        let waits = pid(&client.container(&path).await);
        assert_eq!(client.container(&path).await.get::<u64>("StartedTimestamp"), 0);
        assert_eq!(failure(&prepare(&client, &path).await), format!("{ERROR}.InvalidState"));
        let refused = client.call(&path, "Container", "Kill", &("init", 15, 0_u64)).await;
        assert_eq!(refused.unwrap_err().name, format!("{ERROR}.NotRunning"));
        let exec = (vec!["true"], Options::new());
        let refused = client.call(&path, "Container", "Exec", &exec).await;
        assert_eq!(refused.unwrap_err().name, format!("{ERROR}.InvalidState"));

        // Another daemon takes it over as it is.
        tared.kill9();
        drop(client);
        let mut tared = tared.restart();
        let client = tared.client().await;
        assert_eq!(state(&client, &path).await, "created");
        assert_eq!(pid(&client.container(&path).await), waits);
        let outputs = outputs(&client, &path).await;
        client.start(&path).await.done();
        let [text, complaint] = outputs.map(rest);
        assert!(text.starts_with("10.88."), "{text:?}, {complaint:?}");
        assert_eq!(client.exit(&path).await.code, 3);

        let at_rest = host.world_at_rest();
        // Each of these takes it down again, and it is what it was before.
        for way in ["Cleanup", "Stop"] {
            prepare(&client, &path).await.done();
            let waits = pid(&client.container(&path).await);
            match way {
                "Cleanup" => clean_up(&client, &path).await.done(),
                _ => client.stop(&path).await.done(),
            }
            gone(waits).await;
            let container = client.container(&path).await;
            assert_eq!(container.get::<String>("State"), "exited", "{way}");
            assert_eq!(container.get::<i32>("ExitCode"), 3, "{way}");
            host.settles_to(&at_rest);
        }
        clean_up(&client, &path).await.done();
        prepare(&client, &path).await.done();
        let remove = client.job(&path, "Container", "Remove", &0_u64).await.unwrap();
        remove.done();

        let runs = started(&client, "runs", "exec sleep 1000").await;
        assert_eq!(failure(&clean_up(&client, &runs).await), format!("{ERROR}.InvalidState"));
        client.remove(&runs).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_one_that_is_killed_while_it_waits_has_ended() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = client.create("c", "true").await;
        for daemon_is_there in [true, false] {
            prepare(&client, &path).await.done();
            let waits = pid(&client.container(&path).await);
            if daemon_is_there {
                rustix::process::kill_process(waits, rustix::process::Signal::KILL).unwrap();
                assert_eq!(client.exit(&path).await.reason, "start-failed");
            } else {
                tared.kill9();
                rustix::process::kill_process(waits, rustix::process::Signal::KILL).unwrap();
                gone(waits).await;
                break;
            }
        }
        drop(client);
        let mut tared = tared.restart();
        let client = tared.client().await;
        let container = client.container(&path).await;
        assert_eq!(container.get::<String>("State"), "exited");
        assert_eq!(container.get::<String>("ExitReason"), "start-failed");
        let absent = Options::from([("Command", vec!["/absent"].into())]);
        let wrong = client.create_with("wrong", absent).await.unwrap();
        let ended = prepare(&client, &wrong).await;
        assert_eq!(failure(&ended), format!("{ERROR}.CommandNotFound"));
        for path in [&path, &wrong] {
            client.remove(path).await.done();
        }
        tared.stop();
    });
}
