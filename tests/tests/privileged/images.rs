//! Images: out of archives, their names, and what is known of them.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};

use serde_json::{Value, json};
use system_tests::archive::{Picture, docker_archive, files_tar, gzip, id_of, oci_archive};
use system_tests::image::{busybox_tar, file_of};
use system_tests::{
    Client, Ended, Options, Properties, ROOT, Refused, Tared, on_scratch_host, run,
};
use zbus::{Fd, OwnedFd, OwnedObjectPath, OwnedVariant, Variant};

use super::bad_input::there;
use super::{ERROR, failure};

/// `OVERLAYFS_SUPER_MAGIC`.
const OVERLAYFS: rustix::fs::FsWord = 0x794c_7630;

/// Two images on one base, each of which says something else.
pub(super) fn pictures() -> Vec<Picture> {
    let picture = |name: &str, text: &str| Picture {
        name: format!("registry.test/{name}:1"),
        layers: vec![
            busybox_tar().to_vec(),
            files_tar(&[("said", text.as_bytes()), ("etc/.wh.group", b"")]),
        ],
        config: json!({
            "Env": ["PATH=/bin", "WHO=image"],
            "Entrypoint": ["/bin/sh", "-c"],
            "Cmd": ["cat /said; echo $WHO; id -u; ls /etc"],
            "User": "33:33",
            "WorkingDir": "/tmp",
            "ExposedPorts": { "80/tcp": {} },
            "Volumes": {},
            "StopSignal": "SIGINT",
            "Healthcheck": { "Test": ["CMD", "true"] },
            "Labels": { "org.opencontainers.image.title": name, "hidden": "x" },
        }),
    };
    vec![picture("one", "this is one\n"), picture("two", "this is two\n")]
}

async fn images_of(client: &Client, job: &OwnedObjectPath) -> Vec<OwnedObjectPath> {
    let output = client.properties(job, "Job").await.get::<Variant<'static>>("Output");
    let output: HashMap<String, Variant<'_>> = output.try_into().unwrap();
    output["Images"].try_clone().unwrap().try_into().unwrap()
}

async fn image(client: &Client, path: &OwnedObjectPath) -> Properties {
    client.properties(path, "Image").await
}

async fn names(client: &Client, path: &OwnedObjectPath) -> Vec<String> {
    image(client, path).await.get("References")
}

async fn find(client: &Client, name: &str) -> Result<OwnedObjectPath, Refused> {
    client.manager("GetImage", &name).await
}

/// What a container of an image writes when nobody says what it is to run.
async fn said_by(client: &Client, image: &str) -> String {
    // What it has itself is looked at.
    let body = ("talks", image, Options::from([("PasswdEntry", false.into())]));
    let container: OwnedObjectPath = client.manager("CreateContainer", &body).await.unwrap();
    client.start(&container).await.done();
    assert_eq!(client.exit(&container).await.code, 0);
    let logs = client.logs(&container, Options::new()).await;
    client.remove(&container).await.done();
    let line = |line: &str| serde_json::from_str::<Value>(line).unwrap()["msg"].clone();
    logs.lines().map(|text| line(text).as_str().unwrap().to_owned() + "\n").collect()
}

#[test]
fn privileged_images_come_out_of_every_archive_and_run_as_they_say() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let before = there(host, &client).await;
        let (oci, docker) = (oci_archive(&pictures()), docker_archive(&pictures()));
        for (about, format, archive) in [
            ("oci, looked at", "auto", oci.clone()),
            ("oci, said", "oci-archive", oci.clone()),
            ("oci in gzip", "auto", gzip(&oci)),
            ("docker, looked at", "auto", docker.clone()),
            ("docker, said", "docker-archive", docker),
        ] {
            let options = Options::from([("Format", format.into())]);
            let ended = client.import(&file_of(&archive), options).await.unwrap();
            ended.done();
            let images = images_of(&client, &ended.job).await;
            let ids: Vec<_> = pictures().iter().map(id_of).collect();
            for (path, id) in images.iter().zip(&ids) {
                assert_eq!(image(&client, path).await.text("Id"), *id, "{about}");
            }
            assert_eq!(names(&client, &images[1]).await, ["registry.test/two:1"], "{about}");
            for word in ["one", "two"] {
                let said = said_by(&client, &format!("registry.test/{word}:1")).await;
                let wanted = format!("this is {word}\nimage\n33\npasswd\n");
                // What is bound into `/etc` is there, too; the whiteout is not.
                assert!(said.starts_with(&wanted[..wanted.len() - 7]), "{about}: {said}");
                assert!(said.contains("passwd") && !said.contains("group"), "{about}: {said}");
            }
            for path in &images {
                client.job(path, "Image", "Remove", &0_u64).await.unwrap().done();
            }
            assert_eq!(there(host, &client).await, before, "{about}: nothing stays");
        }
        tared.stop();
    });
}

