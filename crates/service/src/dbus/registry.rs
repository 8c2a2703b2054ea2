//! What is on the bus now, as the last signals left it.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use zbus::OwnedObjectPath;

use super::counts::Counts;
use super::kind::{Kind, Node};

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

/// All objects below the manager. Changed by the publisher alone.
#[derive(Default)]
pub(crate) struct Registry {
    objects: RwLock<BTreeMap<String, Arc<dyn Node>>>,
    counts: Mutex<Counts>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.read().keys()).finish()
    }
}

impl Registry {
    /// The object of that kind at a path.
    pub(crate) fn get<K: Kind>(&self, path: &OwnedObjectPath) -> Option<K> {
        let objects = self.read();
        let object: &dyn Any = objects.get(path.as_str())?.as_ref();
        object.downcast_ref::<K>().cloned()
    }

    pub(crate) fn contains(&self, path: &str) -> bool {
        self.read().contains_key(path)
    }

    pub(crate) fn insert<K: Kind>(&self, path: &OwnedObjectPath, object: K) {
        self.write().insert(path.to_string(), Arc::new(object));
    }

    pub(crate) fn remove(&self, path: &OwnedObjectPath) {
        self.write().remove(path.as_str());
    }

    /// All of them, parents before children.
    pub(crate) fn all(&self) -> Vec<(String, Arc<dyn Node>)> {
        self.read().iter().map(|(path, object)| (path.clone(), object.clone())).collect()
    }

    /// The last elements of the paths one level below `parent`.
    pub(crate) fn children(&self, parent: &str) -> Vec<String> {
        let prefix = format!("{}/", parent.trim_end_matches('/'));
        let mut names: Vec<String> = self
            .read()
            .range(prefix.clone()..)
            .map_while(|(path, _)| path.strip_prefix(&prefix))
            .map(|below| below.split('/').next().unwrap_or_default().to_string())
            .collect();
        names.dedup();
        names
    }

    /// Whether exactly one object, with what is below it, is one level below `parent`.
    pub(crate) fn has_one_child(&self, parent: &str) -> bool {
        let objects = self.read();
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

    /// What added `old` to the counts adds `new` now.
    pub(crate) fn count(&self, old: Counts, new: Counts) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts = *counts + new - old;
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Arc<dyn Node>>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Arc<dyn Node>>> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner)
    }
}
