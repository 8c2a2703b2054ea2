//! Image layers, overlay roots and mounts of containers.
//!
//! # What it does
//!
//! A [`Store`] keeps blobs and unpacked layers by their digests, and a layer of its own for each
//! container. [`Store::import_layer`] unpacks an archive nobody vouches for;
//! [`Store::mount_rootfs`] stacks layers into a detached overlay mount, a [`Rootfs`], in which
//! files can be read without being led astray. Beside that: [`mount_shm`], [`write_files`] and
//! [`remove_tree`].
//!
//! # What it does not do
//!
//! It pulls nothing, reads no image manifests, keeps no names and counts no references: who removes
//! a layer knows that nothing stands on it. It attaches no mount to a namespace. It makes no device
//! nodes, whatever an archive holds.
//!
//! # Threads
//!
//! Calls block. A [`Store`] may be used by many threads at once, also for imports. Nothing of the
//! process is changed: no working directory, no umask, no namespace. On kernels before 6.13
//! [`Store::mount_rootfs`] works on a thread of its own that ends with the call.
//!
//! # Privileges and kernels
//!
//! Unpacking needs `CAP_CHOWN`, `CAP_FOWNER`, `CAP_DAC_OVERRIDE`, `CAP_FSETID`, and `CAP_SETFCAP`
//! for archives with file capabilities; mounting needs `CAP_SYS_ADMIN`. Linux 5.6 for all but
//! [`Store::mount_rootfs`], which needs 5.14; `/proc` must be mounted. Tested on 6.1, 6.12 and 6.18.
//! The filesystem of the store must be one overlayfs takes as its upper: ext4, XFS, btrfs, tmpfs.
//!
//! # References
//!
//! - [OCI image specification](https://github.com/opencontainers/image-spec)
//! - [openat2(2)](https://man7.org/linux/man-pages/man2/openat2.2.html)
//! - [overlayfs](https://docs.kernel.org/filesystems/overlayfs.html)

#![expect(
    clippy::unnecessary_debug_formatting,
    reason = "names out of an archive may hold anything, so messages escape them"
)]

mod blobs;
mod containers;
mod digest;
mod error;
#[cfg(not(feature = "fault"))]
mod fault;
#[cfg(feature = "fault")]
pub mod fault;
mod files;
mod layers;
mod names;
mod overlay;
mod remove;
mod rootfs;
mod shm;
mod store;
mod sys;
mod undo;
mod unpack;

pub use blobs::Blob;
pub use digest::{ChainId, Digest, InvalidDigest};
pub use error::{Error, ErrorKind, Failure, Leftover, Limit, Malformed, Refusal};
pub use files::{Access, NewFile, write_files};
pub use layers::{Imported, Layer};
pub use names::{ContainerKey, FileName, InvalidName, MountLabel};
pub use remove::{Removed, remove_tree};
pub use rootfs::Rootfs;
pub use shm::mount_shm;
pub use store::Store;
pub use unpack::{Limits, Watch};

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
