use serde_json::{Value, json};

use super::*;
use crate::facts::RootfsFacts;
use crate::generate::generate;
use crate::testing;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn config(request: &str, change: impl FnOnce(&mut Placement)) -> Result<Value, Error> {
    let effective = testing::try_effective(request)?;
    let mut placement = testing::placement();
    change(&mut placement);
    let made = generate(&effective, &testing::host(), &RootfsFacts::default(), &placement)?;
    Ok(serde_json::from_slice(&made.config).unwrap())
}

fn entry(config: &Value, kind: &str) -> Option<Value> {
    let list = config["linux"]["namespaces"].as_array().unwrap();
    list.iter().find(|namespace| namespace["type"] == kind).cloned()
}

/// The option of a kind, and whether its namespace is new when nothing is said.
const KINDS: [(&str, &str, bool); 7] = [
    ("pid", "PIDMode", true),
    ("ipc", "IPCMode", true),
    ("uts", "UTSMode", true),
    ("mount", "MountMode", true),
    ("user", "UserNamespace", false),
    ("cgroup", "CgroupMode", true),
    ("time", "TimeMode", false),
];

#[test]
fn every_kind_in_every_mode() {
    let kinds = KINDS
        .map(|(kind, option, new)| (kind, format!(r#""Namespaces":{{"{option}":"MODE"}}"#), new));
    let network = ("network", r#""NetworkMode":"MODE""#.to_owned(), true);
    for (kind, option, new) in kinds.into_iter().chain([network]) {
        let with = |mode: &str| {
            config(&option.replace("MODE", mode), |placement| {
                placement.netns = None;
                let fd = "/proc/self/fd/7".parse().unwrap();
                placement.joined.insert(kind.parse().unwrap(), fd);
            })
        };
        let usual = entry(&config("", |_| {}).unwrap(), kind);
        assert_eq!(usual.is_some(), new, "{kind} if nothing is said");
        assert_eq!(entry(&with("private").unwrap(), kind), Some(json!({"type": kind})));
        if kind == "mount" {
            assert!(with("host").is_err());
        } else {
            assert_eq!(entry(&with("host").unwrap(), kind), None, "{kind}");
        }
        let joined = entry(&with(&format!("container:{ID}")).unwrap(), kind);
        assert_eq!(joined, Some(json!({"type": kind, "path": "/proc/self/fd/7"})));
        let path = entry(&with("ns:/run/ns/x").unwrap(), kind);
        assert_eq!(path, Some(json!({"type": kind, "path": "/run/ns/x"})));
        let lost = config(&option.replace("MODE", &format!("container:{ID}")), |_| {}).unwrap_err();
        let said = lost.to_string();
        assert!(said.contains(kind) && said.contains(ID) && said.contains("running"), "{said}");
    }
}

#[test]
fn modes_are_read_back_and_others_refused() {
    let container = format!("container:{ID}");
    for mode in ["private", "host", &container, "ns:/run/x"] {
        assert_eq!(mode.parse::<NamespaceMode>().unwrap().to_string(), mode);
    }
    for bad in [
        "",
        "new",
        "none",
        "container:",
        "container:web",
        "ns:x",
        "ns:/a/../b",
        "ns:",
        "host ",
        "Host",
        "container:0123",
    ] {
        assert!(bad.parse::<NamespaceMode>().is_err(), "{bad:?}");
    }
}

#[test]
fn names_of_shared_namespaces() {
    let hostname = |request: &str| {
        let config = config(request, |placement| {
            placement.joined.insert(NamespaceKind::Uts, "/x".parse().unwrap());
            placement.joined_hostname = "other".parse().ok();
        })
        .unwrap();
        let env: Vec<String> = serde_json::from_value(config["process"]["env"].clone()).unwrap();
        let said = env.iter().find_map(|entry| entry.strip_prefix("HOSTNAME=")).unwrap().to_owned();
        (config["hostname"].as_str().map(str::to_owned), said)
    };
    let own = hostname("");
    assert_eq!(own, (Some("0123456789ab".into()), "0123456789ab".into()));
    let host = hostname(r#""Namespaces":{"UTSMode":"host"}"#);
    assert_eq!(host, (None, "the-host".into()), "the host's is not set");
    let other = hostname(&format!(r#""Namespaces":{{"UTSMode":"container:{ID}"}}"#));
    assert_eq!(other, (None, "other".into()));
    let error = testing::try_effective(r#""Hostname":"x","Namespaces":{"UTSMode":"host"}"#);
    assert!(error.unwrap_err().to_string().contains("'Hostname'"));
}

#[test]
fn b18_circles_are_found() {
    let id = |digit: &str| digit.repeat(64).parse::<ContainerRef>().unwrap();
    let next = |pairs: &[(&str, &str)]| {
        let map: BTreeMap<_, _> = pairs.iter().map(|(a, b)| (id(a), id(b))).collect();
        owner_of_shared(&id("a"), |at| map.get(at).cloned()).map_err(|error| error.to_string())
    };
    assert_eq!(next(&[]), Ok(id("a")));
    assert_eq!(next(&[("a", "b"), ("b", "c")]), Ok(id("c")));
    for circle in
        [&[("a", "a")][..], &[("a", "b"), ("b", "a")], &[("a", "b"), ("b", "c"), ("c", "b")]]
    {
        assert!(next(circle).unwrap_err().contains("circle"), "{circle:?}");
    }
}

#[test]
fn ids_and_clocks() {
    let own = r#""Namespaces":{"UserNamespace":"private","TimeMode":"private"}"#;
    let assigned = config(&format!(r#"{own},"TimeOffsets":{{"Boottime":-5}}"#), |placement| {
        placement.uid_map = vec![crate::IdMapping::new(0, 524_288, 65_536).unwrap()];
        placement.gid_map.clone_from(&placement.uid_map);
    })
    .unwrap();
    let map = json!([{"containerID": 0, "hostID": 524_288, "size": 65_536}]);
    assert_eq!(
        (&assigned["linux"]["uidMappings"], &assigned["linux"]["gidMappings"]),
        (&map, &map)
    );
    assert_eq!(assigned["linux"]["timeOffsets"], json!({"boottime": {"secs": -5}}));
    let given = config(&format!(r#"{own},"UIDMap":[[0,7,1]]"#), |_| {}).unwrap();
    let map = json!([{"containerID": 0, "hostID": 7, "size": 1}]);
    assert_eq!((&given["linux"]["uidMappings"], &given["linux"]["gidMappings"]), (&map, &map));
    for (wrong, option) in [
        (r#""UIDMap":[[0,7,1]]"#, "UIDMap"),
        // It would be shown what the host has.
        (
            r#""Namespaces":{"UserNamespace":"private","PIDMode":"container:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#,
            "UserNamespace",
        ),
        (
            r#""Namespaces":{"UserNamespace":"private","IPCMode":"container:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#,
            "UserNamespace",
        ),
        (
            r#""Namespaces":{"UserNamespace":"private","CgroupMode":"container:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#,
            "UserNamespace",
        ),
        (
            r#""Namespaces":{"UserNamespace":"private"},"NetworkMode":"container:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa""#,
            "UserNamespace",
        ),
        (r#""Namespaces":{"UserNamespace":"private","PIDMode":"ns:/x"}"#, "UserNamespace"),
        (r#""Namespaces":{"UserNamespace":"private","IPCMode":"ns:/x"}"#, "UserNamespace"),
        (r#""Namespaces":{"UserNamespace":"private","CgroupMode":"ns:/x"}"#, "UserNamespace"),
        (r#""Namespaces":{"UserNamespace":"private"},"NetworkMode":"ns:/x""#, "UserNamespace"),
        (r#""GIDMap":[[0,7,1]],"Namespaces":{"UserNamespace":"private"}"#, "GIDMap"),
        (r#""UIDMap":[[0,7,2],[1,9,1]],"Namespaces":{"UserNamespace":"private"}"#, "UIDMap"),
        (r#""UIDMap":[[1,7,2]],"Namespaces":{"UserNamespace":"private"}"#, "UIDMap"),
        (
            r#""UIDMap":[[0,7,2]],"GIDMap":[[1,7,2]],"Namespaces":{"UserNamespace":"private"}"#,
            "GIDMap",
        ),
        (r#""TimeOffsets":{"Monotonic":1}"#, "TimeOffsets"),
    ] {
        let error = testing::try_effective(wrong).unwrap_err().to_string();
        assert!(error.contains(&format!("'{option}'")), "{wrong}: {error}");
    }
}

#[test]
fn whom_a_container_needs() {
    let other = "f".repeat(64);
    let request = format!(
        r#""NetworkMode":"container:{ID}","Namespaces":{{"IPCMode":"container:{ID}","PIDMode":"container:{other}"}}"#
    );
    let effective = testing::effective(&request);
    let ids: Vec<_> = effective.request.shares_with().iter().map(|id| id.as_str()).collect();
    assert_eq!(ids, [ID, &other]);
}
