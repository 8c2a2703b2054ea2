//! The plans against a kernel made of maps.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::undo::{Kernel, apply, take_back};
use crate::{
    ContainerRules, Element, Error, ErrorKind, MacvlanMode, Member, NamespaceName, PortRequest,
    Protocol, Publication, Reach, TableName,
};

/// Everything the steps can change. Fails the step that `steps_until_failure` counts down to.
#[derive(Clone, Debug, Default, PartialEq)]
struct FakeKernel {
    files: BTreeSet<NamespaceName>,
    namespaces: BTreeMap<NamespaceName, BTreeMap<InterfaceName, Inside>>,
    veths: BTreeMap<InterfaceName, (NamespaceName, InterfaceName)>,
    macvlans: BTreeSet<(NamespaceName, InterfaceName)>,
    ports: BTreeSet<InterfaceName>,
    bridges: BTreeMap<InterfaceName, (bool, Vec<IpNet>)>,
    marked: BTreeSet<InterfaceName>,
    elements: BTreeSet<Element>,
    steps_until_failure: Option<usize>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Inside {
    up: bool,
    addresses: Vec<IpNet>,
    routes: BTreeSet<(bool, u32)>,
}

fn check(holds: bool, otherwise: io::ErrorKind) -> io::Result<()> {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

const MISSING: io::ErrorKind = io::ErrorKind::NotFound;
const EXISTS: io::ErrorKind = io::ErrorKind::AlreadyExists;

impl FakeKernel {
    fn inside(
        &mut self,
        name: &NamespaceName,
        interface: &InterfaceName,
    ) -> io::Result<&mut Inside> {
        let namespace = self.namespaces.get_mut(name);
        namespace.and_then(|links| links.get_mut(interface)).ok_or_else(|| MISSING.into())
    }

    fn bridge(&mut self, name: &InterfaceName) -> io::Result<&mut (bool, Vec<IpNet>)> {
        self.bridges.get_mut(name).ok_or_else(|| MISSING.into())
    }

    fn create_veth(&mut self, step: &Step) -> io::Result<()> {
        let Step::CreateVeth { bridge, host_interface, namespace, interface, .. } = step else {
            unreachable!()
        };
        check(self.bridges.contains_key(bridge), MISSING)?;
        let taken =
            self.veths.contains_key(host_interface) || self.bridges.contains_key(host_interface);
        check(!taken, EXISTS)?;
        let links = self.namespaces.get_mut(namespace).ok_or(MISSING)?;
        check(!links.contains_key(interface), EXISTS)?;
        links.insert(interface.clone(), Inside::default());
        self.veths.insert(host_interface.clone(), (namespace.clone(), interface.clone()));
        Ok(())
    }

    fn create_macvlan(
        &mut self,
        namespace: &NamespaceName,
        interface: &InterfaceName,
    ) -> io::Result<()> {
        let links = self.namespaces.get_mut(namespace).ok_or(MISSING)?;
        check(!links.contains_key(interface), EXISTS)?;
        links.insert(interface.clone(), Inside::default());
        self.macvlans.insert((namespace.clone(), interface.clone()));
        Ok(())
    }

    fn change(&mut self, step: &Step) -> io::Result<()> {
        match step {
            Step::PrepareDirectory | Step::ReleaseDirectory | Step::IgnoreAdvertisements(_) => {
                Ok(())
            }
            Step::CreateNamespaceFile(name) => check(self.files.insert(name.clone()), EXISTS),
            Step::RemoveNamespaceFile(name) => {
                check(!self.namespaces.contains_key(name), io::ErrorKind::ResourceBusy)?;
                check(self.files.remove(name), MISSING)
            }
            Step::BindNamespace(name) | Step::AdoptNamespace(name) => {
                check(self.files.contains(name), MISSING)?;
                let links = [(InterfaceName::loopback(), Inside::default())].into();
                check(self.namespaces.insert(name.clone(), links).is_none(), EXISTS)
            }
            Step::UnbindNamespace(name) => {
                // With it goes what is in it, unless somebody else has it open.
                self.macvlans.retain(|(namespace, _)| namespace != name);
                check(self.namespaces.remove(name).is_some(), MISSING)
            }
            Step::CreateMacvlan { namespace, interface, .. } => {
                self.create_macvlan(namespace, interface)
            }
            Step::DeleteMacvlan { namespace, interface } => {
                let links = self.namespaces.get_mut(namespace).ok_or(MISSING)?;
                let ours = self.macvlans.remove(&(namespace.clone(), interface.clone()));
                check(ours && links.remove(interface).is_some(), MISSING)
            }
            Step::ConfigurePort { host_interface, .. } => {
                check(self.veths.contains_key(host_interface), MISSING)?;
                self.ports.insert(host_interface.clone());
                Ok(())
            }
            Step::AddElements { elements, .. } => {
                self.elements.extend(elements.iter().cloned());
                Ok(())
            }
            Step::RemoveElements { elements, .. } => {
                self.elements.retain(|element| !elements.contains(element));
                Ok(())
            }
            Step::CreateVeth { .. } => self.create_veth(step),
            Step::DeleteVeth(name) => {
                let (namespace, interface) = self.veths.remove(name).ok_or(MISSING)?;
                self.ports.remove(name);
                let links = self.namespaces.get_mut(&namespace).ok_or(MISSING)?;
                check(links.remove(&interface).is_some(), MISSING)
            }
            Step::CreateBridge { name, .. } => {
                check(!self.veths.contains_key(name), EXISTS)?;
                check(self.bridges.insert(name.clone(), (false, vec![])).is_none(), EXISTS)
            }
            Step::MarkBridge(name) => {
                check(self.bridges.contains_key(name), MISSING)?;
                self.marked.insert(name.clone());
                Ok(())
            }
            Step::DeleteBridge(name) => {
                self.marked.remove(name);
                check(self.bridges.remove(name).is_some(), MISSING)
            }
            Step::AddAddress { place: Place::Host, interface, address } => {
                let (_, addresses) = self.bridge(interface)?;
                check(!addresses.contains(address), EXISTS)?;
                addresses.push(*address);
                Ok(())
            }
            Step::AddAddress { place: Place::Namespace(name), interface, address } => {
                let addresses = &mut self.inside(name, interface)?.addresses;
                check(!addresses.contains(address), EXISTS)?;
                addresses.push(*address);
                Ok(())
            }
            Step::RemoveAddress { interface, address } => {
                let (_, addresses) = self.bridge(interface)?;
                let before = addresses.len();
                addresses.retain(|have| have != address);
                check(addresses.len() < before, MISSING)
            }
            Step::SetUp { place: Place::Host, interface } => {
                self.bridge(interface)?.0 = true;
                Ok(())
            }
            Step::SetUp { place: Place::Namespace(name), interface } => {
                self.inside(name, interface)?.up = true;
                Ok(())
            }
            Step::SetDown(interface) => {
                self.bridge(interface)?.0 = false;
                Ok(())
            }
            Step::AddDefaultRoute { namespace, interface, gateway, metric } => {
                let inside = self.inside(namespace, interface)?;
                let near = inside.addresses.iter().any(|net| net.contains(gateway));
                check(inside.up && near, io::ErrorKind::NetworkUnreachable)?;
                check(inside.routes.insert((gateway.is_ipv4(), *metric)), EXISTS)
            }
            other => panic!("{other} is not part of these plans"),
        }
    }

    fn observe(&self, name: &InterfaceName) -> Option<ObservedBridge> {
        let (up, addresses) = self.bridges.get(name)?;
        Some(ObservedBridge {
            state: if *up { LinkState::Up } else { LinkState::Down },
            addresses: addresses.clone(),
            vlans: Vlans::Mixed,
            mark: if self.marked.contains(name) { Mark::Alias } else { Mark::Nothing(None) },
        })
    }
}

impl Kernel for FakeKernel {
    fn run(&mut self, step: &Step) -> io::Result<()> {
        match self.steps_until_failure.take() {
            Some(0) => return Err(io::Error::other("injected")),
            Some(left) => self.steps_until_failure = Some(left - 1),
            None => {}
        }
        self.change(step)
    }
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

/// Container number `id` with `attachments` interfaces, all in bridge `tare0`.
fn container(id: u8, attachments: usize, gateways: bool) -> Wanted {
    let attachment = |at: usize| {
        let address: IpNet = format!("10.{at}.0.{id}/24").parse().unwrap();
        let address6: IpNet = format!("fd00:{at}::{id}/64").parse().unwrap();
        // Every third is none of the bridge.
        let link = match at % 3 {
            2 => Link::Macvlan { parent: name("lan0"), mode: MacvlanMode::Bridge, mtu: None },
            _ => Link::Bridge {
                bridge: name("tare0"),
                host_interface: name(&format!("ve-{id}-{at}")),
                vlan: None,
            },
        };
        Attachment {
            link,
            interface: name(&format!("eth{at}")),
            mac: MacAddress::for_address(address.addr()),
            addresses: vec![address, address6],
            gateways: [format!("10.{at}.0.254"), format!("fd00:{at}::ff")]
                .iter()
                .filter(|_| gateways)
                .map(|gateway| gateway.parse().unwrap())
                .collect(),
            position: at.try_into().unwrap(),
        }
    };
    Wanted {
        namespace: name(&format!("tare-{id}")),
        attachments: (0..attachments).map(attachment).collect(),
    }
}

fn wanted() -> impl Strategy<Value = Wanted> {
    (1_u8..9, 0_usize..4, any::<bool>()).prop_map(|(id, count, gw)| container(id, count, gw))
}

/// A host with the bridge and some containers.
fn host() -> impl Strategy<Value = FakeKernel> {
    btree_set(1_u8..9, 0..6).prop_map(|ids| {
        let mut kernel = FakeKernel::default();
        kernel.bridges.insert(name("tare0"), (true, vec![]));
        for id in ids {
            apply(&mut kernel, plan(&container(id, 2, true))).unwrap().commit();
        }
        kernel
    })
}

proptest! {
    #[test]
    fn a_failed_step_leaves_no_trace(before in host(), wanted in wanted(), fail_at in 0_usize..30) {
        let steps = plan(&wanted);
        prop_assume!(fail_at < steps.len());
        let mut kernel = FakeKernel { steps_until_failure: Some(fail_at), ..before.clone() };
        // Fails at `fail_at`, or before if the container is there already.
        let error = apply(&mut kernel, steps).unwrap_err();
        kernel.steps_until_failure = None;
        prop_assert_eq!(kernel, before);
        prop_assert_ne!(error.kind(), ErrorKind::NeedsRepair);
    }

    #[test]
    fn tearing_down_restores_the_state(before in host(), wanted in wanted()) {
        prop_assume!(!before.files.contains(&wanted.namespace));
        let mut kernel = before.clone();
        apply(&mut kernel, plan(&wanted)).unwrap().commit();
        prop_assert_ne!(&kernel, &before);
        let leftovers = take_back(&mut kernel, plan_teardown(&wanted));
        prop_assert!(leftovers.is_empty());
        prop_assert_eq!(&kernel, &before);
        let leftovers = take_back(&mut kernel, plan_teardown(&wanted));
        prop_assert!(leftovers.is_empty(), "a second time is fine");
        prop_assert_eq!(kernel, before);
    }

    #[test]
    fn tearing_down_what_was_cut_off_anywhere_leaves_nothing(
        before in host(), wanted in wanted(), cut_at in 0_usize..30,
    ) {
        prop_assume!(!before.files.contains(&wanted.namespace));
        let mut kernel = before.clone();
        for step in plan(&wanted).iter().take(cut_at) {
            kernel.run(step).unwrap();
        }
        prop_assert!(take_back(&mut kernel, plan_teardown(&wanted)).is_empty());
        prop_assert_eq!(kernel, before);
    }

    #[test]
    fn an_interface_comes_and_goes_in_a_running_container(
        before in host(), id in 1_u8..9, at in 2_usize..5, fail_at in 0_usize..9,
    ) {
        prop_assume!(before.files.contains(&container(id, 0, true).namespace));
        let wanted = container(id, 5, true);
        let (namespace, attachment) = (&wanted.namespace, &wanted.attachments[at]);
        let steps = plan_attachment(namespace, attachment);
        let mut kernel = before.clone();
        if fail_at < steps.len() {
            kernel.steps_until_failure = Some(fail_at);
            prop_assert!(apply(&mut kernel, steps.clone()).is_err());
            kernel.steps_until_failure = None;
            prop_assert_eq!(&kernel, &before);
        }
        apply(&mut kernel, steps).unwrap().commit();
        prop_assert_ne!(&kernel, &before);
        for _ in 0..2 {
            let undo = plan_detachment(namespace, attachment);
            prop_assert!(take_back(&mut kernel, undo).is_empty());
            prop_assert_eq!(&kernel, &before);
        }
    }

    #[test]
    fn every_failed_undo_is_reported_and_the_rest_is_undone(
        wanted in wanted(), failing in btree_set(0_usize..12, 0..12),
    ) {
        let mut kernel = FakeKernel::default();
        kernel.bridges.insert(name("tare0"), (true, vec![]));
        apply(&mut kernel, plan(&wanted)).unwrap().commit();
        let undo = plan_teardown(&wanted);
        let mut kernel = FailingKernel { kernel, at: 0, failing: failing.clone() };
        let leftovers = take_back(&mut kernel, undo.clone());
        let failed: Vec<&Step> = leftovers.iter().map(|leftover| &leftover.undo).collect();
        // What stands upon another that stays fails by itself.
        for step in failing.iter().filter_map(|&at| undo.get(at)) {
            prop_assert!(failed.contains(&step), "{step}");
        }
        prop_assert_eq!(kernel.at, undo.len(), "all were tried");
        prop_assert!(take_back(&mut kernel.kernel, undo).is_empty());
        let mut empty = FakeKernel::default();
        empty.bridges.insert(name("tare0"), (true, vec![]));
        prop_assert_eq!(kernel.kernel, empty);
    }

    #[test]
    fn the_firewall_is_as_before_after_all_is_dismissed(
        have in btree_set(1_u8..9, 0..4), id in 10_u8..19,
    ) {
        let rules = |id: u8| ContainerRules {
            members: vec![Member {
                bridge: name("tare0"),
                addresses: vec![[10, 88, 0, id].into(), format!("fd00:88::{id}").parse().unwrap()],
                reach: Reach::Open,
            }],
            publications: vec![Publication {
                port: PortRequest::new(None, Protocol::Tcp, u16::from(id), 80, 1).unwrap().settle(id.into()),
                bridge: Some(name("tare0")),
                v4: Some([10, 88, 0, id].into()),
                v6: Some(format!("fd00:88::{id}").parse().unwrap()),
            }],
        };
        let table: TableName = name("tare");
        let add = |rules: ContainerRules| {
            vec![Step::AddElements { table: table.clone(), elements: rules.elements() }]
        };
        let mut before = FakeKernel::default();
        for id in have {
            apply(&mut before, add(rules(id))).unwrap().commit();
        }
        let mut kernel = before.clone();
        drop(apply(&mut kernel, add(rules(id))).unwrap());
        prop_assert_eq!(kernel, before, "the inverse takes it back");
    }

    #[test]
    fn a_bridge_is_completed_once(
        gateways in vec(0_u8..4, 0..3), have in vec(0_u8..4, 0..3), present in any::<bool>(),
        up in any::<bool>(), fail_at in 0_usize..8,
    ) {
        let nets = |ids: Vec<u8>| -> Vec<IpNet> {
            let ids: BTreeSet<u8> = ids.into_iter().collect();
            ids.into_iter().map(|id| format!("10.{id}.0.1/24").parse().unwrap()).collect()
        };
        let bridge = Bridge { name: name("tare0"), gateways: nets(gateways), mtu: None, vlan: None };
        let mut before = FakeKernel::default();
        if present {
            before.bridges.insert(bridge.name.clone(), (up, nets(have)));
        }
        let steps = plan_bridge(&bridge, before.observe(&bridge.name).as_ref());

        if fail_at < steps.len() {
            let mut kernel = FakeKernel { steps_until_failure: Some(fail_at), ..before.clone() };
            prop_assert!(apply(&mut kernel, steps.clone()).is_err());
            kernel.steps_until_failure = None;
            prop_assert_eq!(&kernel, &before);
        }

        let mut kernel = before;
        apply(&mut kernel, steps).unwrap().commit();
        let after = kernel.observe(&bridge.name);
        prop_assert_eq!(plan_bridge(&bridge, after.as_ref()), vec![], "nothing is missing now");
        let link = after.unwrap();
        prop_assert_eq!(link.state, LinkState::Up);
        prop_assert!(bridge.gateways.iter().all(|gateway| link.addresses.contains(gateway)));
    }
}

#[test]
fn the_earlier_attachment_has_the_better_default_route() {
    let metrics: Vec<u32> = plan(&container(1, 3, true))
        .iter()
        .filter_map(|step| match step {
            Step::AddDefaultRoute { metric, .. } => Some(*metric),
            _ => None,
        })
        .collect();
    assert_eq!(metrics, [100, 100, 101, 101, 102, 102], "of both families");
}

/// A kernel that fails the steps of these numbers.
#[derive(Debug)]
struct FailingKernel {
    kernel: FakeKernel,
    at: usize,
    failing: BTreeSet<usize>,
}

impl Kernel for FailingKernel {
    fn run(&mut self, step: &Step) -> io::Result<()> {
        self.at += 1;
        let denied = || Err(io::ErrorKind::PermissionDenied.into());
        if self.failing.contains(&(self.at - 1)) { denied() } else { self.kernel.run(step) }
    }
}

/// A kernel that does everything but delete veths.
#[derive(Debug)]
struct StuckKernel(FakeKernel);

impl Kernel for StuckKernel {
    fn run(&mut self, step: &Step) -> io::Result<()> {
        match step {
            Step::DeleteVeth(_) => Err(io::ErrorKind::PermissionDenied.into()),
            step => self.0.run(step),
        }
    }
}

#[test]
fn a_failed_undo_is_reported_beside_the_first_cause_and_the_rest_is_undone() {
    let mut kernel = StuckKernel(FakeKernel::default());
    kernel.0.bridges.insert(name("tare0"), (true, vec![]));
    let mut wanted = container(1, 1, true);
    wanted.attachments[0].gateways = vec!["192.0.2.1".parse().unwrap()];

    let error = apply(&mut kernel, plan(&wanted)).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::NeedsRepair);
    assert_eq!(
        error.to_string(),
        "cannot add default route via 192.0.2.1 to eth0 in namespace tare-1 \
         (1 undo step failed too)"
    );
    let Error::Step { leftovers, .. } = error else { panic!("{error:?}") };
    assert_eq!(leftovers[0].undo, Step::DeleteVeth(name("ve-1-0")));
    assert!(kernel.0.files.is_empty() && kernel.0.namespaces.is_empty());
}
