//! Images, layers, volumes and mounts of containers.
//!
//! # What it does
//!
//! A [`Store`] keeps blobs and unpacked layers by their digests, volumes by their names, and a layer of
//! its own for each container. [`Store::import`] takes images out of archives and layouts nobody
//! vouches for, [`Store::import_layer`] and [`Store::unpack_layer`] single layers;
//! [`Store::collect_garbage`] takes away what nothing needs. [`Store::mount_rootfs`] stacks layers into
//! a detached overlay mount, a [`Rootfs`]: the one way to anything in a root, out of which no path
//! leads. [`Store::changes`], [`Store::diff`] and [`Store::commit`] say what a container changed.
//! [`Pin`], [`bind()`] and [`mount_tmpfs`] make mounts of what is open.
//!
//! # What it does not do
//!
//! It pulls nothing, keeps no names of images and counts no references: who removes a layer knows that
//! nothing stands on it. Only [`attach`] puts a mount where others see it. It makes no device nodes
//! unless it is told to ([`Devices`]), and starts no programs.
//!
//! # Threads
//!
//! Calls block. A [`Store`] may be used by many threads at once, also for imports: a layer that several
//! want is unpacked by one. Nothing of the process is changed: no working directory, no umask, no
//! namespace. On kernels before 6.13 [`Store::mount_rootfs`] works on a thread of its own that ends
//! with the call.
//!
//! # Power cuts
//!
//! A layer, a blob, a volume and a container's own layer come into the store by one rename, when they
//! are complete and on disk, and go out by one rename. So each is there as a whole or not at all,
//! whenever the host or the process ends.
//!
//! # Privileges and kernels
//!
//! Unpacking needs `CAP_CHOWN`, `CAP_FOWNER`, `CAP_DAC_OVERRIDE`, `CAP_FSETID`, `CAP_SETFCAP` for
//! archives with file capabilities, `CAP_MKNOD` and `CAP_SYS_ADMIN` for layers that hide something;
//! mounting needs `CAP_SYS_ADMIN`. Linux 5.6 for all but mounting, which needs 5.14, and mapped owners
//! in layers, which need 6.15; `/proc` must be mounted. Tested on 6.18; roots of containers also on 6.1
//! and 6.12. The filesystem of the store must be one overlayfs takes as its upper: ext4, XFS, btrfs,
//! tmpfs.
//!
//! # References
//!
//! - [OCI image specification](https://github.com/opencontainers/image-spec)
//! - [openat2(2)](https://man7.org/linux/man-pages/man2/openat2.2.html)
//! - [overlayfs](https://docs.kernel.org/filesystems/overlayfs.html)

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make their own surroundings"))]
#![expect(
    clippy::unnecessary_debug_formatting,
    reason = "names out of an archive may hold anything, so messages escape them"
)]

mod attach;
mod bind;
mod blobs;
mod commit;
mod containers;
mod diff;
mod digest;
mod error;
#[cfg(not(feature = "fault"))]
mod fault;
#[cfg(feature = "fault")]
pub mod fault;
mod files;
mod gc;
mod holds;
mod images;
mod labels;
mod layers;
mod leftovers;
mod names;
mod overlay;
mod pack;
mod pin;
mod remove;
mod rootfs;
mod space;
mod store;
mod sys;
mod tmpfs;
mod undo;
mod unpack;
mod usage;
mod volumes;
mod walk;

pub use attach::{Detached, Holder, attach, detach, detach_now};
pub use bind::{BindOptions, MountAccess, Propagation, bind, mount_in_view};
pub use blobs::BlobWriter;
pub use commit::Committed;
pub use diff::{Change, ChangeKind, Changes, RUNTIME_PATHS};
pub use digest::{ChainId, Digest, InvalidDigest};
pub use error::{Error, ErrorKind, Failure, ImageFault, Leftover, Limit, Malformed, Refusal};
pub use files::{Access, NewFile, write_files};
pub use gc::{Collected, Needed};
pub use holds::Hold;
pub use images::{
    Archive, Blobs, Descriptor, ExportedImage, Format, ImageFacts, ImportOptions, ImportedImage,
    Imports, IndexEntry, InvalidPlatform, MAX_CONFIG, MAX_MANIFEST, Manifest, Platform, choose_for,
    is_index, parse_index,
};
pub use labels::{Relabeled, relabel, selinux_enabled};
pub use layers::{Imported, Layer};
pub use names::{ContainerKey, FileLabel, FileName, InvalidName, VolumeName};
pub use overlay::{Durability, RootOptions};
pub use pack::TarStream;
pub use pin::Pin;
pub use remove::{Removed, remove_tree};
pub use rootfs::{NewEntry, Rootfs, Transferred, Within, read_place};
pub use space::{Estimate, Space};
pub use store::Store;
pub use sys::{Kind, Stat};
pub use tmpfs::{TmpfsOptions, mount_shm, mount_shm_of, mount_tmpfs};
pub use unpack::{Compression, Devices, Limits, Watch};
pub use volumes::{Filled, SizeLimit, Volume, VolumeOptions};

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
