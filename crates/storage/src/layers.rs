//! Layers of images: imported, listed, removed.

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::digest::{ChainId, Digest};
use crate::error::{Error, Failure};
use crate::remove::Removed;
use crate::store::{Published, Scratch, Store, open_directory};
use crate::sys::{self, Step, Target, perform};
use crate::unpack::{Limits, Unpacked, Watch, unpack};

/// Name of a layer's tree in the layer's directory.
const DIFF: &str = "diff";

/// Mode of a root whose archive has no entry for it.
const ROOT_MODE: u32 = 0o755;

/// What an import put into the store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Layer {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// What the layer is called in the store.
    pub chain_id: ChainId,
    /// Whether it is new.
    pub outcome: Imported,
    /// Bytes of file content, holes counted.
    pub size: u64,
    /// Files, links and directories unpacked, directories implied by paths included.
    pub entries: u64,
    /// Device nodes, and links to them, that were not made.
    pub skipped_devices: u64,
    /// Extended attributes that were not kept.
    pub dropped_xattrs: u64,
}

/// Whether an import changed the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imported {
    /// The layer is new.
    New,
    /// The store had it already.
    AlreadyThere,
}

impl Store {
    /// Unpacks the tar archive of a root filesystem as a base layer.
    ///
    /// The archive is plain or compressed with gzip or zstd, which is told by its first bytes. It
    /// is hostile input: paths are resolved inside the layer, `..` and whiteouts are refused,
    /// device nodes are left out, `limits` are kept. Kept are owner, mode, time of last change to
    /// the nanosecond, `user.*` attributes and file capabilities. The layer is on disk before it
    /// is in the store.
    ///
    /// # Errors
    ///
    /// [`Error::ReadArchive`], [`Error::Malformed`], [`Error::Refused`], [`Error::Limit`],
    /// [`Error::Cancelled`], [`Error::Unpack`] or [`Error::Import`]; the store is as before then,
    /// but for what [`Error::Leftovers`] says.
    pub fn import_layer(
        &self,
        mut archive: impl Read,
        limits: &Limits,
        watch: &dyn Watch,
    ) -> Result<Layer, Error> {
        let scratch = self.scratch("layer").map_err(|source| Error::Import { source })?;
        match self.fill(&scratch, &mut archive, limits, watch) {
            Ok(unpacked) => self.publish_layer(scratch, &unpacked),
            Err(error) => Err(scratch.discard(error)),
        }
    }

    /// The layers there are, in no order.
    ///
    /// # Errors
    ///
    /// [`Error::List`].
    pub fn layers(&self) -> Result<Vec<ChainId>, Error> {
        let names = sys::list(&self.layers)
            .map_err(Failure::read("read the directory"))
            .map_err(|source| Error::List { what: "layers", source })?;
        let parse = |name: std::ffi::OsString| {
            let chain = name.to_str().and_then(|name| ChainId::from_hex(name).ok());
            if chain.is_none() {
                tracing::warn!(?name, "not a layer");
            }
            chain
        };
        Ok(names.into_iter().filter_map(parse).collect())
    }

    /// Whether there is such a layer.
    ///
    /// # Errors
    ///
    /// [`Error::OpenLayer`].
    pub fn has_layer(&self, layer: &ChainId) -> Result<bool, Error> {
        match sys::stat_at(&self.layers, OsStr::new(&layer.hex())) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => {
                let source = Failure::read("look for it")(errno);
                Err(Error::OpenLayer { layer: *layer, source })
            }
        }
    }

    /// Removes a layer, which no mounted root may stand on.
    ///
    /// # Errors
    ///
    /// [`Error::RemoveLayer`].
    pub fn remove_layer(&self, layer: &ChainId) -> Result<Removed, Error> {
        self.take_layer_out(layer).map_err(|source| Error::RemoveLayer { layer: *layer, source })
    }

    /// Opens the tree of a layer.
    pub(crate) fn open_layer(&self, layer: &ChainId) -> Result<OwnedFd, Error> {
        open_layer_in(self.layers.as_fd(), layer)
    }

    fn fill(
        &self,
        scratch: &Scratch<'_>,
        archive: &mut dyn Read,
        limits: &Limits,
        watch: &dyn Watch,
    ) -> Result<Unpacked, Error> {
        let fail = |source| Error::Import { source };
        let root = make_diff(scratch).map_err(fail)?;
        let unpacked = unpack(root.as_fd(), archive, limits, watch)?;
        if !self.has_layer(&ChainId::base(unpacked.diff_id))? {
            self.sync().map_err(fail)?;
        }
        Ok(unpacked)
    }

    fn publish_layer(&self, scratch: Scratch<'_>, unpacked: &Unpacked) -> Result<Layer, Error> {
        let Unpacked { diff_id, totals } = *unpacked;
        let chain_id = ChainId::base(diff_id);
        let name = chain_id.hex();
        let fail = |source| Error::Import { source };
        let published = scratch.publish(self.layers.as_fd(), OsStr::new(&name), fail)?;
        Ok(Layer {
            diff_id,
            chain_id,
            outcome: match published {
                Published::Now => Imported::New,
                Published::AlreadyThere => Imported::AlreadyThere,
            },
            size: totals.size,
            entries: totals.entries,
            skipped_devices: totals.skipped_devices,
            dropped_xattrs: totals.dropped_xattrs,
        })
    }

    fn take_layer_out(&self, layer: &ChainId) -> Result<Removed, Failure> {
        let layers = self.layers.as_fd();
        let Some(name) = self.move_out("layer", layers, OsStr::new(&layer.hex()))? else {
            return Ok(Removed::WasAbsent);
        };
        // A power cut must not bring it back with only part of its files.
        perform(&Step::Sync { file: layers })?;
        self.dispose(&name)
    }
}

/// Opens the tree of a layer in the directory of all layers.
pub(crate) fn open_layer_in(layers: BorrowedFd<'_>, layer: &ChainId) -> Result<OwnedFd, Error> {
    let path = format!("{}/{DIFF}", layer.hex());
    open_directory(layers, path).map_err(|source| {
        let layer = *layer;
        if source.is(Errno::NOENT) {
            Error::NoLayer { layer }
        } else {
            Error::OpenLayer { layer, source }
        }
    })
}

fn make_diff(scratch: &Scratch<'_>) -> Result<OwnedFd, Failure> {
    perform(&Step::MakeDir { dir: scratch.dir(), name: OsStr::new(DIFF) })?;
    let root = open_directory(scratch.dir(), DIFF)?;
    perform(&Step::Mode { target: Target::Open(root.as_fd()), mode: ROOT_MODE })?;
    Ok(root)
}
