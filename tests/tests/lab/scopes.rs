//! Containers as units of systemd, and who starts their processes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use system_tests::Ring::System;
use system_tests::{Client, Lab, Options, Properties, in_lab, run, started};
use zbus::OwnedObjectPath;

use crate::unit::{another_daemon, main_pid};

/// Ends with 7 when it is asked to stop.
const OBEDIENT: &str = "trap 'exit 7' TERM; while :; do sleep 0.05; done";

/// The unit of a container.
fn scope(path: &OwnedObjectPath) -> String {
    let id = path.as_str().rsplit('/').next().unwrap();
    format!("tare-{}.scope", &id[..12])
}

/// A property of a unit, as `systemctl show` prints it.
fn show(unit: &str, property: &str) -> String {
    let property = format!("--property={property}");
    run("systemctl", &["show", "--value", &property, unit]).trim().into()
}

fn status_of(pid: &str, line: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|it| it.strip_prefix(line)).unwrap().trim().into()
}

/// The processes in a control group.
fn members(group: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/sys/fs/cgroup{group}/cgroup.procs")).unwrap();
    text.lines().map(Into::into).collect()
}

async fn gone(unit: &str) {
    while show(unit, "LoadState") != "not-found" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn obedient(client: &Client) -> (OwnedObjectPath, String) {
    client.import_busybox().await;
    let path = started(client, "c", OBEDIENT).await;
    // It has its trap by the time it has something to say.
    client.exec(&path, "sleep 0.2").await;
    let scope = scope(&path);
    (path, scope)
}

async fn ended(client: &Client, path: &OwnedObjectPath) -> Properties {
    while client.container(path).await.text("State") != "exited" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client.container(path).await
}

#[test]
fn lab_a_container_is_a_scope_of_its_own() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let options = Options::from([
            ("Command", vec!["sleep", "1000"].into()),
            ("StopSignal", 2_i32.into()),
            ("StopTimeoutUSec", 3_000_000_u64.into()),
        ]);
        let path = client.create_with("c", options).await.unwrap();
        client.start(&path).await.done();
        let (unit, container) = (scope(&path), client.container(&path).await);
        for (property, want) in [
            ("ActiveState", "active"),
            ("Description", "Container c"),
            ("Slice", "machine.slice"),
            ("Delegate", "yes"),
            ("TasksMax", "infinity"),
            ("KillSignal", "2"),
            ("TimeoutStopUSec", "23s"),
            ("OOMPolicy", "continue"),
        ] {
            assert_eq!(show(&unit, property), want, "{property}");
        }
        for (property, unit_in_it) in [("Before", "tared.service"), ("After", "network.target")] {
            let units = show(&unit, property);
            assert!(units.split(' ').any(|it| it == unit_in_it), "{property}: {units}");
        }
        let group = container.text("CGroupPath");
        assert_eq!(group, format!("/machine.slice/{unit}"));
        assert_eq!(show(&unit, "ControlGroup"), group);
        assert_eq!(members(&group), Vec::<String>::new());
        assert_eq!(members(&format!("{group}/supervisor")).len(), 1);
        let pid: u32 = container.get("PID");
        assert_eq!(members(&format!("{group}/payload")), [pid.to_string()]);
        assert!(!Path::new("/sys/fs/cgroup/tare").exists(), "nothing beside what systemd has");

        client.remove(&path).await.done();
        gone(&unit).await;
        assert!(!Path::new(&format!("/sys/fs/cgroup{group}")).exists());
    });
}

