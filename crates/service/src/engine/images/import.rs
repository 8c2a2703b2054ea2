//! How images come here in an archive.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

use oci_spec::image::{
    ConfigBuilder, ImageConfiguration, ImageConfigurationBuilder, RootFsBuilder,
};
use tare_specgen::ImageDefaults;
use tare_storage::{
    Archive, Digest, Format, Hold, ImportOptions, ImportedImage, Imports, Layer, Platform, Store,
};

use super::transfer::{Cancelable, JobWatch, is_regular};
use super::{Engine, Error, Stored};
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::engine::Pending;
use crate::engine::blocking::unbounded;
use crate::engine::clock::Usec;
use crate::engine::jobs::{Job, JobKind, Origin, Output, Produced};
use crate::engine::object::ObjectId;
use crate::engine::records::durable::{ImageRow, LayerRow};
use crate::engine::reference::Reference;

/// An archive of which the images are to be taken.
#[derive(Debug)]
pub struct ImportImage {
    /// A tar, plain or compressed.
    pub archive: File,
    /// What is in it.
    pub format: Format,
    /// What the images are to run on; what this host is, if nothing is said.
    pub platform: Option<Platform>,
    /// The name to give, in place of those in the archive.
    pub reference: Option<Reference>,
    /// What an image that is made of a root file system says about running it.
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
    /// Begins to import images.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if there can be no job.
    pub fn import_image(&self, request: Authorized<ImportImage>) -> Result<Pending, Error> {
        let (request, by) = request.into_parts();
        let engine = self.clone();
        self.pending(JobKind::ImportImage, None, Origin::Caller(&by), move |job| async move {
            let imported = engine.import(request, job).await;
            if imported.is_err() {
                engine.tidy_up().await;
            }
            imported
        })
    }

    async fn import(&self, request: ImportImage, job: Arc<Job>) -> Result<Output, Error> {
        // What a container would refuse is refused before anything is stored.
        ImageDefaults::parse(&image_config(&Digest::of(b""), &request.config)?)
            .map_err(Error::InvalidSpec)?;
        job.stage("unpacking");
        let hold = self.store.hold();
        let (store, watching) = (self.store.clone(), job.clone());
        // The hold is dropped when what it holds is written down, or is not wanted.
        let (images, _hold) = unbounded("import", move || {
            let images = store_images(&store, request, &hold, &watching)?;
            Ok((images, hold))
        })
        .await?;
        job.point_of_no_return()?;
        job.stage("registering");
        let ids = self.register(images).await?;
        let images = ids.into_iter().map(ObjectId::Image).collect();
        Ok(Output(vec![("Images", Produced::Objects(images))]))
    }
}

/// Takes the images of an archive into the store.
fn store_images(
    store: &Store,
    request: ImportImage,
    hold: &Hold,
    job: &Job,
) -> Result<Vec<Stored>, Error> {
    let ImportImage { archive, format, platform, reference, config } = request;
    let mut options = ImportOptions::new().with_format(format);
    if let Some(platform) = platform {
        options = options.with_platform(platform);
    }
    match take_in(store, archive, &options, hold, job)? {
        Imports::Rootfs(layer) => {
            let references = reference.iter().map(ToString::to_string).collect();
            Ok(vec![of_rootfs(store, &layer, &config, references)?])
        }
        Imports::Images(_) if config != RootfsConfig::default() => Err(Error::NotForImages),
        Imports::Images(images) if reference.is_some() && images.len() > 1 => {
            Err(Error::SeveralImages(images.len()))
        }
        Imports::Images(images) => {
            images.into_iter().map(|image| of_archive(image, reference.as_ref(), job)).collect()
        }
        _ => Err(Error::Bug("an archive of an unknown kind".into())),
    }
}

fn take_in(
    store: &Store,
    archive: File,
    options: &ImportOptions,
    hold: &Hold,
    job: &Job,
) -> Result<Imports, Error> {
    let (watch, unreadable) = (JobWatch::new(job), Cell::new(false));
    let imported = if is_regular(&archive) {
        store.import(Archive::File(archive.as_fd()), options, hold, &watch)
    } else {
        let mut archive = Cancelable::new(archive, job, &unreadable)?;
        store.import(Archive::Stream(&mut archive), options, hold, &watch)
    };
    imported.map_err(|error| match error.kind() {
        _ if job.is_canceled() => Error::Canceled,
        _ if unreadable.get() => Error::InvalidArchive(Box::new(error)),
        tare_storage::ErrorKind::InvalidInput => Error::InvalidArchive(Box::new(error)),
        _ => Error::Storage(error),
    })
}

/// An image as it came, to be written down.
fn of_archive(
    image: ImportedImage,
    reference: Option<&Reference>,
    job: &Job,
) -> Result<Stored, Error> {
    ImageDefaults::parse(&image.config).map_err(|error| Error::InvalidArchive(Box::new(error)))?;
    super::read_config(&image.config)?;
    let references = match reference {
        Some(reference) => vec![reference.to_string()],
        None => image.names.iter().filter_map(|name| name_of(name, job)).collect(),
    };
    let not_layers = [image.id, image.manifest];
    let row = ImageRow {
        id: image.id,
        pulled: Usec::now(),
        layers: image.layers.iter().map(layer_row).collect(),
        references,
        manifests: vec![image.manifest],
        layer_blobs: image.blobs.into_iter().filter(|blob| !not_layers.contains(blob)).collect(),
    };
    Ok(Stored { row, config: image.config })
}

/// A name out of an archive; one that no image here can have is left out, which is said.
fn name_of(name: &str, job: &Job) -> Option<String> {
    match name.parse::<Reference>().and_then(Reference::for_tag) {
        Ok(reference) => Some(reference.to_string()),
        Err(error) => {
            job.log(4, format!("a name in the archive is left out: {}", error.chain()));
            None
        }
    }
}

/// Makes an image of a layer.
fn of_rootfs(
    store: &Store,
    layer: &Layer,
    config: &RootfsConfig,
    references: Vec<String>,
) -> Result<Stored, Error> {
    let config = image_config(&layer.diff_id, config)?;
    let row = ImageRow {
        id: store.put_blob(&config).map_err(Error::Storage)?,
        pulled: Usec::now(),
        layers: vec![layer_row(layer)],
        references,
        manifests: Vec::new(),
        layer_blobs: Vec::new(),
    };
    Ok(Stored { row, config })
}

pub(super) fn layer_row(layer: &Layer) -> LayerRow {
    LayerRow { chain_id: layer.chain_id, size: layer.size }
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
