//! Connections that the kernel keeps in mind, and how it forgets them.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Tuple,
};
use rtnetlink::packet_core::Nla;

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
/// Before an address passes to another container, when the one that had it is off its network:
/// else an entry would go on leading packets there that were meant for the container that is gone.
/// What the kernel keeps for that address while it asks where that is goes too: by then such
/// packets are translated, and would be sent to whoever answers.
///
/// The kernel has no index of them: all its entries are gone through, once for each family, which
/// takes milliseconds. Better many at once.
///
/// # Errors
///
/// [`Error::Step`].
pub fn forget_connections(which: &[Connections]) -> Result<(), Error> {
    forget(&mut Linux::default(), which)
}

fn forget(kernel: &mut Linux, which: &[Connections]) -> Result<(), Error> {
    if !which.is_empty() {
        apply(kernel, plan_forgetting(which))?.commit();
    }
    Ok(())
}

/// Connections first: each goes on adding to what waits for a neighbour.
fn plan_forgetting(which: &[Connections]) -> Vec<Step> {
    let addresses: Vec<_> = which.iter().filter_map(Connections::container).collect();
    let mut steps = vec![Step::ForgetConnections(which.to_vec())];
    if !addresses.is_empty() {
        steps.push(Step::ForgetNeighbours(addresses));
    }
    steps
}

/// Forgets what many threads ask for, together: while one goes through the kernel's entries, the
/// others' requests gather, and the next does all of them.
#[derive(Debug, Default)]
pub(crate) struct Forgetter {
    requests: Mutex<Requests>,
    /// Up to which of them was done.
    done: Mutex<u64>,
}

#[derive(Debug, Default)]
struct Requests {
    pending: Vec<Connections>,
    /// How many requests there were.
    count: u64,
}

impl Forgetter {
    pub(crate) fn forget(&self, which: &[Connections]) -> Result<(), Error> {
        if which.is_empty() {
            return Ok(());
        }
        let ticket = self.ask(which);
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if *done >= ticket {
            return Ok(());
        }
        let (batch, count) = {
            let mut requests = self.requests();
            (std::mem::take(&mut requests.pending), requests.count)
        };
        // What that takes is not kept open: on most hosts the next one is hours away.
        let result = forget(&mut Linux::default(), &batch);
        match &result {
            Ok(()) => *done = count,
            // Whoever waits tries by himself.
            Err(_) => self.requests().pending.extend(batch),
        }
        result
    }

