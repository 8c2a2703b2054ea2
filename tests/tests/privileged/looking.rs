//! What can be seen of a container, and waited for.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use system_tests::{Client, ERROR, Options, Properties, ROOT, Tared, on_scratch_host, started};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe::Receiver;
use zbus::{OwnedObjectPath, OwnedVariant};

use crate::crash::pid;

/// Rows of a list.
type Rows = Vec<std::collections::HashMap<String, OwnedVariant>>;

/// The lines of a stream.
type Lines = tokio::io::Lines<BufReader<Receiver>>;

async fn fd<B>(client: &Client, path: &OwnedObjectPath, method: &str, body: &B) -> OwnedFd
where
    B: serde::Serialize + zbus::DynamicType,
{
    let reply = client.call(path, "Container", method, body).await.unwrap();
    reply.body().deserialize::<zbus::OwnedFd>().unwrap().into()
}

async fn wait_fd(client: &Client, path: &OwnedObjectPath, condition: &str) -> Lines {
    let stream = fd(client, path, "WaitFD", &(condition, 0_u64)).await;
    BufReader::new(Receiver::from_owned_fd(stream).unwrap()).lines()
}

/// The next line; nothing at the end.
async fn next(lines: &mut Lines) -> Option<Value> {
    let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await;
    let line = line.expect("a stream has no line").unwrap();
    line.map(|line| serde_json::from_str(&line).unwrap())
}

async fn only(mut lines: Lines) -> Value {
    let line = next(&mut lines).await.expect("there is a line");
    assert_eq!(next(&mut lines).await, None, "and no other");
    line
}

async fn name_of_error(client: &Client, path: &OwnedObjectPath, method: &str) -> String {
    client.call(path, "Container", method, &0_u64).await.unwrap_err().name
}

/// How many descriptors a daemon has, when it has as many as `want`, or after a while.
async fn descriptors(tared: &Tared, want: impl Fn(usize) -> bool) -> usize {
    let dir = format!("/proc/{}/fd", tared.pid());
    let count = || fs::read_dir(&dir).unwrap().count();
    for _ in 0..1000 {
        if want(count()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    count()
}

#[test]
fn privileged_an_end_is_told_to_all_who_wait() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = client.create("c", "exec sleep 1000").await;
        assert_eq!(only(wait_fd(&client, &path, "stopped").await).await["State"], "configured");
        assert_eq!(name_of_error(&client, &path, "OpenPIDFD").await, format!("{ERROR}.NotRunning"));
        let running = wait_fd(&client, &path, "running").await;
        client.start(&path).await.done();
        let running = only(running).await;
        let process = pid(&client.container(&path).await);
        assert_eq!(running["State"], "running");
        assert_eq!(running["PID"], process.as_raw_nonzero().get());

        let pidfd = fd(&client, &path, "OpenPIDFD", &0_u64).await;
        let ended = |pidfd: &OwnedFd, time: &Timespec| {
            poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(time)).unwrap() == 1
        };
        assert!(!ended(&pidfd, &Timespec::default()));
        let (mut one, other) =
            (wait_fd(&client, &path, "stopped").await, wait_fd(&client, &path, "stopped").await);
        let removed = wait_fd(&client, &path, "removed").await;
        let early = tokio::time::timeout(Duration::from_millis(100), one.next_line()).await;
        assert!(early.is_err(), "it runs");
        kill_process(process, Signal::KILL).unwrap();
        assert!(ended(&pidfd, &Timespec { tv_sec: 60, tv_nsec: 0 }));
        for stream in [one, other] {
            let line = only(stream).await;
            assert_eq!((&line["State"], &line["ExitCode"]), (&"exited".into(), &137.into()));
        }
        client.remove(&path).await.done();
        let line = only(removed).await;
        assert_eq!((&line["State"], &line["ExitCode"]), (&"removed".into(), &137.into()));
        tared.stop();
    });
}

