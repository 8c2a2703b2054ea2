//! The running kernel. Every effect of this crate is in [`Linux::run`], but for sockets that hold
//! a port, which are closed to take that back.

mod cookie;
mod directory;
mod legacy;
mod link;
mod namespace;
mod neighbour;
mod nfnetlink;
mod route;
pub(crate) mod shelf;
mod sockets;
mod sysctl;
mod uplinks;
mod watch;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use ipnet::IpNet;
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::NfTablesMessage;
use rustix::io::Errno;

pub(crate) use cookie::own_cookie;
pub(crate) use legacy::drops_forwarded;
pub(crate) use link::Kind;
use link::Link;
pub(crate) use namespace::{Opened, enter, names, open_namespace, same_as_own};
pub(crate) use sockets::{bind, has_ipv6, listen_at, listen_beside};
pub(crate) use uplinks::UplinkWatch;
pub(crate) use watch::Watch;

use crate::firewall::{Element, Found, docker, elements, layout::Set, others, ruleset};
use crate::plan::{LinkState, ObservedBridge};
use crate::undo::{Kernel, is_gone};
use crate::{InterfaceName, IpFamily, Place, Step, TableName, fault};
use nfnetlink::Nfnetlink;
use route::Routes;

/// The kernel as the calling thread's namespaces show it; opens what it needs when it needs it.
#[derive(Debug, Default)]
pub(crate) struct Linux {
    /// Whose namespace [`Step::AdoptNamespace`] means.
    process: Option<OwnedFd>,
    routes: Option<Routes>,
    filter: Option<Nfnetlink>,
}

impl Kernel for Linux {
    fn run(&mut self, step: &Step) -> io::Result<()> {
        if fault::leaves_out(step)? {
            return Ok(());
        }
        match step {
            Step::PrepareDirectory => directory::prepare(),
            Step::ReleaseDirectory => directory::release(),
            Step::CreateNamespaceFile(name) => namespace::create_file(name),
            Step::RemoveNamespaceFile(name) => namespace::remove_file(name),
            Step::BindNamespace(name) => self.routes()?.bind_namespace(name),
            Step::AdoptNamespace(name) => {
                let process = self.process.take().ok_or(Errno::BADF)?;
                self.routes()?.adopt_namespace(name, process.as_fd())
            }
            Step::UnbindNamespace(name) => namespace::unbind(name),
            Step::CreateVeth { bridge, host_interface, namespace, interface, mac } => {
                self.routes()?.create_veth(bridge, host_interface, namespace, interface, *mac)
            }
            Step::DeleteVeth(name) => self.routes()?.delete(name, Kind::Veth),
            Step::ConfigurePort { bridge, host_interface, vlan } => {
                self.routes()?.configure_port(bridge, host_interface, *vlan)
            }
            Step::CreateMacvlan { parent, mode, namespace, interface, mac, mtu } => {
                self.routes()?.create_macvlan(parent, *mode, (namespace, interface), *mac, *mtu)
            }
            Step::DeleteMacvlan { namespace, interface } => {
                self.routes()?.delete_macvlan(namespace, interface)
            }
            Step::CreateBridge { name, mac, mtu, vlan } => {
                self.routes()?.create_bridge(name, *mac, *mtu, *vlan)
            }
            Step::MarkBridge(name) => self.routes()?.mark_bridge(name),
            Step::DeleteBridge(name) => self.routes()?.delete(name, Kind::Bridge),
            Step::IgnoreAdvertisements(name) => sysctl::ignore_advertisements(name.as_str()),
            Step::AddAddress { place, interface, address } => {
                self.routes()?.add_address(place, interface, *address)
            }
            Step::RemoveAddress { interface, address } => {
                self.routes()?.remove_address(interface, *address)
            }
            Step::SetUp { place, interface } => {
                self.routes()?.set_state(place, interface, LinkState::Up)
            }
            Step::SetDown(name) => self.routes()?.set_state(&Place::Host, name, LinkState::Down),
            Step::AddDefaultRoute { namespace, interface, gateway, metric } => {
                self.routes()?.add_default_route(namespace, interface, *gateway, *metric)
            }
            Step::KeepAdvertisements(name) => sysctl::keep_advertisements(name),
            Step::EnableForwarding(family) => sysctl::enable_forwarding(*family),
            Step::GuardLocalnet { table, interface } => {
                let element = Element::Localnet(interface.clone());
                self.filter()?.transact(&elements::add(table, &[element]))
            }
            Step::RouteLocalnet(name) => sysctl::route_localnet(name),
            Step::PassUserChain { family, bridge, uplinks } => {
                self.pass_user_chain(*family, bridge, uplinks)
            }
            Step::LeaveUserChain { family, bridge } => self.leave_user_chain(*family, bridge),
            Step::LoadTable { table, found, ownership } => {
                self.filter()?.transact(&ruleset::load(table, *found, *ownership))
            }
            Step::DeleteTable(table) => self.filter()?.transact(&ruleset::delete(table)),
            Step::AddElements { table, elements } => {
                self.filter()?.transact(&elements::add(table, elements))
            }
            Step::RemoveElements { table, elements } => self.remove_elements(table, elements),
            Step::ForgetConnections(which) => self.filter()?.forget(which),
            Step::ForgetNeighbours(which) => self.routes()?.forget_neighbours(which),
        }
    }
}

