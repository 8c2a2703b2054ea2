//! What an earlier daemon, or somebody else, left lying about.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use system_tests::{Options, ROOT, Refused, Tared, on_scratch_host, run};
use zbus::OwnedObjectPath;

use super::networks::namespace_of;
use super::{failure, started};

/// An id no container has.
const STRAY: &str = "5747a95747a95747a95747a95747a95747a95747a95747a95747a95747a95747";

/// Where everything of the daemon's containers is in cgroup2, from that of one of them.
fn own_group(container: &str) -> PathBuf {
    let mount = run("findmnt", &["-n", "-o", "TARGET", "-t", "cgroup2", "--first-only"]);
    let group = Path::new(mount.trim()).join(container.trim_start_matches('/'));
    group.parent().unwrap().to_path_buf()
}

#[test]
fn privileged_what_no_container_has_is_swept_away_and_what_one_has_is_not() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "lives", "sleep 1000").await;
        let group = own_group(&client.container(&path).await.text("CGroupPath"));
        let tag = group.file_name().unwrap().to_str().unwrap().to_owned();
        tared.kill9();
        drop(client);
        let before = host.world_at_rest();

        let (state, runtime) = (tared.setup().state.clone(), tared.setup().runtime.clone());
        for dir in [
            group.join(STRAY).join("payload"),
            runtime.join("containers").join(STRAY).join("1"),
            runtime.join("oci/runc").join(STRAY),
            state.join("containers").join(STRAY).join("upper"),
            state.join("layers").join(STRAY).join("diff"),
        ] {
            // Of those above it, some are not there with each runtime, and stay.
            DirBuilder::new().recursive(true).mode(0o700).create(dir).unwrap();
        }
        for file in [state.join("logs").join(STRAY), state.join("blobs/sha256").join(STRAY)] {
            fs::write(file, "a line\n").unwrap();
        }
        run("ip", &["netns", "add", &format!("{tag}-{}", &STRAY[..12])]);
        let table = tag.replace('-', "_");
        run("nft", &["add element inet", &table, "containers4 { 10.88.0.200 }"]);
        // The daemon itself is there or not, too.
        let strays = || -> Vec<String> {
            let differences = before.differences(&host.world()).into_iter();
            let lines = differences.map(|it| it.to_string());
            lines.filter(|it| it.contains(&STRAY[..12]) || it.contains("10.88.0.200")).collect()
        };
        for kind in ["file", "firewall", "control group", "network namespace"] {
            let new = format!("new {kind}");
            assert!(strays().iter().any(|it| it.starts_with(&new)), "{kind}: {:?}", strays());
        }

        let mut tared = tared.restart();
        assert_eq!(strays(), Vec::<String>::new());
        let client = tared.client().await;
        assert_eq!(client.container(&path).await.text("State"), "running");
        client.remove(&path).await.done();
        tared.stop();
    });
}

/// The names of the host's veths.
fn veths() -> Vec<String> {
    let links = run("ip", &["-o", "link", "show", "type", "veth"]);
    let names = links.lines().filter_map(|line| line.split([' ', '@']).nth(1));
    names.map(str::to_owned).collect()
}

/// A veth pair from a bridge into a network namespace.
fn join(bridge: &str, interface: &str, namespace: &str) {
    let far = format!("x{}", &interface[interface.len() - 3..]);
    let peer = ["type", "veth", "peer", "name", &far, "netns", namespace];
    run("ip", &[&["link", "add", interface][..], &peer].concat());
    run("ip", &["link", "set", interface, "master", bridge, "up"]);
}

/// Whoever has opened a namespace, as `nsenter` does, keeps it without its name, and the pairs into it.
#[test]
fn privileged_an_interface_on_the_host_is_swept_although_somebody_keeps_its_namespace() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "lives", "sleep 1000").await;
        let network: OwnedObjectPath =
            client.properties(ROOT, "Manager").await.get("DefaultNetwork");
        let bridge = client.properties(&network, "Network").await.text("InterfaceName");
        let namespace = namespace_of(&path);
        let (tag, _) = namespace.rsplit_once('-').unwrap();
        let of_container = veths();
        assert_eq!(of_container.len(), 1, "{of_container:?}");
        tared.kill9();
        drop(client);

        let stray = format!("{tag}-{}", &STRAY[..12]);
        run("ip", &["netns", "add", &stray]);
        run("ip", &["link", "add", "br-other", "type", "bridge"]);
        let of_stray = format!("ve{}", &STRAY[..12]);
        // Another daemon may have a bridge of the same name.
        let elsewhere = "tare-abcdef-0123456789ab";
        run("ip", &["netns", "add", elsewhere]);
        let of_others = ["vethadmin".into(), format!("{of_stray}9"), "ve0123456789ab".to_owned()];
        join(&bridge, &of_stray, &stray);
        join(&bridge, &format!("{of_stray}1"), &stray);
        join(&bridge, &of_others[0], &stray);
        join("br-other", &of_others[1], &stray);
        join(&bridge, &of_others[2], elsewhere);
        let held = fs::File::open(Path::new("/run/netns").join(&stray)).unwrap();

        let mut tared = tared.restart();
        assert!(!run("ip", &["netns"]).contains(&stray), "its name is gone");
        let mut left = veths();
        let mut want = [&of_container[..], &of_others].concat();
        left.sort();
        want.sort();
        assert_eq!(left, want);
        drop(held);
        run("ip", &["link", "del", "br-other"]);
        run("ip", &["netns", "del", elsewhere]);
        let client = tared.client().await;
        client.remove(&path).await.done();
        tared.stop();
    });
}

