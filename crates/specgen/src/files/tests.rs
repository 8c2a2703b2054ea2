use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::generate::{Generated, generate};
use crate::testing;

const ID: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn make(
    request: &str,
    change: impl FnOnce(&mut HostFacts, &mut RootfsFacts, &mut Placement),
) -> Result<Generated, Error> {
    let effective = testing::try_effective(request)?;
    let (mut host, mut rootfs) = (testing::host(), testing::rootfs());
    let mut placement = testing::placement();
    placement.id = ID.parse().ok();
    change(&mut host, &mut rootfs, &mut placement);
    generate(&effective, &host, &rootfs, &placement)
}

/// What the account files become: passwd and group, written into the root or bound.
fn accounts(
    request: &str,
    change: impl FnOnce(&mut RootfsFacts),
) -> (Option<String>, Option<String>) {
    let made = make(request, |_, rootfs, _| change(rootfs)).unwrap();
    let written = |path: &str| {
        let file = made.rootfs_files.iter().find(|file| file.path.as_str() == path)?;
        assert_eq!(file.mode, 0o644, "B24a");
        Some(String::from_utf8(file.content.clone()).unwrap())
    };
    (written("/etc/passwd"), written("/etc/group"))
}

fn bound<'a>(made: &'a Generated, target: &str) -> Option<&'a BoundFile> {
    made.files.iter().find(|file| file.target.as_str() == target)
}

#[test]
fn b21_an_entry_does_not_run_into_the_last_line() {
    let (passwd, group) = accounts(r#""User":"1234:5678""#, |rootfs| {
        rootfs.passwd = Some(b"noeol:x:7:7::/:/bin/sh".to_vec());
        rootfs.group = Some(b"noeol:x:7:".to_vec());
    });
    let want = "noeol:x:7:7::/:/bin/sh\n1234:*:1234:5678:container user:/:/bin/sh\n";
    assert_eq!(passwd.as_deref(), Some(want));
    assert_eq!(group.as_deref(), Some("noeol:x:7:\n5678:x:5678:1234\n"));
}

