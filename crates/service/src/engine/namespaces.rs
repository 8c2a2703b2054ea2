//! Namespaces that are not a container's own, of all kinds: those of other containers, and those that
//! somebody made and that are known by a path. What more there is to a network is in `shared`.
//!
//! The runtime opens them by the paths in the configuration, so what it has opened is looked at
//! afterwards: the container does not run if its process is in another namespace than it was made for.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use tare_runtime::cgroup;
use tare_specgen::{
    AbsolutePath, ContainerRef, Hostname, NamespaceKind, NetworkMode, Placement, Request,
    TimeOffsets, owner_of_shared,
};

use super::container::{Container, Running};
use super::records::durable::NamespacePin;
use super::{Error, Inner, host, sys};
use crate::authority::Caller;
use crate::instance::Instance;

/// File system of the files in `/proc/<pid>/ns`; see `linux/magic.h`.
const NSFS: i64 = 0x6e73_6673;

/// Where the memory is that a container shares with others.
pub(super) struct Memory {
    /// A process in whose mount namespace it is.
    pub(super) view: Arc<OwnedFd>,
    /// Where it is mounted there.
    pub(super) place: PathBuf,
}

/// An error if somebody but root names namespaces by paths: those are opened by the service.
pub(super) fn check_caller(by: &Caller, request: &Request) -> Result<(), Error> {
    match request.namespace_paths().next() {
        Some((kind, _)) if by.uid != 0 => Err(Error::PathsOfOthers(option(kind))),
        _ => Ok(()),
    }
}

/// What a request names by paths of the host is what was there when it was made.
pub(super) fn pin(request: &Request) -> Result<BTreeMap<NamespaceKind, NamespacePin>, Error> {
    let others = request.namespace_paths().filter(|(kind, _)| *kind != NamespaceKind::Network);
    others.map(|(kind, path)| Ok((kind, at_path(kind, path)?))).collect()
}

/// Whether it is in namespaces that are neither its own nor the host's, but for the network.
pub(super) fn are_foreign(request: &Request) -> bool {
    let shared = request.shares().map(|(kind, _)| kind);
    let mut all = shared.chain(request.namespace_paths().map(|(kind, _)| kind));
    all.any(|kind| kind != NamespaceKind::Network)
}

/// The option that says it.
fn option(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Pid => "PIDMode",
        NamespaceKind::Ipc => "IPCMode",
        NamespaceKind::Uts => "UTSMode",
        NamespaceKind::Cgroup => "CgroupMode",
        NamespaceKind::Network => "NetworkMode",
        NamespaceKind::User => "UserNamespace",
        NamespaceKind::Mount => "MountMode",
        _ => "TimeMode",
    }
}

/// Its file in `/proc/<pid>/ns`.
fn file_of(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Pid => "pid",
        NamespaceKind::Ipc => "ipc",
        NamespaceKind::Uts => "uts",
        NamespaceKind::Cgroup => "cgroup",
        NamespaceKind::Network => "net",
        NamespaceKind::User => "user",
        NamespaceKind::Mount => "mnt",
        _ => "time",
    }
}

fn path_of(pid: u32, kind: NamespaceKind) -> PathBuf {
    format!("/proc/{pid}/ns/{}", file_of(kind)).into()
}

fn at_path(kind: NamespaceKind, path: &AbsolutePath) -> Result<NamespacePin, Error> {
    let found = identity(Path::new(path.as_str()), kind);
    let failed = |source| Error::Host { what: "look at a namespace", source };
    found.map_err(failed)?.ok_or_else(|| Error::NoNamespace { kind, path: path.clone() })
}

/// What a namespace is, whatever leads to it; nothing if there is none of that kind.
fn identity(path: &Path, kind: NamespaceKind) -> io::Result<Option<NamespacePin>> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let Ok(place) = rustix::fs::open(path, flags, Mode::empty()) else { return Ok(None) };
    // What is no namespace is not opened: a FIFO would wait, and a device do who knows what.
    if rustix::fs::fstatfs(&place)?.f_type != NSFS {
        return Ok(None);
    }
    let again = format!("/proc/self/fd/{}", sys::number(place.as_fd()));
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = rustix::fs::open(again, flags, Mode::empty())?;
    if sys::namespace_kind(namespace.as_fd())? != clone_flag(kind) {
        return Ok(None);
    }
    let stat = rustix::fs::fstat(&namespace)?;
    let cookie = sys::namespace_number(namespace.as_fd());
    Ok(Some(NamespacePin { device: stat.st_dev, inode: stat.st_ino, cookie }))
}

