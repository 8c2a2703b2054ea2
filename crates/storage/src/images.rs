//! Images: their documents, and how they come into the store.

mod docker;
mod documents;
mod export;
mod import;
mod layout;
mod platform;
mod tarball;
pub(crate) mod write;

use std::cell::Cell;
use std::io::Read;

pub use documents::{
    Descriptor, ImageFacts, IndexEntry, MAX_CONFIG, MAX_MANIFEST, Manifest, choose_for, is_index,
    parse_index,
};
pub use export::ExportedImage;
pub use import::{Archive, Blobs, Format, ImportOptions, ImportedImage, Imports};
pub use platform::{InvalidPlatform, Platform};

use crate::digest::Digest;
use crate::error::{Error, Failure, ImageFault, Limit};

/// Where an image comes from: members or files by name.
trait Source {
    /// Opens a regular file; its size too, which is not to be trusted.
    fn open(&self, name: &str) -> Result<(Box<dyn Read + '_>, u64), Error>;

    /// Reads a document of at most `max` bytes.
    fn read(&self, name: &str, document: &'static str, max: usize) -> Result<Vec<u8>, Error> {
        let (file, _) = self.open(name)?;
        let mut bytes = Vec::new();
        let bound = (max as u64).saturating_add(1);
        file.take(bound)
            .read_to_end(&mut bytes)
            .map_err(|source| Error::ReadLayout { source: Failure::new(&"read it", source) })?;
        if bytes.len() > max {
            return Err(Error::Image { source: ImageFault::DocumentTooLarge { document, max } });
        }
        Ok(bytes)
    }

    /// Reads a document by its digest.
    fn document(
        &self,
        digest: &Digest,
        document: &'static str,
        max: usize,
    ) -> Result<Vec<u8>, Error> {
        let bytes = self.read(&blob_name(digest), document, max)?;
        if Digest::of(&bytes) == *digest {
            return Ok(bytes);
        }
        Err(Error::Image { source: ImageFault::DocumentDigest { document } })
    }
}

/// Bytes of all documents of one archive together: what its images are known by stays in memory until all
/// of them are there. Those of one image have some 20 KB.
const MAX_DOCUMENTS: u64 = 64 << 20;

/// A source of which no more is read as documents.
struct Bounded<'s> {
    source: &'s dyn Source,
    left: Cell<u64>,
}

impl<'s> Bounded<'s> {
    fn new(source: &'s dyn Source) -> Self {
        Self { source, left: Cell::new(MAX_DOCUMENTS) }
    }
}

impl Source for Bounded<'_> {
    fn open(&self, name: &str) -> Result<(Box<dyn Read + '_>, u64), Error> {
        self.source.open(name)
    }

    fn read(&self, name: &str, document: &'static str, max: usize) -> Result<Vec<u8>, Error> {
        let bytes = self.source.read(name, document, max)?;
        let left = self.left.get().checked_sub(bytes.len() as u64);
        let over = Error::Limit { limit: Limit::DocumentBytes, allowed: MAX_DOCUMENTS };
        self.left.set(left.ok_or(over)?);
        Ok(bytes)
    }
}

/// Name of a blob in an image layout.
fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