impl Linux {
    /// The kernel with the process, by its pidfd, whose namespace is to be adopted.
    pub(crate) fn with_process(process: OwnedFd) -> Self {
        Self { process: Some(process), ..Self::default() }
    }
}

/// What only reads.
impl Linux {
    /// The state of bridge `name`; `EEXIST` if the interface is no bridge.
    pub(crate) fn observe_bridge(
        &mut self,
        name: &InterfaceName,
    ) -> io::Result<Option<ObservedBridge>> {
        let routes = self.routes()?;
        let link = match routes.find(name, Kind::Bridge) {
            Err(error) if is_gone(&error) => return Ok(None),
            found => found?,
        };
        let addresses = routes.addresses(Some(link.index))?;
        let Link { state, vlans, mark, .. } = link;
        Ok(Some(ObservedBridge { state, addresses, vlans, mark }))
    }

    /// Whether the host forwards packets.
    pub(crate) fn forwards(family: IpFamily) -> io::Result<bool> {
        sysctl::forwards(family)
    }

    /// The interfaces that would cease to take router advertisements if the host forwarded.
    pub(crate) fn advertised() -> io::Result<Vec<InterfaceName>> {
        sysctl::advertised()
    }

    /// The veths among the ports of a bridge of the host.
    pub(crate) fn veths_on(&mut self, bridge: &InterfaceName) -> io::Result<Vec<InterfaceName>> {
        self.routes()?.veths_on(bridge)
    }

    /// Whether the host has an interface of that name, of whatever kind.
    pub(crate) fn has_interface(&mut self, name: &InterfaceName) -> io::Result<bool> {
        self.routes()?.is_there(name)
    }

    /// Whether macvlans can be on the host's interface of that name.
    pub(crate) fn carries_macvlans(&mut self, name: &InterfaceName) -> io::Result<bool> {
        self.routes()?.carries_macvlans(name)
    }

    /// All addresses of the host.
    pub(crate) fn addresses(&mut self) -> io::Result<Vec<IpAddr>> {
        let addresses = self.routes()?.addresses(None)?;
        Ok(addresses.iter().map(IpNet::addr).collect())
    }

    /// All networks that addresses and routes name.
    pub(crate) fn prefixes(&mut self) -> io::Result<Vec<IpNet>> {
        let routes = self.routes()?;
        let mut prefixes: Vec<IpNet> = routes.addresses(None)?.iter().map(IpNet::trunc).collect();
        prefixes.extend(routes.destinations()?);
        Ok(prefixes)
    }