/// CVE-2022-4318, CVE-2026-15809: a real line break, not one that is written.
#[test]
fn b22_no_line_and_no_field_can_be_put_in() {
    for dir in ["/nl\\nevil:*:0:0::", "/cr\\revil", "/nul\\u0000"] {
        let json = format!(r#"{{"v":1,"WorkingDir":"{dir}"}}"#);
        assert!(serde_json::from_str::<crate::Request>(&json).is_err(), "{dir}");
    }
    let (passwd, _) = accounts(r#""User":"77","WorkingDir":"/a:0:0::/root""#, |_| {});
    assert!(passwd.unwrap().ends_with("\n77:*:77:0:container user:/:/bin/sh\n"));
    let (passwd, _) = accounts(r#""User":"77","WorkingDir":"/srv""#, |_| {});
    assert!(passwd.unwrap().ends_with("\n77:*:77:0:container user:/srv:/bin/sh\n"));
}

#[test]
fn b5_only_who_is_missing_is_added() {
    for request in ["", r#""User":"www""#, r#""User":"33""#, r#""User":"33:44""#] {
        assert_eq!(accounts(request, |_| {}), (None, None), "{request}");
    }
    let (passwd, group) = accounts(r#""User":"33:9""#, |_| {});
    assert!(passwd.is_none() && group.unwrap().ends_with("\n9:x:9:33\n"));
    assert_eq!(accounts(r#""User":"9:9","PasswdEntry":false"#, |_| {}), (None, None));
    let (passwd, _) = accounts(r#""User":"9""#, |rootfs| rootfs.passwd = None);
    assert_eq!(passwd.as_deref(), Some("9:*:9:0:container user:/:/bin/sh\n"));
}

/// Whoever looks the name up would find one account, whoever looks the number up the other.
#[test]
fn a_name_that_somebody_has_is_not_given_twice() {
    let made = make(r#""User":"1234:5678""#, |_, rootfs, _| {
        rootfs.passwd = Some(b"1234:x:0:0::/trap:/bin/sh\n".to_vec());
        rootfs.group = Some(b"5678:x:0:\n".to_vec());
    });
    let made = made.unwrap();
    let touched: Vec<_> = made.rootfs_files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(touched, [""; 0]);
    let warnings: Vec<_> = made.warnings.iter().map(ToString::to_string).collect();
    let want = [("1234", "/etc/passwd"), ("5678", "/etc/group")].map(|(id, file)| {
        format!("{id} is not added to {file}: another account has that as its name")
    });
    assert_eq!(warnings, want);
}

#[test]
fn b5_files_are_written_where_they_can_be_else_bound_and_those_of_others_left() {
    let read_only = make(r#""User":"9","ReadOnlyRootfs":true"#, |_, _, _| {}).unwrap();
    assert!(read_only.rootfs_files.is_empty());
    let file = bound(&read_only, "/etc/passwd").unwrap();
    assert_eq!((file.name.as_str(), file.mode), ("passwd", 0o644));
    let mounted = |target: &str| {
        let request = format!(
            r#""User":"9","Mounts":[{{"Target":"{target}","Source":{{"Volume":{{"Name":"v"}}}}}}]"#
        );
        let made = make(&request, |_, _, placement| {
            placement.mounts.insert(target.parse().unwrap(), "/m".parse().unwrap());
        });
        made.unwrap()
    };
    for target in ["/etc", "/etc/passwd"] {
        let made = mounted(target);
        let touched = made.rootfs_files.iter().any(|file| file.path.as_str() == "/etc/passwd");
        assert!(!touched && bound(&made, "/etc/passwd").is_none(), "{target}");
    }
    assert_eq!(mounted("/etc-other").rootfs_files.len(), 1);
}

#[test]
fn b29_where_account_files_are_read() {
    let effective = testing::effective(
        r#""Mounts":[{"Target":"/etc/passwd","Source":{"Host":"/x/passwd"}},
            {"Target":"/etc","Source":{"Volume":{"Name":"v"}}}]"#,
    );
    let at = |path: &str| {
        let path: MountTarget = path.parse().unwrap();
        match seen_at(&effective, &path) {
            SeenAt::Rootfs => "root".to_owned(),
            SeenAt::Mount(mount, rest) => format!("{} {rest}", mount.target),
        }
    };
    assert_eq!(at("/etc/passwd"), "/etc/passwd ");
    assert_eq!(at("/etc/group"), "/etc group");
    assert_eq!(at("/etcetera"), "root");
}

#[test]
fn cve_2025_4437_a_huge_account_file_is_refused() {
    let huge = make("", |_, rootfs, _| rootfs.passwd = Some(vec![b'x'; (1 << 20) + 1]));
    assert!(matches!(huge, Err(Error::User { .. })));
}

#[test]
fn b28_groups_are_those_of_the_user_and_those_asked_for() {
    let gids = |request: &str| -> Value {
        let made = make(request, |_, _, _| {}).unwrap();
        let config: Value = serde_json::from_slice(&made.config).unwrap();
        config["process"]["user"]["additionalGids"].clone()
    };
    assert_eq!(gids(r#""User":"www:7""#), serde_json::json!([7]));
    assert_eq!(
        gids(r#""User":"www","GroupAdd":["500","video","7"]"#),
        serde_json::json!([7, 33, 44, 500])
    );
    assert!(make(r#""GroupAdd":["nobodys"]"#, |_, _, _| {}).is_err());
}

#[test]
fn shared_networks_share_files() {
    let request = format!(r#""NetworkMode":"container:{ID}""#);
    let made = make(&request, |_, _, placement| {
        placement.joined.insert(crate::NamespaceKind::Network, "/proc/self/fd/9".parse().unwrap());
        placement.shared_files = Some(crate::SharedFiles::new(
            "/other/resolv.conf".parse().unwrap(),
            "/other/hosts".parse().unwrap(),
        ));
    })
    .unwrap();
    assert!(bound(&made, "/etc/hosts").is_none(), "nothing to write");
    let config: Value = serde_json::from_slice(&made.config).unwrap();
    let source = |target: &str| {
        let mounts = config["mounts"].as_array().unwrap();
        mounts.iter().find(|m| m["destination"] == target).map(|m| m["source"].clone())
    };
    assert_eq!(source("/etc/hosts"), Some("/other/hosts".into()));
    assert_eq!(source("/etc/resolv.conf"), Some("/other/resolv.conf".into()));
    let missing = make(&request, |_, _, _| {}).unwrap_err();
    assert!(missing.to_string().contains(ID) && missing.to_string().contains("network"));
}

#[test]
fn files_of_the_image_stay_when_asked() {
    let request = r#""HostsFile":"image","ResolvConf":"image","HostnameFile":"image""#;
    let made = make(request, |_, _, _| {}).unwrap();
    let names: Vec<_> = made.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["containerenv"]);
}

#[test]
fn live_files_are_those_of_the_start() {
    let effective = testing::effective(r#""Hosts":{"db":"192.0.2.7"}"#);
    let (host, rootfs, placement) = (testing::host(), testing::rootfs(), testing::placement());
    let made = generate(&effective, &host, &rootfs, &placement).unwrap();
    let live = live_files(&effective, &host, &rootfs, &placement, &mut Vec::new());
    let names: Vec<_> = live.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["resolv.conf", "hosts"]);
    assert_eq!(live, made.files[..2]);
}

#[test]
fn a_container_that_runs_goes_on_without_the_line_of_a_host_that_is_not_there_any_more() {
    let effective = testing::effective(r#""Hosts":{"db":"192.0.2.7","up":"host-gateway"}"#);
    let (mut host, rootfs, mut placement) =
        (testing::host(), testing::rootfs(), testing::placement());
    placement.networks[0].host = None;
    let refused = generate(&effective, &host, &rootfs, &placement).unwrap_err();
    assert!(refused.to_string().contains("'Hosts'"), "{refused}");
    placement.networks.clear();
    host.resolv_conf = Some("nameserver 192.0.2.2\n".into());
    let mut warnings = Vec::new();
    let live = live_files(&effective, &host, &rootfs, &placement, &mut warnings);
    let texts: Vec<_> =
        live.iter().map(|file| std::str::from_utf8(&file.content.0).unwrap()).collect();
    let [resolv_conf, hosts] = texts[..] else { panic!("{texts:?}") };
    assert_eq!(resolv_conf, "nameserver 192.0.2.2\n", "all else follows");
    assert!(hosts.ends_with("\n192.0.2.7 db\n127.0.0.1 0123456789ab\n"), "{hosts}");
    assert_eq!(warnings, [Warning::HostGatewayLeftOut { name: "up".parse().unwrap() }]);
}

#[test]
fn secrets_as_files_and_variables() {
    let request = r#""Secrets":[
        {"Name":"key","Target":{"File":{"Path":"/run/secrets/key","Mode":256,"UID":33,"GID":44}}},
        {"Name":"word","Target":{"Env":"PASSWORD"}}]"#;
    let with = |word: &[u8]| {
        make(request, |_, _, placement| {
            placement.secrets.insert("key".parse().unwrap(), SecretValue::new(vec![0, 255]));
            placement.secrets.insert("word".parse().unwrap(), SecretValue::new(word.to_vec()));
        })
    };
    let made = with(b"s3cret").unwrap();
    let file = bound(&made, "/run/secrets/key").unwrap();
    assert_eq!(
        (&file.content.0[..], file.mode, file.uid, file.gid),
        (&[0, 255][..], 0o400, 33, 44)
    );
    let config: Value = serde_json::from_slice(&made.config).unwrap();
    assert!(config["process"]["env"].as_array().unwrap().contains(&"PASSWORD=s3cret".into()));
    let mounts = config["mounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["destination"] == "/run/secrets/key").unwrap();
    assert!(mount["options"].as_array().unwrap().contains(&"ro".into()), "{mount}");
    assert!(!format!("{:?}", made.files).contains("255"), "Debug tells no secret");
    for bad in [b"a\0b".as_slice(), b"\xff"] {
        assert!(matches!(with(bad), Err(Error::Secret { .. })));
    }
    assert!(matches!(make(request, |_, _, _| {}), Err(Error::Placement { .. })));
    for bad in [
        r#""Secrets":[{"Name":"a","Target":{"File":{"Path":"/x","Mode":2048,"UID":0,"GID":0}}}]"#,
        r#""Secrets":[{"Name":"a","Target":{"File":{"Path":"/x","Mode":0,"UID":0,"GID":0}}},
            {"Name":"b","Target":{"File":{"Path":"/x/","Mode":0,"UID":0,"GID":0}}}]"#,
    ] {
        assert!(testing::try_effective(bad).is_err(), "{bad}");
    }
}

#[test]
fn owners_are_in_the_terms_of_the_host() {
    let request = r#""Namespaces":{"UserNamespace":"private"},"UIDMap":[[0,100000,100]],
        "GIDMap":[[0,200000,100]]"#;
    let made = make(request, |_, _, _| {}).unwrap();
    assert!(made.files.iter().all(|file| (file.uid, file.gid) == (100_000, 200_000)));
}

#[test]
fn containerenv_tells_only_the_privileged() {
    let text = |request: &str| {
        let made = make(request, |_, _, placement| {
            let (name, image) = ("web".parse().unwrap(), "docker.io/x:1".parse().unwrap());
            placement.about = Some(crate::About::new(name, image, None));
        });
        let made = made.unwrap();
        String::from_utf8(bound(&made, "/run/.containerenv").unwrap().content.0.clone()).unwrap()
    };
    assert_eq!(text(""), "");
    let told = text(r#""Privileged":true"#);
    assert!(told.contains("name=\"web\"\n") && told.contains(&format!("id=\"{ID}\"\n")), "{told}");
}

#[test]
fn mtab_and_fips() {
    let made = make("", |host, rootfs, _| {
        (host.fips, rootfs.lacks_mtab) = (true, true);
    });
    let made = made.unwrap();
    assert!(bound(&made, "/run/secrets/system-fips").is_some());
    let links: Vec<_> = made.links.iter().map(|l| (l.path.as_str(), l.to.as_str())).collect();
    assert_eq!(links, [("/etc/mtab", "/proc/mounts")]);
    assert!(make("", |_, _, _| {}).unwrap().links.is_empty());
}

proptest! {
    /// Whatever the image has, and whoever the user is: one more line, and all others as they were.
    #[test]
    fn b21_b22_one_line_more_and_nothing_else(
        file in proptest::collection::vec(any::<u8>(), 0..80),
        uid in 1000_u32..2000,
        dir in "/[ -~]{0,20}",
    ) {
        let request = serde_json::json!({"User": uid.to_string(), "WorkingDir": dir}).to_string();
        let parsed = serde_json::from_value::<crate::text::WorkingDir>(dir.clone().into());
        prop_assume!(parsed.is_ok());
        let made = make(&request[1..request.len() - 1], |_, rootfs, _| {
            rootfs.passwd = Some(file.clone());
        })
        .unwrap();
        let passwd = made.rootfs_files.iter().find(|file| file.path.as_str() == "/etc/passwd");
        if let Some(passwd) = passwd {
            prop_assert!(passwd.content.starts_with(&file));
            let rest = &passwd.content[file.len()..];
            let line = std::str::from_utf8(rest).unwrap();
            let line = line.strip_prefix('\n').unwrap_or(line);
            prop_assert_eq!(line.matches('\n').count(), 1);
            prop_assert_eq!(line.matches(':').count(), 6);
            let start = format!("{uid}:*:{uid}:");
            prop_assert!(line.starts_with(&start));
        }
    }
}
