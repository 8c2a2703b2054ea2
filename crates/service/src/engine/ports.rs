//! The ports of the host that lead to a container that runs: nobody else gets them while it does.
//!
//! They lie on a [`Shelf`], whose descriptors the container's conmon keeps: so they are held as long
//! as it lives, whatever becomes of this daemon. The next one finds them there.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use tare_netns::{HeldPort, Publication, Shelf};
use tare_spawn::FIRST_KEPT;

use super::proxy::Proxies;
use super::watched::Watched;

/// What holds the ports of one container.
#[derive(Debug, Default)]
pub(super) struct Ports {
    held: Vec<HeldPort>,
    /// What conmon keeps; nothing for a container without a network of its own, and for one that an
    /// older daemon or `tare-spawn` has started.
    shelf: Option<Shelf>,
    proxies: Proxies,
}

impl Ports {
    /// Of a container that is being started.
    pub(super) fn of_start(held: Vec<HeldPort>) -> Self {
        let shelf = Shelf::new().and_then(|shelf| shelf.put(&held).map(|()| shelf));
        let shelf = shelf.inspect_err(|error| {
            tracing::warn!("ports are held by the daemon alone: {error}");
        });
        Self { held, shelf: shelf.ok(), proxies: Proxies::default() }
    }

    /// Those that the conmon of a container keeps, which runs since before this daemon.
    pub(super) fn of_conmon(conmon: Option<&Watched>) -> Self {
        let shelf = conmon.and_then(shelf_of);
        let held = match shelf.as_ref().map(Shelf::ports) {
            Some(Ok(held)) => held,
            Some(Err(error)) => {
                tracing::warn!("ports that are held cannot be looked at: {error}");
                Vec::new()
            }
            None => Vec::new(),
        };
        Self { held, shelf, proxies: Proxies::default() }
    }

    /// What conmon is to keep.
    pub(super) fn for_conmon(&self) -> std::io::Result<Vec<OwnedFd>> {
        let descriptors = self.shelf.iter().flat_map(Shelf::descriptors);
        descriptors.map(|fd| fd.try_clone_to_owned()).collect()
    }

    /// What holds them.
    pub(super) fn held(&self) -> &[HeldPort] {
        &self.held
    }

    /// From now on these are held, too.
    pub(super) fn add(&mut self, ports: Vec<HeldPort>) {
        if let Some(Err(error)) = self.shelf.as_ref().map(|shelf| shelf.put(&ports)) {
            tracing::warn!("ports are held by the daemon alone: {error}");
        }
        self.held.extend(ports);
    }

    /// From now on no others are held.
    pub(super) async fn retain(&mut self, keep: impl Fn(&HeldPort) -> bool) {
        if let Some(Err(error)) = self.shelf.as_ref().map(|shelf| shelf.retain(&keep)) {
            tracing::warn!("ports stay taken until the container ends: {error}");
        }
        self.held.retain(keep);
        self.proxies.retain(&self.held).await;
    }

    /// None is held any more when this returns: somebody else may have them at once.
    pub(super) async fn let_go(&mut self) {
        self.held.clear();
        self.shelf = None;
        self.proxies.let_go().await;
    }

    /// Nothing of what listens among them leads to these addresses any more, when this returns: they may be
    /// another's then.
    pub(super) async fn leave(&mut self, addresses: &[IpAddr]) {
        self.proxies.leave(addresses).await;
    }

    /// What listens among them leads to where they are published to.
    pub(super) fn lead(&mut self, publications: &[Publication]) {
        self.proxies.lead(&self.held, publications);
    }
}

/// What was given to it when it was started, if anything was.
fn shelf_of(conmon: &Watched) -> Option<Shelf> {
    let pidfd = conmon.pidfd();
    let kept = |number| pidfd_getfd(pidfd.as_fd(), number, PidfdGetfdFlags::empty()).ok();
    Shelf::open(kept(FIRST_KEPT)?, kept(FIRST_KEPT + 1)?)
}
