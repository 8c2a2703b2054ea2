//! Pausing, restarting, and the manager's short ways to a container.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::process::{PidfdFlags, pidfd_open};
use system_tests::{Client, ERROR, Options, Tared, failure, on_scratch_host, started};
use zbus::{Fd, OwnedObjectPath};

use crate::crash::pid;

/// Counts as fast as it can, in a file of its root.
const COUNTS: &str = "n=0; while :; do n=$((n+1)); echo $n > /n; done";

async fn pause(client: &Client, path: &OwnedObjectPath) {
    client.call(path, "Container", "Pause", &0_u64).await.unwrap();
}

async fn resume(client: &Client, path: &OwnedObjectPath) {
    client.call(path, "Container", "Resume", &0_u64).await.unwrap();
}

async fn state(client: &Client, path: &OwnedObjectPath) -> String {
    client.container(path).await.text("State")
}

/// How far a container has counted.
async fn count(client: &Client, path: &OwnedObjectPath) -> String {
    let process = pid(&client.container(path).await);
    fs::read_to_string(format!("/proc/{}/root/n", process.as_raw_nonzero())).unwrap_or_default()
}

/// Whether it counts on while it is looked, for as long as that may take.
async fn moves(client: &Client, path: &OwnedObjectPath) {
    let before = count(client, path).await;
    for _ in 0..2000 {
        let now = count(client, path).await;
        if !now.is_empty() && now != before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it does not go on from {before:?}");
}

#[test]
fn privileged_what_is_paused_does_nothing_and_goes_on() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", COUNTS).await;
        moves(&client, &path).await;
        pause(&client, &path).await;
        assert_eq!(state(&client, &path).await, "paused");
        let (stands, pid) =
            (count(&client, &path).await, client.container(&path).await.get::<u32>("PID"));
        assert_ne!(pid, 0);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(count(&client, &path).await, stands);

        // A new daemon sees it, and it stands still all the while.
        tared.kill9();
        drop(client);
        let mut tared = tared.restart();
        let client = tared.client().await;
        assert_eq!(state(&client, &path).await, "paused");
        assert_eq!(count(&client, &path).await, stands);
        let again = client.call(&path, "Container", "Pause", &0_u64).await.unwrap_err();
        assert_eq!(again.name, format!("{ERROR}.InvalidState"));
        let body = (&["true"][..], Options::new());
        let exec = client.call(&path, "Container", "Exec", &body).await.unwrap_err();
        assert_eq!(exec.name, format!("{ERROR}.InvalidState"));
        let start = client.start(&path).await;
        assert_eq!(failure(&start), format!("{ERROR}.InvalidState"));

        resume(&client, &path).await;
        assert_eq!(state(&client, &path).await, "running");
        moves(&client, &path).await;
        resume(&client, &path).await;
        client.remove(&path).await.done();
        let gone = client.call(&path, "Container", "Resume", &0_u64).await.unwrap_err();
        assert!(gone.name.contains("Unknown") || gone.name.contains("NoSuch"), "{gone:?}");
        tared.stop();
    });
}

#[test]
fn privileged_what_is_paused_is_stopped_killed_and_removed() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        // It gets its signal, and in time.
        let stops =
            started(&client, "stops", "trap 'exit 7' TERM; while :; do sleep 0.01; done").await;
        // Until the trap is set, which no exec can see.
        tokio::time::sleep(Duration::from_millis(500)).await;
        pause(&client, &stops).await;
        client.stop(&stops).await.done();
        assert_eq!(client.exit(&stops).await.code, 7);

        let killed = started(&client, "killed", COUNTS).await;
        pause(&client, &killed).await;
        client.call(&killed, "Container", "Kill", &("init", 9, 0_u64)).await.unwrap();
        assert_eq!(client.exit(&killed).await.code, 137);
        let not_there = client.call(&killed, "Container", "Pause", &0_u64).await.unwrap_err();
        assert_eq!(not_there.name, format!("{ERROR}.NotRunning"));
        resume(&client, &killed).await;

        let removed = started(&client, "removed", COUNTS).await;
        pause(&client, &removed).await;
        client.remove(&removed).await.done();
        for path in [stops, killed] {
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}

