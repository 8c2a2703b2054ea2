//! Roots of containers, mounted where the host sees them, for callers that cannot take a descriptor.
//!
//! Each user has one of a container, below a directory that nobody else can enter. It is there until each
//! who asked for it has given it back or, unless it was to be kept, left the bus; at the latest until
//! the container is removed. It is written down before it is made, and when it goes: a new daemon goes on
//! with what was promised, and takes away the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tare_runtime::ContainerId;
use tare_storage::{attach, detach, detach_now};

use super::transfer;
use crate::authority::{Ask, Authorized, Caller, Question};
use crate::effects;
use crate::engine::blocking::brief;
use crate::engine::bundle::{failed_mount, file_name};
use crate::engine::container::{Container, Life};
use crate::engine::lifecycle::Bond;
use crate::engine::records::volatile::{self, RootMount, RootMountKey};
use crate::engine::{Engine, Error, Inner, view};

/// Name of the root in the directory that is its user's.
const ROOT: &str = "root";
/// How often one user may have asked for one root.
const MOST: usize = 64;
/// How long somebody may go on using it who is about to let go of it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The root of a container, to be mounted.
#[derive(Debug)]
pub struct MountRoot {
    /// Of which.
    pub container: Arc<view::Container>,
    /// The connection that it goes with, if it is not kept.
    pub bond: Option<Bond>,
}

/// A root that a caller needs no more.
#[derive(Debug)]
pub struct UnmountRoot {
    /// Of which.
    pub container: Arc<view::Container>,
    /// The connection of the caller.
    pub bond: Bond,
}

impl Ask for MountRoot {
    fn question(&self, _: &Caller) -> Question {
        transfer(&self.container, "mount the files of")
    }
}

impl Ask for UnmountRoot {
    fn question(&self, _: &Caller) -> Question {
        transfer(&self.container, "unmount the files of")
    }
}

/// What becomes of a mount that somebody uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IfInUse {
    /// It stays, and that is an error.
    Refuse,
    /// It goes; who has something of it open keeps that.
    Unmount,
}

/// The connections that roots are mounted for, by container and user: known without the lock of any
/// container, which may be held for as long as a start takes.
#[derive(Debug, Default)]
pub(in crate::engine) struct RootHolders(Mutex<BTreeMap<(ContainerId, u32), Vec<Bond>>>);

impl RootHolders {
    fn all(&self) -> MutexGuard<'_, BTreeMap<(ContainerId, u32), Vec<Bond>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, mount: &RootMount) {
        let bonds = mount.holders.iter().flatten().cloned().collect();
        self.all().insert((mount.key.container.clone(), mount.key.uid), bonds);
    }

    fn forget(&self, key: &RootMountKey) {
        self.all().remove(&(key.container.clone(), key.uid));
    }

    fn containers_of(&self, is_one: impl Fn(&Bond) -> bool) -> BTreeSet<ContainerId> {
        let all = self.all();
        let affected = all.iter().filter(|(_, bonds)| bonds.iter().any(&is_one));
        affected.map(|((container, _), _)| container.clone()).collect()
    }
}

