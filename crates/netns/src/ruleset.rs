//! The firewall table as netlink messages. Pure.
//!
//! What is built here is, in the words of nft(8):
//!
//! ```text
//! table inet <name> {
//!     comment "tare-netns generation 1"
//!     set containers4 { type ipv4_addr; }
//!     set containers6 { type ipv6_addr; }
//!     chain postrouting {
//!         type nat hook postrouting priority srcnat; policy accept;
//!         meta pkttype host ip saddr @containers4 ip daddr != @containers4 masquerade
//!         meta pkttype host ip6 saddr @containers6 ip6 daddr != @containers6 masquerade
//!     }
//! }
//! ```
//!
//! `meta pkttype host` keeps frames sent to many as they are. On the way through a router there
//! are none, but where `bridge-nf-call-iptables` is on, frames that only pass a bridge come along
//! here too, and mDNS, DHCP and broadcasts between containers would bear the bridge's address.
//! (netavark excludes 224.0.0.0/4 instead and accepts the subnet before; that would take a rule
//! per network, and its broadcast address is only known with the subnet.)

use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions, Hook,
    HookNumber, InetHookNumber, ListAttribute, Lookup, Meta, MetaKey, NfTablesMessage, Operator,
    Payload, Register, RuleAttribute, RuleMessage, SetAttribute, SetFlags, SetMessage,
    TableAttribute, TableFlags, TableMessage,
};
use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_CREATE};

use crate::TableName;
use crate::firewall::{Found, Ownership};

/// Goes up with every change that [`load`] cannot make to a table that is there already: other
/// sets or chains. A change of rules is none.
const GENERATION: &str = "tare-netns generation 1";

const CHAIN: &str = "postrouting";

/// nft's `srcnat`, `NF_IP_PRI_NAT_SRC`.
const PRIORITY_SRCNAT: u32 = 100;

/// `NF_ACCEPT`.
const POLICY_ACCEPT: u32 = 1;

/// `NFT_PAYLOAD_NETWORK_HEADER`.
const NETWORK_HEADER: u32 = 1;

/// `NFT_LOOKUP_F_INV`: true if the set does not hold it.
const LOOKUP_INVERTED: u32 = 1;

/// `PACKET_HOST` of `linux/if_packet.h`: sent to this host's hardware address.
const PACKET_HOST: u8 = 0;

/// One message of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) message: NfTablesMessage,
    /// Netlink flags besides those that every request has.
    pub(crate) flags: u16,
}

/// All that differs between the two address families.
#[derive(Debug)]
pub(crate) struct Family {
    /// Name of its set.
    pub(crate) set: &'static str,
    /// Number that names the set within a transaction.
    set_id: u32,
    /// What nft(8) calls the type of the set's elements.
    key_type: u32,
    /// In bytes.
    pub(crate) address_len: u32,
    /// `NFPROTO_IPV4` or `NFPROTO_IPV6`.
    protocol: u8,
    source_offset: u32,
    destination_offset: u32,
}

pub(crate) static FAMILIES: [Family; 2] = [
    Family {
        set: "containers4",
        set_id: 1,
        key_type: 7,
        address_len: 4,
        protocol: 2,
        source_offset: 12,
        destination_offset: 16,
    },
    Family {
        set: "containers6",
        set_id: 2,
        key_type: 8,
        address_len: 16,
        protocol: 10,
        source_offset: 8,
        destination_offset: 24,
    },
];

/// The transaction that makes the table what it should be, over what was `found`.
///
/// Sets that are there keep their elements; rules are replaced, so whatever happened to them
/// while nobody owned the table, they are right afterwards.
pub(crate) fn load(table: &TableName, found: Found, ownership: Ownership) -> Vec<Request> {
    let mut requests = Vec::new();
    if !matches!(found, Found::Nothing) && found != Found::Ours(ownership) {
        requests.extend(delete(table));
    }
    requests.push(new_table(table, ownership));
    requests.extend(FAMILIES.iter().map(|family| new_set(table, family)));
    requests.push(new_chain(table));
    requests.push(flush_chain(table));
    requests.extend(FAMILIES.iter().map(|family| masquerade(table, family)));
    requests
}

/// The transaction that deletes the table and all in it.
pub(crate) fn delete(table: &TableName) -> Vec<Request> {
    let attributes = vec![TableAttribute::Name(table.to_string())];
    vec![request(NfTablesMessage::DeleteTable(TableMessage { attributes }), 0)]
}

/// The query for the table itself.
pub(crate) fn get_table(table: &TableName) -> NfTablesMessage {
    let attributes = vec![TableAttribute::Name(table.to_string())];
    NfTablesMessage::GetTable(TableMessage { attributes })
}

