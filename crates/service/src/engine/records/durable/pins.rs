//! What containers see of the host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tare_specgen::{MountTarget, NamespaceKind};
use tare_storage::Pin;

use super::NamespacePin;
use crate::engine::records::document::Version;

/// What a container mounts of the host, or is in, as it was when that was allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Pins {
    #[serde(rename = "v")]
    pub(crate) version: Version<1>,
    /// By where they are mounted.
    pub(crate) mounts: BTreeMap<MountTarget, Pin>,
    /// The namespaces that were at the paths which were asked for; that of the network is with its
    /// connections.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) namespaces: BTreeMap<NamespaceKind, NamespacePin>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_form_is_a_format() {
        let form = serde_json::json!({
            "v": 1,
            "Mounts": {
                "/data": {"path": "/srv/data", "device": 2049, "inode": 7, "handle": [1, [0, 255]]},
                "/x": {"path": "/x", "device": 1, "inode": 2, "handle": null},
            },
            "Namespaces": {"ipc": {"Device": 4, "Inode": 7, "Cookie": 9}},
        });
        let pins: Pins = serde_json::from_value(form.clone()).unwrap();
        assert_eq!(serde_json::to_value(&pins).unwrap(), form);
        let empty = serde_json::to_value(Pins::default()).unwrap();
        assert_eq!(empty, serde_json::json!({"v": 1, "Mounts": {}}));
    }
}
