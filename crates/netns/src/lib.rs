//! The network of containers: namespaces, bridges, veth pairs, addresses, routes and the firewall
//! table that lets them out.
//!
//! # What it does
//!
//! **Decide.** [`Network`], [`Connection`] and [`PortRequest`] are parsed once and cannot be wrong;
//! [`choose_subnet`] and [`lease`] decide on addresses. [`plan`] turns what is [`Wanted`] into
//! [`Step`]s and does nothing else. All of it is pure, and what is stored is checked when it is
//! read again.
//!
//! **Act.** [`setup`] runs the steps and takes them back if one fails; [`teardown`] runs their
//! inverses, whatever of them was done. [`configure`] does the same to a namespace that a process
//! has already, [`attach`] and [`detach`] to one interface of a container that runs.
//! [`ensure_bridge`] sees to the bridge they are joined to, and [`reserve`] takes the host's ports.
//! Everything that touches the kernel is in `sys` and goes through one function there.
//!
//! **Let through.** A [`Firewall`] holds one nftables table for all networks and containers, loaded
//! once; each of them is some [`Element`]s of its sets and maps. A [`KeptFirewall`] knows which, and has
//! them there again where others can take them away.
//!
//! # In which order
//!
//! | to | first | then |
//! |---|---|---|
//! | make a network | [`Firewall::enable_forwarding`] | [`ensure_bridge`], [`Firewall::add_network`] |
//! | start a container | [`reserve`], lease | [`setup`], [`Firewall::admit`] |
//! | the same in a user namespace | [`reserve`], lease, create | [`configure`], [`Firewall::admit`] |
//! | join | lease | [`attach`], [`Firewall::admit`] |
//! | publish | [`reserve`] | [`Firewall::admit`], [`Firewall::take_over`] |
//! | leave | [`Firewall::dismiss`] | [`detach`], [`forget_connections`], free the lease |
//! | unpublish | [`Firewall::dismiss`] | close the sockets |
//! | end a container | [`Firewall::dismiss`] | [`teardown`], free the lease |
//! | remove a network | [`Firewall::remove_network`] | [`remove_bridge`] |
//!
//! [`Firewall::dismiss`] cuts the connections of the addresses it takes back, so that these can be
//! given to others; a container that runs on can make new ones until its interface is gone.
//!
//! # What it does not do
//!
//! It stores nothing: what was leased and what was begun is the caller's to keep. No names, no
//! proxy for `::1`, no D-Bus, and no DHCP for macvlan.
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
//! The directory `/run/netns` is used as `ip netns` uses it, and becomes a shared mount, until
//! [`release_directory`] finds it empty.
//!
//! # References
//!
//! - [network_namespaces(7)](https://man7.org/linux/man-pages/man7/network_namespaces.7.html)
//! - [ip-netns(8)](https://man7.org/linux/man-pages/man8/ip-netns.8.html)
//! - [rtnetlink(7)](https://man7.org/linux/man-pages/man7/rtnetlink.7.html)
//! - [nft(8)](https://man7.org/linux/man-pages/man8/nft.8.html)

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make their own surroundings"))]

mod bridge;
mod connection;
mod conntrack;
mod driver;
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
mod shelf;
mod step;
mod subnet;
#[expect(clippy::disallowed_methods, reason = "this is where the steps are carried out")]
#[expect(unsafe_code, reason = "unshare(2) and ioctl(2) are unsafe in rustix")]
mod sys;
mod undo;
mod uplinks;
mod wanted;

pub use bridge::{Ensured, Removed, ensure_bridge, find_bridge, has_own_bridge, remove_bridge};
pub use connection::{Alias, Connection, InvalidConnection, MAX_ALIASES, next_interface};
pub use conntrack::{Connections, forget_connections};
pub use driver::{Driver, MacvlanMode, VlanId};
pub use error::{Error, ErrorKind, Leftover};
pub use family::IpFamily;
pub use firewall::{
    Element, Firewall, ForeignChain, ForeignWatcher, Found, KeptFirewall, Ownership, Watcher,
    foreign_forward_chains, leave_user_chain, legacy_iptables_drops, pass_user_chain,
};
pub use forwarding::{Forwarding, enable_forwarding, is_forwarding};
pub use host::{
    carries_macvlans, has_interface, host_addresses, host_prefixes, namespaces, remove_veth,
    veths_on,
};
pub use mac::{InvalidMacAddress, MacAddress};
pub use name::{InterfaceName, InvalidName, NamespaceName, NetworkName, TableName};
pub use namespace::{
    Namespace, attach, configure, detach, enter, namespace_cookie, open_namespace,
    open_namespace_at, prepare_directory, release_directory, setup, teardown,
};
pub use network::{
    AddressRange, InvalidNetwork, MAX_SUBNETS, Names, Network, NetworkOptions, Subnet,
    SubnetOptions,
};
pub use plan::{plan, plan_adoption, plan_attachment};
pub use port::{InvalidPort, MAX_PORTS, PortRequest, Protocol, PublishedPort, check_ports};
pub use reserve::{HeldPort, Reservation, reserve};
pub use rules::{ContainerRules, Member, NetworkRules, Publication, Reach};
pub use shelf::Shelf;
pub use step::{Place, Step};
pub use subnet::{choose_subnet, choose_subnet6, unique_local};
pub use uplinks::UplinkWatcher;
pub use wanted::{Attachment, Bridge, Link, Wanted};

/// Keeps the example of the README compiling.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
