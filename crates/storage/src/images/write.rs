//! Documents of images that are made here.

use serde_json::json;

use super::Descriptor;
use crate::error::{Error, Failure};

/// Media type of a manifest.
pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of a configuration.
pub(crate) const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";

/// What docker calls a configuration and a layer, before its compression, and what the OCI does.
const OTHER_NAMES: [(&str, &str); 3] = [
    ("application/vnd.docker.container.image.v1+json", CONFIG_TYPE),
    ("application/vnd.docker.image.rootfs.diff.tar", "application/vnd.oci.image.layer.v1.tar"),
    (
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
    ),
];

/// The same blob as the OCI calls it: readers of its manifests know no other names.
pub(crate) fn renamed(blob: &Descriptor) -> Descriptor {
    let name = OTHER_NAMES.iter().find_map(|(dockers, name)| {
        Some(format!("{name}{}", blob.media_type.strip_prefix(dockers)?.replace('.', "+")))
    });
    Descriptor { media_type: name.unwrap_or_else(|| blob.media_type.clone()), ..*blob }
}

/// A manifest of these parts.
pub(crate) fn manifest(config: &Descriptor, layers: &[Descriptor]) -> Result<Vec<u8>, Error> {
    let layers: Vec<_> = layers.iter().map(|layer| descriptor(&renamed(layer))).collect();
    encode(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(&renamed(config)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn what_docker_names_otherwise_has_the_name_of_the_oci() {
        let blob = |media_type: &str| Descriptor {
            digest: Digest::of(b""),
            size: 0,
            media_type: media_type.into(),
        };
        let dockers = "application/vnd.docker.image.rootfs";
        for (before, after) in [
            (format!("{dockers}.diff.tar"), "application/vnd.oci.image.layer.v1.tar"),
            (format!("{dockers}.diff.tar.gzip"), "application/vnd.oci.image.layer.v1.tar+gzip"),
            (
                format!("{dockers}.foreign.diff.tar.zstd"),
                "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
            ),
            (OTHER_NAMES[0].0.to_owned(), CONFIG_TYPE),
            (
                "application/vnd.oci.image.layer.v1.tar+gzip".to_owned(),
                "application/vnd.oci.image.layer.v1.tar+gzip",
            ),
        ] {
            assert_eq!(renamed(&blob(&before)).media_type, after, "{before}");
        }
    }
}