/// What a table that was read means to us.
pub(crate) fn classify(attributes: &[TableAttribute]) -> Found {
    let flags = attributes.iter().find_map(|attribute| match attribute {
        TableAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    let flags = flags.unwrap_or_default();
    if flags.contains(TableFlags::Owner) {
        return Found::Owned;
    }
    if !attributes.contains(&TableAttribute::UserData(comment(GENERATION))) {
        return Found::Foreign;
    }
    Found::Ours(if flags.contains(TableFlags::Persisent) {
        Ownership::Exclusive
    } else {
        Ownership::Shared
    })
}

pub(crate) fn request(message: NfTablesMessage, flags: u16) -> Request {
    Request { message, flags }
}

fn new_table(table: &TableName, ownership: Ownership) -> Request {
    let flags = match ownership {
        Ownership::Exclusive => TableFlags::Owner | TableFlags::Persisent,
        Ownership::Shared => TableFlags::empty(),
    };
    let attributes = vec![
        TableAttribute::Name(table.to_string()),
        TableAttribute::Flags(flags),
        TableAttribute::UserData(comment(GENERATION)),
    ];
    request(NfTablesMessage::NewTable(TableMessage { attributes }), NLM_F_CREATE)
}

/// A comment as nft(8) stores it: type 0, length, text with its NUL.
fn comment(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    [&[0, len], text.as_bytes(), &[0]].concat()
}

fn new_set(table: &TableName, family: &Family) -> Request {
    let attributes = vec![
        SetAttribute::Table(table.to_string()),
        SetAttribute::Name(family.set.to_owned()),
        SetAttribute::Flags(SetFlags::empty()),
        SetAttribute::KeyType(family.key_type),
        SetAttribute::KeyLen(family.address_len),
        SetAttribute::Id(family.set_id),
    ];
    request(NfTablesMessage::NewSet(SetMessage { attributes }), NLM_F_CREATE)
}

fn new_chain(table: &TableName) -> Request {
    let attributes = vec![
        ChainAttribute::Table(table.to_string()),
        ChainAttribute::Name(CHAIN.to_owned()),
        ChainAttribute::Hook(vec![
            Hook::Number(HookNumber::Inet(InetHookNumber::PostRouting)),
            Hook::Priority(PRIORITY_SRCNAT),
        ]),
        ChainAttribute::Policy(POLICY_ACCEPT),
        ChainAttribute::Type("nat".to_owned()),
    ];
    request(NfTablesMessage::NewChain(ChainMessage { attributes }), NLM_F_CREATE)
}

/// Deletes all rules of the chain: the message names none.
fn flush_chain(table: &TableName) -> Request {
    let attributes =
        vec![RuleAttribute::Table(table.to_string()), RuleAttribute::Chain(CHAIN.to_owned())];
    request(NfTablesMessage::DeleteRule(RuleMessage { attributes }), 0)
}

fn masquerade(table: &TableName, family: &Family) -> Request {
    let expressions = vec![
        meta(MetaKey::PacketType),
        equals(PACKET_HOST),
        meta(MetaKey::Nfproto),
        equals(family.protocol),
        load_address(family, family.source_offset),
        lookup(family, 0),
        load_address(family, family.destination_offset),
        lookup(family, LOOKUP_INVERTED),
        Expressions::Other { expression_type: "masq".to_owned(), attributes: vec![] },
    ];
    let expressions = expressions.into_iter().map(named).collect();
    let attributes = vec![
        RuleAttribute::Table(table.to_string()),
        RuleAttribute::Chain(CHAIN.to_owned()),
        RuleAttribute::Expressions(expressions),
    ];
    request(NfTablesMessage::NewRule(RuleMessage { attributes }), NLM_F_CREATE | NLM_F_APPEND)
}

fn named(expression: Expressions) -> ListAttribute<ExpressionAttribute> {
    expression.into()
}

fn meta(key: MetaKey) -> Expressions {
    Expressions::Meta(vec![Meta::DestinationRegister(Register::Reg1), Meta::Key(key)])
}

fn equals(byte: u8) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(Operator::Equal),
        Cmp::Data(DataAttribute::Value(vec![byte])),
    ])
}

fn load_address(family: &Family, offset: u32) -> Expressions {
    Expressions::Payload(vec![
        Payload::DestinationRegister(Register::Reg1),
        Payload::Base(NETWORK_HEADER),
        Payload::Offset(offset),
        Payload::Len(family.address_len),
    ])
}

fn lookup(family: &Family, flags: u32) -> Expressions {
    Expressions::Lookup(vec![
        Lookup::Set(family.set.to_owned()),
        Lookup::SourceRegister(Register::Reg1),
        Lookup::Flags(flags),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> TableName {
        "tare".parse().unwrap()
    }

    fn deletes_first(found: Found, ownership: Ownership) -> bool {
        let requests = load(&table(), found, ownership);
        matches!(requests[0].message, NfTablesMessage::DeleteTable(_))
    }

    #[test]
    fn only_a_table_of_ours_with_the_same_flags_is_kept() {
        use Ownership::{Exclusive, Shared};
        let cases = [
            (Found::Nothing, Exclusive, false),
            (Found::Ours(Exclusive), Exclusive, false),
            (Found::Ours(Shared), Shared, false),
            (Found::Ours(Shared), Exclusive, true),
            (Found::Ours(Exclusive), Shared, true),
            (Found::Foreign, Exclusive, true),
            (Found::Foreign, Shared, true),
        ];
        for (found, ownership, want) in cases {
            assert_eq!(deletes_first(found, ownership), want, "{found:?} {ownership:?}");
        }
    }

    #[test]
    fn a_table_is_told_by_its_flags_and_comment() {
        let ours = TableAttribute::UserData(comment(GENERATION));
        let older = TableAttribute::UserData(comment("tare-netns generation 0"));
        let flags = TableAttribute::Flags;
        let both = TableFlags::Owner | TableFlags::Persisent;
        let cases = [
            (
                "orphan",
                vec![flags(TableFlags::Persisent), ours.clone()],
                Found::Ours(Ownership::Exclusive),
            ),
            (
                "plain",
                vec![flags(TableFlags::empty()), ours.clone()],
                Found::Ours(Ownership::Shared),
            ),
            ("owned", vec![flags(both), ours], Found::Owned),
            ("owned by a stranger", vec![flags(both)], Found::Owned),
            ("older", vec![flags(TableFlags::Persisent), older], Found::Foreign),
            ("without comment", vec![flags(TableFlags::empty())], Found::Foreign),
        ];
        for (about, attributes, want) in cases {
            assert_eq!(classify(&attributes), want, "{about}");
        }
    }

    #[test]
    fn the_comment_is_what_nft_writes() {
        assert_eq!(comment("ab"), [0, 3, b'a', b'b', 0]);
    }
}
