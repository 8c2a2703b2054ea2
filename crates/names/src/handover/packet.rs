//! Packets with descriptors; see unix(7).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::geteuid;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest message, in bytes; what is longer is in a [`Whole`](super::Whole).
const MAX_MESSAGE: usize = 64 << 10;
/// Most descriptors beside a message: the sockets of a network, which has a few subnets.
const MAX_FDS: usize = 32;

/// What came in.
#[derive(Debug)]
pub(crate) enum Received<T> {
    /// A message, and what came with it.
    Message(T, Vec<OwnedFd>),
    /// The other side has closed the connection, or has ended.
    Closed,
}

/// Whether root is at the other end of a connection, or began to listen there; or whoever this
/// process is of.
pub(crate) fn is_trusted(socket: &OwnedFd) -> io::Result<bool> {
    let uid = sockopt::socket_peercred(socket)?.uid;
    Ok(uid.is_root() || uid == geteuid())
}

/// From now on nothing takes longer.
pub(crate) fn set_patience(socket: &OwnedFd, limit: Option<Duration>) -> io::Result<()> {
    sockopt::set_socket_timeout(socket, Timeout::Recv, limit)?;
    Ok(sockopt::set_socket_timeout(socket, Timeout::Send, limit)?)
}

/// Sends one message.
#[expect(clippy::disallowed_methods, reason = "called by `effects` alone")]
pub(crate) fn send(
    socket: &OwnedFd,
    message: &impl Serialize,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    if text.len() > MAX_MESSAGE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            result => return Ok(result.map(drop)?),
        }
    }
}

/// Waits for one message.
pub(crate) fn receive<T: DeserializeOwned>(socket: &OwnedFd) -> io::Result<Received<T>> {
    let mut text = vec![0; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        let mut parts = [IoSliceMut::new(&mut text)];
        match recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(Received::Closed),
            result => break result?,
        }
    };
    let fds = rights(&mut control);
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(super::invalid("more than any message has"));
    }
    if message.bytes == 0 {
        return Ok(Received::Closed);
    }
    Ok(Received::Message(serde_json::from_slice(&text[..message.bytes])?, fds))
}

fn rights(control: &mut RecvAncillaryBuffer<'_>) -> Vec<OwnedFd> {
    let messages = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    messages.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn messages_keep_their_bounds_and_descriptors() {
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, flags, None).unwrap();
        let null = File::open("/dev/null").unwrap();
        send(&ours, &"one", &[null.as_fd(); MAX_FDS]).unwrap();
        send(&ours, &"two", &[]).unwrap();
        send(&ours, &"x".repeat(MAX_MESSAGE), &[]).expect_err("too long");
        for (want, beside) in [("one", MAX_FDS), ("two", 0)] {
            match receive::<String>(&theirs).unwrap() {
                Received::Message(text, fds) => {
                    assert_eq!((text.as_str(), fds.len()), (want, beside));
                }
                Received::Closed => panic!("closed"),
            }
        }
        drop(ours);
        assert!(matches!(receive::<String>(&theirs).unwrap(), Received::Closed));
    }
}
