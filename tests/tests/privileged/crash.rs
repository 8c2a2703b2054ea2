//! The daemon dies; containers do not.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use system_tests::{Client, Options, Tared, on_scratch_host};
use zbus::OwnedObjectPath;

use super::started;

/// Ends with 5 when somebody makes `/go` in its root.
const UNTIL_GO: &str = "while [ ! -e /go ]; do sleep 0.05; done; exit 5";

pub(crate) fn pid(properties: &system_tests::Properties) -> Pid {
    let pid: u32 = properties.get("PID");
    Pid::from_raw(i32::try_from(pid).unwrap()).expect("it has a process")
}

fn let_go(pid: Pid) {
    fs::write(format!("/proc/{}/root/go", pid.as_raw_nonzero()), "").unwrap();
}

pub(crate) async fn gone(pid: Pid) {
    let path = format!("/proc/{}", pid.as_raw_nonzero());
    while Path::new(&path).join("root/bin").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn privileged_a_container_outlives_its_daemon() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", UNTIL_GO).await;
        let before = client.container(&path).await;
        let process = pid(&before);
        tared.kill9();
        drop(client);
        test_kill_process(process).expect("the container goes on");

        let mut tared = tared.restart();
        let client = tared.client().await;
        let after = client.container(&path).await;
        for same in ["State", "PID", "PIDFDId", "CGroupPath", "StartedTimestamp", "IPAddresses"] {
            assert_eq!(after.0[same], before.0[same], "{same}");
        }
        assert_eq!(after.text("State"), "running");
        assert_eq!(client.exec(&path, "exit 3").await.code, 3, "exec works as before");
        let_go(process);
        let exit = client.exit(&path).await;
        assert_eq!((exit.code, exit.reason.as_str()), (5, "exited"));
        client.remove(&path).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_an_exit_code_outlives_the_daemon() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let returns = started(&client, "returns", UNTIL_GO).await;
        let killed = started(&client, "killed", UNTIL_GO).await;
        let processes =
            [pid(&client.container(&returns).await), pid(&client.container(&killed).await)];
        tared.kill9();
        drop(client);
        let_go(processes[0]);
        kill_process(processes[1], Signal::KILL).unwrap();
        for process in processes {
            gone(process).await;
        }

        let mut tared = tared.restart();
        let client = tared.client().await;
        for (path, code) in [(&returns, 5), (&killed, 137)] {
            let properties = client.container(path).await;
            assert_eq!(properties.text("State"), "exited", "{properties:?}");
            assert_eq!(properties.get::<i32>("ExitCode"), code);
            assert_ne!(properties.text("ExitReason"), "lost");
        }
        // Once more: what was written down stays.
        tared.kill9();
        drop(client);
        let mut tared = tared.restart();
        let client = tared.client().await;
        assert_eq!(client.container(&returns).await.get::<i32>("ExitCode"), 5);
        for path in [returns, killed] {
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}

const ROUNDS: u32 = 20;

/// Wherever in a start it is killed, the next daemon knows what became of the container.
#[test]
fn privileged_a_daemon_killed_during_a_start_leaves_no_half_container() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let whole = duration_of_a_start(&client).await;
        drop(client);
        let mut seen = Vec::new();
        for round in 0..ROUNDS {
            let client = tared.client().await;
            let path = client.create(&format!("c{round}"), "sleep 1000").await;
            let body = (0_u64, Options::new());
            let reply = client.call(&path, "Container", "Start", &body).await.unwrap();
            let job: OwnedObjectPath = reply.body().deserialize().unwrap();
            if round + 1 < ROUNDS {
                // From its beginning to a little after its end, unless the machine is busy.
                tokio::time::sleep(whole * round * 5 / (4 * ROUNDS)).await;
            } else {
                // After its end, however long that takes.
                client.ended(&job).await.done();
            }
            tared.kill9();
            drop(client);

            tared = tared.restart();
            let client = tared.client().await;
            seen.push(outcome(&client, &path).await);
            client.remove(&path).await.done();
            assert_eq!(client.list("ListContainers").await.len(), 0);
        }
        assert_eq!(seen.last().map(String::as_str), Some("running"), "{seen:?}");
        tared.stop();
    });
}

async fn duration_of_a_start(client: &Client) -> Duration {
    let path = client.create("measured", "sleep 1000").await;
    let begun = Instant::now();
    client.start(&path).await.done();
    let whole = begun.elapsed();
    client.remove(&path).await.done();
    whole
}

/// What became of a container whose start was cut off.
async fn outcome(client: &Client, path: &OwnedObjectPath) -> String {
    let properties = client.container(path).await;
    let state = properties.text("State");
    match state.as_str() {
        "running" => {
            test_kill_process(pid(&properties)).expect("it runs");
            assert_eq!(client.exec(path, "exit 4").await.code, 4, "it is whole");
        }
        "exited" => assert_eq!(properties.text("ExitReason"), "start-failed", "{properties:?}"),
        // Killed before the job had begun, so nothing was.
        "configured" => assert_eq!(properties.text("ExitReason"), ""),
        _ => panic!("{properties:?}"),
    }
    state
}

/// Whoever is killed, and whatever is written about that meanwhile: nothing is in the way of a removal.
#[test]
fn privileged_what_was_killed_is_removed_at_once() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        for round in 0..12 {
            let path = started(&client, "c", "exec sleep 1000").await;
            let init = pid(&client.container(&path).await);
            // conmon of the container, and of a session.
            if round % 2 == 0 {
                client.begin_exec(&path, "exec sleep 1000").await;
            }
            if round % 3 != 0 {
                supervisors(&client, &path).await.into_iter().for_each(kill);
            }
            kill(init);
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}

fn kill(process: Pid) {
    let _ = kill_process(process, Signal::KILL);
}

/// The conmons in the control group of a container.
async fn supervisors(client: &Client, path: &OwnedObjectPath) -> Vec<Pid> {
    let group = client.container(path).await.text("CGroupPath");
    let group = system_tests::world::cgroup2().join(group.trim_start_matches('/'));
    let list = fs::read_to_string(group.join("supervisor/cgroup.procs")).unwrap_or_default();
    list.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect()
}
