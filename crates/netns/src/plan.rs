//! From what is wanted to the steps that make it. Pure: no I/O, no clock, no randomness.

use ipnet::IpNet;

use crate::{
    Attachment, Bridge, InterfaceName, Link, MacAddress, NamespaceName, Place, Step, Wanted,
};

/// Metric of the first default route; the higher ones follow in the order of the attachments.
const FIRST_METRIC: u32 = 100;

/// The steps that build the network of a container from nothing.
pub fn plan(wanted: &Wanted) -> Vec<Step> {
    in_namespace(wanted, Step::BindNamespace)
}

/// The steps that give the namespace of a process a name and build the network in it.
pub fn plan_adoption(wanted: &Wanted) -> Vec<Step> {
    in_namespace(wanted, Step::AdoptNamespace)
}

fn in_namespace(wanted: &Wanted, bind: fn(NamespaceName) -> Step) -> Vec<Step> {
    let name = &wanted.namespace;
    let mut steps = vec![
        Step::PrepareDirectory,
        Step::CreateNamespaceFile(name.clone()),
        bind(name.clone()),
        Step::SetUp { place: Place::Namespace(name.clone()), interface: InterfaceName::loopback() },
    ];
    for attachment in &wanted.attachments {
        steps.extend(plan_attachment(name, attachment));
    }
    steps
}

/// The steps for one interface.
pub fn plan_attachment(namespace: &NamespaceName, attachment: &Attachment) -> Vec<Step> {
    let Attachment { link, interface, mac, addresses, gateways, position } = attachment;
    let place = Place::Namespace(namespace.clone());
    let mut steps = create_link(namespace, link, interface, *mac);
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
        metric: FIRST_METRIC.saturating_add(*position),
    }));
    steps
}

fn create_link(
    namespace: &NamespaceName,
    link: &Link,
    interface: &InterfaceName,
    mac: MacAddress,
) -> Vec<Step> {
    let (namespace, interface) = (namespace.clone(), interface.clone());
    match link {
        Link::Bridge { bridge, host_interface, vlan } => vec![
            Step::CreateVeth {
                bridge: bridge.clone(),
                host_interface: host_interface.clone(),
                namespace,
                interface,
                mac,
            },
            Step::ConfigurePort {
                bridge: bridge.clone(),
                host_interface: host_interface.clone(),
                vlan: *vlan,
            },
        ],
        Link::Macvlan { parent, mode, mtu } => vec![Step::CreateMacvlan {
            parent: parent.clone(),
            mode: *mode,
            namespace,
            interface,
            mac,
            mtu: *mtu,
        }],
    }
}

/// The steps that remove what [`plan_attachment`] builds.
pub(crate) fn plan_detachment(namespace: &NamespaceName, attachment: &Attachment) -> Vec<Step> {
    inverse(&plan_attachment(namespace, attachment))
}

/// What takes `steps` back, newest first.
fn inverse(steps: &[Step]) -> Vec<Step> {
    steps.iter().rev().filter_map(Step::inverse).collect()
}

/// The steps that remove what [`plan`] builds, newest first.
pub(crate) fn plan_teardown(wanted: &Wanted) -> Vec<Step> {
    inverse(&plan(wanted))
}

/// A bridge found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObservedBridge {
    pub(crate) state: LinkState,
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) vlans: Vlans,
    pub(crate) mark: Mark,
}

/// What tells a bridge that was made here from one of the host's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Its alias says so.
    Alias,
    /// Nothing but, maybe, its hardware address: whoever makes one can end before it has its alias.
    Nothing(Option<MacAddress>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    Up,
    Down,
}

/// Whether a bridge keeps VLANs apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Vlans {
    #[default]
    Mixed,
    Apart,
}

/// Whether what was found under the name of `bridge` was made here.
pub(crate) fn is_ours(bridge: &Bridge, found: &ObservedBridge) -> bool {
    match found.mark {
        Mark::Alias => true,
        Mark::Nothing(mac) => mac.is_some() && mac == hardware_address(bridge),
    }
}

/// The steps that complete `bridge`; none if nothing is missing.
pub(crate) fn plan_bridge(bridge: &Bridge, observed: Option<&ObservedBridge>) -> Vec<Step> {
    let mut steps = match observed {
        None => create(bridge),
        Some(_) => Vec::new(),
    };
    let have = observed.map_or(&[][..], |found| &found.addresses);
    let missing = bridge.gateways.iter().filter(|gateway| !have.contains(gateway));
    steps.extend(missing.map(|&address| Step::AddAddress {
        place: Place::Host,
        interface: bridge.name.clone(),
        address,
    }));
    if observed.is_none_or(|found| found.state == LinkState::Down) {
        steps.push(Step::SetUp { place: Place::Host, interface: bridge.name.clone() });
    }
    // Last: it is not taken back.
    if observed.is_some_and(|found| found.mark != Mark::Alias) {
        steps.push(Step::MarkBridge(bridge.name.clone()));
    }
    steps
}

fn hardware_address(bridge: &Bridge) -> Option<MacAddress> {
    bridge.gateways.first().map(|gateway| MacAddress::for_address(gateway.addr()))
}

fn create(bridge: &Bridge) -> Vec<Step> {
    let Bridge { name, mtu, vlan, .. } = bridge;
    let mac = hardware_address(bridge);
    vec![
        Step::CreateBridge { name: name.clone(), mac, mtu: *mtu, vlan: *vlan },
        Step::MarkBridge(name.clone()),
        // Else a container could offer itself to the host as its IPv6 router (CVE-2020-13401).
        Step::IgnoreAdvertisements(name.clone()),
    ]
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
