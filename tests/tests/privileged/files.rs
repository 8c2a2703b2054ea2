//! Files in and out of containers, and images made of them.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::process::Command;

use system_tests::archive::files_tar;
use system_tests::image::file_of;
use system_tests::{Client, Ended, Options, Tared, bin, failure, on_scratch_host};
use zbus::{Fd, OwnedFd, OwnedObjectPath, OwnedVariant, Variant};

use super::started;

async fn changes(client: &Client, path: &OwnedObjectPath, max: u32) -> (Vec<String>, bool) {
    let reply = client.call(path, "Container", "GetChanges", &(max, 0_u64)).await.unwrap();
    let (changes, truncated): (Vec<(String, Vec<u8>)>, bool) = reply.body().deserialize().unwrap();
    let line = |(kind, path)| format!("{kind} {}", String::from_utf8(path).unwrap());
    (changes.into_iter().map(line).collect(), truncated)
}

/// What a job writes to a file.
async fn written(
    client: &Client,
    path: &OwnedObjectPath,
    method: &str,
    place: Option<&str>,
) -> (Ended, Vec<u8>) {
    let file = file_of(b"");
    let fd = || Fd::from(std::os::fd::AsFd::as_fd(&file));
    let ended = match place {
        None => client.job(path, "Container", method, &(fd(), Options::new())).await,
        Some(place) => client.job(path, "Container", method, &(place, fd(), Options::new())).await,
    };
    let mut bytes = Vec::new();
    let again = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::open(again).unwrap().read_to_end(&mut bytes).unwrap();
    (ended.unwrap(), bytes)
}

/// The names in an archive, with the beginning of what regular files have.
fn names(tar: &[u8]) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = Vec::new();
        entry.by_ref().take(20).read_to_end(&mut text).unwrap();
        (name, String::from_utf8_lossy(&text).into_owned())
    });
    entries.collect()
}

async fn copy_in(client: &Client, path: &OwnedObjectPath, tar: &[u8], dir: &str) -> Ended {
    let file = file_of(tar);
    let fd = Fd::from(std::os::fd::AsFd::as_fd(&file));
    client.job(path, "Container", "CopyIn", &(fd, dir, Options::new())).await.unwrap()
}

async fn says(client: &Client, path: &OwnedObjectPath, script: &str) -> String {
    let done = client.exec(path, script).await;
    assert_eq!(done.code, 0, "{script}: {}", done.stderr);
    done.stdout.trim_end().to_owned()
}

#[test]
fn privileged_what_a_container_changed_is_listed_and_its_files_come_out() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        // What the first container makes for all others is there before.
        let first = started(&client, "first", "true").await;
        client.remove(&first).await.done();
        let before = host.world_at_rest();
        let path = started(&client, "web", "sleep 1000").await;
        // That runtimes make places for mounts is no change, but for the time of where those are.
        let (all, truncated) = changes(&client, &path, 100).await;
        assert_eq!((all, truncated), (vec!["modified /etc".to_owned()], false));
        let script = "echo x >> /etc/passwd; rm /bin/yes; mkdir /new; echo hello > /new/file; \
                      ln -s /../../../../etc/shadow /new/link";
        says(&client, &path, script).await;
        let want = [
            "modified /bin",
            "deleted /bin/yes",
            "modified /etc",
            "modified /etc/passwd",
            "added /new",
            "added /new/file",
            "added /new/link",
        ];
        for state in ["running", "exited"] {
            assert_eq!(client.container(&path).await.text("State"), state);
            let (all, truncated) = changes(&client, &path, 100).await;
            assert_eq!((all, truncated), (want.map(Into::into).to_vec(), false), "{state}");
            let (some, truncated) = changes(&client, &path, 2).await;
            assert_eq!((some.len(), truncated), (2, true), "{state}");

            let (ended, tar) = written(&client, &path, "Export", None).await;
            ended.done();
            let exported = names(&tar);
            assert_eq!(exported["new/file"], "hello\n", "{state}");
            assert!(exported.contains_key("bin/busybox") && !exported.contains_key("bin/yes"));
            assert!(exported.contains_key("proc/") && !exported.contains_key("proc/self/"));

            let (ended, tar) = written(&client, &path, "CopyOut", Some("/new")).await;
            ended.done();
            let copied: Vec<String> = names(&tar).into_keys().collect();
            assert_eq!(copied, ["new/", "new/file", "new/link"], "{state}");
            let (ended, tar) = written(&client, &path, "CopyOut", Some("/etc/passwd")).await;
            ended.done();
            assert!(names(&tar)["passwd"].starts_with("root:x:0:0"), "{state}");
            // A link is followed in the container, where this one leads nowhere.
            for nothing in ["/new/link", "/none"] {
                let (ended, _) = written(&client, &path, "CopyOut", Some(nothing)).await;
                assert!(failure(&ended).ends_with(".NoSuchPath"), "{nothing}: {ended:?}");
                assert!(!ended.error_message.contains(nothing), "{ended:?}");
            }
            root_is_read_only(&client, &path).await;
            client.stop(&path).await;
        }
        client.remove(&path).await.done();
        host.settles_to(&before);
        tared.stop();
    });
}

