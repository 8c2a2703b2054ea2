use proptest::prelude::*;
use serde_json::{Value, json};

use super::target::depth;
use crate::error::Error;
use crate::facts::{HostFacts, KernelVersion, Placement, RootfsFacts};
use crate::generate::{Generated, generate};
use crate::testing;

fn make(
    request: &str,
    change: impl FnOnce(&mut HostFacts, &mut RootfsFacts, &mut Placement),
) -> Result<(Generated, Value), Error> {
    let effective = testing::try_effective(request)?;
    let (mut host, mut rootfs) = (testing::host(), testing::rootfs());
    let mut placement = testing::placement();
    for mount in effective.request.mounts.iter().filter(|mount| mount.needs_source()) {
        let source = format!("/run/b/mounts{}", mount.target).parse().unwrap();
        placement.mounts.insert(mount.target.clone(), source);
    }
    change(&mut host, &mut rootfs, &mut placement);
    let made = generate(&effective, &host, &rootfs, &placement)?;
    let config = serde_json::from_slice(&made.config).unwrap();
    Ok((made, config))
}

fn mounts(request: &str) -> Vec<Value> {
    let (_, config) = make(request, |_, _, _| {}).unwrap();
    config["mounts"].as_array().unwrap().clone()
}

fn at(mounts: &[Value], target: &str) -> Option<Value> {
    let mut found = mounts.iter().filter(|mount| mount["destination"] == target);
    let first = found.next().cloned();
    assert!(found.next().is_none(), "{target} twice");
    first
}

