//! Checkpoints, while something else becomes of their containers, or of the service.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use system_tests::Ring::System;
use system_tests::{Client, ERROR, Options, failure, in_lab, run, started};
use zbus::OwnedObjectPath;

use crate::checkpoints::{COUNTS, checkpoint, counts, files, restore, state, taken};
use crate::unit::{another_daemon, main_pid};

async fn begin<B>(
    client: &Client,
    path: &OwnedObjectPath,
    method: &str,
    body: &B,
) -> OwnedObjectPath
where
    B: serde::Serialize + zbus::DynamicType,
{
    let reply = client.call(path, "Container", method, body).await.unwrap();
    reply.body().deserialize().unwrap()
}

/// One that goes on.
async fn with_checkpoint(client: &Client) -> (OwnedObjectPath, OwnedObjectPath) {
    let path = started(client, "c", COUNTS).await;
    counts(&path, |it| it > 0).await;
    let goes_on = Options::from([("LeaveRunning", true.into())]);
    let from = taken(client, &checkpoint(client, &path, goes_on).await).await;
    (path, from)
}

#[test]
fn lab_a_container_is_removed_whoever_wants_to_restore_it() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        let (path, from) = with_checkpoint(&client).await;
        // What comes after this waits for it, in this order, and finds a container that has ended.
        let second = begin(&client, &path, "Checkpoint", &Options::new()).await;
        let removal = begin(&client, &path, "Remove", &1_u64).await;
        let restoring = begin(&client, &path, "Restore", &(&from, Options::new())).await;
        client.ended(&second).await.done();
        client.ended(&removal).await.done();
        let restored = client.ended(&restoring).await;
        assert_eq!(failure(&restored), format!("{ERROR}.NoSuchContainer"), "{restored:?}");
        assert_eq!(files(), Vec::<String>::new());
    });
}

#[test]
fn lab_what_cannot_be_removed_of_a_checkpoint_keeps_no_other_one() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        let (path, first) = with_checkpoint(&client).await;
        let second = taken(&client, &checkpoint(&client, &path, Options::new()).await).await;
        let dir = |checkpoint: &OwnedObjectPath| {
            let id = checkpoint.as_str().rsplit('/').next().unwrap();
            Path::new("/var/lib/tare/checkpoints").join(id)
        };
        let mut dirs = [dir(&first), dir(&second)];
        // The one that comes first.
        dirs.sort();
        let stays = dirs[0].join("images");
        let stays = stays.to_str().unwrap();
        run("mount", &["-t", "tmpfs", "none", stays]);
        let removed = client.job(&path, "Container", "Remove", &0_u64).await.unwrap();
        assert_eq!(removed.result, "failed", "{removed:?}");
        assert!(client.list("ListCheckpoints").await.is_empty());
        assert_eq!(dirs.each_ref().map(|dir| dir.exists()), [true, false]);
        client.remove(&path).await.done();
        run("umount", &[stays]);
        // The next daemon finds what nothing has.
        let daemon = main_pid("tared.service");
        run("systemctl", &["restart", "tared.service"]);
        another_daemon(&client, daemon).await;
        assert_eq!(files(), Vec::<String>::new());
    });
}

#[test]
fn lab_a_service_that_was_killed_does_not_take_over_what_criu_is_about_to_end() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        let path = started(&client, "c", COUNTS).await;
        let now = counts(&path, |it| it > 20).await;
        let init: i32 = client.container(&path).await.get::<u32>("PID").cast_signed();
        let daemon = main_pid("tared.service");
        begin(&client, &path, "Checkpoint", &Options::new()).await;
        let criu = criu_told_to_go_on(daemon).await;
        run("systemctl", &["kill", "--signal=KILL", "tared.service"]);
        looked_at(daemon, init).await;
        send(criu, Signal::CONT);
        another_daemon(&client, daemon).await;
        while state(&client, &path).await == "running" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(client.container(&path).await.text("ExitReason"), "checkpointed");
        let checkpoints = client.list("ListCheckpoints").await;
        assert_eq!(checkpoints.len(), 1);
        let from = checkpoints[0].get::<OwnedObjectPath>("Path");
        restore(&client, &path, &from).await.done();
        counts(&path, |it| it > now).await;
        client.job(&path, "Container", "Remove", &1_u64).await.unwrap().done();
    });
}

/// A CRIU that was told to end a container, and stands still before it does. The daemon stands still until
/// CRIU waits for that.
async fn criu_told_to_go_on(daemon: u32) -> i32 {
    let (daemon, hook) = (daemon.cast_signed(), "read -r verdict");
    the("criu", "").await;
    send(daemon, Signal::STOP);
    let waits = the("timeout", hook).await;
    let criu = parent(waits);
    send(criu, Signal::STOP);
    send(daemon, Signal::CONT);
    while says(waits, hook) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    criu
}

/// Returns when the next daemon has seen a process.
async fn looked_at(before: u32, process: i32) {
    let line = format!("Pid:\t{process}\n");
    let has_seen = |daemon: u32| {
        let infos = fs::read_dir(format!("/proc/{daemon}/fdinfo")).into_iter().flatten().flatten();
        infos.filter_map(|it| fs::read_to_string(it.path()).ok()).any(|text| text.contains(&line))
    };
    loop {
        match main_pid("tared.service") {
            daemon if ![0, before].contains(&daemon) && has_seen(daemon) => return,
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// The process of that name with that among its arguments, as soon as it is there.
async fn the(name: &str, argument: &str) -> i32 {
    loop {
        let found = processes().into_iter().find(|pid| {
            let comm = fs::read_to_string(of(*pid, "comm")).unwrap_or_default();
            comm.trim() == name && says(*pid, argument)
        });
        match found {
            Some(pid) => return pid,
            None => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

fn processes() -> Vec<i32> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|it| it.file_name().to_str()?.parse().ok()).collect()
}

/// What has ended says nothing.
fn says(pid: i32, argument: &str) -> bool {
    fs::read_to_string(of(pid, "cmdline")).is_ok_and(|line| line.contains(argument))
}

fn parent(pid: i32) -> i32 {
    let status = fs::read_to_string(of(pid, "status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

fn of(pid: i32, file: &str) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join(file)
}

fn send(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}
