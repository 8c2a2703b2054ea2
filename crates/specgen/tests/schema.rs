//! Every config.json that this crate writes is what the schema of the runtime-spec describes.
#![expect(clippy::disallowed_methods, reason = "reads the schema from this directory")]
#![expect(clippy::unwrap_used, reason = "helpers of tests, which are to panic")]

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;
use tare_specgen::{
    Architecture, CapabilitySet, Foreign, HostFacts, ImageDefaults, KernelVersion, Placement,
    Request, RootfsFacts, SELinuxPolicy, SeccompProfile, effective, generate,
};

fn schema() -> jsonschema::Validator {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schema");
    let text = fs::read_to_string(directory.join("config-schema.json")).unwrap();
    let mut schema: Value = serde_json::from_str(&text).unwrap();
    // References are relative to the file, so the schema has to know where it came from.
    schema["id"] = format!("file://{}/config-schema.json", directory.display()).into();
    jsonschema::options().build(&schema).unwrap()
}

fn config(request: &str, host: &HostFacts) -> Value {
    let request: Request = serde_json::from_str(request).unwrap();
    let image = ImageDefaults::parse(br#"{"config":{"Cmd":["sh"],"Env":["A=b"]}}"#).unwrap();
    let made = generate(
        &effective(&request, &image, &Foreign::default()).unwrap(),
        host,
        &RootfsFacts::default(),
        &placement(),
    );
    serde_json::from_slice(&made.unwrap().config).unwrap()
}

fn placement() -> Placement {
    let mut placement = Placement::new(
        "/b/rootfs".parse().unwrap(),
        "/b/files".parse().unwrap(),
        "/b/shm".parse().unwrap(),
        "0123456789ab".parse().unwrap(),
        "/tare/x",
    );
    placement.id = "0".repeat(64).parse().ok();
    placement.netns = Some("/run/netns/x".parse().unwrap());
    placement.zone_file = Some(b"TZif2".to_vec());
    placement
}

#[test]
fn generated_configurations_are_valid() {
    let schema = schema();
    let kernel = KernelVersion { major: 6, minor: 12 };
    for architecture in [Architecture::X86_64, Architecture::Aarch64, Architecture::S390x] {
        let mut host = HostFacts::new(architecture, kernel, SeccompProfile::embedded());
        host.capabilities = CapabilitySet::ALL;
        let all = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"];
        host.controllers.extend(all.map(str::to_owned));
        host.swap_limits = true;
        host.apparmor_profiles = Some(["mine".to_owned()].into());
        host.thermal_throttle_cpus.insert(3);
        for request in [
            r#"{"v":1}"#,
            r#"{"v":1,"NetworkMode":"host","CapAdd":["ALL"],"Seccomp":"unconfined"}"#,
            r#"{"v":1,"User":"7:8","ReadOnlyRootfs":true,"CapDrop":["ALL"],"NoNewPrivileges":true,
                "AppArmorProfile":"mine","Resources":{"Memory":1048576,"CPUWeight":3,"CPUSet":"0",
                "CPUQuotaPerSecUSec":20000,"PidsMax":3,"IOReadIOPS":{"8:0":5},"IOWeight":3,
                "HugepageLimits":{"2MB":0},"Unified":{"memory.high":"max"}},
                "Ulimits":[["core",0,18446744073709551615]],"Annotations":{"a":"b"},"StopSignal":9}"#,
        ] {
            let config = config(request, &host);
            let errors: Vec<_> = schema.iter_errors(&config).map(|e| e.to_string()).collect();
            assert!(errors.is_empty(), "{request}: {errors:?}");
        }
    }
}

