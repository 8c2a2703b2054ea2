//! What containers see of the host, and of other images.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};
use system_tests::archive::files_tar;
use system_tests::image::file_of;
use system_tests::{
    Client, Options, Refused, Setup, Tared, as_user, bin, failure, on_scratch_host,
};
use tempfile::TempDir;
use zbus::{Fd, OwnedObjectPath, Variant};

use super::started;

type Row = HashMap<String, Variant<'static>>;

const NOBODY: u32 = 65534;

/// A mount of something of the host, which is handed over open.
fn of_host(path: &Path, target: &'static str, options: &[&'static str]) -> Row {
    let open = std::os::fd::OwnedFd::from(File::open(path).unwrap());
    row([("Source", Variant::Fd(Fd::from(open))), ("Target", target.into())], options)
}

fn row<const N: usize>(pairs: [(&str, Variant<'static>); N], options: &[&'static str]) -> Row {
    let options = ("Options", Variant::from(options.to_vec()));
    pairs.into_iter().chain([options]).map(|(key, value)| (key.to_owned(), value)).collect()
}

fn with(rows: Vec<Row>) -> Options<'static> {
    Options::from([("Command", vec!["sleep", "1000"].into()), ("Mounts", Variant::from(rows))])
}

async fn started_with(client: &Client, name: &str, rows: Vec<Row>) -> OwnedObjectPath {
    let path = client.create_with(name, with(rows)).await.unwrap();
    client.start(&path).await.done();
    path
}

async fn says(client: &Client, path: &OwnedObjectPath, script: &str) -> String {
    let done = client.exec(path, script).await;
    assert_eq!(done.code, 0, "{script}: {}", done.stderr);
    done.stdout.trim_end().to_owned()
}

async fn fails(client: &Client, path: &OwnedObjectPath, script: &str) -> String {
    let done = client.exec(path, script).await;
    assert_ne!(done.code, 0, "{script}: {}", done.stdout);
    done.stderr
}

/// A directory with a file, and memory mounted in it, on a mount that others share.
fn data() -> TempDir {
    let data = tempfile::tempdir_in("/var/tmp").unwrap();
    let at = |name: &str| data.path().join(name);
    fs::set_permissions(data.path(), PermissionsExt::from_mode(0o755)).unwrap();
    mount_bind(data.path(), data.path()).unwrap();
    mount_change(data.path(), MountPropagationFlags::SHARED).unwrap();
    for name in ["below", "later"] {
        fs::create_dir(at(name)).unwrap();
    }
    mount("tmpfs", at("below"), "tmpfs", MountFlags::empty(), None).unwrap();
    fs::write(at("file"), "of the host\n").unwrap();
    fs::write(at("below/file"), "below\n").unwrap();
    for name in ["su", "below/su"] {
        fs::copy("/bin/busybox", at(name)).unwrap();
        fs::set_permissions(at(name), PermissionsExt::from_mode(0o4755)).unwrap();
    }
    data
}

fn clean(data: TempDir) {
    unmount(data.path(), UnmountFlags::DETACH).unwrap();
    data.close().unwrap();
}