#[test]
fn privileged_a_restart_is_one_job() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", "trap 'exit 3' TERM; while :; do sleep 0.01; done").await;
        let before: u32 = client.container(&path).await.get("PID");
        let ended = client.job(&path, "Container", "Restart", &(u64::MAX, 0_u64)).await.unwrap();
        assert_eq!(ended.kind, "restart-container");
        ended.done();
        let after = client.container(&path).await;
        assert_eq!(after.text("State"), "running");
        assert_ne!(after.get::<u32>("PID"), before);
        client.stop(&path).await.done();
        // One that does not run is started.
        client.job(&path, "Container", "Restart", &(0_u64, 0_u64)).await.unwrap().done();
        assert_eq!(state(&client, &path).await, "running");
        client.remove(&path).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_the_manager_finds_containers_by_name() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let root = system_tests::ROOT;
        let path = client.create("web", "exec sleep 1000").await;
        let job = async |method: &str, body: (&str, u64)| {
            client.job(root, "Manager", method, &body).await
        };
        job("StartContainer", ("web", 0)).await.unwrap().done();
        let process = pid(&client.container(&path).await);
        let number = u32::try_from(process.as_raw_nonzero().get()).unwrap();
        let found: OwnedObjectPath = client.manager("GetContainerByPID", &number).await.unwrap();
        assert_eq!(found, path);
        let none = client.manager::<_, OwnedObjectPath>("GetContainerByPID", &0_u32).await;
        assert_eq!(none.unwrap_err().name, format!("{ERROR}.NoContainerForPID"), "we are in none");

        let pidfd = pidfd_open(process, PidfdFlags::empty()).unwrap();
        let by_pidfd = async |fd: &OwnedFd| {
            client.manager::<_, OwnedObjectPath>("GetContainerByPIDFD", &Fd::from(fd.as_fd())).await
        };
        assert_eq!(by_pidfd(&pidfd).await.unwrap(), path);
        let file = fs::File::open("/dev/null").unwrap().into();
        let refused = by_pidfd(&file).await.unwrap_err();
        assert_eq!(refused.name, "org.freedesktop.DBus.Error.InvalidArgs");

        let body = ("web", 0_u64, 0_u64);
        client.job(root, "Manager", "RestartContainer", &body).await.unwrap().done();
        assert_eq!(
            by_pidfd(&pidfd).await.unwrap_err().name,
            format!("{ERROR}.NoContainerForPID"),
            "that process has ended"
        );
        client.job(root, "Manager", "StopContainer", &body).await.unwrap().done();
        assert_eq!(state(&client, &path).await, "exited");
        let body = ("web", "init", 9, 0_u64);
        let stopped = client.call(root, "Manager", "KillContainer", &body).await.unwrap_err();
        assert_eq!(stopped.name, format!("{ERROR}.NotRunning"));
        job("RemoveContainer", ("web", 0)).await.unwrap().done();
        let gone = job("RemoveContainer", ("web", 0)).await.unwrap_err();
        assert_eq!(gone.name, format!("{ERROR}.NoSuchContainer"));
        tared.stop();
    });
}

/// Writes as much into one file as into another, one line at a time, and has much else that is read between
/// the two.
const WRITES: &str = "dd if=/dev/urandom of=/m bs=1M count=24 2>/dev/null; n=0
    while :; do n=$((n+1)); echo >> /a; echo >> /z; echo $n > /n; done";

async fn begin_commit(client: &Client, path: &OwnedObjectPath, name: &str) -> OwnedObjectPath {
    let options = Options::from([("Pause", true.into())]);
    let reply = client.call(path, "Container", "Commit", &(name, options)).await.unwrap();
    reply.body().deserialize().unwrap()
}

