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
mod connection;
mod conntrack;
mod error;
mod family;
#[cfg(feature = "fault")]
pub mod fault;
#[cfg(not(feature = "fault"))]
mod fault;
mod firewall;
mod forwarding;
mod host;
pub mod lease;
mod mac;
mod name;
mod namespace;
mod network;
mod plan;
mod port;
mod reserve;
mod rules;
mod step;
mod subnet;
#[expect(unsafe_code, reason = "unshare(2) and ioctl(2) are unsafe in rustix")]
mod sys;
mod undo;
mod wanted;

pub use bridge::{Ensured, Removed, ensure_bridge, remove_bridge};
pub use connection::{Alias, Connection, InvalidConnection, MAX_ALIASES, next_interface};
pub use conntrack::{Connections, forget_connections};
pub use error::{Error, ErrorKind, Leftover};
pub use family::IpFamily;
pub use firewall::{Element, Firewall, Found, Ownership};
pub use forwarding::{Forwarding, enable_forwarding};
pub use host::{InterfaceKind, host_prefixes, interfaces, namespaces, remove_veth};
pub use mac::{InvalidMacAddress, MacAddress};
pub use name::{InterfaceName, InvalidName, NamespaceName, NetworkName, TableName};
pub use namespace::{
    Namespace, attach, configure, detach, directory_is_prepared, enter, open_namespace,
    open_namespace_at, release_directory, setup, teardown,
};
pub use network::{
    AddressRange, Driver, InvalidNetwork, MAX_SUBNETS, MacvlanMode, Names, Network, NetworkOptions,
    Subnet, SubnetOptions, VlanId,
};
pub use plan::{plan, plan_adoption, plan_attachment};
pub use port::{InvalidPort, MAX_PORTS, PortRequest, Protocol, PublishedPort, check_ports};
pub use reserve::{HeldPort, Reservation, reserve};
pub use rules::{ContainerRules, Member, NetworkRules, Publication, Reach};
pub use step::{Place, Step};
pub use subnet::{choose_subnet, choose_subnet6, unique_local};
pub use wanted::{Attachment, Bridge, Link, Wanted};

/// Keeps the example of the README compiling.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
