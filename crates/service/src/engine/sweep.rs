//! Taking away what nothing has: left by a create, remove, import or trial that was cut off, or by
//! a run directory that was emptied.
//!
//! Only at the start of the daemon, when nothing is being made; only what bears this daemon's
//! names. What cannot be taken away is said, and stays.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use tare_netns::{InterfaceName, Wanted};
use tare_runtime::ContainerId;
use tare_spawn::{CgroupPath, OciRuntime, Spawner, TERMINAL_SOCKETS};

use super::blocking::brief;
use super::bundle::file_name;
use super::network::owner_of;
use super::records::durable;
use super::records::volatile::{self, Incarnation};
use super::scope::Groups;
use super::{Engine, Error, key};
use crate::effects;
use crate::instance::Tag;

impl Engine {
    /// Sweeps everything.
    pub(super) async fn sweep(&self) {
        self.sweep_state().await;
        self.sweep_volumes().await;
        self.sweep_checkpoints().await;
        let rows = self.state.run(durable::container_ids).await;
        let recorded = self.run.run(volatile::keys::<Incarnation>).await;
        match rows.and_then(|rows| Ok(rows.into_iter().chain(recorded?).collect())) {
            Ok(known) => self.sweep_host(known).await,
            Err(error) => tracing::error!("the host is not swept: {error}"),
        }
        match self.run.run(volatile::all::<Incarnation>).await {
            Ok(found) if found.iter().all(Result::is_ok) => {
                let records = found.into_iter().flatten().filter_map(|record| record.network);
                self.networks.sweep(records.collect()).await;
            }
            // What one of them has in the firewall cannot be told from what nobody has.
            Ok(_) => tracing::warn!("the firewall is not swept: a record cannot be read"),
            Err(error) => tracing::error!("the firewall is not swept: {error}"),
        }
    }

    /// Directories and logs that no container has, layers and blobs that no image has.
    async fn sweep_state(&self) {
        let containers = match self.state.run(durable::container_ids).await.map_err(Error::from) {
            Ok(known) => known,
            Err(error) => return tracing::error!("the state is not swept: {}", error.chain()),
        };
        let (store, logs) = (self.store.clone(), self.instance.logs_dir());
        let work = move || {
            let keys: HashSet<_> = containers.iter().map(key).collect();
            for stray in store.containers().map_err(Error::Storage)? {
                if !keys.contains(&stray) {
                    tell("a directory", store.remove_container(&stray));
                }
            }
            let known: HashSet<_> = containers.into_iter().collect();
            for stray in strays(&logs, &known) {
                tell("a log", effects::remove_file(&logs.join(stray.as_str())));
            }
            Ok(())
        };
        said(brief(work).await);
        said(self.collect_garbage().await.map(drop));
    }

    /// Control groups, namespaces, interfaces, bundles and runtime state that no container has. What a
    /// container has that is not recorded may live: it is left alone, and the container does not start.
    async fn sweep_host(&self, known: HashSet<ContainerId>) {
        let (spawner, tag, bridges) =
            (self.spawner.clone(), self.tag.clone(), self.networks.bridges());
        let run = self.instance.run_dir().to_path_buf();
        let (groups, cgroup2) = (self.groups.clone(), self.host.cgroups().cgroup2_mount.clone());
        let work = move || {
            for stray in cgroup2.iter().flat_map(|cgroup2| groups.strays(cgroup2, &known)) {
                tell("a control group", spawner.cleanup_cgroup(&stray, groups.extent(&stray)));
            }
            // Whoever was to get a terminal there is not there any more.
            for stray in entries(&run).filter(|name| name.starts_with(TERMINAL_SOCKETS)) {
                let stray = run.join(stray);
                if stray.is_dir() {
                    tell("a directory", effects::remove_dir(&stray));
                } else {
                    tell("a socket", effects::remove_file(&stray));
                }
            }
            if let Err(error) = sweep_networks(&tag, &bridges, &known) {
                tracing::warn!("namespaces and interfaces are not swept: {error}");
            }
            let dirs = run_dirs(&run);
            let strays: HashSet<_> = dirs.iter().flat_map(|dir| strays(dir, &known)).collect();
            for stray in strays {
                tell(
                    "what was left of a container",
                    clear(
                        spawner.as_ref(),
                        (&groups, &groups.all_of(&stray, None)),
                        (&tag, &bridges),
                        &dirs,
                        &stray,
                    ),
                );
            }
            Ok(())
        };
        said(brief(work).await);
    }

