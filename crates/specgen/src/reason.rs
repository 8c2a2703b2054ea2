//! What makes a container privileged, in words for the person who is asked.

use std::fmt;

use crate::apparmor::{AppArmor, AppArmorName};
use crate::capability::{Capability, CapabilitySet};
use crate::effective::Effective;
use crate::request::{NetworkMode, Seccomp};

/// One way in which a container can reach the host; `Display` is short text for a dialog.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// It shares the network of the host.
    HostNetwork,
    /// It has a capability beyond [`CapabilitySet::DEFAULT`].
    Capability(Capability),
    /// Its system calls are not filtered.
    NoSeccomp,
    /// It is not confined by AppArmor.
    NoAppArmor,
    /// It is confined by another AppArmor profile than the default one, which may allow more.
    AppArmorProfile(AppArmorName),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostNetwork => f.write_str("host network"),
            Self::Capability(capability) => write!(f, "capability {}", capability.short_name()),
            Self::NoSeccomp => f.write_str("no seccomp"),
            Self::NoAppArmor => f.write_str("no AppArmor"),
            Self::AppArmorProfile(name) => write!(f, "AppArmor profile {name}"),
        }
    }
}

/// Why this container needs the permission for privileged ones; empty if it does not.
///
/// All of them come from the request: an image can ask for none of these things.
pub fn reasons(effective: &Effective) -> Vec<Reason> {
    let network = (effective.network_mode == NetworkMode::Host).then_some(Reason::HostNetwork);
    let added = effective.capabilities - CapabilitySet::DEFAULT;
    let seccomp = (effective.seccomp == Seccomp::Unconfined).then_some(Reason::NoSeccomp);
    let apparmor = match &effective.apparmor {
        AppArmor::Default => None,
        AppArmor::Unconfined => Some(Reason::NoAppArmor),
        AppArmor::Named(name) => Some(Reason::AppArmorProfile(name.clone())),
    };
    let capabilities = added.iter().map(Reason::Capability);
    network.into_iter().chain(capabilities).chain(seccomp).chain(apparmor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effective::effective;
    use crate::image::ImageDefaults;
    use crate::request::Request;
    use proptest::prelude::*;

    fn texts(request: &Request, image: &ImageDefaults) -> Vec<String> {
        reasons(&effective(request, image)).iter().map(ToString::to_string).collect()
    }

    fn request(json: &str) -> Request {
        serde_json::from_str(&format!("{{\"v\":1,{json}}}")).unwrap()
    }

    #[test]
    fn what_is_a_reason() {
        let cases: [(&str, &str, &[&str]); 11] = [
            ("defaults", r#""Env":[]"#, &[]),
            ("none network", r#""NetworkMode":"none""#, &[]),
            ("host network", r#""NetworkMode":"host""#, &["host network"]),
            ("default capability added", r#""CapAdd":["KILL"]"#, &[]),
            ("capability", r#""CapAdd":["SYS_ADMIN"]"#, &["capability SYS_ADMIN"]),
            ("added and dropped", r#""CapAdd":["SYS_ADMIN"],"CapDrop":["SYS_ADMIN"]"#, &[]),
            ("fewer", r#""CapDrop":["ALL"],"NoNewPrivileges":true"#, &[]),
            ("no seccomp", r#""Seccomp":"unconfined""#, &["no seccomp"]),
            ("no AppArmor", r#""AppArmorProfile":"unconfined""#, &["no AppArmor"]),
            ("profile", r#""AppArmorProfile":"mine""#, &["AppArmor profile mine"]),
            ("limits", r#""Resources":{"Memory":1048576}"#, &[]),
        ];
        for (about, json, want) in cases {
            assert_eq!(texts(&request(json), &ImageDefaults::default()), want, "{about}");
        }
        let all = texts(&request(r#""CapAdd":["ALL"]"#), &ImageDefaults::default());
        assert_eq!(all.len(), 41 - 11);
    }

    proptest! {
        #[test]
        fn an_image_never_adds_a_reason(
            key in "(CapAdd|Privileged|Seccomp|NetworkMode|Labels|Env|User|Entrypoint|WorkingDir)",
            value in r#"(true|"host"|"unconfined"|\["ALL"\]|\{"run.oci.x":"y"\}|"0"|"/x")"#,
        ) {
            let json = format!(r#"{{"config":{{"{key}":{value}}}}}"#);
            if let Ok(image) = ImageDefaults::parse(json.as_bytes()) {
                prop_assert!(texts(&Request::default(), &image).is_empty());
                prop_assert!(effective(&Request::default(), &image).annotations.is_empty());
            }
        }
    }
}
