//! Transactions and queries over one `nf_tables` netlink socket.

use std::io;

use netlink_packet_netfilter::nftables::NfTablesMessage;
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::ruleset::Request;

/// `NFNL_SUBSYS_NFTABLES`: whose transaction a batch is.
const SUBSYSTEM_NFTABLES: u16 = 10;

/// The kernel fills up to 32 KiB at a time when it dumps.
const RECEIVE_BYTES: usize = 64 << 10;

/// `NLM_F_DUMP_INTR`: something changed while it was being dumped.
const DUMP_INTERRUPTED: u16 = 0x10;

/// A dump is repeated so often if the set changes meanwhile. On a host that creates a container
/// every few milliseconds, with a dump of a fraction of one, that never happens twice.
const DUMP_TRIES: u32 = 10;

/// One socket; the owner of the tables that are created over it.
#[derive(Debug)]
pub(super) struct Nfnetlink {
    socket: Socket,
    sequence: u32,
}

type Reply = NetlinkMessage<NetfilterMessage>;

impl Nfnetlink {
    /// Opens the socket in the network namespace of the calling thread.
    pub(super) fn connect() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Without it, an error comes with a copy of the request and can overrun the buffer.
        socket.set_cap_ack(true)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Carries out `requests` as one transaction: all of them or none.
    pub(super) fn transact(&mut self, requests: &[Request]) -> io::Result<()> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        self.push(&mut bytes, control(ControlMessage::BatchBegin), 0);
        for Request { message, flags } in requests {
            self.push(&mut bytes, nftables(message.clone()), flags | NLM_F_ACK);
        }
        let last = self.sequence;
        self.push(&mut bytes, control(ControlMessage::BatchEnd), 0);
        self.send(&bytes)?;
        self.outcome(first, last)
    }

    /// Asks for one thing.
    pub(super) fn get(&mut self, query: NfTablesMessage) -> io::Result<Vec<NfTablesMessage>> {
        self.ask(query, NLM_F_ACK)
    }

    /// Asks for a list of things, again if it changed while it was read.
    pub(super) fn dump(&mut self, query: NfTablesMessage) -> io::Result<Vec<NfTablesMessage>> {
        for _ in 1..DUMP_TRIES {
            match self.ask(query.clone(), NLM_F_DUMP) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
        self.ask(query, NLM_F_DUMP)
    }

    /// Appends one message, with the next sequence number.
    fn push(&mut self, bytes: &mut Vec<u8>, message: NetfilterMessage, flags: u16) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.sequence_number = self.sequence;
        header.flags = NLM_F_REQUEST | flags;
        let mut message = NetlinkMessage::new(header, message.into());
        message.finalize();
        let start = bytes.len();
        bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut bytes[start..]);
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let sent = self.socket.send(bytes, 0)?;
        if sent == bytes.len() { Ok(()) } else { Err(Errno::MSGSIZE.into()) }
    }

    /// The verdict on the transaction of the messages `first` to `last`.
    ///
    /// The kernel carries out a transaction within `send`, so every reply it will ever give is
    /// there already, and nothing is waited for.
    fn outcome(&self, first: u32, last: u32) -> io::Result<()> {
        let mut done = false;
        while let Some(replies) = self.receive(RecvFlags::DONTWAIT)? {
            for reply in replies {
                let sequence = reply.header.sequence_number;
                if !(first..=last).contains(&sequence) {
                    continue;
                }
                if let NetlinkPayload::Error(answer) = reply.payload {
                    answer.code.map_or(Ok(()), |_| Err(answer.to_io()))?;
                    done |= sequence == last;
                }
            }
        }
        if done { Ok(()) } else { Err(io::Error::other("the kernel did not confirm")) }
    }

    fn ask(&mut self, query: NfTablesMessage, flags: u16) -> io::Result<Vec<NfTablesMessage>> {
        let mut bytes = Vec::new();
        self.push(&mut bytes, nftables(query), flags);
        self.send(&bytes)?;
        let (mut found, mut interrupted) = (Vec::new(), false);
        loop {
            for reply in self.receive(RecvFlags::empty())?.unwrap_or_default() {
                if reply.header.sequence_number != self.sequence {
                    continue;
                }
                interrupted |= reply.header.flags & DUMP_INTERRUPTED != 0;
                match reply.payload {
                    NetlinkPayload::InnerMessage(message) => found.extend(inner(message)),
                    NetlinkPayload::Error(answer) if answer.code.is_some() => {
                        return Err(answer.to_io());
                    }
                    NetlinkPayload::Done(end) if end.code != 0 => {
                        return Err(io::Error::from_raw_os_error(end.code.saturating_abs()));
                    }
                    _ if interrupted => return Err(io::ErrorKind::Interrupted.into()),
                    // The acknowledgement, or the end of the dump.
                    _ => return Ok(found),
                }
            }
        }
    }

    /// The messages of one datagram; `None` if there is none and `flags` say not to wait.
    fn receive(&self, flags: RecvFlags) -> io::Result<Option<Vec<Reply>>> {
        let mut bytes = Vec::with_capacity(RECEIVE_BYTES);
        match self.socket.recv(&mut bytes, flags.bits().cast_signed()) {
            Ok(_) => parse(&bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.receive(flags),
            Err(error) => Err(error),
        }
    }
}

fn parse(mut bytes: &[u8]) -> io::Result<Vec<Reply>> {
    let mut replies = Vec::new();
    while !bytes.is_empty() {
        let reply = Reply::deserialize(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        let length = usize::try_from(reply.header.length).unwrap_or(usize::MAX);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        replies.push(reply);
    }
    Ok(replies)
}

fn inner(message: NetfilterMessage) -> Option<NfTablesMessage> {
    match message.inner {
        NetfilterMessageInner::NfTables(message) => Some(message),
        _ => None,
    }
}

fn control(message: ControlMessage) -> NetfilterMessage {
    let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYSTEM_NFTABLES);
    NetfilterMessage::new(header, message)
}

fn nftables(message: NfTablesMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 0), message)
}