    /// Takes away all that bears the name of a container that does not live.
    pub(super) async fn clear_host(&self, id: &ContainerId) -> Result<(), Error> {
        let (spawner, groups) = (self.spawner.clone(), self.groups.clone());
        let (tag, bridges, id) = (self.tag.clone(), self.networks.bridges(), id.clone());
        let dirs = run_dirs(self.instance.run_dir());
        let known = self.containers.get(&id);
        let parent = known.and_then(|known| known.definition().row.request.cgroup_parent.clone());
        let all = groups.all_of(&id, parent.as_ref());
        let work = move || clear(spawner.as_ref(), (&groups, &all), (&tag, &bridges), &dirs, &id);
        brief(work).await
    }
}

/// Namespaces, and the host's ends of veth pairs, that no container has. Whoever has opened a
/// namespace keeps it without its name, and with it the other end.
fn sweep_networks(
    tag: &Tag,
    bridges: &[InterfaceName],
    known: &HashSet<ContainerId>,
) -> Result<(), tare_netns::Error> {
    let ours: HashSet<_> = known.iter().map(|id| tag.namespace(id)).collect();
    for namespace in tare_netns::namespaces()? {
        if tag.is_namespace(namespace.as_str()) && !ours.contains(&namespace) {
            let stray = Wanted { namespace, attachments: Vec::new() };
            tell("a network namespace", tare_netns::teardown(&stray));
        }
    }
    // Another daemon may have a bridge of that name, too: all its containers have namespaces.
    let left = tare_netns::namespaces()?;
    let in_use = left.iter().filter_map(|name| Some(name.as_str().rsplit_once('-')?.1));
    let known: HashSet<_> = in_use.chain(known.iter().map(ContainerId::short)).collect();
    for stray in veths(bridges, |owner| !known.contains(owner))? {
        tell("an interface", tare_netns::remove_veth(&stray));
    }
    Ok(())
}

/// Where each container that runs has a directory: bundles, and the state of the runtimes.
fn run_dirs(run: &Path) -> Vec<PathBuf> {
    let oci = |runtime: OciRuntime| run.join("oci").join(runtime.as_str());
    vec![run.join("containers"), oci(OciRuntime::Crun), oci(OciRuntime::Runc)]
}

fn clear(
    spawner: &dyn Spawner,
    (groups, all): (&Groups, &[CgroupPath]),
    (tag, bridges): (&Tag, &[InterfaceName]),
    dirs: &[PathBuf],
    id: &ContainerId,
) -> Result<(), Error> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Host {
        what: "take away what was left of a container",
        source: std::io::Error::other(source),
    };
    for group in all {
        spawner
            .cleanup_cgroup(group, groups.extent(group))
            .map_err(|error| failed(error.into()))?;
    }
    let namespace = Wanted { namespace: tag.namespace(id), attachments: Vec::new() };
    tare_netns::teardown(&namespace).map_err(|error| failed(error.into()))?;
    let interfaces = veths(bridges, |owner| owner == id.short());
    for interface in interfaces.map_err(|error| failed(error.into()))? {
        tare_netns::remove_veth(&interface).map_err(|error| failed(error.into()))?;
    }
    dirs.iter().filter(|dir| dir.is_dir()).try_for_each(|dir| remove(dir, id))
}

/// The names of what is in a directory.
fn entries(dir: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// The containers a directory has an entry for, and that are not known.
fn strays(dir: &Path, known: &HashSet<ContainerId>) -> Vec<ContainerId> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let id = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    entries.filter_map(id).filter(|id| !known.contains(id)).collect()
}

/// The host's ends of veth pairs of some containers, told by the first digits of their ids.
fn veths(
    bridges: &[InterfaceName],
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Vec<InterfaceName>, tare_netns::Error> {
    let mut found = Vec::new();
    for bridge in bridges {
        let ports = tare_netns::veths_on(bridge)?.into_iter();
        found.extend(ports.filter(|port| owner_of(port).is_some_and(&is_wanted)));
    }
    Ok(found)
}

fn remove(dir: &Path, id: &ContainerId) -> Result<(), Error> {
    let failed = |source| Error::Host { what: "open a directory", source };
    let dir = std::fs::File::open(dir).map_err(failed)?;
    let name = file_name(id.as_str())?;
    tare_storage::remove_tree(dir.as_fd(), &name).map_err(Error::Storage).map(drop)
}

fn tell<T, E: std::fmt::Display>(what: &str, removed: Result<T, E>) {
    match removed {
        Ok(_) => tracing::info!("took away {what} that nothing has"),
        Err(error) => tracing::warn!("cannot take away {what} that nothing has: {error}"),
    }
}

fn said(swept: Result<(), Error>) {
    if let Err(error) = swept {
        tracing::error!("sweeping ended early: {}", error.chain());
    }
}
