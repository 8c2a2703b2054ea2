//! firewalld: our bridges are in its zone `trusted`, or it would reject what containers send.
//!
//! It forgets that when it is started anew. So it is told again whenever it comes, or has read its
//! settings again.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::timeout;
use zbus::fdo::DBusProxy;
use zbus::{Connection, proxy};

use crate::bus::Bus;
use crate::effects;
use crate::engine::Zones;
use crate::engine::scope::Answer;

/// Its name on the bus.
const NAME: &str = "org.fedoraproject.FirewallD1";
/// The zone that lets everything through.
const TRUSTED: &str = "trusted";
/// How long it may take to be reached, and to change a zone: it is a slow program.
const PATIENCE: Duration = Duration::from_secs(10);

#[proxy(
    interface = "org.fedoraproject.FirewallD1",
    default_service = "org.fedoraproject.FirewallD1",
    default_path = "/org/fedoraproject/FirewallD1"
)]
trait Main {
    #[zbus(signal)]
    fn reloaded(&self) -> zbus::Result<()>;
}

#[proxy(
    interface = "org.fedoraproject.FirewallD1.zone",
    default_service = "org.fedoraproject.FirewallD1",
    default_path = "/org/fedoraproject/FirewallD1"
)]
trait Zone {
    #[zbus(name = "getZoneOfInterface", no_autostart)]
    fn zone_of(&self, interface: &str) -> zbus::Result<String>;

    #[zbus(name = "addInterface", no_autostart)]
    fn add(&self, zone: &str, interface: &str) -> zbus::Result<String>;

    #[zbus(name = "removeInterface", no_autostart)]
    fn remove(&self, zone: &str, interface: &str) -> zbus::Result<String>;
}

/// firewalld, whether or not it is there at the moment.
#[derive(Debug)]
pub struct Firewalld(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bus: DBusProxy<'static>,
    zones: ZoneProxy<'static>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// It is there, and its rules are for our network namespace.
    is_there: bool,
    /// The bridges that are to be let through, and whether they are.
    bridges: BTreeMap<String, bool>,
}

impl Known {
    /// Notes whether a bridge is let through; returns whether it is still to be.
    fn note(&mut self, bridge: &str, is_through: bool) -> bool {
        self.bridges.get_mut(bridge).map(|through| *through = is_through).is_some()
    }
}

impl Firewalld {
    /// Whoever has the name on the system bus, now or later; nothing where there is no such bus.
    pub async fn find() -> Option<Self> {
        match timeout(PATIENCE, Self::reach()).await {
            Ok(Ok(found)) => Some(found),
            Ok(Err(error)) => {
                tracing::debug!("no system bus: {error}");
                None
            }
            Err(_) => {
                tracing::warn!("the system bus does not answer: firewalld is not looked for");
                None
            }
        }
    }

    async fn reach() -> zbus::Result<Self> {
        let connection: Connection = Bus::System.builder(None).build().await?;
        let bus = DBusProxy::new(&connection).await?;
        let zones = ZoneProxy::new(&connection).await?;
        let shared = Arc::new(Shared { bus, zones, known: Mutex::default() });
        let comings = shared.bus.receive_name_owner_changed_with_args(&[(0, NAME)]).await?;
        let reloads = MainProxy::new(&connection).await?.receive_reloaded().await?;
        shared.meet().await;
        let news = futures_util::stream::select(comings.map(drop), reloads.map(drop));
        tokio::spawn(follow(Arc::downgrade(&shared), Box::pin(news)));
        Ok(Self(shared))
    }
}

/// Each time it comes, goes, or has read its settings again.
async fn follow(
    shared: std::sync::Weak<Shared>,
    mut news: impl futures_util::Stream<Item = ()> + Unpin,
) {
    while news.next().await.is_some() {
        let Some(shared) = shared.upgrade() else { return };
        shared.meet().await;
        let bridges: Vec<String> = shared.known().bridges.keys().cloned().collect();
        for bridge in bridges {
            shared.put(&bridge).await;
        }
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds out whether it is there, for us.
    async fn meet(&self) {
        let is_there = match NAME.try_into() {
            Ok(name) => match self.bus.get_connection_unix_process_id(name).await {
                Ok(pid) => is_beside_us(pid).unwrap_or(false),
                Err(_) => false,
            },
            Err(_) => false,
        };
        self.known().is_there = is_there;
    }

    /// Whether there is anybody to be told of a bridge, and it is to be let through.
    fn is_wanted(&self, bridge: &str) -> bool {
        let known = self.known();
        known.is_there && known.bridges.contains_key(bridge)
    }

    /// Has a bridge let through, if it is there; and remembers whether it is. One that is forgotten
    /// meanwhile is taken out again.
    async fn put(&self, bridge: &str) {
        if !self.is_wanted(bridge) {
            return;
        }
        let ask = async { timeout(PATIENCE, self.add(bridge)).await?.map_err(io::Error::other) };
        let what = format!("put {bridge} into the zone {TRUSTED}");
        let done = effects::ask_manager(what, ask).await;
        if let Err(error) = &done {
            tracing::warn!("firewalld may reject what containers on {bridge} send: {error}");
        }
        let is_wanted = self.known().note(bridge, done.is_ok());
        if !is_wanted {
            self.take(bridge).await;
        }
    }

    /// One that somebody has put into a zone is where it should be.
    async fn add(&self, bridge: &str) -> zbus::Result<()> {
        let zone = self.zones.zone_of(bridge).await?;
        if zone.is_empty() {
            self.zones.add(TRUSTED, bridge).await?;
        } else if zone != TRUSTED {
            tracing::info!("{bridge} is in the zone {zone} of firewalld, and stays there");
        }
        Ok(())
    }

    async fn take(&self, bridge: &str) {
        let ask = async {
            let removed = timeout(PATIENCE, self.zones.remove(TRUSTED, bridge)).await?;
            removed.map(drop).map_err(io::Error::other)
        };
        let what = format!("take {bridge} out of the zone {TRUSTED}");
        // It was in another zone, or was taken out already.
        if let Err(error) = effects::ask_manager(what, ask).await {
            tracing::info!("{bridge} is not taken out of a zone of firewalld: {error}");
        }
    }
}

impl Zones for Firewalld {
    fn trust<'a>(&'a self, bridge: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            self.0.known().bridges.insert(bridge.to_owned(), false);
            self.0.put(bridge).await;
        })
    }

    fn forget<'a>(&'a self, bridge: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            // Also one of which it is not known: what came too late to be heard of may have been done.
            let was_wanted = self.0.is_wanted(bridge);
            self.0.known().bridges.remove(bridge);
            if was_wanted {
                self.0.take(bridge).await;
            }
        })
    }

    fn lets_all_through(&self) -> bool {
        let known = self.0.known();
        !known.is_there || known.bridges.values().all(|through| *through)
    }
}

/// Whether a process changes the rules of our network namespace.
fn is_beside_us(pid: u32) -> io::Result<bool> {
    let namespace = |whose: &str| {
        let file = std::fs::metadata(format!("/proc/{whose}/ns/net"))?;
        io::Result::Ok((file.dev(), file.ino()))
    };
    Ok(namespace(&pid.to_string())? == namespace("self")?)
}
