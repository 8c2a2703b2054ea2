//! Every config.json that this crate writes is what the schema of the runtime-spec describes.
#![expect(clippy::disallowed_methods, reason = "reads the schema from this directory")]
#![expect(clippy::unwrap_used, reason = "helpers of tests, which are to panic")]

use std::fs;
use std::path::Path;

use serde_json::Value;
use tare_specgen::{
    Architecture, CapabilitySet, Foreign, HostFacts, ImageDefaults, KernelVersion, Placement,
    Request, RootfsFacts, SeccompProfile, effective, generate,
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
    let mut placement = Placement::new(
        "/b/rootfs".parse().unwrap(),
        "/b/files".parse().unwrap(),
        "/b/shm".parse().unwrap(),
        "0123456789ab".parse().unwrap(),
        "/tare/x",
    );
    placement.netns = Some("/run/netns/x".parse().unwrap());
    let made = generate(
        &effective(&request, &image, &Foreign::default()).unwrap(),
        host,
        &RootfsFacts::default(),
        &placement,
    );
    serde_json::from_slice(&made.unwrap().config).unwrap()
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