#[test]
fn privileged_an_archive_comes_through_a_pipe_and_gets_the_name_that_is_asked_for() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let archive = oci_archive(&pictures()[..1]);
        let (reader, mut writer) = std::io::pipe().unwrap();
        let feeder = std::thread::spawn(move || writer.write_all(&archive).unwrap());
        let options = Options::from([("Reference", "mine".into())]);
        let ended = client.import(&reader, options).await.unwrap();
        ended.done();
        feeder.join().unwrap();
        let images = images_of(&client, &ended.job).await;
        assert_eq!(names(&client, &images[0]).await, ["localhost/mine:latest"]);
        tared.stop();
    });
}

#[test]
fn privileged_what_does_not_go_together_is_refused_whole() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let before = there(host, &client).await;
        for options in [
            Options::from([("Reference", "one-for-two".into())]),
            Options::from([("User", "nobody".into())]),
        ] {
            let archive = file_of(&oci_archive(&pictures()));
            let ended = client.import(&archive, options).await.unwrap();
            assert_eq!(failure(&ended), format!("{ERROR}.InvalidArchive"), "{ended:?}");
            assert_eq!(there(host, &client).await, before);
        }
        let options = Options::from([("Platform", "linux/s390x".into())]);
        let ended = client.import(&file_of(&oci_archive(&pictures())), options).await.unwrap();
        assert_eq!(failure(&ended), format!("{ERROR}.InvalidArchive"), "{ended:?}");
        assert_eq!(there(host, &client).await, before);
        tared.stop();
    });
}

#[test]
fn privileged_hostile_images_are_refused_and_leave_nothing() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let before = there(host, &client).await;
        let on_top = |layer: Vec<u8>| {
            let mut picture = pictures().remove(0);
            picture.layers[1] = layer;
            oci_archive(&[picture])
        };
        let zeros = vec![0; 80 << 20];
        let good = oci_archive(&pictures());
        let digest = |archive: &[u8]| {
            let at = archive.windows(8).position(|it| it == b"\"layers\"").unwrap();
            let mut archive = archive.to_vec();
            let hex = at + archive[at..].windows(7).position(|it| it == b"sha256:").unwrap() + 7;
            archive[hex] = if archive[hex] == b'0' { b'1' } else { b'0' };
            archive
        };
        let escaping =
            |name: &str| Picture { config: json!({ "WorkingDir": name }), ..pictures().remove(0) };
        for (about, archive) in [
            ("a way out", on_top(files_tar(&[("../../x", b"x")]))),
            ("a whiteout that leads out", on_top(files_tar(&[("a/.wh...", b"")]))),
            ("a bomb", on_top(files_tar(&[("zeros", &zeros)]))),
            ("another digest", digest(&good)),
            ("cut off", good[..good.len() / 2].to_vec()),
            ("a configuration no container can have", oci_archive(&[escaping("relative")])),
        ] {
            let ended = client.import(&file_of(&archive), Options::new()).await.unwrap();
            assert_eq!(failure(&ended), format!("{ERROR}.InvalidArchive"), "{about}: {ended:?}");
            assert_eq!(there(host, &client).await, before, "{about}");
        }
        assert!(!host.path("x").exists());
        tared.stop();
    });
}

