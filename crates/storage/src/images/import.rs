//! Whole images out of archives and layouts.

mod layers;
mod plan;

use std::io::Read;
use std::os::fd::BorrowedFd;

use super::layout::Layout;
use super::tarball::{File, Section, Tarball, may_be_images, spool};
use super::{Bounded, ImageFacts, Platform, Source, docker};
use crate::digest::Digest;
use crate::error::{Error, Failure};
use crate::holds::Hold;
use crate::layers::Layer;
use crate::store::Store;
use crate::sys::{self, Kind};
use crate::unpack::{Gauge, Limits, Plain, Watch};

pub(super) use plan::{LayerSource, Plan};

/// Bytes of an archive that are looked at to tell what it is.
const START: usize = 4096;

/// What an image is imported from.
pub enum Archive<'a> {
    /// An archive as it comes, say out of a pipe.
    Stream(&'a mut dyn Read),
    /// An archive in a regular file, read from its start without moving its offset. What it is does
    /// not change when somebody writes into it meanwhile: that is found out by the digests.
    File(BorrowedFd<'a>),
    /// The directory of an image layout of the OCI.
    Layout(BorrowedFd<'a>),
}

impl std::fmt::Debug for Archive<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Stream(_) => "Stream",
            Self::File(_) => "File",
            Self::Layout(_) => "Layout",
        })
    }
}

/// What is in an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// It is looked at.
    #[default]
    Auto,
    /// An image layout of the OCI in a tar: `oci-archive` of skopeo and podman.
    OciArchive,
    /// What `docker save` writes: `docker-archive` of skopeo and podman.
    DockerArchive,
    /// The files of a root filesystem.
    Rootfs,
}

/// Whether the layers of an image are kept as they came, beside what is unpacked of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Blobs {
    /// They are: the image can be given on as it is, byte for byte.
    #[default]
    Keep,
    /// They are not: the image takes less room, and what is given on has other digests.
    Drop,
}

/// How images are imported.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ImportOptions {
    format: Format,
    blobs: Blobs,
    platform: Option<Platform>,
    name: Option<String>,
    limits: Limits,
}

impl ImportOptions {
    /// Any archive, for this host, within the default limits, layers kept.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says what is in the archive.
    pub fn with_format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Sets whether the layers are kept as they came.
    pub fn with_blobs(mut self, blobs: Blobs) -> Self {
        self.blobs = blobs;
        self
    }

    /// Takes images for another platform than that of the host, and no other.
    pub fn with_platform(mut self, platform: Platform) -> Self {
        self.platform = Some(platform);
        self
    }

    /// Takes only the image of this name in the archive.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets what each layer may cost.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

/// What was in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Imports {
    /// Images.
    Images(Vec<ImportedImage>),
    /// A root filesystem, now a layer; what makes an image of it is still to be said.
    Rootfs(Layer),
}

/// An image that is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportedImage {
    /// The digest of its configuration.
    pub id: Digest,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// The names it has in the archive, as they are there.
    pub names: Vec<String>,
    /// Its configuration, as it came.
    pub config: Vec<u8>,
    /// What that says of the image itself.
    pub facts: ImageFacts,
    /// Its layers, the base first.
    pub layers: Vec<Layer>,
    /// Blobs it has, to be named to garbage collection: manifest, configuration, kept layers.
    pub blobs: Vec<Digest>,
}

impl ImportedImage {
    /// Bytes of file content in all its layers, holes counted.
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }
}

impl Store {
    /// Imports what is in an archive.
    ///
    /// All of it is hostile input: documents are bounded, names stay in the archive, every digest
    /// is checked while it is read. Layers there are already are not read. An image comes in whole
    /// or not at all; but layers that came before an error stay until garbage is collected. `hold`
    /// keeps what came from that: drop it when the image is written down.
    ///
    /// A stream that is no root filesystem, or is compressed, is copied into the store's `tmp` first,
    /// since what images are made of comes in no order.
    ///
    /// # Errors
    ///
    /// [`Error::Image`] for documents, [`Error::BlobDigest`], [`Error::BlobSize`],
    /// [`Error::LayerDigest`] for content; [`Error::ReadLayout`], [`Error::NoRoom`]; and what
    /// [`import_layer`](Self::import_layer) fails with.
    pub fn import(
        &self,
        archive: Archive<'_>,
        options: &ImportOptions,
        hold: &Hold,
        watch: &dyn Watch,
    ) -> Result<Imports, Error> {
        let import = Import { store: self, options, _hold: hold, watch };
        match archive {
            Archive::Layout(dir) => import.oci(&Layout(dir)).map(Imports::Images),
            Archive::Stream(stream) => import.stream(stream),
            Archive::File(file) => import.file(file),
        }
    }
}

