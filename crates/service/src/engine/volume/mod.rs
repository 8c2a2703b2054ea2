//! Volumes: directories that outlive containers.
//!
//! Before a directory is made, and when a row is taken out, the name is written down as one of which
//! something may be there that is nobody's; so a crash leaves no directory that cannot be told from
//! somebody's data. A directory without either is left alone.

mod claim;
mod content;
mod create;
mod prune;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tare_runtime::ContainerId;
use tare_specgen::{MountSource, Request};
use tare_storage::VolumeName;

use super::blocking::brief;
use super::events::Events;
use super::object::Visible;
use super::records::durable::{self, VolumeRow};
use super::{Engine, Error, Inner, host, public_labels, view};
use crate::config::Config;
use crate::db::Db;

pub use claim::AskedVolume;
pub(super) use claim::Claim;
pub use content::{Before, ExportVolume, GetUsage, ImportVolume};
pub use create::{CreateVolume, InspectVolume, RemoveVolume};
pub(super) use source::Wanted;

/// All volumes.
#[derive(Debug)]
pub(super) struct Volumes {
    all: RwLock<BTreeMap<VolumeName, Arc<Volume>>>,
    /// Held by whoever makes or removes one, or begins to use one.
    pub(super) changing: tokio::sync::Mutex<()>,
    events: Events,
}

/// A volume.
#[derive(Debug)]
pub(super) struct Volume {
    pub(super) row: VolumeRow,
    users: Mutex<BTreeSet<ContainerId>>,
    /// Held by whoever fills it for the first time.
    filling: Mutex<()>,
    /// How many unpack archives in it: it is not removed before they have ended.
    importing: AtomicUsize,
    pub(super) seen: Visible<view::Volume>,
}

impl Volumes {
    /// All volumes as they are in the database.
    pub(super) async fn open(
        state: &Db,
        config: &Config,
        events: Events,
        host: &host::Host,
    ) -> Result<Self, Error> {
        let volumes =
            Self { all: RwLock::default(), changing: tokio::sync::Mutex::default(), events };
        for found in state.run(durable::volumes).await? {
            match found {
                Ok(row) => volumes.insert(row, config),
                Err(error) => host.taint_unreadable("a volume", &error.into()),
            }
        }
        Ok(volumes)
    }

    pub(super) fn insert(&self, row: VolumeRow, config: &Config) {
        let labels = row.definition.labels.iter();
        let view = view::Volume {
            name: row.name.clone(),
            owner_uid: row.owner_uid,
            created: row.created,
            anonymous: row.anonymous,
            size_limit: row.definition.size_limit,
            containers: Vec::new(),
            public_labels: public_labels(config, labels.map(|(k, v)| (k.as_str(), v.as_str()))),
        };
        let volume = Volume {
            seen: Visible::new(view, self.events.clone()),
            users: Mutex::default(),
            filling: Mutex::default(),
            importing: AtomicUsize::default(),
            row,
        };
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(volume.row.name.clone(), Arc::new(volume));
    }

    /// The volume of that name.
    pub(super) fn get(&self, name: &VolumeName) -> Option<Arc<Volume>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The volume of that name.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchVolume`].
    pub(super) fn find(&self, name: &str) -> Result<Arc<Volume>, Error> {
        let found = name.parse().ok().and_then(|name| self.get(&name));
        found.ok_or_else(|| Error::NoSuchVolume(super::table::shortened(name)))
    }

    pub(super) fn all(&self) -> Vec<Arc<Volume>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn take(&self, name: &VolumeName) {
        let taken = self.all.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        if let Some(volume) = taken {
            volume.seen.remove();
        }
    }

    /// A container uses its volumes from now on.
    pub(super) fn join(&self, id: &ContainerId, request: &Request) {
        self.each_of(request, |users| users.insert(id.clone()));
    }

    /// A container uses them no more.
    pub(super) fn leave(&self, id: &ContainerId, request: &Request) {
        self.each_of(request, |users| users.remove(id));
    }

    fn each_of(&self, request: &Request, change: impl Fn(&mut BTreeSet<ContainerId>) -> bool) {
        for volume in used(request).filter_map(|name| self.get(&name)) {
            let mut users = volume.users();
            change(&mut users);
            volume.seen.show(|view| view.containers = users.iter().cloned().collect());
        }
    }
}

impl Volume {
    fn users(&self) -> std::sync::MutexGuard<'_, BTreeSet<ContainerId>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The volumes that were made for the container of that request.
    pub(super) fn anonymous_of(&self, request: &Request) -> Vec<VolumeName> {
        let volumes = used(request).filter_map(|name| self.volumes.get(&name));
        volumes.filter(|volume| volume.row.anonymous).map(|it| it.row.name.clone()).collect()
    }
}

/// The volumes that a request names.
pub(super) fn used(request: &Request) -> impl Iterator<Item = VolumeName> {
    let volume = |source: &MountSource| match source {
        MountSource::Volume { name, .. } => name.as_str().parse().ok(),
        _ => None,
    };
    let names: BTreeSet<VolumeName> =
        request.mounts.iter().filter_map(|mount| volume(&mount.source)).collect();
    names.into_iter()
}

impl Inner {
    /// What is seen of all volumes.
    pub fn volumes(&self) -> Vec<Arc<view::Volume>> {
        self.volumes.all().iter().map(|volume| volume.seen.get()).collect()
    }

    /// What is seen of the volume of that name.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchVolume`].
    pub fn find_volume(&self, name: &str) -> Result<Arc<view::Volume>, Error> {
        Ok(self.volumes.find(name)?.seen.get())
    }
}

impl Engine {
    /// Removes what is there of volumes that are nobody's.
    pub(super) async fn sweep_volumes(&self) {
        match self.state.run(durable::volume_remains).await {
            Ok(names) => {
                for name in names {
                    if let Err(error) = self.remove_remains(&name).await {
                        tracing::warn!("what is left of volume '{name}' stays: {}", error.chain());
                    }
                }
            }
            Err(error) => tracing::error!("volumes are not swept: {error}"),
        }
    }
}

impl Inner {
    /// Removes the directory of a volume that has no row.
    pub(super) async fn remove_remains(&self, name: &VolumeName) -> Result<(), Error> {
        let (store, doomed) = (self.store.clone(), name.clone());
        brief(move || store.remove_volume(&doomed).map_err(Error::Storage)).await?;
        let name = name.clone();
        Ok(self.state.run(move |c| durable::forget_remains(c, &name)).await?)
    }
}
