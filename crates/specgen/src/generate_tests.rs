use oci_spec::runtime::Spec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::capability::CapabilitySet;
use crate::facts::CgroupMode;
use crate::reason::Foreign;
use crate::selinux::SELinuxPolicy;
use crate::testing;

const POLICY: &str = "process = \"system_u:system_r:container_t:s0\"
file = \"system_u:object_r:container_file_t:s0\"";

fn config(request: &str) -> Value {
    serde_json::from_slice(&testing::generated(request).config).unwrap()
}

fn text(file: &BoundFile) -> String {
    String::from_utf8(file.content.0.clone()).unwrap()
}

fn with_host(request: &str, change: impl FnOnce(&mut HostFacts)) -> Value {
    let mut host = testing::host();
    change(&mut host);
    let (effective, placement) = (testing::effective(request), testing::placement());
    let made = generate(&effective, &host, &testing::rootfs(), &placement).unwrap();
    serde_json::from_slice(&made.config).unwrap()
}

fn namespaces(config: &Value) -> Vec<&str> {
    let list = config["linux"]["namespaces"].as_array().unwrap();
    list.iter().map(|namespace| namespace["type"].as_str().unwrap()).collect()
}

fn mount<'a>(config: &'a Value, target: &str) -> &'a Value {
    let mounts = config["mounts"].as_array().unwrap();
    mounts.iter().find(|mount| mount["destination"] == target).unwrap()
}

fn has_option(config: &Value, target: &str, option: &str) -> bool {
    mount(config, target)["options"].as_array().unwrap().contains(&json!(option))
}

#[test]
fn oci_spec_reads_it_and_loses_nothing() {
    for request in ["", r#""Seccomp":"unconfined","ReadOnlyRootfs":true,"NetworkMode":"host""#] {
        let made = testing::generated(request);
        let spec: Spec = serde_json::from_slice(&made.config).unwrap();
        let mut back = serde_json::to_value(&spec).unwrap();
        let mut config = config(request);
        for document in [&mut config, &mut back] {
            for set in document["process"]["capabilities"].as_object_mut().unwrap().values_mut() {
                set.as_array_mut().unwrap().sort_by_key(ToString::to_string);
            }
        }
        assert_eq!(back, config, "{request}");
    }
}

