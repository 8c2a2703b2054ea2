//! `SELinux`, where the kernel uses it with Debian's policy: who runs as what.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use system_tests::Ring::Machine;
use system_tests::{Client, Options, ROOT, in_lab, run, started};
use zbus::{OwnedObjectPath, Variant};

/// Of services that the policy does not know.
const SERVICE: &str = "system_u:system_r:initrc_t:s0";
/// Of crun, and so of what it starts that has no label of its own.
const RUNTIME: &str = "system_u:system_r:container_engine_t:s0";
/// Of containers, before their categories.
const CONTAINER: &str = "system_u:system_r:container_t:s0:";
/// Of what is theirs, likewise.
const FILES: &str = "system_u:object_r:container_file_t:s0:";
/// Of what every container may use.
const SHARED_FILES: &str = "system_u:object_r:container_file_t:s0";
/// What is in `/run/tare`.
const RUNTIME_FILES: &str = "tcontext=system_u:object_r:initrc_runtime_t:s0";
/// What containers are made of, that has no label of ours: crun makes what it mounts on there.
const ROOT_FILES: &str = "tcontext=system_u:object_r:var_lib_t:s0";
/// What crun does with the file system of a container's terminals. The kernel tells of it once, and
/// again when it has forgotten that it did.
const TERMINALS: &str = "{ remount }";
/// What crun gives to the user of a container that has no terminal: its pipes, which conmon made.
const PIPES: &str = "tcontext=system_u:system_r:initrc_t:s0 tclass=fifo_file";
/// The same, as descriptors of somebody else.
const PIPES_IN_USE: &str = "tcontext=system_u:system_r:initrc_t:s0 tclass=fd";

/// The label of a process.
fn label(pid: &str) -> String {
    let label = fs::read_to_string(format!("/proc/{pid}/attr/current")).unwrap();
    label.trim_end_matches(['\0', '\n']).into()
}

fn main_pid(unit: &str) -> String {
    run("systemctl", &["show", "--property=MainPID", "--value", unit]).trim().into()
}

/// What the policy does not allow and we did since the machine was started, a line each: the kernel tells
/// of each kind once, be it in this case or in one before it.
fn denials() -> Vec<String> {
    let ours =
        ["tared", "tare-spawn", "tare-names", "tare-worker", "conmon", "crun", "sleep", "sh"];
    let is_ours = |line: &&str| ours.iter().any(|it| line.contains(&format!("comm=\"{it}\"")));
    run("journalctl", &["--sync"]);
    let journal = run("journalctl", &["--no-pager", "--quiet", "--boot", "--output=cat"]);
    let denied = journal.lines().filter(|line| line.contains("avc:  denied"));
    denied.filter(is_ours).map(str::to_owned).collect()
}

/// The label of a file, also of a link itself.
fn label_of(path: impl AsRef<Path>) -> String {
    run("stat", &["--format=%C", path.as_ref().to_str().unwrap()]).trim().into()
}

/// A container that waits, with these options; and its first process.
async fn waiting(client: &Client, name: &str, options: Options<'_>) -> (OwnedObjectPath, String) {
    let mut all = Options::from([("Command", vec!["sleep", "1000"].into())]);
    all.extend(options);
    let path = client.create_with(name, all).await.unwrap();
    client.start(&path).await.done();
    let pid = pid(client, &path).await;
    (path, pid)
}

async fn pid(client: &Client, path: &OwnedObjectPath) -> String {
    client.container(path).await.get::<u32>("PID").to_string()
}

/// The categories of a container, by its first process.
fn categories(pid: &str) -> String {
    let label = label(pid);
    label.strip_prefix(CONTAINER).unwrap_or_else(|| panic!("{label}")).into()
}

/// Where something of a container is seen from the host.
fn inside(pid: &str, path: &str) -> String {
    format!("/proc/{pid}/root{path}")
}

/// `Mounts` or `Volumes`, one row of it.
fn one(key: &'static str, row: [(&str, Variant<'static>); 2], option: &str) -> Options<'static> {
    let row = row.into_iter().chain([("Options", vec![option.to_owned()].into())]);
    let row: HashMap<String, _> = row.map(|(key, value)| (key.to_owned(), value)).collect();
    Options::from([(key, vec![row].into())])
}

fn of_host(source: &Path, option: &str) -> Options<'static> {
    let source = source.to_str().unwrap().to_owned();
    one("Mounts", [("Source", source.into()), ("Target", "/d".into())], option)
}