#[test]
fn privileged_a_directory_of_the_host_is_seen_as_it_was_asked_for() {
    on_scratch_host(async |host| {
        let data = data();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        // What the first container makes for all others is there before.
        let first = started(&client, "first", "true").await;
        client.remove(&first).await.done();
        let before = host.world_at_rest();

        let path = started_with(&client, "plain", vec![of_host(data.path(), "/d", &[])]).await;
        assert!(client.container(&path).await.get::<bool>("Privileged"));
        assert_eq!(says(&client, &path, "cat /d/file /d/below/file").await, "of the host\nbelow");
        says(&client, &path, "echo new > /d/new; echo new > /d/below/new").await;
        assert_eq!(fs::read_to_string(data.path().join("below/new")).unwrap(), "new\n");
        let mounts = says(&client, &path, "grep -E ' /d(/below)? ' /proc/self/mountinfo").await;
        assert_eq!(mounts.lines().count(), 2, "{mounts}");
        for line in mounts.lines() {
            assert!(line.contains("nosuid") && line.contains("nodev"), "{line}");
            assert!(!line.contains("shared:") && !line.contains("master:"), "{line}");
        }
        // Set-user-id programs have no effect, wherever they are in it.
        let su = Options::from([("User", "www".into())]);
        for program in ["/d/su", "/d/below/su"] {
            let argv = [program, "root", "-c", "id"];
            let said = client.exec_argv(&path, &argv, su.clone_all(), b"").await.unwrap();
            assert!(said.stderr.contains("must be suid"), "{program}: {said:?}");
        }
        // What the host mounts later is not seen.
        mount("tmpfs", data.path().join("later"), "tmpfs", MountFlags::empty(), None).unwrap();
        fs::write(data.path().join("later/file"), "").unwrap();
        fails(&client, &path, "cat /d/later/file").await;
        unmount(data.path().join("later"), UnmountFlags::empty()).unwrap();
        client.remove(&path).await.done();

        let rows = vec![of_host(data.path(), "/d", &["ro", "rslave", "suid"])];
        let path = started_with(&client, "fixed", rows).await;
        for place in ["/d/x", "/d/below/x", "/d/file", "/d/below/file"] {
            assert!(fails(&client, &path, &format!("echo > {place}")).await.contains("Read-only"));
        }
        let argv = ["/d/below/su", "root", "-c", "id"];
        let said = client.exec_argv(&path, &argv, su.clone_all(), b"").await.unwrap();
        assert!(!said.stderr.contains("must be suid"), "{said:?}");
        mount("tmpfs", data.path().join("later"), "tmpfs", MountFlags::empty(), None).unwrap();
        fs::write(data.path().join("later/file"), "").unwrap();
        says(&client, &path, "cat /d/later/file").await;
        unmount(data.path().join("later"), UnmountFlags::empty()).unwrap();
        fails(&client, &path, "cat /d/later/file").await;
        client.remove(&path).await.done();

        let rows = vec![of_host(data.path(), "/d", &["bind", "noexec"])];
        let path = started_with(&client, "alone", rows).await;
        assert_eq!(says(&client, &path, "ls /d/below").await, "", "not what is mounted in it");
        assert!(fails(&client, &path, "/d/su").await.contains("Permission denied"));
        client.remove(&path).await.done();
        host.settles_to(&before);
        tared.stop();
        clean(data);
    });
}

/// `Options` is no `Clone`: it may hold descriptors.
trait CloneAll {
    fn clone_all(&self) -> Options<'static>;
}

impl CloneAll for Options<'static> {
    fn clone_all(&self) -> Options<'static> {
        self.iter().map(|(key, value)| (*key, value.try_clone().unwrap())).collect()
    }
}

#[test]
fn privileged_a_single_file_of_the_host_is_mounted_also_for_who_reads_accounts() {
    on_scratch_host(async |host| {
        let data = tempfile::tempdir_in("/var/tmp").unwrap();
        let file = data.path().join("accounts");
        fs::write(&file, "root:x:0:0:root:/root:/bin/sh\nextra:x:77:77:::/bin/sh\n").unwrap();
        fs::write(data.path().join("own"), "1\n").unwrap();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let mut options = with(vec![
            of_host(&file, "/etc/passwd", &["ro"]),
            of_host(&data.path().join("own"), "/deep/er/own", &[]),
        ]);
        options.insert("User", "extra".into());
        let path = client.create_with("file", options).await.unwrap();
        client.start(&path).await.done();
        assert_eq!(says(&client, &path, "id -u; cat /deep/er/own").await, "77\n1");
        fs::write(data.path().join("own"), "2\n").unwrap();
        assert_eq!(says(&client, &path, "cat /deep/er/own").await, "2", "it is that very file");
        client.remove(&path).await.done();
        tared.stop();
    });
}

