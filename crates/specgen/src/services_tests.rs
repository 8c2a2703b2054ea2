use serde_json::{Value, json};

use super::*;
use crate::facts::RootfsFacts;
use crate::generate::{Generated, generate};
use crate::testing;

fn make(
    request: &str,
    change: impl FnOnce(&mut HostFacts, &mut Placement),
) -> Result<(Generated, Value), Error> {
    let effective = testing::try_effective(request)?;
    let (mut host, mut placement) = (testing::host(), testing::placement());
    placement.id = "f".repeat(64).parse().ok();
    change(&mut host, &mut placement);
    let made = generate(&effective, &host, &RootfsFacts::default(), &placement)?;
    let config = serde_json::from_slice(&made.config).unwrap();
    Ok((made, config))
}

fn config(request: &str) -> Value {
    make(request, |_, _| {}).unwrap().1
}

fn mount(config: &Value, target: &str) -> Option<Value> {
    config["mounts"].as_array().unwrap().iter().find(|m| m["destination"] == target).cloned()
}

fn env(config: &Value) -> Vec<String> {
    serde_json::from_value(config["process"]["env"].clone()).unwrap()
}

#[test]
fn what_looks_like_systemd() {
    for (command, want) in [
        (&["/sbin/init"][..], true),
        (&["/usr/sbin/init", "x"], true),
        (&["/lib/systemd/systemd"], true),
        (&["systemd"], true),
        (&["/bin/sh", "-c", "/sbin/init"], true),
        (&["/bin/sh", "-c"], false),
        (&["/bin/sh", "/sbin/init"], false),
        (&["/opt/init"], false),
        (&["systemd-nspawn"], false),
        (&[], false),
    ] {
        let argv: Vec<Argument> = command.iter().map(|word| word.parse().unwrap()).collect();
        assert_eq!(is_systemd(SystemdMode::Auto, &argv), want, "{command:?}");
        assert!(is_systemd(SystemdMode::Always, &argv));
        assert!(!is_systemd(SystemdMode::Off, &argv));
    }
}