#[test]
fn privileged_images_are_named_described_and_removed() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let before = there(host, &client).await;
        let ended =
            client.import(&file_of(&oci_archive(&pictures())), Options::new()).await.unwrap();
        let images = images_of(&client, &ended.job).await;
        let [one, two] = [&images[0], &images[1]];

        let seen = image(&client, one).await;
        assert_eq!(seen.get::<u64>("CreatedTimestamp"), 1_709_251_199_500_000);
        assert_eq!((seen.text("Verified"), seen.text("Variant")), ("digest".into(), String::new()));
        assert_eq!(seen.get::<Vec<String>>("Digests").len(), 1);
        assert_eq!(seen.get::<u64>("UniqueSize"), "this is one\n".len() as u64);
        assert!(seen.get::<u64>("Size") > 500_000, "the base is in it");

        let reply = client.call(one, "Image", "GetHistory", &()).await.unwrap();
        let history: Vec<HashMap<String, OwnedVariant>> = reply.body().deserialize().unwrap();
        let history: Vec<_> = history.into_iter().map(Properties).collect();
        assert_eq!(history.len(), 3);
        assert_eq!(history[0].get::<u64>("Created"), 1_709_251_198_000_000);
        assert!(history[1].get::<bool>("Empty"));
        assert_eq!(
            (history[2].text("Comment"), history[2].get::<u64>("Size")),
            ("the last".into(), 12)
        );

        let reply = client.call(one, "Image", "Inspect", &3_u64).await.unwrap();
        let json: Value = serde_json::from_str(reply.body().deserialize().unwrap()).unwrap();
        assert_eq!(json["v"], 1);
        assert_eq!(json["Labels"]["hidden"], "x", "all labels, for who may see them");
        assert_eq!(json["Config"]["config"]["StopSignal"], "SIGINT");
        assert_eq!(json["Manifest"]["layers"].as_array().unwrap().len(), 2);
        assert_eq!(json["Layers"].as_array().unwrap().len(), 2);

        let tag = async |path: &OwnedObjectPath, method: &str, name: &str| {
            client.call(path, "Image", method, &(name, 0_u64)).await.map(drop)
        };
        tag(one, "Tag", "also").await.unwrap();
        assert_eq!(names(&client, one).await, ["localhost/also:latest", "registry.test/one:1"]);
        tag(two, "Tag", "also:latest").await.unwrap();
        assert_eq!(names(&client, one).await, ["registry.test/one:1"], "it moved");
        assert_eq!(find(&client, "also").await.unwrap(), *two);
        assert_eq!(tag(one, "Untag", "also").await.unwrap_err().short(), "NoSuchImage");
        let digest = format!("a@sha256:{}", "ab".repeat(32));
        assert_eq!(tag(one, "Tag", &digest).await.unwrap_err().short(), "InvalidReference");
        assert_eq!(tag(one, "Tag", "A B").await.unwrap_err().short(), "InvalidReference");

        let remove = async |path: &OwnedObjectPath, flags: u64| {
            client.job(path, "Image", "Remove", &flags).await.unwrap()
        };
        let ended = remove(two, 0).await;
        assert_eq!(failure(&ended), format!("{ERROR}.ImageInUse"), "it has two names: {ended:?}");
        remove(two, 1).await.done();
        assert_eq!(find(&client, "also").await.unwrap_err().short(), "NoSuchImage");
        assert_eq!(image(&client, one).await.get::<u64>("UniqueSize"), seen.get::<u64>("Size"));

        let body = (
            "user",
            "registry.test/one:1",
            Options::from([("Command", vec!["sleep 1000"].into())]),
        );
        let container: OwnedObjectPath = client.manager("CreateContainer", &body).await.unwrap();
        client.start(&container).await.done();
        assert_eq!(image(&client, one).await.paths("Containers"), std::slice::from_ref(&container));
        let ended = remove(one, 1).await;
        assert_eq!(failure(&ended), format!("{ERROR}.ImageInUse"));
        assert!(ended.error_message.contains("user"), "{ended:?}");

        // All of it is known to the next daemon, too.
        drop(client);
        tared.stop();
        let mut tared = tared.restart();
        let client = tared.client().await;
        assert_eq!(image(&client, one).await.paths("Containers"), [container]);
        let untag = client.call(one, "Image", "Untag", &("registry.test/one:1", 0_u64)).await;
        untag.unwrap();
        assert_eq!(names(&client, one).await, Vec::<String>::new());
        let ended = client.job(one, "Image", "Remove", &2_u64).await.unwrap();
        ended.done();
        assert_eq!(there(host, &client).await, before, "nothing stays");
        tared.stop();
    });
}

