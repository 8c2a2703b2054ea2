//! `SELinux` labels: chosen, and set on what containers share with the host.
//!
//! Nothing of it needs libselinux; where `SELinux` is not there, nothing is changed.

mod categories;
mod relabel;

use std::fmt;
use std::str::FromStr;

pub use categories::Categories;
pub use relabel::{Relabeled, Sharing, relabel, selinux_enabled};

use crate::names::{InvalidName, MountLabel};

/// A label with its parts: user, role, type and level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    user: String,
    role: String,
    kind: String,
    level: Option<String>,
}

impl Context {
    /// The same with these categories, of which every container has its own.
    #[must_use]
    pub fn with_categories(&self, categories: &Categories) -> Self {
        Self { level: Some(format!("s0:{categories}")), ..self.clone() }
    }

    /// The same without categories: every container may use what has it.
    #[must_use]
    pub fn shared(&self) -> Self {
        Self { level: Some("s0".into()), ..self.clone() }
    }

    /// The label of a mount.
    ///
    /// # Errors
    ///
    /// [`InvalidName`] if it is too long for one.
    pub fn to_mount_label(&self) -> Result<MountLabel, InvalidName> {
        self.to_string().parse()
    }

    /// Reads a setting of `contexts/lxc_contexts` below the directory of a policy, such as
    /// `process = "system_u:system_r:container_t:s0"`; the settings for containers are `process` and
    /// `file`. `None` if it is not there or no label.
    pub fn find(settings: &str, name: &str) -> Option<Self> {
        settings.lines().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            let value = value.trim().trim_matches('"');
            if key.trim() == name { value.parse().ok() } else { None }
        })
    }
}

impl FromStr for Context {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        // The grammar is that of a mount's label.
        let label: MountLabel = text.parse()?;
        let mut parts = label.as_str().splitn(4, ':').map(String::from);
        let mut next = || parts.next().ok_or(InvalidName::Fields);
        Ok(Self { user: next()?, role: next()?, kind: next()?, level: parts.next() })
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.user, self.role, self.kind)?;
        self.level.iter().try_for_each(|level| write!(f, ":{level}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_taken_apart_and_put_together() {
        for text in ["system_u:object_r:container_file_t:s0:c1,c2", "u:r:t:s0", "u:r:t"] {
            assert_eq!(text.parse::<Context>().unwrap().to_string(), text);
        }
        let context: Context = "u:r:t:s0-s0:c0.c1023".parse().unwrap();
        let categories: Categories = "c7,c3".parse().unwrap();
        assert_eq!(context.with_categories(&categories).to_string(), "u:r:t:s0:c3,c7");
        assert_eq!(context.shared().to_string(), "u:r:t:s0");
        assert_eq!(context.shared().to_mount_label().unwrap().as_str(), "u:r:t:s0");
        assert!("u:r".parse::<Context>().is_err());
    }

    #[test]
    fn settings_of_the_policy_are_found() {
        let settings = "# comment\nprocess = \"system_u:system_r:container_t:s0\"\n\
            file=\"system_u:object_r:container_file_t:s0\"\nbad = \"x\"\n";
        let find = |name| Context::find(settings, name).map(|context| context.to_string());
        assert_eq!(find("process").as_deref(), Some("system_u:system_r:container_t:s0"));
        assert_eq!(find("file").as_deref(), Some("system_u:object_r:container_file_t:s0"));
        assert_eq!((find("bad"), find("absent")), (None, None));
    }
}
