//! Volumes that images want, those of others, and what is in them.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

use system_tests::archive::{Picture, docker_archive, files_tar};
use system_tests::image::{busybox_tar, file_of};
use system_tests::{
    Client, Ended, Options, ROOT, Setup, Tared, as_user, bin, failure, on_scratch_host,
};
use zbus::{Fd, OwnedObjectPath, OwnedVariant, Variant};

use super::bad_input::there;

const NOBODY: u32 = 65534;

fn volume(name: &'static str, target: &'static str) -> Options<'static> {
    let row = HashMap::from([
        ("Name".to_owned(), Variant::from(name)),
        ("Target".to_owned(), target.into()),
    ]);
    Options::from([
        ("Command", vec!["sleep", "1000"].into()),
        ("Volumes", Variant::from(vec![row])),
    ])
}

async fn says(client: &Client, path: &OwnedObjectPath, script: &str) -> String {
    let done = client.exec(path, script).await;
    assert_eq!(done.code, 0, "{script}: {}", done.stderr);
    done.stdout.trim_end().to_owned()
}

async fn made(client: &Client, name: &str) -> OwnedObjectPath {
    client.manager("CreateVolume", &(name, Options::new())).await.unwrap()
}

async fn remove(client: &Client, path: &OwnedObjectPath) -> Ended {
    client.job(path, "Volume", "Remove", &0_u64).await.unwrap()
}

/// Where it is counted what a directory holds, which is a machine's own, the limit is kept: that is tried there.
#[test]
fn privileged_a_volume_is_whose_it_was_made_for_and_is_not_made_without_the_limit_it_needs() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let before = there(host, &client).await;
        let limited = Options::from([("SizeLimit", (1_u64 << 20).into())]);
        let body = ("small", limited);
        match client.manager::<_, OwnedObjectPath>("CreateVolume", &body).await {
            Ok(path) => remove(&client, &path).await.done(),
            Err(refused) => assert_eq!(refused.short(), "InvalidConfiguration", "{refused:?}"),
        }
        assert_eq!(there(host, &client).await, before, "nothing is left of it");
        assert_eq!(std::fs::read_dir(host.path("s/volumes")).unwrap().count(), 0);

        let owned = Options::from([("UID", 33_u32.into()), ("GID", 34_u32.into())]);
        let path: OwnedObjectPath =
            client.manager("CreateVolume", &("owned", owned)).await.unwrap();
        let seen = client.properties(&path, "Volume").await;
        assert_eq!(seen.get::<u64>("SizeLimit"), u64::MAX);
        // What fills it is root's.
        let container = client.create_with("c", volume("owned", "/bin")).await.unwrap();
        client.start(&container).await.done();
        let says = says(&client, &container, "stat -c %u:%g /bin; stat -c %u /bin/busybox").await;
        assert_eq!(says, "33:34\n0");
        client.remove(&container).await.done();
        remove(&client, &path).await.done();
        tared.stop();
    });
}

