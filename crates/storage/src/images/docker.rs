//! `manifest.json` of the archives that `docker save` and `podman save` write.

use serde::Deserialize;

use super::documents::invalid;
use super::import::{LayerSource, Plan};
use super::{ImageFacts, MAX_CONFIG, MAX_MANIFEST, Source};
use crate::error::{Error, ImageFault};
use crate::unpack::EntryPath;

pub(super) const MANIFEST: &str = "manifest.json";

#[derive(Deserialize)]
struct Item {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags")]
    names: Option<Vec<String>>,
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

/// What is to be imported: all images of the archive.
pub(super) fn plan(source: &dyn Source) -> Result<Vec<Plan>, Error> {
    let document = "manifest.json";
    let bytes = source.read(MANIFEST, document, MAX_MANIFEST)?;
    let items: Vec<Item> = serde_json::from_slice(&bytes)
        .map_err(|error| Error::Image { source: invalid(document)(error) })?;
    items.into_iter().map(|item| plan_one(source, item)).collect()
}

fn plan_one(source: &dyn Source, item: Item) -> Result<Plan, Error> {
    let image = |source| Error::Image { source };
    let config = source.read(&member(&item.config)?, "configuration", MAX_CONFIG)?;
    let facts = ImageFacts::parse(&config).map_err(image)?;
    let (manifest, config_layers) = (item.layers.len(), facts.diff_ids.len());
    if manifest != config_layers {
        return Err(image(ImageFault::LayersDiffer { manifest, config: config_layers }));
    }
    let layers = item.layers.iter().map(|name| Ok(LayerSource { name: member(name)?, blob: None }));
    let layers = layers.collect::<Result<_, Error>>()?;
    Ok(Plan { names: item.names.unwrap_or_default(), config, facts, manifest: None, layers })
}

/// The name of a member in the form in which members are found.
fn member(name: &str) -> Result<String, Error> {
    let path = EntryPath::parse(name.as_bytes());
    let path = path.map_err(|error| Error::Image { source: invalid("manifest.json")(error) })?;
    // It was text before, and only slashes and dots were dropped.
    Ok(String::from_utf8_lossy(path.as_bytes()).into_owned())
}
