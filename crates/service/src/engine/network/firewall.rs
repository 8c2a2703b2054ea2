//! The firewall table of this daemon.

use std::sync::{Arc, Weak};
use std::time::Duration;

use rusqlite::Connection;
use tare_netns::{IpFamily, KeptFirewall, Network, Watcher};
use tokio::sync::OnceCell;

use super::watching::follow;
use crate::db::Db;
use crate::engine::Error;
use crate::engine::blocking::brief;
use crate::engine::records;
use crate::instance::Tag;

/// Key of the note that there is a firewall table of ours.
const TABLE: &str = "firewall-table";
const FAMILIES: [IpFamily; 2] = [IpFamily::V4, IpFamily::V6];
/// A table that cannot be put back is tried again after this long, and then less and less often.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

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
    opened: OnceCell<Arc<KeptFirewall>>,
}

impl HostFirewall {
    pub(super) fn new(run: Db, tag: Tag) -> Self {
        Self { run, tag, opened: OnceCell::new() }
    }

    /// The table; it is made if it is not there.
    pub(super) async fn open(&self) -> Result<Arc<KeptFirewall>, tare_netns::Error> {
        self.opened.get_or_try_init(|| self.first_use()).await.cloned()
    }

    /// The table, if it has been made in this boot.
    ///
    /// # Errors
    ///
    /// If that cannot be read; that it cannot be opened is inside.
    pub(super) async fn open_if_made(
        &self,
    ) -> Result<Option<Result<Arc<KeptFirewall>, tare_netns::Error>>, Error> {
        match self.run.run(|c| records::meta(c, TABLE)).await? {
            Some(_) => Ok(Some(self.open().await)),
            None => Ok(None),
        }
    }

    /// Notes that the host is no router and will forward packets all the same, before a network makes
    /// it do so: nobody could tell that from the host afterwards, if somebody took the table away. For
    /// [`keep_notes`](Self::keep_notes), which families were noted.
    pub(super) async fn note_forwarding(&self, network: &Network) -> Result<Vec<IpFamily>, Error> {
        let forwarded = FAMILIES.into_iter().filter(|family| network.is_forwarded(*family));
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
        if noted.is_empty() {
            return;
        }
        let ours = self.opened.get().cloned();
        let is_ours = move |family| ours.as_ref().is_some_and(|rules| rules.closes(family));
        // Whoever changes the table may have to be waited for.
        let stale = move || Ok(noted.into_iter().filter(|family| !is_ours(*family)).collect());
        if let Ok(stale) = brief(stale).await {
            self.forget_notes(stale).await;
        }
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
    async fn first_use(&self) -> Result<Arc<KeptFirewall>, tare_netns::Error> {
        if let Err(error) = self.run.run(|c| records::set_meta(c, TABLE, "made")).await {
            tracing::warn!("the firewall table may stay: {error}");
        }
        let table = self.tag.table();
        let open = tokio::task::spawn_blocking(move || {
            let rules = KeptFirewall::open(&table)?;
            let watcher = rules.watch()?;
            Ok::<_, tare_netns::Error>((Arc::new(rules), watcher))
        });
        let open = open.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let (rules, watcher) = open?;
        if let Some(watcher) = watcher {
            tokio::spawn(keep(watcher, Arc::downgrade(&rules)));
        }
        Ok(rules)
    }
}

/// Whether the host forwards packets of that family; where that cannot be known, nothing is new.
fn is_forwarding(family: IpFamily) -> bool {
    tare_netns::is_forwarding(family).unwrap_or(true)
}

/// Where everybody can change the table: puts back what others took away, as long as it is used.
async fn keep(watcher: Watcher, rules: Weak<KeptFirewall>) {
    let what = ("watch the firewall table", watcher);
    // At once: until then nothing is translated.
    let put_back = |rules: Arc<KeptFirewall>| put_back(Arc::downgrade(&rules));
    if let Err(error) = follow(what, None, &rules, put_back).await {
        tracing::error!("the firewall table is not watched any more: {}", error.chain());
    }
}

/// Tries until it is, or nobody uses it any more: nothing else would begin it anew.
async fn put_back(rules: Weak<KeptFirewall>) {
    tracing::warn!("somebody changed the firewall table of containers: it is put back");
    let mut pause = FIRST_PAUSE;
    while let Some(rules) = rules.upgrade() {
        match tokio::task::spawn_blocking(move || rules.put_back()).await {
            // Once, not at every try.
            Ok(Err(error)) if pause == FIRST_PAUSE => {
                tracing::error!("the firewall table cannot be put back yet: {error}");
            }
            Ok(Err(_)) => {}
            Ok(Ok(())) | Err(_) => return,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