/// What was allowed is what is mounted, or nothing is.
#[test]
fn privileged_what_is_another_thing_by_now_is_not_mounted() {
    on_scratch_host(async |host| {
        let data = tempfile::tempdir_in("/var/tmp").unwrap();
        let at = |name: &str| data.path().join(name);
        fs::create_dir_all(at("up/dir")).unwrap();
        fs::write(at("up/dir/file"), "right\n").unwrap();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = client
            .create_with("pinned", with(vec![of_host(&at("up/dir"), "/d", &[])]))
            .await
            .unwrap();
        let refuse = async |client: &Client, about: &str| {
            let ended = client.start(&path).await;
            assert!(failure(&ended).ends_with(".MountFailed"), "{about}: {ended:?}");
            assert!(!ended.error_message.contains("up"), "{ended:?}");
            assert_eq!(client.container(&path).await.text("State"), "exited", "{about}");
        };
        fs::rename(at("up/dir"), at("up/was")).unwrap();
        refuse(&client, "gone").await;
        fs::create_dir(at("up/dir")).unwrap();
        refuse(&client, "another one").await;
        fs::remove_dir(at("up/dir")).unwrap();
        std::os::unix::fs::symlink("was", at("up/dir")).unwrap();
        refuse(&client, "a link to it").await;
        fs::remove_file(at("up/dir")).unwrap();
        fs::rename(at("up/was"), at("up/dir")).unwrap();
        fs::rename(at("up"), at("real")).unwrap();
        std::os::unix::fs::symlink("real", at("up")).unwrap();
        refuse(&client, "a link on the way").await;

        tared.kill9();
        drop(client);
        let mut tared = tared.restart();
        let client = tared.client().await;
        refuse(&client, "also by another daemon").await;
        fs::remove_file(at("up")).unwrap();
        fs::rename(at("real"), at("up")).unwrap();
        client.start(&path).await.done();
        assert_eq!(says(&client, &path, "cat /d/file").await, "right");
        client.remove(&path).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_who_may_not_reach_the_host_is_refused_by_what_was_asked_for() {
    on_scratch_host(async |host| {
        let data = tempfile::tempdir_in("/var/tmp").unwrap();
        fs::set_permissions(data.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let mut setup = Setup::private(host);
        setup.env.push(("SUDO_UID".into(), NOBODY.to_string()));
        let mut tared = Tared::with(setup);
        let root = tared.client().await;
        root.import_busybox().await;
        let address = tared.address().to_string();
        let by_path = |path: &str| {
            let path: Variant<'static> = path.to_owned().into();
            row([("Source", path), ("Target", "/d".into())], &[])
        };
        as_user(NOBODY, async || {
            let client = Client::connect(&address).await;
            let refused = async |row| client.create_with("bad", with(vec![row])).await.unwrap_err();
            let denied: Refused = refused(of_host(data.path(), "/d", &[])).await;
            assert_eq!(denied.short(), "AccessDenied", "{denied:?}");
            assert!(denied.message.contains("create-privileged-container"), "{denied:?}");
            let [there, nowhere] = ["/etc/shadow", "/etc/no-such"].map(by_path);
            let (there, nowhere) = (refused(there).await, refused(nowhere).await);
            assert_eq!(there.short(), "InvalidArgs");
            assert_eq!(there, nowhere, "nobody learns what is there");
        });
        let image =
            |name: &'static str| row([("Image", name.into()), ("Target", "/i".into())], &[]);
        for (rows, name) in [
            (vec![by_path("/no/such")], "InvalidArgs"),
            (vec![by_path("relative")], "InvalidArgs"),
            (vec![by_path("/var/../etc")], "InvalidArgs"),
            (vec![image("no-such")], "NoSuchImage"),
            (vec![image("Not A Name")], "InvalidReference"),
            (vec![of_host(data.path(), "/proc/sys", &[])], "InvalidArgs"),
            (vec![of_host(data.path(), "/sys/fs", &[])], "InvalidArgs"),
            (vec![of_host(data.path(), "d", &[])], "InvalidArgs"),
            (vec![of_host(data.path(), "/a/../d", &[])], "InvalidArgs"),
            (vec![of_host(data.path(), "/", &[])], "InvalidArgs"),
            (vec![of_host(data.path(), "/d", &["rshared"])], "InvalidArgs"),
            (vec![of_host(data.path(), "/d", &["nonsense"])], "InvalidArgs"),
            (vec![of_host(data.path(), "/d", &["size=1"])], "InvalidSpec"),
            (
                vec![of_host(data.path(), "/d", &[]), of_host(data.path(), "/d/", &[])],
                "InvalidSpec",
            ),
            (vec![row([("Source", 1_u32.into()), ("Target", "/d".into())], &[])], "OptionType"),
        ] {
            let about = format!("{rows:?}");
            let refused = root.create_with("bad", with(rows)).await.unwrap_err();
            assert_eq!(refused.short(), name, "{about}: {refused:?}");
        }
        let (pipe, _writer) = std::io::pipe().unwrap();
        let pipe = Variant::Fd(Fd::from(std::os::fd::OwnedFd::from(pipe)));
        let pipe = vec![row([("Source", pipe), ("Target", "/d".into())], &[])];
        assert_eq!(root.create_with("bad", with(pipe)).await.unwrap_err().short(), "InvalidArgs");
        assert!(root.list("ListContainers").await.is_empty(), "what is refused makes nothing");
        tared.stop();
    });
}

#[test]
fn privileged_what_is_mounted_in_another_mount_is_in_that() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let script = "mkdir -p /data /srv/x; ln -s /srv/x /data/current";
        let made = client.create("made", script).await;
        client.start(&made).await.done();
        client.exit(&made).await;
        let body = ("linked", Options::new());
        client.job(&made, "Container", "Commit", &body).await.unwrap().done();
        client.remove(&made).await.done();

        let [outer, inner] = ["outer", "inner"].map(|name| {
            let dir = tempfile::tempdir_in("/var/tmp").unwrap();
            fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
            fs::create_dir(dir.path().join("current")).unwrap();
            fs::write(dir.path().join("file"), name).unwrap();
            std::os::unix::fs::symlink("/srv", dir.path().join("away")).unwrap();
            dir
        });
        let on = |target| {
            with(vec![of_host(outer.path(), "/data", &[]), of_host(inner.path(), target, &[])])
        };
        let create = async |options: Options<'static>| -> OwnedObjectPath {
            client.manager("CreateContainer", &("c", "linked", options)).await.unwrap()
        };
        let path = create(on("/data/current")).await;
        client.start(&path).await.done();
        assert_eq!(says(&client, &path, "cat /data/current/file; ls /srv/x").await, "inner");
        client.remove(&path).await.done();
        let path = create(on("/data/away")).await;
        let refused = client.start(&path).await;
        assert!(failure(&refused).ends_with(".MountFailed"), "{refused:?}");
        assert!(refused.error_message.contains("'/data/away' leads to"), "{refused:?}");
        client.remove(&path).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_another_image_is_mounted_to_be_read_and_needed_until_then() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let tar = files_tar(&[("tool", b"of the other")]);
        let options = Options::from([("Reference", "other".into())]);
        client.import(&file_of(&tar), options).await.unwrap().done();
        let image: OwnedObjectPath = client.manager("GetImage", &"other").await.unwrap();
        let rows = vec![row([("Image", "other".into()), ("Target", "/i".into())], &[])];
        let path = started_with(&client, "user", rows).await;
        assert!(!client.container(&path).await.get::<bool>("Privileged"));
        assert_eq!(says(&client, &path, "cat /i/tool").await, "of the other");
        assert!(fails(&client, &path, "touch /i/x").await.contains("Read-only"));
        let remove =
            async |client: &Client| client.job(&image, "Image", "Remove", &0_u64).await.unwrap();
        let refused = remove(&client).await;
        assert!(failure(&refused).ends_with("ImageInUse"), "{refused:?}");
        assert!(refused.error_message.contains("user"), "{refused:?}");
        tared.kill9();
        drop(client);
        let mut tared = tared.restart();
        let client = tared.client().await;
        let users = client.properties(&image, "Image").await.paths("Containers");
        assert_eq!(users, std::slice::from_ref(&path), "after a restart, too");
        assert!(failure(&remove(&client).await).ends_with("ImageInUse"));
        client.remove(&path).await.done();
        assert!(client.properties(&image, "Image").await.paths("Containers").is_empty());
        remove(&client).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_a_directory_of_another_image_is_mounted_alone() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let tar = files_tar(&[("a/b/tool", b"of the other"), ("a/file", b"x"), ("top", b"y")]);
        let options = Options::from([("Reference", "other".into())]);
        client.import(&file_of(&tar), options).await.unwrap().done();
        let part = |path: &'static str| {
            let image = ("Image", "other".into());
            vec![row([image, ("SubPath", path.into()), ("Target", "/i".into())], &[])]
        };
        let path = started_with(&client, "user", part("a/b")).await;
        assert_eq!(says(&client, &path, "ls /i; cat /i/tool").await, "tool\nof the other");
        assert!(fails(&client, &path, "touch /i/x").await.contains("Read-only"));
        let line = says(&client, &path, "grep ' /i ' /proc/mounts").await;
        assert!(line.contains("nosuid") && line.contains("nodev"), "{line}");
        client.remove(&path).await.done();
        for missing in ["a/c", "a/file"] {
            let path = client.create_with("none", with(part(missing))).await.unwrap();
            let refused = client.start(&path).await;
            assert!(failure(&refused).ends_with("MountFailed"), "{missing}: {refused:?}");
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}

#[test]
fn privileged_what_is_written_to_another_image_is_the_containers_own() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let tar = files_tar(&[("a/b/tool", b"of the other"), ("top", b"y")]);
        let options = Options::from([("Reference", "other".into())]);
        client.import(&file_of(&tar), options).await.unwrap().done();
        let image = |target: &'static str, options: &[&'static str]| {
            row([("Image", "other".into()), ("Target", target.into())], options)
        };
        let part = || [("Image", "other".into()), ("SubPath", "a".into()), ("Target", "/p".into())];
        let rows = || vec![image("/r", &[]), image("/w", &["rw", "noexec"]), row(part(), &["rw"])];
        let path = started_with(&client, "one", rows()).await;
        let other = started_with(&client, "two", rows()).await;
        let written = "echo mine > /w/a/b/tool; rm /w/top; echo more > /p/b/more";
        says(&client, &path, written).await;
        let seen = "cat /w/a/b/tool; ls /w; ls /p/b; ls -d /r/*";
        let of_one = "mine\na\nmore\ntool\n/r/a\n/r/top";
        assert_eq!(says(&client, &path, seen).await, of_one);
        assert_eq!(says(&client, &other, "cat /w/a/b/tool; ls /w").await, "of the othera\ntop");
        let line = says(&client, &path, "grep ' /w ' /proc/mounts").await;
        for word in ["nosuid", "nodev", "noexec", "rw"] {
            assert!(line.contains(word), "{word}: {line}");
        }
        // It is there again when it starts again, also under another daemon.
        client.stop(&path).await.done();
        tared.kill9();
        drop(client);
        let mut tared = tared.restart();
        let client = tared.client().await;
        client.start(&path).await.done();
        assert_eq!(says(&client, &path, seen).await, of_one);
        for path in [path, other] {
            client.remove(&path).await.done();
        }
        tared.stop();
    });
}

