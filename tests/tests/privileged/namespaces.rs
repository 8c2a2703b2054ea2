//! Containers in namespaces that are not their own, those of networks apart: see `sharing`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command};

use system_tests::{Client, ERROR, Options, Refused, Tared, failure, on_scratch_host, run};
use zbus::{OwnedObjectPath, Variant};

/// Options and what is in `/proc/<pid>/ns`.
const KINDS: [(&str, &str); 4] =
    [("PIDMode", "pid"), ("IPCMode", "ipc"), ("UTSMode", "uts"), ("CgroupMode", "cgroup")];

fn in_namespaces<'a>(modes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Options<'a> {
    let mut options = Options::from([
        ("Command", Variant::from(vec!["sleep", "1000"])),
        ("NetworkMode", Variant::from("none")),
    ]);
    options.extend(modes.into_iter().map(|(key, mode)| (key, Variant::from(mode))));
    options
}

/// The namespaces that a process of a container is in, one a line.
async fn seen(client: &Client, path: &OwnedObjectPath) -> String {
    let script = "for kind in pid ipc uts cgroup; do readlink /proc/self/ns/$kind; done";
    client.exec(path, script).await.stdout
}

async fn state(client: &Client, path: &OwnedObjectPath) -> String {
    client.container(path).await.get("State")
}

fn error_of<T: std::fmt::Debug>(refused: Result<T, Refused>) -> String {
    refused.unwrap_err().short().to_owned()
}

/// A process in namespaces of its own, which somebody made.
struct Holder(Child);

impl Holder {
    fn new() -> Self {
        let args = ["--ipc", "--uts", "--cgroup", "sleep", "1000"];
        let child = Command::new("unshare").args(args).spawn().unwrap();
        let ours = fs::metadata("/proc/self/ns/ipc").unwrap().ino();
        let theirs = || fs::metadata(format!("/proc/{}/ns/ipc", child.id())).unwrap().ino();
        while theirs() == ours {
            std::thread::yield_now();
        }
        Self(child)
    }

    fn mode(&self, file: &str) -> String {
        format!("ns:/proc/{}/ns/{file}", self.0.id())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn privileged_containers_share_namespaces() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let mut own = in_namespaces([]);
        own.insert("Hostname", "the-owner".into());
        let owner = client.create_with("owner", own).await.unwrap();
        let all = |name| KINDS.map(|(key, _)| (key, name));
        let side = in_namespaces(all("container:owner"));
        let side = client.create_with("side", side).await.unwrap();
        let third = in_namespaces(all("container:side"));
        let third = client.create_with("third", third).await.unwrap();

        client.start(&third).await.done();
        for path in [&owner, &side, &third] {
            assert_eq!(state(&client, path).await, "running", "the others come first");
        }
        let first = seen(&client, &owner).await;
        assert_eq!(first.lines().count(), KINDS.len(), "{first}");
        for path in [&side, &third] {
            assert_eq!(seen(&client, path).await, first);
        }
        client.exec(&third, "echo hello > /dev/shm/note").await;
        let note = client.exec(&owner, "cat /dev/shm/note").await.stdout;
        assert_eq!(note, "hello\n", "memory comes with the IPC namespace");
        let names = "hostname; cat /etc/hostname; echo $HOSTNAME";
        let names = client.exec(&side, names).await.stdout;
        assert!(names.starts_with("the-owner\nthe-owner\n"), "{names}");
        let processes = client.exec(&side, "ps | grep -c 'sleep 100[0]'").await.stdout;
        assert_eq!(processes, "3\n", "they see each other's processes");

        // Whoever shares them keeps them from going, also for the next daemon.
        drop(client);
        tared.kill9();
        let mut tared = tared.restart();
        let client = tared.client().await;
        let ended = client.remove(&owner).await;
        assert_eq!(failure(&ended), format!("{ERROR}.InvalidState"));
        assert!(ended.error_message.contains("'side'"), "{ended:?}");
        assert_eq!(state(&client, &owner).await, "running", "it was not even killed");
        // What the daemon did not make itself is joined as well.
        client.stop(&third).await.done();
        client.start(&third).await.done();
        assert_eq!(seen(&client, &third).await, first);
        assert_eq!(client.exec(&third, "cat /dev/shm/note").await.stdout, "hello\n");
        for path in [&third, &side, &owner] {
            client.remove(path).await.done();
        }
        tared.stop();
    });
}

