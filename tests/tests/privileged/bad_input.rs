//! What is wrong is refused by name, and changes nothing.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use system_tests::image::{busybox_tar, file_of, tar_with};
use system_tests::{Client, Host, Options, ROOT, Tared, on_scratch_host};
use tar::EntryType;
use zbus::{DynamicType, OwnedObjectPath, Variant};

use super::{ERROR, failure, started};

const INVALID: &str = "org.freedesktop.DBus.Error.InvalidArgs";

/// All there is, on the bus and on the disk; a line each.
pub(super) async fn there(host: &Host, client: &Client) -> BTreeSet<String> {
    let dirs = ["containers", "layers", "blobs/sha256", "tmp", "logs"];
    let files = dirs.iter().flat_map(|dir| fs::read_dir(host.path("s").join(dir)).unwrap());
    let mut there: BTreeSet<String> =
        files.map(|entry| entry.unwrap().path().display().to_string()).collect();
    for row in client.list("ListContainers").await {
        there.insert(format!("container {} {}", row.text("Name"), row.text("State")));
    }
    for row in client.list("ListImages").await {
        let references: Vec<String> = row.get("References");
        there.insert(format!("image {} {references:?}", row.text("Id")));
    }
    there
}

/// A daemon with an image, a container that runs and one that does not.
async fn furnished(host: &Host) -> (Tared, Client, [OwnedObjectPath; 2]) {
    let tared = Tared::start(host);
    let client = tared.client().await;
    client.import_busybox().await;
    let running = started(&client, "running", "sleep 1000").await;
    let idle = client.create("idle", "true").await;
    (tared, client, [running, idle])
}

async fn clear(mut tared: Tared, client: Client, paths: [OwnedObjectPath; 2]) {
    for path in paths {
        client.remove(&path).await.done();
    }
    drop(client);
    tared.stop();
}

/// Checks the name of an error reply; own names are given without their beginning.
async fn refuses<B>(client: &Client, path: &str, method: &str, body: B, wanted: &str)
where
    B: Serialize + DynamicType + std::fmt::Debug,
{
    let (interface, method) = method.split_once('.').unwrap();
    let reply = client.call(path, interface, method, &body).await;
    let refused = reply.err().unwrap_or_else(|| panic!("{method} {body:?} was done"));
    let wanted = if wanted.contains('.') { wanted.into() } else { format!("{ERROR}.{wanted}") };
    assert_eq!(refused.name, wanted, "{method} {body:?}: {refused:?}");
    assert!(!refused.message.is_empty(), "{method} {body:?}: a sentence");
}

#[test]
fn privileged_wrong_names_and_images_are_refused() {
    on_scratch_host(async |host| {
        let (tared, client, paths) = furnished(host).await;
        let before = there(host, &client).await;
        let long = "x".repeat(129);
        for (name, image, wanted) in [
            ("..", "busybox", "InvalidName"),
            (".hidden", "busybox", "InvalidName"),
            ("a/b", "busybox", "InvalidName"),
            ("-rf", "busybox", "InvalidName"),
            ("a b", "busybox", "InvalidName"),
            ("a\nb", "busybox", "InvalidName"),
            ("\u{fc}mlaut", "busybox", "InvalidName"),
            (long.as_str(), "busybox", "InvalidName"),
            ("running", "busybox", "NameInUse"),
            ("new", "nonexistent", "NoSuchImage"),
            ("new", "busybox:2", "NoSuchImage"),
            ("new", "docker.io/library/busybox", "NoSuchImage"),
            ("new", "", "InvalidReference"),
            ("new", "UPPER", "InvalidReference"),
            ("new", "../busybox", "InvalidReference"),
            ("new", "busy box", "InvalidReference"),
            ("new", "busybox@sha256:12", "InvalidReference"),
        ] {
            let body = (name, image, Options::new());
            refuses(&client, ROOT, "Manager.CreateContainer", body, wanted).await;
        }
        let none = format!("sha256:{}", "0".repeat(64));
        let body = ("new", none.as_str(), Options::new());
        refuses(&client, ROOT, "Manager.CreateContainer", body, "NoSuchImage").await;
        for name in ["nonexistent", "", "../..", "0123456789ab"] {
            refuses(&client, ROOT, "Manager.GetContainer", name, "NoSuchContainer").await;
        }
        refuses(&client, ROOT, "Manager.GetImage", "nonexistent", "NoSuchImage").await;
        refuses(&client, ROOT, "Manager.GetImage", "UPPER", "InvalidReference").await;
        refuses(&client, ROOT, "Manager.GetJob", 4_000_000_u32, "NoSuchJob").await;
        assert_eq!(there(host, &client).await, before);
        clear(tared, client, paths).await;
    });
}

