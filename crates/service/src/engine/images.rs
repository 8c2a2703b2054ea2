//! Images: what is here, and what is done with it.

mod access;
pub(super) mod created;
mod describe;
mod export;
mod find;
mod import;
mod manage;
mod open;
mod prune;
mod pull;
mod push;
pub(super) mod transfer;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use oci_spec::image::ImageConfiguration;
use tare_runtime::ContainerId;
use tare_specgen::ImageDefaults;
use tare_storage::{ChainId, Digest};

use super::clock::Usec;
use super::object::Visible;
use super::records::durable::{self, ImageRow, LayerRow};
use super::reference::Reference;
use super::{Engine, Error, Inner, view};

pub use describe::{HistoryEntry, ImageHistory, ImageParts, InspectImage};
pub use export::{ArchiveFormat, ExportImages};
pub use import::{ImportImage, RootfsConfig};
pub use manage::{Names, RemoveImage, TagImage, UntagImage, Users};
pub use open::OpenImageRoot;
pub use prune::{Prune, Pruned};
pub use pull::{PullImage, PullWhen};
pub use push::PushImage;

/// An image configuration larger than this is refused; real ones have a few KiB.
const MAX_CONFIG: usize = tare_specgen::MAX_IMAGE_CONFIG;

/// An image.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) id: Digest,
    /// Base first.
    pub(super) layers: Vec<ChainId>,
    pub(super) defaults: ImageDefaults,
    /// Bytes of content of each layer.
    sizes: Vec<u64>,
    /// What is seen of it.
    pub(super) seen: Visible<view::Image>,
}

/// All images, by id and by reference.
#[derive(Debug, Default)]
pub(super) struct Images(RwLock<Tables>);

#[derive(Debug, Default)]
struct Tables {
    by_id: BTreeMap<Digest, Arc<Image>>,
    by_reference: HashMap<String, Digest>,
}

impl Images {
    /// The image of that reference, or of that digest.
    pub(super) fn find(&self, name: &str) -> Result<Arc<Image>, Error> {
        let missing = || Error::NoSuchImage(super::table::shortened(name));
        let tables = self.read();
        let id = if let Ok(id) = name.parse::<Digest>() {
            id
        } else {
            let reference: Reference = name.parse()?;
            tables.by_reference.get(reference.as_str()).copied().ok_or_else(missing)?
        };
        tables.by_id.get(&id).cloned().ok_or_else(missing)
    }

    /// The image of that id.
    pub(super) fn get(&self, id: &Digest) -> Option<Arc<Image>> {
        self.read().by_id.get(id).cloned()
    }

    /// All of them.
    fn all(&self) -> Vec<Arc<Image>> {
        self.read().by_id.values().cloned().collect()
    }

    /// What is seen of the image of that reference, or of that digest.
    pub(super) fn find_view(&self, name: &str) -> Result<Arc<view::Image>, Error> {
        Ok(self.find(name)?.seen.get())
    }

    /// What is seen of all of them.
    pub(super) fn views(&self) -> Vec<Arc<view::Image>> {
        self.read().by_id.values().map(|image| image.seen.get()).collect()
    }

    /// A container needs an image from now on.
    pub(super) fn join(&self, id: &Digest, container: &ContainerId) {
        if let Some(image) = self.get(id) {
            image.seen.show(|view| {
                view.containers.push(container.clone());
                view.containers.sort();
            });
        }
    }

    /// A container that needed an image is gone.
    pub(super) fn leave(&self, id: &Digest, container: &ContainerId) {
        if let Some(image) = self.get(id) {
            image.seen.show(|view| view.containers.retain(|other| other != container));
        }
    }

    /// Bytes that only this image has unpacked.
    fn unique_size(&self, id: &Digest) -> u64 {
        let tables = self.read();
        let Some(image) = tables.by_id.get(id) else { return 0 };
        let others = tables.by_id.values().filter(|other| other.id != *id);
        let shared: std::collections::HashSet<&ChainId> =
            others.flat_map(|other| &other.layers).collect();
        let layers = image.layers.iter().zip(&image.sizes);
        layers.filter(|(layer, _)| !shared.contains(layer)).map(|(_, size)| size).sum()
    }

    /// Adds an image, or what is new about it; its references are no other's any more.
    fn put(&self, view: view::Image, new: impl FnOnce(view::Image) -> Image) {
        let mut tables = self.write();
        for reference in &view.references {
            tables.give(reference, view.id);
        }
        match tables.by_id.get(&view.id) {
            Some(image) => drop(image.seen.show(|seen| {
                // These two are of the running daemon, not of what is written down.
                let (containers, jobs) = (seen.containers.clone(), seen.jobs.clone());
                *seen = view::Image { containers, jobs, ..view };
            })),
            None => drop(tables.by_id.insert(view.id, Arc::new(new(view)))),
        }
    }

    /// An image has a name from now on, and no other has.
    fn tag(&self, reference: &Reference, id: Digest) {
        let mut tables = self.write();
        tables.give(reference.as_str(), id);
        if let Some(image) = tables.by_id.get(&id) {
            image.seen.show(|view| {
                view.references.push(reference.to_string());
                view.references.sort();
                view.references.dedup();
            });
        }
    }

    /// No image has that name any more.
    fn untag(&self, reference: &Reference) {
        let mut tables = self.write();
        if let Some(id) = tables.by_reference.remove(reference.as_str())
            && let Some(image) = tables.by_id.get(&id)
        {
            image.seen.show(|view| view.references.retain(|name| name != reference.as_str()));
        }
    }

