//! A daemon that has `tare-spawn` fork, on a bus of its own.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};
use system_tests::{ERROR, Host, Setup, Tared, bin, failure, on_scratch_host, run, started};

use crate::crash::pid;

/// A `tare-spawn`, and what tells a daemon to use it.
pub(crate) struct TareSpawn {
    child: Child,
    socket: PathBuf,
    pub(crate) setup: Setup,
}

impl TareSpawn {
    pub(crate) fn start(host: &Host) -> Self {
        let (socket, config) = (host.path("spawn.sock"), host.path("tared.toml"));
        let setting = format!("[runtime]\nspawner = {:?}\n", socket.display().to_string());
        fs::write(&config, setting).unwrap();
        let setup = Setup { config: Some(config), ..Setup::private(host) };
        let child = command(&socket, &setup).spawn().unwrap();
        Self { child, socket, setup }
    }

    fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.child = command(&self.socket, &self.setup).spawn().unwrap();
    }

    pub(crate) fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for TareSpawn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(socket: &PathBuf, setup: &Setup) -> Command {
    let mut command = Command::new(bin("tare-spawn"));
    command.arg("--socket").arg(socket).arg("--run-dir").arg(&setup.runtime);
    command
}

#[test]
fn privileged_a_container_outlives_both_that_serve_it() {
    on_scratch_host(async |host| {
        let mut spawner = TareSpawn::start(host);
        let mut tared = Tared::with(spawner.setup.clone());
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", "exec sleep 1000").await;
        let process = pid(&client.container(&path).await);
        let conmon = run("ps", &["-o", "ppid=", "-p", &process.as_raw_nonzero().to_string()]);
        let parent = run("ps", &["-o", "ppid=", "-p", conmon.trim()]);
        assert_eq!(parent.trim(), spawner.child.id().to_string(), "tare-spawn is its parent");
        let session = client.begin_exec(&path, "sleep 0.2; exit 4").await;

        spawner.kill9();
        spawner.start_again();
        assert_eq!(client.exec(&path, "exit 3").await.code, 3);
        assert_eq!(client.session_code(&session).await, 4, "its conmon lived on");
        tared.kill9();
        spawner.kill9();
        spawner.start_again();
        drop(client);
        let mut tared = tared.restart();
        let client = tared.client().await;
        assert_eq!(pid(&client.container(&path).await), process);
        assert_eq!(client.exec(&path, "exit 5").await.code, 5);
        client.remove(&path).await.done();
        tared.stop();
        spawner.stop();
    });
}

#[test]
fn privileged_without_its_tare_spawn_a_daemon_says_so_and_leaves_nothing() {
    on_scratch_host(async |host| {
        let mut spawner = TareSpawn::start(host);
        let mut tared = Tared::with(spawner.setup.clone());
        let client = tared.client().await;
        client.import_busybox().await;
        let path = client.create("c", "exec sleep 1000").await;
        spawner.kill9();
        let ended = client.start(&path).await;
        assert_eq!(failure(&ended), format!("{ERROR}.RuntimeFailed"));
        spawner.start_again();
        // It cannot be taken down without it either, and is with it.
        client.start(&path).await.done();
        client.remove(&path).await.done();
        tared.stop();

        spawner.kill9();
        let mut late = Tared::on("nowhere", spawner.setup.clone());
        assert!(!late.wait().success());
        assert!(late.log().contains("cannot use the tare-spawn"), "{}", late.log());
    });
}
