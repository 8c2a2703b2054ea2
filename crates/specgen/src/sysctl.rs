//! Kernel settings of the container's own namespaces; see sysctl(8).
//!
//! Only settings that a namespace keeps are allowed, and only if the container has that namespace
//! for itself: any other would change the host (CVE-2022-0811).

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::effective::Effective;
use crate::error::Error;
use crate::facts::Placement;
use crate::namespace::{NamespaceKind, NamespaceMode, Namespaces};
use crate::request::NetworkMode;
use crate::text::{Problem, check_bytes, text_type};
use crate::user::MAX_ID;

/// Settings of an IPC namespace by name; all of `fs.mqueue.` come on top.
const OF_IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// `ping` works for every group in this range, as with docker: it needs no capability then.
const PING_GROUPS: &str = "net.ipv4.ping_group_range";

text_type! {
    /// Name of a setting that a namespace keeps, as in `net.ipv4.ip_forward`: parts of
    /// `[a-zA-Z0-9_-]` separated by single dots, at most 128 bytes; one of `net.`, `fs.mqueue.`,
    /// `kernel.domainname`, or of System V IPC (`kernel.msgmax`, `msgmnb`, `msgmni`, `sem`,
    /// `shm_rmid_forced`, `shmall`, `shmmax`, `shmmni`).
    SysctlName, "sysctl", check_name
}

fn check_name(text: &str) -> Result<(), Problem> {
    check_bytes(text, 128, |_, byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
    })?;
    if text.split('.').any(str::is_empty) {
        return Err(Problem::Form("has an empty part"));
    }
    match kind(text) {
        Some(_) => Ok(()),
        None => Err(Problem::Form("is not kept by a namespace: it would change the host")),
    }
}

text_type! {
    /// Value of a setting: 1 to 1024 bytes of `[a-zA-Z0-9_.,:/-]`, spaces and tabs.
    SysctlValue, "value of a sysctl", |text| {
        check_bytes(text, 1024, |_, byte| {
            byte.is_ascii_alphanumeric()
                || matches!(byte, b'_' | b'.' | b',' | b':' | b'/' | b'-' | b' ' | b'\t')
        })
    }
}

/// The namespace that keeps a setting.
fn kind(name: &str) -> Option<NamespaceKind> {
    if name.starts_with("net.") {
        Some(NamespaceKind::Network)
    } else if name.starts_with("fs.mqueue.") || OF_IPC.contains(&name) {
        Some(NamespaceKind::Ipc)
    } else if name == "kernel.domainname" {
        Some(NamespaceKind::Uts)
    } else {
        None
    }
}

/// Refuses settings of a namespace that is not the container's alone.
pub(crate) fn check(
    sysctls: &BTreeMap<SysctlName, SysctlValue>,
    namespaces: &Namespaces,
    network: &NetworkMode,
) -> Result<(), Error> {
    let own = |kind| match kind {
        NamespaceKind::Network => matches!(network, NetworkMode::Private | NetworkMode::None),
        NamespaceKind::Ipc => namespaces.ipc == NamespaceMode::Private,
        _ => namespaces.uts == NamespaceMode::Private,
    };
    if sysctls.keys().filter_map(|name| kind(name.as_str())).all(own) {
        return Ok(());
    }
    Err(Error::Option {
        option: "Sysctls",
        rule: "has a setting of a namespace that the container does not have for itself",
    })
}

/// What the container's namespaces are set to.
pub(crate) fn sysctls<'a>(
    effective: &'a Effective,
    placement: &Placement,
) -> BTreeMap<&'a str, Cow<'a, str>> {
    let request = &effective.request;
    let own = matches!(request.network_mode, NetworkMode::Private | NetworkMode::None);
    let asked = request.sysctls.iter();
    let asked = asked.map(|(name, value)| (name.as_str(), Cow::Borrowed(value.as_str())));
    let ping = last_group(effective, placement).filter(|_| own);
    let ping = ping.map(|last| (PING_GROUPS, Cow::Owned(format!("0 {last}"))));
    ping.into_iter().chain(asked).collect()
}

