//! Docker's chain for rules of others. Where Docker runs, it drops all that is forwarded and no rule of
//! its own lets pass, but for what is accepted in that chain; it leaves alone what is in there. Pure.

use netlink_packet_netfilter::nftables::{
    ExpressionAttribute, ListAttribute, NfTablesMessage, RuleAttribute, RuleMessage,
};
use rtnetlink::packet_core::NLM_F_CREATE;

use super::chains::rule;
use super::expression::{Field, accept, is_named};
use super::ruleset::{Request, comment, request};
use crate::InterfaceName;

/// Where it is: in a table of `ip`, and in one of `ip6`.
const TABLE: &str = "filter";
const CHAIN: &str = "DOCKER-USER";

/// Asks for its rules.
pub(crate) fn get_rules() -> NfTablesMessage {
    NfTablesMessage::GetRule(RuleMessage { attributes: place() })
}

/// Whether it is this one.
pub(crate) fn is_user_chain(table: &str, chain: &str) -> bool {
    (table, chain) == (TABLE, CHAIN)
}

/// The numbers of those of our rules that are about a bridge.
pub(crate) fn of_bridge(bridge: &InterfaceName, answers: &[NfTablesMessage]) -> Vec<u64> {
    let ours = RuleAttribute::UserData(mark(bridge));
    let number = |answer: &NfTablesMessage| {
        let NfTablesMessage::NewRule(RuleMessage { attributes }) = answer else { return None };
        let handle = attributes.iter().find_map(|attribute| match attribute {
            RuleAttribute::Handle(handle) => Some(*handle),
            _ => None,
        });
        handle.filter(|_| attributes.contains(&ours))
    };
    answers.iter().filter_map(number).collect()
}

/// Lets what comes from a bridge and goes to it pass: our own table says what of that does. Before all
/// other rules, which may end the chain.
pub(crate) fn pass(bridge: &InterfaceName) -> Vec<Request> {
    let rule = |field: Field| {
        let expressions: Vec<ListAttribute<ExpressionAttribute>> =
            rule([is_named(field, bridge), accept()]).into_iter().map(Into::into).collect();
        let mut attributes = place();
        attributes.push(RuleAttribute::Expressions(expressions));
        attributes.push(RuleAttribute::UserData(mark(bridge)));
        request(NfTablesMessage::NewRule(RuleMessage { attributes }), NLM_F_CREATE)
    };
    [Field::OutputInterface, Field::InputInterface].map(rule).into()
}

/// Takes rules away again.
pub(crate) fn take_back(handles: &[u64]) -> Vec<Request> {
    let gone = |handle: &u64| {
        let mut attributes = place();
        attributes.push(RuleAttribute::Handle(*handle));
        request(NfTablesMessage::DeleteRule(RuleMessage { attributes }), 0)
    };
    handles.iter().map(gone).collect()
}

fn place() -> Vec<RuleAttribute> {
    vec![RuleAttribute::Table(TABLE.to_owned()), RuleAttribute::Chain(CHAIN.to_owned())]
}

/// By which our rules are known, as nft(8) shows it.
fn mark(bridge: &InterfaceName) -> Vec<u8> {
    comment(&format!("tare-netns {bridge}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_rules_are_told_from_those_of_others() {
        let bridge: InterfaceName = "tare0".parse().unwrap();
        let found = |handle: u64, marked: Option<&str>| {
            let mut attributes = vec![RuleAttribute::Handle(handle)];
            attributes.extend(marked.map(|it| RuleAttribute::UserData(mark(&it.parse().unwrap()))));
            NfTablesMessage::NewRule(RuleMessage { attributes })
        };
        let answers = [
            found(1, None),
            found(2, Some("tare0")),
            found(3, Some("tare1")),
            found(4, Some("tare0")),
        ];
        assert_eq!(of_bridge(&bridge, &answers), [2, 4]);
        assert_eq!(take_back(&[2, 4]).len(), 2);
    }
}
