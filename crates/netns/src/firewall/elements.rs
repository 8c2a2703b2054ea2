//! Elements of the table's sets and maps as netlink messages. Pure.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementList,
    SetElementMessage,
};
use rtnetlink::packet_core::NLM_F_CREATE;

use super::Element;
use super::layout::Set;
use super::ruleset::{Request, request};
use crate::TableName;

/// Most elements in one message: their list is one netlink attribute, of at most 65,535 bytes,
/// and the largest element takes 76.
const MAX_ELEMENTS: usize = 512;

/// The transaction that adds `elements`.
///
/// What is there already is no error, unless it is a port that leads elsewhere.
pub(crate) fn add(table: &TableName, elements: &[Element]) -> Vec<Request> {
    lists(table, elements)
        .map(|list| request(NfTablesMessage::NewSetElement(list), NLM_F_CREATE))
        .collect()
}

/// The transaction that removes `elements`.
///
/// Deleting an element that is not there fails the whole transaction, so each is added first,
/// which also refuses a port that leads elsewhere by now. `NFT_MSG_DESTROYSETELEM` would do
/// without the one, but not the other, and needs Linux 6.3.
pub(crate) fn remove(table: &TableName, elements: &[Element]) -> Vec<Request> {
    let mut requests = add(table, elements);
    requests.extend(
        lists(table, elements).map(|list| request(NfTablesMessage::DeleteSetElement(list), 0)),
    );
    requests
}

/// The query for all elements of a set.
pub(crate) fn get_elements(table: &TableName, set: Set) -> NfTablesMessage {
    NfTablesMessage::GetSetElement(SetElementMessage { attributes: set_of(table, set) })
}

/// The elements in one message of an answer to [`get_elements`].
pub(crate) fn read(set: Set, attributes: &[SetElementList]) -> impl Iterator<Item = Element> {
    let elements = attributes.iter().flat_map(|attribute| match attribute {
        SetElementList::Elements(elements) => elements.as_slice(),
        _ => &[],
    });
    elements.filter_map(move |element| match element {
        ListAttribute::Element(parts) => read_one(set, parts),
        _ => None,
    })
}

fn read_one(set: Set, parts: &[SetElementAttribute]) -> Option<Element> {
    let key = parts.iter().find_map(|part| match part {
        SetElementAttribute::Key(DataAttribute::Value(bytes)) => Some(bytes.as_slice()),
        _ => None,
    });
    let value = parts.iter().find_map(|part| match part {
        SetElementAttribute::Data(DataAttribute::Value(bytes)) => Some(bytes.as_slice()),
        _ => None,
    });
    Element::read(set, key?, value.unwrap_or_default())
}

fn set_of(table: &TableName, set: Set) -> Vec<SetElementList> {
    vec![SetElementList::Table(table.to_string()), SetElementList::Set(set.name().to_owned())]
}

/// The messages for all elements, those of one set together.
fn lists(table: &TableName, elements: &[Element]) -> impl Iterator<Item = SetElementMessage> {
    // Each once: the second deletion of an element would find nothing and fail.
    let mut by_set: BTreeMap<Set, BTreeSet<&Element>> = BTreeMap::new();
    for element in elements {
        by_set.entry(element.set()).or_default().insert(element);
    }
    by_set.into_iter().flat_map(move |(set, elements)| {
        let elements: Vec<_> = elements.into_iter().map(write).collect();
        let list = |elements: &[_]| {
            let mut attributes = set_of(table, set);
            attributes.push(SetElementList::Elements(elements.to_vec()));
            SetElementMessage { attributes }
        };
        elements.chunks(MAX_ELEMENTS).map(list).collect::<Vec<_>>()
    })
}

fn write(element: &Element) -> ListAttribute<SetElementAttribute> {
    let mut parts = vec![SetElementAttribute::Key(DataAttribute::Value(element.key()))];
    let value = element.value().map(DataAttribute::Value);
    parts.extend(value.map(SetElementAttribute::Data));
    ListAttribute::Element(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::element::tests::element;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_added_can_be_read_back(want in proptest::collection::vec(element(), 0..9)) {
            let requests = add(&"tare".parse().unwrap(), &want);
            let got: Vec<Element> = requests
                .iter()
                .flat_map(|request| match &request.message {
                    NfTablesMessage::NewSetElement(list) => {
                        let name = list.attributes.iter().find_map(|a| match a {
                            SetElementList::Set(name) => Some(name.clone()),
                            _ => None,
                        });
                        let named = |set: &Set| Some(set.name()) == name.as_deref();
                        let set = Set::ALL.into_iter().find(named).unwrap();
                        read(set, &list.attributes).collect::<Vec<_>>()
                    }
                    other => panic!("{other:?}"),
                })
                .collect();
            let each_once: BTreeSet<&Element> = want.iter().collect();
            prop_assert_eq!(got.len(), each_once.len());
            prop_assert_eq!(got.iter().collect::<BTreeSet<_>>(), each_once);
        }
    }

    #[test]
    fn no_message_is_longer_than_a_netlink_attribute_can_be() {
        use rtnetlink::packet_core::Emitable;
        let elements: Vec<Element> = (1..=u16::MAX)
            .map(|port| Element::Port {
                at: Some("fd00::1".parse().unwrap()),
                protocol: crate::Protocol::Tcp,
                port,
                to: "[fd00::2]:80".parse().unwrap(),
            })
            .collect();
        let messages: Vec<_> = lists(&"tare".parse().unwrap(), &elements).collect();
        assert_eq!(messages.len(), 128);
        let len = |message: &SetElementMessage| message.attributes.as_slice().buffer_len();
        let longest = messages.iter().map(len).max().unwrap();
        assert!(longest < usize::from(u16::MAX), "{longest}");
    }
}