/// As clone(2) calls it.
fn clone_flag(kind: NamespaceKind) -> u32 {
    use rustix::thread::UnshareFlags as Flag;
    let flag = match kind {
        NamespaceKind::Pid => Flag::NEWPID,
        NamespaceKind::Ipc => Flag::NEWIPC,
        NamespaceKind::Uts => Flag::NEWUTS,
        NamespaceKind::Cgroup => Flag::NEWCGROUP,
        NamespaceKind::Network => Flag::NEWNET,
        NamespaceKind::User => Flag::NEWUSER,
        NamespaceKind::Mount => Flag::NEWNS,
        _ => Flag::NEWTIME,
    };
    flag.bits()
}

/// The namespace that a process of a container is in, or nothing if the process has ended.
fn of_process(running: &Running, kind: NamespaceKind) -> Option<NamespacePin> {
    let found = identity(&path_of(running.pid, kind), kind).ok().flatten();
    // If it has not ended by now, that was its own and not that of a later process.
    found.filter(|_| !running.init.has_ended())
}

impl Inner {
    /// Has a request share namespaces of the containers of those names; returns those, and whose the
    /// namespaces are.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchContainer`], [`Error::AmbiguousName`], [`Error::NothingToShare`].
    pub(super) fn join_namespaces(
        &self,
        request: &mut Request,
        joins: &[(NamespaceKind, String)],
    ) -> Result<Vec<Arc<Container>>, Error> {
        let mut others: Vec<Arc<Container>> = Vec::new();
        for (kind, name) in joins {
            let other = self.containers.find(name)?;
            let id: ContainerRef = other
                .id
                .as_str()
                .parse()
                .map_err(|error| Error::Bug(format!("the id of a container: {error}")))?;
            request.share(*kind, id);
            others.push(other);
            // Whose it is may be somebody else, who has allowed that the other one shares it.
            others.extend(self.owner_of(*kind, request)?);
        }
        others.sort_by(|one, other| one.id.cmp(&other.id));
        others.dedup_by(|one, other| one.id == other.id);
        Ok(others)
    }

    /// Whose namespace of a kind it is that a container shares, if it shares one.
    ///
    /// # Errors
    ///
    /// [`Error::NothingToShare`] if that has none of its own, [`Error::InvalidSpec`] where nobody
    /// has one.
    pub(super) fn owner_of(
        &self,
        kind: NamespaceKind,
        request: &Request,
    ) -> Result<Option<Arc<Container>>, Error> {
        let named = |request: &Request| {
            request.shares().find(|(its, _)| *its == kind).map(|(_, id)| id.clone())
        };
        let Some(first) = named(request) else { return Ok(None) };
        let next = |id: &ContainerRef| {
            self.referred(id).ok().and_then(|other| named(&other.definition().row.request))
        };
        let owner = owner_of_shared(&first, next).map_err(Error::InvalidSpec)?;
        let owner = self.referred(&owner)?;
        if owner.definition().row.request.has_own(kind) {
            Ok(Some(owner))
        } else {
            Err(Error::NothingToShare { name: owner.name(), kind })
        }
    }

    pub(super) fn referred(&self, id: &ContainerRef) -> Result<Arc<Container>, Error> {
        let found = id.as_str().parse().ok().and_then(|id| self.containers.get(&id));
        found.ok_or_else(|| Error::NoSuchContainer(id.to_string()))
    }

    /// An error if a container whose namespaces are to be shared is not there any more.
    pub(super) fn check_owners(&self, request: &Request) -> Result<(), Error> {
        request.shares().try_for_each(|(kind, _)| self.owner_of(kind, request).map(drop))
    }

    /// The containers at the ends of the chains: whose namespaces a container is in, but for the
    /// network.
    fn owners(&self, request: &Request) -> Result<Vec<(NamespaceKind, Arc<Container>)>, Error> {
        // There is none to be shared: see `tare_specgen`.
        let useless = self.host.cgroups().kind == cgroup::Kind::Legacy;
        let counts = |kind| match kind {
            NamespaceKind::Network => false,
            NamespaceKind::Cgroup => !useless,
            _ => true,
        };
        let kinds = request.shares().map(|(kind, _)| kind).filter(|kind| counts(*kind));
        let owners = kinds.map(|kind| Ok(self.owner_of(kind, request)?.map(|it| (kind, it))));
        owners.filter_map(Result::transpose).collect()
    }

