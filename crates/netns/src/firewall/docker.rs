//! Docker's chain for rules of others. Where Docker runs, it drops all that is forwarded and no rule of
//! its own lets pass, but for what is accepted in that chain; it leaves alone what is in there. Pure.

use netlink_packet_netfilter::nftables::{
    ExpressionAttribute, Expressions, ListAttribute, NfTablesMessage, RuleAttribute, RuleMessage,
};
use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_CREATE};

use super::chains::rule;
use super::expression::{Field, Part, accept, end_chain, is_named, to_bridge};
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
    numbers(answers, |rule| rule.contains(&ours)).collect()
}

/// Lets what goes to a bridge pass before all other rules: our own table says what of that does. What
/// comes from it, and goes to no bridge, passes if no rule of the administrator says otherwise: behind a
/// bridge there may be containers of Docker, and it is for Docker to say what reaches them.
pub(crate) fn pass(bridge: &InterfaceName, present: &[NfTablesMessage]) -> Vec<Request> {
    let from = || is_named(Field::InputInterface, bridge);
    let first = (NLM_F_CREATE, None);
    let last = match numbers(present, ends_chain).next() {
        Some(end) => (NLM_F_CREATE, Some(RuleAttribute::Position(end))),
        None => (NLM_F_CREATE | NLM_F_APPEND, None),
    };
    let rules = [
        (rule([is_named(Field::OutputInterface, bridge), accept()]), first),
        (rule([from(), to_bridge(), end_chain()]), last.clone()),
        (rule([from(), accept()]), last),
    ];
    rules.map(|(rule, (flags, before))| add(bridge, rule, before, flags)).into()
}

fn add(bridge: &InterfaceName, rule: Part, before: Option<RuleAttribute>, flags: u16) -> Request {
    let mut attributes = place();
    attributes.push(RuleAttribute::Expressions(rule.into_iter().map(Into::into).collect()));
    attributes.push(RuleAttribute::UserData(mark(bridge)));
    attributes.extend(before);
    request(NfTablesMessage::NewRule(RuleMessage { attributes }), flags)
}

/// The numbers of those rules of which this is true.
fn numbers(
    answers: &[NfTablesMessage],
    mut is_one: impl FnMut(&[RuleAttribute]) -> bool,
) -> impl Iterator<Item = u64> {
    answers.iter().filter_map(move |answer| {
        let NfTablesMessage::NewRule(RuleMessage { attributes }) = answer else { return None };
        let handle = attributes.iter().find_map(|attribute| match attribute {
            RuleAttribute::Handle(handle) => Some(*handle),
            _ => None,
        });
        handle.filter(|_| is_one(attributes))
    })
}

/// Whether no packet comes past a rule, as Docker once ended the chain: nothing is reached behind it.
fn ends_chain(rule: &[RuleAttribute]) -> bool {
    let expressions = rule.iter().find_map(|attribute| match attribute {
        RuleAttribute::Expressions(expressions) => Some(expressions),
        _ => None,
    });
    let all = expressions.into_iter().flatten().filter_map(expression);
    all.filter(|it| !is_counter(it)).eq(&end_chain())
}

fn is_counter(expression: &Expressions) -> bool {
    matches!(expression, Expressions::Other { expression_type, .. } if expression_type == "counter")
}

fn expression(listed: &ListAttribute<ExpressionAttribute>) -> Option<&Expressions> {
    let ListAttribute::Element(attributes) = listed else { return None };
    attributes.iter().find_map(|attribute| match attribute {
        ExpressionAttribute::Data(expression) => Some(expression),
        _ => None,
    })
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