#[test]
fn vm_selinux_services_and_containers_have_their_labels() {
    in_lab(Machine, async |lab| {
        assert_eq!(
            label("1"),
            "system_u:system_r:init_t:s0",
            "the files of the system are labelled"
        );
        let client = lab.client().await;
        client.import_busybox().await;
        let manager = client.properties(ROOT, "Manager").await;
        assert!(manager.get::<Vec<String>>("Features").contains(&"selinux".into()));
        let (path, pid) = waiting(&client, "c", Options::new()).await;
        for unit in ["tared.service", "tare-spawn.service", "tare-names.service"] {
            assert_eq!(label(&main_pid(unit)), SERVICE, "{unit}");
        }
        let own = categories(&pid);
        let executed = client.exec(&path, "cat /proc/self/attr/current; touch /x /dev/shm/x").await;
        let label = executed.stdout.trim_end_matches(['\0', '\n']);
        assert_eq!(label, format!("{CONTAINER}{own}"), "{executed:?}");
        let mine = format!("{FILES}{own}");
        for place in ["/", "/bin/busybox", "/x", "/dev/shm", "/dev/shm/x", "/etc/hostname", "/dev"]
        {
            assert_eq!(label_of(inside(&pid, place)), mine, "{place}");
        }
        for place in ["/etc/hosts", "/etc/resolv.conf"] {
            assert_eq!(label_of(inside(&pid, place)), SHARED_FILES, "{place}");
        }
        client.remove(&path).await.done();
    });
}

#[test]
fn vm_selinux_each_container_has_categories_of_its_own_as_long_as_it_is_there() {
    in_lab(Machine, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let (a, of_a) = waiting(&client, "a", Options::new()).await;
        let (b, of_b) = waiting(&client, "b", Options::new()).await;
        let kept = categories(&of_a);
        assert_ne!(kept, categories(&of_b));
        // Over a new life, and a new daemon.
        client.stop(&a).await.done();
        run("systemctl", &["restart", "tared.service"]);
        client.start(&a).await.done();
        assert_eq!(categories(&pid(&client, &a).await), kept);
        // Who shares its processes can do something with them.
        let shares = Options::from([("PIDMode", "container:a".into())]);
        let (c, of_c) = waiting(&client, "c", shares).await;
        assert_eq!(categories(&of_c), kept);
        for path in [c, b, a] {
            client.remove(&path).await.done();
        }
    });
}

#[test]
fn vm_selinux_a_container_may_have_another_label_or_none() {
    in_lab(Machine, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let mut paths = Vec::new();
        for (name, options, want) in [
            ("type", [("SELinuxLabel", "::spc_t".into())], "system_u:system_r:spc_t:s0:"),
            ("level", [("SELinuxLabel", ":::s0:c1".into())], "system_u:system_r:container_t:s0:c1"),
            ("none", [("SELinuxLabel", "disable".into())], RUNTIME),
            ("privileged", [("Privileged", true.into())], RUNTIME),
            ("host", [("PIDMode", "host".into())], RUNTIME),
        ] {
            let (path, pid) = waiting(&client, name, Options::from(options)).await;
            assert!(client.container(&path).await.get::<bool>("Privileged"), "{name}");
            let label = label(&pid);
            if want == RUNTIME {
                assert_eq!(label, want, "{name}");
                let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
                assert!(!mounts.contains("context="), "{name}: {mounts}");
            } else {
                assert!(label.starts_with(want), "{name}: {label}");
            }
            paths.push(path);
        }
        // What the policy does not have is refused by the kernel, and nothing is left of the start.
        let unknown = Options::from([
            ("Command", vec!["true"].into()),
            ("SELinuxLabel", "::no_such_type_t".into()),
        ]);
        let path = client.create_with("unknown", unknown).await.unwrap();
        assert_eq!(client.start(&path).await.result, "failed");
        paths.push(path);
        for path in paths {
            client.remove(&path).await.done();
        }
    });
}

#[test]
fn vm_selinux_what_is_mounted_is_relabelled_if_that_is_asked_for() {
    in_lab(Machine, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let world = tempfile::tempdir_in("/srv").unwrap();
        let at = |name: &str| world.path().join(name);
        fs::create_dir_all(at("data/sub")).unwrap();
        fs::create_dir(at("outside")).unwrap();
        fs::write(at("data/sub/file"), "").unwrap();
        fs::write(at("outside/file"), "").unwrap();
        symlink("../outside/file", at("data/link")).unwrap();
        let data = at("data");
        let all = ["data", "data/sub", "data/sub/file", "data/link"];
        let before = label_of(at("data"));

        let (plain, _) = waiting(&client, "plain", of_host(&data, "rw")).await;
        assert_eq!(label_of(&data), before);
        client.remove(&plain).await.done();

        let (path, pid) = waiting(&client, "own", of_host(&data, "Z")).await;
        let own = format!("{FILES}{}", categories(&pid));
        for place in all {
            assert_eq!(label_of(at(place)), own, "{place}");
        }
        assert_eq!(label_of(at("outside/file")), label_of(at("outside")), "where a link leads");
        // Once: what somebody labels afterwards stays as that is.
        run("chcon", &["--type=etc_t", at("data/sub/file").to_str().unwrap()]);
        client.stop(&path).await.done();
        client.start(&path).await.done();
        assert!(label_of(at("data/sub/file")).contains(":etc_t:"));
        client.remove(&path).await.done();

        let (path, _) = waiting(&client, "shared", of_host(&data, "z")).await;
        for place in all {
            assert_eq!(label_of(at(place)), SHARED_FILES, "{place}");
        }
        client.remove(&path).await.done();
    });
}

