//! Containers that are written down and go on from there: by CRIU, on the service as it is shipped.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use system_tests::Ring::System;
use system_tests::contract::Interfaces;
use system_tests::{
    Client, ERROR, Ended, Lab, Options, Properties, ROOT, failure, in_lab, run, started,
};
use zbus::{OwnedObjectPath, Variant};

/// Counts in its memory, and says how far it is. Not into a file: CRIU wants those that were open to be
/// as long as they were.
pub(crate) const COUNTS: &str = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.01; done";

/// How far a container has counted, as it has said last.
fn count(path: &OwnedObjectPath) -> u64 {
    // All that it has said by now.
    run("journalctl", &["--sync"]);
    let of_it = format!("CONTAINER_ID_FULL={}", id(path));
    let last = run("journalctl", &["--quiet", "--output=cat", "--lines=1", &of_it]);
    last.trim().parse().unwrap_or(0)
}

/// How far it is when it is that far.
pub(crate) async fn counts(path: &OwnedObjectPath, is_far: impl Fn(u64) -> bool) -> u64 {
    let begun = Instant::now();
    loop {
        match count(path) {
            now if is_far(now) => return now,
            now => assert!(begun.elapsed() < Duration::from_secs(20), "it stays at {now}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) async fn checkpoint(
    client: &Client,
    path: &OwnedObjectPath,
    options: Options<'_>,
) -> Ended {
    client.job(path, "Container", "Checkpoint", &options).await.unwrap()
}

pub(crate) async fn restore(
    client: &Client,
    path: &OwnedObjectPath,
    from: &OwnedObjectPath,
) -> Ended {
    let body = (from, Options::new());
    client.job(path, "Container", "Restore", &body).await.unwrap()
}

/// The checkpoint that a job has made.
pub(crate) async fn taken(client: &Client, ended: &Ended) -> OwnedObjectPath {
    made(client, ended, "Checkpoint").await
}

/// What a job has made.
pub(crate) async fn made(client: &Client, ended: &Ended, key: &str) -> OwnedObjectPath {
    ended.done();
    let output = client.properties(&ended.job, "Job").await.get::<Variant<'static>>("Output");
    let output: HashMap<String, Variant<'_>> = output.try_into().unwrap();
    output[key].try_clone().unwrap().try_into().unwrap()
}

pub(crate) async fn state(client: &Client, path: &OwnedObjectPath) -> String {
    client.container(path).await.text("State")
}

/// What is on the disk of checkpoints, and where CRIU was at work.
pub(crate) fn files() -> Vec<String> {
    let dirs = ["/var/lib/tare/checkpoints", "/run/tare/containers"];
    let found = run("find", &[&dirs[..], &["-path", "*heckpoint*/*"]].concat());
    found.lines().map(Into::into).collect()
}

#[test]
fn lab_a_container_goes_on_where_its_checkpoint_was_taken() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        let path = started(&client, "c", COUNTS).await;
        let address = |all: &Properties| format!("{:?}", all.0["IPAddresses"]);
        let before = address(&client.container(&path).await);
        counts(&path, |it| it > 20).await;

        let named = Options::from([("Name", "before".into())]);
        let from = taken(&client, &checkpoint(&client, &path, named).await).await;
        let ended = client.container(&path).await;
        assert_eq!(
            (ended.text("State"), ended.text("ExitReason")),
            ("exited".into(), "checkpointed".into())
        );
        assert_eq!(ended.get::<i32>("ExitCode"), 137);
        let shown = client.properties(&from, "Checkpoint").await;
        assert_eq!(shown.text("Name"), "before");
        assert!(shown.get::<u64>("Size") > 100_000);
        assert!(shown.text("CRIUVersion").starts_with('4'), "{shown:?}");
        assert_eq!(client.list("ListCheckpoints").await.len(), 1);
        is_as_in_the_contract(&client, &from).await;
        let json = client.call(&from, "Checkpoint", "Inspect", &1_u64).await.unwrap();
        let json: String = json.body().deserialize().unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert!(json["Stats"]["PagesWritten"].as_u64().unwrap() > 10, "{json}");
        assert!(json["Stats"]["FrozenUSec"].as_u64().unwrap() > 0, "{json}");

        // Twice from the same.
        let taken_at = count(&path);
        for _ in 0..2 {
            let stood = count(&path);
            restore(&client, &path, &from).await.done();
            assert_eq!(state(&client, &path).await, "running");
            assert_eq!(address(&client.container(&path).await), before);
            let now = counts(&path, |it| it != stood).await;
            assert!((taken_at + 1..taken_at + 200).contains(&now), "from {taken_at} to {now}");
            counts(&path, |it| it > now).await;
            assert_eq!(client.exec(&path, "exit 3").await.code, 3);
            let seen = client.messages().len();
            client.call(&path, "Container", "Kill", &("init", 9, 0_u64)).await.unwrap();
            client.exit_after(seen, &path).await;
            assert_eq!(client.container(&path).await.text("ExitReason"), "signaled");
        }

        let removed = client.job(&from, "Checkpoint", "Remove", &0_u64).await.unwrap();
        removed.done();
        assert_eq!(files(), Vec::<String>::new());
        client.remove(&path).await.done();
    });
}