/// Waits until a container is paused: if a commit has it so, that is before it ends.
async fn until_paused(client: &Client, path: &OwnedObjectPath, job: &OwnedObjectPath) {
    while state(client, path).await != "paused" {
        let job = client.properties(job, "Job").await;
        assert_ne!(job.text("State"), "finished", "it never stood still");
    }
}

#[test]
fn privileged_what_a_commit_reads_stands_still() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", WRITES).await;
        moves(&client, &path).await;
        // Two at once: the last lets it go on.
        let jobs = [
            begin_commit(&client, &path, "made:1").await,
            begin_commit(&client, &path, "made:2").await,
        ];
        until_paused(&client, &path, &jobs[0]).await;
        for job in &jobs {
            client.ended(job).await.done();
        }
        assert_eq!(state(&client, &path).await, "running");
        moves(&client, &path).await;

        let command = ["sh", "-c", "wc -l < /a; wc -l < /z"];
        let read = Options::from([("Command", command.to_vec().into())]);
        let body = ("reads", "made:1", read);
        let made: OwnedObjectPath = client.manager("CreateContainer", &body).await.unwrap();
        client.start(&made).await.done();
        assert_eq!(client.exit(&made).await.code, 0);
        let log = client.logs(&made, Options::new()).await;
        let lines: Vec<i64> = log
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|line| line["msg"].as_str().unwrap().trim().parse().unwrap())
            .collect();
        assert!(lines[0] > 0 && (lines[0] - lines[1]).abs() <= 1, "it moved: {lines:?}");

        // What was paused stays so.
        pause(&client, &path).await;
        let stands = count(&client, &path).await;
        client.ended(&begin_commit(&client, &path, "made:3").await).await.done();
        assert_eq!(state(&client, &path).await, "paused");
        assert_eq!(count(&client, &path).await, stands);
        resume(&client, &path).await;
        for container in [&path, &made] {
            client.remove(container).await.done();
        }
        tared.stop();
    });
}

#[test]
fn privileged_what_stood_still_for_a_commit_goes_on_whatever_comes_of_that() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", WRITES).await;
        moves(&client, &path).await;
        let none_is_made = async |client: &Client| {
            let found = client.manager::<_, OwnedObjectPath>("GetImage", &"made:1").await;
            assert_eq!(found.unwrap_err().name, format!("{ERROR}.NoSuchImage"));
        };

        let job = begin_commit(&client, &path, "made:1").await;
        until_paused(&client, &path, &job).await;
        client.call(&job, "Job", "Cancel", &0_u64).await.unwrap();
        assert_eq!(client.ended(&job).await.result, "canceled");
        assert_eq!(state(&client, &path).await, "running");
        moves(&client, &path).await;
        none_is_made(&client).await;

        // Somebody else lets it go on: what was read may be torn.
        let job = begin_commit(&client, &path, "made:1").await;
        until_paused(&client, &path, &job).await;
        resume(&client, &path).await;
        moves(&client, &path).await;
        pause(&client, &path).await;
        assert_eq!(failure(&client.ended(&job).await), format!("{ERROR}.InvalidState"));
        assert_eq!(state(&client, &path).await, "paused", "that was somebody's wish");
        resume(&client, &path).await;
        none_is_made(&client).await;

        let job = begin_commit(&client, &path, "made:1").await;
        until_paused(&client, &path, &job).await;
        tared.kill9();
        drop(client);
        let mut tared = tared.restart();
        let client = tared.client().await;
        assert_eq!(state(&client, &path).await, "running");
        moves(&client, &path).await;
        none_is_made(&client).await;

        // It ends while it stands still.
        let job = begin_commit(&client, &path, "made:1").await;
        until_paused(&client, &path, &job).await;
        client.call(&path, "Container", "Kill", &("init", 9, 0_u64)).await.unwrap();
        assert_eq!(client.exit(&path).await.code, 137);
        assert_eq!(failure(&client.ended(&job).await), format!("{ERROR}.InvalidState"));
        // There is nobody who moves.
        client.ended(&begin_commit(&client, &path, "made:1").await).await.done();
        client.remove(&path).await.done();
        tared.stop();
    });
}
