//! The firewall table of all containers.

mod chains;
pub(crate) mod docker;
pub(crate) mod element;
pub(crate) mod elements;
mod expression;
mod kept;
pub(crate) mod layout;
pub(crate) mod others;
pub(crate) mod ruleset;
mod watcher;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

pub use element::Element;
pub use kept::KeptFirewall;
pub use others::{
    ForeignChain, foreign_forward_chains, leave_user_chain, legacy_iptables_drops, pass_user_chain,
};
pub use watcher::{ForeignWatcher, Watcher};

use crate::conntrack::{Connections, Forgetter};
use crate::forwarding::{self, Forwarding};
use crate::sys::Linux;
use crate::undo::apply;
use crate::{ContainerRules, Error, InterfaceName, IpFamily, NetworkRules, Step, TableName};

/// Most elements in one transaction. More are divided, and are then no longer all or nothing: a
/// container with as many ports as one can have is far below.
const MAX_ELEMENTS: usize = 8192;

/// Who can change the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Only the [`Firewall`] that holds it: `nft flush ruleset` skips it, and it outlives its
    /// owner (flags `owner,persist`, Linux 6.9).
    Exclusive,
    /// Everybody with the privilege; a flush of the ruleset takes it away. Until it is
    /// [restored](Firewall::restore), nothing is translated: a connection to a published port that sends
    /// something meanwhile is reset, and one that is quiet does not notice.
    Shared,
}

/// What was there under the table's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// No table.
    Nothing,
    /// A table of this crate's present layout that no running process owns.
    Ours(Ownership),
    /// Some other table that no running process owns.
    Foreign,
    /// A table that a running process owns.
    Owned,
}

/// The firewall table of all networks and containers on this host.
///
/// A long-lived handle: its netlink socket owns the table in the network namespace of the thread
/// that opened it. When it is dropped the table stays, elements and all, for the next
/// [`open`](Self::open) to adopt.
///
/// The rules never change. A network, a container or a port is some [`Element`]s of the table's
/// sets and maps, added and removed in one transaction whose price does not depend on how many
/// there are.
pub struct Firewall {
    table: TableName,
    ownership: Ownership,
    kernel: Mutex<Linux>,
    /// Over a connection of its own: it takes its time.
    forgetter: Forgetter,
}

impl Firewall {
    /// Creates or adopts `inet <table>` and loads the rules into it, in one transaction.
    ///
    /// Elements of a table of this crate's present layout are kept; any other table of that name
    /// that nobody owns is replaced.
    ///
    /// # Errors
    ///
    /// [`Error::TableOwned`] if another handle or process has it, [`Error::ReadTable`],
    /// [`Error::Step`].
    pub fn open(table: &TableName) -> Result<Self, Error> {
        Self::open_as(table, Ownership::Exclusive)
    }

