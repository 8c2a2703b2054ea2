use proptest::prelude::*;

use super::*;
use crate::testing;

/// As Fedora's, and Debian's but for the third line.
const SETTINGS: &str = "# process = \"not:this:one:s0\"
process = \"system_u:system_r:container_t:s0\"
init_process=\"system_u:system_r:container_init_t:s0\"
content = \"system_u:object_r:virt_var_lib_t:s0\"
file = \"system_u:object_r:container_file_t:s0\"
";

fn policy() -> SELinuxPolicy {
    SELinuxPolicy::parse(SETTINGS).unwrap()
}

fn categories() -> Categories {
    "c1,c2".parse().unwrap()
}

/// Process, files and shared files.
fn texts(request: &str, policy: &SELinuxPolicy, own: Option<Categories>) -> Option<[String; 3]> {
    let labels = selinux_labels(&testing::effective(request), policy, own).unwrap()?;
    let SELinuxLabels { process, files, shared_files } = labels;
    Some([process, files, shared_files].map(|label| label.to_string()))
}

#[test]
fn contexts() {
    for good in ["system_u:system_r:container_t:s0:c1,c2", "a:b:c", "a:b:c:s0-s15:c0.c1023"] {
        assert!(good.parse::<SELinuxContext>().is_ok(), "{good}");
        assert!(good.parse::<SELinuxParts>().is_ok(), "{good}");
    }
    for part in ["::spc_t", ":::s0:c1,c2", "a::", ":r:", "::t:", "a::c", "a:b:c:"] {
        assert!(part.parse::<SELinuxContext>().is_err(), "{part}");
        assert!(part.parse::<SELinuxParts>().is_ok(), "{part}");
    }
    for bad in [
        "",
        "a",
        "a:b",
        "::",
        ":::",
        "a:b:c:x",
        "a:b:c:s0:",
        "a:b:c d",
        "a:b:c\n",
        "a:b:c,d:s0",
        "::t-x",
        &format!("::{}", "t".repeat(254)),
    ] {
        assert!(bad.parse::<SELinuxContext>().is_err(), "{bad:?}");
        assert!(bad.parse::<SELinuxParts>().is_err(), "{bad:?}");
    }
}

#[test]
fn policies_are_read_as_far_as_they_are_for_containers() {
    let policy = policy();
    assert_eq!(policy.process.as_str(), "system_u:system_r:container_t:s0");
    assert_eq!(policy.file.as_str(), "system_u:object_r:container_file_t:s0");
    assert_eq!(policy.shared_files(), policy.file);
    let without_init = SETTINGS.replace("init_process", "kvm_process");
    assert_eq!(SELinuxPolicy::parse(&without_init).unwrap().init, None);
    for text in [
        "",
        "process = \"a:b:c:s0\"",
        "file = \"a:b:c:s0\"",
        "process = \"nonsense\"\nfile = \"a:b:c:s0\"",
        "process \"a:b:c:s0\"\nfile = \"a:b:c:s0\"",
    ] {
        assert_eq!(SELinuxPolicy::parse(text), None, "{text:?}");
    }
}

