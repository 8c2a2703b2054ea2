use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::error::{Error, Failure};
use crate::holds::Holds;
use crate::layers::Imported;
use crate::sys::{NewFd, Step, perform, write_all_at};
use crate::undo::UndoStack;

/// A blob that is being stored, piece by piece; there is none before [`finish`](Self::finish).
///
/// A download that breaks off goes on from [`written`](Self::written).
#[must_use = "a blob that is not finished is not stored"]
pub struct BlobWriter {
    dir: OwnedFd,
    holds: Arc<Holds>,
    /// Has no name yet, so that it goes if this is dropped, or the host loses power.
    file: OwnedFd,
    /// What it is to have.
    digest: Option<Digest>,
    hasher: Sha256,
    written: u64,
}

impl fmt::Debug for BlobWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobWriter")
            .field("digest", &self.digest)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

impl BlobWriter {
    pub(super) fn new(
        dir: OwnedFd,
        holds: Arc<Holds>,
        digest: Option<Digest>,
    ) -> Result<Self, Failure> {
        let file = perform(&NewFd::NamelessFile { dir: dir.as_fd() })?;
        Ok(Self { dir, holds, file, digest, hasher: Sha256::new(), written: 0 })
    }

    /// Appends some of it.
    ///
    /// # Errors
    ///
    /// [`Error::PutBlob`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        write_all_at(self.file.as_fd(), bytes, self.written)
            .map_err(|source| put_error(self.digest, source))?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Bytes appended until now.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Stores it durably, if it has its digest.
    ///
    /// # Errors
    ///
    /// [`Error::BlobDigest`] or [`Error::PutBlob`]; there is no new blob then.
    pub fn finish(self) -> Result<Imported, Error> {
        self.finish_as_it_is().map(|(_, imported)| imported)
    }

    /// [`finish`](Self::finish), with the digest it has.
    pub(crate) fn finish_as_it_is(self) -> Result<(Digest, Imported), Error> {
        let Self { dir, holds, file, digest: expected, hasher, .. } = self;
        let digest = Digest::finish(hasher);
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(Error::BlobDigest { expected, actual: digest });
        }
        let hex = digest.hex();
        holds.note(&digest);
        let mut undo = UndoStack::new();
        let published = perform(&Step::Sync { file: file.as_fd() })
            .and_then(|()| undo.publish(file.as_fd(), dir.as_fd(), OsStr::new(&hex)));
        let done = match published {
            Err(failure) if failure.is(Errno::EXIST) => Ok(Imported::AlreadyThere),
            Err(failure) => Err(failure),
            Ok(()) => perform(&Step::Sync { file: dir.as_fd() }).map(|()| Imported::New),
        };
        match done {
            Ok(imported) => {
                undo.commit();
                Ok((digest, imported))
            }
            Err(source) => Err(undo.roll_back(Error::PutBlob { digest, source })),
        }
    }
}

fn put_error(digest: Option<Digest>, source: Failure) -> Error {
    match digest {
        Some(digest) => Error::PutBlob { digest, source },
        None => Error::Import { source },
    }
}
