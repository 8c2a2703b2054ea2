//! Taking away what nothing has: left by a create, remove, import or trial that was cut off, or by
//! a run directory that was emptied.
//!
//! Only at the start of the daemon, when nothing is being made; only what bears this daemon's
//! names. What cannot be taken away is said, and stays.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::Path;

use tare_netns::Wanted;
use tare_runtime::ContainerId;
use tare_spawn::OciRuntime;

use super::blocking::brief;
use super::records::{durable, volatile};
use super::start::file_name;
use super::{Engine, Error, key};
use crate::effects;

impl Engine {
    /// Sweeps everything.
    pub(super) async fn sweep(&self) {
        self.sweep_state().await;
        let rows = self.state.run(durable::container_ids).await;
        let recorded = self.run.run(volatile::containers).await;
        match rows.and_then(|rows| Ok(rows.into_iter().chain(recorded?).collect())) {
            Ok(known) => self.sweep_host(known).await,
            Err(error) => tracing::error!("the host is not swept: {error}"),
        }
        self.network.sweep(&self.run).await;
    }

    /// Directories, layers, blobs and logs that no row has.
    async fn sweep_state(&self) {
        let known = self
            .state
            .run(|c| Ok((durable::container_ids(c)?, durable::layers(c)?, durable::image_ids(c)?)));
        let (containers, layers, images) = match known.await {
            Ok(known) => known,
            Err(error) => return tracing::error!("the state is not swept: {error}"),
        };
        let (store, logs) = (self.store.clone(), self.instance.logs_dir());
        let work = move || {
            let keys: HashSet<_> = containers.iter().map(key).collect();
            for stray in store.containers().map_err(Error::Storage)? {
                if !keys.contains(&stray) {
                    tell("a directory", store.remove_container(&stray));
                }
            }
            for stray in store.layers().map_err(Error::Storage)? {
                if !layers.contains(&stray) {
                    tell("a layer", store.remove_layer(&stray));
                }
            }
            for stray in store.blobs().map_err(Error::Storage)? {
                if !images.contains(&stray) {
                    tell("a blob", store.remove_blob(&stray));
                }
            }
            let known: HashSet<_> = containers.into_iter().collect();
            for stray in strays(&logs, &known) {
                tell("a log", effects::remove_file(&logs.join(stray.as_str())));
            }
            Ok(())
        };
        said(brief(work).await);
    }

    /// Control groups, namespaces, bundles and runtime state that no container has. What a container
    /// has that is not recorded may live: it is left alone, and the container does not start.
    async fn sweep_host(&self, known: HashSet<ContainerId>) {
        let (spawner, tag) = (self.spawner.clone(), self.tag.clone());
        let run = self.instance.run_dir().to_path_buf();
        let group = self
            .host
            .cgroups()
            .cgroup2_mount
            .as_ref()
            .map(|mount| mount.join(tag.cgroup_root().trim_start_matches('/')));
        let work = move || {
            for stray in group.iter().flat_map(|group| strays(group, &known)) {
                if let Ok(path) = format!("{}/{stray}", tag.cgroup_root()).parse() {
                    tell("a control group", spawner.cleanup_cgroup(&path));
                }
            }
            let ours: HashSet<_> = known.iter().map(|id| tag.namespace(id)).collect();
            for namespace in namespaces(&tag.namespace_prefix()) {
                if !ours.contains(&namespace) {
                    let stray = Wanted { namespace, attachments: Vec::new() };
                    tell("a network namespace", tare_netns::teardown(&stray));
                }
            }
            let oci = |runtime: OciRuntime| run.join("oci").join(runtime.as_str());
            for dir in [run.join("containers"), oci(OciRuntime::Crun), oci(OciRuntime::Runc)] {
                for stray in strays(&dir, &known) {
                    tell("a directory", remove(&dir, &stray));
                }
            }
            Ok(())
        };
        said(brief(work).await);
    }
}

/// The containers a directory has an entry for, and that are not known.
fn strays(dir: &Path, known: &HashSet<ContainerId>) -> Vec<ContainerId> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let id = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    entries.filter_map(id).filter(|id| !known.contains(id)).collect()
}

/// The namespaces a daemon of that prefix can have made: twelve digits follow, and no more, so
/// that none of a daemon with a tag is among them.
fn namespaces(prefix: &str) -> Vec<tare_netns::NamespaceName> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let ours = |name: &str| {
        let digits = name.strip_prefix(prefix)?;
        let digits = digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        digits.then(|| name.parse().ok()).flatten()
    };
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
