//! The containers' addresses in the sets of the firewall table, as netlink messages. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementList,
    SetElementMessage,
};
use rtnetlink::packet_core::NLM_F_CREATE;

use crate::TableName;
use crate::ruleset::{FAMILIES, Family, Request, request};

/// The transaction that adds `addresses` to their sets.
pub(crate) fn add(table: &TableName, addresses: &[IpAddr]) -> Vec<Request> {
    element_lists(table, addresses)
        .map(|list| request(NfTablesMessage::NewSetElement(list), NLM_F_CREATE))
        .collect()
}

/// The transaction that removes `addresses` from their sets.
///
/// Deleting an element that is not there fails the whole transaction, so each is added first.
/// `NFT_MSG_DESTROYSETELEM` would do without, but needs Linux 6.3.
pub(crate) fn remove(table: &TableName, addresses: &[IpAddr]) -> Vec<Request> {
    let mut requests = add(table, addresses);
    requests.extend(
        element_lists(table, addresses)
            .map(|list| request(NfTablesMessage::DeleteSetElement(list), 0)),
    );
    requests
}

/// The query for all elements of a set.
pub(crate) fn get_elements(table: &TableName, family: &Family) -> NfTablesMessage {
    NfTablesMessage::GetSetElement(SetElementMessage { attributes: set_of(table, family) })
}

/// The addresses in one message of an answer to [`get_elements`].
pub(crate) fn addresses(attributes: &[SetElementList]) -> impl Iterator<Item = IpAddr> {
    let elements = attributes.iter().flat_map(|attribute| match attribute {
        SetElementList::Elements(elements) => elements.as_slice(),
        _ => &[],
    });
    let parts = elements.flat_map(|element| match element {
        ListAttribute::Element(parts) => parts.as_slice(),
        _ => &[],
    });
    parts.filter_map(|part| match part {
        SetElementAttribute::Key(DataAttribute::Value(bytes)) => address(bytes),
        _ => None,
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?));
    let v6 = || Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?));
    v4().or_else(v6)
}

fn set_of(table: &TableName, family: &Family) -> Vec<SetElementList> {
    vec![SetElementList::Table(table.to_string()), SetElementList::Set(family.set.to_owned())]
}

/// One list for each family that has addresses.
fn element_lists(
    table: &TableName,
    addresses: &[IpAddr],
) -> impl Iterator<Item = SetElementMessage> {
    FAMILIES.iter().filter_map(move |family| {
        let of_family = addresses.iter().copied().filter(|&address| holds(family, address));
        // Each once: the second deletion of an element would find nothing and fail.
        let of_family: BTreeSet<IpAddr> = of_family.collect();
        let elements: Vec<_> = of_family.into_iter().map(element).collect();
        if elements.is_empty() {
            return None;
        }
        let mut attributes = set_of(table, family);
        attributes.push(SetElementList::Elements(elements));
        Some(SetElementMessage { attributes })
    })
}

fn holds(family: &Family, address: IpAddr) -> bool {
    address.is_ipv4() == (family.address_len == 4)
}

fn element(address: IpAddr) -> ListAttribute<SetElementAttribute> {
    let key = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    ListAttribute::Element(vec![SetElementAttribute::Key(DataAttribute::Value(key))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_added_can_be_read_back(want in proptest::collection::vec(any::<IpAddr>(), 0..9)) {
            let requests = add(&"tare".parse().unwrap(), &want);
            let got: Vec<IpAddr> = requests
                .iter()
                .flat_map(|request| match &request.message {
                    NfTablesMessage::NewSetElement(list) => addresses(&list.attributes),
                    other => panic!("{other:?}"),
                })
                .collect();
            let want: BTreeSet<IpAddr> = want.into_iter().collect();
            prop_assert_eq!(got, Vec::from_iter(want), "IPv4 first, each once");
        }
    }
}
