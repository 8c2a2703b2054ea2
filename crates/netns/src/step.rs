//! The changes this crate can make, as plain data.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::conntrack::Connections;
use crate::firewall::{Element, Found, Ownership};
use crate::{InterfaceName, IpFamily, MacAddress, MacvlanMode, NamespaceName, TableName, VlanId};

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
    /// Bind the network namespace of the process given with the plan to its file, and let it take
    /// no router advertisements.
    AdoptNamespace(NamespaceName),
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
    /// Let a port of a bridge send back to where a frame came from, and be in a VLAN, untagged.
    ConfigurePort {
        /// The bridge; if there is a VLAN, it has to keep VLANs apart.
        bridge: InterfaceName,
        /// The port.
        host_interface: InterfaceName,
        /// Its VLAN.
        vlan: Option<VlanId>,
    },
    /// Create a macvlan interface inside a namespace.
    CreateMacvlan {
        /// The interface of the host it is on.
        parent: InterfaceName,
        /// Whom it reaches.
        mode: MacvlanMode,
        /// Where it goes.
        namespace: NamespaceName,
        /// Its name there.
        interface: InterfaceName,
        /// Its hardware address.
        mac: MacAddress,
        /// Largest packet in bytes; the parent's if absent.
        mtu: Option<u32>,
    },
    /// Delete a macvlan interface inside a namespace; refused if it is not one.
    DeleteMacvlan {
        /// The namespace.
        namespace: NamespaceName,
        /// The interface.
        interface: InterfaceName,
    },
    /// Create a bridge.
    CreateBridge {
        /// Its name.
        name: InterfaceName,
        /// Its hardware address; without one, the kernel takes that of a port and changes it as
        /// ports come and go.
        mac: Option<MacAddress>,
        /// Largest packet in bytes.
        mtu: Option<u32>,
        /// The host's VLAN on it, if it keeps VLANs apart.
        vlan: Option<VlanId>,
    },
    /// Give a bridge the alias by which it is known as one that was made here. Goes with the bridge.
    MarkBridge(InterfaceName),
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
    /// Go on taking router advertisements on an interface of the host that forwards by then. Means
    /// nothing as long as it does not forward: it is not taken back.
    KeepAdvertisements(InterfaceName),
    /// Let the host forward packets. Others may come to rely on it: it is not taken back.
    EnableForwarding(IpFamily),
    /// Let nothing in by an interface that is addressed to 127.0.0.0/8. Others may rely on it: it
    /// is not taken back.
    GuardLocalnet {
        /// The table.
        table: TableName,
        /// The interface.
        interface: InterfaceName,
    },
    /// Let packets of the host's 127.0.0.1 leave by an interface. Goes with the interface.
    RouteLocalnet(InterfaceName),
    /// Let what passes a bridge pass Docker's firewall, too.
    PassUserChain {
        /// In its table of this family.
        family: IpFamily,
        /// The bridge.
        bridge: InterfaceName,
        /// Bridges that the host itself gets out by: those behind this one may leave by them.
        uplinks: Vec<InterfaceName>,
    },
    /// Take that back.
    LeaveUserChain {
        /// In its table of this family.
        family: IpFamily,
        /// The bridge.
        bridge: InterfaceName,
    },
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
    /// Add elements to the sets and maps of a table, in one transaction.
    AddElements {
        /// The table.
        table: TableName,
        /// The elements; those already there stay.
        elements: Vec<Element>,
    },
    /// Remove elements from the sets and maps of a table, in one transaction.
    RemoveElements {
        /// The table.
        table: TableName,
        /// The elements; those not there are no error.
        elements: Vec<Element>,
    },
    /// Make the kernel forget connections.
    ForgetConnections(Vec<Connections>),
    /// Make the host forget where neighbours of these addresses are, and drop what waits for them.
    ForgetNeighbours(Vec<IpAddr>),
}

/// Where an interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the network namespace of the calling thread.
    Host,
    /// In a namespace that is bound to its file, or that this plan binds.
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
            Self::BindNamespace(name) | Self::AdoptNamespace(name) => {
                Some(Self::UnbindNamespace(name.clone()))
            }
            Self::CreateVeth { host_interface, .. } => {
                Some(Self::DeleteVeth(host_interface.clone()))
            }
            Self::CreateMacvlan { namespace, interface, .. } => Some(Self::DeleteMacvlan {
                namespace: namespace.clone(),
                interface: interface.clone(),
            }),
            Self::AddElements { table, elements } => {
                Some(Self::RemoveElements { table: table.clone(), elements: elements.clone() })
            }
            Self::PassUserChain { family, bridge, .. } => {
                Some(Self::LeaveUserChain { family: *family, bridge: bridge.clone() })
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
            Self::AdoptNamespace(name) => {
                write!(f, "bind the process's network namespace as {name}")
            }
            Self::UnbindNamespace(name) => write!(f, "unmount network namespace {name}"),
            Self::CreateVeth { bridge, host_interface, namespace, interface, .. } => {
                write!(
                    f,
                    "create veth {host_interface} in bridge {bridge} \
                     with peer {interface} in namespace {namespace}"
                )
            }
            Self::DeleteVeth(name) => write!(f, "delete veth {name}"),
            Self::ConfigurePort { host_interface, .. } => {
                write!(f, "configure bridge port {host_interface}")
            }
            Self::CreateMacvlan { parent, namespace, interface, .. } => {
                write!(f, "create macvlan {interface} on {parent} in namespace {namespace}")
            }
            Self::DeleteMacvlan { namespace, interface } => {
                write!(f, "delete macvlan {interface} in namespace {namespace}")
            }
            Self::CreateBridge { name, .. } => write!(f, "create bridge {name}"),
            Self::MarkBridge(name) => write!(f, "mark bridge {name}"),
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
            Self::KeepAdvertisements(name) => {
                write!(f, "keep router advertisements on {name}")
            }
            Self::EnableForwarding(family) => write!(f, "enable {family} forwarding"),
            Self::GuardLocalnet { interface, .. } => {
                write!(f, "guard the loopback against {interface}")
            }
            Self::RouteLocalnet(name) => write!(f, "route the loopback by {name}"),
            Self::PassUserChain { family, bridge, .. } => {
                write!(f, "let {family} of {bridge} pass Docker's firewall")
            }
            Self::LeaveUserChain { family, bridge } => {
                write!(f, "have {family} of {bridge} pass Docker's firewall no more")
            }
            Self::LoadTable { table, .. } => write!(f, "load firewall table {table}"),
            Self::DeleteTable(table) => write!(f, "delete firewall table {table}"),
            Self::AddElements { table, elements } => {
                write!(f, "add {} elements to firewall table {table}", elements.len())
            }
            Self::RemoveElements { table, elements } => {
                write!(f, "remove {} elements from firewall table {table}", elements.len())
            }
            Self::ForgetConnections(which) => write!(f, "forget connections ({})", which.len()),
            Self::ForgetNeighbours(which) => write!(f, "forget neighbours ({})", which.len()),
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