#[test]
fn privileged_wrong_options_are_refused_by_name() {
    on_scratch_host(async |host| {
        let (tared, client, paths) = furnished(host).await;
        let before = there(host, &client).await;
        let texts = |text: &'static str| Variant::from(vec![text]);
        for (key, value, wanted) in [
            ("ReadOnyl", true.into(), "UnknownOption"),
            ("readOnlyRootfs", true.into(), "UnknownOption"),
            ("privileged", true.into(), "UnknownOption"),
            ("", "".into(), "UnknownOption"),
            ("Env", "A=b".into(), "OptionType"),
            ("Command", "sh".into(), "OptionType"),
            ("ReadOnlyRootfs", 1_i32.into(), "OptionType"),
            ("StopSignal", "TERM".into(), "OptionType"),
            ("ShmSize", 1.0_f64.into(), "OptionType"),
            ("Labels", texts("a=b"), "OptionType"),
            ("Privileged", "yes".into(), "OptionType"),
            ("Ulimits", vec![("nofile", 1_u64)].into(), "OptionType"),
            ("IOReadBandwidth", texts("8:0"), "OptionType"),
            ("Env", texts("NOVALUE"), INVALID),
            ("Env", texts("=x"), INVALID),
            ("User", "a:b:c".into(), INVALID),
            ("User", "4294967296".into(), INVALID),
            ("Hostname", "a b".into(), INVALID),
            ("Hostname", "a\n192.0.2.2 b".into(), INVALID),
            ("Hostname", "a\r".into(), INVALID),
            ("WorkingDir", "relative".into(), INVALID),
            ("WorkingDir", "/a/../b".into(), INVALID),
            ("StopSignal", 99_i32.into(), INVALID),
            ("StopSignal", (-1_i32).into(), INVALID),
            ("StopTimeoutUSec", (-1_i64).into(), INVALID),
            ("CapAdd", texts("CAP_NONSENSE"), INVALID),
            ("NetworkMode", "container".into(), INVALID),
            ("NetworkMode", "ns:relative".into(), INVALID),
            ("PIDMode", "container".into(), INVALID),
            ("Ulimits", vec![("nofile", 2_u64, 1_u64)].into(), INVALID),
            ("IOReadBandwidth", vec![("/dev/sda", 1_u64)].into(), INVALID),
            ("Memory", 1_i32.into(), INVALID),
            ("Seccomp", "/etc/shadow".into(), INVALID),
            ("DNS", texts("127.1"), INVALID),
            ("DNSSearch", texts("a\nnameserver 192.0.2.1"), INVALID),
            ("DNSSearch", texts("a\rnameserver 192.0.2.1"), INVALID),
            ("DNSOptions", texts("a b"), INVALID),
            ("DNSOptions", texts("a\nnameserver 192.0.2.1"), INVALID),
            ("DNSOptions", texts("a\r"), INVALID),
            ("Hosts", HashMap::from([("a\tb", "192.0.2.1")]).into(), INVALID),
            ("Hosts", HashMap::from([("a\n192.0.2.2 b", "192.0.2.1")]).into(), INVALID),
            ("Hosts", HashMap::from([("a\r", "192.0.2.1")]).into(), INVALID),
            ("Hosts", HashMap::from([("a", "192.0.2.1\n192.0.2.2 b")]).into(), INVALID),
            ("Hosts", HashMap::from([("a", "host-gateway\r")]).into(), INVALID),
            ("ShmSize", 0_u64.into(), INVALID),
            ("ShmSize", (-1_i32).into(), INVALID),
        ] {
            let options = Options::from([(key, value)]);
            let reply = client.create_with("new", options).await;
            let refused = reply.err().unwrap_or_else(|| panic!("{key} was taken"));
            let full = if wanted == INVALID { wanted.into() } else { format!("{ERROR}.{wanted}") };
            assert_eq!(refused.name, full, "{key}: {refused:?}");
            assert!(refused.message.contains(key), "the message names the key: {refused:?}");
        }
        assert_eq!(there(host, &client).await, before);

        let optional = Options::from([
            ("FromTheFuture", 1_u8.into()),
            ("OptionalKeys", texts("FromTheFuture")),
        ]);
        let path = client.create_with("new", optional).await.expect("it need not be known");
        client.remove(&path).await.done();
        clear(tared, client, paths).await;
    });
}

