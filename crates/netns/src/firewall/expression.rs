//! The expressions that rules are made of, named as in nft(8). Pure.

use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, Expressions, Immediate, Lookup, Meta, MetaKey, Operator, Payload,
    Register, Verdict, VerdictAttribute,
};
use rtnetlink::packet_core::DefaultNla;

use super::layout::{Set, Type, Writer};
use crate::{InterfaceName, IpFamily};

/// `NFT_PAYLOAD_NETWORK_HEADER` and `NFT_PAYLOAD_TRANSPORT_HEADER`.
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

/// `NFT_LOOKUP_F_INV`: true if the set does not hold it.
const LOOKUP_INVERTED: u32 = 1;

/// `NFT_REG32_00`: the first of 16 registers of 32 bits.
const FIRST_REGISTER: u32 = 8;

const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;

/// `NFT_CT_STATE` and `NFT_CT_STATUS`.
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;

/// Established (2) and related (4), as bits of a connection's state.
const ESTABLISHED_OR_RELATED: u32 = 6;

/// `IPS_DST_NAT`.
const DESTINATION_TRANSLATED: u32 = 1 << 5;

/// `NFT_FIB_RESULT_ADDRTYPE`, `NFTA_FIB_F_DADDR` and `RTN_LOCAL`.
const FIB_ADDRESS_TYPE: u32 = 3;
const FIB_DESTINATION: u32 = 2;
const FIB_LOCAL: u32 = 2;

/// `NFT_NAT_DNAT`.
const NAT_DESTINATION: u32 = 1;

/// A field of a packet that can be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    InputInterface,
    OutputInterface,
    Source(IpFamily),
    Destination(IpFamily),
    Protocol,
    DestinationPort,
    NfProto,
}

impl Field {
    fn value_type(self) -> Type {
        match self {
            Self::InputInterface | Self::OutputInterface => Type::Interface,
            Self::Source(IpFamily::V4) | Self::Destination(IpFamily::V4) => Type::Ipv4,
            Self::Source(IpFamily::V6) | Self::Destination(IpFamily::V6) => Type::Ipv6,
            Self::Protocol => Type::Protocol,
            Self::DestinationPort => Type::Port,
            Self::NfProto => Type::NfProto,
        }
    }

    fn load(self, register: Register) -> Expressions {
        match self {
            Self::InputInterface => meta(MetaKey::Iifname, register),
            Self::OutputInterface => meta(MetaKey::Oifname, register),
            Self::Source(IpFamily::V4) => payload(NETWORK_HEADER, 12, 4, register),
            Self::Source(IpFamily::V6) => payload(NETWORK_HEADER, 8, 16, register),
            Self::Destination(IpFamily::V4) => payload(NETWORK_HEADER, 16, 4, register),
            Self::Destination(IpFamily::V6) => payload(NETWORK_HEADER, 24, 16, register),
            Self::Protocol => meta(MetaKey::L4Proto, register),
            Self::DestinationPort => payload(TRANSPORT_HEADER, 2, 2, register),
            Self::NfProto => meta(MetaKey::Nfproto, register),
        }
    }
}

/// What one part of a rule is.
pub(super) type Part = Vec<Expressions>;

/// Only packets of this family.
pub(super) fn of(family: IpFamily) -> Part {
    vec![meta(MetaKey::Nfproto, Register::Reg1), equals(vec![family.nfproto()])]
}

/// `PACKET_HOST`: sent to this host's hardware address.
pub(super) fn sent_to_host() -> Part {
    vec![meta(MetaKey::PacketType, Register::Reg1), equals(vec![0])]
}

/// The first byte of the packet's destination is 127.
pub(super) fn to_loopback4() -> Part {
    vec![payload(NETWORK_HEADER, 16, 1, Register::Reg1), equals(vec![127])]
}

/// The first byte of the packet's source is 127.
pub(super) fn from_loopback4() -> Part {
    vec![payload(NETWORK_HEADER, 12, 1, Register::Reg1), equals(vec![127])]
}

pub(super) fn to_loopback6() -> Part {
    let loopback = std::net::Ipv6Addr::LOCALHOST.octets();
    vec![Field::Destination(IpFamily::V6).load(Register::Reg1), equals(loopback.to_vec())]
}

/// Both interfaces are bridges: the packet passes one bridge, or from one to another.
pub(super) fn between_bridges() -> Part {
    [MetaKey::Iifkind, MetaKey::Oifkind].into_iter().flat_map(is_bridge).collect()
}

/// The packet leaves by a bridge. The contrary cannot be asked for: hardware has no kind, and a rule that
/// looks at it ends there.
pub(super) fn to_bridge() -> Part {
    is_bridge(MetaKey::Oifkind).into()
}

fn is_bridge(kind: MetaKey) -> [Expressions; 2] {
    let mut bridge = b"bridge".to_vec();
    bridge.resize(16, 0);
    [meta(kind, Register::Reg1), equals(bridge)]
}

