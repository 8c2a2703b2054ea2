//! Roots of containers that are mounted where their callers see them.

use std::fmt;
use std::str::FromStr;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tare_runtime::ContainerId;

use super::record::{self, Record};
use crate::db::Error;
use crate::engine::lifecycle::Bond;
use crate::engine::records::document::Version;

/// What tells one from another: each user has one of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct RootMountKey {
    pub(crate) container: ContainerId,
    pub(crate) uid: u32,
}

/// The root of a container where a user sees it, from before it is mounted until that is undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RootMount {
    pub(crate) v: Version<1>,
    pub(crate) key: RootMountKey,
    /// Whether somebody was promised it; else it is being mounted or unmounted.
    pub(crate) promised: bool,
    /// For whom it is there: until they leave their bus, or give it back.
    pub(crate) holders: Vec<Option<Bond>>,
}

impl RootMount {
    /// One that is for nobody yet.
    pub(crate) fn new(key: RootMountKey) -> Self {
        Self { v: Version, key, promised: false, holders: Vec::new() }
    }
}

/// The container, a dash, the user's number.
impl fmt::Display for RootMountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.container, self.uid)
    }
}

impl FromStr for RootMountKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('-');
        parts
            .and_then(|(container, uid)| {
                Some(Self { container: container.parse().ok()?, uid: uid.parse().ok()? })
            })
            .ok_or("not the key of a mounted root")
    }
}

impl TryFrom<String> for RootMountKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RootMountKey> for String {
    fn from(key: RootMountKey) -> Self {
        key.to_string()
    }
}

impl Record for RootMount {
    const KIND: &'static str = "root-mount";
    type Key = RootMountKey;

    fn key(&self) -> &RootMountKey {
        &self.key
    }
}

/// Forgets one.
pub(crate) fn forget_root_mount(c: &Connection, key: &RootMountKey) -> Result<(), Error> {
    record::delete::<RootMount>(c, key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::records::volatile::{all, put, scratch};

    /// A daemon that was upgraded reads what its predecessor wrote.
    #[test]
    fn the_stored_form_is_a_format() {
        let id = format!("{:064x}", 255);
        let form = format!(
            r#"{{"v":1,"key":"{id}-1000","promised":true,"holders":[null,{{"bus":"b","name":":1.7"}}]}}"#
        );
        let bond = Bond { bus: "b".into(), name: ":1.7".into() };
        let key: RootMountKey = format!("{id}-1000").parse().unwrap();
        let mount =
            RootMount { promised: true, holders: vec![None, Some(bond)], ..RootMount::new(key) };
        assert_eq!(serde_json::to_string(&mount).unwrap(), form);
        let c = scratch();
        put(&c, &mount).unwrap();
        assert_eq!(all::<RootMount>(&c).unwrap().remove(0).unwrap(), mount);
        forget_root_mount(&c, &mount.key).unwrap();
        assert_eq!(all::<RootMount>(&c).unwrap().len(), 0);
        for bad in ["", "-", &id, &format!("{id}-"), &format!("{id}-x"), "x-0"] {
            assert!(bad.parse::<RootMountKey>().is_err(), "{bad}");
        }
    }
}
