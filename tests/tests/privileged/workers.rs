//! Who speaks with registries: a process of its own, which can do nothing else.

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use system_tests::registry::{Access, REGISTRY, Registry};
use system_tests::{Client, ERROR, Host, Options, ROOT, Setup, Tared, failure, on_scratch_host};
use zbus::OwnedObjectPath;

use super::bad_input::there;
use super::pull::incompressible;

const PATIENCE: Duration = Duration::from_secs(20);

fn insecure() -> Options<'static> {
    Options::from([("TLSVerify", false.into())])
}

/// Begins to pull an image.
async fn begin(client: &Client, port: u16) -> OwnedObjectPath {
    let name = format!("127.0.0.1:{port}/big:1");
    let reply = client.call(ROOT, "Manager", "PullImage", &(name, insecure())).await;
    reply.unwrap().body().deserialize().unwrap()
}

/// The workers of a daemon.
fn workers(tared: &Tared) -> Vec<i32> {
    let pids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str().unwrap().parse::<i32>().ok());
    let parent = format!("PPid:\t{}\n", tared.pid());
    let is_one = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.starts_with("Name:\ttare-worker\n") && status.contains(&parent)
    };
    pids.filter(is_one).collect()
}

/// Its only one.
async fn worker(tared: &Tared) -> i32 {
    let end = Instant::now() + PATIENCE;
    loop {
        match workers(tared)[..] {
            [pid] => return pid,
            ref others => assert!(Instant::now() < end, "{others:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// Before the registry: gives the first so many bytes of a connection and holds the rest back.
fn holding_back(after: usize) -> (u16, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, held) = channel();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, registry) = (client.unwrap(), TcpStream::connect(REGISTRY).unwrap());
            let (mut asks, mut asked) =
                (client.try_clone().unwrap(), registry.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut asks, &mut asked));
            let sender = sender.clone();
            thread::spawn(move || {
                let mut first = registry.take(after as u64);
                let all = std::io::copy(&mut first, &mut client).unwrap_or_default();
                if all == after as u64 {
                    let _ = sender.send(());
                    // Until nobody wants it any more.
                    let _ = client.read(&mut [0]);
                }
                let _ = client.shutdown(Shutdown::Both);
            });
        }
    });
    (port, held)
}

#[test]
fn privileged_a_worker_can_do_nothing_to_the_host_and_goes_with_its_pull() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let job = begin(&client, silent.local_addr().unwrap().port()).await;
        let (mut connection, _) = silent.accept().unwrap();
        let pid = worker(&tared).await;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        for line in
            ["Uid:\t65534\t65534\t65534\t65534", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1"]
        {
            assert!(status.lines().any(|it| it == line), "{line}: {status}");
        }
        let names: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
            .map(|target| target.display().to_string())
            .filter(|target| target.starts_with('/') && target != "/dev/null")
            .filter(|target| !target.ends_with("tared.log"))
            .collect();
        assert_eq!(names, Vec::<String>::new(), "it has files open");

        client.call(&job, "Job", "Cancel", &0_u64).await.unwrap();
        assert_eq!(client.ended(&job).await.result, "canceled");
        assert_eq!(workers(&tared), Vec::<i32>::new());
        // What was said before; and then nobody is there.
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        if let Err(error) = connection.read_to_end(&mut Vec::new()) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "it ends");
        }
        tared.stop();
    });
}

#[test]
fn privileged_a_pull_whose_worker_is_killed_fails_and_can_be_repeated() {
    const SIZE: usize = 4 << 20;
    on_scratch_host(async |host| {
        let registry = Registry::start(host, Access::Open);
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let picture = incompressible(SIZE);
        registry.put(&picture, "big:1");
        let before = there(host, &client).await;

        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let job = begin(&client, silent.local_addr().unwrap().port()).await;
        let _waits = silent.accept().unwrap();
        kill(worker(&tared).await);
        failed(&client, &job, "before there was anything").await;

        let (port, held) = holding_back(SIZE / 2);
        let job = begin(&client, port).await;
        held.recv_timeout(PATIENCE).expect("half of it has come");
        kill(worker(&tared).await);
        failed(&client, &job, "in the middle of a layer").await;
        assert_eq!(there(host, &client).await, before, "nothing of it stays");
        assert_eq!(workers(&tared), Vec::<i32>::new());

        let name = format!("{REGISTRY}/big:1");
        client
            .job(ROOT, "Manager", "PullImage", &(name.as_str(), insecure()))
            .await
            .unwrap()
            .done();
        let image: OwnedObjectPath = client.manager("GetImage", &name.as_str()).await.unwrap();
        client.job(&image, "Image", "Remove", &1_u64).await.unwrap().done();
        tared.stop();
    });
}

async fn failed(client: &Client, job: &OwnedObjectPath, about: &str) {
    let ended = client.ended(job).await;
    assert_eq!(failure(&ended), format!("{ERROR}.WorkerFailed"), "{about}: {ended:?}");
}

#[test]
fn privileged_a_worker_ends_with_a_daemon_that_is_killed() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let _job = begin(&client, silent.local_addr().unwrap().port()).await;
        let _waits = silent.accept().unwrap();
        let status = format!("/proc/{}/status", worker(&tared).await);
        drop(client);
        tared.kill9();
        let end = Instant::now() + PATIENCE;
        // Whoever has it now may be slow to ask how it ended.
        while fs::read_to_string(&status).is_ok_and(|it| !it.contains("\nState:\tZ")) {
            assert!(Instant::now() < end, "it goes on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut tared = tared.restart();
        tared.stop();
    });
}

fn with_worker(host: &Host, worker: &str) -> Setup {
    let config = host.path("tared.toml");
    fs::write(&config, format!("[registries]\nworker = \"{worker}\"\n")).unwrap();
    Setup { config: Some(config), ..Setup::private(host) }
}

#[test]
fn privileged_where_no_worker_can_be_had_that_is_said() {
    on_scratch_host(async |host| {
        let socket = host.path("none.sock");
        let mut tared = Tared::with(with_worker(host, socket.to_str().unwrap()));
        let client = tared.client().await;
        let job = begin(&client, 1).await;
        failed(&client, &job, "nobody listens").await;
        assert!(tared.log().contains("none.sock"), "where was looked is said");
        tared.stop();
    });
}
