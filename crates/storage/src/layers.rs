//! Layers of images: imported, listed, removed.

mod facts;

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::digest::{ChainId, Digest};
use crate::error::{Error, Failure};
use crate::remove::Removed;
use crate::store::{Published, Scratch, Store, open_directory};
use crate::sys::{self, Step, Target, perform};
use crate::unpack::{Below, Form, Gauge, Limits, Plain, Unpacked, Watch, unpack, unpack_plain};

pub use facts::{Imported, Layer};

/// Name of a layer's tree in the layer's directory.
const DIFF: &str = "diff";

/// Mode of a root whose archive has no entry for it.
const ROOT_MODE: u32 = 0o755;

impl Store {
    /// Unpacks the tar archive of a root filesystem as a base layer.
    ///
    /// The archive is plain or compressed with gzip or zstd, which is told by its first bytes. It
    /// is hostile input: paths are resolved inside the layer, `..` and whiteouts are refused,
    /// `limits` are kept. Kept are owner, mode, time of last change to the nanosecond, `user.*`
    /// attributes, file capabilities and access control lists. The layer is on disk before it is
    /// in the store.
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
        self.with_scratch(|scratch| {
            let unpacked = fill(scratch, Form::Root, &mut archive, limits, watch)?;
            Ok(Layer::new(None, &unpacked))
        })
    }

    /// [`import_layer`](Self::import_layer) of an archive that is open already.
    pub(crate) fn import_plain<'a>(
        &self,
        plain: Plain<'a>,
        gauge: &'a Gauge<'a>,
    ) -> Result<Layer, Error> {
        self.with_scratch(|scratch| {
            let root = make_diff(scratch).map_err(|source| Error::Import { source })?;
            let unpacked = unpack_plain(root.as_fd(), Form::Root, plain, gauge)?;
            Ok(Layer::new(None, &unpacked))
        })
    }

    /// Unpacks one layer of an image over the layers `below`, the base first.
    ///
    /// What is said of [`import_layer`](Self::import_layer) holds, but whiteouts hide what is below.
    /// The uncompressed archive must have the digest `diff_id`. A layer that is there is not
    /// unpacked again, and one that another thread unpacks is waited for: `archive` is not read
    /// then.
    ///
    /// # Errors
    ///
    /// Those, [`Error::NoLayer`] and [`Error::LayerDigest`].
    pub fn unpack_layer(
        &self,
        below: &[ChainId],
        diff_id: &Digest,
        archive: impl Read,
        limits: &Limits,
        watch: &dyn Watch,
    ) -> Result<Layer, Error> {
        let mut archive = archive;
        self.unpack_checked(below, diff_id, &mut archive, limits, watch, |_| Ok(()))
    }

    /// [`unpack_layer`](Self::unpack_layer), with a last look at the archive before the layer comes
    /// into the store.
    pub(crate) fn unpack_checked<R: Read>(
        &self,
        below: &[ChainId],
        diff_id: &Digest,
        archive: &mut R,
        limits: &Limits,
        watch: &dyn Watch,
        check: impl FnOnce(&mut R) -> Result<(), Error>,
    ) -> Result<Layer, Error> {
        let parent = below.last();
        let chain_id = parent.map_or_else(|| ChainId::base(*diff_id), |top| top.child(diff_id));
        let go_on = || watch.progress(0).is_continue();
        let _turn = self.holds.take_turn(chain_id, go_on).ok_or(Error::Cancelled)?;
        if let Some(layer) = self.layer(&chain_id)? {
            return Ok(layer);
        }
        self.with_scratch(|scratch| {
            let form = match below {
                [] => Form::Base,
                stack => Form::Layer(Below::new(self.layers.as_fd(), stack)),
            };
            let unpacked = fill(scratch, form, archive, limits, watch)?;
            check(archive)?;
            if unpacked.diff_id != *diff_id {
                return Err(Error::LayerDigest { expected: *diff_id, actual: unpacked.diff_id });
            }
            Ok(Layer::new(parent.copied(), &unpacked))
        })
    }

    /// What is known of a layer; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::OpenLayer`].
    pub fn layer(&self, layer: &ChainId) -> Result<Option<Layer>, Error> {
        self.holds.note(&layer.digest());
        let fail = |source| Error::OpenLayer { layer: *layer, source };
        match open_directory(self.layers.as_fd(), layer.hex()) {
            Ok(dir) => facts::read(dir.as_fd()).map(Some).map_err(fail),
            Err(failure) if failure.is(Errno::NOENT) => Ok(None),
            Err(failure) => Err(fail(failure)),
        }
    }

    /// Bytes of its files, holes counted.
    pub(crate) fn size_of_layer(&self, layer: &ChainId) -> Result<u64, Failure> {
        let dir = open_directory(self.layers.as_fd(), layer.hex())?;
        Ok(facts::read(dir.as_fd())?.size)
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
        self.holds.note(&layer.digest());
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

    /// Has `fill` make a layer out of sight, and puts it into the store.
    fn with_scratch(
        &self,
        fill: impl FnOnce(&Scratch<'_>) -> Result<Layer, Error>,
    ) -> Result<Layer, Error> {
        let scratch = self.scratch("layer").map_err(|source| Error::Import { source })?;
        match fill(&scratch).and_then(|layer| self.settle(&scratch, layer)) {
            Ok(layer) => self.publish_layer(scratch, layer),
            Err(error) => Err(scratch.discard(error)),
        }
    }

    /// Has a layer on disk that is not in the store yet.
    fn settle(&self, scratch: &Scratch<'_>, layer: Layer) -> Result<Layer, Error> {
        let fail = |source| Error::Import { source };
        facts::write(scratch.dir(), &layer).map_err(fail)?;
        if !self.has_layer(&layer.chain_id)? {
            self.sync().map_err(fail)?;
        }
        Ok(layer)
    }

    fn publish_layer(&self, scratch: Scratch<'_>, mut layer: Layer) -> Result<Layer, Error> {
        let name = layer.chain_id.hex();
        let fail = |source| Error::Import { source };
        let published = scratch.publish(self.layers.as_fd(), OsStr::new(&name), fail)?;
        layer.outcome = match published {
            Published::Now => Imported::New,
            Published::AlreadyThere => Imported::AlreadyThere,
        };
        Ok(layer)
    }

    fn take_layer_out(&self, layer: &ChainId) -> Result<Removed, Failure> {
        let layers = self.layers.as_fd();
        let Some(doomed) = self.move_out("layer", layers, OsStr::new(&layer.hex()))? else {
            return Ok(Removed::WasAbsent);
        };
        // A power cut must not bring it back with only part of its files.
        perform(&Step::Sync { file: layers })?;
        doomed.remove()
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

fn fill(
    scratch: &Scratch<'_>,
    form: Form<'_>,
    archive: &mut dyn Read,
    limits: &Limits,
    watch: &dyn Watch,
) -> Result<Unpacked, Error> {
    let root = make_diff(scratch).map_err(|source| Error::Import { source })?;
    unpack(root.as_fd(), form, archive, limits, watch)
}

fn make_diff(scratch: &Scratch<'_>) -> Result<OwnedFd, Failure> {
    perform(&Step::MakeDir { dir: scratch.dir(), name: OsStr::new(DIFF) })?;
    let root = open_directory(scratch.dir(), DIFF)?;
    perform(&Step::Mode { target: Target::Open(root.as_fd()), mode: ROOT_MODE })?;
    Ok(root)
}