#[test]
fn privileged_nothing_is_kept_for_those_who_went_away() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", "exec sleep 1000").await;
        // What is opened once is there from now on.
        drop(wait_fd(&client, &path, "stopped").await);
        let before = descriptors(&tared, |_| false).await;
        let mut open = Vec::new();
        for _ in 0..50 {
            open.push(fd(&client, &path, "WaitFD", &("stopped", 0_u64)).await);
            open.push(fd(&client, &path, "OpenStats", &(100_000_u64, 0_u64)).await);
        }
        let most = descriptors(&tared, |count| count >= before + 100).await;
        assert!(most >= before + 100, "{most} after {before}");
        drop(open);
        assert_eq!(descriptors(&tared, |count| count <= before).await, before);

        // A daemon that ends says nothing.
        let mut waits = wait_fd(&client, &path, "stopped").await;
        tared.kill9();
        drop(client);
        assert_eq!(next(&mut waits).await, None);
        let mut tared = tared.restart();
        let client = tared.client().await;
        let wrong = client.call(&path, "Container", "WaitFD", &("well", 0_u64)).await;
        assert_eq!(wrong.unwrap_err().name, "org.freedesktop.DBus.Error.InvalidArgs");
        client.remove(&path).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_everything_about_a_container_is_in_one_document() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let labels = std::collections::HashMap::from([("secret", "plan")]);
        let options = Options::from([
            ("Command", vec!["sleep", "1000"].into()),
            ("Env", vec!["TOKEN=hush"].into()),
            ("Labels", labels.into()),
        ]);
        let body = ("web", "localhost/busybox:latest", options);
        let path: OwnedObjectPath = client.manager("CreateContainer", &body).await.unwrap();
        let inspect = async |flags: u64| -> Value {
            let json: String = client.manager("InspectContainer", &("web", flags)).await.unwrap();
            serde_json::from_str(&json).unwrap()
        };
        let whole = inspect(0).await;
        assert_eq!((&whole["v"], &whole["Name"]), (&1.into(), &"web".into()));
        assert_eq!((&whole["State"], &whole["PID"]), (&"configured".into(), &0.into()));
        assert_eq!(whole["Labels"]["secret"], "plan");
        assert!(whole["Env"].as_array().unwrap().contains(&"TOKEN=hush".into()), "{whole}");
        assert_eq!(whole["Argv"], serde_json::json!(["sleep", "1000"]));
        for flags in [1_u64, 2] {
            let refused = client.call(&path, "Container", "Inspect", &flags).await.unwrap_err();
            assert_eq!(refused.name, format!("{ERROR}.NotRunning"));
        }
        let both = client.call(&path, "Container", "Inspect", &3_u64).await.unwrap_err();
        assert_eq!(both.name, "org.freedesktop.DBus.Error.InvalidArgs");

        client.start(&path).await.done();
        let properties = client.container(&path).await;
        let process: u32 = properties.get("PID");
        assert_eq!(inspect(0).await["PID"], process);
        let config = inspect(1).await;
        assert_eq!(config["process"]["args"], serde_json::json!(["sleep", "1000"]));
        let state = inspect(2).await;
        assert_eq!((&state["status"], &state["pid"]), (&"running".into(), &process.into()));
        assert_eq!(state["id"], properties.text("Id"));
        assert!(state["bundle"].as_str().is_some_and(|dir| fs::metadata(dir).is_ok()), "{state}");
        client.call(&path, "Container", "Pause", &0_u64).await.unwrap();
        assert_eq!(inspect(2).await["status"], "paused");

        let reply = client.call(&path, "Container", "GetProcesses", &0_u64).await.unwrap();
        let rows: Rows = reply.body().deserialize().unwrap();
        assert_eq!(rows.len(), 1);
        let row = Properties(rows.into_iter().next().unwrap());
        assert_eq!(row.text("Command"), "sleep 1000");
        assert_eq!((row.get::<u32>("PID"), row.get::<u32>("ContainerPID")), (process, 1));
        client.remove(&path).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_figures_are_those_of_the_container() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let works = started(&client, "works", "while :; do :; done").await;
        let idle = client.create("idle", "sleep 1000").await;
        let not_running = name_of_error(&client, &idle, "GetStats").await;
        assert_eq!(not_running, format!("{ERROR}.NotRunning"));
        let stats = async || {
            let reply = client.call(&works, "Container", "GetStats", &0_u64).await.unwrap();
            Properties(reply.body().deserialize().unwrap())
        };
        let cpu = async || stats().await.get::<u64>("CPUUsageNSec");
        let before = cpu().await;
        let mut after = before;
        for _ in 0..1000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            after = cpu().await;
            if after > before {
                break;
            }
        }
        assert!(after > before, "it works");
        assert!(stats().await.has("Network"));

        for named in [vec![], vec![works.clone(), idle.clone()]] {
            let rows: Rows = client.manager("GetStats", &(named, 0_u64)).await.unwrap();
            assert_eq!(rows.len(), 1, "{rows:?}");
            let row = Properties(rows.into_iter().next().unwrap());
            assert_eq!(row.get::<zbus::ObjectPath<'static>>("Container").as_str(), works.as_str());
        }
        let nobody: OwnedObjectPath = format!("{ROOT}/job/_1").try_into().unwrap();
        let none = client.manager::<_, Rows>("GetStats", &(vec![nobody], 0_u64)).await;
        assert_eq!(none.unwrap_err().name, format!("{ERROR}.NoSuchContainer"));

        let too_often = client.call(&works, "Container", "OpenStats", &(99_999_u64, 0_u64)).await;
        assert_eq!(too_often.unwrap_err().name, "org.freedesktop.DBus.Error.InvalidArgs");
        let stream = fd(&client, &works, "OpenStats", &(100_000_u64, 0_u64)).await;
        let mut lines = BufReader::new(Receiver::from_owned_fd(stream).unwrap()).lines();
        let (first, second) = (next(&mut lines).await.unwrap(), next(&mut lines).await.unwrap());
        assert!(second["t"].as_u64() > first["t"].as_u64());
        assert!(second["CPUUsageNSec"].as_u64() >= first["CPUUsageNSec"].as_u64());
        assert_eq!(first["Network"][0]["Interface"], "eth0");
        client.remove(&works).await.done();
        while next(&mut lines).await.is_some() {}
        client.remove(&idle).await.done();
        tared.stop();
    });
}
