//! Blobs: small documents by the digest of their content.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::digest::Digest;
use crate::error::{Error, Failure};
use crate::layers::Imported;
use crate::remove::{self, Removed};
use crate::store::Store;
use crate::sys::{self, NewFd, Step, perform, write_all_at};
use crate::undo::UndoStack;

/// What became of bytes that were stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blob {
    /// Digest of the bytes, and name of the blob.
    pub digest: Digest,
    /// Whether it is new.
    pub outcome: Imported,
}

impl Store {
    /// Stores `bytes` durably; the same bytes twice are one blob.
    ///
    /// # Errors
    ///
    /// [`Error::PutBlob`]; there is no new blob then.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Blob, Error> {
        let digest = Digest::of(bytes);
        let hex = digest.hex();
        let mut undo = UndoStack::new();
        match put(&mut undo, self.blobs.as_fd(), OsStr::new(&hex), bytes) {
            Ok(outcome) => {
                undo.commit();
                Ok(Blob { digest, outcome })
            }
            Err(source) => Err(undo.roll_back(Error::PutBlob { digest, source })),
        }
    }

    /// Reads a blob of at most `max` bytes and checks that it still has its digest.
    ///
    /// # Errors
    ///
    /// [`Error::NoBlob`], [`Error::BlobTooLarge`], [`Error::BlobDamaged`] or [`Error::GetBlob`].
    pub fn get_blob(&self, digest: &Digest, max: usize) -> Result<Vec<u8>, Error> {
        let digest = *digest;
        let bytes = match get(self.blobs.as_fd(), &digest.hex(), max) {
            Err(source) if source.is(Errno::NOENT) => return Err(Error::NoBlob { digest }),
            other => other.map_err(|source| Error::GetBlob { digest, source })?,
        };
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

fn put<'a>(
    undo: &mut UndoStack<'a>,
    dir: BorrowedFd<'a>,
    name: &'a OsStr,
    bytes: &[u8],
) -> Result<Imported, Failure> {
    let file = perform(&NewFd::NamelessFile { dir })?;
    write_all_at(file.as_fd(), bytes, 0)?;
    perform(&Step::Sync { file: file.as_fd() })?;
    match undo.publish(file.as_fd(), dir, name) {
        Err(failure) if failure.is(Errno::EXIST) => Ok(Imported::AlreadyThere),
        Err(failure) => Err(failure),
        Ok(()) => perform(&Step::Sync { file: dir }).map(|()| Imported::New),
    }
}

fn get(dir: BorrowedFd<'_>, name: &str, max: usize) -> Result<Option<Vec<u8>>, Failure> {
    let place = sys::open_path(dir, name, sys::beneath(), OFlags::empty());
    let file = place.and_then(|place| sys::reopen(place.as_fd())).map_err(Failure::read("open"))?;
    sys::read_up_to(file, max).map_err(|source| Failure::new(&"read", source))
}