    fn ask(&self, which: &[Connections]) -> u64 {
        let mut requests = self.requests();
        requests.pending.extend(which);
        requests.count += 1;
        requests.count
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `CTA_ZONE` and `CTA_ID`.
const CTA_ZONE: u16 = 18;
const CTA_ID: u16 = 12;

impl Connections {
    /// The family they are of, if it is one.
    fn family(&self) -> Option<IpFamily> {
        match *self {
            Self::Of(address) => Some(IpFamily::of(address)),
            Self::ToHost { at, .. } => at.map(IpFamily::of),
        }
    }

    /// The address whose they are, if they are one's.
    fn container(&self) -> Option<IpAddr> {
        match *self {
            Self::Of(address) => Some(address),
            Self::ToHost { .. } => None,
        }
    }

    /// Bytes that the kernel's message about each of them has in it.
    fn trace(&self) -> Option<Vec<u8>> {
        match *self {
            Self::Of(IpAddr::V4(v4)) => Some(v4.octets().to_vec()),
            Self::Of(IpAddr::V6(v6)) => Some(v6.octets().to_vec()),
            Self::ToHost { .. } => None,
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

/// The families that have to be gone through.
pub(crate) fn families(which: &[Connections]) -> impl Iterator<Item = IpFamily> {
    let of = |family| which.iter().any(move |some| some.family().is_none_or(|only| only == family));
    [IpFamily::V4, IpFamily::V6].into_iter().filter(move |&family| of(family))
}

/// Tells messages that need not be read, since they cannot be about any of `which`: on a busy host
/// there are hundred thousands, and to read one takes a microsecond.
pub(crate) fn may_be_among(which: &[Connections]) -> impl Fn(&[u8]) -> bool {
    let traces: Option<Vec<Vec<u8>>> = which.iter().map(Connections::trace).collect();
    move |message| {
        let is_in = |trace: &Vec<u8>| message.windows(trace.len()).any(|part| part == trace);
        traces.as_ref().is_none_or(|traces| traces.iter().any(is_in))
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_netfilter::conntrack::Protocol as Number;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn tuple(source: &str, destination: &str, port: u16) -> Vec<Tuple> {
        vec![
            Tuple::Ip(vec![
                IPTuple::SourceAddress(ip(source)),
                IPTuple::DestinationAddress(ip(destination)),
            ]),
            Tuple::Proto(vec![
                ProtoTuple::Protocol(Number::Udp),
                ProtoTuple::DestinationPort(port),
            ]),
        ]
    }

    /// A client's connection to a port of the host that is led to a container, or is not.
    fn entry(answered_by: &str) -> Vec<ConntrackAttribute> {
        vec![
            ConntrackAttribute::CtaTupleOrig(tuple("192.0.2.2", "192.0.2.1", 5353)),
            ConntrackAttribute::CtaTupleReply(tuple(answered_by, "192.0.2.2", 40000)),
        ]
    }

    #[test]
    fn entries_are_told_by_address_and_port() {
        let (led, local) = (entry("10.88.0.2"), entry("192.0.2.1"));
        let to_host = |at: Option<&str>, protocol, first, count| Connections::ToHost {
            at: at.map(ip),
            protocol,
            first,
            count,
        };
        let udp = Protocol::Udp;
        let cases = [
            ("who answers", Connections::Of(ip("10.88.0.2")), true, false),
            ("who began", Connections::Of(ip("192.0.2.2")), true, true),
            ("another", Connections::Of(ip("10.88.0.3")), false, false),
            ("the port", to_host(None, udp, 5353, 1), false, true),
            ("in a range", to_host(None, udp, 5350, 4), false, true),
            ("after a range", to_host(None, udp, 5350, 3), false, false),
            ("before a range", to_host(None, udp, 5354, 9), false, false),
            ("that address", to_host(Some("192.0.2.1"), udp, 5353, 1), false, true),
            ("another address", to_host(Some("192.0.2.9"), udp, 5353, 1), false, false),
            ("another protocol", to_host(None, Protocol::Tcp, 5353, 1), false, false),
        ];
        for (about, which, want_led, want_local) in cases {
            assert_eq!(which.contain(&led), want_led, "{about}");
            assert_eq!(which.contain(&local), want_local, "{about}");
        }
    }

    #[test]
    fn what_waits_for_an_address_is_dropped_when_nothing_is_led_there_any_more() {
        let of = Connections::Of(ip("10.88.0.2"));
        let port = Connections::ToHost { at: None, protocol: Protocol::Udp, first: 1, count: 1 };
        let connections = |which: &[Connections]| Step::ForgetConnections(which.to_vec());
        let both = [port, of];
        let neighbours = Step::ForgetNeighbours(vec![ip("10.88.0.2")]);
        assert_eq!(plan_forgetting(&both), [connections(&both), neighbours]);
        assert_eq!(plan_forgetting(&[port]), [connections(&[port])], "that is this host");
    }

    #[test]
    fn only_what_can_be_meant_is_read() {
        let of = [Connections::Of(ip("10.88.0.2")), Connections::Of(ip("fd00::2"))];
        let may = may_be_among(&of);
        assert!(may(&[0, 0, 10, 88, 0, 2, 0]));
        assert!(!may(&[0, 0, 10, 88, 0, 3, 0]));
        assert_eq!(families(&of).count(), 2);
        assert_eq!(families(&of[..1]).collect::<Vec<_>>(), [IpFamily::V4]);
        let port = Connections::ToHost { at: None, protocol: Protocol::Udp, first: 1, count: 1 };
        assert!(may_be_among(&[of[0], port])(&[]), "nothing is known of how that looks");
    }
}
