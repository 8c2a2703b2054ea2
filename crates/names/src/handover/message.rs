//! The messages.

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{Foreign, Host};

/// The version that is spoken here.
pub(crate) const VERSION: u32 = 1;

/// What the one who knows the names says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", content = "args", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Said {
    /// First of all: which versions it speaks.
    Hello { oldest: u32, newest: u32 },
    /// All there is is in the file beside it, a [`Whole`](super::Whole).
    Whole {},
    /// A network is this from now on.
    Network { network: String, subnets: Vec<IpNet>, foreign: Foreign },
    /// A network is no more.
    Forget { network: String },
    /// A host is on these networks from now on, and no others.
    Host { key: String, places: Vec<(String, Host)> },
    /// A network is asked on the sockets beside it, and no others.
    Serve { network: String },
    /// A network is asked no more.
    Close { network: String },
}

/// What it is told, all of it before it says more than hello.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", content = "args", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Heard {
    /// The version that counts.
    Welcome { version: u32 },
    /// The sockets beside it are those of a network.
    Has { network: String },
    /// Those were all.
    Ready {},
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hello { .. } => f.write_str("hello"),
            Self::Whole {} => f.write_str("all that is known"),
            Self::Network { network, .. } => write!(f, "what network {network} is"),
            Self::Forget { network } => write!(f, "that network {network} is no more"),
            Self::Host { key, places } if places.is_empty() => write!(f, "that {key} is nowhere"),
            Self::Host { key, .. } => write!(f, "where {key} is"),
            Self::Serve { network } => write!(f, "to answer on network {network}"),
            Self::Close { network } => write!(f, "to answer on network {network} no more"),
        }
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Welcome { .. } => f.write_str("welcome"),
            Self::Has { network } => write!(f, "that network {network} is answered"),
            Self::Ready {} => f.write_str("that this was all"),
        }
    }
}

/// A network in a [`Whole`](super::Whole).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Zone {
    pub(crate) subnets: Vec<IpNet>,
    pub(crate) foreign: Foreign,
    pub(crate) hosts: BTreeMap<String, Host>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it is on the wire: a server of one version goes on while its asker is upgraded.
    #[test]
    fn the_first_version_stays_as_it_is() {
        let text = |message: &Said| serde_json::to_string(message).unwrap();
        let network = || "web".to_owned();
        let host = Host {
            names: vec!["db".into()],
            aliases: vec!["sql".into()],
            addresses: vec!["10.88.0.2".parse().unwrap()],
        };
        for (said, want) in [
            (
                Said::Hello { oldest: 1, newest: 2 },
                r#"{"verb":"hello","args":{"oldest":1,"newest":2}}"#,
            ),
            (Said::Whole {}, r#"{"verb":"whole","args":{}}"#),
            (
                Said::Network {
                    network: network(),
                    subnets: vec!["10.88.0.0/24".parse().unwrap()],
                    foreign: Foreign::Refused,
                },
                r#"{"verb":"network","args":{"network":"web","subnets":["10.88.0.0/24"],"foreign":"refused"}}"#,
            ),
            (
                Said::Network {
                    network: network(),
                    subnets: Vec::new(),
                    foreign: Foreign::Asked(vec!["192.0.2.1".parse().unwrap()]),
                },
                r#"{"verb":"network","args":{"network":"web","subnets":[],"foreign":{"asked":["192.0.2.1"]}}}"#,
            ),
            (Said::Forget { network: network() }, r#"{"verb":"forget","args":{"network":"web"}}"#),
            (
                Said::Host { key: "id".into(), places: vec![(network(), host)] },
                r#"{"verb":"host","args":{"key":"id","places":[["web",{"names":["db"],"aliases":["sql"],"addresses":["10.88.0.2"]}]]}}"#,
            ),
            (Said::Serve { network: network() }, r#"{"verb":"serve","args":{"network":"web"}}"#),
            (Said::Close { network: network() }, r#"{"verb":"close","args":{"network":"web"}}"#),
        ] {
            assert_eq!(text(&said), want);
            assert_eq!(serde_json::from_str::<Said>(want).unwrap(), said);
        }
        for (heard, want) in [
            (Heard::Welcome { version: 1 }, r#"{"verb":"welcome","args":{"version":1}}"#),
            (Heard::Has { network: network() }, r#"{"verb":"has","args":{"network":"web"}}"#),
            (Heard::Ready {}, r#"{"verb":"ready","args":{}}"#),
        ] {
            assert_eq!(serde_json::to_string(&heard).unwrap(), want);
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for text in [
            "",
            "{}",
            r#"{"verb":"run","args":{}}"#,
            r#"{"verb":"close","args":{"network":"web","more":1}}"#,
            r#"{"verb":"network","args":{"network":"web","subnets":["10.88.0.0/33"],"foreign":"refused"}}"#,
        ] {
            serde_json::from_str::<Said>(text).expect_err(text);
        }
    }
}