#[test]
fn vm_selinux_other_images_are_labelled_for_whom_they_are_mounted() {
    in_lab(Machine, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let picture = system_tests::image::busybox_tar();
        let of_layers = Options::from([("Reference", "one:1".into())]);
        client.import(&system_tests::image::file_of(picture), of_layers).await.unwrap().done();
        let row = |option: &str| {
            one("Mounts", [("Image", "one:1".into()), ("Target", "/i".into())], option)
        };
        for option in ["ro", "rw"] {
            let (path, pid) = waiting(&client, "c", row(option)).await;
            let own = format!("{FILES}{}", categories(&pid));
            for place in ["/i", "/i/bin/busybox"] {
                assert_eq!(label_of(inside(&pid, place)), own, "{option}: {place}");
            }
            let read = client.exec(&path, "cat /i/bin/busybox >/dev/null; ls /i").await;
            assert!(read.stderr.is_empty() && !read.stdout.is_empty(), "{option}: {read:?}");
            let written = client.exec(&path, "touch /i/new").await;
            assert_eq!(written.stderr.is_empty(), option == "rw", "{option}: {written:?}");
            client.remove(&path).await.done();
        }
    });
}

#[test]
fn vm_selinux_what_the_host_lives_in_is_not_relabelled() {
    in_lab(Machine, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        fs::create_dir_all("/home/somebody/data").unwrap();
        let world = tempfile::tempdir_in("/srv").unwrap();
        let link = world.path().join("link");
        symlink("/usr/bin", &link).unwrap();
        for place in ["/etc", "/bin", "/home/somebody", "/dev/shm", link.to_str().unwrap()] {
            let before = label_of(fs::canonicalize(place).unwrap());
            let refused =
                client.create_with("c", of_host(Path::new(place), "z")).await.unwrap_err();
            assert_eq!(refused.short(), "InvalidSpec", "{place}");
            assert_eq!(label_of(fs::canonicalize(place).unwrap()), before, "{place}");
        }
        let home = of_host(Path::new("/home/somebody/data"), "z");
        let (path, _) = waiting(&client, "home", home).await;
        assert_eq!(label_of("/home/somebody/data"), SHARED_FILES);
        client.remove(&path).await.done();
        fs::remove_dir_all("/home/somebody").unwrap();
    });
}

#[test]
fn vm_selinux_volumes_are_for_all_containers_unless_one_wants_them_alone() {
    in_lab(Machine, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let volume =
            |option| one("Volumes", [("Name", "v".into()), ("Target", "/etc".into())], option);
        let on_disk = |name: &str| label_of(format!("/var/lib/tare/volumes/v/_data{name}"));
        // Filled from the image.
        let (path, pid) = waiting(&client, "c", volume("rw")).await;
        assert!(Path::new(&inside(&pid, "/etc/passwd")).exists());
        for name in ["", "/passwd"] {
            assert_eq!(on_disk(name), SHARED_FILES, "{name}");
        }
        client.remove(&path).await.done();
        let (path, pid) = waiting(&client, "c", volume("Z")).await;
        for name in ["", "/passwd"] {
            assert_eq!(on_disk(name), format!("{FILES}{}", categories(&pid)), "{name}");
        }
        client.remove(&path).await.done();
        let volume: OwnedObjectPath = client.manager("GetVolume", &"v").await.unwrap();
        client.job(&volume, "Volume", "Remove", &0_u64).await.unwrap().done();
    });
}

/// The boot is permissive: this is what a policy of ours has to allow before it can be enforcing.
#[test]
fn vm_selinux_the_policy_lacks_nothing_but_what_runtimes_do_for_us() {
    in_lab(Machine, async |lab| {
        let client = lab.client().await;
        client.import_busybox().await;
        let path = started(&client, "c", "sleep 1000").await;
        assert_eq!(client.exec(&path, "true").await.code, 0);
        client.remove(&path).await.done();
        let denials = denials();
        let known = |line: &&String| {
            let what = [RUNTIME_FILES, ROOT_FILES, TERMINALS, PIPES];
            let of_crun = line.contains("comm=\"crun\"") && what.iter().any(|it| line.contains(it));
            // Its standard files.
            let inside = line.contains(&format!("scontext={CONTAINER}"))
                && [PIPES, PIPES_IN_USE].iter().any(|it| line.contains(it));
            // What has no label of its own uses what it is made of as soon as crun does.
            let unlabelled =
                line.contains(&format!("scontext={RUNTIME}")) && line.contains(ROOT_FILES);
            of_crun || inside || unlabelled
        };
        let more: Vec<_> = denials.iter().filter(|line| !known(line)).collect();
        assert!(more.is_empty(), "{more:#?}");
    });
}