#[test]
fn privileged_wrong_calls_of_containers_are_refused() {
    on_scratch_host(async |host| {
        let (tared, client, paths) = furnished(host).await;
        let before = there(host, &client).await;
        let (running, idle) = (paths[0].as_str(), paths[1].as_str());
        let none = Options::new;
        let unknown = || Options::from([("Nonsense", true.into())]);
        refuses(&client, idle, "Container.Start", (1_u64, none()), INVALID).await;
        refuses(&client, idle, "Container.Start", (1_u64 << 63, none()), INVALID).await;
        refuses(&client, idle, "Container.Start", (0_u64, unknown()), "UnknownOption").await;
        refuses(&client, running, "Container.Stop", (0_u64, 2_u64), INVALID).await;
        refuses(&client, running, "Container.Remove", 4_u64, INVALID).await;
        for (whom, signal, flags) in [
            ("init", 0, 0_u64),
            ("init", 65, 0),
            ("init", -1, 0),
            ("init", i32::MAX, 0),
            ("all", 15, 0),
            ("some", 9, 0),
            ("", 9, 0),
            ("init", 9, 1),
        ] {
            refuses(&client, running, "Container.Kill", (whom, signal, flags), INVALID).await;
        }
        refuses(&client, idle, "Container.Kill", ("init", 15, 0_u64), "NotRunning").await;
        refuses(&client, idle, "Container.Exec", (vec!["true"], none()), "NotRunning").await;
        refuses(&client, running, "Container.Exec", (vec!["true"], unknown()), "UnknownOption")
            .await;
        let not_an_fd = Options::from([("Stdin", 0_i32.into())]);
        refuses(&client, running, "Container.Exec", (vec!["true"], not_an_fd), "OptionType").await;
        let bad_dir = Options::from([("WorkingDir", "relative".into())]);
        refuses(&client, running, "Container.Exec", (vec!["true"], bad_dir), INVALID).await;
        refuses(&client, running, "Container.OpenLogs", unknown(), "UnknownOption").await;
        let streams = Options::from([("Streams", vec!["stdin"].into())]);
        refuses(&client, running, "Container.OpenLogs", streams, INVALID).await;
        let tail = Options::from([("Tail", "all".into())]);
        refuses(&client, running, "Container.OpenLogs", tail, "OptionType").await;
        refuses(&client, ROOT, "Manager.ListContainers", unknown(), "UnknownOption").await;
        refuses(&client, ROOT, "Manager.ListImages", unknown(), "UnknownOption").await;
        refuses(&client, ROOT, "Manager.CancelJob", (1_u32, 1_u64), INVALID).await;
        refuses(&client, ROOT, "Manager.CancelJob", (4_000_000_u32, 0_u64), "NoSuchJob").await;
        refuses(&client, ROOT, "Manager.CancelJob", (1_u32, 0_u64), "NotCancelable").await;
        let missing = format!("{ROOT}/container/{}", "0".repeat(64));
        let body = (0_u64, none());
        let unknown_object = "org.freedesktop.DBus.Error.UnknownObject";
        refuses(&client, &missing, "Container.Start", body, unknown_object).await;
        assert_eq!(there(host, &client).await, before);

        for (path, method, body, wanted) in [
            (running, "Start", "again", "InvalidState"),
            (running, "Remove", "", "InvalidState"),
            (idle, "Stop", "", "NotRunning"),
        ] {
            let ended = match method {
                "Start" => client.job(path, "Container", method, &(0_u64, none())).await,
                "Stop" => client.job(path, "Container", method, &(0_u64, 0_u64)).await,
                _ => client.job(path, "Container", method, &0_u64).await,
            };
            let ended = ended.unwrap();
            assert_eq!(failure(&ended), format!("{ERROR}.{wanted}"), "{method} {body}: {ended:?}");
        }
        assert_eq!(there(host, &client).await, before);
        clear(tared, client, paths).await;
    });
}

