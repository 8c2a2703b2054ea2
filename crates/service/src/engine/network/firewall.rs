//! The firewall table of this daemon.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rusqlite::Connection;
use tare_netns::{
    ContainerRules, Element, Firewall, Forwarding, InterfaceName, Network, NetworkRules,
};
use tare_netns::{IpFamily, Ownership, Reach, Watcher};
use tokio::sync::OnceCell;

use super::watching::follow;
use crate::db::Db;
use crate::engine::Error;
use crate::engine::records;
use crate::instance::Tag;

/// Key of the note that there is a firewall table of ours.
const TABLE: &str = "firewall-table";
const FAMILIES: [IpFamily; 2] = [IpFamily::V4, IpFamily::V6];

/// Key of the note that the host did not forward packets of a family before us.
fn closed(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "closed-ipv4",
        IpFamily::V6 => "closed-ipv6",
    }
}

/// The table, made when a container first needs it.
#[derive(Debug)]
pub(super) struct HostFirewall {
    run: Db,
    tag: Tag,
    opened: OnceCell<Arc<Rules>>,
}

/// What is in the table.
#[derive(Debug)]
pub(super) struct Rules {
    firewall: Firewall,
    /// All that has to be in it, in case somebody takes it away.
    wanted: Mutex<BTreeSet<Element>>,
}

impl HostFirewall {
    pub(super) fn new(run: Db, tag: Tag) -> Self {
        Self { run, tag, opened: OnceCell::new() }
    }

    /// The table; it is made if it is not there.
    pub(super) async fn open(&self) -> Result<Arc<Rules>, tare_netns::Error> {
        self.opened.get_or_try_init(|| self.first_use()).await.cloned()
    }

    /// The table, if it has been made in this boot.
    ///
    /// # Errors
    ///
    /// If that cannot be read; that it cannot be opened is inside.
    pub(super) async fn open_if_made(
        &self,
    ) -> Result<Option<Result<Arc<Rules>, tare_netns::Error>>, Error> {
        match self.run.run(|c| records::meta(c, TABLE)).await? {
            Some(_) => Ok(Some(self.open().await)),
            None => Ok(None),
        }
    }

    /// Notes that the host is no router and will forward packets all the same, before a network makes
    /// it do so: nobody could tell that from the host afterwards, if somebody took the table away. For
    /// [`keep_notes`](Self::keep_notes), which families were noted.
    pub(super) async fn note_forwarding(&self, network: &Network) -> Result<Vec<IpFamily>, Error> {
        let forwarded = FAMILIES.into_iter().filter(|family| forwards(network, *family));
        let noted: Vec<_> = forwarded.filter(|family| !is_forwarding(*family)).collect();
        if noted.is_empty() {
            return Ok(noted);
        }
        let new = noted.clone();
        let note = move |c: &Connection| {
            new.into_iter().try_for_each(|family| records::set_meta(c, closed(family), "ours"))
        };
        self.run.run(note).await?;
        Ok(noted)
    }

    /// Keeps those of these notes that are true by now, however it went: where it was not us who made the
    /// host forward packets, it may be a router, or become one.
    pub(super) async fn keep_notes(&self, noted: Vec<IpFamily>) {
        let ours = self.opened.get();
        let closes = |family: &IpFamily| ours.is_some_and(|rules| rules.closes(*family));
        self.forget_notes(noted.into_iter().filter(|family| !closes(family)).collect()).await;
    }

    async fn forget_notes(&self, families: Vec<IpFamily>) {
        if families.is_empty() {
            return;
        }
        let forget = move |c: &Connection| {
            families.iter().try_for_each(|family| records::unset_meta(c, closed(*family)))
        };
        if let Err(error) = self.run.run(forget).await {
            tracing::warn!("the host may be no router for others again: {error}");
        }
    }

    /// The families of which that was noted. Where the host does not forward them, nothing came of it.
    pub(super) async fn closed(&self) -> Result<Vec<IpFamily>, Error> {
        let noted = |c: &Connection| {
            let found = FAMILIES.map(|family| Ok((family, records::meta(c, closed(family))?)));
            found.into_iter().collect::<Result<Vec<_>, crate::db::Error>>()
        };
        let noted = self.run.run(noted).await?;
        let noted = noted.into_iter().filter_map(|(family, note)| note.map(|_| family));
        let (ours, stale) = noted.partition(|family| is_forwarding(*family));
        self.forget_notes(stale).await;
        Ok(ours)
    }

    /// With a note, written before the effect, for whoever leaves the host as it was.
    async fn first_use(&self) -> Result<Arc<Rules>, tare_netns::Error> {
        if let Err(error) = self.run.run(|c| records::set_meta(c, TABLE, "made")).await {
            tracing::warn!("the firewall table may stay: {error}");
        }
        let table = self.tag.table();
        let open = tokio::task::spawn_blocking(move || Firewall::open(&table));
        let open = open.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let rules = Arc::new(Rules { firewall: open?, wanted: Mutex::default() });
        if rules.firewall.ownership() == Ownership::Shared {
            tokio::spawn(keep(rules.firewall.watch()?, Arc::downgrade(&rules)));
        }
        Ok(rules)
    }
}

