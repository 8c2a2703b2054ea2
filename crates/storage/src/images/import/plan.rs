//! What is to be imported: found out before anything is stored.

use super::super::documents::{choose_for, is_index, parse_index};
use super::super::{
    Descriptor, ImageFacts, IndexEntry, MAX_CONFIG, MAX_MANIFEST, Manifest, Platform, Source,
    blob_name,
};
use super::layers::Kept;
use crate::digest::Digest;
use crate::error::{Error, ImageFault};

/// Indexes that lead to one another.
const MAX_NESTING: usize = 3;

/// One image.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) names: Vec<String>,
    pub(crate) config: Vec<u8>,
    pub(crate) facts: ImageFacts,
    /// As it came; an archive of docker has none.
    pub(crate) manifest: Option<Vec<u8>>,
    pub(crate) layers: Vec<LayerSource>,
}

/// Where a layer is.
#[derive(Debug)]
pub(crate) struct LayerSource {
    /// Its name in the source.
    pub(crate) name: String,
    /// What it is, if that is said.
    pub(crate) blob: Option<Descriptor>,
}

impl Plan {
    pub(crate) fn check_platform(&self, wanted: Option<&Platform>) -> Result<(), Error> {
        let (Some(wanted), Some(made_for)) = (wanted, &self.facts.platform) else { return Ok(()) };
        if wanted.suits(made_for).is_some() {
            return Ok(());
        }
        let source = ImageFault::Platform {
            wanted: wanted.to_string(),
            available: vec![made_for.to_string()],
        };
        Err(Error::Image { source })
    }
}

/// The images of a layout, each for the platform.
pub(super) fn oci(
    source: &dyn Source,
    platform: &Platform,
    name: Option<&str>,
) -> Result<Vec<Plan>, Error> {
    let bytes = source.read("index.json", "index", MAX_MANIFEST)?;
    let entries = parse_index(&bytes).map_err(image)?;
    let entries = one_of_each_name(&entries, platform)?;
    let entries = match name {
        None => entries,
        Some(name) => only(entries, name, |entry| entry.name.clone().into_iter().collect())?,
    };
    if entries.is_empty() {
        return Err(image(ImageFault::Name { available: Vec::new() }));
    }
    entries.into_iter().map(|entry| resolve(source, platform, entry)).collect()
}

/// Of the images of one name those for the platform: some tools write an index that is flat.
fn one_of_each_name(entries: &[IndexEntry], platform: &Platform) -> Result<Vec<IndexEntry>, Error> {
    let mut names: Vec<_> = entries.iter().map(|entry| entry.name.clone()).collect();
    names.sort_unstable();
    names.dedup();
    let of_name = |name: Option<String>| {
        let same: Vec<_> = entries.iter().filter(|entry| entry.name == name).cloned().collect();
        choose_for(&same, platform).cloned().map_err(image)
    };
    names.into_iter().map(of_name).collect()
}

/// The plans of the images of that name; all without one.
pub(super) fn named(plans: Vec<Plan>, name: Option<&str>) -> Result<Vec<Plan>, Error> {
    match name {
        _ if plans.is_empty() => Err(image(ImageFault::Name { available: Vec::new() })),
        None => Ok(plans),
        Some(name) => only(plans, name, |plan| plan.names.clone()),
    }
}

fn only<T>(all: Vec<T>, name: &str, names: impl Fn(&T) -> Vec<String>) -> Result<Vec<T>, Error> {
    let available = all.iter().flat_map(&names).collect();
    let of_name = all.into_iter().filter(|one| names(one).iter().any(|n| n == name));
    match of_name.collect::<Vec<_>>() {
        none if none.is_empty() => Err(image(ImageFault::Name { available })),
        some => Ok(some),
    }
}

fn resolve(source: &dyn Source, platform: &Platform, entry: IndexEntry) -> Result<Plan, Error> {
    let names = entry.name.into_iter().collect();
    let mut digest = entry.manifest.digest;
    for _ in 0..MAX_NESTING {
        let bytes = source.document(&digest, "manifest", MAX_MANIFEST)?;
        if !is_index(&bytes) {
            return plan(source, names, bytes);
        }
        let entries = parse_index(&bytes).map_err(image)?;
        digest = choose_for(&entries, platform).map_err(image)?.manifest.digest;
    }
    Err(image(ImageFault::Nested))
}

fn plan(source: &dyn Source, names: Vec<String>, bytes: Vec<u8>) -> Result<Plan, Error> {
    let manifest = Manifest::parse(&bytes).map_err(image)?;
    let config = source.document(&manifest.config.digest, "configuration", MAX_CONFIG)?;
    let facts = ImageFacts::parse(&config).map_err(image)?;
    let counts = (manifest.layers.len(), facts.diff_ids.len());
    if counts.0 != counts.1 {
        return Err(image(ImageFault::LayersDiffer { manifest: counts.0, config: counts.1 }));
    }
    let layers = manifest.layers.into_iter();
    let layers = layers.map(|blob| LayerSource { name: blob_name(&blob.digest), blob: Some(blob) });
    Ok(Plan { names, config, facts, manifest: Some(bytes), layers: layers.collect() })
}

/// Writes the manifest of an image that came without one.
pub(crate) fn manifest(
    config: &Digest,
    config_len: usize,
    layers: &[Kept],
) -> Result<Vec<u8>, Error> {
    let config = Descriptor {
        digest: *config,
        size: config_len as u64,
        media_type: super::super::write::CONFIG_TYPE.into(),
    };
    let layers: Vec<_> = layers.iter().map(|layer| layer.blob.clone()).collect();
    super::super::write::manifest(&config, &layers)
}

fn image(source: ImageFault) -> Error {
    Error::Image { source }
}