/// As all other interfaces are on any host.
async fn is_as_in_the_contract(client: &Client, checkpoint: &OwnedObjectPath) {
    let dir = std::env::var("TARE_CONTRACT_DIR").expect("a lab system says where it is");
    let file = Path::new(&dir).join("org.tare.Containers1.Checkpoint.xml");
    let written = Interfaces::parse(&fs::read_to_string(file).unwrap());
    let live = Interfaces::parse(&client.introspect(checkpoint).await).ours();
    let differences = written.differences(&live);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn lab_a_container_can_go_on_while_checkpoints_of_it_are_taken() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        let path = started(&client, "c", COUNTS).await;
        let goes_on = || Options::from([("LeaveRunning", true.into())]);
        let pid: u32 = client.container(&path).await.get("PID");
        for _ in 0..3 {
            let now = counts(&path, |it| it > 0).await;
            taken(&client, &checkpoint(&client, &path, goes_on()).await).await;
            counts(&path, |it| it > now).await;
            assert_eq!(client.container(&path).await.get::<u32>("PID"), pid);
        }
        assert_eq!(client.list("ListCheckpoints").await.len(), 3);
        assert!(!Path::new("/run/tare/containers").join(id(&path)).join("1/checkpoint").exists());
        // They go with it.
        client.call(&path, "Container", "Kill", &("init", 9, 0_u64)).await.unwrap();
        client.exit(&path).await;
        client.remove(&path).await.done();
        assert!(client.list("ListCheckpoints").await.is_empty());
        assert_eq!(files(), Vec::<String>::new());
    });
}

fn id(path: &OwnedObjectPath) -> &str {
    path.as_str().rsplit('/').next().unwrap()
}

#[test]
fn lab_what_no_checkpoint_is_taken_of_goes_on_and_leaves_nothing() {
    in_lab(System, async |lab| {
        refusals(lab).await;
    });
}

