//! What happens to the host's ways out.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage as M;
use rtnetlink::packet_route::link::{LinkFlags, LinkMessage};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::link::{Kind, kind};
use super::route::is_default;

/// `RTNLGRP_LINK`, `RTNLGRP_IPV4_ROUTE`, `RTNLGRP_IPV6_ROUTE`: told of every change of interfaces and routes.
const GROUPS: [u32; 3] = [1, 7, 11];
/// No message about one interface is larger, in bytes.
const RECEIVE_BYTES: usize = 64 << 10;
/// Of the header of a message, in bytes; it begins with the length of the whole.
const HEADER_BYTES: usize = 16;

/// A socket that is told of changes of routes.
#[derive(Debug)]
pub(crate) struct UplinkWatch(Socket);

impl UplinkWatch {
    /// In the network namespace of the calling thread.
    pub(crate) fn connect() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// Takes all that there is to be told now: whether the bridges that default routes lead out by may be
    /// others.
    pub(crate) fn changed(&mut self) -> io::Result<bool> {
        let mut changed = false;
        let mut bytes = Vec::with_capacity(RECEIVE_BYTES);
        loop {
            bytes.clear();
            match self.0.recv(&mut bytes, RecvFlags::DONTWAIT.bits().cast_signed()) {
                Ok(_) => changed |= messages(&bytes).any(|it| matters(&it)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(changed),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // So much happened that some of it was lost.
                Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                    changed = true;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for UplinkWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Those of one datagram. One that is not understood is about something else.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = M> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let message = bytes.get(..length.max(HEADER_BYTES))?;
        bytes = bytes.get(message.len().next_multiple_of(4)..).unwrap_or_default();
        Some(NetlinkMessage::<M>::deserialize(message))
    })
    .filter_map(|message| match message.ok()?.payload {
        NetlinkPayload::InnerMessage(message) => Some(message),
        _ => None,
    })
}

/// The routes of a bridge that is set down, or deleted, go without a word about them.
fn matters(message: &M) -> bool {
    match message {
        M::NewRoute(route) | M::DelRoute(route) => is_default(route),
        M::DelLink(link) => is_bridge(link),
        M::NewLink(link) => is_bridge(link) && !link.header.flags.contains(LinkFlags::Up),
        _ => false,
    }
}

fn is_bridge(link: &LinkMessage) -> bool {
    link.attributes.iter().find_map(kind) == Some(Kind::Bridge)
}
