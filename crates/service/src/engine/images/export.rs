//! Images out of here, as one archive.

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use serde_json::Value;
use tare_storage::{ChainId, Compression, Descriptor, Digest, ExportedImage, Hold, Store};

use super::transfer::{Cancelable, JobWatch, is_regular};
use super::{Engine, Error, Image, MAX_CONFIG};
use crate::authority::{Action, Ask, Authorized, Caller, Question};
use crate::engine::Pending;
use crate::engine::blocking::unbounded;
use crate::engine::jobs::{Job, JobKind, Origin, Output};

/// Images to be written as one archive.
#[derive(Debug)]
pub struct ExportImages {
    /// References or digests.
    pub names: Vec<String>,
    /// Where to.
    pub archive: File,
    /// As what.
    pub format: ArchiveFormat,
    /// How layers are compressed that are not there as they came.
    pub compression: Compression,
}

/// What an archive of images is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// An image layout of the OCI.
    Oci,
    /// What `docker save` writes; a name in it has a tag, and no digest.
    Docker,
}

impl Ask for ExportImages {
    fn question(&self, _: &Caller) -> Question {
        let names = self.names.join(", ");
        Question::new(Action::ExportImages).with("image", names).with("verb", "export")
    }
}

/// An image that goes out.
struct Outgoing {
    image: Arc<Image>,
    /// What it is called in the archive.
    name: Option<String>,
}

impl Engine {
    /// Begins to write images as an archive.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchImage`], [`Error::InvalidReference`], [`Error::Host`].
    pub fn export_images(&self, request: Authorized<ExportImages>) -> Result<Pending, Error> {
        let (ExportImages { names, archive, format, compression }, by) = request.into_parts();
        let outgoing: Vec<Outgoing> =
            names.iter().map(|name| self.outgoing(name, format)).collect::<Result<_, _>>()?;
        let (engine, store) = (self.clone(), self.store.clone());
        // Held from now on, so that nobody removes what is being written.
        let hold = store.hold();
        self.pending(JobKind::ExportImages, None, Origin::Caller(&by), move |job| async move {
            let exported = unbounded("export", move || {
                export(&store, &outgoing, archive, (format, compression), hold, &job)
            })
            .await;
            // What was packed for it is of no image.
            engine.tidy_up().await;
            exported.map(|()| Output::default())
        })
    }

    /// An image by the name it is asked for; by a digest, it goes by the first it has.
    fn outgoing(&self, name: &str, format: ArchiveFormat) -> Result<Outgoing, Error> {
        let image = self.images.find(name)?;
        let name = match name.parse::<super::Reference>() {
            Ok(reference) if name.parse::<Digest>().is_err() => Some(reference.to_string()),
            _ => image.seen.get().references.first().cloned(),
        };
        let name = name.filter(|name| format == ArchiveFormat::Oci || !name.contains('@'));
        Ok(Outgoing { image, name })
    }
}

fn export(
    store: &Store,
    outgoing: &[Outgoing],
    archive: File,
    (format, compression): (ArchiveFormat, Compression),
    _hold: Hold,
    job: &Job,
) -> Result<(), Error> {
    job.stage("packing");
    let exported = outgoing.iter().map(|one| {
        let manifest = manifest_to_send(store, &one.image, compression, job)?;
        Ok(ExportedImage { manifest, name: one.name.clone() })
    });
    let exported: Vec<_> = exported.collect::<Result<_, Error>>()?;
    job.stage("writing");
    let (watch, failed) = (JobWatch::new(job), Cell::new(false));
    let mut out: Box<dyn Write> = if is_regular(&archive) {
        Box::new(archive)
    } else {
        Box::new(Cancelable::new(archive, job, &failed)?)
    };
    let exported = match format {
        ArchiveFormat::Oci => store.export_images(&exported, &mut out, &watch),
        ArchiveFormat::Docker => store.export_for_docker(&exported, &mut out, &watch),
    };
    exported.map_err(|error| failure(error, job))
}

/// The manifest of an image whose blobs are all here; they are made if they are not. Only with what is in
/// the store held.
pub(super) fn manifest_to_send(
    store: &Store,
    image: &Image,
    compression: Compression,
    job: &Job,
) -> Result<Digest, Error> {
    match image.seen.get().digests.first() {
        Some(manifest) if is_whole(store, image, manifest)? => Ok(*manifest),
        _ => pack(store, image, compression, job),
    }
}

/// Whether all blobs of an image are here as they came.
fn is_whole(store: &Store, image: &Image, manifest: &Digest) -> Result<bool, Error> {
    let bytes = store.get_blob(manifest, tare_storage::MAX_MANIFEST)?;
    let manifest = tare_storage::Manifest::parse(&bytes)
        .map_err(|fault| Error::InvalidArchive(Box::new(fault)))?;
    debug_assert_eq!(manifest.config.digest, image.id);
    for layer in &manifest.layers {
        if !store.has_blob(&layer.digest)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes a manifest for an image whose layers did not come as archives, or were not kept. They are
/// packed anew, so its configuration, and with that its id, is another one there.
fn pack(
    store: &Store,
    image: &Image,
    compression: Compression,
    job: &Job,
) -> Result<Digest, Error> {
    let watch = JobWatch::new(job);
    let pack = |layer: &ChainId| store.pack_layer(layer, compression, &watch);
    let packed: Vec<(Descriptor, Digest)> =
        image.layers.iter().map(pack).collect::<Result<_, _>>().map_err(|e| failure(e, job))?;
    let config = store.get_blob(&image.id, MAX_CONFIG)?;
    let (layers, diff_ids): (Vec<_>, Vec<_>) = packed.into_iter().unzip();
    let config = with_diff_ids(&config, &diff_ids)?;
    Ok(store.put_image(&config, &layers)?.1)
}

/// A configuration that names these layers, and says all else as before.
fn with_diff_ids(config: &[u8], diff_ids: &[Digest]) -> Result<Vec<u8>, Error> {
    let invalid = |error| Error::InvalidArchive(Box::new(error));
    let mut config: Value = serde_json::from_slice(config).map_err(invalid)?;
    let texts: Vec<_> = diff_ids.iter().map(ToString::to_string).collect();
    config["rootfs"] = serde_json::json!({ "type": "layers", "diff_ids": texts });
    serde_json::to_vec(&config).map_err(invalid)
}

fn failure(error: tare_storage::Error, job: &Job) -> Error {
    match error {
        _ if job.is_canceled() => Error::Canceled,
        tare_storage::Error::WriteArchive { source } => Error::WriteArchive(source),
        other => Error::Storage(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_keeps_all_but_its_layers() {
        let config = br#"{"os":"linux","x":[1],"rootfs":{"type":"layers","diff_ids":["a","b"]}}"#;
        let digest = Digest::of(b"layer");
        let changed: Value =
            serde_json::from_slice(&with_diff_ids(config, &[digest]).unwrap()).unwrap();
        assert_eq!((&changed["os"], &changed["x"][0]), (&"linux".into(), &1.into()));
        assert_eq!(changed["rootfs"]["diff_ids"], serde_json::json!([digest.to_string()]));
        assert!(with_diff_ids(b"{", &[]).is_err());
    }
}