async fn reach_the_host(client: &Client, paths: &[OwnedObjectPath]) -> Vec<bool> {
    let mut all = Vec::new();
    for path in paths {
        all.push(client.container(path).await.get("Privileged"));
    }
    all
}

/// Whoever may not reach the host does not by way of a container that does, be it their own.
#[test]
fn privileged_who_joins_what_reaches_the_host_reaches_it_too() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let mut paths = Vec::new();
        let mut make = async |name, options| {
            paths.push(client.create_with(name, options).await.unwrap());
        };
        let mut mighty = in_namespaces([]);
        mighty.insert("CapAdd", vec!["SYS_PTRACE"].into());
        make("plain", in_namespaces([])).await;
        make("mighty", mighty).await;
        make("between", in_namespaces([("PIDMode", "container:mighty")])).await;
        let action = async |mode: (&'static str, &'static str)| {
            let body = ("busybox", in_namespaces([mode]), 0_u64);
            let (_, _, action): (String, Vec<String>, String) =
                client.manager("GenerateSpec", &body).await.unwrap();
            action
        };
        for (mode, wanted) in [
            (("PIDMode", "container:plain"), "create-container"),
            (("PIDMode", "container:mighty"), "create-privileged-container"),
            (("PIDMode", "container:between"), "create-privileged-container"),
            (("IPCMode", "container:mighty"), "create-privileged-container"),
            (("UTSMode", "container:plain"), "create-container"),
        ] {
            let wanted = format!("org.tare.containers1.{wanted}");
            assert_eq!(action(mode).await, wanted, "{mode:?}");
        }
        assert_eq!(reach_the_host(&client, &paths).await, [false, true, true]);
        tared.kill9();
        let mut tared = tared.restart();
        let client = tared.client().await;
        assert_eq!(reach_the_host(&client, &paths).await, [false, true, true], "found out anew");
        for path in paths.iter().rev() {
            client.remove(path).await.done();
        }
        tared.stop();
    });
}

#[test]
fn privileged_who_shares_processes_ends_with_the_first_of_them() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let owner = client.create_with("owner", in_namespaces([])).await.unwrap();
        let side = in_namespaces([("PIDMode", "container:owner")]);
        let side = client.create_with("side", side).await.unwrap();
        client.start(&side).await.done();
        client.stop(&owner).await.done();
        let exit = client.exit(&side).await;
        assert_eq!(exit.code, 137, "{exit:?}");
        // Both come back, and are together again.
        client.start(&side).await.done();
        assert_eq!(
            seen(&client, &side).await.lines().next(),
            seen(&client, &owner).await.lines().next()
        );
        for path in [&side, &owner] {
            client.remove(path).await.done();
        }
        tared.stop();
    });
}

