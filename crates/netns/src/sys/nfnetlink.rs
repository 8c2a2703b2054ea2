//! Transactions and queries over one netlink socket of `nf_tables` and connection tracking.

use std::io;

use netlink_packet_netfilter::conntrack::{ConntrackAttribute, ConntrackMessage};
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
use rustix::net::{RecvFlags, sockopt};

use super::watch::Watch;
use crate::IpFamily;
use crate::conntrack::{self, Connections};
use crate::firewall::ruleset::Request;
use crate::undo::is_gone;

/// `NFNL_SUBSYS_NFTABLES`: whose transaction a batch is.
const SUBSYSTEM_NFTABLES: u16 = 10;

/// Room for a transaction, which is one datagram: 8,192 elements, each once to be added and once
/// to be deleted, take 1.3 MB at most.
const SEND_BYTES: usize = 2 << 20;

/// The kernel fills up to 32 KiB at a time when it dumps.
const RECEIVE_BYTES: usize = 64 << 10;

/// Length of a message's header, `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;

/// `NLMSG_MIN_TYPE`: below are errors, acknowledgements and ends.
const FIRST_KIND: u16 = 16;

/// `NLM_F_DUMP_INTR`: something changed while it was being dumped.
const DUMP_INTERRUPTED: u16 = 0x10;

/// A dump is repeated so often if the set changes meanwhile. On a host that creates a container
/// every few milliseconds, with a dump of a fraction of one, that never happens twice.
const DUMP_TRIES: u32 = 10;

/// One socket; the owner of the tables that are created over it.
#[derive(Debug)]
pub(super) struct Nfnetlink {
    socket: Socket,
    /// The number by which the kernel knows it.
    port: u32,
    sequence: u32,
}

pub(super) type Reply = NetlinkMessage<NetfilterMessage>;

