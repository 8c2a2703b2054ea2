//! Containers with users of their own.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use system_tests::archive::files_tar;
use system_tests::image::file_of;
use system_tests::network::in_network;
use system_tests::{Client, ERROR, Host, Options, ROOT, Tared, failure, on_scratch_host};
use zbus::{Fd, OwnedObjectPath, Variant};

use crate::networks::namespace_of;

/// The first ids that a host of tests has for containers, and how many each of them has.
const UID: u32 = 1_879_048_192;
const GID: u32 = 1_946_157_056;
const COUNT: u32 = 65_536;

fn own_users<'a>() -> Options<'a> {
    Options::from([("Command", vec!["sleep", "1000"].into()), ("UserNamespace", "private".into())])
}

async fn says(client: &Client, path: &OwnedObjectPath, script: &str) -> String {
    let done = client.exec(path, script).await;
    assert_eq!(done.code, 0, "{script}: {}", done.stderr);
    done.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Which ids it has, as it says itself.
async fn ids(client: &Client, path: &OwnedObjectPath) -> String {
    says(client, path, "cat /proc/self/uid_map /proc/self/gid_map").await
}

fn nth(number: u32) -> String {
    let first = |first| first + number * COUNT;
    format!("0 {} {COUNT} 0 {} {COUNT}", first(UID), first(GID))
}

fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let found = fs::symlink_metadata(path.as_ref());
    let found = found.unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()));
    (found.uid(), found.gid())
}

/// What a container has written, as it is on disk.
fn upper(tared: &Tared, path: &OwnedObjectPath) -> PathBuf {
    let id = path.as_str().rsplit('/').next().unwrap();
    tared.setup().state.join("containers").join(id).join("upper")
}

/// What somebody says who listens there.
fn heard(address: IpAddr, port: u16) -> String {
    let end = Instant::now() + Duration::from_secs(20);
    let mut stream = loop {
        match TcpStream::connect((address, port)) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

fn mounted(host: &Host, options: &mut Options<'_>) {
    let shared = host.path("shared");
    fs::create_dir(&shared).unwrap();
    let row = |pairs: [(&str, String); 2]| {
        pairs.map(|(key, value)| (key.to_owned(), Variant::from(value))).into()
    };
    let volume: HashMap<String, Variant<'_>> =
        row([("Name", "data".into()), ("Target", "/data".into())]);
    let mount: HashMap<String, Variant<'_>> =
        row([("Source", shared.to_str().unwrap().into()), ("Target", "/shared".into())]);
    options.insert("Volumes", vec![volume].into());
    options.insert("Mounts", vec![mount].into());
}

fn root_of_a_container_is_nobody_on_the_host(runtime: Option<&'static str>) {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let mut options = own_users();
        if let Some(runtime) = runtime {
            options.insert("Runtime", runtime.into());
        }
        options.insert("CapAdd", vec!["NET_RAW"].into());
        options.insert("Hostname", "inside".into());
        mounted(host, &mut options);
        let features: Vec<String> = client.properties(ROOT, "Manager").await.get("Features");
        assert!(features.contains(&"idmapped-mounts".to_owned()), "{features:?}");
        let path = client.create_with("c", options).await.unwrap();
        client.start(&path).await.done();
        assert_eq!(ids(&client, &path).await, nth(0));
        let pid: u32 = client.container(&path).await.get("PID");
        assert_eq!(owner(format!("/proc/{pid}/status")), (UID, GID));

        // To itself it is root, and all it is given is root's.
        let given =
            "/ /etc /etc/hosts /etc/resolv.conf /etc/hostname /dev/shm /data /shared /bin/sh";
        let owners = says(&client, &path, &format!("id -u; stat -c %u:%g {given}")).await;
        assert_eq!(owners, "0 0:0 0:0 0:0 0:0 0:0 0:0 0:0 0:0 0:0");
        let make = "echo x > /made; echo x > /data/made; echo x > /shared/made; echo x >> /etc/passwd; \
                    echo x > /theirs; chown 7:8 /theirs; mkdir /tree; rm /etc/group; \
                    echo x > /dev/shm/note; ls /sys/class/net; echo x >> /etc/hosts";
        assert_eq!(says(&client, &path, make).await, "eth0 lo");
        let upper = upper(&tared, &path);
        let volume = tared.setup().state.join("volumes/data/_data/made");
        for file in [upper.join("made"), upper.join("tree"), upper.join("etc/passwd"), volume] {
            assert_eq!(owner(&file), (0, 0), "{}", file.display());
        }
        assert_eq!(owner(host.path("shared/made")), (0, 0));
        assert_eq!(owner(upper.join("theirs")), (7, 8));

        // The network is its own: it may listen where root may, and what of it is root's is its.
        let address = says(&client, &path, "ip -4 -o addr show eth0 | sed 's/.*inet //; s#/.*##'");
        let address = address.await.parse().unwrap();
        client.begin_exec(&path, "nc -l -p 80 -e echo hello").await;
        assert_eq!(heard(address, 80), "hello\n");
        says(&client, &path, "ping -c 1 -W 9 10.88.0.1").await;
        client.stop(&path).await.done();
        client.start(&path).await.done();
        let again = "stat -c %u:%g /made /theirs /etc/passwd; test ! -e /etc/group; cat /made";
        assert_eq!(says(&client, &path, again).await, "0:0 7:8 0:0 x");
        client.remove(&path).await.done();
        let volume: OwnedObjectPath = client.manager("GetVolume", &"data").await.unwrap();
        client.job(&volume, "Volume", "Remove", &0_u64).await.unwrap().done();
        fs::remove_dir_all(host.path("shared")).unwrap();
        tared.stop();
    });
}

