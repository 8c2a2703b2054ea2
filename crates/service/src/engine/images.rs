//! Images: what is here, and how a root file system comes here.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError, RwLock};

use oci_spec::image::{
    ConfigBuilder, ImageConfiguration, ImageConfigurationBuilder, RootFsBuilder,
};
use rustix::event::{PollFd, PollFlags, poll};
use tare_specgen::ImageDefaults;
use tare_storage::{ChainId, Collected, Digest, Layer, Limits, Store, Watch};

use super::blocking::{brief, unbounded};
use super::clock::Usec;
use super::jobs::{Job, JobKind, Origin, Output, Produced};
use super::object::{ObjectId, Visible};
use super::records::durable::{self, ImageRow};
use super::reference::Reference;
use super::{Engine, Error, Pending, view};
use crate::authority::{Action, Ask, Authorized, Caller, Question};

/// An image configuration larger than this is refused; real ones have a few KiB.
const MAX_CONFIG: usize = tare_specgen::MAX_IMAGE_CONFIG;

/// An image.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) id: Digest,
    /// Base first.
    pub(super) layers: Vec<ChainId>,
    pub(super) defaults: ImageDefaults,
    seen: Visible<view::Image>,
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
        let tables = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let id = if let Ok(id) = name.parse::<Digest>() {
            id
        } else {
            let reference: Reference = name.parse()?;
            tables.by_reference.get(reference.as_str()).copied().ok_or_else(missing)?
        };
        tables.by_id.get(&id).cloned().ok_or_else(missing)
    }

    /// What is seen of the image of that reference, or of that digest.
    pub(super) fn find_view(&self, name: &str) -> Result<Arc<view::Image>, Error> {
        Ok(self.find(name)?.seen.get())
    }

    /// What is seen of all of them.
    pub(super) fn views(&self) -> Vec<Arc<view::Image>> {
        let tables = self.0.read().unwrap_or_else(PoisonError::into_inner);
        tables.by_id.values().map(|image| image.seen.get()).collect()
    }

    /// Adds an image, or what is new about it; its references are no other's any more.
    fn put(&self, view: view::Image, new: impl FnOnce(view::Image) -> Image) {
        let mut tables = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for reference in &view.references {
            let before = tables.by_reference.insert(reference.clone(), view.id);
            if let Some(other) = before.filter(|other| *other != view.id)
                && let Some(other) = tables.by_id.get(&other)
            {
                other.seen.show(|view| view.references.retain(|r| r != reference));
            }
        }
        match tables.by_id.get(&view.id) {
            Some(image) => drop(image.seen.show(|seen| *seen = view)),
            None => drop(tables.by_id.insert(view.id, Arc::new(new(view)))),
        }
    }
}

/// A root file system to be made an image.
#[derive(Debug)]
pub struct ImportImage {
    /// A tar, plain or compressed.
    pub archive: File,
    /// The name to give it.
    pub reference: Option<Reference>,
    /// What the image says about running it.
    pub config: RootfsConfig,
}

/// What an image says about running it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RootfsConfig {
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments.
    pub command: Vec<String>,
    /// Environment.
    pub env: Vec<String>,
    /// Where it starts.
    pub working_dir: Option<String>,
    /// Who it is.
    pub user: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

impl Ask for ImportImage {
    fn question(&self, _: &Caller) -> Question {
        let name = self.reference.as_ref().map_or("", |r| r.as_str());
        Question::new(Action::ImportImage).with("image", name).with("verb", "import")
    }
}

impl Engine {
    /// Begins to import an image.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there can be no job.
    pub fn import_image(&self, request: Authorized<ImportImage>) -> Result<Pending, Error> {
        let (request, by) = request.into_parts();
        let engine = self.clone();
        self.pending(JobKind::ImportImage, None, Origin::Caller(&by), move |job| async move {
            engine.import(request, job).await
        })
    }

    async fn import(self, request: ImportImage, job: Arc<Job>) -> Result<Output, Error> {
        let ImportImage { archive, reference, config } = request;
        // What a container would refuse is refused before anything is stored.
        ImageDefaults::parse(&image_config(&Digest::of(b""), &config)?)
            .map_err(Error::InvalidSpec)?;
        job.stage("unpacking");
        // What this stores is kept from others who collect garbage until it is written down.
        let hold = self.store.hold();
        let imported = self.unpack_and_register(archive, reference, config, &job).await;
        drop(hold);
        if imported.is_err()
            && let Err(error) = self.collect_garbage().await
        {
            tracing::error!("left behind until the next start: {}", error.chain());
        }
        Ok(Output(vec![("Images", Produced::Objects(vec![ObjectId::Image(imported?)]))]))
    }

    async fn unpack_and_register(
        &self,
        archive: File,
        reference: Option<Reference>,
        config: RootfsConfig,
        job: &Arc<Job>,
    ) -> Result<Digest, Error> {
        let (store, watching) = (self.store.clone(), job.clone());
        let (row, config) = unbounded("import", move || {
            let layer = unpack(&store, archive, &watching)?;
            write_config(&store, &layer, &config)
        })
        .await?;
        let row =
            ImageRow { references: reference.iter().map(|r| r.as_str().into()).collect(), ..row };
        job.point_of_no_return()?;
        job.stage("registering");
        // One at a time, so that memory comes to say the same as the database.
        let _alone = self.registering.lock().await;
        let written = row.clone();
        let references = self.state.run(move |c| durable::put_image(c, &written)).await?;
        let id = row.id;
        self.add_image(ImageRow { references, ..row }, &config)?;
        Ok(id)
    }

