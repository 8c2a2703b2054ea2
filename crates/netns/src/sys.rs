//! The running kernel. Every effect of this crate is in [`Linux::run`].

mod namespace;
mod nfnetlink;
mod route;

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_netfilter::nftables::NfTablesMessage;

pub(crate) use namespace::{directory_is_prepared, enter, open_namespace};

use crate::firewall::Found;
use crate::plan::{Forwarding, LinkState, Observed, ObservedLink};
use crate::undo::{Kernel, is_gone};
use crate::{InterfaceName, NamespaceName, Place, Step, TableName, elements, fault, ruleset};
use nfnetlink::Nfnetlink;
use route::{Kind, Routes};

/// The kernel as the calling thread's namespaces show it; opens what it needs when it needs it.
#[derive(Debug, Default)]
pub(crate) struct Linux {
    routes: Option<Routes>,
    filter: Option<Nfnetlink>,
}

impl Kernel for Linux {
    fn run(&mut self, step: &Step) -> io::Result<()> {
        fault::point(step)?;
        match step {
            Step::PrepareDirectory => namespace::prepare_directory(),
            Step::ReleaseDirectory => namespace::release_directory(),
            Step::CreateNamespaceFile(name) => namespace::create_file(name),
            Step::RemoveNamespaceFile(name) => namespace::remove_file(name),
            Step::BindNamespace(name) => self.routes()?.bind_namespace(name),
            Step::UnbindNamespace(name) => namespace::unbind(name),
            Step::CreateVeth { bridge, host_interface, namespace, interface, mac } => {
                self.routes()?.create_veth(bridge, host_interface, namespace, interface, *mac)
            }
            Step::DeleteVeth(name) => self.routes()?.delete(name, Kind::Veth),
            Step::CreateBridge { name, mac, mtu } => self.routes()?.create_bridge(name, *mac, *mtu),
            Step::DeleteBridge(name) => self.routes()?.delete(name, Kind::Bridge),
            Step::IgnoreAdvertisements(name) => namespace::ignore_advertisements(name.as_str()),
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
            Step::EnableForwarding => namespace::enable_forwarding(),
            Step::LoadTable { table, found, ownership } => {
                self.filter()?.transact(&ruleset::load(table, *found, *ownership))
            }
            Step::DeleteTable(table) => self.filter()?.transact(&ruleset::delete(table)),
            Step::AddElements { table, addresses } => {
                self.filter()?.transact(&elements::add(table, addresses))
            }
            Step::RemoveElements { table, addresses } => {
                self.filter()?.transact(&elements::remove(table, addresses))
            }
        }
    }
}

/// What only reads.
impl Linux {
    /// The state of bridge `name`; `EEXIST` if the interface is no bridge.
    pub(crate) fn observe_bridge(&mut self, name: &InterfaceName) -> io::Result<Observed> {
        let forwarding = match namespace::forwarding()?.as_str() {
            "0" => Forwarding::Off,
            _ => Forwarding::On,
        };
        let routes = self.routes()?;
        let link = match routes.find(name, Kind::Bridge) {
            Err(error) if is_gone(&error) => None,
            found => Some(found?),
        };
        let link = link.map(|link| -> io::Result<_> {
            let addresses = routes.addresses(Some(link.index))?;
            Ok(ObservedLink { state: link.state, addresses })
        });
        Ok(Observed { link: link.transpose()?, forwarding })
    }

    /// All networks that addresses and routes name.
    pub(crate) fn prefixes(&mut self) -> io::Result<Vec<IpNet>> {
        let routes = self.routes()?;
        let mut prefixes: Vec<IpNet> = routes.addresses(None)?.iter().map(IpNet::trunc).collect();
        prefixes.extend(routes.destinations()?);
        Ok(prefixes)
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

    /// The addresses in all sets of `table`.
    pub(crate) fn elements(&mut self, table: &TableName) -> io::Result<Vec<IpAddr>> {
        let mut addresses = Vec::new();
        for family in &ruleset::FAMILIES {
            for reply in self.filter()?.dump(elements::get_elements(table, family))? {
                if let NfTablesMessage::NewSetElement(list) = reply {
                    addresses.extend(elements::addresses(&list.attributes));
                }
            }
        }
        Ok(addresses)
    }

    fn routes(&mut self) -> io::Result<&mut Routes> {
        open_once(&mut self.routes, Routes::connect)
    }

    fn filter(&mut self) -> io::Result<&mut Nfnetlink> {
        open_once(&mut self.filter, Nfnetlink::connect)
    }
}

fn open_once<T>(slot: &mut Option<T>, open: fn() -> io::Result<T>) -> io::Result<&mut T> {
    match slot {
        Some(open) => Ok(open),
        None => Ok(slot.insert(open()?)),
    }
}

/// The step needs a namespace that another plan created.
fn not_ours(name: &NamespaceName) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("namespace {name} was not created here"))
}
