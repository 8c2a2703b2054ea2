//! Images out of the store, as one archive.

mod docker;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde_json::json;

use super::write::{self, MANIFEST_TYPE};
use super::{Descriptor, MAX_CONFIG, MAX_MANIFEST, Manifest, blob_name};
use crate::digest::Digest;
use crate::error::{Error, Failure};
use crate::store::Store;
use crate::unpack::{CHUNK, Watch};

/// An image to be exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedImage {
    /// The digest of its manifest.
    pub manifest: Digest,
    /// The name it has in the archive; of several images each needs one.
    pub name: Option<String>,
}

impl Store {
    /// Makes an image of a configuration and layers that are in the store: stores the configuration
    /// and a manifest, and returns their digests, of which the first is the image's id.
    ///
    /// # Errors
    ///
    /// [`Error::Image`] for what [`import`](Self::import) would refuse, or [`Error::PutBlob`].
    pub fn put_image(
        &self,
        config: &[u8],
        layers: &[Descriptor],
    ) -> Result<(Digest, Digest), Error> {
        let image = |source| Error::Image { source };
        let facts = super::ImageFacts::parse(config).map_err(image)?;
        let counts = (layers.len(), facts.diff_ids.len());
        if counts.0 != counts.1 {
            let (manifest, config) = counts;
            return Err(image(crate::error::ImageFault::LayersDiffer { manifest, config }));
        }
        let id = self.put_blob(config)?;
        let config = Descriptor {
            digest: id,
            size: config.len() as u64,
            media_type: write::CONFIG_TYPE.into(),
        };
        let manifest = self.put_blob(&write::manifest(&config, layers)?)?;
        Ok((id, manifest))
    }

    /// Writes images as an archive of the OCI (`oci-archive` of skopeo and podman). Every blob is
    /// checked again and written once. An image that came with a manifest of docker's gets one of the OCI
    /// there, and keeps its id. `watch` is told of the bytes of the blobs.
    ///
    /// # Errors
    ///
    /// [`Error::NoBlob`] if a layer was not kept (see [`pack_layer`](Self::pack_layer)),
    /// [`Error::BlobDamaged`], [`Error::GetBlob`], [`Error::Image`], [`Error::Cancelled`], or
    /// [`Error::WriteArchive`]; what was written until then is no archive.
    pub fn export_images(
        &self,
        images: &[ExportedImage],
        out: &mut dyn Write,
        watch: &dyn Watch,
    ) -> Result<(), Error> {
        let plan = self.plan_export(images)?;
        watch.expect(plan.blobs.iter().map(|blob| blob.size).sum());
        let mut export = Export { store: self, out, watch, done: 0 };
        export.small("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        export.small("index.json", &plan.index)?;
        for (digest, manifest) in &plan.made {
            export.small(&blob_name(digest), manifest)?;
        }
        for blob in &plan.blobs {
            export.blob(blob)?;
        }
        export.end()
    }

    fn plan_export(&self, images: &[ExportedImage]) -> Result<Plan, Error> {
        let mut blobs: Vec<Descriptor> = Vec::new();
        let (mut manifests, mut made) = (Vec::new(), BTreeMap::new());
        for image in images {
            let bytes = self.get_blob(&image.manifest, MAX_MANIFEST)?;
            let manifest = Manifest::parse(&bytes).map_err(|source| Error::Image { source })?;
            // Not there, or too large: better found out before anything is written.
            self.get_blob(&manifest.config.digest, MAX_CONFIG)?;
            let mut own = Descriptor {
                digest: image.manifest,
                size: bytes.len() as u64,
                media_type: MANIFEST_TYPE.into(),
            };
            let is_known = |part: &Descriptor| write::renamed(part) == *part;
            let is_of_oci = is_known(&manifest.config) && manifest.layers.iter().all(is_known);
            if !is_of_oci {
                let bytes = write::manifest(&manifest.config, &manifest.layers)?;
                (own.digest, own.size) = (Digest::of(&bytes), bytes.len() as u64);
                made.insert(own.digest, bytes);
            }
            let mut entry = write::descriptor(&own);
            if let Some(name) = &image.name {
                entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
            }
            manifests.push(entry);
            let own = is_of_oci.then_some(own);
            for blob in own.into_iter().chain([manifest.config]).chain(manifest.layers) {
                let size = self.blob_size(&blob.digest)?;
                let size = size.ok_or(Error::NoBlob { digest: blob.digest })?;
                if blobs.iter().all(|known| known.digest != blob.digest) {
                    blobs.push(Descriptor { size, ..blob });
                }
            }
        }
        let index = write::encode(&json!({ "schemaVersion": 2, "manifests": manifests }))?;
        Ok(Plan { index, made, blobs })
    }
}

struct Plan {
    index: Vec<u8>,
    /// Manifests that are in no store, by their digests.
    made: BTreeMap<Digest, Vec<u8>>,
    blobs: Vec<Descriptor>,
}

struct Export<'a> {
    store: &'a Store,
    out: &'a mut dyn Write,
    watch: &'a dyn Watch,
    done: u64,
}

impl Export<'_> {
    fn small(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.header(name, bytes.len() as u64)?;
        self.write(bytes)?;
        self.pad(bytes.len() as u64)
    }

    fn blob(&mut self, blob: &Descriptor) -> Result<(), Error> {
        use sha2::{Digest as _, Sha256};
        let digest = blob.digest;
        let mut file = self.store.open_blob(&digest)?;
        self.header(&blob_name(&digest), blob.size)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; CHUNK];
        let mut left = blob.size;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let read = file
                .read(&mut buffer[..wanted])
                .map_err(|error| Error::GetBlob { digest, source: Failure::new(&"read", error) })?;
            if read == 0 {
                return Err(Error::BlobDamaged { digest });
            }
            hasher.update(&buffer[..read]);
            self.write(&buffer[..read])?;
            left -= read as u64;
            self.done += read as u64;
            if self.watch.progress(self.done).is_break() {
                return Err(Error::Cancelled);
            }
        }
        if Digest::finish(hasher) != digest {
            return Err(Error::BlobDamaged { digest });
        }
        self.pad(blob.size)
    }

    fn header(&mut self, name: &str, size: u64) -> Result<(), Error> {
        let mut header = tar::Header::new_gnu();
        let set = header.set_path(name);
        set.map_err(|source| Error::WriteArchive { source })?;
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        // The same images make the same archive.
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.write(header.as_bytes())
    }

    fn pad(&mut self, size: u64) -> Result<(), Error> {
        let over = usize::try_from(size % 512).unwrap_or(0);
        self.write(&[0; 512][..(512 - over) % 512])
    }

    fn end(&mut self) -> Result<(), Error> {
        self.write(&[0; 1024])?;
        self.out.flush().map_err(write_error)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(write_error)
    }
}

fn write_error(source: io::Error) -> Error {
    Error::WriteArchive { source }
}
