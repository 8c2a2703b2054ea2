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
    numbers(answers, |rule| comment_of(rule).is_some_and(|it| is_about(bridge, it))).collect()
}

/// Whether all that lets a bridge pass is there, and nothing of ours that does not belong there any more.
pub(crate) fn is_passed(
    bridge: &InterfaceName,
    uplinks: &[InterfaceName],
    answers: &[NfTablesMessage],
) -> bool {
    let found = rules_of(answers).filter_map(|rule| comment_of(rule));
    let mut found: Vec<&[u8]> = found.filter(|it| is_about(bridge, it)).collect();
    let rules = rules(bridge, uplinks);
    let mut wanted: Vec<&[u8]> = rules.iter().map(|(_, _, mark)| mark.as_slice()).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    found == wanted
}

/// Lets a bridge pass, in place of all rules of ours about it that are `present`.
pub(crate) fn pass(
    bridge: &InterfaceName,
    uplinks: &[InterfaceName],
    present: &[NfTablesMessage],
) -> Vec<Request> {
    let last = match numbers(present, ends_chain).next() {
        Some(end) => (NLM_F_CREATE, Some(RuleAttribute::Position(end))),
        None => (NLM_F_CREATE | NLM_F_APPEND, None),
    };
    let added = rules(bridge, uplinks).into_iter().map(|(rule, place, mark)| {
        let (flags, before) = match place {
            At::Beginning => (NLM_F_CREATE, None),
            At::End => last.clone(),
        };
        add(rule, mark, before, flags)
    });
    let mut requests = take_back(&of_bridge(bridge, present));
    requests.extend(added);
    requests
}

/// Where in the chain a rule is: before all others, or behind those of the administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Beginning,
    End,
}

/// Lets what goes to a bridge pass before all other rules: our own table says what of that does. What
/// comes from it, and goes to no bridge, passes if no rule of the administrator says otherwise: behind a
/// bridge there may be containers of Docker, and it is for Docker to say what reaches them. A bridge that
/// the host itself gets out by is none of Docker's.
fn rules(bridge: &InterfaceName, uplinks: &[InterfaceName]) -> Vec<(Part, At, Vec<u8>)> {
    let from = || is_named(Field::InputInterface, bridge);
    let to = |interface: &InterfaceName| is_named(Field::OutputInterface, interface);
    let mark = || comment(&name_of(bridge));
    let out = |uplink: &InterfaceName| {
        let mark = comment(&format!("{} by {uplink}", name_of(bridge)));
        (rule([from(), to(uplink), accept()]), At::End, mark)
    };
    let mut rules = vec![(rule([to(bridge), accept()]), At::Beginning, mark())];
    rules.extend(uplinks.iter().map(out));
    rules.push((rule([from(), to_bridge(), end_chain()]), At::End, mark()));
    rules.push((rule([from(), accept()]), At::End, mark()));
    rules
}

fn add(rule: Part, mark: Vec<u8>, before: Option<RuleAttribute>, flags: u16) -> Request {
    let mut attributes = place();
    attributes.push(RuleAttribute::Expressions(rule.into_iter().map(Into::into).collect()));
    attributes.push(RuleAttribute::UserData(mark));
    attributes.extend(before);
    request(NfTablesMessage::NewRule(RuleMessage { attributes }), flags)
}

fn rules_of(answers: &[NfTablesMessage]) -> impl Iterator<Item = &[RuleAttribute]> {
    answers.iter().filter_map(|answer| match answer {
        NfTablesMessage::NewRule(RuleMessage { attributes }) => Some(attributes.as_slice()),
        _ => None,
    })
}

fn comment_of(rule: &[RuleAttribute]) -> Option<&[u8]> {
    rule.iter().find_map(|attribute| match attribute {
        RuleAttribute::UserData(comment) => Some(comment.as_slice()),
        _ => None,
    })
}

fn is_about(bridge: &InterfaceName, found: &[u8]) -> bool {
    let (name, text) = (name_of(bridge), found.get(2..).unwrap_or_default());
    let rest = text.strip_prefix(name.as_bytes());
    rest.is_some_and(|rest| rest == [0] || rest.starts_with(b" by "))
}

/// The numbers of those rules of which this is true.
fn numbers(
    answers: &[NfTablesMessage],
    mut is_one: impl FnMut(&[RuleAttribute]) -> bool,
) -> impl Iterator<Item = u64> {
    rules_of(answers).filter_map(move |rule| {
        let handle = rule.iter().find_map(|attribute| match attribute {
            RuleAttribute::Handle(handle) => Some(*handle),
            _ => None,
        });
        handle.filter(|_| is_one(rule))
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
fn name_of(bridge: &InterfaceName) -> String {
    format!("tare-netns {bridge}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_rules_are_told_from_those_of_others() {
        let bridge: InterfaceName = "tare0".parse().unwrap();
        let found = |handle: u64, marked: Option<&str>| {
            let mut attributes = vec![RuleAttribute::Handle(handle)];
            let mark = |it| RuleAttribute::UserData(comment(&format!("tare-netns {it}")));
            attributes.extend(marked.map(mark));
            NfTablesMessage::NewRule(RuleMessage { attributes })
        };
        let answers = [
            found(1, None),
            found(2, Some("tare0")),
            found(3, Some("tare1")),
            found(4, Some("tare0 by br0")),
            found(5, Some("tare01")),
            found(6, Some("tare0byx")),
        ];
        assert_eq!(of_bridge(&bridge, &answers), [2, 4]);
        assert_eq!(take_back(&[2, 4]).len(), 2);
    }

    #[test]
    fn what_is_there_in_part_or_too_much_is_not_all_of_it() {
        let name = |text: &str| text.parse::<InterfaceName>().unwrap();
        let (bridge, uplinks) = (name("tare0"), [name("br0")]);
        let all: Vec<NfTablesMessage> =
            pass(&bridge, &uplinks, &[]).into_iter().map(|request| request.message).collect();
        assert_eq!(all.len(), 4);
        assert!(is_passed(&bridge, &uplinks, &all));
        assert!(!is_passed(&bridge, &uplinks, &all[1..]), "a rule of ours is gone");
        assert!(!is_passed(&bridge, &[], &all), "it is no way out any more");
        assert!(!is_passed(&bridge, &[name("br1")], &all), "another is");
        assert!(!is_passed(&name("tare1"), &uplinks, &all));
    }
}
