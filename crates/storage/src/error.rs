//! What can go wrong.

mod archive;
mod failure;
mod image;

use std::path::PathBuf;
use std::{error, io};

use crate::attach::Holder;
use crate::digest::{ChainId, Digest};
use crate::names::{ContainerKey, FileName, VolumeName};

pub use archive::{Limit, Malformed, Refusal};
pub use failure::{Failure, Leftover};
pub use image::ImageFault;

/// Everything that can go wrong in this crate.
///
/// `Display` says what was being done to what; the cause is only in
/// [`source`](error::Error::source), so a printed chain says nothing twice.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store could not be opened or created.
    #[error("cannot open the store {}", root.display())]
    OpenStore {
        /// Its root directory.
        root: PathBuf,
        /// What failed.
        source: Failure,
    },
    /// Another process, or another [`Store`](crate::Store) of this one, has the store open.
    #[error("the store {} is in use", root.display())]
    Locked {
        /// Its root directory.
        root: PathBuf,
    },
    /// The store's layers or containers could not be listed.
    #[error("cannot list the {what} of the store")]
    List {
        /// Which of the two.
        what: &'static str,
        /// What failed.
        source: Failure,
    },

    /// A blob could not be stored; the store is as before.
    #[error("cannot store blob {digest}")]
    PutBlob {
        /// Its digest.
        digest: Digest,
        /// What failed.
        source: Failure,
    },
    /// A blob could not be read.
    #[error("cannot read blob {digest}")]
    GetBlob {
        /// Its digest.
        digest: Digest,
        /// What failed.
        source: Failure,
    },
    /// There is no such blob.
    #[error("no blob {digest}")]
    NoBlob {
        /// The digest asked for.
        digest: Digest,
    },
    /// A blob is larger than the caller takes.
    #[error("blob {digest} has more than {max} bytes")]
    BlobTooLarge {
        /// Its digest.
        digest: Digest,
        /// What the caller takes, in bytes.
        max: usize,
    },
    /// A blob no longer has the digest it is stored under.
    #[error("blob {digest} is damaged")]
    BlobDamaged {
        /// The digest it is stored under.
        digest: Digest,
    },
    /// What was to be stored as a blob has another digest.
    #[error("what should be blob {expected} is {actual}")]
    BlobDigest {
        /// The digest it was to have.
        expected: Digest,
        /// The digest it has.
        actual: Digest,
    },
    /// What was to be stored as a blob has another size.
    #[error("what should be blob {digest} has {actual} bytes or more instead of {expected}")]
    BlobSize {
        /// The digest it was to have.
        digest: Digest,
        /// Bytes it was to have.
        expected: u64,
        /// Bytes read.
        actual: u64,
    },
    /// A blob could not be removed.
    #[error("cannot remove blob {digest}")]
    RemoveBlob {
        /// Its digest.
        digest: Digest,
        /// What failed.
        source: Failure,
    },

    /// An image is not valid, or not what was asked for.
    #[error("the image is refused")]
    Image {
        /// What is wrong with it.
        source: ImageFault,
    },
    /// An image layout, or an image archive in a file, could not be read.
    #[error("cannot read the image")]
    ReadLayout {
        /// What failed.
        source: Failure,
    },
    /// The disk has less room than what was to be stored takes.
    #[error("the disk has room for {available} bytes, and {needed} are needed")]
    NoRoom {
        /// Bytes needed.
        needed: u64,
        /// Bytes that are free.
        available: u64,
    },
    /// It could not be found out how much room the disk has.
    #[error("cannot tell how much room there is on the disk")]
    Space {
        /// What failed.
        source: Failure,
    },
    /// The ballast could not be kept or released.
    #[error("cannot keep or release the ballast")]
    Ballast {
        /// What failed.
        source: Failure,
    },

    /// The reader of an archive failed.
    #[error("cannot read the archive")]
    ReadArchive {
        /// The reader's answer.
        source: io::Error,
    },
    /// An archive is truncated, damaged or none.
    #[error("the archive is not valid near byte {at} of its uncompressed form")]
    Malformed {
        /// Bytes read until then; the fault is at most 128 KiB before.
        at: u64,
        /// What is wrong with it.
        source: Malformed,
    },
    /// An archive holds an entry that is not unpacked.
    #[error("the archive's entry {entry:?} is refused")]
    Refused {
        /// The entry's name, as the archive gives it.
        entry: PathBuf,
        /// Why.
        source: Refusal,
    },
    /// An archive exceeds a limit.
    #[error("the archive exceeds the limit of {allowed} {limit}")]
    Limit {
        /// Which limit.
        limit: Limit,
        /// Its value.
        allowed: u64,
    },
    /// The import was cancelled by its [`Watch`](crate::Watch).
    #[error("the import was cancelled")]
    Cancelled,
    /// An entry of an archive could not be unpacked.
    #[error("cannot unpack {entry:?}")]
    Unpack {
        /// The entry's path in the root.
        entry: PathBuf,
        /// What failed.
        source: Failure,
    },
    /// A layer could not be put into the store.
    #[error("cannot store the layer")]
    Import {
        /// What failed.
        source: Failure,
    },
    /// A layer could not be looked at.
    #[error("cannot open layer {layer}")]
    OpenLayer {
        /// The layer.
        layer: ChainId,
        /// What failed.
        source: Failure,
    },
    /// There is no such layer.
    #[error("no layer {layer}")]
    NoLayer {
        /// The layer asked for.
        layer: ChainId,
    },
    /// A layer is not the one its image names.
    #[error("what should be layer {expected} is {actual}")]
    LayerDigest {
        /// The digest its uncompressed archive was to have.
        expected: Digest,
        /// The digest it has.
        actual: Digest,
    },
    /// A layer could not be removed; if it is no longer listed, the store's next opening
    /// removes the rest.
    #[error("cannot remove layer {layer}")]
    RemoveLayer {
        /// The layer.
        layer: ChainId,
        /// What failed.
        source: Failure,
    },

    /// A container's own layer could not be created.
    #[error("cannot create the layer of container {key}")]
    CreateContainer {
        /// The container.
        key: ContainerKey,
        /// What failed.
        source: Failure,
    },
    /// The container has a layer already.
    #[error("container {key} has a layer already")]
    ContainerExists {
        /// The container.
        key: ContainerKey,
    },
    /// The container has no layer.
    #[error("container {key} has no layer")]
    NoContainer {
        /// The container.
        key: ContainerKey,
    },
    /// A container's layer could not be removed; if it is no longer listed, the store's next
    /// opening removes the rest.
    #[error("cannot remove the layer of container {key}")]
    RemoveContainer {
        /// The container.
        key: ContainerKey,
        /// What failed.
        source: Failure,
    },

    /// A root that nothing flushed was mounted when the host last went down: what its container
    /// wrote may be lost in part. See [`Store::accept_loss`](crate::Store::accept_loss).
    #[error("data of container {key} may be lost")]
    DataMayBeLost {
        /// The container.
        key: ContainerKey,
    },
    /// This kernel or filesystem cannot do it.
    #[error("{what}: {needs} needed")]
    Unsupported {
        /// What.
        what: &'static str,
        /// What can.
        needs: &'static str,
    },
    /// The root of an image could not be mounted.
    #[error("cannot mount {count} layers{}", said(message))]
    MountLayers {
        /// How many.
        count: usize,
        /// What the kernel said besides, one message a line; may be empty.
        message: String,
        /// What failed.
        source: Failure,
    },
    /// No layers, or more than the kernel stacks.
    #[error("cannot stack {count} layers, only 1 to {max}", max = crate::overlay::MAX_LAYERS)]
    LayerCount {
        /// How many were given.
        count: usize,
    },
    /// A kernel before 6.13 takes all layers in one text, and these do not fit.
    #[error("cannot tell this kernel {count} layers at once")]
    LayersTooLong {
        /// How many were given.
        count: usize,
    },
    /// A root could not be mounted.
    #[error("cannot mount the root of container {key}{}", said(message))]
    MountRootfs {
        /// The container.
        key: ContainerKey,
        /// What the kernel said besides, one message a line; may be empty, for overlayfs says
        /// much in the kernel's log only.
        message: String,
        /// What failed.
        source: Failure,
    },
    /// A filesystem in memory could not be mounted.
    #[error("cannot mount {size} bytes of memory{}", said(message))]
    MountTmpfs {
        /// Its size in bytes.
        size: u64,
        /// What the kernel said besides, one message a line; may be empty.
        message: String,
        /// What failed.
        source: Failure,
    },

    /// A file in a root could not be read.
    #[error("cannot read {path:?} in the root")]
    ReadFile {
        /// The path asked for.
        path: String,
        /// What failed.
        source: Failure,
    },
    /// What should be a file in a root is a directory, FIFO, socket or device.
    #[error("{path:?} in the root is not a regular file")]
    NotRegular {
        /// The path asked for.
        path: String,
    },
    /// A file in a root is larger than the caller takes.
    #[error("{path:?} in the root has more than {max} bytes")]
    FileTooLarge {
        /// The path asked for.
        path: String,
        /// What the caller takes, in bytes.
        max: usize,
    },

    /// A mount could not be put over a name.
    #[error("cannot mount on {name}")]
    Attach {
        /// The name.
        name: FileName,
        /// What failed.
        source: Failure,
    },
    /// Something could not be unmounted.
    #[error("cannot unmount {name}")]
    Detach {
        /// Its name in the directory given.
        name: FileName,
        /// What failed.
        source: Failure,
    },
    /// Something could not be unmounted because it is in use.
    #[error("cannot unmount {name}, which is used by {}", listed(holders))]
    Busy {
        /// Its name in the directory given.
        name: FileName,
        /// Who uses it, as far as that can be told.
        holders: Vec<Holder>,
        /// What failed.
        source: Failure,
    },

    /// What the host lives in is not relabelled.
    #[error("{path:?} is a part of the host, and is not relabelled")]
    RelabelHost {
        /// Where it is.
        path: PathBuf,
    },
    /// Something could not be relabelled, or not in full.
    #[error("cannot relabel {path:?}")]
    Relabel {
        /// Where it is.
        path: PathBuf,
        /// What failed.
        source: Failure,
    },
    /// The writer of an archive failed.
    #[error("cannot write the archive")]
    WriteArchive {
        /// The writer's answer.
        source: io::Error,
    },

    /// A volume could not be created.
    #[error("cannot create volume {name}")]
    CreateVolume {
        /// The volume.
        name: VolumeName,
        /// What failed.
        source: Failure,
    },
    /// There is a volume of that name.
    #[error("volume {name} is there already")]
    VolumeExists {
        /// The volume.
        name: VolumeName,
    },
    /// There is no volume of that name.
    #[error("no volume {name}")]
    NoVolume {
        /// The volume.
        name: VolumeName,
    },
    /// A volume could not be looked at or changed.
    #[error("cannot work with volume {name}")]
    OpenVolume {
        /// The volume.
        name: VolumeName,
        /// What failed.
        source: Failure,
    },
    /// A volume could not be removed.
    #[error("cannot remove volume {name}")]
    RemoveVolume {
        /// The volume.
        name: VolumeName,
        /// What failed.
        source: Failure,
    },

    /// Something of the host could not be pinned.
    #[error("cannot pin it")]
    Pin {
        /// What failed.
        source: Failure,
    },
    /// What was pinned is not there any more, or is something else.
    #[error("{path:?} is not what it was")]
    PinMoved {
        /// Where it was.
        path: PathBuf,
    },
    /// What was pinned could not be looked at.
    #[error("cannot open {path:?} again")]
    Reopen {
        /// Where it was.
        path: PathBuf,
        /// What failed.
        source: Failure,
    },
    /// A mount of something that is open could not be made.
    #[error("cannot make a mount of it")]
    Bind {
        /// What failed.
        source: Failure,
    },

    /// Something in a root could not be made, changed or removed.
    #[error("cannot change {path:?} in the root")]
    ChangeRoot {
        /// The path asked for.
        path: String,
        /// What failed.
        source: Failure,
    },
    /// A container's own layer could not be looked at.
    #[error("cannot open the layer of container {key}")]
    OpenContainer {
        /// The container.
        key: ContainerKey,
        /// What failed.
        source: Failure,
    },
    /// What a container changed could not be found out.
    #[error("cannot tell what became of {path:?}")]
    Diff {
        /// The path below the root.
        path: PathBuf,
        /// What failed.
        source: Failure,
    },
    /// Something could not be put into an archive.
    #[error("cannot archive {path:?}")]
    Pack {
        /// Its path below the top of the archive.
        path: PathBuf,
        /// What failed.
        source: Failure,
    },
    /// A file cannot be in a layer, where a name that starts with `.wh.` hides another.
    #[error("{path:?} cannot be in a layer, where its name would hide another")]
    PackName {
        /// Its path.
        path: PathBuf,
    },
    /// A file became shorter while it was read.
    #[error("{path:?} became shorter while it was read")]
    Changed {
        /// Its path.
        path: PathBuf,
    },

    /// A file could not be written; those before it have been taken back.
    #[error("cannot write file {name}")]
    WriteFile {
        /// The file.
        name: FileName,
        /// What failed.
        source: Failure,
    },
    /// A tree could not be removed, or not in full.
    #[error("cannot remove {name}")]
    RemoveTree {
        /// Its name in the directory given.
        name: FileName,
        /// What failed.
        source: Failure,
    },

    /// An operation failed, and so did taking back a part of it.
    #[error("{} left behind by a failed operation", things(leftovers))]
    Leftovers {
        /// Undo steps that failed too, in the order tried; never empty.
        leftovers: Vec<Leftover>,
        /// Why the operation failed.
        #[source]
        failed: Box<Error>,
    },
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