/// What an image wants to outlive a container is in a volume of its own, which begins as what the image
/// has there.
#[test]
fn privileged_an_image_has_the_volumes_it_wants() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let config = serde_json::json!({
            "Cmd": ["sleep", "1000"],
            "Volumes": {"/data": {}, "/etc": {}, "/nowhere/yet": {}},
        });
        let files = files_tar(&[("data/from/image", b"kept\n")]);
        let picture =
            Picture { name: "wants:1".into(), layers: vec![busybox_tar().to_vec(), files], config };
        client.import(&file_of(&docker_archive(&[picture])), Options::new()).await.unwrap().done();
        let create = async |name: &str, options: Options<'_>| {
            let made: OwnedObjectPath =
                client.manager("CreateContainer", &(name, "wants:1", options)).await.unwrap();
            client.start(&made).await.done();
            made
        };
        let path = create("c", Options::new()).await;
        assert!(!client.container(&path).await.get::<bool>("Privileged"), "an image is no reason");
        let all = client.list("ListVolumes").await;
        assert!(all.len() == 3 && all.iter().all(|it| it.get::<bool>("Anonymous")), "{all:?}");
        assert_eq!(says(&client, &path, "cat /data/from/image").await, "kept");
        assert!(says(&client, &path, "cat /etc/passwd").await.contains("www"));
        let mounts = says(&client, &path, "cat /proc/mounts").await;
        for place in ["/data", "/etc", "/nowhere/yet"] {
            assert!(mounts.contains(&format!(" {place} ")), "{place}: {mounts}");
        }
        says(&client, &path, "echo changed > /data/from/image; echo x > /nowhere/yet/x").await;
        client.stop(&path).await.done();
        client.start(&path).await.done();
        assert_eq!(says(&client, &path, "cat /data/from/image").await, "changed", "not again");
        // What is asked for at the place comes instead.
        let own = create("d", volume("mine", "/data")).await;
        assert_eq!(says(&client, &own, "cat /data/from/image").await, "kept");
        assert_eq!(client.list("ListVolumes").await.len(), 6);
        for path in [&path, &own] {
            client.job(path, "Container", "Remove", &3_u64).await.unwrap().done();
        }
        let left = client.list("ListVolumes").await;
        assert_eq!(left.iter().map(|it| it.text("Name")).collect::<Vec<_>>(), ["mine"]);
        let mine: OwnedObjectPath = client.manager("GetVolume", &"mine").await.unwrap();
        remove(&client, &mine).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_volumes_of_others_need_more_than_ones_own() {
    on_scratch_host(async |host| {
        let mut setup = Setup::private(host);
        setup.env.push(("SUDO_UID".into(), NOBODY.to_string()));
        let mut tared = Tared::with(setup);
        let root = tared.client().await;
        root.import_busybox().await;
        let roots = made(&root, "roots").await;
        let address = tared.address().to_string();
        as_user(NOBODY, async || {
            let client = Client::connect(&address).await;
            for (name, action) in
                [("roots", "create-privileged-container"), ("new", "create-container")]
            {
                let refused = client.create_with("c", volume(name, "/v")).await.unwrap_err();
                assert_eq!(refused.short(), "AccessDenied");
                assert!(refused.message.ends_with(&format!(".{action}")), "{refused:?}");
            }
            let file = file_of(b"");
            let export = (Fd::from(file.as_fd()), Options::new());
            let refused = client.call(&roots, "Volume", "Export", &export).await.unwrap_err();
            assert!(refused.message.ends_with(".access-volume-data"), "{refused:?}");
        });
        assert_eq!(root.list("ListVolumes").await.len(), 1);
        remove(&root, &roots).await.done();
        tared.stop();
    });
}

async fn import(
    client: &Client,
    volume: &OwnedObjectPath,
    archive: &impl AsFd,
    replace: bool,
) -> Ended {
    let options = Options::from([("Replace", replace.into())]);
    let body = (Fd::from(archive.as_fd()), options);
    client.job(volume, "Volume", "Import", &body).await.unwrap()
}

#[test]
fn privileged_what_is_in_a_volume_goes_out_and_in() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let (first, second) = (made(&client, "first").await, made(&client, "second").await);
        let tar = files_tar(&[("dir/file", b"content"), ("top", &[7].repeat(100_000))]);
        import(&client, &first, &file_of(&tar), false).await.done();
        let usage = client.call(&first, "Volume", "GetUsage", &0_u64).await.unwrap();
        let bytes: u64 = usage.body().deserialize().unwrap();
        assert!((100_000..300_000).contains(&bytes), "{bytes}");

        let out = file_of(b"");
        let export = (Fd::from(out.as_fd()), Options::new());
        client.job(&first, "Volume", "Export", &export).await.unwrap().done();
        let mut exported = Vec::new();
        let again = format!("/proc/self/fd/{}", out.as_raw_fd());
        File::open(again).unwrap().read_to_end(&mut exported).unwrap();
        import(&client, &second, &file_of(&files_tar(&[("old", b"")])), false).await.done();
        import(&client, &second, &file_of(&exported), true).await.done();
        let path = client.create_with("c", volume("second", "/v")).await.unwrap();
        client.start(&path).await.done();
        assert_eq!(says(&client, &path, "cat /v/dir/file; ls /v").await, "contentdir\ntop");
        let bad = import(&client, &second, &file_of(b"no archive"), false).await;
        assert!(failure(&bad).ends_with("InvalidArchive"), "{bad:?}");
        client.remove(&path).await.done();

        // What is being filled is not removed.
        let (reader, writer) = std::io::pipe().unwrap();
        let body = (Fd::from(reader.as_fd()), Options::new());
        let reply = client.call(&first, "Volume", "Import", &body).await.unwrap();
        let job: OwnedObjectPath = reply.body().deserialize().unwrap();
        drop((reader, reply));
        while client.properties(&job, "Job").await.text("Stage") != "copying" {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let refused = remove(&client, &first).await;
        assert!(failure(&refused).ends_with("VolumeInUse"), "{refused:?}");
        client.call(&job, "Job", "Cancel", &0_u64).await.unwrap();
        assert_eq!(client.ended(&job).await.result, "canceled");
        drop(writer);
        for volume in [&first, &second] {
            remove(&client, volume).await.done();
        }
        tared.stop();
    });
}

