//! From what is wanted to the steps that make it. Pure: no I/O, no clock, no randomness.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{Attachment, Bridge, InterfaceName, MacAddress, Place, Step, Wanted};

/// Metric of the first default route; the higher ones follow in the order of the attachments.
const FIRST_METRIC: u32 = 100;

/// The steps that build the network of a container from nothing.
pub fn plan(wanted: &Wanted) -> Vec<Step> {
    let name = &wanted.namespace;
    let mut steps = vec![
        Step::PrepareDirectory,
        Step::CreateNamespaceFile(name.clone()),
        Step::BindNamespace(name.clone()),
        Step::SetUp { place: Place::Namespace(name.clone()), interface: InterfaceName::loopback() },
    ];
    for (metric, attachment) in (FIRST_METRIC..).zip(&wanted.attachments) {
        attach(&mut steps, wanted, attachment, metric);
    }
    steps
}

/// The steps for one interface.
fn attach(steps: &mut Vec<Step>, wanted: &Wanted, attachment: &Attachment, metric: u32) {
    let Attachment { bridge, host_interface, interface, mac, addresses, gateways } = attachment;
    let namespace = &wanted.namespace;
    let place = Place::Namespace(namespace.clone());
    steps.push(Step::CreateVeth {
        bridge: bridge.clone(),
        host_interface: host_interface.clone(),
        namespace: namespace.clone(),
        interface: interface.clone(),
        mac: *mac,
    });
    steps.extend(addresses.iter().map(|&address| Step::AddAddress {
        place: place.clone(),
        interface: interface.clone(),
        address,
    }));
    steps.push(Step::SetUp { place, interface: interface.clone() });
    // A route needs its interface up.
    steps.extend(gateways.iter().map(|&gateway| Step::AddDefaultRoute {
        namespace: namespace.clone(),
        interface: interface.clone(),
        gateway,
        metric,
    }));
}

/// The steps that remove what [`plan`] builds, newest first.
pub(crate) fn plan_teardown(wanted: &Wanted) -> Vec<Step> {
    plan(wanted).iter().rev().filter_map(Step::inverse).collect()
}

/// What there is of a bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    /// The interface, if there is one of that name.
    pub(crate) link: Option<ObservedLink>,
    /// Whether the host forwards IPv4 packets.
    pub(crate) forwarding: Forwarding,
}

/// An interface found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObservedLink {
    pub(crate) state: LinkState,
    pub(crate) addresses: Vec<IpNet>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    Up,
    Down,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Forwarding {
    #[default]
    Off,
    On,
}

/// The steps that complete `bridge`; none if nothing is missing.
pub(crate) fn plan_bridge(bridge: &Bridge, observed: &Observed) -> Vec<Step> {
    let mut steps = match observed.link {
        None => create(bridge),
        Some(_) => Vec::new(),
    };
    let have = observed.link.as_ref().map_or(&[][..], |link| &link.addresses);
    let missing = bridge.gateways.iter().filter(|gateway| !have.contains(gateway));
    steps.extend(missing.map(|&address| Step::AddAddress {
        place: Place::Host,
        interface: bridge.name.clone(),
        address,
    }));
    if observed.link.as_ref().is_none_or(|link| link.state == LinkState::Down) {
        steps.push(Step::SetUp { place: Place::Host, interface: bridge.name.clone() });
    }
    // Last, because it is not taken back.
    if observed.forwarding == Forwarding::Off && bridge.gateways.iter().any(is_v4) {
        steps.push(Step::EnableForwarding);
    }
    steps
}

fn create(bridge: &Bridge) -> Vec<Step> {
    let Bridge { name, gateways, mtu } = bridge;
    let mac = gateways.first().map(|gateway| MacAddress::for_address(gateway.addr()));
    vec![
        Step::CreateBridge { name: name.clone(), mac, mtu: *mtu },
        // Else a container could offer itself to the host as its IPv6 router (CVE-2020-13401).
        Step::IgnoreAdvertisements(name.clone()),
    ]
}

fn is_v4(net: &IpNet) -> bool {
    matches!(net.addr(), IpAddr::V4(_))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
