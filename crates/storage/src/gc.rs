//! Taking away what nothing needs.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::PoisonError;

use crate::digest::{ChainId, Digest};
use crate::error::{Error, Failure};
use crate::remove::Removed;
use crate::store::{Doomed, Store};
use crate::sys::{self, Step, perform};

/// What images and containers need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// Layers, each named: one layer does not stand for those below it.
    pub layers: BTreeSet<ChainId>,
    /// Blobs: manifests, configurations, compressed layers.
    pub blobs: BTreeSet<Digest>,
}

/// What was taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Collected {
    /// Layers.
    pub layers: Vec<ChainId>,
    /// Blobs.
    pub blobs: Vec<Digest>,
    /// Bytes of the blobs.
    pub blob_bytes: u64,
    /// Files, links and directories of the layers.
    pub layer_entries: u64,
}

impl Store {
    /// Removes every layer and blob that nothing needs, and before that what is left of removals that
    /// have failed.
    ///
    /// `needed` is asked after this has taken a [`Hold`](crate::Hold) of its own. So whoever stores
    /// under a hold and names it, where `needed` looks, before dropping that hold, loses nothing;
    /// nor does who still holds. Works with no byte free on the disk.
    ///
    /// # Errors
    ///
    /// What `needed` fails with, [`Error::List`], [`Error::RemoveLayer`] or [`Error::RemoveBlob`];
    /// what was removed until then stays removed.
    pub fn collect_garbage<E: From<Error>>(
        &self,
        needed: impl FnOnce() -> Result<Needed, E>,
    ) -> Result<Collected, E> {
        let _alone = self.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        self.finish_removals();
        let _hold = self.hold();
        let needed = needed()?;
        let mut collected = Collected::default();
        for layer in self.layers()? {
            if !needed.layers.contains(&layer)
                && let Some(entries) = self.collect_layer(&layer)?
            {
                collected.layers.push(layer);
                collected.layer_entries += entries;
            }
        }
        for blob in self.blobs()? {
            if !needed.blobs.contains(&blob)
                && let Some(bytes) = self.collect_blob(&blob)?
            {
                collected.blobs.push(blob);
                collected.blob_bytes += bytes;
            }
        }
        Ok(collected)
    }

    fn collect_layer(&self, layer: &ChainId) -> Result<Option<u64>, Error> {
        let fail = |source| Error::RemoveLayer { layer: *layer, source };
        let name = OsString::from(layer.hex());
        let out =
            self.take_unheld("layer", &layer.digest(), self.layers.as_fd(), &name).map_err(fail)?;
        let Some(doomed) = out else { return Ok(None) };
        // A power cut must not bring it back with only part of its files.
        perform(&Step::Sync { file: self.layers.as_fd() }).map_err(fail)?;
        match doomed.remove().map_err(fail)? {
            Removed::Tree { entries } => Ok(Some(entries)),
            Removed::WasAbsent => Ok(None),
        }
    }

    fn collect_blob(&self, blob: &Digest) -> Result<Option<u64>, Error> {
        let fail = |source| Error::RemoveBlob { digest: *blob, source };
        let name = OsString::from(blob.hex());
        let size = sys::stat_at(&self.blobs, &name).map_or(0, |stat| stat.size);
        let out = self.take_unheld("blob", blob, self.blobs.as_fd(), &name).map_err(fail)?;
        let Some(doomed) = out else { return Ok(None) };
        doomed.remove().map_err(fail)?;
        Ok(Some(size))
    }

    /// Moves it out of sight unless a hold keeps it; under the lock, so that none comes in between.
    fn take_unheld(
        &self,
        what: &str,
        digest: &Digest,
        dir: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<Option<Doomed<'_>>, Failure> {
        let state = self.holds.lock();
        if state.keeps(digest) { Ok(None) } else { self.move_out(what, dir, name) }
    }
}
