//! Questions and answers as they are sent; what is to be said is the directory's to say. No I/O.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};

use crate::{Answer, Directory, Question};

/// Largest datagram that is sent, in bytes, to whoever says it takes it: what passes everywhere
/// (RFC 9715). Who says nothing gets 512 (RFC 1035, 4.2.1).
const MAX_DATAGRAM: u16 = 1232;
const MIN_DATAGRAM: u16 = 512;

/// An answer counts for the moment it is given.
const TTL: u32 = 0;

/// Over what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// What comes of a question.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// This is sent.
    Reply(Vec<u8>),
    /// These are asked, or the host's resolvers; nothing of this is sent as it came.
    Forward(Box<Message>, Vec<IpAddr>),
    /// It was no question.
    Silence,
}

/// What comes of `bytes` that somebody sends on a network.
pub(crate) fn outcome(
    directory: &Directory,
    network: &str,
    from: IpAddr,
    bytes: &[u8],
    transport: Transport,
) -> Outcome {
    let query = match Message::from_vec(bytes) {
        Ok(message) if message.metadata.message_type == MessageType::Response => {
            return Outcome::Silence;
        }
        Ok(message) => message,
        Err(_) => return malformed(bytes),
    };
    let reply = match (&query.queries[..], query.metadata.op_code) {
        (_, code) if code != OpCode::Query => failure(&query, ResponseCode::NotImp),
        ([one], _) if one.query_class() == DNSClass::IN => {
            match directory.answer(network, from, question(one).as_question()) {
                Answer::Elsewhere(resolvers) => {
                    return Outcome::Forward(Box::new(query), resolvers);
                }
                answer => said(&query, one, answer),
            }
        }
        ([_], _) => failure(&query, ResponseCode::Refused),
        _ => failure(&query, ResponseCode::FormErr),
    };
    encode(&reply, limit(&query, transport)).map_or(Outcome::Silence, Outcome::Reply)
}

/// A header that can be answered, or nothing.
fn malformed(bytes: &[u8]) -> Outcome {
    match *bytes {
        [high, low, flags, _, ..] if bytes.len() >= 12 && flags & 0x80 == 0 => {
            let id = u16::from_be_bytes([high, low]);
            let reply = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
            encode(&reply, MIN_DATAGRAM).map_or(Outcome::Silence, Outcome::Reply)
        }
        _ => Outcome::Silence,
    }
}

/// A question, with the name it is about.
enum Asked {
    Addresses(String),
    Name(IpAddr),
    Other(String),
}

impl Asked {
    fn as_question(&self) -> Question<'_> {
        match self {
            Self::Addresses(name) => Question::Addresses(name),
            Self::Name(address) => Question::Name(*address),
            Self::Other(name) => Question::Other(name),
        }
    }
}

fn question(query: &Query) -> Asked {
    let text = || {
        let mut text = query.name().to_ascii();
        text.make_ascii_lowercase();
        if text.ends_with('.') {
            text.pop();
        }
        text
    };
    match query.query_type() {
        RecordType::A | RecordType::AAAA | RecordType::ANY => Asked::Addresses(text()),
        RecordType::PTR => match reversed(query.name()) {
            Some(address) => Asked::Name(address),
            None => Asked::Other(text()),
        },
        _ => Asked::Other(text()),
    }
}

/// The address that a name in `in-addr.arpa` or `ip6.arpa` is about, if it is about one.
fn reversed(name: &Name) -> Option<IpAddr> {
    let net = name.parse_arpa_name().ok()?;
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}

fn said(query: &Message, asked: &Query, answer: Answer) -> Message {
    let mut reply = reply_to(query);
    reply.metadata.authoritative = true;
    let record = |data| Record::from_rdata(asked.name().clone(), TTL, data);
    match answer {
        Answer::Addresses(addresses) => {
            let wanted = addresses.into_iter().filter_map(|address| data(address, asked));
            reply.answers = wanted.map(record).collect();
        }
        Answer::Name(name) => match absolute(&name) {
            Some(name) => reply.answers = vec![record(RData::PTR(PTR(name)))],
            None => reply.metadata.response_code = ResponseCode::NXDomain,
        },
        Answer::Nothing => {}
        Answer::Unknown => reply.metadata.response_code = ResponseCode::NXDomain,
        Answer::Refused | Answer::Elsewhere(_) => return failure(query, ResponseCode::Refused),
    }
    reply
}

fn data(address: IpAddr, asked: &Query) -> Option<RData> {
    match (address, asked.query_type()) {
        (IpAddr::V4(v4), RecordType::A | RecordType::ANY) => Some(RData::A(A(v4))),
        (IpAddr::V6(v6), RecordType::AAAA | RecordType::ANY) => Some(RData::AAAA(AAAA(v6))),
        _ => None,
    }
}

fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// That it failed.
pub(crate) fn failure(query: &Message, code: ResponseCode) -> Message {
    let mut reply = reply_to(query);
    reply.metadata.response_code = code;
    reply
}

fn reply_to(query: &Message) -> Message {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata = Metadata::response_from_request(&query.metadata);
    reply.metadata.recursion_available = true;
    reply.queries.clone_from(&query.queries);
    reply.edns = query.edns.as_ref().map(|_| our_edns());
    reply
}

fn our_edns() -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_DATAGRAM);
    edns
}

/// What the resolvers are asked: the same question, and nothing else that was said with it.
pub(crate) fn onward(query: &Message) -> Message {
    let mut onward = Message::query();
    onward.metadata.recursion_desired = query.metadata.recursion_desired;
    onward.metadata.authentic_data = query.metadata.authentic_data;
    onward.metadata.checking_disabled = query.metadata.checking_disabled;
    onward.queries.clone_from(&query.queries);
    onward.edns = query.edns.as_ref().map(|theirs| {
        let mut edns = our_edns();
        edns.set_dnssec_ok(theirs.flags().dnssec_ok);
        edns
    });
    onward
}

/// What a resolver sent to `onward`, if it is an answer to it.
pub(crate) fn answer_to(onward: &Message, bytes: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let fits = answer.metadata.id == onward.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries == onward.queries;
    fits.then_some(answer)
}

/// What a resolver said, as the answer to who asked first.
pub(crate) fn passed_on(query: &Message, answer: Message) -> Message {
    let mut reply = reply_to(query);
    reply.metadata.authentic_data = answer.metadata.authentic_data;
    reply.metadata.truncation = answer.metadata.truncation;
    reply.metadata.response_code = match answer.metadata.response_code {
        // There is no room for it without EDNS.
        code if code.high() > 0 && reply.edns.is_none() => ResponseCode::ServFail,
        code => code,
    };
    if let (Some(ours), Some(theirs)) = (&mut reply.edns, &answer.edns) {
        ours.set_dnssec_ok(theirs.flags().dnssec_ok);
    }
    (reply.answers, reply.authorities, reply.additionals) =
        (answer.answers, answer.authorities, answer.additionals);
    reply
}

/// How long an answer may be.
pub(crate) fn limit(query: &Message, transport: Transport) -> u16 {
    match transport {
        Transport::Tcp => u16::MAX,
        Transport::Udp => {
            let taken = query.edns.as_ref().map_or(MIN_DATAGRAM, Edns::max_payload);
            taken.clamp(MIN_DATAGRAM, MAX_DATAGRAM)
        }
    }
}

/// As it is sent; what goes beyond the limit is left out, and that is said.
pub(crate) fn encode(message: &Message, limit: u16) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::from(MIN_DATAGRAM));
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(limit);
    message.emit(&mut encoder).ok()?;
    Some(bytes)
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