/// The last group of those from 0 on that the kernel takes: in a user namespace all of them have to
/// be in its map, and of one that is joined nobody here knows the map.
fn last_group(effective: &Effective, placement: &Placement) -> Option<u32> {
    match effective.request.namespaces.user {
        NamespaceMode::Host => Some(MAX_ID),
        NamespaceMode::Private => {
            let map = effective.gid_map(placement).iter();
            map.filter(|range| range.inside() == 0).map(|range| range.size() - 1).next()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// CVE-2022-0811, and podman's `TestValidateSysctlBadSysctl`.
    #[test]
    fn cve_2022_0811_only_what_a_namespace_keeps() {
        for good in [
            "net.ipv4.ip_forward",
            "net.core.somaxconn",
            "fs.mqueue.msg_max",
            "kernel.shm_rmid_forced",
            "kernel.sem",
            "kernel.domainname",
        ] {
            assert!(good.parse::<SysctlName>().is_ok(), "{good}");
        }
        for bad in [
            "kernel.core_pattern",
            "kernel.shm_rmid_forced+kernel.core_pattern",
            "kernel.shm_rmid_forced=1",
            "kernel.shm_rmid_forced ",
            " kernel.sem",
            "net/ipv4/ip_forward",
            "net./../kernel/core_pattern",
            "net..x",
            "net.",
            "net",
            "fs.file-max",
            "kernel.hostname",
            "vm.overcommit_memory",
            "user.max_user_namespaces",
            "",
            "net.x\ny",
        ] {
            assert!(bad.parse::<SysctlName>().is_err(), "{bad:?}");
        }
        for (value, good) in [
            ("1", true),
            ("32768\t60999", true),
            ("0 2147483647", true),
            ("", false),
            ("1\n", false),
            ("1+kernel.core_pattern=|/bin/x", false),
            ("|/evil %P", false),
            ("\0", false),
        ] {
            assert_eq!(value.parse::<SysctlValue>().is_ok(), good, "{value:?}");
        }
    }

    #[test]
    fn only_of_namespaces_that_are_the_containers_own() {
        for (about, options, sysctl, good) in [
            ("own network", "", "net.ipv4.ip_forward", true),
            ("no network", r#""NetworkMode":"none","#, "net.ipv4.ip_forward", true),
            ("host network", r#""NetworkMode":"host","#, "net.ipv4.ip_forward", false),
            ("own ipc", "", "kernel.sem", true),
            ("host ipc", r#""Namespaces":{"IPCMode":"host"},"#, "kernel.sem", false),
            ("other ipc", r#""Namespaces":{"IPCMode":"ns:/x"},"#, "fs.mqueue.msg_max", false),
            ("host uts", r#""Namespaces":{"UTSMode":"host"},"#, "kernel.domainname", false),
            ("host ipc, own network", r#""Namespaces":{"IPCMode":"host"},"#, "net.a.b", true),
        ] {
            let request = format!(r#"{options}"Sysctls":{{"{sysctl}":"1"}}"#);
            assert_eq!(testing::try_effective(&request).is_ok(), good, "{about}");
        }
        let effective = testing::effective(r#""Sysctls":{"net.ipv4.ping_group_range":"5 6"}"#);
        assert_eq!(sysctls(&effective, &testing::placement())[PING_GROUPS], "5 6");
    }

    /// crun and runc both failed to start such a container with the whole range.
    #[test]
    fn groups_that_may_ping_are_those_that_there_are() {
        let get = |request: &str| {
            let effective = testing::effective(request);
            let placement = testing::placement();
            sysctls(&effective, &placement).get(PING_GROUPS).map(ToString::to_string)
        };
        let own = r#""Namespaces":{"UserNamespace":"private"},"UIDMap""#;
        assert_eq!(get("").as_deref(), Some("0 2147483647"));
        assert_eq!(get(r#""NetworkMode":"host""#), None);
        assert_eq!(get(&format!("{own}:[[0,9,65536]]")).as_deref(), Some("0 65535"));
        assert_eq!(get(&format!("{own}:[[5,100,10],[0,9,1]]")).as_deref(), Some("0 0"));
        assert_eq!(get(r#""Namespaces":{"UserNamespace":"ns:/x"}"#), None);
    }
}
