//! What is mounted in containers, and devices they are given.

use std::collections::HashMap;

use rustix::mount::{UnmountFlags, mount_bind, unmount};
use system_tests::image::{busybox_tar_with, file_of};
use system_tests::{Client, Ended, Options, Tared, failure, on_scratch_host};
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
fn privileged_a_container_has_the_time_it_was_given() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let options = Options::from([
            ("Command", vec!["sleep", "1000"].into()),
            ("Timezone", "Asia/Tokyo".into()),
        ]);
        let path = client.create_with("zone", options).await.unwrap();
        client.start(&path).await.done();
        assert_eq!(says(&client, &path, "date -d @0 +%H:%M").await, "09:00");
        let own = std::fs::read("/usr/share/zoneinfo/Asia/Tokyo").unwrap();
        assert_eq!(says(&client, &path, "wc -c < /etc/localtime").await, own.len().to_string());
        assert_eq!(says(&client, &path, "readlink /etc/mtab").await, "/proc/mounts");
        client.remove(&path).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_what_hosts_begins_with_is_of_the_host_or_the_image_or_nothing() {
    on_scratch_host(async |host| {
        let own = host.path("hosts");
        std::fs::write(&own, "192.0.2.77 of-the-host\n").unwrap();
        mount_bind(&own, "/etc/hosts").unwrap();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let archive = busybox_tar_with("etc/hosts", b"192.0.2.78 of-the-image\n");
        let reference = Options::from([("Reference", "with-hosts".into())]);
        client.import(&file_of(&archive), reference).await.unwrap().done();
        for (base, want) in [("host", "of-the-host"), ("image", "of-the-image"), ("none", "")] {
            let options = Options::from([
                ("Command", vec!["sleep", "1000"].into()),
                ("BaseHosts", base.into()),
            ]);
            let path: OwnedObjectPath =
                client.manager("CreateContainer", &("c", "with-hosts", options)).await.unwrap();
            client.start(&path).await.done();
            let names = says(&client, &path, "cat /etc/hosts").await;
            for name in ["of-the-host", "of-the-image"] {
                assert_eq!(names.contains(name), name == want, "{base}: {names}");
            }
            client.remove(&path).await.done();
        }
        let bad = Options::from([("BaseHosts", "etc/hosts".into())]);
        let bad = ("c", "with-hosts", bad);
        let refused = client.manager::<_, OwnedObjectPath>("CreateContainer", &bad).await;
        assert_eq!(refused.unwrap_err().short(), "InvalidArgs");
        tared.stop();
        unmount("/etc/hosts", UnmountFlags::empty()).unwrap();
    });
}

/// A volume at a place.
fn volume(name: &'static str, target: &'static str) -> Row {
    row([("Name", name.into()), ("Target", target.into())])
}

async fn volume_of(client: &Client, name: &str) -> OwnedObjectPath {
    client.manager("GetVolume", &name).await.unwrap()
}

async fn remove_volume(client: &Client, path: &OwnedObjectPath) -> Ended {
    client.job(path, "Volume", "Remove", &0_u64).await.unwrap()
}

/// What is in a volume survives its containers and the daemon, and is not lost by accident.
#[test]
fn privileged_a_volume_outlives_containers_and_the_daemon() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let labels = HashMap::from([("org.tare.public.a", "b"), ("secret", "c")]);
        let options = Options::from([("Labels", Variant::from(labels))]);
        let data: OwnedObjectPath =
            client.manager("CreateVolume", &("my-data", options)).await.unwrap();
        assert!(data.as_str().ends_with("/volume/my_2ddata"));
        let again = client
            .manager::<_, OwnedObjectPath>("CreateVolume", &("my-data", Options::new()))
            .await;
        assert!(again.unwrap_err().name.ends_with("NameInUse"));

        let rows = vec![volume("my-data", "/data"), volume("other", "/other")];
        let path = started_with(&client, "first", "Volumes", rows).await;
        says(&client, &path, "echo kept > /data/file; mkdir /data/dir; echo in > /data/dir/f")
            .await;
        let line = says(&client, &path, "grep ' /data ' /proc/mounts").await;
        assert!(line.contains("nosuid") && line.contains("nodev"), "{line}");
        let seen = client.properties(data.as_str(), "Volume").await;
        assert_eq!(seen.paths("Containers"), std::slice::from_ref(&path));
        let refused = remove_volume(&client, &data).await;
        assert!(failure(&refused).ends_with("VolumeInUse"), "{refused:?}");
        assert!(refused.error_message.contains("first"), "{refused:?}");
        client.remove(&path).await.done();
        assert_eq!(client.list("ListVolumes").await.len(), 2, "named ones stay");

        tared.kill9();
        drop(client);
        let mut tared = tared.restart();
        let client = tared.client().await;
        let reply = client.call(&data, "Volume", "Inspect", &0_u64).await.unwrap();
        let json: String = reply.body().deserialize().unwrap();
        assert!(json.contains("\"secret\":\"c\""), "{json}");
        let sub = row([
            ("Name", "my-data".into()),
            ("Target", "/sub".into()),
            ("SubPath", "dir".into()),
            ("ReadOnly", true.into()),
        ]);
        let path =
            started_with(&client, "second", "Volumes", vec![volume("my-data", "/data"), sub]).await;
        assert_eq!(says(&client, &path, "cat /data/file /sub/f").await, "kept\nin");
        assert_ne!(client.exec(&path, "touch /sub/x").await.code, 0, "it is read-only");
        tared.kill9();
        drop(client);
        let mut tared = tared.restart();
        let client = tared.client().await;
        let seen = client.properties(data.as_str(), "Volume").await;
        assert_eq!(seen.paths("Containers"), std::slice::from_ref(&path), "after a restart, too");
        assert!(failure(&remove_volume(&client, &data).await).ends_with("VolumeInUse"));
        client.remove(&path).await.done();
        for name in ["my-data", "other"] {
            remove_volume(&client, &volume_of(&client, name).await).await.done();
        }
        assert!(client.list("ListVolumes").await.is_empty());
        let volumes = tared.setup().state.join("volumes");
        assert_eq!(std::fs::read_dir(volumes).unwrap().count(), 0, "nothing is left");
        tared.stop();
    });
}

