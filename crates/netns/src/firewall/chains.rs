//! The chains of the table and their rules. Pure.

use netlink_packet_netfilter::nftables::InetHookNumber;

use super::expression::{
    Field, Part, accept, between_bridges, discard, dnat, end_chain, established, from_loopback4,
    is_in, is_not_in, masquerade, of, sent_to_host, to_loopback4, to_loopback6, to_this_host,
    translated,
};
use super::layout::Set;
use crate::IpFamily::{self, V4, V6};
use Field::{
    Destination, DestinationPort, InputInterface, NfProto, OutputInterface, Protocol, Source,
};

/// nft's `raw`, `dstnat`, `filter` and `srcnat`.
const PRIORITY_RAW: i32 = -300;
const PRIORITY_DSTNAT: i32 = -100;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SRCNAT: i32 = 100;

/// A chain and what is in it.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) hook: InetHookNumber,
    pub(super) priority: i32,
    pub(super) rules: Vec<Part>,
}

/// All chains, in the order they are created.
pub(super) fn chains() -> [Chain; 5] {
    [raw(), prerouting(), output(), forward(), postrouting()]
}

/// Before connections are looked at, so that answers, whose destination is only then translated
/// back to the loopback, still pass.
fn raw() -> Chain {
    Chain {
        name: "raw_prerouting",
        kind: "filter",
        hook: InetHookNumber::PreRouting,
        priority: PRIORITY_RAW,
        rules: vec![rule([
            is_in(Set::Localnet, &[InputInterface]),
            of(V4),
            to_loopback4(),
            discard(),
        ])],
    }
}

fn prerouting() -> Chain {
    Chain {
        name: "prerouting",
        kind: "nat",
        hook: InetHookNumber::PreRouting,
        priority: PRIORITY_DSTNAT,
        // What is published on the loopback is for this host, whatever `route_localnet` says.
        rules: [rule([of(V4), to_loopback4(), end_chain()])]
            .into_iter()
            .chain(translations())
            .collect(),
    }
}

/// From this host itself.
fn output() -> Chain {
    Chain {
        name: "output",
        kind: "nat",
        hook: InetHookNumber::LocalOut,
        priority: PRIORITY_DSTNAT,
        // IPv6 has nothing like `route_localnet`.
        rules: [rule([of(V6), to_loopback6(), end_chain()])]
            .into_iter()
            .chain(translations())
            .collect(),
    }
}

/// The address that was named goes before all addresses.
fn translations() -> impl Iterator<Item = Part> {
    let of_family = |family: IpFamily| {
        let at = [Destination(family), Protocol, DestinationPort];
        let anywhere = [Protocol, DestinationPort];
        [
            rule([of(family), dnat(Set::PortsAt(family), &at, family)]),
            rule([of(family), to_this_host(), dnat(Set::Ports(family), &anywhere, family)]),
        ]
    };
    [V4, V6].into_iter().flat_map(of_family)
}

fn forward() -> Chain {
    let from = |set| is_in(set, &[InputInterface]);
    let to = |set| is_in(set, &[OutputInterface]);
    Chain {
        name: "forward",
        kind: "filter",
        hook: InetHookNumber::Forward,
        priority: PRIORITY_FILTER,
        rules: vec![
            rule([is_in(Set::Within, &[InputInterface, OutputInterface]), accept()]),
            rule([established(), accept()]),
            rule([from(Set::Internal), discard()]),
            rule([to(Set::Internal), discard()]),
            rule([from(Set::Isolated), to(Set::Networks), discard()]),
            rule([from(Set::Networks), to(Set::Isolated), discard()]),
            rule([from(Set::Networks), accept()]),
            rule([to(Set::Networks), translated(), accept()]),
            rule([to(Set::Networks), discard()]),
            rule([between_bridges(), accept()]),
            rule([is_in(Set::Closed, &[NfProto]), discard()]),
        ],
    }
}

fn postrouting() -> Chain {
    // A container that reaches one of its own network by a published port would get the answer
    // from an address it did not ask.
    let hairpin = |family| {
        let member = is_in(Set::Members(family), &[OutputInterface, Source(family)]);
        rule([of(family), translated(), member, masquerade()])
    };
    // The same where the port leads to an address that the other has on another network.
    let past_us = |family| {
        let member = is_in(Set::Members(family), &[InputInterface, Destination(family)]);
        rule([of(family), translated(), member, masquerade()])
    };
    let outbound = |family| {
        let containers = Set::Containers(family);
        rule([
            sent_to_host(),
            of(family),
            is_in(containers, &[Source(family)]),
            is_not_in(containers, &[Destination(family)]),
            masquerade(),
        ])
    };
    let loopback =
        rule([of(V4), from_loopback4(), is_in(Set::Localnet, &[OutputInterface]), masquerade()]);
    Chain {
        name: "postrouting",
        kind: "nat",
        hook: InetHookNumber::PostRouting,
        priority: PRIORITY_SRCNAT,
        rules: vec![
            hairpin(V4),
            hairpin(V6),
            past_us(V4),
            past_us(V6),
            loopback,
            outbound(V4),
            outbound(V6),
        ],
    }
}

pub(super) fn rule<const N: usize>(parts: [Part; N]) -> Part {
    parts.into_iter().flatten().collect()
}