    /// The same, but others can change the table on every kernel, as they always can where it knows no
    /// owners.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_shared(table: &TableName) -> Result<Self, Error> {
        Self::open_as(table, Ownership::Shared)
    }

    fn open_as(table: &TableName, wanted: Ownership) -> Result<Self, Error> {
        let mut kernel = Linux::default();
        let ownership = adopt(&mut kernel, table, wanted)?;
        Ok(Self {
            table: table.clone(),
            ownership,
            kernel: Mutex::new(kernel),
            forgetter: Forgetter::default(),
        })
    }

    /// The table's name.
    pub fn table(&self) -> &TableName {
        &self.table
    }

    /// Whether others can change the table; then somebody has to watch it, and
    /// [`restore`](Self::restore) it when it is gone.
    pub fn ownership(&self) -> Ownership {
        self.ownership
    }

    /// Tells from now on when others change the table.
    ///
    /// # Errors
    ///
    /// [`Error::ReadTable`].
    pub fn watch(&self) -> Result<Watcher, Error> {
        let watch = self.kernel().watch();
        let watch =
            watch.map_err(|source| Error::ReadTable { table: self.table.clone(), source })?;
        Ok(Watcher::new(self.table.clone(), watch))
    }

    /// Loads the rules anew and adds `elements`: for a table that is [`Shared`](Ownership::Shared)
    /// and that somebody deleted or changed.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn restore(&self, elements: &[Element]) -> Result<(), Error> {
        let loaded = match self.ownership {
            Ownership::Exclusive => Ok(()),
            Ownership::Shared => {
                adopt(&mut self.kernel(), &self.table, Ownership::Shared).map(drop)
            }
        };
        loaded.and_then(|()| self.add_elements(elements))
    }

    /// Lets the containers of a network out, as far as its reach goes.
    ///
    /// Before its first container is attached: until then the table does not know the bridge, and
    /// knows nothing to keep from it. Can be repeated; a reach that changed is taken over.
    ///
    /// # Errors
    ///
    /// [`Error::Step`]; nothing has changed then.
    pub fn add_network(&self, network: &NetworkRules) -> Result<(), Error> {
        let wanted = network.elements();
        let mut others = NetworkRules::every_element(&network.bridge);
        let localnet = Element::Localnet(network.bridge.clone());
        others.retain(|element| !wanted.contains(element) && *element != localnet);
        self.run([
            Step::AddElements { table: self.table.clone(), elements: wanted },
            Step::RemoveElements { table: self.table.clone(), elements: others },
        ])
    }

    /// Forgets a network, after its last container and before its bridge are removed. Can be
    /// repeated.
    ///
    /// # Errors
    ///
    /// [`Error::Step`]; nothing has changed then.
    pub fn remove_network(&self, bridge: &InterfaceName) -> Result<(), Error> {
        self.remove_elements(&NetworkRules::every_element(bridge))
    }

    /// Does all that a container asks of the firewall: masquerading, and its published ports.
    ///
    /// Also for ports of a container that runs already; then [`take_over`](Self::take_over).
    ///
    /// # Errors
    ///
    /// [`Error::Step`], with [`ErrorKind::InUse`](crate::ErrorKind::InUse) if a port leads to
    /// another container; nothing has changed then.
    pub fn admit(&self, rules: &ContainerRules) -> Result<(), Error> {
        let mut steps = Vec::new();
        for interface in rules.localnets() {
            // First what keeps others out, then what lets the loopback's packets leave.
            let (table, guarded) = (self.table.clone(), interface.clone());
            steps.push(Step::GuardLocalnet { table, interface: guarded });
            steps.push(Step::RouteLocalnet(interface));
        }
        let elements = rules.elements();
        steps.extend(
            self.in_transactions(&elements, |table, elements| Step::AddElements {
                table,
                elements,
            }),
        );
        self.run(steps)
    }

    /// Leads to the container also what clients of a UDP port that was just published go on
    /// sending from before: what the host took for its own until then.
    ///
    /// After [`admit`](Self::admit); it takes milliseconds, and can be done when all else is.
    ///
    /// # Errors
    ///
    /// [`Error::Step`].
    pub fn take_over(&self, rules: &ContainerRules) -> Result<(), Error> {
        self.forgetter.forget(&rules.taken_over())
    }

    /// Takes back what [`admit`](Self::admit) did, and cuts the connections of the container's
    /// addresses, so that these can be given to others.
    ///
    /// With rules that have no members, ports are taken back and connections stay. Can be
    /// repeated.
    ///
    /// # Errors
    ///
    /// [`Error::Step`].
    pub fn dismiss(&self, rules: &ContainerRules) -> Result<(), Error> {
        self.remove_elements(&rules.elements())?;
        let connections: Vec<_> = rules.addresses().into_iter().map(Connections::Of).collect();
        self.forgetter.forget(&connections)
    }

    /// Lets the host forward packets of that family, if it does not yet.
    ///
    /// If it was not, the host is no router, and does not become one: only what comes from or goes
    /// to containers is forwarded. It goes on taking router advertisements where it did.
    ///
    /// # Errors
    ///
    /// [`Error::ReadForwarding`], [`Error::Step`].
    pub fn enable_forwarding(&self, family: IpFamily) -> Result<Forwarding, Error> {
        let close = Step::AddElements {
            table: self.table.clone(),
            elements: vec![Element::Closed(family)],
        };
        forwarding::enable(&mut self.kernel(), family, vec![close])
    }

    /// Adds elements; those already there stay.
    ///
    /// # Errors
    ///
    /// [`Error::Step`]; up to 8,192 elements are all added or none.
    pub fn add_elements(&self, elements: &[Element]) -> Result<(), Error> {
        self.run(
            self.in_transactions(elements, |table, elements| Step::AddElements { table, elements }),
        )
    }

    /// Removes elements; those not there are no error, nor is a port that leads elsewhere, which
    /// stays.
    ///
    /// # Errors
    ///
    /// [`Error::Step`].
    pub fn remove_elements(&self, elements: &[Element]) -> Result<(), Error> {
        self.run(
            self.in_transactions(elements, |table, elements| Step::RemoveElements {
                table,
                elements,
            }),
        )
    }

    /// All elements that are in the table now, in no order.
    ///
    /// # Errors
    ///
    /// [`Error::ReadTable`], which is also what a table that somebody deleted gives.
    pub fn elements(&self) -> Result<Vec<Element>, Error> {
        let read = self.kernel().elements(&self.table);
        read.map_err(|source| Error::ReadTable { table: self.table.clone(), source })
    }

    /// Masquerades what `addresses` send to elsewhere.
    ///
    /// # Errors
    ///
    /// As [`add_elements`](Self::add_elements).
    pub fn add(&self, addresses: &[IpAddr]) -> Result<(), Error> {
        self.add_elements(&outbound(addresses))
    }

    /// Masquerades it no longer.
    ///
    /// # Errors
    ///
    /// As [`remove_elements`](Self::remove_elements).
    pub fn remove(&self, addresses: &[IpAddr]) -> Result<(), Error> {
        self.remove_elements(&outbound(addresses))
    }

    /// The addresses that are masqueraded now, in no order.
    ///
    /// # Errors
    ///
    /// As [`elements`](Self::elements).
    pub fn list(&self) -> Result<Vec<IpAddr>, Error> {
        let address = |element| match element {
            Element::Outbound(address) => Some(address),
            _ => None,
        };
        Ok(self.elements()?.into_iter().filter_map(address).collect())
    }

    /// Deletes the table with all it holds.
    ///
    /// # Errors
    ///
    /// [`Error::Step`].
    pub fn delete_table(&self) -> Result<(), Error> {
        self.run([Step::DeleteTable(self.table.clone())])
    }

    fn in_transactions(
        &self,
        elements: &[Element],
        step: fn(TableName, Vec<Element>) -> Step,
    ) -> Vec<Step> {
        let chunks = elements.chunks(MAX_ELEMENTS);
        chunks.map(|elements| step(self.table.clone(), elements.to_vec())).collect()
    }

    fn run(&self, steps: impl IntoIterator<Item = Step>) -> Result<(), Error> {
        let mut kernel = self.kernel();
        apply(&mut *kernel, steps.into_iter().collect())?.commit();
        Ok(())
    }

    fn kernel(&self) -> MutexGuard<'_, Linux> {
        // A panic leaves nothing half done here: replies to the old request are skipped.
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn outbound(addresses: &[IpAddr]) -> Vec<Element> {
    addresses.iter().copied().map(Element::Outbound).collect()
}

fn adopt(kernel: &mut Linux, table: &TableName, wanted: Ownership) -> Result<Ownership, Error> {
    let found = kernel
        .find_table(table)
        .map_err(|source| Error::ReadTable { table: table.clone(), source })?;
    if found == Found::Owned {
        return Err(Error::TableOwned { table: table.clone() });
    }
    load(kernel, table, found, wanted)
}

/// Loads the table as its exclusive owner, if that is wanted, or, where the kernel has no such thing, as one
/// of all.
fn load(
    kernel: &mut Linux,
    table: &TableName,
    found: Found,
    wanted: Ownership,
) -> Result<Ownership, Error> {
    let mut attempt = |ownership| {
        let step = Step::LoadTable { table: table.clone(), found, ownership };
        apply(kernel, vec![step]).map(|done| {
            done.commit();
            ownership
        })
    };
    match attempt(wanted) {
        Err(Error::Step { source, .. }) if is_unsupported(&source) => attempt(Ownership::Shared),
        result => result,
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error())
}

impl fmt::Debug for Firewall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Firewall")
            .field("table", &self.table)
            .field("ownership", &self.ownership)
            .finish_non_exhaustive()
    }
}
