//! What the person who asked should know, though nothing failed.

use std::fmt;

use crate::names::DomainName;
use crate::rlimit::RlimitKind;

/// Something was done in another way than usual; `Display` is a sentence for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// `resolv.conf` has no name server: the host names none that the container could reach.
    NoNameserver,
    /// Only the first [`crate::MAX_NAMESERVERS`] name servers were taken.
    NameserversLeftOut {
        /// How many were left out.
        count: usize,
    },
    /// A line for the host's address was left out: the host has none on the container's networks any
    /// more.
    HostGatewayLeftOut {
        /// The name that it was asked for by.
        name: DomainName,
    },
    /// A resource limit of this crate was cut down to what the host allows.
    DefaultLimitLowered {
        /// Which limit.
        kind: RlimitKind,
        /// The usual value.
        wanted: u64,
        /// The value that was set.
        value: u64,
    },
    /// A user or group that the image does not know was not added: another has that number as its name.
    AccountNameTaken {
        /// The file it is not added to.
        file: &'static str,
        /// Its number.
        id: u32,
    },
    /// Something that comes along with a CDI device is of a kind that this crate does not know, and left out.
    CdiEditLeftOut {
        /// Its name in the file.
        name: String,
    },
    /// The wish to be killed late is cut down to what the service itself has.
    OomScoreRaised {
        /// What was asked for.
        wanted: i32,
        /// What was set.
        value: i32,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNameserver => f.write_str(
                "the host has no name server that the container can reach: names will not resolve",
            ),
            Self::NameserversLeftOut { count } => {
                write!(f, "{count} more name servers are left out: resolvers use only three")
            }
            Self::HostGatewayLeftOut { name } => {
                write!(f, "{name} is not in hosts: the host has no address on its networks")
            }
            Self::AccountNameTaken { file, id } => {
                write!(f, "{id} is not added to {file}: another account has that as its name")
            }
            Self::CdiEditLeftOut { name } => {
                write!(f, "{} of a CDI device is left out: it is not known", name.escape_debug())
            }
            Self::OomScoreRaised { wanted, value } => {
                write!(f, "OOMScoreAdjust is {value} instead of {wanted}: the host allows no less")
            }
            Self::DefaultLimitLowered { kind, wanted, value } => {
                write!(f, "{kind} is {value} instead of {wanted}: the host allows no more")
            }
        }
    }
}