#[test]
fn the_process() {
    let root = config("");
    assert_eq!(root["ociVersion"], "1.0.2");
    assert_eq!(root["process"]["terminal"], false);
    assert_eq!(root["process"]["args"], json!(["sh"]));
    assert_eq!(root["process"]["cwd"], "/");
    let user = json!({"uid": 0, "gid": 0, "umask": 0o022, "additionalGids": [0]});
    assert_eq!(root["process"]["user"], user);
    assert_eq!(root["process"]["noNewPrivileges"], false);
    assert!(root["process"].get("oomScoreAdj").is_none());

    let www = config(r#""User":"www","NoNewPrivileges":true,"WorkingDir":"/srv""#);
    let user = json!({"uid": 33, "gid": 33, "umask": 0o022, "additionalGids": [33, 44]});
    assert_eq!(www["process"]["user"], user);
    assert_eq!(www["process"]["noNewPrivileges"], true);
    assert_eq!(www["process"]["cwd"], "/srv");
}

#[test]
fn capabilities_by_user() {
    let default = json!(CapabilitySet::DEFAULT);
    let root = &config("")["process"]["capabilities"];
    let www = &config(r#""User":"www""#)["process"]["capabilities"];
    for (set, of_root, of_www) in [
        ("bounding", &default, &default),
        ("effective", &default, &json!([])),
        ("permitted", &default, &json!([])),
        ("inheritable", &json!([]), &json!([])),
        ("ambient", &json!([]), &json!([])),
    ] {
        assert_eq!((&root[set], &www[set]), (of_root, of_www), "{set}");
    }
    let none = config(r#""CapDrop":["ALL"]"#);
    assert_eq!(none["process"]["capabilities"]["bounding"], json!([]));
}

#[test]
fn namespaces_by_network_and_cgroup() {
    let own = ["pid", "ipc", "uts", "mount", "cgroup", "network"];
    assert_eq!(namespaces(&config("")), own);
    assert_eq!(config("")["linux"]["namespaces"][5]["path"], "/run/netns/tare-x");
    assert_eq!(namespaces(&config(r#""NetworkMode":"host""#)), own[..5]);
    let v1 = with_host("", |host| host.cgroup_mode = CgroupMode::V1);
    assert_eq!(namespaces(&v1), ["pid", "ipc", "uts", "mount", "network"]);
    let hybrid = with_host("", |host| host.cgroup_mode = CgroupMode::Hybrid);
    assert_eq!(namespaces(&hybrid), own);

    let mut placement = testing::placement();
    placement.netns = None;
    let none = testing::effective(r#""NetworkMode":"none""#);
    let made = generate(&none, &testing::host(), &testing::rootfs(), &placement).unwrap();
    let none: Value = serde_json::from_slice(&made.config).unwrap();
    assert_eq!(none["linux"]["namespaces"][5], json!({"type": "network"}));
}

#[test]
fn pings_go_out_from_a_network_of_its_own() {
    let own = config("")["linux"]["sysctl"].clone();
    assert_eq!(own, json!({"net.ipv4.ping_group_range": "0 2147483647"}));
    assert_eq!(config(r#""NetworkMode":"host""#)["linux"]["sysctl"], Value::Null);
}

#[test]
fn the_hostname() {
    for (request, want) in [
        ("", "0123456789ab"),
        (r#""Hostname":"web""#, "web"),
        (r#""NetworkMode":"host""#, "the-host"),
        (r#""NetworkMode":"host","Hostname":"web""#, "web"),
    ] {
        let made = testing::generated(request);
        let file = made.files.iter().find(|file| file.name == "hostname").unwrap();
        assert_eq!(text(file), format!("{want}\n"), "{request}");
        assert_eq!(config(request)["hostname"], want, "{request}");
    }
}

#[test]
fn mounts_and_files() {
    let (writable, read_only) = (config(""), config(r#""ReadOnlyRootfs":true"#));
    assert_eq!(writable["root"], json!({"path": "/run/b/rootfs", "readonly": false}));
    assert_eq!(read_only["root"]["readonly"], true);
    for file in testing::generated("").files {
        let bound = mount(&writable, file.target.as_str());
        assert_eq!(bound["source"], format!("/run/b/files/{}", file.name));
        assert!(!has_option(&writable, file.target.as_str(), "ro"), "{}", file.target);
        assert!(has_option(&read_only, file.target.as_str(), "ro"), "{}", file.target);
    }
    assert_eq!(mount(&writable, "/dev/shm")["source"], "/run/b/shm");
    assert!(!has_option(&read_only, "/dev/shm", "ro"));
    assert!(has_option(&writable, "/sys", "ro") && has_option(&writable, "/sys/fs/cgroup", "ro"));
}

#[test]
fn everything_bound_is_nosuid_and_nodev_and_nothing_covers_a_later_mount() {
    let config = config("");
    let mounts = config["mounts"].as_array().unwrap();
    let target = |mount: &Value| mount["destination"].as_str().unwrap().to_owned();
    for (at, bound) in mounts.iter().enumerate() {
        if bound["type"] == "bind" {
            assert!(has_option(&config, &target(bound), "nosuid"), "{bound}");
            assert!(has_option(&config, &target(bound), "nodev"), "{bound}");
        }
        let below = |earlier: &Value| target(earlier).starts_with(&format!("{}/", target(bound)));
        assert!(!mounts[..at].iter().any(below), "{bound} covers an earlier one");
    }
}

#[test]
fn resources_and_masks() {
    let config = config("");
    assert_eq!(config["linux"]["cgroupsPath"], "/tare/x");
    assert_eq!(config["linux"]["resources"]["devices"], json!([{"allow": false, "access": "rwm"}]));
    assert_eq!(config["linux"]["resources"]["pids"]["limit"], 2048);
    let masked = config["linux"]["maskedPaths"].as_array().unwrap();
    assert!(masked.contains(&json!("/sys/devices/virtual/powercap")));
    assert_eq!(config["linux"]["rootfsPropagation"], Value::Null);

    let other = with_host("", |host| {
        host.controllers.clear();
        host.thermal_throttle_cpus = [0, 7].into();
    });
    assert!(other["linux"]["resources"].get("pids").is_none());
    let masked = other["linux"]["maskedPaths"].as_array().unwrap();
    assert!(masked.contains(&json!("/sys/devices/system/cpu/cpu7/thermal_throttle")));
}

#[test]
fn seccomp_follows_the_bounding_set_and_can_be_off() {
    let of = |request: &str| config(request)["linux"].get("seccomp").map(ToString::to_string);
    assert_eq!(of(r#""Seccomp":"unconfined""#), None);
    let allows_mount = |seccomp: &str| seccomp.contains(r#""quotactl""#);
    assert!(allows_mount(&of(r#""CapAdd":["SYS_ADMIN"]"#).unwrap()));
    assert_ne!(of(""), of(r#""CapDrop":["ALL"]"#));
    assert_ne!(of(""), of(r#""CapAdd":["SYS_ADMIN"]"#));
}

#[test]
fn annotations_name_the_manager_and_the_stop_signal() {
    let config = config(r#""StopSignal":3,"Annotations":{"com.example":"a"}"#);
    let want = json!({
        "com.example": "a",
        "io.container.manager": "tare",
        "org.opencontainers.image.stopSignal": "3",
    });
    assert_eq!(config["annotations"], want);
}

#[test]
fn requests_that_cannot_be_met() {
    let image = crate::ImageDefaults::default();
    let nothing =
        crate::effective(&crate::Request::default(), &image, &Foreign::default()).unwrap();
    let mut host = testing::host();
    host.hard_limits.insert(crate::RlimitKind::Core, 0);
    host.capabilities = CapabilitySet::DEFAULT;
    for (effective, want) in [
        (nothing, "no command: neither the request nor the image names one"),
        (testing::effective(r#""User":"bob""#), "cannot find out who \"bob\" is"),
        (testing::effective(r#""CapAdd":["BPF"]"#), "this host cannot give CAP_BPF"),
        (
            testing::effective(r#""Ulimits":[["core",0,1]]"#),
            "RLIMIT_CORE of 1 is above the 0 that this host allows",
        ),
    ] {
        let error = generate(&effective, &host, &testing::rootfs(), &testing::placement());
        assert_eq!(error.unwrap_err().to_string(), want);
    }
}

fn with(request: &str, change: impl FnOnce(&mut HostFacts, &mut Placement)) -> Value {
    let (mut host, mut placement) = (testing::host(), testing::placement());
    change(&mut host, &mut placement);
    let effective = testing::effective(request);
    let made = generate(&effective, &host, &testing::rootfs(), &placement).unwrap();
    serde_json::from_slice(&made.config).unwrap()
}

const DEVICE: &str = r#"{"Path":"/dev/sdb","Target":"/dev/disk","Kind":"b","Number":"8:16",
    "Access":"rw","Mode":416,"UID":0,"GID":6}"#;

#[test]
fn devices_and_rules() {
    let request = format!(r#""Devices":[{DEVICE}],"DeviceCgroupRules":["c 189:* rwm","a *:* r"]"#);
    let config = config(&request);
    let node = json!([{"path": "/dev/disk", "type": "b", "major": 8, "minor": 16, "fileMode": 0o640,
        "uid": 0, "gid": 6}]);
    assert_eq!(config["linux"]["devices"], node);
    let rules = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "b", "major": 8, "minor": 16, "access": "rw"},
        {"allow": true, "type": "c", "major": 189, "access": "rwm"},
        {"allow": true, "type": "a", "access": "r"},
    ]);
    assert_eq!(config["linux"]["resources"]["devices"], rules, "the last that fits counts");
    for bad in [DEVICE.replace("/dev/disk", "/tmp/disk"), DEVICE.replace("416", "4096")] {
        let error = testing::try_effective(&format!(r#""Devices":[{bad}]"#)).unwrap_err();
        assert!(error.to_string().contains("'Devices'"), "{error}");
    }
}

#[test]
fn cdi_devices_bring_all_they_need() {
    let file = crate::CdiFile::parse(
        br#"{"cdiVersion":"0.5.0","kind":"v.com/c","devices":[{"name":"d","containerEdits":{
            "env":["CDI=1"],"deviceNodes":[{"path":"/dev/c0","type":"c","major":9,"minor":1}],
            "mounts":[{"hostPath":"/usr/lib/c.so","containerPath":"/usr/lib/c.so","options":["ro"]}],
            "hooks":[{"hookName":"createContainer","path":"/usr/bin/ldconfig"}],
            "additionalGids":[77]}}]}"#,
    )
    .unwrap();
    let config = with(r#""CDIDevices":["v.com/c=d"]"#, |_, placement| {
        let name = "v.com/c=d".parse().unwrap();
        placement.cdi = crate::CdiEdits::resolve(&[name], &[file], |_| None).unwrap();
    });
    assert!(config["process"]["env"].as_array().unwrap().contains(&json!("CDI=1")));
    assert_eq!(config["linux"]["devices"][0]["path"], "/dev/c0");
    assert_eq!(config["linux"]["resources"]["devices"][1]["major"], 9);
    assert_eq!(mount(&config, "/usr/lib/c.so")["source"], "/usr/lib/c.so");
    assert!(has_option(&config, "/usr/lib/c.so", "ro"));
    assert_eq!(config["hooks"]["createContainer"][0]["path"], "/usr/bin/ldconfig");
    assert!(config["process"]["user"]["additionalGids"].as_array().unwrap().contains(&json!(77)));
}

#[test]
fn containers_that_are_privileged_are_confined_by_nothing() {
    let config = with(r#""Privileged":true,"CapDrop":["BPF"]"#, |host, _| {
        host.devices = vec![serde_json::from_str(DEVICE).unwrap()];
        host.apparmor_profiles = Some([crate::DEFAULT_APPARMOR_PROFILE.to_owned()].into());
    });
    let linux = &config["linux"];
    for absent in ["seccomp", "maskedPaths", "readonlyPaths"] {
        assert!(linux.get(absent).is_none(), "{absent}");
    }
    assert_eq!(linux["resources"]["devices"], json!([{"allow": true, "access": "rwm"}]));
    assert_eq!(linux["devices"][0]["path"], "/dev/disk");
    assert_eq!(config["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 40);
    assert_eq!(config["process"]["apparmorProfile"], "unconfined");
    assert!(!has_option(&config, "/sys", "ro") && !has_option(&config, "/sys/fs/cgroup", "ro"));
    let confined = with(r#""Privileged":true,"AppArmorProfile":"mine""#, |host, _| {
        host.apparmor_profiles = Some(["mine".to_owned()].into());
    });
    assert_eq!(confined["process"]["apparmorProfile"], "mine", "B37");
    let plain = self::config("");
    assert!(has_option(&plain, "/sys", "ro") && plain["linux"]["seccomp"].is_object());
}

#[test]
fn what_else_goes_in() {
    let config = with(
        r#""IntelRdt":{"ClosID":"gold","L3CacheSchema":"L3:0=f","MemBwSchema":"MB:0=50"},"Umask":63,
            "TTY":true,"OOMScoreAdjust":100,"SELinuxLabel":"a:b:c:s0""#,
        |host, _| host.selinux = SELinuxPolicy::parse(POLICY),
    );
    let rdt = json!({"closID": "gold", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=50"});
    assert_eq!(config["linux"]["intelRdt"], rdt);
    assert_eq!(config["process"]["user"]["umask"], 0o077);
    assert_eq!(config["process"]["terminal"], true);
    assert_eq!(config["process"]["oomScoreAdj"], 100);
    assert_eq!(config["process"]["selinuxLabel"], "a:b:c:s0");
    assert_eq!(config["linux"]["mountLabel"], "a:object_r:container_file_t:s0");

    let profile = json!({"defaultAction": "SCMP_ACT_LOG"}).to_string();
    let given = self::config(&format!(r#""Seccomp":{}"#, json!(profile)));
    assert_eq!(given["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_LOG");
    let patch = json!({"hostname": "patched", "root": {"readonly": null}}).to_string();
    let patched = self::config(&format!(r#""SpecPatch":{}"#, json!(patch)));
    assert_eq!((&patched["hostname"], patched["root"].get("readonly")), (&json!("patched"), None));
    let nowhere = with("", |_, placement| placement.cgroups_path.clear());
    assert!(nowhere["linux"].get("cgroupsPath").is_none());
}

#[test]
fn options_that_do_not_go_together_name_themselves() {
    for (request, option) in [
        (r#""DNS":["192.0.2.1"],"ResolvConf":"image""#, "DNS"),
        (r#""Hosts":{"a":"192.0.2.1"},"HostsFile":"image""#, "Hosts"),
        (r#""BaseHosts":"host","HostsFile":"image""#, "BaseHosts"),
        (r#""ReadOnlyTmpfs":false"#, "ReadOnlyTmpfs"),
        (r#""Namespaces":{"MountMode":"host"}"#, "MountMode"),
        (
            r#""Namespaces":{"MountMode":"ns:/x"},"Mounts":[{"Target":"/d","Source":"Tmpfs"}]"#,
            "MountMode",
        ),
        (r#""Resources":{"MemorySwap":1048576}"#, "MemorySwap"),
    ] {
        let error = testing::try_effective(request).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Request);
        assert!(error.to_string().starts_with(&format!("option '{option}' ")), "{error}");
    }
}

/// B26: what a start does leaves no trace in what the next one begins with.
#[test]
fn b26_a_second_start_has_the_same_bytes() {
    let effective = testing::effective(
        r#""Mounts":[{"Target":"/d","Source":{"Host":"/srv/x"},"Options":["Z"]}],"Env":["A=b"]"#,
    );
    let (host, rootfs, placement) = (testing::host(), testing::rootfs(), testing::placement());
    let first = generate(&effective, &host, &rootfs, &placement).unwrap();
    assert_eq!(generate(&effective, &host, &rootfs, &placement).unwrap(), first);
}

/// B26: what it writes into the root is what the next one finds there.
#[test]
fn b26_a_second_start_finds_what_the_first_has_written() {
    let (host, placement) = (testing::host(), testing::placement());
    for (dir, home) in [("/srv", "/srv"), ("/srv/", "/srv/"), ("/a:b", "/")] {
        for user in ["1234", "1234:5678"] {
            let request = format!(r#""User":"{user}","WorkingDir":"{dir}""#);
            let effective = testing::effective(&request);
            let mut rootfs = testing::rootfs();
            let first = generate(&effective, &host, &rootfs, &placement).unwrap();
            for file in &first.rootfs_files {
                let content = Some(file.content.clone());
                match file.path.as_str() {
                    "/etc/passwd" => rootfs.passwd = content,
                    _ => rootfs.group = content,
                }
            }
            let second = generate(&effective, &host, &rootfs, &placement).unwrap();
            assert!(!first.rootfs_files.is_empty() && second.rootfs_files.is_empty());
            let shown = |made: &Generated| serde_json::from_slice::<Value>(&made.config).unwrap();
            assert_eq!(shown(&first), shown(&second), "{request}");
            let env = shown(&first)["process"]["env"].to_string();
            assert!(env.contains(&format!("\"HOME={home}\"")), "{request}: {env}");
        }
    }
}

/// CVE-2020-14370: what is asked for one container is in no other.
#[test]
fn cve_2020_14370_nothing_goes_from_one_container_to_the_next() {
    let before = testing::generated("");
    let _ = testing::generated(r#""Env":["SECRET=1"],"DNSSearch":["secret.org"]"#);
    assert_eq!(testing::generated(""), before);
}

fn request() -> impl Strategy<Value = String> {
    let env = proptest::collection::vec("[A-C]=[\\PC\n\r]{0,5}", 0..5);
    let caps = proptest::sample::subsequence(vec!["ALL", "KILL", "BPF", "SYS_ADMIN"], 0..=4);
    let user = "(|0|www|www:video|77:88)";
    let hostname = proptest::option::of("[a-z][a-z0-9]{0,8}");
    (env, caps.clone(), caps, user, hostname, any::<bool>()).prop_map(
        |(env, add, drop, user, hostname, read_only)| {
            let value = json!({
                "Env": env, "CapAdd": add, "CapDrop": drop, "User": user, "Hostname": hostname,
                "ReadOnlyRootfs": read_only,
            });
            let text = value.to_string();
            text[1..text.len() - 1].to_owned()
        },
    )
}

proptest! {
    #[test]
    fn same_input_same_bytes(request in request()) {
        // Everything is built anew, so that no hash seed or address can be shared.
        prop_assert_eq!(testing::generated(&request), testing::generated(&request));
    }

    #[test]
    fn line_breaks_in_the_environment_stay_there(request in request()) {
        let made = testing::generated(&request);
        for file in &made.files {
            prop_assert!(text(file).lines().count() <= 5, "{}", text(file));
            prop_assert!(!text(file).contains('\r'));
        }
    }

    #[test]
    fn no_set_is_wider_than_the_bounding_set(request in request()) {
        let config = config(&request);
        let sets = config["process"]["capabilities"].as_object().unwrap();
        let names = |set: &str| sets[set].as_array().unwrap().clone();
        prop_assert!(names("effective").iter().all(|name| names("bounding").contains(name)));
        prop_assert_eq!(names("effective"), names("permitted"));
        prop_assert!(names("inheritable").is_empty() && names("ambient").is_empty());
    }
}
