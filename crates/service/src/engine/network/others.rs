//! Firewalls of others: an accept of ours is not final in their chains. Those that keep zones are told of
//! our bridges, Docker has a chain for us, and the others are looked at, so that it is said why containers
//! get nowhere.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tare_netns::{ForeignChain, ForeignWatcher, InterfaceName, IpFamily, TableName, UplinkWatcher};

use super::watching::follow;
use crate::engine::Error;
use crate::engine::blocking::brief;
use crate::engine::events::{Event, Events};
use crate::engine::scope::Answer;
use crate::engine::sys::Watches;

/// A look costs less than a start, and starts come many at a time.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a look waits after a change: who changes rules changes many of them.
const REST: Duration = Duration::from_millis(500);
/// The table of firewalld: none of its chains has a policy, and all that is not in a zone that lets it
/// through is rejected.
const FIREWALLD: &str = "firewalld";

/// A firewall of the host that lets an interface through if it is in a zone for that.
pub trait Zones: Send + Sync + fmt::Debug {
    /// From now on what containers behind a bridge send is let through, also when that firewall
    /// begins anew. Returns when it is, if that firewall is there. What fails is said.
    fn trust<'a>(&'a self, bridge: &'a str) -> Answer<'a, ()>;

    /// Takes that back.
    fn forget<'a>(&'a self, bridge: &'a str) -> Answer<'a, ()>;

    /// Whether all that was to be let through is.
    fn lets_all_through(&self) -> bool;
}

/// What is known of firewalls of others.
#[derive(Debug)]
pub(super) struct Others {
    ours: TableName,
    zones: Option<Arc<dyn Zones>>,
    events: Events,
    /// Held while they are let pass, so that none is that is forgotten: for threads that may wait.
    bridges: Mutex<BTreeSet<InterfaceName>>,
    blocks: AtomicBool,
    looked: Mutex<Option<Instant>>,
    /// Held while they are looked at.
    looking: Mutex<()>,
}

impl Others {
    pub(super) fn new(ours: TableName, zones: Option<Arc<dyn Zones>>, events: Events) -> Arc<Self> {
        Arc::new(Self {
            ours,
            zones,
            events,
            bridges: Mutex::default(),
            blocks: AtomicBool::new(false),
            looked: Mutex::default(),
            looking: Mutex::default(),
        })
    }

    /// Looks now, and again whenever somebody else has changed rules, or the host's way out is another, for
    /// as long as this is there.
    pub(super) fn watch(self: &Arc<Self>) {
        self.look_by("the rules of others", ForeignWatcher::new(&self.ours));
        self.look_by("the host's ways out", UplinkWatcher::new());
        // What changes while it is looked for the first time is told.
        self.look();
    }