/// A new volume begins as what the image has there; those made for a container alone go with it if
/// that is asked for, and never one that another uses.
#[test]
fn privileged_volumes_are_filled_once_and_anonymous_ones_go_with_their_container() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let rows = vec![volume("etc", "/etc"), row([("Target", "/own".into())])];
        let path = started_with(&client, "filled", "Volumes", rows).await;
        assert!(says(&client, &path, "cat /etc/passwd").await.contains("www"));
        says(&client, &path, "echo extra:x:77:77:::/bin/sh >> /etc/passwd; rm /etc/group").await;
        let all = client.list("ListVolumes").await;
        let anonymous: Vec<_> = all.iter().filter(|it| it.get::<bool>("Anonymous")).collect();
        let own = anonymous[0].text("Name");
        assert_eq!((all.len(), anonymous.len(), own.len()), (2, 1, 64));
        client.stop(&path).await.done();
        // Users are those of the volume, which hides what the image has.
        let mut options = with("Volumes", vec![volume("etc", "/etc")]);
        options.insert("User", "extra".into());
        let second = client.create_with("second", options).await.unwrap();
        client.start(&second).await.done();
        assert_eq!(says(&client, &second, "id -u; ls /etc/group 2>&1 | wc -l").await, "77\n1");
        assert_ne!(client.exec(&second, "test -e /etc/group").await.code, 0, "filled once");
        client.remove(&second).await.done();

        let shared = vec![row([("Name", own.clone().into()), ("Target", "/x".into())])];
        let third = client.create_with("third", with("Volumes", shared)).await.unwrap();
        let remove = async |path: &OwnedObjectPath| {
            client.job(path, "Container", "Remove", &3_u64).await.unwrap().done();
        };
        remove(&path).await;
        assert_eq!(client.list("ListVolumes").await.len(), 2, "another uses it");
        remove(&third).await;
        let left = client.list("ListVolumes").await;
        assert_eq!(left.iter().map(|it| it.text("Name")).collect::<Vec<_>>(), ["etc"]);
        remove_volume(&client, &volume_of(&client, "etc").await).await.done();
        tared.stop();
    });
}

/// Volumes may hold anything, and callers ask for anything.
#[test]
fn privileged_a_volume_leads_nowhere_else() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started_with(&client, "maker", "Volumes", vec![volume("evil", "/v")]).await;
        says(&client, &path, "ln -s / /v/root; ln -s ../../../.. /v/up; echo x > /v/file").await;
        let sub = |path: &'static str| {
            let texts = [("Name", "evil"), ("Target", "/sub"), ("SubPath", path)];
            vec![row(texts.map(|(key, text)| (key, text.into())))]
        };
        for link in ["root", "up"] {
            let path = started_with(&client, link, "Volumes", sub(link)).await;
            assert_eq!(says(&client, &path, "cat /sub/file").await, "x", "{link}");
            client.remove(&path).await.done();
        }
        for (missing, name) in [("none", "MountFailed"), ("file", "MountFailed")] {
            let path = client.create_with("missing", with("Volumes", sub(missing))).await.unwrap();
            let started = client.start(&path).await;
            assert!(failure(&started).ends_with(name), "{missing}: {started:?}");
            client.remove(&path).await.done();
        }
        for (rows, name) in [
            (sub("../x"), "InvalidArgs"),
            (sub("/etc"), "InvalidArgs"),
            (vec![volume("../x", "/v")], "InvalidArgs"),
            (vec![volume("v", "/proc")], "InvalidArgs"),
            (vec![volume("v", "/a"), volume("v", "/a/")], "InvalidSpec"),
            (vec![row([("Name", "v".into())])], "InvalidArgs"),
        ] {
            let refused = client.create_with("bad", with("Volumes", rows)).await.unwrap_err();
            assert!(refused.name.ends_with(name), "{name}: {refused:?}");
        }
        let names: Vec<_> =
            client.list("ListVolumes").await.iter().map(|it| it.text("Name")).collect();
        assert_eq!(names, ["evil"], "what is refused makes nothing");
        client.remove(&path).await.done();
        remove_volume(&client, &volume_of(&client, "evil").await).await.done();
        tared.stop();
    });
}

async fn usage(client: &Client) -> u64 {
    client.properties(system_tests::ROOT, "Manager").await.get("StorageUsage")
}

#[test]
fn privileged_how_much_is_kept_is_found_out_in_the_background() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let image: OwnedObjectPath = client.manager("GetImage", &"busybox").await.unwrap();
        let size: u64 = client.properties(&image, "Image").await.get("Size");
        // Nobody looks again so soon, whoever asks.
        for _ in 0..10 {
            assert!(usage(&client).await < size);
        }
        drop(client);
        tared.stop();
        let mut tared = tared.restart();
        let client = tared.client().await;
        let begun = std::time::Instant::now();
        while usage(&client).await < size {
            assert!(begun.elapsed().as_secs() < 30, "{size}");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert!(usage(&client).await < 3 * size, "the image and its archive");
        tared.stop();
    });
}