/// Whoever empties the run directory takes away what was written down of a container that runs.
#[test]
fn privileged_a_container_is_not_started_twice_when_its_record_is_lost() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "lives", "sleep 1000").await;
        let group = own_group(&client.container(&path).await.text("CGroupPath"));
        let id = client.container(&path).await.text("Id");
        tared.kill9();
        drop(client);
        fs::remove_dir_all(tared.setup().runtime.join("db")).unwrap();

        let mut tared = tared.restart();
        let client = tared.client().await;
        for ended in [client.start(&path).await, client.remove(&path).await] {
            assert_eq!(failure(&ended), "org.tare.Containers1.Error.RuntimeFailed");
            assert!(ended.error_message.contains("still there"), "{ended:?}");
        }
        assert!(root(&tared, &id).is_dir(), "what runs keeps its root");
        fs::write(group.join(&id).join("payload/cgroup.kill"), "1").unwrap();
        until_done(async || client.start(&path).await.result).await;
        assert_eq!(client.container(&path).await.text("State"), "running");
        client.remove(&path).await.done();
        tared.stop();
    });
}

/// Where a container's own files are.
fn root(tared: &Tared, id: &str) -> PathBuf {
    tared.setup().state.join("containers").join(id).join("upper")
}

/// As a daemon of another version might find it.
fn rewrite_records(tared: &Tared, change: &str) {
    let db = rusqlite::Connection::open(tared.setup().runtime.join("db/run.db")).unwrap();
    let changed = db.execute(&format!("UPDATE records SET document = {change}"), []).unwrap();
    assert_eq!(changed, 1);
}

#[test]
fn privileged_a_container_whose_record_cannot_be_read_is_neither_lost_nor_removed() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = started(&client, "lives", "sleep 1000").await;
        let before = client.container(&path).await;
        let (id, group) = (before.text("Id"), own_group(&before.text("CGroupPath")));
        tared.kill9();
        drop(client);
        rewrite_records(&tared, "json_set(document, '$.v', 99)");

        let mut tared = tared.restart();
        let client = tared.client().await;
        let found = client.container(&path).await;
        assert_eq!((found.text("State"), found.get::<i32>("ExitCode")), ("broken".into(), -1));
        assert_eq!(found.get::<u64>("FinishedTimestamp"), 0, "it is not taken for ended");
        let tainted: Vec<String> = client.properties(ROOT, "Manager").await.get("Tainted");
        assert!(tainted.contains(&"unreadable-records".into()), "{tainted:?}");
        for ended in [client.start(&path).await, client.remove(&path).await] {
            assert_eq!(failure(&ended), "org.tare.Containers1.Error.RuntimeFailed");
        }
        assert!(root(&tared, &id).is_dir(), "what runs keeps its root");
        tared.kill9();
        drop(client);

        // A daemon that can read it takes it over as if nothing had been.
        rewrite_records(&tared, "json_set(document, '$.v', 1)");
        let mut tared = tared.restart();
        let client = tared.client().await;
        let after = client.container(&path).await;
        assert_eq!(after.text("State"), "running");
        assert_eq!(after.0["PID"], before.0["PID"]);
        tared.kill9();
        drop(client);

        // Once nothing of it lives, it can go, with all that it had, whoever still looks around in there.
        let held = fs::File::open(Path::new("/run/netns").join(namespace_of(&path))).unwrap();
        rewrite_records(&tared, "json_set(document, '$.v', 99)");
        let payload = group.join(&id).join("payload");
        fs::write(payload.join("cgroup.kill"), "1").unwrap();
        let populated = || fs::read_to_string(payload.join("cgroup.events")).unwrap_or_default();
        while populated().contains("populated 1") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut tared = tared.restart();
        let client = tared.client().await;
        assert_eq!(client.container(&path).await.text("State"), "broken");
        assert_eq!(veths().len(), 1);
        until_done(async || client.remove(&path).await.result).await;
        assert_eq!(veths(), Vec::<String>::new());
        drop(held);
        tared.stop();
    });
}

/// PID 1 is the parent of what outlives a daemon, and takes its time.
async fn until_done(mut attempt: impl AsyncFnMut() -> String) {
    for _ in 0..100 {
        if attempt().await == "done" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it is never done");
}

/// Else one could be asked about, and another be meant.
#[test]
fn privileged_no_name_can_be_taken_for_the_id_of_another() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = client.create("first", "true").await;
        let id = client.container(&path).await.text("Id");
        for name in [id.as_str(), &id[..12], &id[..40], "0123456789ab"] {
            let refused: Refused = client.create_with(name, Options::new()).await.unwrap_err();
            assert_eq!(refused.name, "org.tare.Containers1.Error.InvalidName", "{name}");
        }
        for name in ["0123456789a", "0123456789abz", "deadbeef", "0123456789AB"] {
            client.create_with(name, Options::new()).await.unwrap();
        }
        let found: OwnedObjectPath = client.manager("GetContainer", &&id[..12]).await.unwrap();
        assert_eq!(found, path);
        for row in client.list("ListContainers").await {
            client.remove(&row.get("Path")).await.done();
        }
        tared.stop();
    });
}

#[test]
fn privileged_an_import_that_waits_for_its_caller_can_be_canceled() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        let before = host.world_at_rest();
        // Its other end is open, and silent.
        let (archive, _silent) = std::io::pipe().unwrap();
        let body = (zbus::Fd::from(&archive), Options::new());
        let reply = client.call("/org/tare/Containers1", "Manager", "ImportImage", &body).await;
        let job: OwnedObjectPath = reply.unwrap().body().deserialize().unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        client.call(&job, "Job", "Cancel", &0_u64).await.unwrap();
        assert_eq!(client.ended(&job).await.result, "canceled");
        host.settles_to(&before);
        tared.stop();
    });
}