    /// An image is gone, with its names.
    fn remove(&self, id: &Digest) {
        let mut tables = self.write();
        tables.by_reference.retain(|_, of| of != id);
        if let Some(image) = tables.by_id.remove(id) {
            image.seen.remove();
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// A name is that of `id`; the image that had it has it no more.
    fn give(&mut self, reference: &str, id: Digest) {
        let before = self.by_reference.insert(reference.into(), id);
        if let Some(other) = before.filter(|other| *other != id)
            && let Some(other) = self.by_id.get(&other)
        {
            other.seen.show(|view| view.references.retain(|name| name != reference));
        }
    }
}

/// An image that is in the store, to be written down.
struct Stored {
    row: ImageRow,
    config: Vec<u8>,
}

impl Engine {
    /// Reads all images that are in the database.
    pub(super) async fn load_images(&self) -> Result<(), Error> {
        for row in self.state.run(durable::images).await? {
            let config = self.store.get_blob(&row.id, MAX_CONFIG).map_err(Error::Storage);
            if let Err(error) = config.and_then(|config| self.add_image(&row, &config)) {
                self.host.taint_unreadable("an image", &error);
            }
        }
        Ok(())
    }

    /// Writes images down, all or none, and shows them.
    async fn register(&self, images: Vec<Stored>) -> Result<Vec<Digest>, Error> {
        // One at a time, so that memory comes to say the same as the database.
        let _alone = self.registering.lock().await;
        let (rows, configs): (Vec<_>, Vec<_>) =
            images.into_iter().map(|image| (image.row, image.config)).unzip();
        let put = move |c: &rusqlite::Connection| {
            rows.iter().map(|row| durable::put_image(c, row)).collect::<Result<Vec<_>, _>>()
        };
        let rows = self.state.run(put).await?;
        for (row, config) in rows.iter().zip(&configs) {
            self.add_image(row, config)?;
        }
        Ok(rows.iter().map(|row| row.id).collect())
    }

    /// Writes down an image that was made here, over one that is there.
    pub(super) async fn register_made(&self, made: super::files::Made) -> Result<Digest, Error> {
        let super::files::Made { config, manifest, layer, base, references } = made;
        let below = base.layers.iter().zip(&base.sizes);
        let below = below.map(|(chain_id, size)| LayerRow { chain_id: *chain_id, size: *size });
        let (manifests, layer_blobs) = match manifest {
            Some((manifest, blobs)) => (vec![manifest], blobs),
            None => (Vec::new(), Vec::new()),
        };
        let row = ImageRow {
            id: Digest::of(&config),
            pulled: Usec::now(),
            layers: below.chain([import::layer_row(&layer)]).collect(),
            references,
            manifests,
            layer_blobs,
        };
        let ids = self.register(vec![Stored { row, config }]).await?;
        ids.into_iter().next().ok_or_else(|| Error::Bug("no image was written down".into()))
    }

    fn add_image(&self, row: &ImageRow, config: &[u8]) -> Result<(), Error> {
        let defaults = ImageDefaults::parse(config).map_err(Error::InvalidSpec)?;
        let view = self.image_view(row, config)?;
        self.images.put(view, |view| Image {
            id: row.id,
            layers: row.layers.iter().map(|layer| layer.chain_id).collect(),
            sizes: row.layers.iter().map(|layer| layer.size).collect(),
            defaults,
            seen: Visible::new(view, self.events.clone()),
        });
        Ok(())
    }

    fn image_view(&self, row: &ImageRow, config: &[u8]) -> Result<view::Image, Error> {
        let config = read_config(config)?;
        let labels = config.labels_of_config().cloned().unwrap_or_default();
        Ok(view::Image {
            id: row.id,
            digests: row.manifests.clone(),
            references: row.references.clone(),
            architecture: config.architecture().to_string(),
            os: config.os().to_string(),
            variant: config.variant().clone().unwrap_or_default(),
            created: config.created().as_deref().and_then(created::parse),
            pulled: row.pulled,
            size: row.size(),
            layers: u32::try_from(row.layers.len()).unwrap_or(u32::MAX),
            containers: Vec::new(),
            jobs: Vec::new(),
            public_labels: self.public_labels(labels.iter().map(|(k, v)| (k.as_str(), v.as_str()))),
        })
    }

    /// Takes away what no image needs; an image that is written down, or is on its way to that under
    /// a hold, loses nothing.
    pub(super) async fn collect_garbage(&self) -> Result<tare_storage::Collected, Error> {
        let (store, state) = (self.store.clone(), self.state.clone());
        let runtime = tokio::runtime::Handle::current();
        super::blocking::brief(move || {
            // Asked for by the store when nothing new can be stored unheld.
            let needed = || runtime.block_on(state.run(durable::needed)).map_err(Error::from);
            let collected = store.collect_garbage(needed)?;
            if !collected.layers.is_empty() || !collected.blobs.is_empty() {
                let (layers, blobs) = (collected.layers.len(), collected.blobs.len());
                tracing::info!("took away {layers} layers and {blobs} blobs");
            }
            Ok(collected)
        })
        .await
    }

    /// The same after something else, of which alone the caller hears how it went.
    pub(super) async fn tidy_up(&self) {
        if let Err(error) = self.collect_garbage().await {
            tracing::warn!("what no image needs stays for now: {}", error.chain());
        }
    }
}

impl Inner {
    /// Bytes that removing an image would free.
    pub fn unique_size(&self, id: &Digest) -> u64 {
        self.images.unique_size(id)
    }
}

/// Reads a configuration, which is hostile input.
fn read_config(config: &[u8]) -> Result<ImageConfiguration, Error> {
    ImageConfiguration::from_reader(config).map_err(|error| Error::InvalidArchive(Box::new(error)))
}