#[test]
fn labels_by_request() {
    let file = |level: &str| format!("system_u:object_r:container_file_t:{level}");
    let shared = file("s0");
    let mine = "s0:c1,c2";
    for (about, request, process, files) in [
        ("by default", "", "system_u:system_r:container_t:s0:c1,c2", file(mine)),
        (
            "of systemd",
            r#""Systemd":"always""#,
            "system_u:system_r:container_init_t:s0:c1,c2",
            file(mine),
        ),
        (
            "another type keeps its own categories",
            r#""SELinuxLabel":"::spc_t""#,
            "system_u:system_r:spc_t:s0:c1,c2",
            file(mine),
        ),
        (
            "another level",
            r#""SELinuxLabel":":::s0:c5""#,
            "system_u:system_r:container_t:s0:c5",
            file("s0:c5"),
        ),
        (
            "files do not get type and role of processes",
            r#""SELinuxLabel":":r:t:""#,
            "system_u:r:t:s0:c1,c2",
            file(mine),
        ),
    ] {
        let want = Some([process.to_owned(), files, shared.clone()]);
        assert_eq!(texts(request, &policy(), Some(categories())), want, "{about}");
    }
    let whole = texts(r#""SELinuxLabel":"a:b:spc_t:s1""#, &policy(), Some(categories())).unwrap();
    let files = |level| format!("a:object_r:container_file_t:{level}");
    assert_eq!(whole, ["a:b:spc_t:s1".to_owned(), files("s1"), files("s0")]);
    for none in [
        r#""SELinuxLabel":"disable""#,
        r#""Privileged":true"#,
        r#""Namespaces":{"PIDMode":"host"}"#,
        r#""Namespaces":{"IPCMode":"host"}"#,
    ] {
        assert_eq!(texts(none, &policy(), Some(categories())), None, "{none}");
    }
    let kept = r#""Privileged":true,"SELinuxLabel":"::t""#;
    assert!(texts(kept, &policy(), Some(categories())).is_some(), "somebody said so");
}

#[test]
fn levels_by_policy() {
    let with_level = |level: &str| {
        let text = format!("process = \"u:r:t{level}\"\nfile = \"u:o:f{level}\"");
        SELinuxPolicy::parse(&text).unwrap()
    };
    for (level, own, want) in [
        (":s0", Some(categories()), "u:r:t:s0:c1,c2"),
        (":s0", None, "u:r:t:s0"),
        (":s0-s0:c0.c1023", Some(categories()), "u:r:t:s0:c1,c2"),
        ("", Some(categories()), "u:r:t"),
    ] {
        assert_eq!(texts("", &with_level(level), own).unwrap()[0], want, "{level}");
    }
    assert_eq!(texts("", &with_level(""), Some(categories())).unwrap()[2], "u:o:f");
}

#[test]
fn a_label_that_gets_too_long_is_refused() {
    let asked = format!(r#""SELinuxLabel":"{}:r:""#, "u".repeat(240));
    let error =
        selinux_labels(&testing::effective(&asked), &policy(), Some(categories())).unwrap_err();
    assert!(error.to_string().starts_with("option 'SELinuxLabel' "), "{error}");
}

#[test]
fn where_the_host_has_none_there_are_none() {
    let (mut host, mut placement) = (testing::host(), testing::placement());
    placement.categories = Some(categories());
    let get = |host: &HostFacts| labels(&testing::effective(""), host, &placement).unwrap();
    assert_eq!(get(&host), None);
    host.selinux = Some(policy());
    assert!(get(&host).unwrap().process.as_str().ends_with(":container_t:s0:c1,c2"));
}

proptest! {
    /// Whatever is asked for, what comes of it has the grammar of a label, and says what was asked for.
    #[test]
    fn what_is_said_is_what_is_had(
        user in "[a-z_]{0,8}", role in "[a-z_]{0,8}", kind in "[a-z_]{0,8}",
        level in "(s[0-9](:c[0-9],c[0-9])?)?",
    ) {
        let asked = format!("{user}:{role}:{kind}:{level}");
        prop_assume!(asked.parse::<SELinuxParts>().is_ok());
        let request = format!(r#""SELinuxLabel":"{asked}""#);
        let [process, files, _] = texts(&request, &policy(), Some(categories())).unwrap();
        let mut parts = process.splitn(4, ':');
        for (said, usual) in [
            (user, "system_u"), (role, "system_r"), (kind, "container_t"), (level, "s0:c1,c2"),
        ] {
            let want = if said.is_empty() { usual } else { &said };
            prop_assert_eq!(parts.next(), Some(want));
        }
        let level = |label: &str| label.splitn(4, ':').nth(3).map(str::to_owned);
        prop_assert_eq!(level(&process), level(&files), "files are of the same level");
    }
}
