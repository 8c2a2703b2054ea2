//! What is known of an image.

use std::sync::Arc;

use oci_spec::image::ImageConfiguration;
use serde_json::{Value, json};
use tare_storage::MAX_MANIFEST;

use super::manage::called;
use super::{Engine, Error, Image, MAX_CONFIG, created};
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::engine::blocking::brief;
use crate::engine::clock::Usec;
use crate::engine::view;

/// An image of which all is to be told.
#[derive(Debug)]
pub struct InspectImage {
    /// Which.
    pub image: Arc<view::Image>,
    /// With what.
    pub with: ImageParts,
}

/// What is told of an image beside what everybody sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageParts {
    /// Its configuration, as it came.
    pub config: bool,
    /// Its manifest, as it came.
    pub manifest: bool,
}

/// An image of which it is to be told how it was made.
#[derive(Debug)]
pub struct ImageHistory {
    /// Which.
    pub image: Arc<view::Image>,
}

/// A step in the making of an image, as the image says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryEntry {
    /// When.
    pub created: Option<Usec>,
    /// By which command.
    pub created_by: String,
    /// Bytes of content in its layer.
    pub size: u64,
    /// Whether it made no layer.
    pub empty: bool,
    /// What was said about it.
    pub comment: String,
}

fn inspect(image: &view::Image, verb: &str) -> Question {
    Question::new(Action::InspectImages).with("image", called(image)).with("verb", verb)
}

impl Ask for InspectImage {
    fn question(&self, _: &Caller) -> Question {
        inspect(&self.image, "inspect")
    }
}

impl Ask for ImageHistory {
    fn question(&self, _: &Caller) -> Question {
        inspect(&self.image, "history")
    }
}

impl Engine {
    /// All about an image, as JSON.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchImage`], [`Error::Storage`].
    pub async fn inspect_image(&self, request: Authorized<InspectImage>) -> Result<String, Error> {
        let (InspectImage { image, with }, _) = request.into_parts();
        let image = self.image(&image.id)?;
        let (bytes, config) = self.image_config(&image).await?;
        let mut document = summary(&image, &config);
        if with.config {
            document["Config"] = parsed(&bytes)?;
        }
        if with.manifest {
            document["Manifest"] = self.manifest_of(&image).await?;
        }
        Ok(document.to_string())
    }

    /// How an image was made, the base first.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchImage`], [`Error::Storage`].
    pub async fn image_history(
        &self,
        request: Authorized<ImageHistory>,
    ) -> Result<Vec<HistoryEntry>, Error> {
        let (ImageHistory { image }, _) = request.into_parts();
        let image = self.image(&image.id)?;
        let (_, config) = self.image_config(&image).await?;
        Ok(history(&config, &image.sizes))
    }

    pub(super) async fn image_config(
        &self,
        image: &Image,
    ) -> Result<(Vec<u8>, ImageConfiguration), Error> {
        let (store, id) = (self.store.clone(), image.id);
        brief(move || {
            let bytes = store.get_blob(&id, MAX_CONFIG).map_err(Error::Storage)?;
            let config = super::read_config(&bytes)?;
            Ok((bytes, config))
        })
        .await
    }

    /// The manifest that came last; `null` for an image that was made here.
    async fn manifest_of(&self, image: &Image) -> Result<Value, Error> {
        let Some(digest) = image.seen.get().digests.first().copied() else {
            return Ok(Value::Null);
        };
        let store = self.store.clone();
        brief(move || parsed(&store.get_blob(&digest, MAX_MANIFEST).map_err(Error::Storage)?)).await
    }
}

fn summary(image: &Image, config: &ImageConfiguration) -> Value {
    let seen = image.seen.get();
    let diff_ids = config.rootfs().diff_ids().iter();
    let layers: Vec<_> = diff_ids
        .zip(&image.sizes)
        .map(|(diff_id, size)| json!({ "DiffId": diff_id, "Size": size }))
        .collect();
    json!({
        "v": 1,
        "Id": seen.id.to_string(),
        "Digests": seen.digests.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "References": seen.references,
        "Architecture": seen.architecture,
        "OS": seen.os,
        "Variant": seen.variant,
        "CreatedTimestamp": seen.created.unwrap_or_default().0,
        "PulledTimestamp": seen.pulled.0,
        "Size": seen.size,
        "Layers": layers,
        "Labels": config.labels_of_config().cloned().unwrap_or_default(),
    })
}

fn parsed(bytes: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::InvalidArchive(Box::new(error)))
}

/// The history that an image tells, which need not fit its layers; one of its layers if it tells none.
fn history(config: &ImageConfiguration, sizes: &[u64]) -> Vec<HistoryEntry> {
    let mut sizes = sizes.iter().copied();
    let told = config.history().iter().flatten().map(|entry| {
        let empty = entry.empty_layer().unwrap_or_default();
        HistoryEntry {
            created: entry.created().as_deref().and_then(created::parse),
            created_by: entry.created_by().clone().unwrap_or_default(),
            size: if empty { 0 } else { sizes.next().unwrap_or_default() },
            empty,
            comment: entry.comment().clone().unwrap_or_default(),
        }
    });
    let mut all: Vec<_> = told.collect();
    // Layers that the image is silent about are there all the same.
    all.extend(sizes.map(|size| HistoryEntry { size, ..HistoryEntry::default() }));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_has_all_layers_whatever_the_image_says() {
        let config = |history: Value| {
            let document = json!({
                "architecture": "amd64", "os": "linux",
                "rootfs": { "type": "layers", "diff_ids": [] },
                "history": history,
            });
            ImageConfiguration::from_reader(document.to_string().as_bytes()).unwrap()
        };
        let sizes = |history: Value, layers: &[u64]| -> Vec<_> {
            let entries = super::history(&config(history), layers);
            entries.iter().map(|entry| (entry.size, entry.empty)).collect()
        };
        let told = json!([{"created_by": "a"}, {"empty_layer": true}, {"created_by": "b"}]);
        assert_eq!(sizes(told.clone(), &[1, 2]), [(1, false), (0, true), (2, false)]);
        assert_eq!(sizes(told.clone(), &[1]), [(1, false), (0, true), (0, false)]);
        assert_eq!(sizes(told, &[1, 2, 3]).last(), Some(&(3, false)));
        assert_eq!(sizes(json!([]), &[4]), [(4, false)]);
    }
}
