//! Sockets on their way from one end of a pair to the other; see unix(7).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, getsockname,
    ipproto, recvmsg, sendmsg, socketpair, sockopt,
};

use crate::{HeldPort, Protocol};

/// `SCM_MAX_FD` of the kernel.
const MAX_FDS: usize = 253;
/// Longest text, in bytes, with the one before it.
const MAX_TEXT: usize = 64;

/// Both ends: where things are put, and where they come from.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Whether this can be an end of such a pair.
pub(crate) fn is_end(socket: &OwnedFd) -> bool {
    sockopt::socket_domain(socket) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(socket) == Ok(SocketType::SEQPACKET)
        && sockopt::socket_acceptconn(socket) == Ok(false)
}

/// Puts sockets there, and a text of a few bytes.
pub(crate) fn send(to: &OwnedFd, text: &[u8], sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(to, &[IoSlice::new(b":"), IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// What comes next, which stays there.
pub(crate) fn peek(from: &OwnedFd) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    receive(from, RecvFlags::PEEK)
}

/// Takes away what comes next.
pub(crate) fn take(from: &OwnedFd) -> io::Result<()> {
    receive(from, RecvFlags::empty()).map(drop)
}

fn receive(from: &OwnedFd, how: RecvFlags) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut text = [0; MAX_TEXT];
    let how = how | RecvFlags::CMSG_CLOEXEC;
    let message = recvmsg(from, &mut [IoSliceMut::new(&mut text)], &mut control, how)?;
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let sockets = rights.flatten().collect();
    // No descriptors left: what was not given is not to be taken for gone.
    if message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::MFILE.into());
    }
    // A message of no bytes would be an end of the connection: there is one byte before the text.
    Ok((text[..message.bytes].get(1..).unwrap_or_default().to_vec(), sockets))
}

/// What a socket holds; `None` if that is no port.
pub(crate) fn held_port(socket: OwnedFd) -> io::Result<Option<HeldPort>> {
    let protocol = match sockopt::socket_protocol(&socket)? {
        Some(ipproto::TCP) => Protocol::Tcp,
        Some(ipproto::UDP) => Protocol::Udp,
        Some(ipproto::SCTP) => Protocol::Sctp,
        _ => return Ok(None),
    };
    let address = SocketAddr::try_from(getsockname(&socket)?)?;
    Ok(Some(HeldPort { socket, address, protocol }))
}