/// The interface has this name.
pub(super) fn is_named(field: Field, name: &InterfaceName) -> Part {
    let bytes = Writer::default().interface(name).finish(&[field.value_type()]);
    vec![field.load(Register::Reg1), equals(bytes)]
}

/// The set holds the fields, one after the other.
pub(super) fn is_in(set: Set, fields: &[Field]) -> Part {
    look_up(set, fields, vec![])
}

pub(super) fn is_not_in(set: Set, fields: &[Field]) -> Part {
    look_up(set, fields, vec![Lookup::Flags(LOOKUP_INVERTED)])
}

fn look_up(set: Set, fields: &[Field], more: Vec<Lookup>) -> Part {
    let types: Vec<Type> = fields.iter().map(|field| field.value_type()).collect();
    debug_assert_eq!(types, set.key());
    let mut part = Part::new();
    let mut word = 0;
    for field in fields {
        part.push(field.load(Register::from(FIRST_REGISTER + word)));
        word += field.value_type().words();
    }
    let lookup = [Lookup::Set(set.name().to_owned()), Lookup::SourceRegister(Register::Reg1)];
    part.push(Expressions::Lookup(lookup.into_iter().chain(more).collect()));
    part
}

/// Sends the packet where the map leads to.
pub(super) fn dnat(map: Set, fields: &[Field], family: IpFamily) -> Part {
    let mut part = look_up(map, fields, vec![Lookup::DestinationRegister(Register::Reg1)]);
    let port_register = FIRST_REGISTER + map.value()[0].words();
    part.push(other(
        "nat",
        // NFTA_NAT_TYPE, _FAMILY, _REG_ADDR_MIN, _REG_PROTO_MIN.
        &[
            (1, NAT_DESTINATION),
            (2, family.nfproto().into()),
            (3, Register::Reg1.into()),
            (5, port_register),
        ],
    ));
    part
}

/// The destination is an address of this host.
pub(super) fn to_this_host() -> Part {
    // NFTA_FIB_DREG, _RESULT, _FLAGS.
    let fib =
        other("fib", &[(1, Register::Reg1.into()), (2, FIB_ADDRESS_TYPE), (3, FIB_DESTINATION)]);
    vec![fib, equals(FIB_LOCAL.to_ne_bytes().to_vec())]
}

/// Of a connection that was let through before.
pub(super) fn established() -> Part {
    connection_has(CT_STATE, ESTABLISHED_OR_RELATED)
}

/// Of a connection whose destination was translated.
pub(super) fn translated() -> Part {
    connection_has(CT_STATUS, DESTINATION_TRANSLATED)
}

fn connection_has(key: u32, bits: u32) -> Part {
    let zero = vec![0; 4];
    vec![
        // NFTA_CT_DREG, _KEY.
        other("ct", &[(1, Register::Reg1.into()), (2, key)]),
        Expressions::Bitwise(vec![
            Bitwise::SourceRegister(Register::Reg1),
            Bitwise::DestinationRegister(Register::Reg1),
            Bitwise::Length(4),
            Bitwise::Mask(DataAttribute::Value(bits.to_ne_bytes().to_vec())),
            Bitwise::Xor(DataAttribute::Value(zero.clone())),
        ]),
        compare(Operator::NotEqual, zero),
    ]
}

pub(super) fn masquerade() -> Part {
    vec![other("masq", &[])]
}

pub(super) fn accept() -> Part {
    verdict(Verdict::Other(NF_ACCEPT))
}

pub(super) fn discard() -> Part {
    verdict(Verdict::Other(NF_DROP))
}

pub(super) fn end_chain() -> Part {
    verdict(Verdict::Return)
}

fn verdict(verdict: Verdict) -> Part {
    vec![Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(vec![VerdictAttribute::Code(verdict)])),
    ])]
}

fn meta(key: MetaKey, register: Register) -> Expressions {
    Expressions::Meta(vec![Meta::DestinationRegister(register), Meta::Key(key)])
}

fn payload(base: u32, offset: u32, len: u32, register: Register) -> Expressions {
    Expressions::Payload(vec![
        Payload::DestinationRegister(register),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(len),
    ])
}

fn equals(bytes: Vec<u8>) -> Expressions {
    compare(Operator::Equal, bytes)
}

fn compare(operator: Operator, bytes: Vec<u8>) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(bytes)),
    ])
}

/// An expression whose attributes are all 32-bit numbers.
fn other(expression_type: &str, attributes: &[(u16, u32)]) -> Expressions {
    let attributes = attributes
        .iter()
        .map(|&(kind, value)| DefaultNla::new(kind, value.to_be_bytes().to_vec()))
        .collect();
    Expressions::Other { expression_type: expression_type.to_owned(), attributes }
}
