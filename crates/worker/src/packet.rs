//! Packets: JSON or bytes, with descriptors beside them; see unix(7). Nothing here waits.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};

/// Most bytes of one packet, after the one that says what it is.
pub(crate) const MAX_PACKET: usize = 64 << 10;
/// Most descriptors beside one: a socket for the reply, and a file.
const MAX_FDS: usize = 2;

/// What a packet has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A message.
    Said = 0,
    /// Part of a blob or a manifest.
    Bytes = 1,
}

/// What came in.
#[derive(Debug)]
pub(crate) struct Packet<'b> {
    pub(crate) kind: Kind,
    pub(crate) content: &'b [u8],
    pub(crate) fds: Vec<OwnedFd>,
}

/// Room for a packet.
pub(crate) fn room() -> Vec<u8> {
    vec![0; 1 + MAX_PACKET]
}

/// Two ends of a connection.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one packet, or says that there is no room for it now.
pub(crate) fn send(
    socket: impl AsFd,
    kind: Kind,
    content: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    if content.len() > MAX_PACKET {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let kind = [kind as u8];
    let parts = [IoSlice::new(&kind), IoSlice::new(content)];
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        match sendmsg(&socket, &parts, &mut control, flags) {
            Err(Errno::INTR) => {}
            result => return Ok(result.map(drop)?),
        }
    }
}

/// The next packet, in a [`room`]; none, if the other side has closed the connection or has ended.
pub(crate) fn receive(socket: impl AsFd, room: &mut [u8]) -> io::Result<Option<Packet<'_>>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = loop {
        match recvmsg(&socket, &mut [IoSliceMut::new(room)], &mut control, flags) {
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(None),
            result => break result?,
        }
    };
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fds: Vec<OwnedFd> = fds.flatten().collect();
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(invalid("more than any packet has"));
    }
    let kind = match room[..received.bytes].first() {
        None => return Ok(None),
        Some(0) => Kind::Said,
        Some(1) => Kind::Bytes,
        Some(_) => return Err(invalid("a packet of no known kind")),
    };
    Ok(Some(Packet { kind, content: &room[1..received.bytes], fds }))
}

/// Something that nobody may say.
pub(crate) fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn packets_keep_their_bounds_and_descriptors() {
        let (ours, theirs) = pair().unwrap();
        let null = File::open("/dev/null").unwrap();
        let mut space = room();
        let nothing = receive(&theirs, &mut space).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        send(&ours, Kind::Said, b"one", &[null.as_fd(); MAX_FDS]).unwrap();
        send(&ours, Kind::Bytes, &vec![7; MAX_PACKET], &[]).unwrap();
        send(&ours, Kind::Bytes, &vec![7; MAX_PACKET + 1], &[]).expect_err("too long");
        for (kind, length, beside) in [(Kind::Said, 3, MAX_FDS), (Kind::Bytes, MAX_PACKET, 0)] {
            let packet = receive(&theirs, &mut space).unwrap().unwrap();
            let seen = (packet.kind, packet.content.len(), packet.fds.len());
            assert_eq!(seen, (kind, length, beside));
        }
        drop(ours);
        assert!(receive(&theirs, &mut space).unwrap().is_none());
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for bytes in [vec![2], vec![1; 2 + MAX_PACKET]] {
            let (ours, theirs) = pair().unwrap();
            rustix::net::send(&ours, &bytes, SendFlags::empty()).unwrap();
            let refused = receive(&theirs, &mut room()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidData, "{} bytes", bytes.len());
        }
    }
}
