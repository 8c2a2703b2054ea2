//! The documents of an image, read as what they are: somebody else's.
//!
//! `serde_json` bounds how deep they nest; their size is bounded before they are read.

use oci_spec::image as oci;
use serde::Deserialize;

use super::platform::Platform;
use crate::digest::Digest;
use crate::error::ImageFault;
use crate::overlay::MAX_LAYERS;

/// Bytes a manifest or an index may have: what registries allow.
pub const MAX_MANIFEST: usize = 4 << 20;
/// Bytes a configuration may have; real ones have a few KiB.
pub const MAX_CONFIG: usize = 4 << 20;

/// Manifests an index may name; real ones name some twenty.
const MAX_MANIFESTS: usize = 1000;

/// What names a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Descriptor {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What it is.
    pub media_type: String,
}

/// What an image is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Manifest {
    /// The configuration, whose digest is the image's id.
    pub config: Descriptor,
    /// The layers, the base first.
    pub layers: Vec<Descriptor>,
}

/// One of the images an index names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexEntry {
    /// Its manifest, or another index.
    pub manifest: Descriptor,
    /// What it runs on, if that is said.
    pub platform: Option<Platform>,
    /// Its name, in an archive or layout.
    pub name: Option<String>,
}

/// What a configuration says of the image itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageFacts {
    /// What it runs on.
    pub platform: Option<Platform>,
    /// When it was made, as it says.
    pub created: Option<String>,
    /// Digests of the uncompressed layers, the base first.
    pub diff_ids: Vec<Digest>,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    ///
    /// [`ImageFault`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageFault> {
        let document = "manifest";
        check_len(document, bytes, MAX_MANIFEST)?;
        let manifest = oci::ImageManifest::from_reader(bytes).map_err(invalid(document))?;
        let layers: Vec<_> = manifest.layers().iter().map(descriptor).collect::<Result<_, _>>()?;
        check_count(layers.len())?;
        for layer in &layers {
            check_layer_type(&layer.media_type)?;
        }
        let config = descriptor(manifest.config())?;
        check_type("configuration", &config.media_type, &CONFIG_TYPES)?;
        Ok(Self { config, layers })
    }
}

/// Whether a document is an index, by what it says or, if it says nothing, by what it has.
pub fn is_index(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Outline {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let Ok(outline) = serde_json::from_slice::<Outline>(bytes) else { return false };
    match outline.media_type {
        Some(media_type) => INDEX_TYPES.contains(&&*media_type),
        None => outline.manifests.is_some(),
    }
}

/// Reads an index.
///
/// # Errors
///
/// [`ImageFault`].
pub fn parse_index(bytes: &[u8]) -> Result<Vec<IndexEntry>, ImageFault> {
    let document = "index";
    check_len(document, bytes, MAX_MANIFEST)?;
    let index = oci::ImageIndex::from_reader(bytes).map_err(invalid(document))?;
    if index.manifests().len() > MAX_MANIFESTS {
        return Err(invalid(document)(format!("it names more than {MAX_MANIFESTS} manifests")));
    }
    let entry = |entry: &oci::Descriptor| {
        let name = entry.annotations().as_ref().and_then(|all| {
            // The second is what containerd and docker write, with the whole reference.
            let keys = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
            keys.iter().find_map(|key| all.get(*key).cloned())
        });
        Ok(IndexEntry {
            manifest: descriptor(entry)?,
            platform: entry.platform().as_ref().and_then(|platform| {
                let (os, architecture) = (platform.os(), platform.architecture());
                let variant = platform.variant().as_deref().filter(|text| !text.is_empty());
                Platform::new(&os.to_string(), &architecture.to_string(), variant)
            }),
            name,
        })
    };
    index.manifests().iter().map(entry).collect()
}

/// The entry of an index that suits a platform best.
///
/// # Errors
///
/// [`ImageFault::Platform`] if there is none.
pub fn choose_for<'e>(
    entries: &'e [IndexEntry],
    platform: &Platform,
) -> Result<&'e IndexEntry, ImageFault> {
    let suits = |entry: &&IndexEntry| match &entry.platform {
        Some(other) => platform.suits(other),
        // What says nothing is taken if nothing better is there.
        None => Some(0),
    };
    let suitable = entries.iter().filter(|entry| suits(entry).is_some());
    // Of two that suit as well the first counts, as the specification wants.
    suitable.rev().max_by_key(suits).ok_or_else(|| ImageFault::Platform {
        wanted: platform.to_string(),
        available: entries.iter().flat_map(|e| &e.platform).map(ToString::to_string).collect(),
    })
}

impl ImageFacts {
    /// Reads a configuration.
    ///
    /// # Errors
    ///
    /// [`ImageFault`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageFault> {
        let document = "configuration";
        check_len(document, bytes, MAX_CONFIG)?;
        let config = oci::ImageConfiguration::from_reader(bytes).map_err(invalid(document))?;
        let diff_ids = config.rootfs().diff_ids().iter().map(|text| text.parse());
        let diff_ids: Vec<Digest> =
            diff_ids.collect::<Result<_, _>>().map_err(invalid(document))?;
        check_count(diff_ids.len())?;
        let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
        let variant = config.variant().as_deref().filter(|text| !text.is_empty());
        Ok(Self {
            platform: Platform::new(&os, &architecture, variant),
            created: config.created().clone(),
            diff_ids,
        })
    }
}

const CONFIG_TYPES: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
const INDEX_TYPES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

fn check_type(what: &'static str, media_type: &str, known: &[&str]) -> Result<(), ImageFault> {
    if known.contains(&media_type) {
        return Ok(());
    }
    Err(ImageFault::MediaType { what, media_type: media_type.into() })
}