    /// The bridges that the host's default routes of that family lead out by.
    pub(crate) fn bridged_uplinks(&mut self, family: IpFamily) -> io::Result<Vec<InterfaceName>> {
        let routes = self.routes()?;
        let indexes = routes.default_interfaces(family)?;
        if indexes.is_empty() { Ok(Vec::new()) } else { routes.bridges_among(&indexes) }
    }

    /// What is there under the name of `table`.
    pub(crate) fn find_table(&mut self, table: &TableName) -> io::Result<Found> {
        let replies = match self.filter()?.get(ruleset::get_table(table)) {
            Err(error) if is_gone(&error) => return Ok(Found::Nothing),
            replies => replies?,
        };
        let found = replies.iter().find_map(|reply| match reply {
            NfTablesMessage::NewTable(table) => Some(ruleset::classify(&table.attributes)),
            _ => None,
        });
        found.ok_or_else(|| io::Error::other("the kernel's answer describes no table"))
    }

    /// Tells of changes that others make to tables.
    pub(crate) fn watch(&mut self) -> io::Result<Watch> {
        self.filter()?.watch()
    }

    /// All chains of all tables, each with the family of its table.
    pub(crate) fn chains(&mut self) -> io::Result<Vec<(NetfilterProtoFamily, NfTablesMessage)>> {
        self.filter()?.dump_all(others::get_chains())
    }

    /// All elements of all sets and maps of `table`.
    pub(crate) fn elements(&mut self, table: &TableName) -> io::Result<Vec<Element>> {
        let mut found = Vec::new();
        for set in Set::ALL {
            for reply in self.filter()?.dump(elements::get_elements(table, set))? {
                if let NfTablesMessage::NewSetElement(list) = reply {
                    found.extend(elements::read(set, &list.attributes));
                }
            }
        }
        Ok(found)
    }

    /// Rules that are there stay as they are, if it is all of them.
    fn pass_user_chain(
        &mut self,
        family: IpFamily,
        bridge: &InterfaceName,
        uplinks: &[InterfaceName],
    ) -> io::Result<()> {
        let (filter, tables) = (self.filter()?, nfnetlink::tables_of(family));
        let present = filter.dump_in(tables, docker::get_rules())?;
        if docker::is_passed(bridge, uplinks, &present) {
            return Ok(());
        }
        filter.transact_in(tables, &docker::pass(bridge, uplinks, &present))
    }

    fn leave_user_chain(&mut self, family: IpFamily, bridge: &InterfaceName) -> io::Result<()> {
        let filter = self.filter()?;
        let present = filter.dump_in(nfnetlink::tables_of(family), docker::get_rules())?;
        let ours = docker::of_bridge(bridge, &present);
        filter.transact_in(nfnetlink::tables_of(family), &docker::take_back(&ours))
    }

    fn remove_elements(&mut self, table: &TableName, elements: &[Element]) -> io::Result<()> {
        match self.filter()?.transact(&elements::remove(table, elements)) {
            // A port leads elsewhere by now: it is somebody else's, all the rest is not.
            Err(error) if leads_elsewhere(&error) => {
                let present: BTreeSet<_> = self.elements(table)?.into_iter().collect();
                let mut elements = elements.to_vec();
                elements.retain(|element| present.contains(element));
                self.filter()?.transact(&elements::remove(table, &elements))
            }
            result => result,
        }
    }

    fn routes(&mut self) -> io::Result<&mut Routes> {
        open_once(&mut self.routes, Routes::connect)
    }

    fn filter(&mut self) -> io::Result<&mut Nfnetlink> {
        open_once(&mut self.filter, Nfnetlink::connect)
    }
}

/// How the kernel refuses to add an element to a map that has another of that key.
fn leads_elsewhere(error: &io::Error) -> bool {
    [Errno::EXIST, Errno::BUSY]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn open_once<T>(slot: &mut Option<T>, open: fn() -> io::Result<T>) -> io::Result<&mut T> {
    match slot {
        Some(open) => Ok(open),
        None => Ok(slot.insert(open()?)),
    }
}