async fn refusals(lab: &Lab) {
    let client = lab.client().await;
    let path = started(&client, "c", COUNTS).await;
    let refused = async |path: &OwnedObjectPath, error: &str, says: &str| {
        let ended = checkpoint(&client, path, Options::new()).await;
        assert_eq!(failure(&ended), format!("{ERROR}.{error}"), "{ended:?}");
        assert!(ended.error_message.contains(says), "{ended:?}");
        assert_eq!(files(), Vec::<String>::new());
        assert!(client.list("ListCheckpoints").await.is_empty());
    };
    let session = client.begin_exec(&path, "sleep 1000").await;
    refused(&path, "NotCheckpointable", "executed").await;
    client.call(&session, "Process", "Kill", &(9, 0_u64)).await.unwrap();
    let now = count(&path);
    counts(&path, |it| it > now).await;

    let options =
        Options::from([("Command", vec!["sh", "-c", COUNTS].into()), ("AutoRemove", true.into())]);
    let passing = client.create_with("passing", options).await.unwrap();
    client.start(&passing).await.done();
    refused(&passing, "NotCheckpointable", "removed").await;
    client.call(&passing, "Container", "Kill", &("init", 9, 0_u64)).await.unwrap();

    // A lock that CRIU is not told of.
    let locks =
        started(&client, "locks", "exec 9>/lock; touch /opened; while :; do sleep 0.05; done")
            .await;
    let pid: u32 = client.container(&locks).await.get("PID");
    while !Path::new(&format!("/proc/{pid}/root/opened")).exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    lock(pid, 9);
    refused(&locks, "NotCheckpointable", "FileLocks").await;
    assert_eq!(client.container(&locks).await.get::<u32>("PID"), pid, "it goes on");
    let with = Options::from([("FileLocks", true.into())]);
    let from = taken(&client, &checkpoint(&client, &locks, with).await).await;
    let other = restore(&client, &path, &from).await;
    assert_eq!(failure(&other), format!("{ERROR}.CheckpointIncompatible"));
    restore(&client, &locks, &from).await.done();

    let stopped = client.create("stopped", "true").await;
    let ended = checkpoint(&client, &stopped, Options::new()).await;
    assert_eq!(failure(&ended), format!("{ERROR}.NotRunning"));
    let running = restore(&client, &locks, &from).await;
    assert_eq!(failure(&running), format!("{ERROR}.InvalidState"));
    let option = Options::from([("PreDump", true.into())]);
    let unknown = client.call(&path, "Container", "Checkpoint", &option).await.unwrap_err();
    assert_eq!(unknown.name, format!("{ERROR}.UnknownOption"));
    let none = (
        zbus::ObjectPath::try_from(format!("{ROOT}/checkpoint/{}", "0".repeat(64))).unwrap(),
        Options::new(),
    );
    let none = client.call(&locks, "Container", "Restore", &none).await.unwrap_err();
    assert_eq!(none.name, format!("{ERROR}.NoSuchCheckpoint"));
    without_criu(&client, &path).await;
    for path in [path, locks, stopped] {
        let _ = client.call(&path, "Container", "Kill", &("init", 9, 0_u64)).await;
        client.job(&path, "Container", "Remove", &1_u64).await.unwrap().done();
    }
}

/// Has a process hold a lock on what it has open, which is what flock(1) does.
fn lock(pid: u32, number: i32) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let open = pidfd_getfd(process, number, PidfdGetfdFlags::empty()).unwrap();
    flock(open, FlockOperation::LockExclusive).unwrap();
}

/// As on a host that does not have it.
async fn without_criu(client: &Client, path: &OwnedObjectPath) {
    let features = async || client.properties(ROOT, "Manager").await.get::<Vec<String>>("Features");
    assert!(features().await.contains(&"checkpoint".into()));
    let criu = run("sh", &["-c", "command -v criu"]);
    let (criu, away) = (criu.trim(), "/root/criu");
    run("mv", &[criu, away]);
    let checkpoint = client.call(path, "Container", "Checkpoint", &Options::new()).await;
    let features = features().await;
    run("mv", &[away, criu]);
    assert_eq!(checkpoint.unwrap_err().name, format!("{ERROR}.RuntimeFailed"));
    assert!(!features.contains(&"checkpoint".into()), "{features:?}");
}

#[test]
fn lab_people_take_checkpoints_by_their_words() {
    in_lab(System, async |lab| {
        lab.client().await.import_busybox().await;
        let tarectl = |arguments: &[&str]| run("tarectl", arguments);
        tarectl(&["run", "--name", "c", "busybox", "sh", "-c", COUNTS]);
        let id = tarectl(&["checkpoint", "--name", "first", "c"]);
        assert_eq!(id.trim().len(), 64, "{id}");
        assert!(tarectl(&["checkpoints", "ls"]).contains("first"));
        tarectl(&["restore", "c"]);
        assert!(tarectl(&["ps"]).contains("running"));
        tarectl(&["checkpoint", "--leave-running", "c"]);
        tarectl(&["checkpoints", "rm", "first"]);
        tarectl(&["rm", "--force", "c"]);
        assert_eq!(tarectl(&["checkpoints", "ls"]).lines().count(), 1);
    });
}