/// What is removed under an export would only be missing in it.
#[test]
fn privileged_what_is_removed_meanwhile_is_no_whole_export() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = client.create_with("c", volume("other", "/v")).await.unwrap();
        let of_volume = made(&client, "v").await;
        let big = files_tar(&[("big", &[1].repeat(1 << 20)), ("last", b"")]);
        import(&client, &of_volume, &file_of(&big), false).await.done();
        for (object, interface, name) in
            [(&of_volume, "Volume", "NoSuchVolume"), (&path, "Container", "InvalidState")]
        {
            let (mut reader, writer) = std::io::pipe().unwrap();
            let body = (Fd::from(writer.as_fd()), Options::new());
            let reply = client.call(object, interface, "Export", &body).await.unwrap();
            let job: OwnedObjectPath = reply.body().deserialize().unwrap();
            drop((writer, reply));
            // It has begun, and waits for somebody who reads.
            while client.properties(&job, "Job").await.get::<u64>("BytesDone") == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            if interface == "Volume" {
                remove(&client, object).await.done();
            } else {
                client.remove(object).await.done();
            }
            let read = std::thread::spawn(move || reader.read_to_end(&mut Vec::new()));
            let ended = client.ended(&job).await;
            assert!(failure(&ended).ends_with(name), "{interface}: {ended:?}");
            read.join().unwrap().unwrap();
        }
        remove(&client, &client.manager("GetVolume", &"other").await.unwrap()).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_volumes_that_nobody_uses_are_pruned() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let free = made(&client, "free").await;
        import(&client, &free, &file_of(&files_tar(&[("f", &[1].repeat(50_000))])), false)
            .await
            .done();
        let path = client.create_with("c", volume("used", "/v")).await.unwrap();
        let prune = async |dry_run: bool| {
            let filter = Options::from([("DryRun", dry_run.into())]);
            let body = (vec!["volumes"], filter);
            let ended = client.job(ROOT, "Manager", "Prune", &body).await.unwrap();
            ended.done();
            let output: HashMap<String, OwnedVariant> = client
                .properties(&ended.job, "Job")
                .await
                .get::<Variant<'static>>("Output")
                .try_into()
                .unwrap();
            let removed: Vec<String> = output["Removed"].try_clone().unwrap().try_into().unwrap();
            let bytes = u64::try_from(&*output["ReclaimedBytes"]).unwrap();
            (removed, bytes)
        };
        let (would, bytes) = prune(true).await;
        assert_eq!(would, ["free"]);
        assert!(bytes >= 50_000, "{bytes}");
        assert_eq!(client.list("ListVolumes").await.len(), 2, "nothing is removed yet");
        let output = Command::new(bin("tarectl"))
            .args(["--address", tared.address(), "volume", "prune"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "free\n", "{output:?}");
        assert_eq!(prune(false).await.0, Vec::<String>::new());
        assert_eq!(client.list("ListVolumes").await.len(), 1);
        // Deeper than anything is gone through, which is no reason to keep it, or others.
        let deep = "cd /v; for i in $(seq 300); do mkdir d && cd d || exit; done";
        client.start(&path).await.done();
        says(&client, &path, deep).await;
        client.stop(&path).await.done();
        client.remove(&path).await.done();
        made(&client, "z").await;
        assert_eq!(prune(false).await.0, ["used", "z"]);
        tared.stop();
    });
}