#[test]
fn privileged_namespaces_that_are_nobodys_own_are_not_shared() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let create = async |options| client.create_with("x", options).await;
        for (key, file) in KINDS {
            let of_host = in_namespaces([(key, "host")]);
            let of_host = client.create_with("of-host", of_host).await.unwrap();
            let refused = create(in_namespaces([(key, "container:of-host")])).await;
            let refused = refused.unwrap_err();
            assert_eq!(refused.short(), "InvalidArgs", "{key}: {refused:?}");
            client.remove(&of_host).await.done();
            let nobody = create(in_namespaces([(key, "container:nobody")])).await;
            assert_eq!(error_of(nobody), "NoSuchContainer", "{key}");
            for mode in ["ns:/nowhere", "ns:/dev/null", "ns:/proc/1/ns/mnt"] {
                let refused = create(in_namespaces([(key, mode)])).await;
                assert_eq!(error_of(refused), "InvalidSpec", "{key} {file} {mode}");
            }
        }
        // One that says it has its own, and was patched so that it has not.
        let mut patched = in_namespaces([]);
        let others = ["pid", "mount", "uts", "network", "cgroup"];
        let others = others.map(|kind| format!(r#"{{"type": "{kind}"}}"#)).join(", ");
        let patch = format!(r#"{{"linux": {{"namespaces": [{others}]}}}}"#);
        patched.insert("SpecPatch", patch.as_str().into());
        let patched = client.create_with("patched", patched).await.unwrap();
        let side = in_namespaces([("IPCMode", "container:patched")]);
        let side = client.create_with("side", side).await.unwrap();
        let ended = client.start(&side).await;
        assert_eq!(failure(&ended), "org.freedesktop.DBus.Error.InvalidArgs", "{ended:?}");
        for path in [&side, &patched] {
            client.remove(path).await.done();
        }
        tared.stop();
    });
}

#[test]
fn privileged_a_container_is_in_the_namespaces_at_paths_or_does_not_start() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let place = host.path("namespace");
        fs::write(&place, "").unwrap();
        let mode = format!("ns:{}", place.display());
        let (mine, other) = (Holder::new(), Holder::new());
        for (key, file) in &KINDS[1..] {
            let bind = |holder: &Holder| {
                let from = holder.mode(file);
                rustix::mount::mount_bind(&from["ns:".len()..], &place).unwrap();
            };
            let unbind = || {
                rustix::mount::unmount(&place, rustix::mount::UnmountFlags::DETACH).unwrap();
            };
            bind(&mine);
            let inode = fs::metadata(&place).unwrap().ino();
            let inside = in_namespaces([(*key, mode.as_str())]);
            let inside = client.create_with("inside", inside).await.unwrap();
            client.start(&inside).await.done();
            let its = seen(&client, &inside).await;
            assert!(its.contains(&format!("{file}:[{inode}]\n")), "{its}");
            client.stop(&inside).await.done();
            bind(&other);
            let ended = client.start(&inside).await;
            assert_eq!(failure(&ended), format!("{ERROR}.RuntimeFailed"), "{key}");
            unbind();
            client.start(&inside).await.done();
            client.remove(&inside).await.done();
            unbind();
        }
        tared.stop();
    });
}

/// Whether the crun of this host sets clocks: it does since 1.8.4.
fn sets_clocks() -> bool {
    let told = run("crun", &["--version"]);
    let version = told.lines().next().unwrap().rsplit(' ').next().unwrap();
    let numbers: Vec<u32> = version.split('.').map(|number| number.parse().unwrap()).collect();
    numbers >= vec![1, 8, 4]
}

#[test]
fn privileged_clocks_are_its_own_and_ahead_as_it_was_asked_for() {
    on_scratch_host(async |host| {
        let mut tared = Tared::start(host);
        let client = tared.client().await;
        client.import_busybox().await;
        let mut ahead = in_namespaces([("TimeMode", "private")]);
        let offsets = Options::from([("Boottime", 1_000_000_000_i64.into())]);
        ahead.insert("TimeOffsets", offsets.into());
        let ahead = client.create_with("ahead", ahead).await.unwrap();
        let started = client.start(&ahead).await;
        if sets_clocks() {
            started.done();
            let uptime = client.exec(&ahead, "cut -d . -f 1 /proc/uptime").await.stdout;
            assert!(uptime.trim().parse::<u64>().unwrap() > 1_000_000_000, "{uptime}");
            let its = client.exec(&ahead, "readlink /proc/self/ns/time").await.stdout;
            let ours = fs::read_link("/proc/self/ns/time").unwrap();
            assert_ne!(its.trim(), ours.to_str().unwrap());
        } else {
            assert_eq!(failure(&started), format!("{ERROR}.RuntimeFailed"));
            assert_ne!(state(&client, &ahead).await, "running", "it does not run with others");
        }
        client.remove(&ahead).await.done();
        tared.stop();
    });
}
