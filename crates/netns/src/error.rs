//! Everything that can go wrong.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::{InterfaceName, InvalidPort, IpFamily, NamespaceName, Step, TableName};

/// Everything that can go wrong in this crate.
///
/// `Display` says what was being done to what; the cause is only in
/// [`source`](std::error::Error::source), so a printed chain says nothing twice.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A step failed; what was done before it has been taken back, but for `leftovers`.
    #[error("cannot {step}{}", more_failed(leftovers.len()))]
    Step {
        /// The step that failed.
        step: Box<Step>,
        /// Undo steps that failed too, in the order tried. Empty: nothing remains.
        leftovers: Vec<Leftover>,
        /// The kernel's answer to `step`.
        source: io::Error,
    },
    /// Not all of an interface could be removed; trying again goes on where this ended.
    #[error("cannot detach {interface} from {namespace}{}", more_failed(others.len()))]
    Detach {
        /// The namespace.
        namespace: NamespaceName,
        /// The interface in it.
        interface: InterfaceName,
        /// The first step that failed.
        #[source]
        first: Box<Leftover>,
        /// The other steps that failed, in the order tried.
        others: Vec<Leftover>,
    },
    /// Not all of a container's network could be removed; trying again goes on where this ended.
    #[error("cannot tear down the network of {namespace}{}", more_failed(others.len()))]
    Teardown {
        /// The namespace.
        namespace: NamespaceName,
        /// The first step that failed.
        #[source]
        first: Box<Leftover>,
        /// The other steps that failed, in the order tried.
        others: Vec<Leftover>,
    },
    /// The namespace file could not be opened.
    #[error("cannot open network namespace {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The file is there, but it is no network namespace.
    #[error("no network namespace is mounted on {}", path.display())]
    NotANamespace {
        /// The file.
        path: PathBuf,
    },
    /// The new thread could not enter the namespace, or could not be started.
    #[error("cannot enter the network namespace")]
    Enter {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The namespace of a process could not be looked at.
    #[error("cannot look at the network namespace of a process")]
    Inspect {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The process has no network namespace of its own, but the host's.
    #[error("the process is in the network namespace of the host")]
    HostNamespace,
    /// The bridge does not keep VLANs apart, and was not made by us to be changed.
    #[error("bridge {interface} does not keep VLANs apart")]
    VlansMixed {
        /// The bridge.
        interface: InterfaceName,
    },
    /// The interfaces, or the namespaces, of the host could not be listed.
    #[error("cannot list {what} of the host")]
    List {
        /// What was to be listed.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Whether the host forwards packets could not be read.
    #[error("cannot read whether the host forwards {family} packets")]
    ReadForwarding {
        /// The family.
        family: IpFamily,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Ports that cannot be had together.
    #[error("cannot reserve ports of the host")]
    InvalidPorts {
        /// What is wrong with them.
        source: InvalidPort,
    },
    /// A process of the host has the port.
    #[error("port {port} of the host is in use")]
    PortInUse {
        /// The port, as in `127.0.0.1:8080/tcp`.
        port: String,
    },
    /// The host does not have the address that a port is to be offered at.
    #[error("the host has no address {address}")]
    NoHostAddress {
        /// The address.
        address: IpAddr,
    },
    /// The port could not be taken for another reason.
    #[error("cannot reserve port {port} of the host")]
    Reserve {
        /// The port, as in `127.0.0.1:8080/tcp`.
        port: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A place for sockets could not be made, or not be used.
    #[error("cannot {what}")]
    Shelf {
        /// What was to be done.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The state of an interface could not be read.
    #[error("cannot read the state of interface {interface}")]
    ReadInterface {
        /// The interface.
        interface: InterfaceName,
        /// The kernel's answer.
        source: io::Error,
    },
    /// An interface of that name is there, and it is not a bridge.
    #[error("interface {interface} is not a bridge")]
    NotABridge {
        /// The interface.
        interface: InterfaceName,
    },
    /// A bridge of that name is there, and it was not made here.
    #[error("bridge {interface} is one of the host's own")]
    ForeignBridge {
        /// The bridge.
        interface: InterfaceName,
    },
    /// The host's addresses and routes could not be read.
    #[error("cannot read the addresses and routes of the host")]
    ReadRoutes {
        /// The kernel's answer.
        source: io::Error,
    },
    /// What the old `iptables` (legacy) does could not be read.
    #[error("cannot read the policy of {family} packets that iptables (legacy) has")]
    ReadLegacy {
        /// The family.
        family: IpFamily,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The firewall table could not be read.
    #[error("cannot read firewall table {table}")]
    ReadTable {
        /// The table.
        table: TableName,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Another running process owns the firewall table; nobody else can change it.
    #[error("firewall table {table} belongs to another running process")]
    TableOwned {
        /// The table.
        table: TableName,
    },
}

/// Reads after the name of what failed.
fn more_failed(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => " (1 undo step failed too)".to_owned(),
        _ => format!(" ({count} undo steps failed too)"),
    }
}

/// A thing that is still there because removing it failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {undo}")]
pub struct Leftover {
    /// The step that failed.
    pub undo: Step,
    /// The kernel's answer to it.
    pub source: io::Error,
}

/// What a caller can act on, without matching every [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The thing named is not there.
    NotFound,
    /// Something of that name is there already, or belongs to somebody else.
    InUse,
    /// The caller lacks a capability.
    PermissionDenied,
    /// What was asked for cannot be.
    Invalid,
    /// Something is left behind: it has to be torn down before a retry can work.
    NeedsRepair,
    /// Anything else; only worth logging.
    Other,
}

impl Error {
    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Step { leftovers, .. } if !leftovers.is_empty() => ErrorKind::NeedsRepair,
            Self::Teardown { .. } | Self::Detach { .. } => ErrorKind::NeedsRepair,
            Self::NotANamespace { .. } => ErrorKind::NotFound,
            Self::NotABridge { .. }
            | Self::ForeignBridge { .. }
            | Self::TableOwned { .. }
            | Self::PortInUse { .. } => ErrorKind::InUse,
            Self::HostNamespace
            | Self::VlansMixed { .. }
            | Self::InvalidPorts { .. }
            | Self::NoHostAddress { .. } => ErrorKind::Invalid,
            Self::Inspect { source }
            | Self::List { source, .. }
            | Self::ReadForwarding { source, .. }
            | Self::ReadLegacy { source, .. }
            | Self::Reserve { source, .. }
            | Self::Shelf { source, .. }
            | Self::Step { source, .. }
            | Self::Open { source, .. }
            | Self::Enter { source }
            | Self::ReadInterface { source, .. }
            | Self::ReadRoutes { source }
            | Self::ReadTable { source, .. } => kind_of(source),
        }
    }
}

fn kind_of(source: &io::Error) -> ErrorKind {
    match source.kind() {
        _ if crate::undo::is_gone(source) => ErrorKind::NotFound,
        _ if source.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => ErrorKind::NotFound,
        io::ErrorKind::AlreadyExists | io::ErrorKind::ResourceBusy => ErrorKind::InUse,
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        _ => ErrorKind::Other,
    }
}
