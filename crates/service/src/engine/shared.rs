//! Networks that are not a container's own: that of another container, or one that somebody made and
//! that is known by a path.
//!
//! Whoever shares a network with another container shares it with all who do, and with the one at
//! the end of the chain, whose it is. That one cannot be removed before them, and runs before they
//! do; `hosts` and `resolv.conf` of all of them say the same.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

use tare_runtime::ContainerId;
use tare_spawn::LiveFile;
use tare_specgen::{
    AbsolutePath, BoundFile, ContainerRef, DomainName, NamespaceKind, NetworkMode, Placement,
    Request,
};

use super::blocking::brief;
use super::container::{Container, Life, Running};
use super::jobs::Job;
use super::records::durable::NamespacePin;
use super::start::StartedBy;
use super::view::State;
use super::{Engine, Error, Inner};

/// Where `ip netns` keeps namespaces by their names.
const NAMESPACES: [&str; 2] = ["/run/netns", "/var/run/netns"];
/// A file of resolvers larger than this, in bytes, is none.
const MAX_RESOLV_CONF: u64 = 64 << 10;

/// Who shares namespaces of whom, by the container that they name.
#[derive(Debug, Default)]
pub(super) struct Sharers(RwLock<BTreeMap<ContainerId, BTreeSet<Sharer>>>);

/// A container, and what it shares.
type Sharer = (ContainerId, NamespaceKind);

impl Sharers {
    /// A container shares namespaces of those its request names.
    pub(super) fn join(&self, id: &ContainerId, request: &Request) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (kind, other) in named(request) {
            all.entry(other).or_default().insert((id.clone(), kind));
        }
    }

    /// A container is gone.
    pub(super) fn leave(&self, id: &ContainerId, request: &Request) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (kind, other) in named(request) {
            let Entry::Occupied(mut sharers) = all.entry(other) else { continue };
            sharers.get_mut().remove(&(id.clone(), kind));
            if sharers.get().is_empty() {
                sharers.remove();
            }
        }
    }

    /// Those who name this container, each once.
    pub(super) fn of(&self, id: &ContainerId) -> BTreeSet<ContainerId> {
        self.which_of(id, |_| true)
    }

    fn which_of(
        &self,
        id: &ContainerId,
        fits: impl Fn(NamespaceKind) -> bool,
    ) -> BTreeSet<ContainerId> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let sharers = all.get(id).into_iter().flatten();
        sharers.filter(|(_, kind)| fits(*kind)).map(|(id, _)| id.clone()).collect()
    }

    /// Those who name this container for its network, and those who name them.
    fn all_of(&self, id: &ContainerId) -> BTreeSet<ContainerId> {
        let network = |id: &ContainerId| self.which_of(id, |kind| kind == NamespaceKind::Network);
        let mut found = BTreeSet::new();
        let mut next: Vec<_> = network(id).into_iter().collect();
        while let Some(id) = next.pop() {
            next.extend(network(&id));
            found.insert(id);
        }
        found
    }
}

/// The containers whose namespaces are shared, as the request names them.
fn named(request: &Request) -> impl Iterator<Item = (NamespaceKind, ContainerId)> {
    let parse = |(kind, id): (_, &ContainerRef)| Some((kind, id.as_str().parse().ok()?));
    request.shares().filter_map(parse)
}

/// What a request names by a path of the host is what was there when it was made.
pub(super) fn pin(mode: &NetworkMode) -> Result<Option<NamespacePin>, Error> {
    let NetworkMode::Path(path) = mode else { return Ok(None) };
    identity(Path::new(path.as_str())).map(Some).map_err(|error| match error {
        tare_netns::Error::Enter { source } => {
            Error::Host { what: "look at a network namespace", source }
        }
        _ => Error::NoNamespace { kind: NamespaceKind::Network, path: path.clone() },
    })
}

/// What a namespace is, whatever leads to it.
fn identity(path: &Path) -> Result<NamespacePin, tare_netns::Error> {
    let namespace = tare_netns::open_namespace_at(path)?;
    let failed = |source: io::Error| tare_netns::Error::Enter { source };
    let stat = rustix::fs::fstat(&namespace.fd).map_err(|errno| failed(errno.into()))?;
    let cookie = tare_netns::namespace_cookie(namespace.fd.as_fd())?;
    Ok(NamespacePin { device: stat.st_dev, inode: stat.st_ino, cookie })
}

/// The network namespace a process is in.
fn of_process(running: &Running) -> Result<NamespacePin, tare_netns::Error> {
    // It is held by its descriptor: while it lives, nobody else has its number.
    identity(Path::new(&format!("/proc/{}/ns/net", running.pid)))
}

/// Where somebody may have written down the resolvers of a namespace that they made; see ip-netns(8).
pub(super) fn resolv_conf_of(mode: &NetworkMode) -> Option<PathBuf> {
    let NetworkMode::Path(path) = mode else { return None };
    let path = Path::new(path.as_str());
    let name = NAMESPACES.iter().find_map(|directory| path.strip_prefix(directory).ok())?;
    Some(Path::new("/etc/netns").join(name).join("resolv.conf"))
}