/// One part of the JSON of a request for each thing that can be in a configuration.
const PARTS: [&str; 34] = [
    r#""NetworkMode":"host""#,
    r#""NetworkMode":"ns:/run/netns/y""#,
    r#""Namespaces":{"PIDMode":"host","IPCMode":"ns:/x","UTSMode":"host","CgroupMode":"host"}"#,
    r#""Namespaces":{"UserNamespace":"private","TimeMode":"private"},"UIDMap":[[0,100000,65536]],
        "TimeOffsets":{"Monotonic":-1,"Boottime":7}"#,
    r#""Mounts":[{"Target":"/a","Source":{"Host":"/srv"},"Options":["rshared","nosymfollow"]},
        {"Target":"/b","Source":"Tmpfs","Options":["size=1m","mode=755"]},
        {"Target":"/c","Source":"Devpts"},{"Target":"/d","Source":{"Host":"/x"},
        "Options":["idmap=uids=0-5-1;gids=0-5-1","rro"]}]"#,
    r#""Devices":[{"Path":"/dev/x","Target":"/dev/x","Kind":"c","Number":"10:200","Mode":384,
        "UID":0,"GID":0}]"#,
    r#""DeviceCgroupRules":["a *:* rwm","b 8:* r"]"#,
    r#""Privileged":true"#,
    r#""CapAdd":["ALL"]"#,
    r#""CapDrop":["ALL"]"#,
    r#""Seccomp":"unconfined""#,
    r#""AppArmorProfile":"mine""#,
    r#""SELinuxLabel":"a:b:c:s0""#,
    r#""Sysctls":{"kernel.domainname":"x"}"#,
    r#""IntelRdt":{"ClosID":"x","L3CacheSchema":"L3:0=f","MemBwSchema":"MB:0=5"}"#,
    r#""OOMScoreAdjust":-1000"#,
    r#""Umask":511"#,
    r#""TTY":true"#,
    r#""Init":true"#,
    r#""Systemd":"always""#,
    r#""ReadOnlyRootfs":true"#,
    r#""User":"7:8""#,
    r#""GroupAdd":["5","2147483647"]"#,
    r#""StopSignal":9"#,
    r#""Annotations":{"a":"b"}"#,
    r#""NoNewPrivileges":true"#,
    r#""Ulimits":[["core",0,18446744073709551615],["nice",1,2]]"#,
    r#""Resources":{"Memory":1048576,"MemoryReservation":1048576,"CPUWeight":3,"CPUSet":"0",
        "CPUQuotaPerSecUSec":20000,"PidsMax":3,"IOWriteBandwidth":{"8:0":5},"IOWeight":3,
        "HugepageLimits":{"2MB":0},"Unified":{"memory.high":"max"}}"#,
    r#""Resources":{"Memory":18446744073709551615,"PidsMax":18446744073709551615}"#,
    r#""ListenFDs":["x"]"#,
    r#""Hosts":{"a":"192.0.2.1"}"#,
    r#""Env":["A=\u0001\n","B="]"#,
    r#""Timezone":"UTC""#,
    r#""Hostname":"x""#,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_is_asked_for_the_configuration_is_valid(
        parts in proptest::sample::subsequence(PARTS.to_vec(), 0..8),
        v1 in any::<bool>(),
    ) {
        static SCHEMA: std::sync::LazyLock<jsonschema::Validator> =
            std::sync::LazyLock::new(schema);
        let json = format!("{{\"v\":1,{}}}", parts.join(",")).replace(",}", "}");
        // Two parts may have one name; and some do not go together.
        let Ok(request) = serde_json::from_str::<Request>(&json) else { return Ok(()) };
        let image = ImageDefaults::parse(br#"{"config":{"Cmd":["sh"],"Env":["A=b"]}}"#).unwrap();
        let Ok(effective) = effective(&request, &image, &Foreign::default()) else { return Ok(()) };
        let mut host = full_host();
        if v1 {
            host.cgroup_mode = tare_specgen::CgroupMode::V1;
        }
        let mut rootfs = RootfsFacts::default();
        rootfs.has_zone = true;
        let made = generate(&effective, &host, &rootfs, &placement()).unwrap();
        let config: Value = serde_json::from_slice(&made.config).unwrap();
        let errors: Vec<_> = SCHEMA.iter_errors(&config).map(|e| e.to_string()).collect();
        prop_assert!(errors.is_empty(), "{}: {:?}", json, errors);
        // And it is the same once more.
        prop_assert_eq!(generate(&effective, &host, &rootfs, &placement()).unwrap(), made);
    }
}

/// None of the parts is refused for itself, or the property would prove nothing of it.
#[test]
fn every_part_alone_is_valid() {
    let schema = schema();
    for part in PARTS {
        let config = config(&format!("{{\"v\":1,{part}}}"), &full_host());
        let errors: Vec<_> = schema.iter_errors(&config).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{part}: {errors:?}");
    }
}

fn full_host() -> HostFacts {
    let kernel = KernelVersion { major: 6, minor: 12 };
    let mut host = HostFacts::new(Architecture::X86_64, kernel, SeccompProfile::embedded());
    host.capabilities = CapabilitySet::ALL;
    let all = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"];
    host.controllers.extend(all.map(str::to_owned));
    host.swap_limits = true;
    host.selinux = SELinuxPolicy::parse("process = \"u:r:t:s0\"\nfile = \"u:o:f:s0\"");
    host.apparmor_profiles = Some(["mine".to_owned()].into());
    host.init = "/usr/bin/catatonit".parse().ok();
    host
}

#[test]
fn the_schema_finds_faults_in_every_part() {
    let schema = schema();
    let kernel = KernelVersion { major: 6, minor: 12 };
    let host = HostFacts::new(Architecture::X86_64, kernel, SeccompProfile::embedded());
    let good = config(r#"{"v":1}"#, &host);
    for (part, wrong) in [
        ("/ociVersion", Value::from(1)),
        ("/process/cwd", Value::Null),
        ("/process/user/uid", Value::from(-1)),
        ("/process/rlimits/0/type", Value::from("NOFILE")),
        ("/mounts/0/destination", Value::Null),
        ("/linux/namespaces/0/type", Value::from("net")),
        ("/linux/seccomp/defaultAction", Value::from("SCMP_ACT_MAYBE")),
        ("/linux/seccomp/syscalls/0/names", Value::from("read")),
        ("/linux/resources/devices/0/allow", Value::from("no")),
    ] {
        let mut config = good.clone();
        *config.pointer_mut(part).unwrap() = wrong;
        assert!(!schema.is_valid(&config), "{part}");
    }
}
