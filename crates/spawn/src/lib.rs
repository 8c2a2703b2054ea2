//! Starts conmon and OCI runtimes for a container, in a mount namespace of its own.
//!
//! # What it does
//!
//! [`Spawner`] is the one seam through which a container manager forks: it makes a private mount
//! namespace, moves the container's detached mounts to their places in it, starts `conmon` there
//! in a cgroup of its own, and runs every later runtime call of that container in the same
//! namespace. [`Local`] does it in this process; [`Remote`] has the program `tare-spawn` do it,
//! which is a [`Server`] with a [`Local`] behind it.
//!
//! A call either succeeds or takes back all it did; what could not be taken back is in the
//! [`Error`]. Output of programs and waiting for them are bounded.
//!
//! # What it does not do
//!
//! It writes no `config.json` and no exit code, mounts no file system but cgroup2, opens no image,
//! and does not decide who may ask: **whoever may call this crate is root**. It only ever runs the
//! programs in [`Settings`], with arguments it builds itself.
//!
//! # Threads
//!
//! All calls block, for at most a minute or so. Namespaces are entered on threads that end with
//! the call; nothing of the process (directory, umask, environment, namespaces) is changed. The one
//! exception is asked for: [`Local::adopt_orphans`] makes the process a child subreaper and starts
//! a thread that collects conmon and what it leaves when they end. Calls for different containers
//! may run at the same time; calls for one container must not. [`Server`] has a thread for each call.
//!
//! # Privileges and kernels
//!
//! `CAP_SYS_ADMIN`, and in practice root; Linux 5.14 (`cgroup.kill`); conmon 2.1, and runc 1.1 or
//! crun 1.8. Tested on Linux 6.18 with conmon 2.1.6.
//!
//! # References
//!
//! - [mount_namespaces(7)](https://man7.org/linux/man-pages/man7/mount_namespaces.7.html),
//!   [cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html),
//!   [pidfd_open(2)](https://man7.org/linux/man-pages/man2/pidfd_open.2.html)
//! - [conmon](https://github.com/containers/conmon/blob/main/docs/conmon.8.md)
//! - [OCI runtime specification](https://github.com/opencontainers/runtime-spec)

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make their own surroundings"))]

mod argv;
mod cgroup;
#[cfg(feature = "daemon")]
pub mod daemon;
mod error;
pub mod fault;
mod id;
mod launch;
mod layout;
mod limits;
mod local;
mod message;
mod profile;
mod relay;
mod remote;
mod request;
mod server;
mod settings;
mod spawner;
mod step;
#[expect(clippy::disallowed_methods, reason = "this is where the steps are carried out")]
#[expect(unsafe_code, reason = "unshare(2), setns(2), close_range(2) and mount_setattr(2)")]
mod sys;
mod trial;
mod undo;
mod users;
mod view;
mod wire;

pub use cgroup::{CgroupPath, InvalidCgroupPath};
pub use error::{Cause, Error, ErrorKind, Leftover, Refusal, Rejection};
pub use id::{ContainerId, Incarnation, InvalidContainerId};
pub use layout::{Layout, TERMINAL_SOCKETS};
pub use limits::Limits;
pub use local::Local;
pub use profile::{InvalidProfile, MAX_PROFILE, Profile, ProfileName};
pub use remote::Remote;
pub use request::{
    After, Attach, AttachedStreams, Checkpoint, Create, Created, Deleted, Exec, Execed, Extent,
    Extras, FIRST_KEPT, Force, JournalLog, LiveFile, Log, MAX_ATTACHED, MAX_ATTACHED_OF_ONE,
    MAX_KEPT, MAX_MOUNTS, OciRuntime, Place, PlacedMount, Started, Stdin, Streams, Swapped, Target,
};
pub use server::{Listener, Server};
pub use settings::{CgroupView, Settings};
pub use spawner::{Dumped, Prepared, Spawner};
pub use trial::{Probed, Trial, Verdict};
pub use users::{IdRange, UserMap};

/// The example in README.md compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