/// What they have written.
pub(super) fn read_resolv_conf(file: &Path) -> Option<String> {
    let is_small = file.metadata().is_ok_and(|it| it.is_file() && it.len() <= MAX_RESOLV_CONF);
    is_small.then(|| std::fs::read_to_string(file).ok()).flatten()
}

impl Inner {
    /// Whose network it is that a container shares, if it shares one; see [`Self::owner_of`].
    pub(super) fn network_owner(&self, request: &Request) -> Result<Option<Arc<Container>>, Error> {
        self.owner_of(NamespaceKind::Network, request)
    }

    /// An error if other containers share namespaces of this one.
    pub(super) fn check_unshared(&self, container: &Container) -> Result<(), Error> {
        let sharers = self.sharers.of(&container.id).into_iter();
        let names: Vec<String> = sharers
            .filter_map(|id| self.containers.get(&id))
            .map(|it| format!("'{}'", it.name()))
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        Err(Error::NamespacesShared { name: container.name(), by: names.join(", ") })
    }

    /// An error if the network that a container is to be in, which is not its own, is not there, or
    /// is not what it was.
    pub(super) fn check_foreign_network(&self, container: &Container) -> Result<(), Error> {
        let definition = container.definition();
        let now = pin(&definition.row.request.network_mode)?;
        let is_as_it_was = match (now, definition.row.connections.namespace) {
            (Some(now), Some(then)) => now.is(then),
            (now, then) => now == then,
        };
        if !is_as_it_was {
            return Err(Error::NamespaceChanged(container.name()));
        }
        self.shared_namespace(container).map(drop)
    }

    /// An error if the process of a container is not in the network it was made for: whoever looked
    /// at the path before saw something else.
    pub(super) fn check_joined(
        &self,
        container: &Container,
        running: &Running,
    ) -> Result<(), Error> {
        let wanted = match self.shared_namespace(container)? {
            Some(path) => identity(Path::new(path.as_str())).ok(),
            None => container.definition().row.connections.namespace,
        };
        match wanted {
            Some(wanted) if !of_process(running).is_ok_and(|its| its.is(wanted)) => {
                Err(Error::NamespaceChanged(container.name()))
            }
            _ => Ok(()),
        }
    }

    /// Where the namespace is that a container shares with another, which runs.
    fn shared_namespace(&self, container: &Container) -> Result<Option<AbsolutePath>, Error> {
        let Some(owner) = self.network_owner(&container.definition().row.request)? else {
            return Ok(None);
        };
        let record = owner.record().ok_or_else(|| Error::NotRunning(owner.name()))?;
        let network = record.network.as_ref().ok_or(Error::NoOwnNetwork)?;
        super::host::path(&network.namespace.path()).map(Some)
    }

    /// Whether a container that runs is still in the network of the one it shares that with: that may
    /// have been started anew, and then it has another one.
    pub(super) fn is_with_owner(&self, container: &Container, running: &Running) -> bool {
        match self.shared_namespace(container) {
            Ok(None) => true,
            Ok(Some(path)) => {
                let owner = identity(Path::new(path.as_str())).ok();
                owner.is_some_and(|owner| of_process(running).is_ok_and(|its| its.is(owner)))
            }
            Err(_) => false,
        }
    }

    /// Finds the addresses that a container has with the one whose network it shares; they are seen
    /// when it is shown. Reads files.
    pub(super) fn borrow_addresses(&self, container: &Container, running: &Running) {
        let Ok(Some(owner)) = self.network_owner(&container.definition().row.request) else {
            return;
        };
        let is_there = self.is_with_owner(container, running);
        container.borrow(if is_there { owner.view().addresses.clone() } else { Vec::new() });
    }

    /// Says in which network a container is to be, if that is not its own, and who is in its own.
    pub(super) fn place_network(
        &self,
        container: &Container,
        placement: &mut Placement,
    ) -> Result<(), Error> {
        if let Some(path) = self.shared_namespace(container)? {
            placement.joined.insert(NamespaceKind::Network, path);
        }
        let file = resolv_conf_of(&container.definition().row.request.network_mode);
        placement.netns_resolv_conf = file.and_then(|file| read_resolv_conf(&file));
        placement.joined_names = self.names_of_sharers(container);
        Ok(())
    }

    fn names_of_sharers(&self, container: &Container) -> Vec<DomainName> {
        let lives = |it: &Arc<Container>| !matches!(it.state(), State::Configured | State::Exited);
        let sharers = self.sharers.all_of(&container.id).into_iter();
        let sharers = sharers.filter_map(|id| self.containers.get(&id)).filter(lives);
        sharers.filter_map(|sharer| sharer.name().as_str().parse().ok()).collect()
    }

    /// Gives a container that shares a network the files of the one whose that is.
    pub(super) fn share_files(
        &self,
        request: &Request,
        files: &mut [BoundFile],
    ) -> Result<(), Error> {
        let Some(owner) = self.network_owner(request)? else { return Ok(()) };
        let (shared, _) = self.files_now(&owner)?;
        for file in files {
            if let Some(same) = shared.iter().find(|it| it.name == file.name) {
                file.content.clone_from(&same.content);
            }
        }
        Ok(())
    }
}

