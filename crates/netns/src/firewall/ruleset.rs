//! The firewall table as netlink messages. Pure.
//!
//! What is built here is, in the words of nft(8):
//!
//! ```text
//! table inet <name> {
//!     comment "tare-netns generation 2"
//!     set networks    { type ifname; }                 # our bridges
//!     set internal    { type ifname; }
//!     set isolated    { type ifname; }
//!     set within      { type ifname . ifname; }        # each bridge with itself
//!     set localnet    { type ifname; }                 # those with route_localnet
//!     set closed      { type nf_proto; }               # where we switched forwarding on
//!     set containers4 { type ipv4_addr; }              # masqueraded
//!     set containers6 { type ipv6_addr; }
//!     set members4    { type ifname . ipv4_addr; }     # who is behind which bridge
//!     set members6    { type ifname . ipv6_addr; }
//!     map ports4      { type inet_proto . inet_service : ipv4_addr . inet_service; }
//!     map ports6      { type inet_proto . inet_service : ipv6_addr . inet_service; }
//!     map ports_at4   { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
//!     map ports_at6   { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
//!     chain raw_prerouting {
//!         type filter hook prerouting priority raw; policy accept;
//!         iifname @localnet ip daddr 127.0.0.0/8 drop
//!     }
//!     chain prerouting {
//!         type nat hook prerouting priority dstnat; policy accept;
//!         ip daddr 127.0.0.0/8 return
//!         dnat ip to ip daddr . meta l4proto . th dport map @ports_at4
//!         fib daddr type local dnat ip to meta l4proto . th dport map @ports4
//!         (the same for IPv6)
//!     }
//!     chain output {
//!         type nat hook output priority -100; policy accept;
//!         ip6 daddr ::1 return
//!         (the same four translations)
//!     }
//!     chain forward {
//!         type filter hook forward priority filter; policy accept;
//!         iifname . oifname @within accept
//!         ct state established,related accept
//!         iifname @internal drop
//!         oifname @internal drop
//!         iifname @isolated oifname @networks drop
//!         iifname @networks oifname @isolated drop
//!         iifname @networks accept
//!         oifname @networks ct status dnat accept
//!         oifname @networks drop
//!         meta iifkind "bridge" meta oifkind "bridge" accept
//!         meta nfproto @closed drop
//!     }
//!     chain postrouting {
//!         type nat hook postrouting priority srcnat; policy accept;
//!         ct status dnat oifname . ip saddr @members4 masquerade
//!         ct status dnat oifname . ip6 saddr @members6 masquerade
//!         ct status dnat iifname . ip daddr @members4 masquerade
//!         ct status dnat iifname . ip6 daddr @members6 masquerade
//!         ip saddr 127.0.0.0/8 oifname @localnet masquerade
//!         meta pkttype host ip saddr @containers4 ip daddr != @containers4 masquerade
//!         meta pkttype host ip6 saddr @containers6 ip6 daddr != @containers6 masquerade
//!     }
//! }
//! ```
//!
//! The rules never change; all that is ever done for a network, a container or a port is to add
//! and remove elements, whose number does not matter to a packet.
//!
//! Where `bridge-nf-call-iptables` is on, frames that only pass a bridge come along here too, with
//! the bridge as both interfaces:
//!
//! * `within` lets those of our bridges pass, and the rule of two bridges those of others, which
//!   nobody forwards and `closed` must not stop.
//! * `meta pkttype host` keeps frames sent to many as they are. On the way through a router there
//!   are none, but mDNS, DHCP and broadcasts between containers would bear the bridge's address.
//! * The input interface of what passes a bridge is not known in `postrouting`, so a connection within
//!   one network is told by the bridge it leaves by and the source that is behind it. Between two
//!   networks the host forwards, and it is known: a container that is on both would answer past it.

use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, ExpressionAttribute, Hook, HookNumber, ListAttribute,
    NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute, SetFlags, SetMessage,
    TableAttribute, TableFlags, TableMessage,
};
use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_CREATE};