/// One import.
#[derive(Clone, Copy)]
pub(super) struct Import<'a> {
    store: &'a Store,
    options: &'a ImportOptions,
    _hold: &'a Hold,
    watch: &'a dyn Watch,
}

impl Import<'_> {
    fn file(&self, file: BorrowedFd<'_>) -> Result<Imports, Error> {
        let fail = |errno: rustix::io::Errno| Error::ReadArchive { source: errno.into() };
        let stat = sys::stat(file).map_err(fail)?;
        if stat.kind != Kind::Regular {
            return Err(fail(rustix::io::Errno::SPIPE));
        }
        self.watch.expect(stat.size);
        let mut head = vec![0; START];
        let len = sys::read_at(file, &mut head, 0).map_err(fail)?;
        let head = &head[..len];
        if self.options.format != Format::Rootfs && is_tar(head) && self.is_of_images(head) {
            return self.tarball(File::Theirs(file));
        }
        self.stream(&mut Section::whole(file))
    }

    fn stream(&self, stream: &mut dyn Read) -> Result<Imports, Error> {
        let limits = &self.options.limits;
        let gauge = Gauge::new(limits, self.watch);
        let mut plain = Plain::open(stream, &gauge)?;
        if self.options.format == Format::Rootfs || !self.is_of_images(plain.peek(START)?) {
            return self.store.import_plain(plain, &gauge).map(Imports::Rootfs);
        }
        let copy = self.store.nameless_file().map_err(|source| Error::Import { source })?;
        let copy = spool(&mut plain, &gauge, copy)?;
        self.tarball(File::Ours(copy))
    }

    /// Whether what begins like this is looked at as images.
    fn is_of_images(&self, start: &[u8]) -> bool {
        self.options.format != Format::Auto || may_be_images(start)
    }

    fn tarball(&self, file: File<'_>) -> Result<Imports, Error> {
        let tarball = Tarball::open(file, &self.options.limits, self.watch)?;
        let oci = tarball.has("index.json");
        let format = match self.options.format {
            Format::Auto if oci && tarball.has("oci-layout") => Format::OciArchive,
            Format::Auto if tarball.has(docker::MANIFEST) => Format::DockerArchive,
            Format::Auto => Format::Rootfs,
            said => said,
        };
        match format {
            Format::OciArchive => self.oci(&tarball).map(Imports::Images),
            Format::DockerArchive => self.docker(&tarball).map(Imports::Images),
            _ => {
                let whole = Section::whole(tarball.file());
                let layer = self.store.import_layer(whole, &self.options.limits, self.watch);
                layer.map(Imports::Rootfs)
            }
        }
    }

    fn oci(&self, source: &dyn Source) -> Result<Vec<ImportedImage>, Error> {
        let platform = self.options.platform.clone().unwrap_or_else(Platform::host);
        let plans = plan::oci(&Bounded::new(source), &platform, self.options.name.as_deref())?;
        self.all(source, plans)
    }

    fn docker(&self, source: &dyn Source) -> Result<Vec<ImportedImage>, Error> {
        let plans = docker::plan(&Bounded::new(source))?;
        self.all(source, plan::named(plans, self.options.name.as_deref())?)
    }

    fn all(&self, source: &dyn Source, plans: Vec<Plan>) -> Result<Vec<ImportedImage>, Error> {
        for plan in &plans {
            plan.check_platform(self.options.platform.as_ref())?;
        }
        plans.into_iter().map(|plan| self.image(source, plan)).collect()
    }

    fn image(&self, source: &dyn Source, plan: Plan) -> Result<ImportedImage, Error> {
        let kept = self.layers(source, &plan)?;
        let id = self.store.put_blob(&plan.config)?;
        let manifest = match plan.manifest {
            Some(manifest) => manifest,
            None => plan::manifest(&id, plan.config.len(), &kept)?,
        };
        let manifest = self.store.put_blob(&manifest)?;
        let stored = kept.iter().filter(|layer| layer.stored).map(|layer| layer.blob.digest);
        let mut blobs = vec![manifest, id];
        blobs.extend(stored);
        Ok(ImportedImage {
            id,
            manifest,
            names: plan.names,
            config: plan.config,
            facts: plan.facts,
            layers: kept.into_iter().map(|layer| layer.layer).collect(),
            blobs,
        })
    }
}

/// Whether the first block is a header of a tar archive: then it is not compressed.
fn is_tar(block: &[u8]) -> bool {
    block.get(257..262) == Some(b"ustar")
}

/// An error in reading a source, for a reader of layers.
pub(super) fn unreadable(source: std::io::Error) -> Error {
    Error::ReadLayout { source: Failure::new(&"read a layer", source) }
}
