//! The network of containers: namespaces, bridges, veth pairs, addresses, routes and the firewall
//! table that lets them out.
//!
//! # What it does
//!
//! [`plan`] turns what is [`Wanted`] into [`Step`]s and does nothing else; [`setup`] runs them and
//! takes them back if one fails; [`teardown`] runs their inverses, whatever of them was done.
//! [`ensure_bridge`] sees to the bridge they are joined to. A [`Firewall`] holds one nftables
//! table for all containers, loaded once; a container is its addresses in two sets of it.
//! [`lease`] and [`choose_subnet`] decide on addresses. Everything that decides is pure;
//! everything that touches the kernel is in `sys` and goes through one function there.
//!
//! # What it does not do
//!
//! It keeps no state: what was leased and what was begun is the caller's to store. No ports, no
//! names, no drivers but bridges, no D-Bus. It does not switch on IPv6 forwarding.
//!
//! # Threads
//!
//! All calls block; none may be made on a thread that drives an async runtime. Many threads may
//! call at once. "The host" is the network namespace of the calling thread. No thread of the
//! caller ever changes its namespace: what has to happen inside one happens on a thread that ends.
//!
//! # Privileges and kernels
//!
//! `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`; Linux 5.10 or newer, with `nf_tables`. From 6.9 on the
//! firewall table cannot be changed by others.
//!
//! The directory `/run/netns` is used as `ip netns` uses it, and becomes a shared mount for good.
//!
//! # References
//!
//! - [network_namespaces(7)](https://man7.org/linux/man-pages/man7/network_namespaces.7.html)
//! - [ip-netns(8)](https://man7.org/linux/man-pages/man8/ip-netns.8.html)
//! - [rtnetlink(7)](https://man7.org/linux/man-pages/man7/rtnetlink.7.html)
//! - [nft(8)](https://man7.org/linux/man-pages/man8/nft.8.html)

mod bridge;
mod elements;
mod error;
#[cfg(feature = "fault")]
pub mod fault;
#[cfg(not(feature = "fault"))]
mod fault;
mod firewall;
pub mod lease;
mod mac;
mod name;
mod namespace;
mod plan;
mod ruleset;
mod step;
mod subnet;
#[expect(unsafe_code, reason = "unshare(2) is unsafe in rustix")]
mod sys;
mod undo;
mod wanted;

pub use bridge::{Ensured, Removed, ensure_bridge, host_prefixes, remove_bridge};
pub use error::{Error, ErrorKind, Leftover};
pub use firewall::{Firewall, Found, Ownership};
pub use mac::{InvalidMacAddress, MacAddress};
pub use name::{InterfaceName, InvalidName, NamespaceName, TableName};
pub use namespace::{
    Namespace, directory_is_prepared, enter, open_namespace, release_directory, setup, teardown,
};
pub use plan::plan;
pub use step::{Place, Step};
pub use subnet::choose_subnet;
pub use wanted::{Attachment, Bridge, Wanted};

/// Keeps the example of the README compiling.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
