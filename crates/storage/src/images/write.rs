//! Documents of images that are made here.

use serde_json::json;

use super::Descriptor;
use crate::error::{Error, Failure};

/// Media type of a manifest.
pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A manifest of these parts.
pub(crate) fn manifest(config: &Descriptor, layers: &[Descriptor]) -> Result<Vec<u8>, Error> {
    let layers: Vec<_> = layers.iter().map(descriptor).collect();
    encode(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(config),
        "layers": layers,
    }))
}

pub(crate) fn descriptor(descriptor: &Descriptor) -> serde_json::Value {
    json!({
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    })
}

pub(crate) fn encode(document: &serde_json::Value) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(document).map_err(|error| Error::Import {
        source: Failure::new(&"write a document", std::io::Error::other(error)),
    })
}