async fn export(client: &Client, names: &[&str], archive: &impl AsFd) -> Result<Ended, Refused> {
    export_as(client, names, archive, Options::new()).await
}

async fn export_as(
    client: &Client,
    names: &[&str],
    archive: &impl AsFd,
    options: Options<'_>,
) -> Result<Ended, Refused> {
    let body = (names, Fd::from(archive.as_fd()), options);
    client.job(ROOT, "Manager", "ExportImages", &body).await
}

/// What `skopeo inspect --raw --config` says of an image in an archive.
fn seen_by_skopeo(archive: &std::path::Path, name: &str) -> Value {
    let source = format!("oci-archive:{}:{name}", archive.display());
    serde_json::from_str(&run("skopeo", &["inspect", "--raw", "--config", &source])).unwrap()
}

#[test]
fn privileged_an_export_is_read_by_skopeo_and_by_ourselves() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let ended =
            client.import(&file_of(&oci_archive(&pictures())), Options::new()).await.unwrap();
        let images = images_of(&client, &ended.job).await;
        let path = host.path("out.tar");
        let names = ["registry.test/one:1", "registry.test/two:1", "busybox"];
        export(&client, &names, &File::create(&path).unwrap()).await.unwrap().done();

        let config = seen_by_skopeo(&path, "registry.test/two:1");
        assert_eq!(config["config"]["Labels"]["org.opencontainers.image.title"], "two");
        let config = seen_by_skopeo(&path, "localhost/busybox:latest");
        assert_eq!(config["config"]["Cmd"], json!(["sh"]), "it was packed here");
        // It reads and checks every layer.
        let source = format!("oci-archive:{}:registry.test/one:1", path.display());
        let copy = host.path("copy");
        run("skopeo", &["--insecure-policy", "copy", &source, &format!("dir:{}", copy.display())]);
        fs::remove_dir_all(&copy).unwrap();

        for image in &images {
            client.job(image, "Image", "Remove", &0_u64).await.unwrap().done();
        }
        let ended = client.import(&File::open(&path).unwrap(), Options::new()).await.unwrap();
        let back = images_of(&client, &ended.job).await;
        assert!(images.iter().all(|image| back.contains(image)), "with the same ids: {back:?}");
        assert_eq!(back.len(), 3);
        assert!(said_by(&client, "registry.test/two:1").await.starts_with("this is two\n"));
        tared.stop();
    });
}

