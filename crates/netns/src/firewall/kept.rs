//! A firewall table that comes back as it has to be.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Element, Firewall, Ownership, Watcher};
use crate::undo::is_gone;
use crate::{
    ContainerRules, Error, Forwarding, InterfaceName, IpFamily, Network, NetworkRules, Step,
    TableName,
};

/// A [`Firewall`] that knows all that has to be in its table.
///
/// Where others can change the table ([`Ownership::Shared`]) it is [put back](Self::put_back) as it has to be
/// by then: whatever is taken back meanwhile stays so. Who wants something of a table that somebody has just
/// taken away puts it back first, and does not fail.
#[derive(Debug)]
pub struct KeptFirewall {
    firewall: Firewall,
    /// Held by whoever changes the table, until that is done.
    wanted: Mutex<Wanted>,
}

#[derive(Debug, Default)]
struct Wanted {
    elements: BTreeSet<Element>,
    /// The table is not to be there any more.
    is_given_up: bool,
}

impl KeptFirewall {
    /// As [`Firewall::open`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn open(table: &TableName) -> Result<Self, Error> {
        Firewall::open(table).map(Self::of)
    }

    /// As [`Firewall::open_shared`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn open_shared(table: &TableName) -> Result<Self, Error> {
        Firewall::open_shared(table).map(Self::of)
    }

    fn of(firewall: Firewall) -> Self {
        Self { firewall, wanted: Mutex::default() }
    }

    /// Tells from now on when others change the table, which is then to be [put back](Self::put_back); nothing
    /// if they cannot. What they did before is mended.
    ///
    /// # Errors
    ///
    /// [`Error::ReadTable`]; those of [`put_back`](Self::put_back).
    pub fn watch(&self) -> Result<Option<Watcher>, Error> {
        if self.firewall.ownership() == Ownership::Exclusive {
            return Ok(None);
        }
        let watcher = self.firewall.watch()?;
        self.put_back()?;
        Ok(Some(watcher))
    }

    /// Loads the rules anew, and all that has to be in the table; nothing after [`delete`](Self::delete).
    ///
    /// # Errors
    ///
    /// As [`Firewall::restore`].
    pub fn put_back(&self) -> Result<(), Error> {
        self.restore(&self.wanted())
    }

    /// Lets the host forward what a network needs, and the containers of the network out, as far as its
    /// reach goes.
    ///
    /// # Errors
    ///
    /// As [`Firewall::enable_forwarding`] and [`Firewall::add_network`].
    pub fn add_network(&self, network: &Network) -> Result<(), Error> {
        let Some(rules) = network.rules() else { return Ok(()) };
        let mut wanted = self.wanted();
        for family in IpFamily::BOTH.into_iter().filter(|family| network.is_forwarded(*family)) {
            let enabled = self.done(&wanted, |firewall| firewall.enable_forwarding(family))?;
            if enabled == Forwarding::SwitchedOn {
                wanted.elements.insert(Element::Closed(family));
            }
        }
        wanted.elements.extend(rules.elements());
        self.done(&wanted, |firewall| firewall.add_network(&rules))
    }

    /// Whether what is none of ours is not forwarded, since it was us who made the host do that.
    pub fn closes(&self, family: IpFamily) -> bool {
        self.wanted().elements.contains(&Element::Closed(family))
    }

    /// As [`Firewall::remove_network`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn remove_network(&self, bridge: &InterfaceName) -> Result<(), Error> {
        let doomed = NetworkRules::every_element(bridge);
        let mut wanted = self.wanted();
        wanted.elements.retain(|element| !doomed.contains(element));
        self.done(&wanted, |firewall| firewall.remove_network(bridge))
    }

    /// As [`Firewall::admit`].
    ///
    /// # Errors
    ///
    /// As there; what was asked for is to be [withdrawn](Self::withdraw) then.
    pub fn admit(&self, rules: &ContainerRules) -> Result<(), Error> {
        let mut wanted = self.wanted();
        wanted.elements.extend(asked(rules));
        self.done(&wanted, |firewall| firewall.admit(rules))
    }

    /// As [`Firewall::take_over`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn take_over(&self, rules: &ContainerRules) -> Result<(), Error> {
        self.firewall.take_over(rules)
    }

    /// Takes back what [`admit`](Self::admit) did, but for what is asked for `still`. The connections of its
    /// addresses stay known.
    ///
    /// # Errors
    ///
    /// As [`Firewall::remove_elements`].
    pub fn withdraw(&self, rules: &ContainerRules, still: &ContainerRules) -> Result<(), Error> {
        let still: BTreeSet<Element> = still.elements().into_iter().collect();
        let mut doomed = rules.elements();
        doomed.retain(|element| !still.contains(element));
        let mut wanted = self.wanted();
        for element in &doomed {
            wanted.elements.remove(element);
        }
        self.done(&wanted, |firewall| firewall.remove_elements(&doomed))
    }

    /// Brings the table to what these containers want, and networks whose bridges are there, and nothing
    /// else; where the host forwards because of us, it goes on being no router. What is found in it says
    /// nothing: somebody may have taken it away while nobody kept it.
    ///
    /// # Errors
    ///
    /// As [`Firewall::elements`], [`Firewall::add_elements`] and [`Firewall::remove_elements`].
    pub fn settle(
        &self,
        containers: &[ContainerRules],
        networks: &[NetworkRules],
        closed: &[IpFamily],
    ) -> Result<(), Error> {
        let asked: BTreeSet<Element> = containers
            .iter()
            .flat_map(asked)
            .chain(networks.iter().flat_map(NetworkRules::elements))
            .chain(closed.iter().copied().map(Element::Closed))
            .collect();
        let is_stray = |element: &&Element| match element {
            Element::Closed(_) => false,
            // Goes with its network.
            Element::Localnet(bridge) => !networks.iter().any(|network| network.bridge == *bridge),
            other => !asked.contains(other),
        };
        let mut wanted = self.wanted();
        wanted.elements.extend(asked.iter().cloned());
        let mut found = self.done(&wanted, Firewall::elements)?;
        let strays: Vec<Element> = found.iter().filter(is_stray).cloned().collect();
        let removed = self.done(&wanted, |firewall| firewall.remove_elements(&strays));
        // Whatever became of those: nobody wants them, and containers are not to be without theirs for that.
        found.retain(|element| !strays.contains(element));
        let missing: Vec<Element> =
            asked.iter().filter(|element| !found.contains(element)).cloned().collect();
        wanted.elements = asked.into_iter().chain(found).collect();
        let added = self.done(&wanted, |firewall| firewall.add_elements(&missing));
        removed.and(added)
    }

    /// Deletes the table with all it holds; it is not put back any more.
    ///
    /// # Errors
    ///
    /// As [`Firewall::delete_table`].
    pub fn delete(&self) -> Result<(), Error> {
        let mut wanted = self.wanted();
        wanted.is_given_up = true;
        self.firewall.delete_table()
    }

    /// All elements that are in the table now, in no order.
    ///
    /// # Errors
    ///
    /// As [`Firewall::elements`].
    pub fn elements(&self) -> Result<Vec<Element>, Error> {
        self.firewall.elements()
    }

    /// Does something with the table; if somebody has taken it away, once more when it is back.
    fn done<T>(
        &self,
        wanted: &Wanted,
        act: impl Fn(&Firewall) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match act(&self.firewall) {
            Err(error) if self.firewall.ownership() == Ownership::Shared && is_away(&error) => {
                self.restore(wanted)?;
                act(&self.firewall)
            }
            done => done,
        }
    }

    fn restore(&self, wanted: &Wanted) -> Result<(), Error> {
        if wanted.is_given_up {
            return Ok(());
        }
        let elements: Vec<Element> = wanted.elements.iter().cloned().collect();
        self.firewall.restore(&elements)
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the table, or a set of it, was not there.
fn is_away(error: &Error) -> bool {
    match error {
        Error::ReadTable { source, .. } => is_gone(source),
        Error::Step { step, source, .. } => {
            let is_of_table = matches!(
                **step,
                Step::AddElements { .. } | Step::RemoveElements { .. } | Step::GuardLocalnet { .. }
            );
            is_of_table && is_gone(source)
        }
        _ => false,
    }
}

/// All that a container wants to be in the table. What keeps the host's own loopback from the bridges of its
/// ports stays as long as the network does.
fn asked(rules: &ContainerRules) -> impl Iterator<Item = Element> {
    let guards = rules.localnets().into_iter().map(Element::Localnet);
    rules.elements().into_iter().chain(guards)
}