#[test]
fn b33_systemd_finds_what_it_needs() {
    let config = config(r#""Command":["/sbin/init"]"#);
    for target in ["/run", "/run/lock", "/tmp", "/var/log/journal"] {
        let options = mount(&config, target).unwrap()["options"].clone();
        let want = json!(["rw", "rprivate", "nosuid", "nodev", "tmpcopyup"]);
        assert_eq!(options, want, "{target}: programs run there, and nothing is capped");
    }
    let cgroup = mount(&config, "/sys/fs/cgroup").unwrap();
    assert_eq!(
        (&cgroup["type"], &cgroup["options"]),
        (&json!("cgroup"), &json!(["private", "rw"]))
    );
    assert!(env(&config).contains(&format!("container_uuid={}", "f".repeat(32))));
    let stop = &config["annotations"]["org.opencontainers.image.stopSignal"];
    assert_eq!(stop, "37");
    let asked = self::config(r#""Command":["/sbin/init"],"StopSignal":15"#);
    assert_eq!(asked["annotations"]["org.opencontainers.image.stopSignal"], "15");
    let off = self::config(r#""Command":["/sbin/init"],"Systemd":"off""#);
    assert!(mount(&off, "/run").is_none());
}

#[test]
fn b33_systemd_on_other_hosts() {
    let request = r#""Systemd":"always","Namespaces":{"CgroupMode":"host"}"#;
    let shared = mount(&config(request), "/sys/fs/cgroup").unwrap();
    assert_eq!((&shared["type"], &shared["source"]), (&json!("bind"), &json!("/sys/fs/cgroup")));
    let (_, v1) =
        make(r#""Systemd":"always""#, |host, _| host.cgroup_mode = CgroupMode::V1).unwrap();
    let systemd = mount(&v1, "/sys/fs/cgroup/systemd").unwrap();
    assert_eq!(systemd["options"], json!(["bind", "nodev", "noexec", "nosuid"]));
    let masked = v1["linux"]["maskedPaths"].as_array().unwrap();
    assert!(masked.contains(&json!("/sys/fs/cgroup/systemd/release_agent")));
    let all = self::config(
        r#""Systemd":"always","Mounts":[{"Target":"/run","Source":"Tmpfs","Options":["size=1m"]}]"#,
    );
    let options = mount(&all, "/run").unwrap()["options"].to_string();
    assert!(options.contains("size=1m"), "what was asked for is in its place");
}

#[test]
fn an_init_in_front() {
    let with = |init: Option<&str>| {
        make(r#""Init":true"#, |host, _| host.init = init.map(|path| path.parse().unwrap()))
    };
    let (_, config) = with(Some("/usr/bin/catatonit")).unwrap();
    assert_eq!(config["process"]["args"], json!([INIT_PATH, "--", "sh"]));
    let bound = mount(&config, INIT_PATH).unwrap();
    assert_eq!(bound["source"], "/usr/bin/catatonit");
    assert_eq!(bound["options"], json!(["bind", "private", "ro", "nosuid", "nodev"]));
    assert!(matches!(with(None), Err(Error::Init)));
}

#[test]
fn notification_sockets_by_mode() {
    let with = |mode: &str| {
        let request = format!(r#""SdNotify":"{mode}""#);
        make(&request, |_, placement| placement.notify_dir = "/run/b/notify".parse().ok())
            .unwrap()
            .1
    };
    let own = with("container");
    assert_eq!(mount(&own, "/run/notify").unwrap()["source"], "/run/b/notify");
    assert!(env(&own).contains(&format!("NOTIFY_SOCKET={NOTIFY_SOCKET}")));
    for mode in ["conmon", "healthy", "ignore"] {
        let config = with(mode);
        assert!(mount(&config, "/run/notify").is_none(), "{mode}");
        assert!(!env(&config).iter().any(|entry| entry.starts_with("NOTIFY")), "{mode}");
    }
}

#[test]
fn sockets_are_passed_on() {
    let (made, config) = make(r#""ListenFDs":["http","https"]"#, |_, _| {}).unwrap();
    assert_eq!(made.preserve_fds, 2);
    for entry in ["LISTEN_FDS=2", "LISTEN_PID=1", "LISTEN_FDNAMES=http:https"] {
        assert!(env(&config).contains(&entry.to_owned()), "{entry}");
    }
    for bad in ["a:b", "", "a b"] {
        assert!(bad.parse::<FdName>().is_err(), "{bad:?}");
    }
    for (wrong, option) in [
        (r#""ListenFDs":["x"],"Init":true"#, "ListenFDs"),
        (r#""ListenFDs":["x"],"Namespaces":{"PIDMode":"host"}"#, "ListenFDs"),
        (r#""Init":true,"Namespaces":{"PIDMode":"host"}"#, "Init"),
        (r#""Init":true,"Systemd":"always""#, "Init"),
    ] {
        let error = testing::try_effective(wrong).unwrap_err().to_string();
        assert!(error.contains(&format!("'{option}'")), "{error}");
    }
}

#[test]
fn memory_to_write_to_where_the_root_is_read_only() {
    let has = |request: &str| mount(&config(request), "/tmp").is_some();
    assert!(!has(""));
    assert!(has(r#""ReadOnlyRootfs":true"#));
    assert!(!has(r#""ReadOnlyRootfs":true,"ReadOnlyTmpfs":false"#));
}

#[test]
fn subscriptions_are_bound() {
    let (_, config) = make("", |_, placement| {
        let copy =
            crate::Subscription::new("/run/secrets/x".parse().unwrap(), "/c".parse().unwrap());
        placement.subscriptions = vec![copy];
    })
    .unwrap();
    assert_eq!(mount(&config, "/run/secrets/x").unwrap()["source"], "/c");
}
