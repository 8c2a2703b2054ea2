//! SELinux labels of a container's processes and files; see selinux(8).
//!
//! The policy of the host says which types there are for containers ([`SELinuxPolicy`]). A pair of
//! [`Categories`] that no other container has keeps those of one type apart.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::categories::Categories;
use crate::effective::Effective;
use crate::error::Error;
use crate::facts::{HostFacts, Placement};
use crate::text::{InvalidText, Problem, check_bytes, string_form, text_type};

/// The level of what every container may use.
const SHARED_LEVEL: &str = "s0";

text_type! {
    /// A context: `user:role:type:level` or `user:role:type`, each part of `[a-zA-Z0-9_.]`, the
    /// level also of `:`, `,` and `-`; at most 255 bytes.
    SELinuxContext, "SELinux label", check_context
}

text_type! {
    /// A context of which parts may be empty, and are as usual then: `::spc_t` is another type,
    /// `:::s0:c1,c2` another level. Else as [`SELinuxContext`].
    SELinuxParts, "SELinux label", check_parts
}

fn check_context(text: &str) -> Result<(), Problem> {
    check_parts(text)?;
    if text.splitn(4, ':').any(str::is_empty) {
        return Err(Problem::Form("is not like system_u:system_r:container_t:s0:c1,c2"));
    }
    Ok(())
}

fn check_parts(text: &str) -> Result<(), Problem> {
    check_bytes(text, 255, |_, byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b',' | b'-')
    })?;
    let mut parts = text.splitn(4, ':');
    let mut is_name = || parts.next().is_some_and(|part| !part.contains([',', '-']));
    let named = is_name() && is_name() && is_name();
    let level = parts.next().unwrap_or_default();
    let says_something = text.bytes().any(|byte| byte != b':');
    if named && says_something && (level.is_empty() || is_level(level)) {
        Ok(())
    } else {
        Err(Problem::Form("is not like system_u:system_r:container_t:s0:c1,c2 or ::spc_t"))
    }
}

fn is_level(level: &str) -> bool {
    level.starts_with('s') && !level.ends_with([':', ',', '-', '.'])
}

/// What a text with the grammar of [`SELinuxParts`] says; nothing where it says nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Parts<'a> {
    user: Option<&'a str>,
    role: Option<&'a str>,
    kind: Option<&'a str>,
    level: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        let mut parts = text.splitn(4, ':');
        let mut next = || parts.next().filter(|part| !part.is_empty());
        Self { user: next(), role: next(), kind: next(), level: next() }
    }

    /// These, and what they do not say as `usual` does.
    fn or(self, usual: Self) -> Self {
        Self {
            user: self.user.or(usual.user),
            role: self.role.or(usual.role),
            kind: self.kind.or(usual.kind),
            level: self.level.or(usual.level),
        }
    }

    /// The same of a level that every container may use, if it has one.
    fn shared(self) -> Self {
        Self { level: self.level.map(|_| SHARED_LEVEL), ..self }
    }

    /// As one text.
    ///
    /// # Errors
    /// [`Error::Option`] if it is too long as a whole: what was asked for is what makes it so.
    fn context(self) -> Result<SELinuxContext, Error> {
        let parts = [self.user, self.role, self.kind, self.level];
        let text = parts.into_iter().flatten().collect::<Vec<_>>().join(":");
        let rule = "makes no label together with the policy of this host";
        text.parse().map_err(|_| Error::Option { option: "SELinuxLabel", rule })
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
    /// With this one, and what that leaves out as by default.
    Label(SELinuxParts),
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

/// What the policy of a host has for containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SELinuxPolicy {
    process: SELinuxContext,
    /// Of processes of a container that runs systemd.
    init: Option<SELinuxContext>,
    file: SELinuxContext,
}

impl SELinuxPolicy {
    /// Reads `contexts/lxc_contexts` of a policy, or `/usr/share/containers/selinux/contexts`: lines
    /// like `process = "system_u:system_r:container_t:s0"`. Nothing if `process` or `file` is not
    /// there, or is no label.
    pub fn parse(settings: &str) -> Option<Self> {
        let find = |name| {
            settings.lines().find_map(|line| {
                let (key, value) = line.split_once('=')?;
                let value = value.trim().trim_matches('"');
                if key.trim() == name { value.parse().ok() } else { None }
            })
        };
        Some(Self { process: find("process")?, init: find("init_process"), file: find("file")? })
    }

    /// The label of files that every container may use.
    pub fn shared_files(&self) -> SELinuxContext {
        // A shorter one than that of the policy, or it itself.
        Parts::of(self.file.as_str()).shared().context().unwrap_or_else(|_| self.file.clone())
    }
}

/// The labels of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SELinuxLabels {
    /// Of its processes.
    pub process: SELinuxContext,
    /// Of files that are its own.
    pub files: SELinuxContext,
    /// Of files that every container may use.
    pub shared_files: SELinuxContext,
}

/// The labels of a container on a host with this policy; nothing if it is to have none.
///
/// Without categories, which a level of the request stands in for, it is not kept apart.
///
/// # Errors
/// [`Error::Option`] if what was asked for makes no label.
pub fn selinux_labels(
    effective: &Effective,
    policy: &SELinuxPolicy,
    categories: Option<Categories>,
) -> Result<Option<SELinuxLabels>, Error> {
    let asked = match &effective.selinux {
        SELinux::Disabled => return Ok(None),
        SELinux::Default => Parts::default(),
        SELinux::Label(parts) => Parts::of(parts.as_str()),
    };
    let process = match &policy.init {
        Some(init) if effective.systemd => init,
        _ => &policy.process,
    };
    let (process, file) = (Parts::of(process.as_str()), Parts::of(policy.file.as_str()));
    // A policy without levels has no categories either.
    let own = process.level.map(|usual| with_categories(usual, categories));
    let level = asked.level.or(own.as_deref());
    let files = Parts { user: asked.user.or(file.user), level, ..file };
    Ok(Some(SELinuxLabels {
        process: Parts { level, ..asked.or(process) }.context()?,
        files: files.context()?,
        shared_files: files.shared().context()?,
    }))
}

fn with_categories(level: &str, categories: Option<Categories>) -> String {
    // As in "s0-s0:c0.c1023", which may be all that is up to the second.
    let sensitivity = level.split([':', '-']).next().unwrap_or(level);
    match categories {
        Some(categories) => format!("{sensitivity}:{categories}"),
        None => level.to_owned(),
    }
}

/// The labels of a container where there are any on the host.
pub(crate) fn labels(
    effective: &Effective,
    host: &HostFacts,
    placement: &Placement,
) -> Result<Option<SELinuxLabels>, Error> {
    let policy = host.selinux.as_ref();
    policy.map_or(Ok(None), |policy| selinux_labels(effective, policy, placement.categories))
}

#[cfg(test)]
#[path = "selinux_tests.rs"]
mod tests;
