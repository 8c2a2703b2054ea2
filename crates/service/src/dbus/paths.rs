//! Object paths, from what never changes about a thing.

use zbus::{ObjectPath, OwnedObjectPath};

use crate::engine::object::ObjectId;

/// Where the manager is, and below it everything else.
pub(crate) const ROOT: &str = "/org/tare/Containers1";

/// The object of a thing.
pub(crate) fn of(object: &ObjectId) -> OwnedObjectPath {
    path(match object {
        ObjectId::Container(id) => format!("{ROOT}/container/{id}"),
        ObjectId::Process(id, number) => format!("{ROOT}/container/{id}/process/_{number}"),
        ObjectId::Image(id) => format!("{ROOT}/image/sha256_{}", id.hex()),
        ObjectId::Job(number) => format!("{ROOT}/job/_{number}"),
    })
}

/// No object.
pub(crate) fn none() -> OwnedObjectPath {
    path("/".into())
}

fn path(text: String) -> OwnedObjectPath {
    ObjectPath::try_from(text).expect("letters, digits and _ make a valid path").into()
}