fn asked(mount: &str) -> Value {
    let mounts = mounts(&format!(r#""Mounts":[{mount}]"#));
    at(&mounts, "/d").unwrap()
}

#[test]
fn each_source_with_podmans_usual_options() {
    let usual = json!(["rbind", "rw", "rprivate", "nosuid", "nodev"]);
    let bound = |options: &Value| json!({"destination": "/d", "type": "bind", "source": "/run/b/mounts/d", "options": options});
    let image = format!(r#"{{"Image":{{"Image":"sha256:{}"}}}}"#, "0".repeat(64));
    for (source, want) in [
        (r#"{"Volume":{"Name":"v","SubPath":"a/b"}}"#, bound(&usual)),
        (r#"{"Host":"/srv"}"#, bound(&usual)),
        (image.as_str(), bound(&json!(["rbind", "ro", "rprivate", "nosuid", "nodev"]))),
        (
            r#""Tmpfs""#,
            json!({"destination": "/d", "type": "tmpfs", "source": "tmpfs", "options":
                ["rw", "rprivate", "nosuid", "nodev", "noexec", "tmpcopyup"]}),
        ),
        (
            r#""Devpts""#,
            json!({"destination": "/d", "type": "devpts", "source": "devpts", "options":
                ["newinstance", "rw", "rprivate", "nosuid", "nodev", "noexec"]}),
        ),
    ] {
        assert_eq!(asked(&format!(r#"{{"Target":"/d","Source":{source}}}"#)), want, "{source}");
    }
}

#[test]
fn options_arrive() {
    let volume = |options: &str| {
        let mount = format!(
            r#"{{"Target":"/d/","Source":{{"Volume":{{"Name":"v"}}}},"Options":{options}}}"#
        );
        asked(&mount)["options"].clone()
    };
    assert_eq!(volume(r#"["ro","bind"]"#), json!(["bind", "ro", "rprivate", "nosuid", "nodev"]));
    assert_eq!(
        volume(r#"["suid","dev","noexec","rslave","noatime","nosymfollow"]"#),
        json!(["rbind", "rw", "rslave", "suid", "dev", "noexec", "noatime", "nosymfollow"])
    );
    let recursive = volume(r#"["rro"]"#);
    assert_eq!(recursive, json!(["rbind", "ro", "rprivate", "nosuid", "nodev", "rro"]));
    let memory = asked(
        r#"{"Target":"/d","Source":"Tmpfs","ReadOnly":false,
            "Options":["size=1m","mode=1777","exec","notmpcopyup"]}"#,
    );
    let want = json!(["rw", "rprivate", "nosuid", "nodev", "exec", "size=1m", "mode=1777"]);
    assert_eq!(memory["options"], want);
}

#[test]
fn id_maps_of_mounts() {
    let request = |options: &str| {
        format!(
            r#""Namespaces":{{"UserNamespace":"private"}},"UIDMap":[[0,1000,10]],
            "GIDMap":[[0,2000,10]],"Mounts":[{{"Target":"/d","Source":{{"Volume":{{"Name":"v"}}}},
            "Options":["{options}"]}}]"#
        )
    };
    let get = |options: &str| at(&mounts(&request(options)), "/d").unwrap();
    let map =
        |outside: u32, size: u32| json!([{"containerID": 0, "hostID": outside, "size": size}]);
    let own = get("idmap");
    assert_eq!((&own["uidMappings"], &own["gidMappings"]), (&map(1000, 10), &map(2000, 10)));
    assert_eq!(own["options"].as_array().unwrap().last(), Some(&json!("idmap")));
    let given = get("idmap=uids=@0-1-3;gids=0-7-2");
    assert_eq!((&given["uidMappings"], &given["gidMappings"]), (&map(1001, 3), &map(7, 2)));
    for bad in ["idmap=uids=@0-99-3", "idmap=uids=@0-99-3;gids=0-0-1"] {
        assert!(make(&request(bad), |_, _, _| {}).is_err(), "{bad}");
    }
    let without =
        r#""Mounts":[{"Target":"/d","Source":{"Volume":{"Name":"v"}},"Options":["idmap"]}]"#;
    assert!(make(without, |_, _, _| {}).is_err());
}

#[test]
fn what_the_kernel_cannot_do_is_refused() {
    for (option, major, minor) in [("rro", 5, 12), ("nosymfollow", 5, 10)] {
        let request = format!(
            r#""Mounts":[{{"Target":"/d","Source":{{"Volume":{{"Name":"v"}}}},"Options":["{option}"]}}]"#
        );
        let with = |minor| {
            make(&request, |host, _, _| host.kernel = KernelVersion { major, minor }).map(drop)
        };
        assert!(with(minor).is_ok());
        let error = with(minor - 1).unwrap_err().to_string();
        assert!(error.contains(option) && error.contains(&format!("{major}.{minor}")), "{error}");
    }
}

#[test]
fn contradictions_name_the_option() {
    let volume = r#""Source":{"Volume":{"Name":"v"}}"#;
    for mount in [
        &format!(r#"{{"Target":"/d",{volume},"ReadOnly":true,"Options":["rw"]}}"#),
        &format!(r#"{{"Target":"/d",{volume},"Options":["ro","rw"]}}"#),
        &format!(r#"{{"Target":"/d",{volume},"Options":["exec","noexec"]}}"#),
        &format!(r#"{{"Target":"/d",{volume},"Options":["shared","private"]}}"#),
        &format!(r#"{{"Target":"/d",{volume},"Options":["z","Z"]}}"#),
        &format!(r#"{{"Target":"/d",{volume},"Options":["size=5"]}}"#),
        &format!(r#"{{"Target":"/d",{volume},"Options":["tmpcopyup"]}}"#),
        &format!(r#"{{"Target":"/d",{volume}}},{{"Target":"//d/.",{volume}}}"#),
        r#"{"Target":"/d","Source":"Tmpfs","Options":["rbind"]}"#,
        r#"{"Target":"/d","Source":"Tmpfs","Options":["rro"]}"#,
        r#"{"Target":"/d","Source":"Devpts","Options":["idmap"]}"#,
        r#"{"Target":"/d","Source":{"Host":"/etc"},"Options":["z"]}"#,
        r#"{"Target":"/d","Source":{"Host":"//usr/./"},"Options":["Z"]}"#,
        r#"{"Target":"/d","Source":{"Host":"/usr/bin"},"Options":["Z"]}"#,
        r#"{"Target":"/d","Source":{"Host":"/home/ann"},"Options":["Z"]}"#,
        r#"{"Target":"/d","Source":{"Host":"/dev/shm/x"},"Options":["z"]}"#,
        r#"{"Target":"/d","Source":{"Image":{"Image":"sha256:0000000000000000000000000000000000000000000000000000000000000000"}},"Options":["z"]}"#,
    ] {
        let error = testing::try_effective(&format!(r#""Mounts":[{mount}]"#)).unwrap_err();
        assert!(error.to_string().starts_with("option 'Mounts' "), "{mount}: {error}");
    }
}

#[test]
fn cve_2024_8676_a_source_that_nobody_laid_in_place_is_not_made_up() {
    let request = r#""Mounts":[{"Target":"/d","Source":{"Volume":{"Name":"v"}}}]"#;
    let error = make(request, |_, _, placement| placement.mounts.clear()).unwrap_err();
    assert!(matches!(error, Error::Placement { .. }), "{error}");
}

#[test]
fn b30_one_place_is_mounted_on_once() {
    let volume = |target: &str| {
        format!(r#""Mounts":[{{"Target":"{target}","Source":{{"Volume":{{"Name":"v"}}}}}}]"#)
    };
    for target in ["/etc/hosts", "/etc/hosts/", "//etc/./hosts", "/dev/shm", "/run/.containerenv"] {
        let mounts = mounts(&volume(target));
        let clean: crate::MountTarget = target.parse().unwrap();
        let mount = at(&mounts, clean.as_str()).unwrap();
        assert_eq!(mount["source"], format!("/run/b/mounts{clean}"), "{target}");
    }
}

#[test]
fn targets_through_links_are_where_they_lead() {
    let through = |request: &str| {
        make(request, |_, rootfs, _| {
            let pair = ("/var/run/hosts".parse().unwrap(), "/etc/hosts".parse().unwrap());
            rootfs.resolved.extend([pair]);
        })
    };
    let one = r#"{"Target":"/var/run/hosts","Source":"Tmpfs"}"#;
    let (_, config) = through(&format!(r#""Mounts":[{one}]"#)).unwrap();
    let mounts = config["mounts"].as_array().unwrap();
    assert_eq!(at(mounts, "/etc/hosts").unwrap()["type"], "tmpfs");
    assert!(at(mounts, "/var/run/hosts").is_none());
    let two = format!(r#""Mounts":[{one},{{"Target":"/etc/hosts","Source":"Tmpfs"}}]"#);
    assert!(through(&two).unwrap_err().to_string().contains("one place"));
}

#[test]
fn b40_shared_memory_carries_no_programs() {
    let options = at(&mounts(""), "/dev/shm").unwrap()["options"].clone();
    for option in ["nosuid", "noexec", "nodev"] {
        assert!(options.as_array().unwrap().contains(&json!(option)), "{option}");
    }
    let host = mounts(r#""Namespaces":{"IPCMode":"host"}"#);
    assert_eq!(at(&host, "/dev/shm").unwrap()["source"], "/dev/shm");
}

#[test]
fn propagation_of_the_root_follows_the_mounts() {
    let of = |options: &[&str]| {
        let mounts: Vec<_> = options
            .iter()
            .enumerate()
            .map(|(at, option)| {
                json!({"Target": format!("/d{at}"), "Source": {"Volume": {"Name": "v"}},
                    "Options": [option]})
            })
            .collect();
        let (_, config) = make(&format!(r#""Mounts":{}"#, json!(mounts)), |_, _, _| {}).unwrap();
        config["linux"]["rootfsPropagation"].clone()
    };
    assert_eq!(of(&["ro"]), Value::Null);
    assert_eq!(of(&["private", "rprivate"]), Value::Null);
    assert_eq!(of(&["slave"]), "rslave");
    assert_eq!(of(&["rslave", "rshared"]), "shared");
    assert_eq!(of(&["shared"]), "shared");
}

#[test]
fn what_the_host_lives_in_keeps_its_labels() {
    for (path, keeps) in [
        ("/", true),
        ("/etc", true),
        ("/etc/passwd", true),
        ("/etc/app", false),
        ("/var/lib", true),
        ("/var/lib/app", false),
        ("/usr/bin", true),
        ("/usr/share/doc", true),
        ("/usrx", false),
        ("/dev/shm/x", true),
        ("/sysroot/ostree", true),
        ("/proc/1", true),
        ("/home/ben", true),
        ("/home/ben/data", false),
        ("/var/home", true),
        ("/var/home/ben", true),
        ("/var/home/ben/data", false),
        ("/srv/data", false),
        ("/etcetera", false),
    ] {
        assert_eq!(super::keeps_its_labels(path), keeps, "{path}");
    }
}

#[test]
fn b32_labels_are_a_plan_and_no_option() {
    let request = r#""Mounts":[{"Target":"/d","Source":{"Volume":{"Name":"v"}},"Options":["Z"]},
        {"Target":"/e","Source":{"Host":"/home/ann/usr"},"Options":["z"]},
        {"Target":"/f","Source":{"Host":"/srv/x"}}]"#;
    let (_, config) = make(request, |_, _, _| {}).unwrap();
    let mounts = testing::effective(request).request.mounts;
    let plan: Vec<_> = mounts.iter().map(super::MountRequest::relabeled_for).collect();
    assert_eq!(plan, [Some(super::Sharing::Alone), Some(super::Sharing::All), None]);
    let options = at(config["mounts"].as_array().unwrap(), "/d").unwrap()["options"].clone();
    assert!(!options.as_array().unwrap().contains(&json!("Z")));
}

#[test]
fn user_namespaces_of_shared_kinds_bind_what_they_cannot_mount() {
    let own = r#""UserNamespace":"private""#;
    let ids = r#""UIDMap":[[0,100000,65536]]"#;
    let plain = mounts(&format!(r#""Namespaces":{{{own}}},{ids}"#));
    assert_eq!(at(&plain, "/proc").unwrap()["type"], "proc");
    let shared = mounts(&format!(
        r#""Namespaces":{{{own},"PIDMode":"host","IPCMode":"host"}},{ids},"NetworkMode":"host""#
    ));
    for place in ["/proc", "/sys", "/dev/mqueue"] {
        let mount = at(&shared, place).unwrap();
        assert_eq!((&mount["type"], &mount["source"]), (&json!("bind"), &json!(place)));
    }
    assert!(at(&shared, "/sys").unwrap()["options"].as_array().unwrap().contains(&json!("ro")));
    let gid =
        |mounts: &[Value]| at(mounts, "/dev/pts").unwrap()["options"].to_string().contains("gid=5");
    assert!(gid(&plain));
    assert!(!gid(&mounts(&format!(r#""Namespaces":{{{own}}},"UIDMap":[[0,100000,5]]"#))));
}

fn some_mounts() -> impl Strategy<Value = Vec<String>> {
    let target = "(/(a|b|etc|run|dev/shm|data)){1,3}";
    proptest::collection::btree_set(target, 0..12)
        .prop_map(|set| set.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
}

proptest! {
    /// B31: podman's `Test_sortMounts`, and more.
    #[test]
    fn b31_parents_come_first_and_the_order_asked_for_is_kept(targets in some_mounts()) {
        let entries: Vec<_> =
            targets.iter().map(|t| json!({"Target": t, "Source": "Tmpfs"})).collect();
        let all = mounts(&format!(r#""Mounts":{}"#, json!(entries)));
        let places: Vec<&str> =
            all.iter().map(|mount| mount["destination"].as_str().unwrap()).collect();
        for (at, place) in places.iter().enumerate() {
            let inside = |earlier: &&str| earlier.starts_with(&format!("{place}/"));
            prop_assert!(!places[..at].iter().any(inside), "{} after what is in it", place);
            prop_assert!(!places[..at].contains(place), "{} twice", place);
        }
        for target in &targets {
            prop_assert!(places.contains(&target.as_str()));
        }
        // Among places of one depth, as asked for.
        for level in 1..6 {
            let asked: Vec<&str> =
                targets.iter().map(String::as_str).filter(|t| depth(t) == level).collect();
            let got: Vec<&str> = places.iter().copied().filter(|p| asked.contains(p)).collect();
            prop_assert_eq!(got, asked);
        }
    }
}
