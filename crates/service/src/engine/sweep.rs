//! Taking away what nothing has: left by a create, remove, import or trial that was cut off, or by
//! a run directory that was emptied.
//!
//! Only at the start of the daemon, when nothing is being made; only what bears this daemon's
//! names. What cannot be taken away is said, and stays.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use tare_netns::Wanted;
use tare_runtime::ContainerId;
use tare_spawn::{CgroupPath, OciRuntime, Spawner, TERMINAL_SOCKETS};

use super::blocking::brief;
use super::bundle::file_name;
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

    /// Control groups, namespaces, bundles and runtime state that no container has. What a container
    /// has that is not recorded may live: it is left alone, and the container does not start.
    async fn sweep_host(&self, known: HashSet<ContainerId>) {
        let (spawner, tag) = (self.spawner.clone(), self.tag.clone());
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
            let ours: HashSet<_> = known.iter().map(|id| tag.namespace(id)).collect();
            for namespace in namespaces(&tag) {
                if !ours.contains(&namespace) {
                    let stray = Wanted { namespace, attachments: Vec::new() };
                    tell("a network namespace", tare_netns::teardown(&stray));
                }
            }
            let dirs = run_dirs(&run);
            let strays: HashSet<_> = dirs.iter().flat_map(|dir| strays(dir, &known)).collect();
            for stray in strays {
                tell(
                    "what was left of a container",
                    clear(
                        spawner.as_ref(),
                        (&groups, &groups.all_of(&stray, None)),
                        &tag,
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
        let (tag, id) = (self.tag.clone(), id.clone());
        let dirs = run_dirs(self.instance.run_dir());
        let known = self.containers.get(&id);
        let parent = known.and_then(|known| known.definition().row.request.cgroup_parent.clone());
        let all = groups.all_of(&id, parent.as_ref());
        brief(move || clear(spawner.as_ref(), (&groups, &all), &tag, &dirs, &id)).await
    }
}

/// Where each container that runs has a directory: bundles, and the state of the runtimes.
fn run_dirs(run: &Path) -> Vec<PathBuf> {
    let oci = |runtime: OciRuntime| run.join("oci").join(runtime.as_str());
    vec![run.join("containers"), oci(OciRuntime::Crun), oci(OciRuntime::Runc)]
}

fn clear(
    spawner: &dyn Spawner,
    (groups, all): (&Groups, &[CgroupPath]),
    tag: &Tag,
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

/// The namespaces that this daemon can have made.
fn namespaces(tag: &Tag) -> Vec<tare_netns::NamespaceName> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let ours = |name: &str| tag.is_namespace(name).then(|| name.parse().ok()).flatten();
    entries.filter_map(|entry| ours(entry.file_name().to_str()?)).collect()
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