    /// An error if a namespace that a container is to be in is not there, or is not what it was.
    pub(super) fn check_foreign_namespaces(&self, container: &Container) -> Result<(), Error> {
        let definition = container.definition();
        for (kind, path) in definition.row.request.namespace_paths() {
            let Some(then) = definition.row.pins.namespaces.get(&kind) else { continue };
            if !at_path(kind, path)?.is(*then) {
                return Err(Error::OtherNamespace { name: container.name(), kind });
            }
        }
        self.owners(&definition.row.request)?
            .iter()
            .try_for_each(|(kind, owner)| shared_now(owner, *kind).map(drop))
    }

    /// An error if the process of a container is not in the namespaces it was made for.
    pub(super) fn check_in_namespaces(
        &self,
        container: &Container,
        running: &Running,
    ) -> Result<(), Error> {
        let definition = container.definition();
        check_clocks(container, running, definition.row.request.time_offsets)?;
        let is_in = |kind, wanted: NamespacePin| {
            if of_process(running, kind).is_some_and(|its| its.is(wanted)) {
                Ok(())
            } else {
                Err(Error::OtherNamespace { name: container.name(), kind })
            }
        };
        for (kind, wanted) in &definition.row.pins.namespaces {
            is_in(*kind, *wanted)?;
        }
        for (kind, owner) in self.owners(&definition.row.request)? {
            is_in(kind, shared_now(&owner, kind)?.1)?;
        }
        Ok(())
    }

    /// Says in which namespaces a container is to be that are other containers'.
    pub(super) fn place_namespaces(
        &self,
        container: &Container,
        placement: &mut Placement,
    ) -> Result<(), Error> {
        for (kind, owner) in self.owners(&container.definition().row.request)? {
            let (running, _) = shared_now(&owner, kind)?;
            placement.joined.insert(kind, host::path(&path_of(running.pid, kind))?);
        }
        Ok(())
    }

    /// The same for one that is only shown: of those that do not run it is not known where they will be.
    pub(super) fn show_namespaces(
        &self,
        request: &Request,
        placement: &mut Placement,
    ) -> Result<(), Error> {
        for (kind, owner) in self.owners(request)? {
            let pid = owner.running().map_or(0, |running| running.pid);
            placement.joined.insert(kind, host::path(&path_of(pid, kind))?);
        }
        placement.joined_hostname = self.joined_hostname(request)?;
        Ok(())
    }

    /// What a container goes by that shares the UTS namespace of another, also when that one is gone.
    pub(super) fn joined_hostname(&self, request: &Request) -> Result<Option<Hostname>, Error> {
        let owner = self.owner_of(NamespaceKind::Uts, request)?;
        owner.map(|owner| self.hostname_of(&owner)).transpose()
    }

    /// What a container goes by in a UTS namespace of its own.
    fn hostname_of(&self, owner: &Container) -> Result<Hostname, Error> {
        let definition = owner.definition();
        let request = &definition.row.request;
        let shared = || match request.network_mode {
            NetworkMode::Host => self.host.facts().hostname,
            _ => None,
        };
        let known = request.hostname.clone().or_else(shared);
        known.map_or_else(|| host::default_hostname(&owner.id), Ok)
    }

    /// Whose `/dev/shm` a container has, if that is not its own: it belongs to the IPC namespace.
    pub(super) fn memory_owner(&self, container: &Container) -> Result<Option<Memory>, Error> {
        let owner = self.owner_of(NamespaceKind::Ipc, &container.definition().row.request)?;
        let Some(owner) = owner else { return Ok(None) };
        let (running, _) = shared_now(&owner, NamespaceKind::Ipc)?;
        own_memory(&self.instance, &owner, &running).map(Some)
    }
}

/// What was mounted for a container to have as `/dev/shm`; as long as its conmon lives, nobody else's.
pub(super) fn own_memory(
    instance: &Instance,
    container: &Container,
    running: &Running,
) -> Result<Memory, Error> {
    let view = running.supervisor(&container.name())?.pidfd();
    let place = running.layout(instance.run_dir()).shm();
    Ok(Memory { view, place })
}