    fn look_by<W: Watches + Send + Sync + 'static>(
        self: &Arc<Self>,
        what: &'static str,
        watcher: Result<W, tare_netns::Error>,
    ) {
        match watcher {
            Ok(watcher) => drop(tokio::spawn(keep((what, watcher), Arc::downgrade(self)))),
            Err(error) => tracing::warn!("{what} are not watched: {error}"),
        }
    }

    /// A bridge of ours is there.
    pub(super) async fn trust(self: &Arc<Self>, bridge: &InterfaceName) {
        let (this, added) = (self.clone(), bridge.clone());
        let _ = brief(move || Ok(this.bridges().insert(added))).await;
        if let Some(zones) = &self.zones {
            zones.trust(bridge.as_str()).await;
        }
        self.look();
    }

    /// It is no more.
    pub(super) async fn forget(self: &Arc<Self>, bridge: &InterfaceName) {
        if let Some(zones) = &self.zones {
            zones.forget(bridge.as_str()).await;
        }
        let (this, gone) = (self.clone(), bridge.clone());
        let leave = move || {
            this.bridges().remove(&gone);
            for family in [IpFamily::V4, IpFamily::V6] {
                if let Err(error) = tare_netns::leave_user_chain(family, &gone) {
                    tracing::warn!("a rule for {gone} stays in Docker's chain: {error}");
                }
            }
            Ok::<_, Error>(())
        };
        let _ = brief(leave).await;
    }

    fn bridges(&self) -> MutexGuard<'_, BTreeSet<InterfaceName>> {
        self.bridges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether containers may not reach what they should.
    pub(super) fn block(&self) -> bool {
        let zoned = self.zones.as_ref().is_none_or(|zones| zones.lets_all_through());
        !zoned || self.blocks.load(Ordering::Relaxed)
    }

    /// Looks again, if that was not done just now; not waited for.
    pub(super) fn look_now_and_then(self: &Arc<Self>) {
        let looked = *self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.is_none_or(|at| at.elapsed() > AGAIN) {
            self.look();
        }
    }

    fn look(self: &Arc<Self>) {
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            // What was seen last is what counts.
            let _alone = this.looking.lock().unwrap_or_else(PoisonError::into_inner);
            match tare_netns::foreign_forward_chains(&this.ours) {
                Ok(chains) => this.judge(&chains, legacy(tare_netns::legacy_iptables_drops)),
                Err(error) => tracing::warn!("the rules of others cannot be looked at: {error}"),
            }
        });
    }

    fn judge(&self, chains: &[ForeignChain], legacy: Vec<IpFamily>) {
        let blocking: Vec<String> = chains
            .iter()
            .filter(|chain| self.may_block(chain) && !self.is_passed(chain))
            .map(named)
            .chain(legacy.into_iter().map(named_legacy))
            .collect();
        let before = self.blocks.swap(!blocking.is_empty(), Ordering::Relaxed);
        // Once, not at every look.
        if !before && !blocking.is_empty() {
            let list = blocking.join(", ");
            tracing::warn!("containers may reach nobody, and nobody them: look at {list}");
        }
        self.events.tell(Event::Tainted);
    }

    /// Lets our bridges pass where the chain is Docker's. What fails is said.
    fn is_passed(&self, chain: &ForeignChain) -> bool {
        let Some(family) = chain.passable else { return false };
        self.bridges().iter().all(|bridge| match tare_netns::pass_user_chain(family, bridge) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!("Docker's firewall is in the way of {bridge}: {error}");
                false
            }
        })
    }

    fn may_block(&self, chain: &ForeignChain) -> bool {
        chain.drops || (chain.table == FIREWALLD && self.zones.is_none())
    }
}

async fn keep<W: Watches>((what, watcher): (&'static str, W), others: Weak<Others>) {
    let look = async |others: Arc<Others>| others.look();
    if let Err(error) =
        follow(("watch the host's firewall", watcher), Some(REST), &others, look).await
    {
        tracing::warn!("{what} are not watched any more: {}", error.chain());
    }
}

/// The families of which the old `iptables` drops. One that cannot be looked at hides nothing else.
fn legacy(drops: impl Fn(IpFamily) -> Result<bool, tare_netns::Error>) -> Vec<IpFamily> {
    let known = |family: &IpFamily| {
        drops(*family).unwrap_or_else(|error| {
            tracing::warn!("the rules of others cannot be looked at: {error}");
            false
        })
    };
    [IpFamily::V4, IpFamily::V6].into_iter().filter(known).collect()
}

/// As the program is asked for it.
fn named_legacy(family: IpFamily) -> String {
    let program = match family {
        IpFamily::V4 => "iptables-legacy",
        IpFamily::V6 => "ip6tables-legacy",
    };
    format!("chain FORWARD of {program}")
}

/// As nft(8) is asked for it.
fn named(chain: &ForeignChain) -> String {
    format!("chain {} {} {}", chain.family, chain.table, chain.chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_looked_at_hides_nothing_else() {
        let of = |unknown: IpFamily| {
            legacy(|family| {
                if family != unknown {
                    return Ok(true);
                }
                let source = std::io::ErrorKind::PermissionDenied.into();
                Err(tare_netns::Error::ReadLegacy { family, source })
            })
        };
        assert_eq!(of(IpFamily::V4), [IpFamily::V6]);
        assert_eq!(of(IpFamily::V6), [IpFamily::V4]);
    }
}
