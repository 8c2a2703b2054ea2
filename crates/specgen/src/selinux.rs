//! SELinux labels of a container's processes and files; see selinux(8).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::effective::Effective;
use crate::facts::{HostFacts, Placement};
use crate::text::{InvalidText, Problem, check_bytes, string_form, text_type};

text_type! {
    /// A context: `user:role:type:level` or `user:role:type`, each part of `[a-zA-Z0-9_.]`, the
    /// level also of `:`, `,` and `-`; at most 255 bytes.
    SELinuxContext, "SELinux label", check_context
}

fn check_context(text: &str) -> Result<(), Problem> {
    check_bytes(text, 255, |_, byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b',' | b'-')
    })?;
    let mut parts = text.splitn(4, ':');
    let named = |part: Option<&str>| {
        part.is_some_and(|part| !part.is_empty() && !part.contains([',', '-']))
    };
    let good = named(parts.next()) && named(parts.next()) && named(parts.next());
    match parts.next() {
        Some(level) if good && is_level(level) => Ok(()),
        None if good => Ok(()),
        _ => Err(Problem::Form("is not like system_u:system_r:container_t:s0:c1,c2")),
    }
}

fn is_level(level: &str) -> bool {
    level.starts_with('s') && !level.ends_with([':', ',', '-', '.'])
}

impl SELinuxContext {
    /// Everything after the type.
    fn level(&self) -> Option<&str> {
        self.as_str().splitn(4, ':').nth(3)
    }

    /// The label of files that a process with this one may use: the same level, podman's type.
    fn of_files(&self) -> String {
        let level = self.level().map(|level| format!(":{level}")).unwrap_or_default();
        format!("system_u:object_r:container_file_t{level}")
    }
}

/// How a container is labelled: `default`, `disable`, or a context for its processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum SELinux {
    /// With categories of its own, on a host that uses SELinux.
    #[default]
    Default,
    /// Not at all: its processes have the label of whoever starts them.
    Disabled,
    /// With this one.
    Label(SELinuxContext),
}

impl FromStr for SELinux {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "default" => Ok(Self::Default),
            "disable" => Ok(Self::Disabled),
            context => context.parse().map(Self::Label),
        }
    }
}

impl fmt::Display for SELinux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Disabled => "disable",
            Self::Label(context) => context.as_str(),
        })
    }
}

string_form!(SELinux);

/// The labels of a container's processes and of its files.
pub(crate) fn labels(
    effective: &Effective,
    host: &HostFacts,
    placement: &Placement,
) -> Option<(String, String)> {
    let context = match &effective.selinux {
        SELinux::Label(context) => Some(context),
        SELinux::Default => placement.selinux.as_ref(),
        SELinux::Disabled => None,
    };
    context.filter(|_| host.selinux).map(|context| (context.to_string(), context.of_files()))
}

/// The nth pair of categories, which keeps containers apart: 523,776 pairs of 1024 categories.
///
/// The same number gives the same pair, different numbers below that give different ones.
pub fn mcs_level(number: u32) -> String {
    const CATEGORIES: u32 = 1024;
    let mut rest = number % (CATEGORIES * (CATEGORIES - 1) / 2);
    let mut low = 0;
    while rest >= CATEGORIES - 1 - low {
        rest -= CATEGORIES - 1 - low;
        low += 1;
    }
    format!("s0:c{low},c{}", low + 1 + rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn contexts() {
        for good in ["system_u:system_r:container_t:s0:c1,c2", "a:b:c", "a:b:c:s0-s15:c0.c1023"] {
            assert!(good.parse::<SELinuxContext>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "a:b",
            "a::c",
            "a:b:c:",
            "a:b:c:x",
            "a:b:c:s0:",
            "a:b:c d",
            "a:b:c\n",
            "a:b:c,d:s0",
        ] {
            assert!(bad.parse::<SELinuxContext>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn labels_by_host_and_request() {
        let get = |request: &str, on: bool| {
            let mut host = testing::host();
            host.selinux = on;
            let mut placement = testing::placement();
            placement.selinux = "system_u:system_r:container_t:s0:c1,c2".parse().ok();
            labels(&testing::effective(request), &host, &placement)
        };
        let pair = |process: &str, files: &str| Some((process.to_owned(), files.to_owned()));
        let own = pair(
            "system_u:system_r:container_t:s0:c1,c2",
            "system_u:object_r:container_file_t:s0:c1,c2",
        );
        assert_eq!(get("", true), own);
        assert_eq!(get("", false), None);
        assert_eq!(get(r#""SELinuxLabel":"disable""#, true), None);
        assert_eq!(get(r#""Privileged":true"#, true), None);
        let given = pair("a:b:spc_t:s0", "system_u:object_r:container_file_t:s0");
        assert_eq!(get(r#""SELinuxLabel":"a:b:spc_t:s0""#, true), given);
    }

    #[test]
    fn pairs_are_different() {
        assert_eq!(mcs_level(0), "s0:c0,c1");
        assert_eq!(mcs_level(1022), "s0:c0,c1023");
        assert_eq!(mcs_level(1023), "s0:c1,c2");
        assert_eq!(mcs_level(523_775), "s0:c1022,c1023");
        assert_eq!(mcs_level(523_776), mcs_level(0));
        let all: std::collections::BTreeSet<_> = (0..3000).map(mcs_level).collect();
        assert_eq!(all.len(), 3000);
    }
}