#[test]
fn privileged_an_export_as_dockers_is_read_by_skopeo_and_by_ourselves() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let packed = gzip(&oci_archive(&pictures()));
        let ended = client.import(&file_of(&packed), Options::new()).await.unwrap();
        let images = images_of(&client, &ended.job).await;
        client.call(&images[0], "Image", "Tag", &("other.test/also:2", 0_u64)).await.unwrap();
        let path = host.path("out.tar");
        let docker = || Options::from([("Format", "docker-archive".into())]);
        let names = ["registry.test/one:1", "registry.test/two:1", "busybox", "other.test/also:2"];
        let file = File::create(&path).unwrap();
        export_as(&client, &names, &file, docker()).await.unwrap().done();

        let source = |name: &str| format!("docker-archive:{}:{name}", path.display());
        let config_of = |name: &str| -> Value {
            let said = run("skopeo", &["inspect", "--raw", "--config", &source(name)]);
            serde_json::from_str(&said).unwrap()
        };
        assert_eq!(config_of("localhost/busybox:latest")["config"]["Cmd"], json!(["sh"]));
        for (name, picture) in names.iter().zip(&pictures()) {
            // What skopeo makes of it is named by the digest of the configuration, and it checks every
            // layer by that.
            let copy = host.path("copy");
            let to = format!("dir:{}", copy.display());
            run("skopeo", &["--insecure-policy", "copy", &source(name), &to]);
            let id = id_of(picture);
            assert!(copy.join(&id["sha256:".len()..]).exists(), "{name} has another id");
            fs::remove_dir_all(&copy).unwrap();
        }
        assert_eq!(config_of("other.test/also:2"), config_of("registry.test/one:1"));

        for image in &images {
            client.job(image, "Image", "Remove", &1_u64).await.unwrap().done();
        }
        let ended = client.import(&File::open(&path).unwrap(), Options::new()).await.unwrap();
        let back = images_of(&client, &ended.job).await;
        assert!(images.iter().all(|image| back.contains(image)), "with the same ids: {back:?}");
        assert_eq!(back.len(), 3, "one that has two names is there once");
        let found = find(&client, "other.test/also:2").await.unwrap();
        assert_eq!(found, images[0]);
        assert!(said_by(&client, "registry.test/two:1").await.starts_with("this is two\n"));

        let mut compressed = docker();
        compressed.insert("Compression", "gzip".into());
        let refused = export_as(&client, &names, &file_of(b""), compressed).await.unwrap_err();
        assert_eq!(refused.short(), "InvalidArgs");
        tared.stop();
    });
}

#[test]
fn privileged_one_image_goes_out_alone_and_its_files_are_seen() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let before = there(host, &client).await;
        let ended =
            client.import(&file_of(&oci_archive(&pictures())), Options::new()).await.unwrap();
        let images = images_of(&client, &ended.job).await;
        let path = host.path("out.tar");
        let archive = File::create(&path).unwrap();
        let body = (Fd::from(archive.as_fd()), Options::new());
        client.job(&images[1], "Image", "Export", &body).await.unwrap().done();
        let config = seen_by_skopeo(&path, "registry.test/two:1");
        assert_eq!(config["config"]["Labels"]["org.opencontainers.image.title"], "two");
        let listed = run("skopeo", &["inspect", &format!("oci-archive:{}", path.display())]);
        assert!(listed.contains("sha256:"), "there is no other in it: {listed}");
        fs::remove_file(&path).unwrap();

        let refused = client.call(&images[1], "Image", "OpenRootDirectory", &0_u64).await;
        assert_eq!(refused.unwrap_err().short(), "InvalidArgs");
        let reply = client.call(&images[1], "Image", "OpenRootDirectory", &1_u64).await.unwrap();
        let root = std::os::fd::OwnedFd::from(reply.body().deserialize::<OwnedFd>().unwrap());
        drop(reply);
        let at = |name: &str| format!("/proc/self/fd/{}/{name}", root.as_raw_fd());
        assert_eq!(fs::read_to_string(at("said")).unwrap(), "this is two\n");
        let error = fs::write(at("new"), "").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        let flags = rustix::fs::fstatvfs(&root).unwrap().f_flag;
        let safe = rustix::fs::StatVfsMountFlags::NOSUID | rustix::fs::StatVfsMountFlags::NODEV;
        assert!(flags.contains(safe), "{flags:?}");
        drop(root);
        // One whose only layer is a directory of the store, too: that a mount is read-only its holder could change.
        client.import_busybox().await;
        let one = find(&client, "busybox").await.unwrap();
        let reply = client.call(&one, "Image", "OpenRootDirectory", &1_u64).await.unwrap();
        let root = std::os::fd::OwnedFd::from(reply.body().deserialize::<OwnedFd>().unwrap());
        drop(reply);
        assert_eq!(rustix::fs::fstatfs(&root).unwrap().f_type, OVERLAYFS);
        drop(root);
        client.job(&one, "Image", "Remove", &1_u64).await.unwrap().done();
        for image in &images {
            client.job(image, "Image", "Remove", &1_u64).await.unwrap().done();
        }
        assert_eq!(there(host, &client).await, before, "nothing stays");
        tared.stop();
    });
}

