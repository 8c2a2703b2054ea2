//! The changes this crate can make, as plain data.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::firewall::{Found, Ownership};
use crate::{InterfaceName, MacAddress, NamespaceName, TableName};

/// One change to the kernel's state; it can be compared, logged and taken back.
///
/// `Display` reads after "cannot": `create veth ve-1 in bridge tare0 ...`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Make `/run/netns` a shared mount, as `ip netns add` does. Nothing to do if it is one.
    PrepareDirectory,
    /// Undo that, if no namespace is left there. Nothing to do if it is no mount.
    ReleaseDirectory,
    /// Create the file a namespace is to be bound to; it must not exist.
    CreateNamespaceFile(NamespaceName),
    /// Remove that file.
    RemoveNamespaceFile(NamespaceName),
    /// Create a network namespace that takes no router advertisements and bind it to its file.
    BindNamespace(NamespaceName),
    /// Unmount a namespace from its file; it goes away with its last user.
    UnbindNamespace(NamespaceName),
    /// Create a veth pair: one end on the host, up and in the bridge, one in the namespace.
    CreateVeth {
        /// The bridge; its MTU is taken over.
        bridge: InterfaceName,
        /// Name of the host's end.
        host_interface: InterfaceName,
        /// Where the other end goes.
        namespace: NamespaceName,
        /// Name of that end.
        interface: InterfaceName,
        /// Hardware address of that end.
        mac: MacAddress,
    },
    /// Delete a veth pair by its host end; refused if that is not a veth.
    DeleteVeth(InterfaceName),
    /// Create a bridge.
    CreateBridge {
        /// Its name.
        name: InterfaceName,
        /// Its hardware address; without one, the kernel takes that of a port and changes it as
        /// ports come and go.
        mac: Option<MacAddress>,
        /// Largest packet in bytes.
        mtu: Option<u32>,
    },
    /// Delete a bridge; refused if it is not one.
    DeleteBridge(InterfaceName),
    /// Take no IPv6 router advertisements on an interface of the host.
    IgnoreAdvertisements(InterfaceName),
    /// Add an address.
    AddAddress {
        /// Where the interface is.
        place: Place,
        /// The interface.
        interface: InterfaceName,
        /// The address and its network.
        address: IpNet,
    },
    /// Remove an address from an interface of the host.
    RemoveAddress {
        /// The interface.
        interface: InterfaceName,
        /// The address and its network.
        address: IpNet,
    },
    /// Set an interface up.
    SetUp {
        /// Where the interface is.
        place: Place,
        /// The interface.
        interface: InterfaceName,
    },
    /// Set an interface of the host down.
    SetDown(InterfaceName),
    /// Add a default route inside a namespace.
    AddDefaultRoute {
        /// The namespace.
        namespace: NamespaceName,
        /// The interface to leave by.
        interface: InterfaceName,
        /// The next hop.
        gateway: IpAddr,
        /// The lowest metric wins.
        metric: u32,
    },
    /// Let the host forward IPv4 packets. Others may come to rely on it: it is not taken back.
    EnableForwarding,
    /// Put the rules into a firewall table, in one transaction.
    LoadTable {
        /// The table.
        table: TableName,
        /// What was there before.
        found: Found,
        /// Who shall be able to change the table.
        ownership: Ownership,
    },
    /// Delete a firewall table with all it holds.
    DeleteTable(TableName),
    /// Add addresses to the sets of a table, in one transaction.
    AddElements {
        /// The table.
        table: TableName,
        /// The addresses; those already there stay.
        addresses: Vec<IpAddr>,
    },
    /// Remove addresses from the sets of a table, in one transaction.
    RemoveElements {
        /// The table.
        table: TableName,
        /// The addresses; those not there are no error.
        addresses: Vec<IpAddr>,
    },
}

/// Where an interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the network namespace of the calling thread.
    Host,
    /// In a namespace that this plan creates.
    Namespace(NamespaceName),
}

impl Step {
    /// The step that takes this one back.
    ///
    /// `None` where it cannot be, need not be, or where another one's inverse takes it along:
    /// what is inside a namespace or on a pair of interfaces goes with them.
    pub fn inverse(&self) -> Option<Self> {
        match self {
            Self::CreateNamespaceFile(name) => Some(Self::RemoveNamespaceFile(name.clone())),
            Self::BindNamespace(name) => Some(Self::UnbindNamespace(name.clone())),
            Self::CreateVeth { host_interface, .. } => {
                Some(Self::DeleteVeth(host_interface.clone()))
            }
            Self::CreateBridge { name, .. } => Some(Self::DeleteBridge(name.clone())),
            Self::AddAddress { place: Place::Host, interface, address } => {
                Some(Self::RemoveAddress { interface: interface.clone(), address: *address })
            }
            Self::SetUp { place: Place::Host, interface } => Some(Self::SetDown(interface.clone())),
            _ => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PrepareDirectory => write!(f, "prepare /run/netns"),
            Self::ReleaseDirectory => write!(f, "release /run/netns"),
            Self::CreateNamespaceFile(name) => write!(f, "create /run/netns/{name}"),
            Self::RemoveNamespaceFile(name) => write!(f, "remove /run/netns/{name}"),
            Self::BindNamespace(name) => write!(f, "create network namespace {name}"),
            Self::UnbindNamespace(name) => write!(f, "unmount network namespace {name}"),
            Self::CreateVeth { bridge, host_interface, namespace, interface, .. } => {
                write!(
                    f,
                    "create veth {host_interface} in bridge {bridge} \
                     with peer {interface} in namespace {namespace}"
                )
            }
            Self::DeleteVeth(name) => write!(f, "delete veth {name}"),
            Self::CreateBridge { name, .. } => write!(f, "create bridge {name}"),
            Self::DeleteBridge(name) => write!(f, "delete bridge {name}"),
            Self::IgnoreAdvertisements(name) => {
                write!(f, "switch off router advertisements on {name}")
            }
            Self::AddAddress { place, interface, address } => {
                write!(f, "add address {address} to {interface}{place}")
            }
            Self::RemoveAddress { interface, address } => {
                write!(f, "remove address {address} from {interface}")
            }
            Self::SetUp { place, interface } => write!(f, "set {interface}{place} up"),
            Self::SetDown(name) => write!(f, "set {name} down"),
            Self::AddDefaultRoute { namespace, interface, gateway, .. } => {
                write!(f, "add default route via {gateway} to {interface} in namespace {namespace}")
            }
            Self::EnableForwarding => write!(f, "enable IPv4 forwarding"),
            Self::LoadTable { table, .. } => write!(f, "load firewall table {table}"),
            Self::DeleteTable(table) => write!(f, "delete firewall table {table}"),
            Self::AddElements { table, addresses } => {
                write!(f, "add {} addresses to firewall table {table}", addresses.len())
            }
            Self::RemoveElements { table, addresses } => {
                write!(f, "remove {} addresses from firewall table {table}", addresses.len())
            }
        }
    }
}

/// Reads after the name of an interface: nothing, or " in namespace x".
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => Ok(()),
            Self::Namespace(name) => write!(f, " in namespace {name}"),
        }
    }
}