/// As people do it.
#[test]
fn privileged_tarectl_opens_what_it_mounts() {
    on_scratch_host(async |host| {
        let data = tempfile::tempdir_in("/var/tmp").unwrap();
        fs::write(data.path().join("file"), "hello\n").unwrap();
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let tarectl = |arguments: &[&str]| {
            let output = Command::new(bin("tarectl"))
                .args(["--address", tared.address()])
                .args(arguments)
                .current_dir(data.path())
                .output()
                .unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (output.status.success(), text(&output.stdout), text(&output.stderr))
        };
        let (absolute, mounted) = (
            format!("{}:/a:ro", data.path().display()),
            format!("type=bind,source={},destination=/b,ro=false", data.path().display()),
        );
        let made = tarectl(&[
            "run",
            "--name",
            "m",
            "-v",
            &absolute,
            "-v",
            "./file:/f",
            "--mount",
            &mounted,
            "--mount",
            "type=image,source=busybox,destination=/i",
            "busybox",
            "sleep",
            "1000",
        ]);
        assert!(made.0, "{made:?}");
        let script = "cat /a/file /b/file /f; ls /i/bin/busybox; touch /b/new; touch /a/new";
        let said = tarectl(&["exec", "m", "sh", "-c", script]);
        assert_eq!(said.1, "hello\nhello\nhello\n/i/bin/busybox\n", "{said:?}");
        assert!(said.2.contains("/a/new: Read-only"), "{said:?}");
        assert!(data.path().join("new").exists());
        let missing = tarectl(&["create", "-v", "/no/such:/x", "busybox"]);
        assert!(!missing.0 && missing.2.contains("/no/such"), "{missing:?}");
        let path: OwnedObjectPath = client.manager("GetContainer", &"m").await.unwrap();
        client.remove(&path).await.done();
        tared.stop();
    });
}
