//! Tests that need root and real programs: what they share.
//!
//! # What it does
//!
//! [`on_scratch_host`] gives a test network and mount namespaces of its own, and compares the
//! [`World`] before and after it. [`Tared`] is a real daemon there, on directories of its own, and
//! [`Client`] a connection to it that remembers everything it was sent. Nothing is mocked: conmon,
//! the OCI runtimes and `dbus-daemon` are those of the machine, and images are made from its
//! `/bin/busybox`.
//!
//! # What it does not do
//!
//! It does not build the programs: `make build` does; where a program asks before each effect,
//! [`faults`] answers. It uses nothing of any other crate of the workspace but
//! [`host_world`](world); what it knows of the service is the bus contract.
//!
//! # Threads
//!
//! Tests run one after the other, whatever the test harness wants, because some of them measure
//! time; those of faults do not. The namespaces are those of the test's thread, and end with it.
//!
//! # Privileges and kernels
//!
//! Root. Needs `busybox-static`, `docker-registry`, `dbus-daemon`, `conmon`, `runc` or `crun`, `nftables`,
//! `iproute2`, `skopeo`, `systemd` (for `busctl`) and `util-linux` (for `setpriv`).
#![expect(clippy::unwrap_used, reason = "where a fixture fails, the test has failed")]

pub mod archive;
mod asking;
mod bins;
mod client;
pub mod contract;
pub mod faults;
mod host;
pub mod image;
mod lab;
mod made;
pub mod main_job;
pub mod network;
pub mod plants;
mod properties;
pub mod registry;
mod replies;
mod resolver;
#[expect(unsafe_code, reason = "unshare(2), and what is done between fork and exec")]
mod sys;
mod tared;
pub mod vlan;

pub use asking::{Asking, asked_in};
pub use bins::bin;
pub use client::{Client, ERROR, Options, ROOT, failure, read, signal, started};
pub use host::{Host, RESOLV_CONF, as_user, on_busy_scratch_host, on_scratch_host, run};
pub use host_world as world;
pub use host_world::World;
pub use lab::{Lab, Ring, SYSTEM_BUS, in_lab};
pub use properties::Properties;
pub use replies::{Ended, Executed, Exit, Refused};
pub use resolver::Resolver;
pub use tared::{Setup, Tared};