#[test]
fn privileged_an_export_goes_through_a_pipe_and_can_be_canceled() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import(&file_of(&oci_archive(&pictures())), Options::new()).await.unwrap().done();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let read = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all).unwrap()
        });
        export(&client, &["registry.test/one:1"], &writer).await.unwrap().done();
        drop(writer);
        let path = host.path("piped.tar");
        fs::write(&path, read.join().unwrap()).unwrap();
        assert_eq!(seen_by_skopeo(&path, "registry.test/one:1")["os"], "linux");

        // Nobody reads.
        let (reader, writer) = std::io::pipe().unwrap();
        let body = (&["registry.test/one:1"][..], Fd::from(writer.as_fd()), Options::new());
        let reply = client.call(ROOT, "Manager", "ExportImages", &body).await.unwrap();
        let job: OwnedObjectPath = reply.body().deserialize().unwrap();
        while client.properties(&job, "Job").await.text("Stage") != "writing" {}
        client.call(&job, "Job", "Cancel", &0_u64).await.unwrap();
        assert_eq!(client.ended(&job).await.result, "canceled");
        drop(reader);

        let refused = export(&client, &["nothing"], &file_of(b"")).await.unwrap_err();
        assert_eq!(refused.short(), "NoSuchImage");
        let (reader, writer) = std::io::pipe().unwrap();
        let refused = export(&client, &["registry.test/one:1"], &reader).await.unwrap_err();
        assert_eq!(refused.short(), "InvalidArgs");
        drop(reader);
        let ended = export(&client, &["registry.test/one:1"], &writer).await.unwrap();
        assert_eq!(failure(&ended), format!("{ERROR}.InvalidArchive"), "nobody can read it");
        tared.stop();
    });
}

#[test]
fn privileged_what_nobody_needs_is_pruned_and_nothing_else() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let before = there(host, &client).await;
        let ended =
            client.import(&file_of(&oci_archive(&pictures())), Options::new()).await.unwrap();
        let images = images_of(&client, &ended.job).await;
        for (image, name) in images.iter().zip(["registry.test/one:1", "registry.test/two:1"]) {
            client.call(image, "Image", "Untag", &(name, 0_u64)).await.unwrap();
        }
        client.import_busybox().await;
        let prune = async |kinds: &[&str], filter: Options<'_>| {
            let ended = client.job(ROOT, "Manager", "Prune", &(kinds, filter)).await.unwrap();
            ended.done();
            let output =
                client.properties(&ended.job, "Job").await.get::<Variant<'static>>("Output");
            let output: HashMap<String, OwnedVariant> = output.try_into().unwrap();
            let output = Properties(output);
            (output.get::<Vec<String>>("Removed"), output.get::<u64>("ReclaimedBytes"))
        };
        let id = async |path: &OwnedObjectPath| image(&client, path).await.text("Id");
        let (one, two) = (id(&images[0]).await, id(&images[1]).await);
        let command = Options::from([("Command", vec!["true"].into())]);
        let body = ("user", two.as_str(), command);
        let container: OwnedObjectPath = client.manager("CreateContainer", &body).await.unwrap();

        assert_eq!(prune(&["images"], Options::from([("Until", 1_u64.into())])).await.0, [""; 0]);
        let labels = HashMap::from([("hidden", "y")]);
        let other = Options::from([("Labels", Variant::from(labels))]);
        assert_eq!(prune(&["images"], other).await.0, [""; 0]);
        let dry = Options::from([("DryRun", true.into())]);
        assert_eq!(prune(&["images"], dry).await.0, std::slice::from_ref(&one));
        let labels = Variant::from(HashMap::from([("hidden", "x")]));
        let (removed, bytes) = prune(&["images"], Options::from([("Labels", labels)])).await;
        assert_eq!(removed, [one]);
        assert!(bytes > 0);
        assert_eq!(client.list("ListImages").await.len(), 2, "one has a name, one a container");

        client.remove(&container).await.done();
        assert_eq!(prune(&["images-all"], Options::new()).await.0.len(), 2);
        assert_eq!(there(host, &client).await, before, "nothing stays");
        tared.stop();
    });
}