impl Engine {
    /// Mounts the root of a container where its caller sees it, read-only, nosuid and nodev; the path.
    ///
    /// # Errors
    ///
    /// [`Error::Mount`], [`Error::TooManyMounted`], [`Error::InvalidState`], [`Error::Changed`].
    pub async fn mount_root(&self, request: Authorized<MountRoot>) -> Result<PathBuf, Error> {
        let (MountRoot { container: asked, bond }, by) = request.into_parts();
        let container = self.container(&asked.id)?;
        let mut life = container.lock_unchanged(&asked).await?;
        container.check_listed(&life)?;
        let key = RootMountKey { container: container.id.clone(), uid: by.uid };
        let place = self.place_of(&key);
        let known = life.mounted.get(&by.uid).cloned();
        let mut mount = known.unwrap_or_else(|| RootMount::new(key));
        if mount.holders.len() >= MOST {
            return Err(Error::TooManyMounted { name: container.name(), most: MOST });
        }
        mount.holders.push(bond);
        self.put_root_mount(&mount).await?;
        if !mount.promised {
            let made = match self.make_root_mount(&container, place.clone(), by.uid).await {
                Ok(()) => {
                    mount.promised = true;
                    self.put_root_mount(&mount).await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = made {
                if !self.take_back_root_mount(&mount).await {
                    // Whoever is next begins with what is left, at the latest who removes the container.
                    (mount.promised, mount.holders) = (false, Vec::new());
                    self.keep_root_mount(&mut life, mount);
                }
                return Err(error);
            }
        }
        self.keep_root_mount(&mut life, mount);
        Ok(place.join(ROOT))
    }

    /// Gives back one root that its caller has asked for, or that was asked for to be kept.
    ///
    /// # Errors
    ///
    /// [`Error::RootNotMounted`]; [`Error::Unmount`] if somebody uses it.
    pub async fn unmount_root(&self, request: Authorized<UnmountRoot>) -> Result<(), Error> {
        let (UnmountRoot { container: asked, bond }, by) = request.into_parts();
        let container = self.container(&asked.id)?;
        let mut life = container.lock_unchanged(&asked).await?;
        let mut after = life.mounted.get(&by.uid).cloned();
        let at = after.as_ref().and_then(|mount| {
            let is =
                |wanted: Option<&Bond>| mount.holders.iter().position(|it| it.as_ref() == wanted);
            is(Some(&bond)).or_else(|| is(None))
        });
        let (Some(mount), Some(at)) = (&mut after, at) else {
            return Err(Error::RootNotMounted(container.name()));
        };
        mount.holders.remove(at);
        self.hold_less(&container, &mut life, mount.clone(), IfInUse::Refuse).await
    }

    /// A connection is gone, and needs no root any more.
    pub fn unmount_abandoned(&self, bond: &Bond) {
        let (engine, bond) = (self.clone(), bond.clone());
        tokio::spawn(async move { engine.let_go(|holder| holder.as_ref() == Some(&bond)).await });
    }

    /// All connections are gone.
    pub async fn unmount_all_abandoned(&self) {
        self.let_go(Option::is_some).await;
    }

    /// The connections that roots are mounted for.
    pub fn mounted_for(&self) -> Vec<Bond> {
        let holders = self.root_holders.all();
        holders.values().flatten().cloned().collect()
    }

    async fn let_go(&self, is_gone: impl Fn(&Option<Bond>) -> bool) {
        let is_gone = &is_gone;
        let affected = self.root_holders.containers_of(|bond| is_gone(&Some(bond.clone())));
        let containers = affected.iter().filter_map(|id| self.containers.get(id));
        // One whose start takes its time keeps nobody else's.
        let each = stream::iter(containers).for_each_concurrent(None, |container| async move {
            let Ok(mut life) = container.lock().await else { return };
            let affected = life.mounted.values().filter(|it| it.holders.iter().any(&is_gone));
            for mut mount in affected.cloned().collect::<Vec<_>>() {
                mount.holders.retain(|holder| !is_gone(holder));
                let gone = self.hold_less(&container, &mut life, mount, IfInUse::Unmount).await;
                if let Err(error) = gone {
                    tracing::warn!(container_id = %container.id, "{}", error.chain());
                }
            }
        });
        each.await;
    }

    fn keep_root_mount(&self, life: &mut Life, mount: RootMount) {
        self.root_holders.note(&mount);
        life.mounted.insert(mount.key.uid, mount);
    }

    /// Unmounts a root wherever it is mounted, for a container that is removed.
    pub(in crate::engine) async fn unmount_everywhere(
        &self,
        container: &Container,
        life: &mut Life,
    ) -> Result<(), Error> {
        for mut mount in life.mounted.values().cloned().collect::<Vec<_>>() {
            mount.holders.clear();
            self.hold_less(container, life, mount, IfInUse::Unmount).await?;
        }
        Ok(())
    }

    /// It is there for fewer from now on; for nobody, it goes.
    async fn hold_less(
        &self,
        container: &Container,
        life: &mut Life,
        mut mount: RootMount,
        if_in_use: IfInUse,
    ) -> Result<(), Error> {
        if !mount.holders.is_empty() {
            self.put_root_mount(&mount).await?;
            self.keep_root_mount(life, mount);
            return Ok(());
        }
        mount.promised = false;
        self.put_root_mount(&mount).await?;
        let key = mount.key.clone();
        match self.unmake_root_mount(&key, if_in_use).await {
            Ok(Ok(())) => {
                let forgotten = self.forget_root_mount(key.clone()).await;
                if forgotten.is_ok() {
                    life.mounted.remove(&key.uid);
                    self.root_holders.forget(&key);
                } else {
                    // Whoever is next forgets it, at the latest who removes the container.
                    self.keep_root_mount(life, mount);
                }
                forgotten
            }
            Ok(Err(source)) => {
                if let Some(before) = life.mounted.get(&key.uid) {
                    self.put_root_mount(before).await?;
                }
                Err(Error::Unmount { name: container.name(), source })
            }
            // Some of it may be gone: nobody relies on it, and whoever is next begins with what is left.
            Err(error) => {
                self.keep_root_mount(life, mount);
                Err(error)
            }
        }
    }

    /// Takes back one that nobody was promised; whether all of it is.
    async fn take_back_root_mount(&self, mount: &RootMount) -> bool {
        let taken_back = match self.unmake_root_mount(&mount.key, IfInUse::Unmount).await {
            Ok(Ok(())) => self.forget_root_mount(mount.key.clone()).await,
            Ok(Err(source)) => Err(Error::Storage(source)),
            Err(error) => Err(error),
        };
        if let Err(error) = &taken_back {
            tracing::warn!(container_id = %mount.key.container, "{}", error.chain());
        }
        taken_back.is_ok()
    }

    async fn put_root_mount(&self, mount: &RootMount) -> Result<(), Error> {
        let mount = mount.clone();
        Ok(self.run.run(move |c| volatile::put(c, &mount)).await?)
    }

    async fn forget_root_mount(&self, key: RootMountKey) -> Result<(), Error> {
        Ok(self.run.run(move |c| volatile::forget_root_mount(c, &key)).await?)
    }

    async fn make_root_mount(
        &self,
        container: &Arc<Container>,
        place: PathBuf,
        uid: u32,
    ) -> Result<(), Error> {
        let (engine, container) = (self.clone(), container.clone());
        brief(move || {
            let root = engine.root_to_read(&container)?;
            let left = |source| Error::Unmount { name: container.name(), source };
            unmount(&place, IfInUse::Unmount)?.map_err(left)?;
            let _alone = engine.mounting.lock().unwrap_or_else(PoisonError::into_inner);
            let dir = make_place(&engine.instance.mounts_dir(), &place, uid)
                .map_err(|source| Error::Host { what: "make a place for a root", source })?;
            let attached = attach(root.as_fd(), dir.as_fd(), &file_name(ROOT)?);
            attached.map_err(|source| failed_mount(&container.name(), source))
        })
        .await
    }

    /// The inner error is that it could not be unmounted.
    async fn unmake_root_mount(
        &self,
        key: &RootMountKey,
        if_in_use: IfInUse,
    ) -> Result<Result<(), tare_storage::Error>, Error> {
        let (engine, place) = (self.clone(), self.place_of(key));
        brief(move || {
            let unmounted = unmount(&place, if_in_use)?;
            if unmounted.is_ok() {
                let _alone = engine.mounting.lock().unwrap_or_else(PoisonError::into_inner);
                remove_place(&engine.instance.mounts_dir(), &place)
                    .map_err(|source| Error::Host { what: "remove the place of a root", source })?;
            }
            Ok(unmounted)
        })
        .await
    }

    /// Goes on with what an earlier daemon had mounted and promised, and takes away what else there is.
    pub(in crate::engine) async fn recall_root_mounts(&self) -> Result<(), Error> {
        let mut known = Vec::new();
        for found in self.run.run(volatile::all::<RootMount>).await? {
            match found {
                Ok(mount) => {
                    known.push(mount.key.to_string());
                    self.recall_root_mount(mount).await;
                }
                Err((key, error)) => {
                    known.push(key.to_string());
                    self.host.taint_unreadable("where a root is mounted", &error.into());
                }
            }
        }
        let names = entries(&self.instance.mounts_dir()).into_iter();
        let strays = names.filter(|name| !known.contains(name));
        for stray in strays.filter_map(|name| name.parse::<RootMountKey>().ok()) {
            self.take_back_root_mount(&RootMount::new(stray)).await;
        }
        Ok(())
    }

    async fn recall_root_mount(&self, mount: RootMount) {
        let container = self.containers.get(&mount.key.container);
        match container.filter(|_| mount.promised && self.same_boot) {
            Some(container) => {
                if let Ok(mut life) = container.lock().await {
                    self.keep_root_mount(&mut life, mount);
                }
            }
            None => drop(self.take_back_root_mount(&mount).await),
        }
    }
}

impl Inner {
    fn place_of(&self, key: &RootMountKey) -> PathBuf {
        self.instance.mounts_dir().join(key.to_string())
    }
}

/// Everybody may look for a name in the directory of all, and only its user for the root in there. It is not
/// given to them: what is in it is nobody's to be moved.
fn make_place(all: &Path, place: &Path, uid: u32) -> io::Result<File> {
    effects::make_dir(all, 0o711)?;
    effects::make_dir(place, 0o700)?;
    effects::make_dir(&place.join(ROOT), 0o700)?;
    if uid != 0 {
        effects::let_enter(place, uid)?;
    }
    File::open(place)
}

/// What is not there is not an error. Only empty directories are removed: whatever is mounted stays as it
/// is.
fn remove_place(all: &Path, place: &Path) -> io::Result<()> {
    effects::remove_empty_dir(&place.join(ROOT))?;
    effects::remove_empty_dir(place)?;
    match effects::remove_empty_dir(all) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => removed,
    }
}

fn unmount(place: &Path, if_in_use: IfInUse) -> Result<Result<(), tare_storage::Error>, Error> {
    let dir = match File::open(place) {
        Ok(dir) => dir,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(())),
        Err(source) => return Err(Error::Host { what: "open the place of a root", source }),
    };
    let name = file_name(ROOT)?;
    let unmounted = match if_in_use {
        IfInUse::Refuse => detach(dir.as_fd(), &name, PATIENCE),
        IfInUse::Unmount => detach_now(dir.as_fd(), &name),
    };
    Ok(unmounted.map(drop))
}

fn entries(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
