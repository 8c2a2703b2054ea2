//! What is on the bus now, as the last signals left it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use zbus::names::InterfaceName;
use zbus::object_server::{Interface, SignalEmitter};
use zbus::{Connection, OwnedObjectPath};

use super::container::Container;
use super::image::Image;
use super::job::Job;
use super::process::Process;
use super::publish::Properties;

/// A snapshot that is replaced as a whole, in step with the signals about it.
#[derive(Debug)]
pub(crate) struct Shown<T>(Arc<RwLock<Arc<T>>>);

impl<T> Clone for Shown<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Shown<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self(Arc::new(RwLock::new(value)))
    }

    pub(crate) fn get(&self) -> Arc<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, value: Arc<T>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = value;
    }
}

/// An object that comes and goes.
#[derive(Clone, Debug)]
pub(crate) enum Object {
    Container(Container),
    Image(Image),
    Process(Process),
    Job(Job),
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) containers: u32,
    pub(crate) running: u32,
    pub(crate) images: u32,
    pub(crate) jobs: u32,
}

/// All objects below the manager. Changed by the publisher alone.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    objects: RwLock<BTreeMap<String, Object>>,
    counts: Mutex<Counts>,
    events: std::sync::atomic::AtomicU64,
}

impl Registry {
    pub(crate) fn get(&self, path: &OwnedObjectPath) -> Option<Object> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).get(path.as_str()).cloned()
    }

    pub(crate) fn insert(&self, path: &OwnedObjectPath, object: Object) {
        self.objects
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path.to_string(), object);
    }

    pub(crate) fn remove(&self, path: &OwnedObjectPath) -> Option<Object> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner).remove(path.as_str())
    }

    /// All of them, parents before children.
    pub(crate) fn all(&self) -> Vec<(String, Object)> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects.iter().map(|(path, object)| (path.clone(), object.clone())).collect()
    }

    /// The last elements of the paths one level below `parent`.
    pub(crate) fn children(&self, parent: &str) -> Vec<String> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        let prefix = format!("{}/", parent.trim_end_matches('/'));
        let mut names: Vec<String> = objects
            .range(prefix.clone()..)
            .map_while(|(path, _)| path.strip_prefix(&prefix))
            .map(|below| below.split('/').next().unwrap_or_default().to_string())
            .collect();
        names.dedup();
        names
    }

    /// Whether exactly one object, with what is below it, is one level below `parent`.
    pub(crate) fn has_one_child(&self, parent: &str) -> bool {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        let prefix = format!("{}/", parent.trim_end_matches('/'));
        let below = |path: &str| {
            path.strip_prefix(&prefix).map(|rest| rest.split('/').next().map(str::to_owned))
        };
        let first = objects.range(prefix.clone()..).next().and_then(|(path, _)| below(path));
        let last = objects
            .range(prefix.clone()..format!("{prefix}\u{10ffff}"))
            .next_back()
            .and_then(|(path, _)| below(path));
        first.is_some() && first == last
    }

    pub(crate) fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the counts; the values before and after.
    pub(crate) fn count(&self, change: impl FnOnce(&mut Counts)) -> (Counts, Counts) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *counts;
        change(&mut counts);
        (before, *counts)
    }

    /// How many events have been shown.
    pub(crate) fn events(&self) -> u64 {
        self.events.load(std::sync::atomic::Ordering::Acquire)
    }

    pub(crate) fn event_shown(&self) {
        self.events.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
    }
}

impl Object {
    /// The name of its interface.
    pub(crate) fn interface(&self) -> InterfaceName<'static> {
        match self {
            Self::Container(_) => Container::name(),
            Self::Image(_) => Image::name(),
            Self::Process(_) => Process::name(),
            Self::Job(_) => Job::name(),
        }
    }

    /// Whether it is among the managed objects. Jobs come and go too fast for that: they have
    /// signals of their own.
    pub(crate) fn is_managed(&self) -> bool {
        !matches!(self, Self::Job(_))
    }

    /// All its properties.
    pub(crate) async fn properties(
        &self,
        connection: &Connection,
        path: &str,
    ) -> zbus::Result<Properties> {
        let (server, emitter) = (connection.object_server(), SignalEmitter::new(connection, path)?);
        Ok(match self {
            Self::Container(it) => it.get_all(server, connection, None, &emitter).await,
            Self::Image(it) => it.get_all(server, connection, None, &emitter).await,
            Self::Process(it) => it.get_all(server, connection, None, &emitter).await,
            Self::Job(it) => it.get_all(server, connection, None, &emitter).await,
        }?)
    }
}
