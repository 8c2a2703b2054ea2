//! Putting an engine together.

use std::sync::{Arc, RwLock};

use tare_names::NameServer;
use tare_spawn::Spawner;
use tare_storage::Store;
use tokio::sync::mpsc;

use super::apparmor::Confinement;
use super::checkpoint::Checkpoints;
use super::events::{Event, Events};
use super::host::Host;
use super::jobs::Jobs;
use super::names::Names;
use super::network::{Networks, Zones};
use super::records::{self, durable, volatile};
use super::resolvers::follow;
use super::scope::{Groups, ServiceManager};
use super::secret::Secrets;
use super::volume::Volumes;
use super::{Engine, Error, Inner, blocking};
use crate::config::Config;
use crate::db::{Db, Durability};
use crate::instance::{Instance, Tag, patiently};
use crate::workers::Workers;

impl Engine {
    /// An engine on two directories, with all that is in them taken over, and what it tells.
    ///
    /// # Errors
    ///
    /// If the directories or the host do not have what an engine needs.
    pub async fn open(
        instance: Instance,
        config: Config,
        means: Means,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Event>), Error> {
        let state = Db::open(&instance.state_db(), Durability::PowerCut, durable::MIGRATIONS)?;
        let run = Db::open(&instance.run_db(), Durability::ProcessCrash, volatile::MIGRATIONS)?;
        let tag = tag(&state, &instance).await?;
        let is_held =
            |error: &tare_storage::Error| matches!(error, tare_storage::Error::Locked { .. });
        let store = patiently(is_held, || Store::open(instance.state_dir()));
        let store = store.map_err(Error::Storage)?;
        let Means { spawner, manager, names, zones, workers } = means;
        let groups = Groups::new(tag.clone(), manager);
        let (instance, host) = look(instance, &groups, spawner.clone(), &config).await?;
        let (events, told) = Events::channel();
        let (around, told_by) = ((Names::new(names), zones), events.clone());
        let networks =
            Networks::open(&state, run.clone(), tag.clone(), around, &config, told_by, &host)
                .await?;
        let volumes = Volumes::open(&state, &config, events.clone(), &host).await?;
        let secrets = Secrets::open(&state, events.clone(), &host).await?;
        let checkpoints = Checkpoints::open(&state, events.clone(), &host).await?;
        let jobs = Jobs::open(events.clone(), run.clone()).await?;
        let confinement = Confinement::new(&tag)?;
        let engine = Self(Arc::new(Inner {
            instance,
            tag,
            config: RwLock::new(Arc::new(config)),
            state,
            run: run.clone(),
            store: Arc::new(store),
            spawner,
            workers,
            groups,
            confinement,
            same_boot: same_boot(&run).await?,
            host: Arc::new(host),
            networks,
            volumes,
            secrets,
            checkpoints,
            sharers: super::shared::Sharers::default(),
            entered: Arc::default(),
            containers: super::table::Table::default(),
            images: super::images::Images::default(),
            registering: tokio::sync::Mutex::default(),
            pulls: tokio::sync::Semaphore::new(super::PULLS),
            looks: Arc::new(tokio::sync::Semaphore::new(super::LOOKS)),
            usage: super::usage::Usage::default(),
            mounting: std::sync::Mutex::default(),
            root_holders: super::files::RootHolders::default(),
            jobs,
            streams: super::streams::Streams::default(),
            ending: false.into(),
            going_down: false.into(),
            events,
        }));
        engine.make_cgroup().await?;
        engine.load_profile().await;
        engine.load_images().await?;
        engine.fall_back_now().await;
        engine.adopt().await?;
        engine.look_at_usage();
        let watched = engine.watch_resolvers();
        tokio::spawn(follow(Arc::downgrade(&engine.0), engine.entered.clone(), watched));
        Ok((engine, told))
    }

    /// Leaves the host as it was found, if nothing of ours is on it any more. Containers that are
    /// only configured need nothing on the host; the network is made again when one starts.
    pub async fn leave(&self) {
        let runs = |c: &Arc<super::container::Container>| c.view().process.is_some();
        if !self.instance.is_default() && !self.containers.all().iter().any(runs) {
            self.networks.leave_host().await;
            self.leave_cgroup().await;
            self.remove_profile().await;
        }
    }

    /// The group all containers are in: made once, so that no start has to make or remove it.
    async fn make_cgroup(&self) -> Result<(), Error> {
        let Some(group) = self.groups.shared() else { return Ok(()) };
        let spawner = self.spawner.clone();
        blocking::brief(move || {
            spawner.make_cgroup(&group).map_err(|error| Error::Host {
                what: "make the control group of all containers",
                source: std::io::Error::other(error),
            })
        })
        .await
    }

    async fn leave_cgroup(&self) {
        let (spawner, group) = (self.spawner.clone(), self.groups.own());
        let work = move || {
            if let Err(error) = spawner.remove_empty_cgroup(&group) {
                tracing::warn!("{error}");
            }
            Ok(())
        };
        let _: Result<(), Error> = blocking::brief(work).await;
    }
}

/// Who starts programs, and where, for an engine.
#[derive(Debug)]
pub struct Means {
    /// Starts conmon and the runtimes.
    pub spawner: Arc<dyn Spawner>,
    /// Makes a unit of each container, if there is one that does.
    pub manager: Option<Arc<dyn ServiceManager>>,
    /// Answers names of containers.
    pub names: Arc<dyn NameServer>,
    /// A firewall of the host with zones, if there is a bus where one may be.
    pub zones: Option<Arc<dyn Zones>>,
    /// Speak with registries.
    pub workers: Workers,
}

/// None for the installed daemon; what was drawn once for any other.
async fn tag(state: &Db, instance: &Instance) -> Result<Tag, Error> {
    if instance.is_default() {
        return Ok(Tag::NONE);
    }
    let drawn = super::random_id()?.as_str()[..6].to_string();
    let tag = state
        .run(move |c| match records::meta(c, "tag")? {
            Some(tag) => Ok(tag),
            None => records::set_meta(c, "tag", &drawn).map(|()| drawn),
        })
        .await?;
    Tag::new(&tag).ok_or_else(|| Error::Bug(format!("the tag in the database is {tag:?}")))
}

/// Whether `run` was last used in this boot. What it says of processes holds for one boot only.
async fn same_boot(run: &Db) -> Result<bool, Error> {
    let now = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_err(|source| Error::Host { what: "read the id of this boot", source })?;
    run.run(move |c| {
        let before = records::meta(c, "boot")?;
        records::set_meta(c, "boot", &now)?;
        Ok(before.is_none_or(|before| before == now))
    })
    .await
}

async fn look(
    instance: Instance,
    groups: &Groups,
    spawner: Arc<dyn Spawner>,
    config: &Config,
) -> Result<(Instance, Host), Error> {
    let (groups, settings) = (groups.clone(), config.runtime.clone());
    blocking::brief(move || {
        let host = Host::look(&instance, &groups, spawner.as_ref(), &settings)?;
        Ok((instance, host))
    })
    .await
}
