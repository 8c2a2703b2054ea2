//! Checkpoint archives of containers, read as untrusted input, and what CRIU says of its work.
//!
//! # What it does
//!
//! The archive is podman's: a tar with the images of CRIU and the changed files of a container.
//! - [`Member::parse`] knows the members such an archive may have, by exact name and kind;
//! - [`Contents`] refuses a member that comes twice, and an archive that lacks what a restore
//!   needs;
//! - [`ConfigDump`] reads the few fields of `config.dump` that are taken from an archive at all;
//! - [`DeletedFiles`] reads the list of files to delete.
//!
//! CRIU leaves a log and its figures: [`Complaint`] finds in the one why it failed, and [`DumpStats`]
//! reads the other.
//!
//! Whoever wrote an archive decides what is in it, so nothing of it is believed: names are parsed
//! into types that cannot leave the directory they are used in, sizes and counts are bounded, and
//! what is not known is an error. No accepted name is a way out: it is one path component below a
//! directory of a fixed name, or a [`RelativePath`] without `..`. Links inside a root file system
//! are another matter: whoever deletes there must resolve a path in that root, never by joining
//! strings, and must not follow its last component.
//!
//! # What it does not do
//!
//! It opens, reads, writes and deletes nothing and knows no compression; it is given bytes that
//! somebody has read, and whoever reads them heeds the limits ([`ConfigDump::MAX_LEN`],
//! [`DeletedFiles::MAX_LEN`]). It takes no mounts, hooks, devices, capabilities, labels, log paths
//! or references to pull from an archive. It does not write archives yet.
//!
//! # Threads
//!
//! Everything may be called from any thread; nothing blocks.
//!
//! # Privileges and kernels
//!
//! None, and any.
//!
//! # References
//!
//! - [podman-container-checkpoint(1)](https://docs.podman.io/en/stable/markdown/podman-container-checkpoint.1.html)
//! - [CRIU, images](https://criu.org/Images)
//! - [checkpointctl](https://github.com/checkpoint-restore/checkpointctl), the names of the members

mod complaint;
mod config;
mod contents;
mod deleted;
mod error;
mod grammar;
mod json;
mod member;
mod path;
mod stats;

pub use complaint::{Complaint, Extra, criu_version};
pub use config::{ConfigDump, Runtime};
pub use contents::Contents;
pub use deleted::DeletedFiles;
pub use error::{Document, Error, ErrorKind, Unsupported};
pub use grammar::{
    ContainerId, ContainerName, ImageFile, ImageId, InvalidId, InvalidName, VolumeName,
};
pub use member::{EntryKind, Ignored, Member};
pub use path::{InvalidPath, RelativePath};
pub use stats::DumpStats;

/// The example in README.md compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
