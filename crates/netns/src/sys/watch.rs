//! What others do to the firewall.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_netfilter::nftables::{
    ChainAttribute, NfTablesMessage, NfTablesMessage as M, RuleAttribute, SetAttribute,
    SetElementList, TableAttribute,
};
use netlink_packet_netfilter::{NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use rtnetlink::packet_core::NetlinkPayload;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::nfnetlink::{Reply, receive};
use crate::TableName;

/// `NFNLGRP_NFTABLES`: told of every change of the ruleset.
const GROUP: u32 = 7;

/// A socket that is told of changes of the firewall.
#[derive(Debug)]
pub(crate) struct Watch {
    socket: Socket,
    /// The netlink port that the table's handle makes its own changes from.
    own: u32,
}

impl Watch {
    /// Of whoever changes nothing.
    pub(crate) fn of_others() -> io::Result<Self> {
        Self::connect(0)
    }

    pub(super) fn connect(own: u32) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.add_membership(GROUP)?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket, own })
    }

    /// Takes all that there is to be told now: whether somebody else changed `table`.
    pub(crate) fn others_changed(&mut self, table: &TableName) -> io::Result<bool> {
        self.any(|message, change| {
            message.header.port_number != self.own && table_of(change) == Some(table.as_str())
        })
    }

    /// The same: whether rules of another table than `ours` changed. Elements of sets are no rules.
    pub(crate) fn rules_of_others_changed(&mut self, ours: &TableName) -> io::Result<bool> {
        self.any(|message, change| {
            let NetlinkPayload::InnerMessage(inner) = &message.payload else { return false };
            let is_ours = inner.header.family == NetfilterProtoFamily::Inet
                && table_of(change) == Some(ours.as_str());
            let is_element = matches!(change, M::NewSetElement(_) | M::DeleteSetElement(_));
            !is_ours && !is_element && table_of(change).is_some()
        })
    }

    fn any(&self, matters: impl Fn(&Reply, &NfTablesMessage) -> bool) -> io::Result<bool> {
        let told = |message: &Reply| {
            let NetlinkPayload::InnerMessage(inner) = &message.payload else { return false };
            let NetfilterMessageInner::NfTables(change) = &inner.inner else { return false };
            matters(message, change)
        };
        let mut changed = false;
        loop {
            match receive(&self.socket, RecvFlags::DONTWAIT) {
                Ok(Some(messages)) => changed |= messages.iter().any(told),
                Ok(None) => return Ok(changed),
                // So much happened that some of it was lost.
                Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                    changed = true;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The table that a change is made to.
fn table_of(change: &NfTablesMessage) -> Option<&str> {
    match change {
        M::NewTable(m) | M::DeleteTable(m) => m.attributes.iter().find_map(|a| match a {
            TableAttribute::Name(name) => Some(name.as_str()),
            _ => None,
        }),
        M::NewChain(m) | M::DeleteChain(m) => m.attributes.iter().find_map(|a| match a {
            ChainAttribute::Table(name) => Some(name.as_str()),
            _ => None,
        }),
        M::NewRule(m) | M::DeleteRule(m) => m.attributes.iter().find_map(|a| match a {
            RuleAttribute::Table(name) => Some(name.as_str()),
            _ => None,
        }),
        M::NewSet(m) | M::DeleteSet(m) => m.attributes.iter().find_map(|a| match a {
            SetAttribute::Table(name) => Some(name.as_str()),
            _ => None,
        }),
        M::NewSetElement(m) | M::DeleteSetElement(m) => m.attributes.iter().find_map(|a| match a {
            SetElementList::Table(name) => Some(name.as_str()),
            _ => None,
        }),
        _ => None,
    }
}