impl Nfnetlink {
    /// Opens the socket in the network namespace of the calling thread.
    pub(super) fn connect() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        // Without it, an error comes with a copy of the request and can overrun the buffer.
        socket.set_cap_ack(true)?;
        sockopt::set_socket_send_buffer_size_force(&socket, SEND_BYTES)?;
        Ok(Self { socket, port, sequence: 0 })
    }

    /// Tells of changes that are not made over this socket.
    pub(super) fn watch(&self) -> io::Result<Watch> {
        Watch::connect(self.port)
    }

    /// Carries out `requests` as one transaction: all of them or none.
    pub(super) fn transact(&mut self, requests: &[Request]) -> io::Result<()> {
        self.transact_in(NetfilterProtoFamily::Inet, requests)
    }

    /// The same in tables of that family.
    pub(super) fn transact_in(
        &mut self,
        family: NetfilterProtoFamily,
        requests: &[Request],
    ) -> io::Result<()> {
        if requests.is_empty() {
            return Ok(());
        }
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        self.push(&mut bytes, control(ControlMessage::BatchBegin), 0);
        for Request { message, flags } in requests {
            self.push(&mut bytes, nftables_in(family, message.clone()), flags | NLM_F_ACK);
        }
        let last = self.sequence;
        self.push(&mut bytes, control(ControlMessage::BatchEnd), 0);
        self.send(&bytes)?;
        self.outcome(first, last)
    }

    /// Asks for one thing.
    pub(super) fn get(&mut self, query: NfTablesMessage) -> io::Result<Vec<NfTablesMessage>> {
        Ok(tables(self.ask(nftables(query), NLM_F_ACK)?))
    }

    /// Asks for a list of things, again if it changed while it was read.
    pub(super) fn dump(&mut self, query: NfTablesMessage) -> io::Result<Vec<NfTablesMessage>> {
        self.dump_steadily(&nftables(query)).map(tables)
    }

    /// The same of tables of that family.
    pub(super) fn dump_in(
        &mut self,
        family: NetfilterProtoFamily,
        query: NfTablesMessage,
    ) -> io::Result<Vec<NfTablesMessage>> {
        self.dump_steadily(&nftables_in(family, query)).map(tables)
    }

    /// The same of all families, each thing with its own.
    pub(super) fn dump_all(
        &mut self,
        query: NfTablesMessage,
    ) -> io::Result<Vec<(NetfilterProtoFamily, NfTablesMessage)>> {
        let answers = self.dump_steadily(&nftables_in(NetfilterProtoFamily::Unspec, query))?;
        let table = |answer: NetfilterMessage| match answer.inner {
            NetfilterMessageInner::NfTables(message) => Some((answer.header.family, message)),
            _ => None,
        };
        Ok(answers.into_iter().filter_map(table).collect())
    }

    fn dump_steadily(&mut self, query: &NetfilterMessage) -> io::Result<Vec<NetfilterMessage>> {
        for _ in 1..DUMP_TRIES {
            match self.ask(query.clone(), NLM_F_DUMP) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
        self.ask(query.clone(), NLM_F_DUMP)
    }

    /// Makes the kernel forget connections; one that ended meanwhile is none.
    pub(super) fn forget(&mut self, which: &[Connections]) -> io::Result<()> {
        for family in conntrack::families(which) {
            let all = connection(family, ConntrackMessage::Get(vec![]));
            let answers = self.ask_for(all, NLM_F_DUMP, conntrack::may_be_among(which))?;
            let meant = |entry: &Vec<_>| which.iter().any(|some| some.contain(entry));
            for entry in answers.into_iter().filter_map(entry).filter(meant) {
                let deletion = connection(family, conntrack::deletion(entry));
                match self.ask(deletion, NLM_F_ACK) {
                    Err(error) if is_gone(&error) => {}
                    answer => drop(answer?),
                }
            }
        }
        Ok(())
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
        while let Some(replies) = receive(&self.socket, RecvFlags::DONTWAIT)? {
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

    fn ask(&mut self, query: NetfilterMessage, flags: u16) -> io::Result<Vec<NetfilterMessage>> {
        self.ask_for(query, flags, |_| true)
    }

    /// The answers that `wanted` says are worth being read.
    fn ask_for(
        &mut self,
        query: NetfilterMessage,
        flags: u16,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> io::Result<Vec<NetfilterMessage>> {
        let mut bytes = Vec::new();
        self.push(&mut bytes, query, flags);
        self.send(&bytes)?;
        let (mut found, mut interrupted) = (Vec::new(), false);
        loop {
            for reply in
                receive_some(&self.socket, RecvFlags::empty(), &wanted)?.unwrap_or_default()
            {
                if reply.header.sequence_number != self.sequence {
                    continue;
                }
                interrupted |= reply.header.flags & DUMP_INTERRUPTED != 0;
                match reply.payload {
                    NetlinkPayload::InnerMessage(message) => found.push(message),
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
}

/// The messages of one datagram; `None` if there is none and `flags` say not to wait.
pub(super) fn receive(socket: &Socket, flags: RecvFlags) -> io::Result<Option<Vec<Reply>>> {
    receive_some(socket, flags, &|_| true)
}

/// Those of them that are `wanted`, and those that are about the answer itself.
fn receive_some(
    socket: &Socket,
    flags: RecvFlags,
    wanted: &impl Fn(&[u8]) -> bool,
) -> io::Result<Option<Vec<Reply>>> {
    let mut bytes = Vec::with_capacity(RECEIVE_BYTES);
    loop {
        match socket.recv(&mut bytes, flags.bits().cast_signed()) {
            Ok(_) => return parse(&bytes, wanted).map(Some),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn parse(mut bytes: &[u8], wanted: &impl Fn(&[u8]) -> bool) -> io::Result<Vec<Reply>> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut replies = Vec::new();
    while let Some(&header) = bytes.first_chunk::<HEADER_BYTES>() {
        let [a, b, c, d, kind, more, ..] = header;
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        let message = bytes.get(..length.max(HEADER_BYTES));
        let message = message.ok_or_else(|| invalid("a message is cut off".to_owned()))?;
        if u16::from_ne_bytes([kind, more]) < FIRST_KIND || wanted(message) {
            replies.push(Reply::deserialize(message).map_err(|error| invalid(error.to_string()))?);
        }
        bytes = bytes.get(message.len().next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(replies)
}

fn tables(answers: Vec<NetfilterMessage>) -> Vec<NfTablesMessage> {
    let table = |answer: NetfilterMessage| match answer.inner {
        NetfilterMessageInner::NfTables(message) => Some(message),
        _ => None,
    };
    answers.into_iter().filter_map(table).collect()
}

fn entry(answer: NetfilterMessage) -> Option<Vec<ConntrackAttribute>> {
    match answer.inner {
        NetfilterMessageInner::Conntrack(ConntrackMessage::New(entry)) => Some(entry),
        _ => None,
    }
}

/// The tables of one family alone.
pub(super) fn tables_of(family: IpFamily) -> NetfilterProtoFamily {
    match family {
        IpFamily::V4 => NetfilterProtoFamily::IPv4,
        IpFamily::V6 => NetfilterProtoFamily::IPv6,
    }
}

fn connection(family: IpFamily, message: ConntrackMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(tables_of(family), 0, 0), message)
}

fn control(message: ControlMessage) -> NetfilterMessage {
    let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYSTEM_NFTABLES);
    NetfilterMessage::new(header, message)
}

fn nftables(message: NfTablesMessage) -> NetfilterMessage {
    nftables_in(NetfilterProtoFamily::Inet, message)
}

fn nftables_in(family: NetfilterProtoFamily, message: NfTablesMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message)
}
