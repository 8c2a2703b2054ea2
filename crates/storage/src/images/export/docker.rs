//! Archives as `docker save` writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read as _};
use std::ops::ControlFlow;

use serde_json::json;

use super::{Export, ExportedImage};
use crate::digest::Digest;
use crate::error::{Error, Failure, ImageFault};
use crate::images::docker::MANIFEST;
use crate::images::{ImageFacts, MAX_CONFIG, MAX_MANIFEST, Manifest, write};
use crate::store::Store;
use crate::unpack::{CHUNK, Gauge, Limits, Plain, Watch};

/// What is to be written; configurations are read again then, for they may be many and large.
#[derive(Default)]
struct Plan {
    items: Vec<Item>,
    layers: BTreeMap<Digest, Layer>,
}

/// An image.
struct Item {
    config: Digest,
    /// In the order of the alphabet, each once.
    names: BTreeSet<String>,
    diff_ids: Vec<Digest>,
}

/// A layer, by the digest of its uncompressed archive.
struct Layer {
    blob: Digest,
    /// Bytes it has uncompressed.
    size: u64,
}

impl Store {
    /// Writes images as docker does (`docker-archive` of skopeo and podman). An image keeps its id;
    /// one that is named several times is there once, with all its names.
    ///
    /// Layers are written as they are without their compression, since not every reader of such
    /// archives expects one. Each is read twice: its size comes before it.
    ///
    /// `watch` is told of the bytes of the layers.
    ///
    /// # Errors
    ///
    /// As [`export_images`](Self::export_images).
    pub fn export_for_docker(
        &self,
        images: &[ExportedImage],
        out: &mut dyn std::io::Write,
        watch: &dyn Watch,
    ) -> Result<(), Error> {
        let mut plan = Plan::default();
        for image in images {
            plan.add(self, image, watch)?;
        }
        watch.expect(plan.layers.values().map(|layer| layer.size).sum());
        let mut export = Export { store: self, out, watch, done: 0 };
        // First, so that who reads from a pipe knows at once what comes.
        export.small(MANIFEST, &plan.manifest()?)?;
        for item in &plan.items {
            let config = self.get_blob(&item.config, MAX_CONFIG)?;
            export.small(&config_name(&item.config), &config)?;
        }
        for (diff_id, layer) in &plan.layers {
            export.layer(diff_id, layer)?;
        }
        export.end()
    }
}

impl Plan {
    fn add(
        &mut self,
        store: &Store,
        image: &ExportedImage,
        watch: &dyn Watch,
    ) -> Result<(), Error> {
        let fault = |source| Error::Image { source };
        let bytes = store.get_blob(&image.manifest, MAX_MANIFEST)?;
        let manifest = Manifest::parse(&bytes).map_err(fault)?;
        let config = manifest.config.digest;
        if let Some(item) = self.items.iter_mut().find(|item| item.config == config) {
            item.names.extend(image.name.clone());
            return Ok(());
        }
        let facts = ImageFacts::parse(&store.get_blob(&config, MAX_CONFIG)?).map_err(fault)?;
        let diff_ids = facts.diff_ids;
        if manifest.layers.len() != diff_ids.len() {
            let (manifest, config) = (manifest.layers.len(), diff_ids.len());
            return Err(fault(ImageFault::LayersDiffer { manifest, config }));
        }
        for (layer, diff_id) in manifest.layers.iter().zip(&diff_ids) {
            if !self.layers.contains_key(diff_id) {
                let blob = layer.digest;
                let size = measure(store, &blob, diff_id, watch)?;
                self.layers.insert(*diff_id, Layer { blob, size });
            }
        }
        let names = image.name.clone().into_iter().collect();
        self.items.push(Item { config, names, diff_ids });
        Ok(())
    }

    /// `manifest.json`.
    fn manifest(&self) -> Result<Vec<u8>, Error> {
        let item = |item: &Item| {
            json!({
                "Config": config_name(&item.config),
                "RepoTags": item.names,
                "Layers": item.diff_ids.iter().map(layer_name).collect::<Vec<_>>(),
            })
        };
        write::encode(&self.items.iter().map(item).collect::<Vec<_>>().into())
    }
}

impl Export<'_> {
    fn layer(&mut self, diff_id: &Digest, layer: &Layer) -> Result<(), Error> {
        self.header(&layer_name(diff_id), layer.size)?;
        let (store, watch) = (self.store, self.watch);
        // It is bytes that were written which count here.
        let unwatched = |_| ControlFlow::Continue(());
        read_plain(store, &layer.blob, diff_id, &unwatched, &mut |bytes| {
            self.write(bytes)?;
            self.done += bytes.len() as u64;
            if watch.progress(self.done).is_break() { Err(Error::Cancelled) } else { Ok(()) }
        })?;
        self.pad(layer.size)
    }
}

/// The names that podman gives them: each reader takes what `manifest.json` says.
fn config_name(id: &Digest) -> String {
    format!("{}.json", id.hex())
}

fn layer_name(diff_id: &Digest) -> String {
    format!("{}.tar", diff_id.hex())
}

/// Bytes a layer has uncompressed; it is checked, too.
fn measure(
    store: &Store,
    blob: &Digest,
    diff_id: &Digest,
    watch: &dyn Watch,
) -> Result<u64, Error> {
    let mut size = 0;
    let standing = |_| watch.progress(0);
    read_plain(store, blob, diff_id, &standing, &mut |bytes| {
        size += bytes.len() as u64;
        Ok(())
    })?;
    Ok(size)
}

/// Hands on what a layer is without its compression; an error at the end if it is not that any more.
fn read_plain(
    store: &Store,
    blob: &Digest,
    diff_id: &Digest,
    watch: &dyn Watch,
    each: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let digest = *blob;
    // What it may cost was asked when it came.
    let limits = Limits::default().with_bytes(u64::MAX).with_ratio(u64::MAX);
    let gauge = Gauge::new(&limits, watch);
    let mut file = store.open_blob(blob)?;
    let unreadable = |error| match error {
        Error::Malformed { .. } => Error::BlobDamaged { digest },
        Error::ReadArchive { source } => {
            Error::GetBlob { digest, source: Failure::new(&"read", source) }
        }
        other => other,
    };
    let mut plain = Plain::open(&mut file, &gauge).map_err(unreadable)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match plain.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => each(&buffer[..read])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(gauge.explain(error))),
        }
    }
    if plain.digest() == *diff_id { Ok(()) } else { Err(Error::BlobDamaged { digest }) }
}