#[test]
fn privileged_root_of_a_container_is_nobody_on_the_host() {
    // By the runtime that is preferred of those that work.
    root_of_a_container_is_nobody_on_the_host(None);
}

#[test]
fn privileged_root_of_a_container_of_runc_is_nobody_on_the_host() {
    root_of_a_container_is_nobody_on_the_host(Some("runc"));
}

#[test]
fn privileged_nobody_has_the_ids_of_another_container_that_is_there() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let mut made = Vec::new();
        for name in ["a", "b"] {
            made.push(client.create_with(name, own_users()).await.unwrap());
        }
        for (number, path) in (0..).zip(&made) {
            client.start(path).await.done();
            assert_eq!(ids(&client, path).await, nth(number));
        }
        let refused = client.create_with("c", own_users()).await.unwrap_err();
        assert_eq!(refused.short(), "LimitsExceeded");
        let shown = client.list("ListContainers").await;
        assert_eq!(shown.len(), 2, "nothing of it stays");

        // The next daemon knows whose they are, and so does the next start.
        drop(client);
        tared.kill9();
        let mut tared = tared.restart();
        let client = tared.client().await;
        assert_eq!(ids(&client, &made[1]).await, nth(1));
        assert_eq!(
            client.create_with("c", own_users()).await.unwrap_err().short(),
            "LimitsExceeded"
        );
        client.stop(&made[1]).await.done();
        client.start(&made[1]).await.done();
        assert_eq!(ids(&client, &made[1]).await, nth(1));

        // Those of one that has gone are another's.
        client.remove(&made[0]).await.done();
        let third = client.create_with("c", own_users()).await.unwrap();
        client.start(&third).await.done();
        assert_eq!(ids(&client, &third).await, nth(0));
        for path in [&made[1], &third] {
            client.remove(path).await.done();
        }

        // Nor does one start with ids that somebody else has by now.
        let path = client.create_with("c", own_users()).await.unwrap();
        let before = fs::read(host.path("subuid")).unwrap();
        fs::write(host.path("subuid"), format!("tare:{}:131072\n", UID + COUNT)).unwrap();
        let ended = client.start(&path).await;
        assert_eq!(failure(&ended), format!("{ERROR}.InvalidSpec"));
        assert!(ended.error_message.contains("no longer"), "{ended:?}");
        fs::write(host.path("subuid"), before).unwrap();
        client.start(&path).await.done();
        client.remove(&path).await.done();

        // A host that says nothing has none, and those who need none do not mind.
        fs::write(host.path("subgid"), "somebody:1879048192:131072\ntare:1:9\n").unwrap();
        let refused = client.create_with("c", own_users()).await.unwrap_err();
        assert_eq!(refused.short(), "InvalidSpec");
        assert!(refused.message.contains("/etc/subgid has no"), "{refused:?}");
        let plain = client.create("plain", "sleep 1000").await;
        client.start(&plain).await.done();
        assert_eq!(says(&client, &plain, "cat /proc/self/uid_map").await, "0 0 4294967295");
        client.remove(&plain).await.done();
        let mut chosen = own_users();
        chosen.insert("UIDMap", vec![(0_u32, 300_000_u32, 9_u32), (9, 400_000, 1)].into());
        let chosen = client.create_with("chosen", chosen).await.unwrap();
        client.start(&chosen).await.done();
        let map = "0 300000 9 9 400000 1";
        assert_eq!(ids(&client, &chosen).await, format!("{map} {map}"));
        assert!(client.container(&chosen).await.get::<bool>("Privileged"));
        client.remove(&chosen).await.done();
        tared.stop();
    });
}