/// An error if its clocks are not ahead by what was asked for: a runtime may know the namespace, and
/// take no notice of the offsets.
fn check_clocks(
    container: &Container,
    running: &Running,
    wanted: TimeOffsets,
) -> Result<(), Error> {
    if wanted == TimeOffsets::default() {
        return Ok(());
    }
    let told = std::fs::read_to_string(format!("/proc/{}/timens_offsets", running.pid));
    if told.is_ok_and(|told| offsets(&told) == Some(wanted)) || running.init.has_ended() {
        return Ok(());
    }
    Err(Error::ClocksNotSet(container.name()))
}

/// What `/proc/<pid>/timens_offsets` says; see `time_namespaces(7)`.
fn offsets(told: &str) -> Option<TimeOffsets> {
    let seconds = |clock: &str| {
        let mut words = told.lines().map(str::split_whitespace);
        let mut line = words.find_map(|mut line| (line.next()? == clock).then_some(line))?;
        line.next()?.parse().ok()
    };
    let mut offsets = TimeOffsets::default();
    offsets.monotonic = seconds("monotonic")?;
    offsets.boottime = seconds("boottime")?;
    Some(offsets)
}

/// A container that runs, and the namespace of it that others share.
///
/// # Errors
///
/// [`Error::NotRunning`], and [`Error::NothingToShare`] where its configuration was patched so that it
/// is in the service's own, which is the host's.
fn shared_now(
    owner: &Container,
    kind: NamespaceKind,
) -> Result<(Arc<Running>, NamespacePin), Error> {
    let running = owner.running().ok_or_else(|| Error::NotRunning(owner.name()))?;
    let found = of_process(&running, kind).ok_or_else(|| Error::NotRunning(owner.name()))?;
    let own = identity(Path::new(&format!("/proc/self/ns/{}", file_of(kind))), kind);
    if own.ok().flatten().is_none_or(|own| found.is(own)) {
        return Err(Error::NothingToShare { name: owner.name(), kind });
    }
    Ok((running, found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Interactive;

    #[test]
    fn a_namespace_is_one_of_its_kind_and_no_other_file() {
        for (kind, file) in [
            (NamespaceKind::Pid, "pid"),
            (NamespaceKind::Ipc, "ipc"),
            (NamespaceKind::Uts, "uts"),
            (NamespaceKind::Cgroup, "cgroup"),
            (NamespaceKind::User, "user"),
        ] {
            let path: AbsolutePath = format!("/proc/self/ns/{file}").parse().unwrap();
            let found = at_path(kind, &path).unwrap();
            assert!(found.is(identity(&path_of(std::process::id(), kind), kind).unwrap().unwrap()));
            for other in ["/proc/self/ns/mnt", "/dev/null", "/proc/self/status", "/nowhere", "/"] {
                let refused = at_path(kind, &other.parse().unwrap()).unwrap_err();
                assert!(matches!(refused, Error::NoNamespace { .. }), "{other}: {refused:?}");
            }
        }
    }

    #[test]
    fn what_the_kernel_says_of_clocks_is_read() {
        let told = "monotonic          -3         0\nboottime     86400         0\n";
        let read = offsets(told).unwrap();
        assert_eq!((read.monotonic, read.boottime), (-3, 86_400));
        for told in ["", "monotonic 1 0\n", "monotonic\nboottime 1 0\n", "boottime x\n"] {
            assert_eq!(offsets(told), None, "{told:?}");
        }
    }

    #[test]
    fn paths_are_for_root() {
        let caller = |uid| Caller { uid, bus_name: ":1.7".into(), interactive: Interactive::No };
        let mut request = Request::default();
        check_caller(&caller(1000), &request).unwrap();
        request.namespaces.ipc = "ns:/proc/1/ns/ipc".parse().unwrap();
        check_caller(&caller(0), &request).unwrap();
        let refused = check_caller(&caller(1000), &request).unwrap_err();
        assert!(matches!(refused, Error::PathsOfOthers("IPCMode")), "{refused:?}");
        let mut request = Request::default();
        request.network_mode = "ns:/run/netns/x".parse().unwrap();
        let refused = check_caller(&caller(1000), &request).unwrap_err();
        assert!(matches!(refused, Error::PathsOfOthers("NetworkMode")), "{refused:?}");
    }
}