impl Rules {
    /// Lets the containers of a network out, as far as its reach goes.
    pub(super) fn add_network(&self, network: &Network) -> Result<(), tare_netns::Error> {
        let Some(rules) = network.rules() else { return Ok(()) };
        for family in FAMILIES.into_iter().filter(|family| forwards(network, *family)) {
            if self.firewall.enable_forwarding(family)? == Forwarding::SwitchedOn {
                self.wanted().insert(Element::Closed(family));
            }
        }
        self.wanted().extend(rules.elements());
        self.firewall.add_network(&rules)
    }

    /// Whether what is none of ours is not forwarded, since it was us who made the host do that.
    fn closes(&self, family: IpFamily) -> bool {
        self.wanted().contains(&Element::Closed(family))
    }

    /// Forgets a network.
    pub(super) fn remove_network(&self, bridge: &InterfaceName) -> Result<(), tare_netns::Error> {
        self.wanted().retain(|element| bridge_of(element) != Some(bridge));
        self.firewall.remove_network(bridge)
    }

    /// Does what a container asks for.
    pub(super) fn admit(&self, rules: &ContainerRules) -> Result<(), tare_netns::Error> {
        self.wanted().extend(rules.elements().into_iter().chain(guards(rules)));
        self.firewall.admit(rules)
    }

    /// Leads to the container also what is under way.
    pub(super) fn take_over(&self, rules: &ContainerRules) -> Result<(), tare_netns::Error> {
        self.firewall.take_over(rules)
    }

    /// Takes that back, but for what it asks for still. The connections of its addresses stay known.
    pub(super) fn withdraw(
        &self,
        rules: &ContainerRules,
        still: &ContainerRules,
    ) -> Result<(), tare_netns::Error> {
        let still: BTreeSet<Element> = still.elements().into_iter().collect();
        let mut elements = rules.elements();
        elements.retain(|element| !still.contains(element));
        self.wanted().retain(|element| !elements.contains(element));
        self.firewall.remove_elements(&elements)
    }

    /// Brings the table to what these containers want, and networks whose bridges are there, and
    /// nothing else; where the host forwards because of us, it goes on being no router. What was found
    /// in it says nothing: somebody may have taken it away while there was no daemon.
    pub(super) fn settle(
        &self,
        containers: &[ContainerRules],
        networks: &[NetworkRules],
        closed: &[IpFamily],
    ) -> Result<(), tare_netns::Error> {
        let found = self.firewall.elements()?;
        let wanted: BTreeSet<Element> = containers
            .iter()
            .flat_map(|rules| rules.elements().into_iter().chain(guards(rules)))
            .chain(networks.iter().flat_map(NetworkRules::elements))
            .chain(closed.iter().copied().map(Element::Closed))
            .collect();
        let stray = |element: &&Element| match element {
            Element::Closed(_) => false,
            // Goes with its network.
            Element::Localnet(bridge) => !networks.iter().any(|network| network.bridge == *bridge),
            other => !wanted.contains(other),
        };
        let strays: Vec<Element> = found.iter().filter(stray).cloned().collect();
        self.firewall.remove_elements(&strays)?;
        let missing: Vec<Element> =
            wanted.iter().filter(|element| !found.contains(element)).cloned().collect();
        self.firewall.add_elements(&missing)?;
        let kept = found.into_iter().filter(|element| !strays.contains(element));
        *self.wanted() = wanted.into_iter().chain(kept).collect();
        Ok(())
    }

    /// Deletes the table.
    pub(super) fn delete(&self) -> Result<(), tare_netns::Error> {
        self.firewall.delete_table()
    }

    fn restore(&self) -> Result<(), tare_netns::Error> {
        let wanted: Vec<Element> = self.wanted().iter().cloned().collect();
        self.firewall.restore(&wanted)
    }

    fn wanted(&self) -> MutexGuard<'_, BTreeSet<Element>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the host forwards packets of that family; where that cannot be known, nothing is new.
fn is_forwarding(family: IpFamily) -> bool {
    tare_netns::is_forwarding(family).unwrap_or(true)
}

/// Whether the host has to forward packets of that family for a network.
fn forwards(network: &Network, family: IpFamily) -> bool {
    network.reach() != Reach::Internal && network.has(family)
}

/// Where everybody can change the table: puts back what others took away, as long as it is used.
async fn keep(watcher: Watcher, rules: Weak<Rules>) {
    let what = ("watch the firewall table", watcher);
    // At once: until then nothing is translated.
    if let Err(error) = follow(what, None, &rules, put_back).await {
        tracing::error!("the firewall table is not watched any more: {}", error.chain());
    }
}

async fn put_back(rules: Arc<Rules>) {
    tracing::warn!("somebody changed the firewall table of containers: it is put back");
    let restored = tokio::task::spawn_blocking(move || rules.restore()).await;
    if let Ok(Err(error)) = restored {
        tracing::error!("the firewall table cannot be put back: {error}");
    }
}

/// What keeps the host's own loopback from the bridges of these ports: [`Firewall::admit`] adds it, and it
/// stays as long as the network does.
fn guards(rules: &ContainerRules) -> impl Iterator<Item = Element> {
    rules.localnets().into_iter().map(Element::Localnet)
}

/// The network an element is about.
fn bridge_of(element: &Element) -> Option<&InterfaceName> {
    match element {
        Element::Network(bridge)
        | Element::Internal(bridge)
        | Element::Isolated(bridge)
        | Element::Within(bridge)
        | Element::Localnet(bridge) => Some(bridge),
        _ => None,
    }
}