fn listed(holders: &[Holder]) -> String {
    let all: Vec<_> = holders.iter().map(ToString::to_string).collect();
    if all.is_empty() { "somebody".into() } else { all.join(", ") }
}

fn things(leftovers: &[Leftover]) -> String {
    match leftovers {
        [one] => format!("one thing (\"{}\" failed)", one.undo),
        many => format!("{} things", many.len()),
    }
}

/// What a caller can act on, without matching every [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What was named is not there.
    NotFound,
    /// What was to be made is there.
    AlreadyExists,
    /// Somebody else has the store open, uses a mount, or puts things into what is to be removed.
    InUse,
    /// This kernel or filesystem cannot do it.
    Unsupported,
    /// The archive, blob or file is at fault, not this host: trying again cannot help.
    InvalidInput,
    /// The disk or the quota is full.
    NoSpace,
    /// The process lacks a capability.
    PermissionDenied,
    /// The watcher wanted it so.
    Cancelled,
    /// Undo was incomplete. What is in the store's `tmp` the next opening removes.
    NeedsRepair,
    /// Anything else; only worth logging.
    Other,
}

impl Error {
    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoBlob { .. }
            | Self::NoLayer { .. }
            | Self::NoContainer { .. }
            | Self::NoVolume { .. } => ErrorKind::NotFound,
            Self::ContainerExists { .. } | Self::VolumeExists { .. } => ErrorKind::AlreadyExists,
            Self::Locked { .. } | Self::Busy { .. } => ErrorKind::InUse,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::NoRoom { .. } => ErrorKind::NoSpace,
            Self::Malformed { .. }
            | Self::Image { .. }
            | Self::Refused { .. }
            | Self::Limit { .. }
            | Self::LayerCount { .. }
            | Self::BlobTooLarge { .. }
            | Self::BlobDigest { .. }
            | Self::BlobSize { .. }
            | Self::LayerDigest { .. }
            | Self::PackName { .. }
            | Self::RelabelHost { .. }
            | Self::BlobDamaged { .. }
            | Self::NotRegular { .. }
            | Self::FileTooLarge { .. } => ErrorKind::InvalidInput,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Leftovers { .. } => ErrorKind::NeedsRepair,
            Self::ReadArchive { .. } | Self::WriteArchive { .. } => ErrorKind::Other,
            _ => self.failure().map_or(ErrorKind::Other, Failure::kind),
        }
    }

    fn failure(&self) -> Option<&Failure> {
        error::Error::source(self)?.downcast_ref()
    }

    /// This error, with what could not be taken back after it.
    pub(crate) fn with_leftovers(self, leftovers: Vec<Leftover>) -> Self {
        if leftovers.is_empty() {
            return self;
        }
        Self::Leftovers { leftovers, failed: Box::new(self) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    fn put_blob(errno: Errno) -> Error {
        let source = Failure::new(&"write it", errno.into());
        Error::PutBlob { digest: Digest::of(b""), source }
    }

    #[test]
    fn a_chain_says_each_thing_once() {
        let error = put_blob(Errno::NOSPC);
        let mut chain = vec![error.to_string()];
        let mut next = error::Error::source(&error);
        while let Some(cause) = next {
            chain.push(cause.to_string());
            next = cause.source();
        }
        assert!(chain[0].starts_with("cannot store blob sha256:e3b0c442"), "{chain:?}");
        assert_eq!(chain[1], "cannot write it");
        assert!(chain[2].starts_with("No space left"), "{chain:?}");
        assert_eq!(chain.len(), 3);
    }

    #[test]
    fn kinds_follow_the_cause() {
        for (about, error, want) in [
            ("full disk", put_blob(Errno::NOSPC), ErrorKind::NoSpace),
            ("full quota", put_blob(Errno::DQUOT), ErrorKind::NoSpace),
            ("no capability", put_blob(Errno::PERM), ErrorKind::PermissionDenied),
            ("filled meanwhile", put_blob(Errno::NOTEMPTY), ErrorKind::InUse),
            ("emptied meanwhile", put_blob(Errno::NOENT), ErrorKind::NotFound),
            ("broken disk", put_blob(Errno::IO), ErrorKind::Other),
            ("absent", Error::NoBlob { digest: Digest::of(b"") }, ErrorKind::NotFound),
            ("stopped", Error::Cancelled, ErrorKind::Cancelled),
        ] {
            assert_eq!(error.kind(), want, "{about}");
        }
    }

    #[test]
    fn leftovers_keep_the_first_cause() {
        assert!(matches!(put_blob(Errno::IO).with_leftovers(vec![]), Error::PutBlob { .. }));
        let undo = Leftover { undo: "remove \"x\"".into(), source: Errno::ROFS.into() };
        let error = put_blob(Errno::IO).with_leftovers(vec![undo]);
        assert_eq!(error.kind(), ErrorKind::NeedsRepair);
        let said = error.to_string();
        assert_eq!(said, "one thing (\"remove \"x\"\" failed) left behind by a failed operation");
    }
}