/// Refuses what cannot be a tar archive; how it is compressed is told by its first bytes.
fn check_layer_type(media_type: &str) -> Result<(), ImageFault> {
    let bases = [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ];
    let compression = bases.iter().find_map(|base| media_type.strip_prefix(base));
    match compression {
        Some("" | "+gzip" | "+zstd" | ".gzip" | ".zstd") => Ok(()),
        _ => Err(ImageFault::MediaType { what: "layer", media_type: media_type.into() }),
    }
}

fn check_len(document: &'static str, bytes: &[u8], max: usize) -> Result<(), ImageFault> {
    if bytes.len() > max { Err(ImageFault::DocumentTooLarge { document, max }) } else { Ok(()) }
}

fn check_count(count: usize) -> Result<(), ImageFault> {
    match count {
        0 => Err(ImageFault::NoLayers),
        _ if count > MAX_LAYERS => Err(ImageFault::TooManyLayers { count, max: MAX_LAYERS }),
        _ => Ok(()),
    }
}

fn descriptor(descriptor: &oci::Descriptor) -> Result<Descriptor, ImageFault> {
    let digest = descriptor.digest().to_string();
    Ok(Descriptor {
        digest: digest.parse().map_err(invalid("descriptor"))?,
        size: descriptor.size(),
        media_type: descriptor.media_type().to_string(),
    })
}

pub(super) fn invalid<E>(document: &'static str) -> impl FnOnce(E) -> ImageFault
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    move |source| ImageFault::Document { document, source: plain(source.into()) }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// An error that is one plain line: some quote the document, which may hold anything.
fn plain(source: Cause) -> Cause {
    let mut texts = Vec::new();
    let mut next: Option<&dyn std::error::Error> = Some(&*source);
    while let Some(error) = next {
        texts.push(error.to_string());
        next = error.source();
    }
    let text = texts.join(": ");
    if text.contains(char::is_control) { text.escape_debug().to_string().into() } else { source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn manifest(config: &str, layer: &str, layers: usize) -> String {
        let layer = format!(r#"{{"mediaType":"{layer}","digest":"sha256:{HEX}","size":7}}"#);
        let layers = vec![layer; layers].join(",");
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{config}","digest":"sha256:{HEX}",
            "size":3}},"layers":[{layers}]}}"#
        )
    }

    #[test]
    fn manifests_are_read_and_their_types_checked() {
        let [oci, docker] = CONFIG_TYPES;
        for (config, layer, good) in [
            (oci, "application/vnd.oci.image.layer.v1.tar", true),
            (oci, "application/vnd.oci.image.layer.v1.tar+gzip", true),
            (docker, "application/vnd.docker.image.rootfs.diff.tar.gzip", true),
            (oci, "application/vnd.oci.image.layer.v1.tar+zstd", true),
            (oci, "application/vnd.oci.image.layer.v1.tar+gzip+encrypted", false),
            (oci, "application/wasm", false),
            ("application/vnd.oci.empty.v1+json", "application/vnd.oci.image.layer.v1.tar", false),
        ] {
            let parsed = Manifest::parse(manifest(config, layer, 2).as_bytes());
            assert_eq!(parsed.is_ok(), good, "{config} {layer}: {parsed:?}");
        }
        let layer = "application/vnd.oci.image.layer.v1.tar";
        let parsed = Manifest::parse(manifest(oci, layer, 2).as_bytes()).unwrap();
        assert_eq!((parsed.config.size, parsed.layers.len(), parsed.layers[1].size), (3, 2, 7));
        for layers in [0, MAX_LAYERS + 1] {
            assert!(Manifest::parse(manifest(oci, layer, layers).as_bytes()).is_err(), "{layers}");
        }
    }

    #[test]
    fn hostile_documents_are_refused_not_believed() {
        let deep = "[".repeat(100_000);
        let other = manifest(CONFIG_TYPES[0], "application/vnd.oci.image.layer.v1.tar", 1)
            .replace("sha256:", "sha512:");
        for bytes in ["", "{}", "[]", "null", &deep, &other, "{\"layers\":7}"] {
            assert!(Manifest::parse(bytes.as_bytes()).is_err(), "{bytes:.20}");
            assert!(ImageFacts::parse(bytes.as_bytes()).is_err(), "{bytes:.20}");
        }
        let large = vec![b' '; MAX_MANIFEST + 1];
        let error = Manifest::parse(&large).unwrap_err();
        assert!(matches!(error, ImageFault::DocumentTooLarge { .. }), "{error:?}");
    }

    #[test]
    fn the_best_of_an_index_is_chosen() {
        let entry = |arch: &str| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,
                "digest":"sha256:{HEX}","platform":{{"os":"linux","architecture":"{arch}"}}}}"#
            )
        };
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{},{},{}]}}"#,
            entry("arm64"),
            entry("amd64"),
            entry("amd64").replace("\"size\":1", "\"size\":2")
        );
        assert!(is_index(index.as_bytes()));
        let entries = parse_index(index.as_bytes()).unwrap();
        let amd64 = choose_for(&entries, &"linux/amd64".parse().unwrap()).unwrap();
        assert_eq!(amd64.manifest.size, 1, "the first of two as good");
        let error = choose_for(&entries, &"linux/s390x".parse().unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is none for linux/s390x, only for linux/arm64, linux/amd64, linux/amd64"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_documents_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Manifest::parse(&bytes), ImageFacts::parse(&bytes), parse_index(&bytes));
            let _ = is_index(&bytes);
        }
    }
}
