//! The service as people call it: with `tarectl` and `busctl`.

use std::fs;
use std::process::{Command, Output, Stdio};

use system_tests::image::busybox_tar;
use system_tests::{Tared, bin, on_scratch_host, run};

fn tarectl(tared: &Tared, arguments: &[&str]) -> Output {
    let mut command = Command::new(bin("tarectl"));
    command.arg("--address").arg(tared.address()).args(arguments).stdin(Stdio::null());
    command.output().unwrap()
}

/// What it printed; it must have ended with 0.
fn says(tared: &Tared, arguments: &[&str]) -> String {
    let output = tarectl(tared, arguments);
    assert!(output.status.success(), "tarectl {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_string()
}

#[test]
fn privileged_a_life_by_tarectl() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let tar = host.path("busybox.tar");
        fs::write(&tar, busybox_tar()).unwrap();
        let image = says(&tared, &["import", "--reference", "busybox", tar.to_str().unwrap()]);
        assert!(image.starts_with("sha256:"), "{image}");
        assert!(says(&tared, &["images"]).contains("localhost/busybox:latest"));
        says(&tared, &["tag", "busybox", "box:1", "box:2"]);
        says(&tared, &["untag", "busybox", "box:2"]);
        assert!(says(&tared, &["image", "inspect", "box:1"]).contains("localhost/box:1"));
        let saved = host.path("saved.tar");
        says(&tared, &["save", "-o", saved.to_str().unwrap(), "box:1"]);
        assert!(fs::metadata(&saved).unwrap().len() > 500_000);
        assert!(says(&tared, &["history", "box:1"]).starts_with("        SIZE  CREATED BY"));

        let script = "trap 'exit 7' TERM; echo out; echo err >&2; while :; do sleep 0.05; done";
        let id = says(&tared, &["create", "--name", "web", "busybox", "sh", "-c", script]);
        assert_eq!(id.len(), 64, "{id}");
        says(&tared, &["start", "web"]);
        assert!(says(&tared, &["ps"]).contains(&id[..12]));

        let exec = tarectl(&tared, &["exec", "-e", "A=b", "web", "sh", "-c", "echo $A; exit 3"]);
        assert_eq!(
            (exec.status.code(), exec.stdout.as_slice()),
            (Some(3), &b"b\n"[..]),
            "{exec:?}"
        );
        let at = tarectl(&tared, &["exec", "-t", "web", "sh", "-c", "tty; cat; exit 4"]);
        assert_eq!(
            (at.status.code(), at.stdout.as_slice()),
            (Some(4), &b"/dev/pts/0\r\n"[..]),
            "{at:?}"
        );
        says(&tared, &["update", "--restart", "no", "--stop-timeout", "9", "web"]);
        let wrong = tarectl(&tared, &["update", "--pids-limit", "0", "web"]);
        assert!(
            !wrong.status.success()
                && wrong.stderr.ends_with(b"(org.freedesktop.DBus.Error.InvalidArgs)\n"),
            "{wrong:?}"
        );
        says(&tared, &["stop", "web"]);
        assert_eq!(says(&tared, &["wait", "web"]), "7");
        let logs = tarectl(&tared, &["logs", "web"]);
        assert_eq!(
            (logs.stdout.as_slice(), logs.stderr.as_slice()),
            (&b"out\n"[..], &b"err\n"[..])
        );
        assert!(!says(&tared, &["ps"]).contains("web"));
        assert!(says(&tared, &["ps", "--all"]).contains("exited"));
        says(&tared, &["rename", "web", "www"]);
        let used = tarectl(&tared, &["rmi", "box:1"]);
        let said = String::from_utf8_lossy(&used.stderr);
        assert!(said.contains("ImageInUse") && said.contains("busybox"), "{said}");
        says(&tared, &["rm", "www"]);
        says(&tared, &["untag", "box:1", "box:1"]);
        says(&tared, &["rmi", "busybox"]);
        assert!(!says(&tared, &["images"]).contains("busybox"));

        let missing = tarectl(&tared, &["start", "web"]);
        assert!(!missing.status.success());
        let said = String::from_utf8_lossy(&missing.stderr);
        assert!(said.contains("no container 'web'") && said.contains("NoSuchContainer"), "{said}");
        tared.stop();
    });
}

#[test]
fn privileged_networks_by_tarectl() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        tared.client().await.import_busybox().await;
        let subnet = ["--subnet", "10.99.0.0/24", "--ipv6"];
        says(&tared, &[&["network", "create"], &subnet[..], &["web"]].concat());
        assert!(says(&tared, &["network", "ls"]).contains("web"));
        let create =
            ["create", "--network", "web", "--publish", "127.0.0.1:8080:80", "--name", "c"];
        says(&tared, &[&create[..], &["busybox", "sleep", "1000"]].concat());
        says(&tared, &["start", "c"]);
        says(&tared, &["network", "connect", "--alias", "sea", "tare", "c"]);
        let shown = says(&tared, &["exec", "c", "ip", "-o", "-4", "address"]);
        assert!(shown.contains("10.99.0.2/24") && shown.contains("eth1"), "{shown}");
        assert!(says(&tared, &["network", "inspect", "web"]).contains("10.99.0.2"));
        let found = says(&tared, &["exec", "c", "nslookup", "sea."]);
        assert!(found.contains("Address: 10.88."), "{found}");
        says(&tared, &["network", "create", "--dns=false", "mute"]);
        let client = tared.client().await;
        let mute = client.properties("/org/tare/Containers1/network/mute", "Network").await;
        assert!(!mute.get::<bool>("DNS"));
        says(&tared, &["network", "disconnect", "tare", "c"]);
        let refused = tarectl(&tared, &["network", "rm", "web"]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains("in use by c"), "{said}");
        says(&tared, &["network", "rm", "--force", "web"]);
        says(&tared, &["rm", "--force", "c"]);
        says(&tared, &["network", "rm", "mute"]);
        tared.stop();
    });
}

#[test]
fn privileged_busctl_understands_the_service() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let address = format!("--address={}", tared.address());
        let busctl = |arguments: &[&str]| {
            run("busctl", &[&[address.as_str()], arguments].concat()).trim_end().to_string()
        };
        let (name, root) = ("org.tare.Containers1", "/org/tare/Containers1");
        let created = busctl(&[
            "call",
            name,
            root,
            "org.tare.Containers1.Manager",
            "CreateContainer",
            "ssa{sv}",
            "web",
            "busybox",
            "2",
            "Command",
            "as",
            "2",
            "sleep",
            "1000",
            "StopSignal",
            "i",
            "9",
        ]);
        let path = created.strip_prefix("o ").unwrap().trim_matches('"');
        let interface = "org.tare.Containers1.Container";
        let state = || busctl(&["get-property", name, path, interface, "State"]);
        assert_eq!(state(), "s \"configured\"");
        busctl(&["call", name, path, interface, "Start", "ta{sv}", "0", "0"]);
        while state() != "s \"running\"" {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(busctl(&["tree", name]).contains(path));
        assert!(busctl(&["introspect", name, path]).contains("IPAddresses"));
        client.remove(&path.try_into().unwrap()).await.done();
        tared.stop();
    });
}