    /// Takes away what is in the store and no image has.
    pub(super) async fn collect_garbage(&self) -> Result<(), Error> {
        let (store, state) = (self.store.clone(), self.state.clone());
        let rows = tokio::runtime::Handle::current();
        brief(move || {
            // Asked when the collection has begun: what is named until then stays.
            let Collected { layers, blobs, .. } = store.collect_garbage(|| {
                rows.block_on(state.run(durable::needed)).map_err(Error::from)
            })?;
            if !layers.is_empty() || !blobs.is_empty() {
                tracing::info!("took away {} layers and {} blobs", layers.len(), blobs.len());
            }
            Ok(())
        })
        .await
    }

    /// Reads all images that are in the database.
    pub(super) async fn load_images(&self) -> Result<(), Error> {
        for row in self.state.run(durable::images).await? {
            let config = self.store.get_blob(&row.id, MAX_CONFIG).map_err(Error::Storage);
            if let Err(error) = config.and_then(|config| self.add_image(row, &config)) {
                self.host.taint_unreadable("an image", &error);
            }
        }
        Ok(())
    }

    fn add_image(&self, row: ImageRow, config: &[u8]) -> Result<(), Error> {
        let defaults = ImageDefaults::parse(config).map_err(Error::InvalidSpec)?;
        let view = self.image_view(&row, config)?;
        self.images.put(view, |view| Image {
            id: row.id,
            layers: row.layers,
            defaults,
            seen: Visible::new(view, self.events.clone()),
        });
        Ok(())
    }

    fn image_view(&self, row: &ImageRow, config: &[u8]) -> Result<view::Image, Error> {
        let config = ImageConfiguration::from_reader(config)
            .map_err(|error| Error::InvalidArchive(Box::new(error)))?;
        let labels = config.labels_of_config().cloned().unwrap_or_default();
        Ok(view::Image {
            id: row.id,
            references: row.references.clone(),
            architecture: config.architecture().to_string(),
            os: config.os().to_string(),
            created: None,
            pulled: row.pulled,
            size: row.size,
            layers: u32::try_from(row.layers.len()).unwrap_or(u32::MAX),
            public_labels: self.public_labels(labels.iter().map(|(k, v)| (k.as_str(), v.as_str()))),
        })
    }
}

/// Shows how far an import is, and ends it when its job is canceled.
struct ImportWatch<'j> {
    job: &'j Job,
    total: u64,
}

impl Watch for ImportWatch<'_> {
    fn progress(&self, bytes: u64) -> ControlFlow<()> {
        self.job.progress(bytes, self.total);
        if self.job.is_canceled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// An archive that ends with an error when the job is canceled, however long its other end keeps
/// silent.
struct Cancelable<'j> {
    archive: File,
    cancel: Arc<OwnedFd>,
    /// Set when the archive itself cannot be read: then that is no fault of the store.
    unreadable: &'j Cell<bool>,
}

impl Read for Cancelable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut fds =
            [PollFd::new(&self.archive, PollFlags::IN), PollFd::new(&*self.cancel, PollFlags::IN)];
        poll(&mut fds, None)?;
        if !fds[1].revents().is_empty() {
            return Err(io::Error::other("canceled"));
        }
        self.archive.read(buffer).inspect_err(|_| self.unreadable.set(true))
    }
}

fn unpack(store: &Store, archive: File, job: &Job) -> Result<Layer, Error> {
    // Only a regular file knows how long it is.
    let total = archive.metadata().ok().filter(std::fs::Metadata::is_file).map_or(0, |m| m.len());
    let watch = ImportWatch { job, total };
    let unreadable = Cell::new(false);
    let cancel = job.cancel_event().ok_or_else(|| Error::Bug("an import after its end".into()))?;
    let archive = Cancelable { archive, cancel, unreadable: &unreadable };
    store.import_layer(archive, &Limits::default(), &watch).map_err(|error| match error.kind() {
        _ if job.is_canceled() => Error::Canceled,
        _ if unreadable.get() => Error::InvalidArchive(Box::new(error)),
        tare_storage::ErrorKind::InvalidInput => Error::InvalidArchive(Box::new(error)),
        _ => Error::Storage(error),
    })
}

/// Writes the configuration that makes an image of a layer.
fn write_config(
    store: &Store,
    layer: &Layer,
    config: &RootfsConfig,
) -> Result<(ImageRow, Vec<u8>), Error> {
    let bytes = image_config(&layer.diff_id, config)?;
    let id = store.put_blob(&bytes).map_err(Error::Storage)?;
    let row = ImageRow {
        id,
        pulled: Usec::now(),
        size: layer.size,
        layers: vec![layer.chain_id],
        references: Vec::new(),
    };
    Ok((row, bytes))
}

/// The configuration of an image that is one layer.
fn image_config(diff_id: &Digest, config: &RootfsConfig) -> Result<Vec<u8>, Error> {
    let built = build_config(diff_id, config).and_then(|config| config.to_string());
    built.map(String::into_bytes).map_err(|error| Error::Bug(error.to_string()))
}

fn build_config(
    diff_id: &Digest,
    config: &RootfsConfig,
) -> Result<ImageConfiguration, oci_spec::OciSpecError> {
    let mut run = ConfigBuilder::default()
        .entrypoint(config.entrypoint.clone())
        .cmd(config.command.clone())
        .env(config.env.clone())
        .labels(config.labels.clone().into_iter().collect::<HashMap<_, _>>());
    if let Some(dir) = &config.working_dir {
        run = run.working_dir(dir.clone());
    }
    if let Some(user) = &config.user {
        run = run.user(user.clone());
    }
    let rootfs =
        RootFsBuilder::default().typ("layers").diff_ids(vec![diff_id.to_string()]).build()?;
    ImageConfigurationBuilder::default()
        .architecture(oci_spec::image::Arch::default())
        .os(oci_spec::image::Os::default())
        .config(run.build()?)
        .rootfs(rootfs)
        .build()
}