async fn root_is_read_only(client: &Client, path: &OwnedObjectPath) {
    let reply = client.call(path, "Container", "OpenRootDirectory", &1_u64).await.unwrap();
    let root: OwnedFd = reply.body().deserialize().unwrap();
    let root = std::os::fd::OwnedFd::from(root);
    drop(reply);
    let at = |name: &str| format!("/proc/self/fd/{}/{name}", root.as_raw_fd());
    assert_eq!(std::fs::read_to_string(at("new/file")).unwrap(), "hello\n");
    let error = std::fs::write(at("new/other"), "").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let flags = rustix::fs::fstatvfs(&root).unwrap().f_flag;
    let safe = rustix::fs::StatVfsMountFlags::NOSUID | rustix::fs::StatVfsMountFlags::NODEV;
    assert!(flags.contains(safe), "{flags:?}");
    let writable = client.call(path, "Container", "OpenRootDirectory", &0_u64).await;
    assert_eq!(writable.unwrap_err().short(), "InvalidArgs");
}

#[test]
fn privileged_files_are_copied_into_what_runs_and_what_does_not() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let volume = HashMap::from([
            ("Name".to_owned(), Variant::from("v")),
            ("Target".to_owned(), "/v".into()),
        ]);
        let options = Options::from([
            ("Command", vec!["sleep", "1000"].into()),
            ("Volumes", Variant::from(vec![volume])),
        ]);
        let path = client.create_with("web", options).await.unwrap();
        let tar = files_tar(&[("a/one", b"1"), ("two", b"2")]);
        copy_in(&client, &path, &tar, "/tmp").await.done();
        client.start(&path).await.done();
        assert_eq!(says(&client, &path, "cat /tmp/a/one /tmp/two").await, "12");
        copy_in(&client, &path, &tar, "/v").await.done();
        assert_eq!(says(&client, &path, "cat /v/a/one").await, "1", "volumes are seen");
        let (ended, tar_of_v) = written(&client, &path, "CopyOut", Some("/v/two")).await;
        ended.done();
        assert_eq!(names(&tar_of_v)["two"], "2");

        // Neither the archive nor what is there leads anywhere else.
        says(&client, &path, "ln -s / /tmp/root; ln -s /etc /tmp/etc").await;
        let evil = files_tar(&[("root/etc/evil", b"x"), ("etc/evil", b"x")]);
        let _ = copy_in(&client, &path, &evil, "/tmp").await;
        assert_ne!(client.exec(&path, "cat /etc/evil").await.code, 0);
        assert!(!std::path::Path::new("/etc/evil").exists());

        for (tar, dir, name) in [
            (&tar[..], "/none", "NoSuchPath"),
            (&tar[..], "/etc/passwd", "NoSuchPath"),
            (b"this is no archive at all", "/tmp", "InvalidArchive"),
        ] {
            let ended = copy_in(&client, &path, tar, dir).await;
            assert!(failure(&ended).ends_with(name), "{dir}: {ended:?}");
        }
        client.stop(&path).await.done();
        while_it_is_written_to(&client, &path).await;
        client.remove(&path).await.done();
        let volume: OwnedObjectPath = client.manager("GetVolume", &"v").await.unwrap();
        client.job(&volume, "Volume", "Remove", &0_u64).await.unwrap().done();
        tared.stop();
    });
}

