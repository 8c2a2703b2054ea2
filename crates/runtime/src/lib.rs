//! conmon and OCI runtimes: what they say, and how containers are watched.
//!
//! # What it does
//!
//! - [`identity`]: recognises a process again after the watcher was restarted;
//! - [`exit`]: exit codes, from conmon's exit file and from the kernel;
//! - [`log`]: reads what conmon has logged, into files or into the journal, with filters, tail and follow;
//! - [`cgroup`]: what kind of hierarchy a host has; figures, freezing and killing of one group;
//! - [`signal`]: names of signals, and sending them through a pidfd;
//! - [`version`]: what conmon, crun and runc print for `--version`, and known holes in it;
//! - [`ContainerId`] and [`ContainerName`].
//!
//! # What it does not do
//!
//! It starts nothing, writes no file but those of a control group, keeps no state and has no
//! opinion on when to look: waiting is the caller's (a pidfd polls readable when its process ends).
//!
//! # Threads
//!
//! Everything may be called from any thread; nothing blocks for long but reads of slow disks.
//!
//! # Privileges and kernels
//!
//! What the files and processes read demand; root for those of others. Linux 5.14. From 6.9 on a
//! process is recognised by the inode of its pidfd too, and from 6.15 on the kernel tells how a
//! process of somebody else's ended.
//!
//! # References
//!
//! - [pidfd_open(2)](https://man7.org/linux/man-pages/man2/pidfd_open.2.html),
//!   [cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)
//! - [conmon](https://github.com/containers/conmon/blob/main/docs/conmon.8.md)

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make their own surroundings"))]

pub mod cgroup;
mod complaint;
mod error;
pub mod exit;
pub mod fault;
mod id;
pub mod identity;
pub mod log;
mod name;
pub mod signal;
mod step;
#[expect(clippy::disallowed_methods, reason = "this is where the steps are carried out")]
#[expect(unsafe_code, reason = "the PIDFD_GET_INFO ioctl and signal numbers above 31")]
mod sys;
pub mod terminal;
pub mod version;

pub use complaint::BadCommand;
pub use error::{Error, ErrorKind};
pub use id::{ContainerId, InvalidContainerId};
pub use name::{ContainerName, InvalidContainerName};
pub use signal::Signal;

/// The example in README.md compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