#[test]
fn privileged_wrong_archives_are_refused() {
    on_scratch_host(async |host| {
        let (tared, client, paths) = furnished(host).await;
        let before = there(host, &client).await;
        for (about, archive) in [
            ("not a tar", file_of(&b"This is not a tar. ".repeat(1000))),
            ("nothing", file_of(b"")),
            ("a truncated tar", file_of(&busybox_tar()[..100_000])),
            ("a truncated gzip", file_of(&gzip(busybox_tar())[..100_000])),
            ("gzip of no tar", file_of(&gzip(&b"This is not a tar. ".repeat(1000)))),
            ("a way out", file_of(&tar_with("../x", EntryType::Regular, b"x"))),
            ("a hidden way out", file_of(&tar_with("a/../../x", EntryType::Regular, b"x"))),
        ] {
            let options = Options::from([("Reference", "hostile".into())]);
            let ended = client.import(&archive, options).await.unwrap();
            let name = failure(&ended);
            assert_eq!(name, format!("{ERROR}.InvalidArchive"), "{about}: {ended:?}");
            assert_eq!(there(host, &client).await, before, "{about}");
        }
        assert!(!host.path("x").exists());
        clear(tared, client, paths).await;
    });
}

#[test]
fn privileged_wrong_imports_are_refused() {
    on_scratch_host(async |host| {
        let (tared, client, paths) = furnished(host).await;
        let before = there(host, &client).await;
        for (key, value, wanted) in [
            ("Reference", Variant::from("UPPER"), "InvalidReference"),
            ("Reference", "".into(), "InvalidReference"),
            ("Format", "zip".into(), INVALID),
            ("Env", "A=b".into(), "OptionType"),
            ("Nonsense", true.into(), "UnknownOption"),
        ] {
            let options = Options::from([(key, value)]);
            let refused = client.import(&file_of(busybox_tar()), options).await.unwrap_err();
            let full = if wanted == INVALID { wanted.into() } else { format!("{ERROR}.{wanted}") };
            assert_eq!(refused.name, full, "{key}: {refused:?}");
        }
        assert_eq!(there(host, &client).await, before);
        clear(tared, client, paths).await;
    });
}

/// What has no end, or cannot be read, is no archive: there is no job for it.
#[test]
fn privileged_what_is_no_archive_is_refused_at_once() {
    on_scratch_host(async |host| {
        let (tared, client, paths) = furnished(host).await;
        let before = there(host, &client).await;
        let write_only = File::options().write(true).open("/dev/null").unwrap();
        for (about, archive) in [
            ("cannot be read", write_only),
            ("a directory", File::open("/").unwrap()),
            ("has no end", File::open("/dev/zero").unwrap()),
        ] {
            let refused = client.import(&archive, Options::new()).await.unwrap_err();
            assert_eq!(refused.name, INVALID, "{about}: {refused:?}");
        }
        assert_eq!(there(host, &client).await, before);
        clear(tared, client, paths).await;
    });
}

/// What no container of an image could run is no container.
#[test]
fn privileged_a_container_without_a_command_is_refused() {
    on_scratch_host(async |host| {
        let (tared, client, paths) = furnished(host).await;
        let options = Options::from([("Reference", "empty".into())]);
        client.import(&file_of(busybox_tar()), options).await.unwrap().done();
        let before = there(host, &client).await;
        let created: Result<OwnedObjectPath, _> =
            client.manager("CreateContainer", &("new", "empty", Options::new())).await;
        let refused = created.unwrap_err();
        assert_eq!(refused.name, format!("{ERROR}.InvalidSpec"), "{refused:?}");
        assert!(refused.message.contains("'Command'"), "{refused:?}");
        assert_eq!(there(host, &client).await, before);
        clear(tared, client, paths).await;
    });
}

/// What no container of the image could ever use is refused with the image.
#[test]
fn privileged_an_import_with_a_wrong_configuration_leaves_nothing() {
    on_scratch_host(async |host| {
        let (tared, client, paths) = furnished(host).await;
        let before = there(host, &client).await;
        for (key, value) in [
            ("Env", Variant::from(vec!["NOVALUE"])),
            ("WorkingDir", "relative".into()),
            ("User", "a:b:c".into()),
        ] {
            // Not the layer that is there already.
            let archive = file_of(&tar_with("other", EntryType::Regular, b"x"));
            let refused = client.import(&archive, Options::from([(key, value)])).await.unwrap_err();
            assert_eq!(refused.name, INVALID, "{key}: {refused:?}");
            assert!(refused.message.contains(key), "it names the option: {refused:?}");
            assert_eq!(there(host, &client).await, before, "{key}");
        }
        clear(tared, client, paths).await;
    });
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
