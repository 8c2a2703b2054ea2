//! How a daemon begins and ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::fs::Mode;
use rustix::process::Pid;
use rustix::process::test_kill_process;
use system_tests::main_job::address;
use system_tests::world::Difference;
use system_tests::{Options, Setup, Tared, network, on_scratch_host, run};

use super::started;

#[test]
fn privileged_a_second_daemon_is_told_who_is_there() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let setup = tared.setup().clone();
        let other = host.path("other");
        for second in [
            Setup { runtime: other.clone(), ..setup.clone() },
            Setup { state: other, ..setup.clone() },
        ] {
            let output = second.command().stderr(std::process::Stdio::piped()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "{second:?}");
            assert!(said.contains(&format!("process {} ", tared.pid())), "{said}");
            assert_eq!(output.stdout, b"");
        }
        assert!(tared.client().await.is_there().await, "the first goes on");
        tared.stop();
    });
}

/// A service manager that was told of readiness may ask for the end in the same moment.
#[test]
fn privileged_a_daemon_that_is_ready_can_be_ended() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        for _ in 0..20 {
            tared.stop();
            tared = tared.restart();
        }
        tared.stop();
    });
}

#[test]
fn privileged_two_daemons_live_side_by_side() {
    on_scratch_host(async |host| {
        let mut one = Tared::start(host);
        let setup =
            Setup { state: host.path("s2"), runtime: host.path("r2"), ..Setup::private(host) };
        // Both are there before either has made its bridge.
        let mut two = Tared::with(setup);
        let mut containers = Vec::new();
        for tared in [&one, &two] {
            let client = tared.client().await;
            client.import_busybox().await;
            let path = started(&client, "same-name", "sleep 1000").await;
            containers.push((client, path));
        }
        let names = run("ip", &["-o", "link", "show", "type", "bridge"]);
        assert_eq!(names.lines().count(), 2, "{names}");
        let mut gateways = Vec::new();
        for (client, path) in &containers {
            gateways.push(address(client, path).await["Gateway"].clone());
            network::reach_the_host(client, path).await;
        }
        assert_ne!(gateways[0], gateways[1], "each has a subnet of its own");
        for (client, path) in &containers {
            assert_eq!(client.list("ListContainers").await.len(), 1);
            client.remove(path).await.done();
        }
        one.stop();
        assert_eq!(containers[1].0.list("ListContainers").await.len(), 0, "the other goes on");
        two.stop();
    });
}

#[test]
fn privileged_the_last_of_two_daemons_leaves_the_host_as_the_first_found_it() {
    on_scratch_host(async |host| {
        let is_mount_point = || run("findmnt", &["-n", "-o", "TARGET"]).contains("/run/netns");
        let mut one = Tared::start(host);
        let setup =
            Setup { state: host.path("s2"), runtime: host.path("r2"), ..Setup::private(host) };
        let mut two = Tared::with(setup);
        let (first, second) = (one.client().await, two.client().await);
        first.import_busybox().await;
        second.import_busybox().await;
        let of_one = started(&first, "c", "sleep 1000").await;
        assert!(is_mount_point());
        let of_two = started(&second, "c", "sleep 1000").await;
        first.remove(&of_one).await.done();
        one.stop();
        assert!(is_mount_point(), "the other uses it");
        second.stop(&of_two).await.done();
        second.start(&of_two).await.done();
        network::reach_the_host(&second, &of_two).await;
        second.remove(&of_two).await.done();
        two.stop();
        assert!(!is_mount_point());
    });
}

#[test]
fn privileged_a_daemon_does_without_what_another_took_away() {
    on_scratch_host(async |host| {
        let mut one = Tared::start(host);
        let setup =
            Setup { state: host.path("s2"), runtime: host.path("r2"), ..Setup::private(host) };
        let mut two = Tared::with(setup);
        let (first, second) = (one.client().await, two.client().await);
        first.import_busybox().await;
        second.import_busybox().await;
        let of_two = started(&second, "c", "sleep 1000").await;
        second.stop(&of_two).await.done();
        let of_one = started(&first, "c", "sleep 1000").await;
        first.remove(&of_one).await.done();
        // Nobody has a namespace: it takes the directory's mount with it.
        one.stop();
        second.start(&of_two).await.done();
        network::reach_the_host(&second, &of_two).await;
        second.remove(&of_two).await.done();
        two.stop();
        let mounts = run("findmnt", &["-n", "-o", "TARGET"]);
        assert!(!mounts.contains("/run/netns"), "{mounts}");
    });
}

#[test]
fn privileged_a_clean_end_leaves_the_host_as_it_was() {
    on_scratch_host(async |host| {
        let before = host.world();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", "sleep 1000").await;
        client.stop(&path).await.done();
        assert!(run("ip", &["-o", "link"]).contains("tare0-"));
        assert!(run("nft", &["list", "tables"]).contains("inet tare_"));
        tared.stop();
        // The container is still there, but needs nothing of the host; its log is its own.
        let id = path.as_str().rsplit('/').next().unwrap();
        let left = before.leftovers(&host.world(), &host.scope());
        let own = |it: &Difference| ["file", "row"].contains(&it.kind) && it.name.contains(id);
        assert!(left.iter().all(own), "{left:#?}");
        let mut tared = tared.restart();
        let client = tared.client().await;
        assert_eq!(client.container(&path).await.text("State"), "exited");
        client.start(&path).await.done();
        client.remove(&path).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_an_end_leaves_running_containers_and_their_network() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", "sleep 1000").await;
        let pid: u32 = client.container(&path).await.get("PID");
        let links = run("ip", &["-o", "link"]);
        tared.stop();
        test_kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()).expect("it runs");
        assert_eq!(run("ip", &["-o", "link"]), links);
        assert!(run("nft", &["list", "tables"]).contains("inet tare_"));

        let mut tared = tared.restart();
        let client = tared.client().await;
        assert_eq!(client.container(&path).await.get::<u32>("PID"), pid);
        client.remove(&path).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_whoever_starts_it_may_be_private() {
    on_scratch_host(async |host| {
        // Of this thread alone, which has its own since it left the host.
        let before = rustix::process::umask(Mode::from_raw_mode(0o077));
        let mut tared = Tared::start(host);
        rustix::process::umask(before);
        let bus = fs::metadata(tared.setup().runtime.join("bus")).unwrap();
        assert_eq!(bus.permissions().mode() & 0o777, 0o711, "the invoker reaches the socket");
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", "sleep 1000").await;
        let options = Options::from([("User", "1000:1000".into())]);
        let argv = ["cat", "/etc/hosts", "/etc/resolv.conf", "/run/.containerenv"];
        let read = client.exec_argv(&path, &argv, options, b"").await.unwrap();
        assert_eq!(read.code, 0, "{}", read.stderr);
        client.remove(&path).await.done();
        tared.stop();
    });
}
