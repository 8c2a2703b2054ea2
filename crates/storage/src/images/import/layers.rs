//! The layers of an image, one after the other.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use super::plan::{LayerSource, Plan};
use super::{Blobs, Import, unreadable};
use crate::digest::{ChainId, Digest};
use crate::error::Error;
use crate::images::{Descriptor, Source};
use crate::layers::Layer;
use crate::space::Estimate;
use crate::unpack::{CHUNK, Compression, Watch, sniff};

/// A layer that is in the store.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) layer: Layer,
    /// What it is in a manifest.
    pub(crate) blob: Descriptor,
    /// Whether it is in the store as it came, too.
    pub(crate) stored: bool,
}

impl Import<'_> {
    pub(super) fn layers(&self, source: &dyn Source, plan: &Plan) -> Result<Vec<Kept>, Error> {
        let stack = ChainId::stack(&plan.facts.diff_ids);
        self.check_room(source, plan, &stack)?;
        let mut kept = Vec::with_capacity(stack.len());
        let mut done = 0;
        for (nth, layer) in plan.layers.iter().enumerate() {
            let watch = Onward { watch: self.watch, done };
            let place = Place { below: &stack[..nth], diff_id: plan.facts.diff_ids[nth] };
            let one = self.layer(source, layer, place, &watch)?;
            done += one.blob.size;
            kept.push(one);
        }
        Ok(kept)
    }

    /// Refuses before anything is stored what cannot fit.
    fn check_room(&self, source: &dyn Source, plan: &Plan, stack: &[ChainId]) -> Result<(), Error> {
        let mut estimate = Estimate::default();
        for (layer, chain_id) in plan.layers.iter().zip(stack) {
            if self.store.has_layer(chain_id)? {
                continue;
            }
            let (_, size) = source.open(&layer.name)?;
            estimate.add_layer(size, self.options.blobs);
        }
        self.store.check_room(&estimate)
    }

    fn layer(
        &self,
        source: &dyn Source,
        layer: &LayerSource,
        place: Place<'_>,
        watch: &Onward<'_>,
    ) -> Result<Kept, Error> {
        let blob = match &layer.blob {
            Some(blob) => blob.clone(),
            None => describe(source, &layer.name, &place.diff_id)?,
        };
        let limits = &self.options.limits;
        let Place { below, diff_id } = place;
        match self.options.blobs {
            Blobs::Keep => {
                let (file, _) = source.open(&layer.name)?;
                self.store.store_blob(&blob.digest, Some(blob.size), file, watch)?;
                let watch = Onward { watch: self.watch, done: watch.done + blob.size }.standing();
                let file = self.store.open_blob(&blob.digest)?;
                let layer = self.store.unpack_layer(below, &diff_id, file, limits, &watch)?;
                Ok(Kept { layer, blob, stored: true })
            }
            Blobs::Drop => {
                let (file, _) = source.open(&layer.name)?;
                let mut checked = Checked { file, hasher: Sha256::new(), read: 0 };
                let layer = self.store.unpack_checked(
                    below,
                    &diff_id,
                    &mut checked,
                    limits,
                    watch,
                    |checked| checked.check(&blob),
                )?;
                Ok(Kept { layer, blob, stored: false })
            }
        }
    }
}

/// Where a layer goes.
#[derive(Clone, Copy)]
struct Place<'a> {
    below: &'a [ChainId],
    diff_id: Digest,
}

/// Reads what a layer is that nothing is said about but the digest of the uncompressed archive.
fn describe(source: &dyn Source, name: &str, diff_id: &Digest) -> Result<Descriptor, Error> {
    let (mut file, size) = source.open(name)?;
    let mut start = Vec::new();
    file.by_ref().take(8).read_to_end(&mut start).map_err(unreadable)?;
    let compression = sniff(&start).unwrap_or(Compression::None);
    let digest = if compression == Compression::None {
        *diff_id
    } else {
        let mut checked = Checked { file, hasher: Sha256::new(), read: 0 };
        checked.hasher.update(&start);
        checked.drain()?;
        Digest::finish(checked.hasher)
    };
    Ok(Descriptor { digest, size, media_type: compression.layer_type().into() })
}

/// A layer's archive, digested as it is read.
struct Checked<'s> {
    file: Box<dyn Read + 's>,
    hasher: Sha256,
    read: u64,
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.read += read as u64;
        Ok(read)
    }
}

impl Checked<'_> {
    /// Reads what is behind the end of the archive, too.
    fn drain(&mut self) -> Result<(), Error> {
        let mut buffer = vec![0; CHUNK];
        while self.read(&mut buffer).map_err(unreadable)? > 0 {}
        Ok(())
    }

    fn check(&mut self, blob: &Descriptor) -> Result<(), Error> {
        self.drain()?;
        let digest = blob.digest;
        if self.read != blob.size {
            return Err(Error::BlobSize { digest, expected: blob.size, actual: self.read });
        }
        let actual = Digest::finish(std::mem::take(&mut self.hasher));
        if actual != digest {
            return Err(Error::BlobDigest { expected: digest, actual });
        }
        Ok(())
    }
}

/// Tells of one layer as a part of all.
#[derive(Clone, Copy)]
struct Onward<'w> {
    watch: &'w dyn Watch,
    /// Bytes of the layers before.
    done: u64,
}

impl<'w> Onward<'w> {
    /// The same for what is read a second time: it gets no further by that.
    fn standing(self) -> impl Watch + use<'w> {
        move |_| self.watch.progress(self.done)
    }
}

impl Watch for Onward<'_> {
    fn progress(&self, bytes: u64) -> std::ops::ControlFlow<()> {
        self.watch.progress(self.done + bytes)
    }
}
