//! Which images of which registries this host takes: `containers-policy.json(5)`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Deserialize;

use super::registries::with_host_lowered;

/// Where it is.
const PATH: &str = "/etc/containers/policy.json";

/// What has to be true of an image.
#[derive(Debug, Deserialize)]
struct Requirement {
    #[serde(rename = "type")]
    kind: String,
}

/// The policy of this host.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Policy {
    default: Vec<Requirement>,
    #[serde(default)]
    transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

/// A requirement that is not met, or cannot be found out to be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{PATH} wants '{0}' of images from there")]
pub struct Unmet(String);

impl Policy {
    /// Reads the policy of this host, if it has one.
    pub(crate) fn of_host() -> io::Result<Option<Self>> {
        match std::fs::read(Path::new(PATH)) {
            Ok(json) => Ok(Some(serde_json::from_slice(&json)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether an image may be taken. What asks for signatures cannot be obeyed here, and so nothing
    /// is taken that needs them.
    ///
    /// # Errors
    ///
    /// [`Unmet`].
    pub(crate) fn check(&self, reference: &str) -> Result<(), Unmet> {
        let mut requirements = self.requirements(reference).iter();
        match requirements.find(|requirement| requirement.kind != "insecureAcceptAnything") {
            Some(unmet) => Err(Unmet(unmet.kind.clone())),
            None => Ok(()),
        }
    }

    /// Those of the longest scope that an image is in.
    fn requirements(&self, name: &str) -> &[Requirement] {
        let Some(scopes) = self.transports.get("docker") else { return &self.default };
        let host = name.split(['/', ':']).next().unwrap_or_default();
        let fits = |scope: &str| match with_host_lowered(scope).strip_prefix("*.") {
            Some(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
            // After a host that is a port, and another registry.
            None => name.strip_prefix(&*with_host_lowered(scope)).is_some_and(|rest| {
                let follows = rest.starts_with([':', '@']) && scope.contains('/');
                rest.is_empty() || rest.starts_with('/') || follows
            }),
        };
        let fitting = scopes.iter().filter(|(scope, _)| !scope.is_empty() && fits(scope));
        // A scope with a wildcard is for all that nothing says more of.
        let longest = fitting.max_by_key(|(scope, _)| (!scope.starts_with('*'), scope.len()));
        let all = || scopes.get("").unwrap_or(&self.default);
        longest.map_or_else(all, |(_, requirements)| requirements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_special_scope_counts() {
        let json = r#"{
            "default": [{"type": "reject"}],
            "transports": {"docker": {
                "open.test": [{"type": "insecureAcceptAnything"}],
                "open.test/signed": [{"type": "signedBy", "keyType": "GPGKeys"}],
                "OPEN.test/a:bad": [{"type": "reject"}],
                "*.wild.test": [{"type": "insecureAcceptAnything"}]
            }}
        }"#;
        let policy: Policy = serde_json::from_str(json).unwrap();
        for (name, unmet) in [
            ("open.test/a:1", None),
            ("open.test/a:bad", Some("reject")),
            ("open.test/signed/a:1", Some("signedBy")),
            ("open.test/signed2:1", None),
            ("open.test2/a:1", Some("reject")),
            ("open.test:5001/a:1", Some("reject")),
            ("a.wild.test:5000/a:1", None),
            ("wild.test/a:1", Some("reject")),
        ] {
            let wanted = unmet.map(|kind| Unmet(kind.into()));
            assert_eq!(policy.check(name).err(), wanted, "{name}");
        }
        assert!(serde_json::from_str::<Policy>("{}").is_err(), "a policy has a default");
    }
}
