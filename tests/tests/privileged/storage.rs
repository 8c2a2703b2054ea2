//! What is mounted in containers, and devices they are given.

use std::collections::HashMap;

use system_tests::{Client, Options, Tared, failure, on_scratch_host};
use zbus::{OwnedObjectPath, Variant};

type Row = HashMap<String, Variant<'static>>;

fn row<'a>(pairs: impl IntoIterator<Item = (&'a str, Variant<'static>)>) -> Row {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// A container that runs a script, with these rows as one of its options.
async fn started_with(client: &Client, name: &str, key: &str, rows: Vec<Row>) -> OwnedObjectPath {
    let path = client.create_with(name, with(key, rows)).await.unwrap();
    client.start(&path).await.done();
    path
}

fn with(key: &str, rows: Vec<Row>) -> Options<'_> {
    Options::from([("Command", vec!["sleep", "1000"].into()), (key, Variant::from(rows))])
}

async fn says(client: &Client, path: &OwnedObjectPath, script: &str) -> String {
    let done = client.exec(path, script).await;
    assert_eq!(done.code, 0, "{script}: {}", done.stderr);
    done.stdout.trim_end().to_owned()
}

#[test]
fn privileged_memory_and_devices_are_what_was_asked_for() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let options = |words: &[&'static str]| Variant::from(words.to_vec());
        let memory = vec![
            row([("Target", "/mem".into()), ("Options", options(&["size=64k", "mode=0700"]))]),
            row([("Target", "/fixed".into()), ("ReadOnly", true.into())]),
        ];
        let path = started_with(&client, "memory", "Tmpfs", memory).await;
        assert_eq!(says(&client, &path, "stat -c %a /mem").await, "700");
        assert_ne!(client.exec(&path, "head -c 100000 /dev/zero > /mem/x").await.code, 0);
        assert_ne!(client.exec(&path, "touch /fixed/x").await.code, 0);
        let line = says(&client, &path, "grep ' /mem ' /proc/mounts").await;
        for word in ["size=64k", "nosuid", "nodev", "noexec"] {
            assert!(line.contains(word), "{word}: {line}");
        }
        client.remove(&path).await.done();

        let device = |path: &'static str, target: &'static str, access: &'static str| {
            let texts = [("Path", path), ("Target", target), ("Access", access)];
            vec![row(texts.map(|(key, text)| (key, text.into())))]
        };
        let path =
            started_with(&client, "device", "Devices", device("/dev/zero", "/dev/data", "r")).await;
        assert_eq!(says(&client, &path, "stat -c %t:%T /dev/data").await, "1:5");
        assert_eq!(client.exec(&path, "head -c 1 /dev/data").await.code, 0);
        assert!(client.container(&path).await.get::<bool>("Privileged"));
        client.remove(&path).await.done();

        for (key, rows, name) in [
            ("Tmpfs", vec![row([("Target", "/proc/x".into())])], "InvalidArgs"),
            ("Tmpfs", vec![row([("Target", "/a/../b".into())])], "InvalidArgs"),
            ("Tmpfs", vec![row([])], "InvalidArgs"),
            (
                "Tmpfs",
                vec![row([("Target", "/a".into()), ("Size", 1_u32.into())])],
                "UnknownOption",
            ),
            ("Devices", device("/etc/passwd", "/dev/x", "r"), "InvalidArgs"),
            ("Devices", device("/dev/../etc/passwd", "/dev/x", "r"), "InvalidArgs"),
            ("Devices", device("/dev/no-such", "/dev/x", "r"), "InvalidSpec"),
            ("Devices", device("/dev/fd", "/dev/x", "r"), "InvalidSpec"),
            ("Devices", device("/dev/null", "/etc/x", "r"), "InvalidSpec"),
        ] {
            let refused = client.create_with("bad", with(key, rows)).await.unwrap_err();
            assert!(refused.name.ends_with(name), "{key} {name}: {refused:?}");
        }
        tared.stop();
    });
}

/// The image is hostile: where a mount goes is found out inside of it, and before anything runs.
#[test]
fn privileged_a_mount_does_not_follow_the_image_out_of_bounds() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let links = "ln -s proc/sys bad; ln -s ../../../../outside out; ln -s /tmp fine";
        let target = |path: &'static str| vec![row([("Target", path.into())])];
        for (at, works, place) in
            [("/bad", false, ""), ("/out", true, "/outside"), ("/fine/x", true, "/tmp/x")]
        {
            let path = client.create_with(&at[1..4], with("Tmpfs", target(at))).await.unwrap();
            let upper = format!(
                "{}/containers/{}/upper",
                tared.setup().state.display(),
                path.rsplit('/').next().unwrap()
            );
            system_tests::run("sh", &["-c", &format!("cd {upper} && {links}")]);
            let started = client.start(&path).await;
            if works {
                started.done();
                let mounts = says(&client, &path, "cat /proc/mounts").await;
                assert!(mounts.contains(&format!(" {place} ")), "{at}: {mounts}");
            } else {
                assert!(failure(&started).ends_with(".MountFailed"), "{at}");
            }
            client.remove(&path).await.done();
        }
        assert!(!std::path::Path::new("/outside").exists());
        tared.stop();
    });
}

#[test]
fn privileged_a_container_has_the_time_and_the_hosts_it_was_given() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let options = Options::from([
            ("Command", vec!["sleep", "1000"].into()),
            ("Timezone", "Asia/Tokyo".into()),
            ("BaseHosts", "host".into()),
        ]);
        let path = client.create_with("zone", options).await.unwrap();
        client.start(&path).await.done();
        assert_eq!(says(&client, &path, "date -d @0 +%H:%M").await, "09:00");
        let own = std::fs::read("/usr/share/zoneinfo/Asia/Tokyo").unwrap();
        assert_eq!(says(&client, &path, "wc -c < /etc/localtime").await, own.len().to_string());
        assert_eq!(says(&client, &path, "readlink /etc/mtab").await, "/proc/mounts");
        let hosts = std::fs::read_to_string("/etc/hosts").unwrap();
        let known =
            hosts.lines().find(|line| line.starts_with("ff02::2")).or_else(|| hosts.lines().next());
        let names = says(&client, &path, "cat /etc/hosts").await;
        let name = known.unwrap().split_whitespace().last().unwrap();
        assert!(names.contains(name), "{name}: {names}");
        client.remove(&path).await.done();
        let bad = Options::from([("BaseHosts", "/etc/shadow".into())]);
        let refused = client.create_with("bad", bad).await.unwrap_err();
        assert!(refused.name.ends_with("InvalidArgs"), "{refused:?}");
        tared.stop();
    });
}
