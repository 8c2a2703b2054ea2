//! Who speaks with registries, as systemd starts it: a process for each pull.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use system_tests::Ring::System;
use system_tests::{Client, ERROR, Options, ROOT, failure, in_lab, run};
use zbus::OwnedObjectPath;

use crate::unit::main_pid;

const PATIENCE: Duration = Duration::from_secs(20);

/// The workers that systemd knows of.
fn workers() -> Vec<String> {
    let options = ["list-units", "--all", "--plain", "--no-legend", "--full", "tare-worker@*"];
    let listed = run("systemctl", &options);
    listed.lines().filter_map(|line| line.split_whitespace().next()).map(Into::into).collect()
}

/// Waits until there are so many.
async fn wait_for(number: usize) -> Vec<String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let found = workers();
        if found.len() == number {
            return found;
        }
        assert!(Instant::now() < end, "{found:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Begins to pull from a registry that never answers, by a name that has to be looked up.
async fn begin(client: &Client, silent: &TcpListener) -> (OwnedObjectPath, TcpStream) {
    let name = format!("localhost:{}/a:1", silent.local_addr().unwrap().port());
    let options = Options::from([("TLSVerify", false.into())]);
    let reply = client.call(ROOT, "Manager", "PullImage", &(name, options)).await.unwrap();
    let job = reply.body().deserialize().unwrap();
    let taken = tokio::task::spawn_blocking({
        let silent = silent.try_clone().unwrap();
        move || silent.accept()
    });
    // The worker has begun, and ended what it does before it speaks.
    let connection = tokio::time::timeout(PATIENCE, taken).await.expect("it connects").unwrap();
    (job, connection.unwrap().0)
}

#[test]
fn lab_each_pull_has_a_worker_that_can_do_nothing_and_goes_with_it() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        assert_eq!(workers(), Vec::<String>::new(), "there is none while nobody pulls");
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let (first, _first) = begin(&client, &silent).await;
        let (second, _second) = begin(&client, &silent).await;
        let units = wait_for(2).await;
        for unit in &units {
            let status = fs::read_to_string(format!("/proc/{}/status", main_pid(unit))).unwrap();
            let field = |name: &str| {
                let mut lines = status.lines();
                let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                value.unwrap().split_whitespace().next().unwrap().to_owned()
            };
            assert_eq!(field("Name"), "tare-worker");
            let user: u32 = field("Uid").parse().unwrap();
            assert!((61184..=65519).contains(&user), "{user} is not one that systemd made for it");
            for capabilities in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert_eq!(field(capabilities), "0".repeat(16), "{capabilities}");
            }
            assert_eq!((field("NoNewPrivs"), field("Seccomp")), ("1".into(), "2".into()));
        }
        client.call(&first, "Job", "Cancel", &0_u64).await.unwrap();
        assert_eq!(client.ended(&first).await.result, "canceled");
        let left = wait_for(1).await;
        run("systemctl", &["kill", "--signal=KILL", &left[0]]);
        let ended = client.ended(&second).await;
        assert_eq!(failure(&ended), format!("{ERROR}.WorkerFailed"), "{ended:?}");
        wait_for(0).await;
    });
}
