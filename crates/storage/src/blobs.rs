//! Blobs: documents and compressed layers by the digest of their content.

mod writer;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::digest::Digest;
use crate::error::{Error, Failure};
use crate::layers::Imported;
use crate::remove::{self, Removed};
use crate::store::Store;
use crate::sys;
use crate::unpack::{CHUNK, Watch};

pub use writer::BlobWriter;

impl Store {
    /// Stores `bytes` durably and returns their digest; the same bytes twice are one blob.
    ///
    /// # Errors
    ///
    /// [`Error::PutBlob`]; there is no new blob then.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let mut writer = self.write_blob(&Digest::of(bytes))?;
        writer.write(bytes)?;
        writer.finish()?;
        Ok(Digest::of(bytes))
    }

    /// Begins to store a blob that is to have this digest.
    ///
    /// # Errors
    ///
    /// [`Error::PutBlob`].
    pub fn write_blob(&self, digest: &Digest) -> Result<BlobWriter, Error> {
        let digest = *digest;
        let fail = |source| Error::PutBlob { digest, source };
        let dir = self.blobs.try_clone();
        let dir = dir.map_err(|error| fail(Failure::new(&"keep the directory open", error)))?;
        BlobWriter::new(dir, self.holds.clone(), Some(digest)).map_err(fail)
    }

    /// Begins to store a blob of which the digest comes out at the end.
    pub(crate) fn write_new_blob(&self) -> Result<BlobWriter, Error> {
        let fail = |source| Error::Import { source };
        let dir = self.blobs.try_clone();
        let dir = dir.map_err(|error| fail(Failure::new(&"keep the directory open", error)))?;
        BlobWriter::new(dir, self.holds.clone(), None).map_err(fail)
    }

    /// Stores what `source` has, which must be `size` bytes (if that is known) of this digest.
    ///
    /// `watch` is told of the bytes of this blob. A blob that is there is not read.
    ///
    /// # Errors
    ///
    /// [`Error::ReadArchive`], [`Error::Cancelled`], [`Error::BlobSize`], [`Error::BlobDigest`] or
    /// [`Error::PutBlob`]; there is no new blob then.
    pub fn store_blob(
        &self,
        digest: &Digest,
        size: Option<u64>,
        mut source: impl Read,
        watch: &dyn Watch,
    ) -> Result<Imported, Error> {
        if self.has_blob(digest)? {
            return Ok(Imported::AlreadyThere);
        }
        let mut writer = self.write_blob(digest)?;
        let mut buffer = vec![0; CHUNK];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => writer.write(&buffer[..read])?,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::ReadArchive { source }),
            }
            let written = writer.written();
            if watch.progress(written).is_break() {
                return Err(Error::Cancelled);
            }
            // What is too long already need not be read to its end.
            check_size(digest, size.filter(|&size| size < written), written)?;
        }
        check_size(digest, size, writer.written())?;
        writer.finish()
    }

    /// Whether there is such a blob.
    ///
    /// # Errors
    ///
    /// [`Error::GetBlob`].
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        Ok(self.blob_size(digest)?.is_some())
    }

    /// How many bytes a blob has; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::GetBlob`].
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        self.holds.note(digest);
        match sys::stat_at(&self.blobs, OsStr::new(&digest.hex())) {
            Ok(stat) => Ok(Some(stat.size)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => {
                let source = Failure::read("look for it")(errno);
                Err(Error::GetBlob { digest: *digest, source })
            }
        }
    }

    /// Opens a blob for reading. Its digest is not checked: who reads it has to.
    ///
    /// # Errors
    ///
    /// [`Error::NoBlob`] or [`Error::GetBlob`].
    pub fn open_blob(&self, digest: &Digest) -> Result<File, Error> {
        let digest = *digest;
        match open(self.blobs.as_fd(), &digest.hex()) {
            Ok(file) => Ok(file.into()),
            Err(source) if source.is(Errno::NOENT) => Err(Error::NoBlob { digest }),
            Err(source) => Err(Error::GetBlob { digest, source }),
        }
    }

    /// Reads a blob of at most `max` bytes and checks that it still has its digest.
    ///
    /// # Errors
    ///
    /// [`Error::NoBlob`], [`Error::BlobTooLarge`], [`Error::BlobDamaged`] or [`Error::GetBlob`].
    pub fn get_blob(&self, digest: &Digest, max: usize) -> Result<Vec<u8>, Error> {
        let file = self.open_blob(digest)?;
        let digest = *digest;
        let bytes = sys::read_up_to(file.into(), max)
            .map_err(|source| Error::GetBlob { digest, source: Failure::new(&"read", source) })?;
        let bytes = bytes.ok_or(Error::BlobTooLarge { digest, max })?;
        if Digest::of(&bytes) == digest { Ok(bytes) } else { Err(Error::BlobDamaged { digest }) }
    }

    /// The blobs there are, in no order.
    ///
    /// # Errors
    ///
    /// [`Error::List`].
    pub fn blobs(&self) -> Result<Vec<Digest>, Error> {
        let names = sys::list(&self.blobs)
            .map_err(Failure::read("read the directory"))
            .map_err(|source| Error::List { what: "blobs", source })?;
        let parse = |name: OsString| {
            let digest = name.to_str().and_then(|name| Digest::from_hex(name).ok());
            if digest.is_none() {
                tracing::warn!(?name, "not a blob");
            }
            digest
        };
        Ok(names.into_iter().filter_map(parse).collect())
    }

    /// Removes a blob.
    ///
    /// # Errors
    ///
    /// [`Error::RemoveBlob`].
    pub fn remove_blob(&self, digest: &Digest) -> Result<Removed, Error> {
        remove::tree(self.blobs.as_fd(), OsStr::new(&digest.hex()))
            .map_err(|source| Error::RemoveBlob { digest: *digest, source })
    }
}

fn check_size(digest: &Digest, expected: Option<u64>, actual: u64) -> Result<(), Error> {
    match expected {
        Some(expected) if expected != actual => {
            Err(Error::BlobSize { digest: *digest, expected, actual })
        }
        _ => Ok(()),
    }
}

fn open(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Failure> {
    let place = sys::open_path(dir, name, sys::beneath(), OFlags::empty());
    place.and_then(|place| sys::reopen(place.as_fd())).map_err(Failure::read("open"))
}
