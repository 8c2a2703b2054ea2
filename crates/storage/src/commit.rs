//! New layers: out of a container, or of a tree in the store.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

use crate::blobs::BlobWriter;
use crate::digest::{ChainId, Digest};
use crate::error::{Error, Failure};
use crate::images::Descriptor;
use crate::layers::Layer;
use crate::names::ContainerKey;
use crate::pack::{Form, TarStream};
use crate::store::Store;
use crate::unpack::{CHUNK, Compression, Limits, Watch};

/// How much zstd compresses: as much as it does by default.
const ZSTD_LEVEL: i32 = 3;

/// A layer that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// The layer, unpacked over the others.
    pub layer: Layer,
    /// Its archive, as a manifest names it; in the store.
    pub blob: Descriptor,
}

impl Store {
    /// Makes a layer of what a container changed, but for `ignored` paths, over the layers of its
    /// image.
    ///
    /// The container should not run meanwhile: what it changes then is in the layer in part. `watch`
    /// is told of the bytes of the uncompressed archive.
    ///
    /// # Errors
    ///
    /// What [`diff`](Self::diff), the [`TarStream`] and [`unpack_layer`](Self::unpack_layer) fail
    /// with; the store is as before then, but for the blob, which garbage collection takes.
    pub fn commit(
        &self,
        layers: &[ChainId],
        key: &ContainerKey,
        ignored: &[&str],
        compression: Compression,
        watch: &dyn Watch,
    ) -> Result<Committed, Error> {
        let packed = self.pack_changes(key, ignored, compression, watch)?;
        self.commit_packed(layers, packed, watch)
    }

    /// The first half of [`commit`](Self::commit), after which the container may go on: an archive of what it
    /// changed, in the store, and the digest of that uncompressed.
    ///
    /// # Errors
    ///
    /// What [`diff`](Self::diff) and the [`TarStream`] fail with, or [`Error::Import`].
    pub fn pack_changes(
        &self,
        key: &ContainerKey,
        ignored: &[&str],
        compression: Compression,
        watch: &dyn Watch,
    ) -> Result<(Descriptor, Digest), Error> {
        self.store_archive(self.diff(key, ignored)?, compression, watch)
    }

    /// The second half: makes a layer of such an archive, over the layers of an image.
    ///
    /// # Errors
    ///
    /// What [`unpack_layer`](Self::unpack_layer) fails with, [`Error::NoBlob`] or [`Error::GetBlob`].
    pub fn commit_packed(
        &self,
        layers: &[ChainId],
        (blob, diff_id): (Descriptor, Digest),
        watch: &dyn Watch,
    ) -> Result<Committed, Error> {
        let archive = self.open_blob(&blob.digest)?;
        // What was packed here is unpacked, whatever its size.
        let limits = Limits::default().with_bytes(u64::MAX).with_ratio(u64::MAX);
        let standing = |_| watch.progress(0);
        let layer = self.unpack_layer(layers, &diff_id, archive, &limits, &standing)?;
        Ok(Committed { layer, blob })
    }

    /// Makes an archive of a layer whose own was not kept, and stores it; the digest of the
    /// uncompressed archive, too, which is not the one the layer came with. Who has a [`Hold`](crate::Hold)
    /// keeps the layer by that.
    ///
    /// # Errors
    ///
    /// [`Error::NoLayer`], [`Error::OpenLayer`], what the [`TarStream`] fails with, or
    /// [`Error::Import`].
    pub fn pack_layer(
        &self,
        layer: &ChainId,
        compression: Compression,
        watch: &dyn Watch,
    ) -> Result<(Descriptor, Digest), Error> {
        // What garbage collection takes while it is read would be missing.
        if !self.has_layer(layer)? {
            return Err(Error::NoLayer { layer: *layer });
        }
        let tree = self.open_layer(layer)?;
        let stream = TarStream::new(std::os::fd::AsFd::as_fd(&tree), Form::Layer)
            .map_err(|source| Error::OpenLayer { layer: *layer, source })?;
        self.store_archive(stream, compression, watch)
    }

    fn store_archive(
        &self,
        mut archive: TarStream,
        compression: Compression,
        watch: &dyn Watch,
    ) -> Result<(Descriptor, Digest), Error> {
        let mut out = Compressor::new(compression, Blob(self.write_new_blob()?)).map_err(broken)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; CHUNK];
        let mut done = 0;
        loop {
            let read = archive.read(&mut buffer).map_err(broken)?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            out.write_all(&buffer[..read]).map_err(broken)?;
            done += read as u64;
            if watch.progress(done).is_break() {
                return Err(Error::Cancelled);
            }
        }
        let Blob(writer) = out.finish().map_err(broken)?;
        let size = writer.written();
        let (digest, _) = writer.finish_as_it_is()?;
        let media_type = compression.layer_type().into();
        Ok((Descriptor { digest, size, media_type }, Digest::finish(hasher)))
    }
}

/// The error that a reader or writer of ours carried.
fn broken(error: io::Error) -> Error {
    error
        .downcast::<Error>()
        .unwrap_or_else(|error| Error::Import { source: Failure::new(&"pack the layer", error) })
}

/// A blob as what compressors write to.
struct Blob(BlobWriter);

impl Write for Blob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map(|()| bytes.len()).map_err(io::Error::other)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Compressor {
    None(Blob),
    Gzip(flate2::write::GzEncoder<Blob>),
    Zstd(zstd::stream::write::Encoder<'static, Blob>),
}

impl Compressor {
    fn new(compression: Compression, blob: Blob) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None(blob),
            Compression::Gzip => {
                Self::Gzip(flate2::write::GzEncoder::new(blob, flate2::Compression::default()))
            }
            Compression::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(blob, ZSTD_LEVEL)?),
        })
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::None(out) => out.write_all(bytes),
            Self::Gzip(out) => out.write_all(bytes),
            Self::Zstd(out) => out.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<Blob> {
        match self {
            Self::None(out) => Ok(out),
            Self::Gzip(out) => out.finish(),
            Self::Zstd(out) => out.finish(),
        }
    }
}
