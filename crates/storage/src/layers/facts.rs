//! What is written down about a layer beside its tree.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use serde::{Deserialize, Serialize};

use crate::digest::{ChainId, Digest};
use crate::error::Failure;
use crate::sys::{self, NewFd, perform, write_all_at};
use crate::unpack::Unpacked;

/// Name of the file in the layer's directory.
const FACTS: &str = "facts.json";
/// Bytes it may have.
const MAX_FACTS: usize = 4096;

/// A layer of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Layer {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// What the layer is called in the store.
    pub chain_id: ChainId,
    /// The layer it stands on; a base layer has none.
    pub parent: Option<ChainId>,
    /// Whether it is new.
    #[serde(skip, default = "already_there")]
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
    /// It is new.
    New,
    /// The store had it already.
    AlreadyThere,
}

fn already_there() -> Imported {
    Imported::AlreadyThere
}

impl Layer {
    pub(super) fn new(parent: Option<ChainId>, unpacked: &Unpacked) -> Self {
        let Unpacked { diff_id, totals } = *unpacked;
        Self {
            diff_id,
            chain_id: parent.map_or_else(|| ChainId::base(diff_id), |top| top.child(&diff_id)),
            parent,
            outcome: Imported::New,
            size: totals.size,
            entries: totals.entries,
            skipped_devices: totals.skipped_devices,
            dropped_xattrs: totals.dropped_xattrs,
        }
    }
}

pub(super) fn write(dir: BorrowedFd<'_>, layer: &Layer) -> Result<(), Failure> {
    let encode = |error| Failure::new(&"encode what is known of it", io::Error::other(error));
    let bytes = serde_json::to_vec(layer).map_err(encode)?;
    let file = perform(&NewFd::File { dir, name: OsStr::new(FACTS) })?;
    write_all_at(file.as_fd(), &bytes, 0)
}

pub(super) fn read(dir: BorrowedFd<'_>) -> Result<Layer, Failure> {
    let fail = |error| Failure::new(&"read what is known of it", error);
    let place = sys::open_path(dir, FACTS, sys::beneath(), rustix::fs::OFlags::empty());
    let file = place.and_then(|place| sys::reopen(place.as_fd()));
    let bytes = sys::read_up_to(file.map_err(|errno| fail(errno.into()))?, MAX_FACTS);
    let bytes = bytes.map_err(fail)?.unwrap_or_default();
    serde_json::from_slice(&bytes).map_err(|error| fail(error.into()))
}