/// Two mounts of one root that are written to would destroy it.
async fn while_it_is_written_to(client: &Client, path: &OwnedObjectPath) {
    let (reader, writer) = std::io::pipe().unwrap();
    let fd = Fd::from(std::os::fd::AsFd::as_fd(&reader));
    let reply = client.call(path, "Container", "CopyIn", &(fd, "/tmp", Options::new())).await;
    let copying: OwnedObjectPath = reply.unwrap().body().deserialize().unwrap();
    drop(reader);
    // It is at work when it says so.
    while client.properties(&copying, "Job").await.text("Stage") != "copying" {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let refused = client.start(path).await;
    assert!(failure(&refused).ends_with(".InvalidState"), "{refused:?}");
    let second = copy_in(client, path, &files_tar(&[("x", b"")]), "/tmp").await;
    assert!(failure(&second).ends_with(".InvalidState"), "{second:?}");
    let removed = client.remove(path).await;
    assert!(failure(&removed).ends_with(".InvalidState"), "{removed:?}");
    client.call(&copying, "Job", "Cancel", &0_u64).await.unwrap();
    assert_eq!(client.ended(&copying).await.result, "canceled");
    drop(writer);
    client.start(path).await.done();
    client.stop(path).await.done();
}

#[test]
fn privileged_an_image_is_made_of_a_container_and_runs_as_it_did() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let options = Options::from([
            ("Command", vec!["sh", "-c", "cat /made; echo $A; id -u; pwd"].into()),
            ("Env", vec!["A=b"].into()),
            ("User", "www".into()),
        ]);
        let path = client.create_with("first", options).await.unwrap();
        copy_in(&client, &path, &files_tar(&[("made", b"by hand\n")]), "/").await.done();
        let options = Options::from([
            ("Author", "somebody".into()),
            ("Message", "a change".into()),
            ("Changes", vec!["WORKDIR /tmp", "LABEL org.tare.public.k=v"].into()),
        ]);
        let ended = client.job(&path, "Container", "Commit", &("made:1", options)).await.unwrap();
        ended.done();
        let image: OwnedObjectPath = client.manager("GetImage", &"made:1").await.unwrap();
        let seen = client.properties(&image, "Image").await;
        assert_eq!(seen.get::<u32>("NLayers"), 2);
        let history = client.call(&image, "Image", "GetHistory", &()).await.unwrap();
        let history: Vec<HashMap<String, OwnedVariant>> = history.body().deserialize().unwrap();
        let comment = history.last().unwrap()["Comment"].try_clone().unwrap();
        assert_eq!(Variant::from(comment), "a change".into());
        client.remove(&path).await.done();

        let made = client
            .manager::<_, OwnedObjectPath>("CreateContainer", &("second", "made:1", Options::new()))
            .await
            .unwrap();
        client.start(&made).await.done();
        assert_eq!(client.exit(&made).await.code, 0);
        let log = client.logs(&made, Options::new()).await;
        for line in ["by hand", "b", "33", "/tmp"] {
            assert!(log.contains(&format!("\"msg\":\"{line}\"")), "{line}: {log}");
        }
        client.remove(&made).await.done();
        let bad = Options::from([("Changes", vec!["RUN true"].into())]);
        let refused = client.call(&made, "Container", "Commit", &("x", bad)).await.unwrap_err();
        assert!(["InvalidArgs", "UnknownObject"].contains(&refused.short()), "{refused:?}");
        tared.stop();
    });
}

/// As people do it.
#[test]
fn privileged_files_by_tarectl() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "web", "sleep 1000").await;
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        std::fs::write(dir.path().join("in/file"), "from here\n").unwrap();
        let tarectl = |arguments: &[&str]| {
            let mut command = Command::new(bin("tarectl"));
            command.args(["--address", tared.address()]).args(arguments).current_dir(dir.path());
            let output = command.output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {output:?}");
            output.stdout
        };
        tarectl(&["cp", "in", "web:/tmp"]);
        assert_eq!(says(&client, &path, "cat /tmp/in/file").await, "from here");
        tarectl(&["cp", "web:/etc/passwd", "."]);
        let passwd = std::fs::read_to_string(dir.path().join("passwd")).unwrap();
        assert!(passwd.starts_with("root:x:0:0"), "{passwd}");
        assert!(names(&tarectl(&["cp", "web:/tmp/in", "-"])).contains_key("in/file"));
        let diff = String::from_utf8(tarectl(&["diff", "web"])).unwrap();
        assert!(diff.contains("A /tmp/in/file\n"), "{diff}");
        tarectl(&["container", "export", "-o", "root.tar", "web"]);
        let root = std::fs::read(dir.path().join("root.tar")).unwrap();
        assert_eq!(names(&root)["tmp/in/file"], "from here\n");
        let id = tarectl(&["commit", "-m", "by hand", "-c", "CMD [\"true\"]", "web", "made"]);
        let id = String::from_utf8(id).unwrap();
        let images = String::from_utf8(tarectl(&["images"])).unwrap();
        assert!(images.contains(&id["sha256:".len()..][..12]), "{id}: {images}");
        client.remove(&path).await.done();
        client.keeps_images();
        tared.stop();
    });
}