#[test]
fn lab_a_container_is_in_the_slice_that_is_asked_for() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let options = |parent: &'static str| {
            Options::from([
                ("Command", vec!["sleep", "1000"].into()),
                ("CgroupParent", parent.into()),
            ])
        };
        let path = client.create_with("c", options("tare-test.slice")).await.unwrap();
        client.start(&path).await.done();
        let (unit, group) = (scope(&path), client.container(&path).await.text("CGroupPath"));
        assert_eq!(group, format!("/tare.slice/tare-test.slice/{unit}"));
        assert_eq!(show(&unit, "ControlGroup"), group);
        assert_eq!(show(&unit, "Slice"), "tare-test.slice");
        client.stop(&path).await.done();
        gone(&unit).await;
        client.start(&path).await.done();
        client.remove(&path).await.done();
        gone(&unit).await;
        run("systemctl", &["stop", "tare.slice"]);
        assert!(!Path::new("/sys/fs/cgroup/tare.slice").exists());
        let refused = client.create_with("c", options("/tare")).await.unwrap_err();
        assert!(refused.message.contains("slice"), "{refused:?}");
    });
}

#[test]
fn lab_one_that_starts_again_at_once_has_its_scope_again() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        let (path, unit) = obedient(&client).await;
        for _ in 0..10 {
            client.stop(&path).await.done();
            client.start(&path).await.done();
            assert_eq!(show(&unit, "ActiveState"), "active");
        }
        client.remove(&path).await.done();
    });
}

#[test]
fn lab_stopping_the_scope_stops_the_container_in_its_own_way() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        let (path, unit) = obedient(&client).await;
        assert_ne!(show(&unit, "Controller"), "");
        run("systemctl", &["stop", &unit]);
        let container = ended(&client, &path).await;
        assert_eq!(container.get::<i32>("ExitCode"), 7);
        assert_eq!(container.text("ExitReason"), "exited");
        assert!(says(lab, "the service manager wants it"));
        client.remove(&path).await.done();
    });
}

#[test]
fn lab_nobody_else_can_say_that_systemd_wants_a_container_stopped() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        let (path, unit) = obedient(&client).await;
        let controller = show(&unit, "Controller");
        let unit_path = run(
            "busctl",
            &[
                "call",
                "org.freedesktop.systemd1",
                "/org/freedesktop/systemd1",
                "org.freedesktop.systemd1.Manager",
                "GetUnit",
                "s",
                &unit,
            ],
        );
        let unit_path = unit_path.split('"').nth(1).unwrap();
        let destination = format!("--destination={controller}");
        let signal =
            [&*destination, "emit", unit_path, "org.freedesktop.systemd1.Scope", "RequestStop"];
        run("busctl", &signal);
        // The bus may keep it from him altogether.
        let mut nobody = Command::new("setpriv");
        let _ = nobody.args(["--reuid=65534", "--clear-groups", "busctl"]).args(signal).status();
        // systemd's own word comes after those.
        client.exec(&path, "true").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(client.container(&path).await.text("State"), "running");
        assert!(!says(lab, "the service manager wants it"));
        client.remove(&path).await.done();
    });
}

fn says(lab: &Lab, what: &str) -> bool {
    lab.journal("cat", &["--unit=tared.service"]).contains(what)
}

#[test]
fn lab_stopping_a_scope_works_after_a_restart_of_the_service() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        let (path, unit) = obedient(&client).await;
        let daemon = main_pid("tared.service");
        run("systemctl", &["restart", "tared.service"]);
        another_daemon(&client, daemon).await;
        run("systemctl", &["stop", &unit]);
        let container = ended(&client, &path).await;
        assert_eq!(container.get::<i32>("ExitCode"), 7, "systemd sends the signal itself");
        client.remove(&path).await.done();
    });
}

#[test]
fn lab_an_exit_code_is_known_where_conmon_was_killed_with_its_container() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        let (path, unit) = obedient(&client).await;
        run("systemctl", &["kill", "--signal=KILL", &unit]);
        let container = ended(&client, &path).await;
        assert_eq!(container.get::<i32>("ExitCode"), 137);
        assert_ne!(container.text("ExitReason"), "lost");
        client.remove(&path).await.done();
    });
}