impl Engine {
    /// Starts the containers whose namespaces another one shares, those that do not run.
    pub(super) fn start_owners<'a>(
        &'a self,
        container: &'a Container,
        job: &'a Job,
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>> {
        Box::pin(async move {
            let definition = container.definition();
            let request = &definition.row.request;
            // A circle is seen before anything is begun.
            request.shares().try_for_each(|(kind, _)| self.owner_of(kind, request).map(drop))?;
            for id in request.shares_with() {
                self.start_owner(&*self.referred(id)?, job).await?;
            }
            Ok(())
        })
    }

    async fn start_owner(&self, other: &Container, job: &Job) -> Result<(), Error> {
        if other.running().is_some() && other.state() != State::Created {
            return Ok(());
        }
        match self.start_container(&other.view(), job, StartedBy::Somebody).await {
            // Somebody else has done it.
            Err(Error::InvalidState { .. }) if other.running().is_some() => Ok(()),
            started => started,
        }
    }

    /// Shows which addresses a container that runs has with another; with its lock held.
    pub(super) async fn show_borrowed(&self, container: &Arc<Container>, life: &Life) {
        let mode = &container.definition().row.request.network_mode;
        let shares = matches!(mode, NetworkMode::Container(_));
        let Some(running) = life.running().filter(|_| shares) else { return };
        let (engine, its, running) = (self.clone(), container.clone(), running.clone());
        let find = move || {
            engine.borrow_addresses(&its, &running);
            Ok::<_, Error>(())
        };
        // What panics there is said, and shows nothing.
        let _ = brief(find).await;
        container.show(life);
    }

    /// All who are in one network with a container learn what has changed about it; not waited for.
    pub(super) fn refresh_sharers(&self, container: &Container) {
        let owner = self.network_owner(&container.definition().row.request).ok().flatten();
        let owner = owner.map_or_else(|| container.id.clone(), |owner| owner.id.clone());
        let mut others = self.sharers.all_of(&owner);
        others.insert(owner);
        others.remove(&container.id);
        if others.is_empty() {
            return;
        }
        let engine = self.clone();
        tokio::spawn(async move {
            for other in others.into_iter().filter_map(|id| engine.containers.get(&id)) {
                if let Ok(life) = other.lock().await {
                    engine.show_borrowed(&other, &life).await;
                    engine.refresh_files(&other, &life, &LiveFile::ALL).await;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sharing(id: &ContainerId) -> Request {
        let mut request = Request::default();
        request.network_mode = NetworkMode::Container(id.as_str().parse().unwrap());
        request
    }

    #[test]
    fn who_shares_with_whom_is_known_along_the_chain() {
        let [a, b, c] = [(); 3].map(|()| ContainerId::random().unwrap());
        let sharers = Sharers::default();
        sharers.join(&a, &Request::default());
        sharers.join(&b, &sharing(&a));
        sharers.join(&c, &sharing(&b));
        assert_eq!(sharers.of(&a), [b.clone()].into());
        assert_eq!(sharers.all_of(&a), [b.clone(), c.clone()].into());
        let mut processes = Request::default();
        processes.share(NamespaceKind::Pid, c.as_str().parse().unwrap());
        sharers.join(&a, &processes);
        assert_eq!(sharers.of(&c), [a.clone()].into());
        assert_eq!(sharers.all_of(&c), BTreeSet::new(), "not their network");
        sharers.leave(&a, &processes);
        sharers.leave(&b, &sharing(&a));
        assert_eq!(sharers.all_of(&a), BTreeSet::new());
        sharers.leave(&c, &sharing(&b));
        assert!(sharers.0.read().unwrap().is_empty(), "nothing stays");
    }

    #[test]
    fn resolvers_are_written_down_for_namespaces_with_a_name() {
        for (mode, want) in [
            ("ns:/run/netns/mine", Some("/etc/netns/mine/resolv.conf")),
            ("ns:/var/run/netns/mine", Some("/etc/netns/mine/resolv.conf")),
            ("ns:/run/other/mine", None),
            ("private", None),
            ("host", None),
        ] {
            let got = resolv_conf_of(&mode.parse().unwrap());
            assert_eq!(got.as_deref(), want.map(Path::new), "{mode}");
        }
    }

    #[test]
    fn a_namespace_is_one_and_no_other_file() {
        let path = |text: &str| NetworkMode::Path(text.parse().unwrap());
        assert_eq!(pin(&NetworkMode::Private).unwrap(), None);
        let own = pin(&path("/proc/self/ns/net")).unwrap().unwrap();
        assert_eq!(identity(Path::new("/proc/self/ns/net")).unwrap(), own);
        for other in ["/proc/self/ns/mnt", "/dev/null", "/nowhere"] {
            let refused = pin(&path(other)).unwrap_err();
            assert!(matches!(refused, Error::NoNamespace { .. }), "{other}: {refused:?}");
        }
    }
}
