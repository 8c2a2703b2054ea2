//! Object paths, from what never changes about a thing.

use tare_runtime::ContainerId;
use tare_storage::Digest;
use zbus::{ObjectPath, OwnedObjectPath};

/// Where the manager is, and below it everything else.
pub(crate) const ROOT: &str = "/org/tare/Containers1";

/// `container/<64 hex>`.
pub(crate) fn container(id: &ContainerId) -> OwnedObjectPath {
    path(format!("{ROOT}/container/{id}"))
}

/// `container/<64 hex>/process/_<n>`.
pub(crate) fn process(id: &ContainerId, number: u32) -> OwnedObjectPath {
    path(format!("{ROOT}/container/{id}/process/_{number}"))
}

/// `image/sha256_<hex>`.
pub(crate) fn image(id: &Digest) -> OwnedObjectPath {
    path(format!("{ROOT}/image/sha256_{}", id.hex()))
}

/// `job/_<n>`.
pub(crate) fn job(id: u32) -> OwnedObjectPath {
    path(format!("{ROOT}/job/_{id}"))
}

/// No object.
pub(crate) fn none() -> OwnedObjectPath {
    path("/".into())
}

fn path(text: String) -> OwnedObjectPath {
    ObjectPath::try_from(text).expect("letters, digits and _ make a valid path").into()
}