#[test]
fn privileged_what_is_copied_has_owners_as_they_are_in_the_container() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let path = client.create_with("c", own_users()).await.unwrap();
        let into = async || {
            let file = file_of(&files_tar(&[("copied", b"x")]));
            let body = (Fd::from(std::os::fd::AsFd::as_fd(&file)), "/etc", Options::new());
            client.job(&path, "Container", "CopyIn", &body).await.unwrap()
        };
        into().await.done();
        assert_eq!(owner(upper(&tared, &path).join("etc/copied")), (0, 0));
        client.start(&path).await.done();
        let owners = says(&client, &path, "stat -c %u:%g /etc/copied /etc").await;
        assert_eq!(owners, "0:0 0:0");
        assert_eq!(failure(&into().await), format!("{ERROR}.InvalidState"));
        client.remove(&path).await.done();
        tared.stop();
    });
}

/// Their namespace is the runtime's, and belongs to their users: it is changed from outside.
#[test]
fn privileged_a_container_with_users_of_its_own_comes_to_a_network_and_leaves_it() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let net: OwnedObjectPath =
            client.manager("CreateNetwork", &("net", Options::new())).await.unwrap();
        let web = client.create_with("web", own_users()).await.unwrap();
        client.start(&web).await.done();
        for _ in 0..2 {
            let body = (&net, Options::new());
            client.call(&web, "Container", "ConnectNetwork", &body).await.unwrap();
            assert_eq!(says(&client, &web, "ls /sys/class/net").await, "eth0 eth1 lo");
            let address = says(&client, &web, "ip -o -4 addr show eth1").await;
            let address = address.split([' ', '/']).nth(3).unwrap().parse::<IpAddr>().unwrap();
            let server =
                in_network(&namespace_of(&web), || TcpListener::bind((address, 80)).unwrap());
            let _caller = TcpStream::connect((address, 80)).expect("the host reaches it there");
            server.accept().unwrap();
            drop(server);
            let body = (&net, 0_u64);
            client.call(&web, "Container", "DisconnectNetwork", &body).await.unwrap();
            assert_eq!(says(&client, &web, "ls /sys/class/net").await, "eth0 lo");
        }
        assert_eq!(ids(&client, &web).await, nth(0), "its users are its own");
        client.remove(&web).await.done();
        client.call(&net, "Network", "Remove", &0_u64).await.unwrap();
        tared.stop();
    });
}
