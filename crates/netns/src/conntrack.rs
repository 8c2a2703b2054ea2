//! Connections that the kernel keeps in mind, and how it forgets them.

use std::net::IpAddr;

use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Tuple,
};
use rtnetlink::packet_core::{DefaultNla, Emitable, Nla};

use crate::sys::Linux;
use crate::undo::apply;
use crate::{Error, IpFamily, Protocol, Step};

/// Some of the connections that pass this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Connections {
    /// All that a container of that address has a part in, translated or not.
    Of(IpAddr),
    /// All to ports of this host, that are not translated to elsewhere.
    ToHost {
        /// The host's address; `None` for all.
        at: Option<IpAddr>,
        /// The protocol.
        protocol: Protocol,
        /// The first port.
        first: u16,
        /// How many in a row.
        count: u16,
    },
}

/// Makes the kernel forget connections, so that packets of old ones are judged anew.
///
/// Before an address passes to another container: else an entry would go on leading packets
/// there that were meant for the container that is gone.
///
/// # Errors
///
/// [`Error::Step`].
pub fn forget_connections(which: &[Connections]) -> Result<(), Error> {
    if which.is_empty() {
        return Ok(());
    }
    let step = Step::ForgetConnections(which.to_vec());
    apply(&mut Linux::default(), vec![step])?.commit();
    Ok(())
}

/// `CTA_ZONE`, `CTA_ID` and `CTA_FILTER`.
const CTA_ZONE: u16 = 18;
const CTA_ID: u16 = 12;
const CTA_FILTER: u16 = 25;

/// `CTA_FILTER_ORIG_FLAGS` and `CTA_FILTER_REPLY_FLAGS`.
const FILTER_ORIGINAL: u16 = 1;
const FILTER_REPLY: u16 = 2;

/// `CTA_FILTER_F_CTA_IP_SRC`: by the source address.
const BY_SOURCE: u32 = 1;

/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;

/// A query for entries, of one family.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) family: IpFamily,
    pub(crate) message: ConntrackMessage,
}

impl Connections {
    /// The queries whose answers together have all of these connections, and others too.
    pub(crate) fn queries(&self) -> Vec<Query> {
        match *self {
            Self::Of(address) => [FILTER_ORIGINAL, FILTER_REPLY]
                .into_iter()
                .map(|direction| by_source(address, direction))
                .collect(),
            Self::ToHost { at, .. } => [IpFamily::V4, IpFamily::V6]
                .into_iter()
                .filter(|&family| at.is_none_or(|at| IpFamily::of(at) == family))
                .map(all)
                .collect(),
        }
    }

    /// Whether the entry is of one of them.
    pub(crate) fn contain(&self, entry: &[ConntrackAttribute]) -> bool {
        let (Some(original), Some(reply)) = (original(entry), reply(entry)) else { return false };
        match *self {
            Self::Of(address) => {
                source(original) == Some(address) || source(reply) == Some(address)
            }
            Self::ToHost { at, protocol, first, count } => {
                let to = destination(original);
                protocol_of(original) == Some(protocol.number())
                    && destination_port(original)
                        .is_some_and(|port| port >= first && port - first < count)
                    && at.is_none_or(|at| to == Some(at))
                    && source(reply) == to
            }
        }
    }
}

/// All entries of a family.
pub(crate) fn all(family: IpFamily) -> Query {
    Query { family, message: ConntrackMessage::Get(vec![]) }
}

/// The entries in which `address` sends in that direction; before Linux 5.8 all of its family.
fn by_source(address: IpAddr, direction: u16) -> Query {
    let tuple = vec![Tuple::Ip(vec![IPTuple::SourceAddress(address)])];
    let tuple = match direction {
        FILTER_ORIGINAL => ConntrackAttribute::CtaTupleOrig(tuple),
        _ => ConntrackAttribute::CtaTupleReply(tuple),
    };
    let flags = DefaultNla::new(direction, BY_SOURCE.to_ne_bytes().to_vec());
    let mut filter = vec![0; flags.buffer_len()];
    flags.emit(&mut filter);
    let filter = ConntrackAttribute::Other(DefaultNla::new(CTA_FILTER | NESTED, filter));
    let message = ConntrackMessage::Get(vec![tuple, filter]);
    Query { family: IpFamily::of(address), message }
}

/// What deletes the entry.
pub(crate) fn deletion(mut entry: Vec<ConntrackAttribute>) -> ConntrackMessage {
    entry.retain(|attribute| match attribute {
        ConntrackAttribute::CtaTupleOrig(_) => true,
        ConntrackAttribute::Other(other) => [CTA_ZONE, CTA_ID].contains(&other.kind()),
        _ => false,
    });
    ConntrackMessage::Delete(entry)
}

fn original(entry: &[ConntrackAttribute]) -> Option<&[Tuple]> {
    entry.iter().find_map(|attribute| match attribute {
        ConntrackAttribute::CtaTupleOrig(tuple) => Some(tuple.as_slice()),
        _ => None,
    })
}

fn reply(entry: &[ConntrackAttribute]) -> Option<&[Tuple]> {
    entry.iter().find_map(|attribute| match attribute {
        ConntrackAttribute::CtaTupleReply(tuple) => Some(tuple.as_slice()),
        _ => None,
    })
}

fn source(tuple: &[Tuple]) -> Option<IpAddr> {
    addresses(tuple).find_map(|part| match part {
        IPTuple::SourceAddress(address) => Some(*address),
        _ => None,
    })
}

fn destination(tuple: &[Tuple]) -> Option<IpAddr> {
    addresses(tuple).find_map(|part| match part {
        IPTuple::DestinationAddress(address) => Some(*address),
        _ => None,
    })
}

fn addresses(tuple: &[Tuple]) -> impl Iterator<Item = &IPTuple> {
    tuple.iter().flat_map(|part| match part {
        Tuple::Ip(addresses) => addresses.as_slice(),
        _ => &[],
    })
}

fn protocol_of(tuple: &[Tuple]) -> Option<u8> {
    transport(tuple).find_map(|part| match part {
        ProtoTuple::Protocol(protocol) => Some((*protocol).into()),
        _ => None,
    })
}

fn destination_port(tuple: &[Tuple]) -> Option<u16> {
    transport(tuple).find_map(|part| match part {
        ProtoTuple::DestinationPort(port) => Some(*port),
        _ => None,
    })
}

fn transport(tuple: &[Tuple]) -> impl Iterator<Item = &ProtoTuple> {
    tuple.iter().flat_map(|part| match part {
        Tuple::Proto(parts) => parts.as_slice(),
        _ => &[],
    })
}