use super::chains::{Chain, chains};
use super::expression::Part;
use super::layout::{Set, Type, type_id, type_len};
use super::{Found, Ownership};
use crate::TableName;

/// Goes up with every change that [`load`] cannot make to a table that is there already: other
/// sets or chains. A change of rules is none.
const GENERATION: &str = "tare-netns generation 2";

/// `NF_ACCEPT`.
const POLICY_ACCEPT: u32 = 1;

/// How nft(8) notes that a set's key is in the byte order of the host (`KEYBYTEORDER`, 4 bytes,
/// 1): without it, it reads names of interfaces backwards.
const HOST_ENDIAN_KEY: [u8; 6] = {
    let [a, b, c, d] = 1_u32.to_ne_bytes();
    [0, 4, a, b, c, d]
};

/// One message of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) message: NfTablesMessage,
    /// Netlink flags besides those that every request has.
    pub(crate) flags: u16,
}

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
    requests.extend((1..).zip(Set::ALL).map(|(id, set)| new_set(table, set, id)));
    for chain in chains() {
        requests.push(new_chain(table, &chain));
        requests.push(flush_chain(table, &chain));
        requests.extend(chain.rules.into_iter().map(|rule| new_rule(table, chain.name, rule)));
    }
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
pub(super) fn comment(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    [&[0, len], text.as_bytes(), &[0]].concat()
}

/// `id` names the set within the transaction.
fn new_set(table: &TableName, set: Set, id: u32) -> Request {
    let flags = if set.value().is_empty() { SetFlags::empty() } else { SetFlags::Map };
    let mut attributes = vec![
        SetAttribute::Table(table.to_string()),
        SetAttribute::Name(set.name().to_owned()),
        SetAttribute::Flags(flags),
        SetAttribute::KeyType(type_id(set.key())),
        SetAttribute::KeyLen(type_len(set.key())),
        SetAttribute::Id(id),
    ];
    if !set.value().is_empty() {
        attributes.push(SetAttribute::DataType(type_id(set.value())));
        attributes.push(SetAttribute::DataLen(type_len(set.value())));
    }
    if set.key() == [Type::Interface] {
        attributes.push(SetAttribute::UserData(HOST_ENDIAN_KEY.to_vec()));
    }
    request(NfTablesMessage::NewSet(SetMessage { attributes }), NLM_F_CREATE)
}

fn new_chain(table: &TableName, chain: &Chain) -> Request {
    let attributes = vec![
        ChainAttribute::Table(table.to_string()),
        ChainAttribute::Name(chain.name.to_owned()),
        ChainAttribute::Hook(vec![
            Hook::Number(HookNumber::Inet(chain.hook)),
            Hook::Priority(chain.priority.cast_unsigned()),
        ]),
        ChainAttribute::Policy(POLICY_ACCEPT),
        ChainAttribute::Type(chain.kind.to_owned()),
    ];
    request(NfTablesMessage::NewChain(ChainMessage { attributes }), NLM_F_CREATE)
}

/// Deletes all rules of the chain: the message names none.
fn flush_chain(table: &TableName, chain: &Chain) -> Request {
    let attributes =
        vec![RuleAttribute::Table(table.to_string()), RuleAttribute::Chain(chain.name.to_owned())];
    request(NfTablesMessage::DeleteRule(RuleMessage { attributes }), 0)
}

fn new_rule(table: &TableName, chain: &str, rule: Part) -> Request {
    let expressions: Vec<ListAttribute<ExpressionAttribute>> =
        rule.into_iter().map(Into::into).collect();
    let attributes = vec![
        RuleAttribute::Table(table.to_string()),
        RuleAttribute::Chain(chain.to_owned()),
        RuleAttribute::Expressions(expressions),
    ];
    request(NfTablesMessage::NewRule(RuleMessage { attributes }), NLM_F_CREATE | NLM_F_APPEND)
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
        let older = TableAttribute::UserData(comment("tare-netns generation 1"));
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