#[test]
fn lab_containers_do_not_notice_the_end_of_who_started_them() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        let (path, _) = obedient(&client).await;
        let before = client.container(&path).await;
        for how in [&["restart"][..], &["kill", "--signal=KILL"]] {
            let spawner = main_pid("tare-spawn.service");
            run("systemctl", &[how, &["tare-spawn.service"]].concat());
            assert_eq!(client.exec(&path, "exit 3").await.code, 3, "after {how:?}");
            assert_ne!(main_pid("tare-spawn.service"), spawner, "after {how:?}");
            let after = client.container(&path).await;
            assert_eq!(
                (after.text("State"), &after.0["PID"]),
                ("running".into(), &before.0["PID"])
            );
        }
        client.stop(&path).await.done();
        assert_eq!(client.exit(&path).await.code, 7);
        client.remove(&path).await.done();
    });
}

#[test]
fn lab_the_exit_code_of_a_session_outlives_the_service() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        let (path, _) = obedient(&client).await;
        let session =
            client.begin_exec(&path, "while [ ! -e /go ]; do sleep 0.05; done; exit 5").await;
        let daemon = main_pid("tared.service");
        run("systemctl", &["kill", "--signal=KILL", "tared.service"]);
        let pid: u32 = client_pid(&path);
        fs::write(format!("/proc/{pid}/root/go"), "").unwrap();
        another_daemon(&client, daemon).await;
        while client.properties(&session, "Process").await.text("State") == "running" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let code: i32 = client.properties(&session, "Process").await.get("ExitCode");
        assert_eq!(code, 5);
        client.remove(&path).await.done();
    });
}

/// The first process of a container, without asking the service.
fn client_pid(path: &OwnedObjectPath) -> u32 {
    let group = format!("/machine.slice/{}/payload", scope(path));
    members(&group).first().unwrap().parse().unwrap()
}

#[test]
fn lab_the_sandbox_of_the_service_is_its_own() {
    in_lab(System, async |lab| {
        let client = lab.client().await;
        let (path, unit) = obedient(&client).await;
        let (tared, container) =
            (main_pid("tared.service").to_string(), client_pid(&path).to_string());
        let conmon = members(&format!("/machine.slice/{unit}/supervisor")).remove(0);
        assert_eq!(status_of(&tared, "NoNewPrivs:"), "1");
        assert_eq!(status_of(&conmon, "NoNewPrivs:"), "0");
        assert_eq!(status_of(&container, "NoNewPrivs:"), "0", "set-user-ID programs work");
        let bounds = |pid: &str| u64::from_str_radix(&status_of(pid, "CapBnd:"), 16).unwrap();
        assert_eq!(bounds(&conmon), bounds("1"), "a privileged container can have all");
        assert_eq!(bounds(&tared) & (1 << 16), 0, "CAP_SYS_MODULE is taken away");
        let filters = |pid: &str| status_of(pid, "Seccomp_filters:").parse::<u32>().unwrap();
        assert!(filters(&tared) > filters(&conmon));
        assert_eq!(filters(&conmon), filters("1"));
        let mounts = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
        assert_eq!(mounts(&tared), mounts("1"), "network namespaces are for everybody to see");
        client.remove(&path).await.done();
    });
}

#[test]
fn lab_the_units_are_in_order() {
    in_lab(System, async |_| {
        let units = [
            "tared.service",
            "tare-spawn.service",
            "tare-spawn.socket",
            "tare-names.service",
            "tare-names.socket",
            "tare-worker@.service",
            "tare-worker.socket",
        ];
        let found = run("systemd-analyze", &[&["verify"][..], &units].concat());
        assert_eq!(found, "");
        for name in ["spawn", "names", "worker"] {
            let socket = format!("tare-{name}.socket");
            let listens = format!("/run/tare/{name}.sock (SequentialPacket)");
            assert_eq!(show(&socket, "Listen"), listens);
            assert_eq!(show(&socket, "SocketMode"), "0600");
        }
    });
}
