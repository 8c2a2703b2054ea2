//! All containers, by id and by name.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tare_runtime::{ContainerId, ContainerName};

use super::Error;
use super::container::Container;

/// The beginning of an id names a container from this length on.
const SHORTEST_PREFIX: usize = 12;

/// Looked up often, changed rarely, never locked across a wait.
#[derive(Debug, Default)]
pub(super) struct Table(RwLock<Tables>);

#[derive(Debug, Default)]
struct Tables {
    by_id: BTreeMap<ContainerId, Arc<Container>>,
    /// `None`: the name is taken by a container that is being made.
    by_name: HashMap<ContainerName, Option<ContainerId>>,
}

/// A name that nobody else gets until this is dropped.
#[derive(Debug)]
pub(super) struct Reservation<'t> {
    table: &'t Table,
    name: ContainerName,
    fulfilled: bool,
}

impl Table {
    /// The container of that id, of that name, or of an id that begins so.
    pub(super) fn find(&self, name_or_id: &str) -> Result<Arc<Container>, Error> {
        let tables = self.read();
        if let Some(container) =
            name_or_id.parse().ok().and_then(|id: ContainerId| tables.by_id.get(&id))
        {
            return Ok(container.clone());
        }
        let by_name = name_or_id
            .parse::<ContainerName>()
            .ok()
            .and_then(|name| tables.by_name.get(&name).cloned().flatten())
            .and_then(|id| tables.by_id.get(&id));
        if let Some(container) = by_name {
            return Ok(container.clone());
        }
        match tables.by_prefix(name_or_id).as_slice() {
            [] => Err(Error::NoSuchContainer(shortened(name_or_id))),
            [one] => Ok(one.clone()),
            _ => Err(Error::AmbiguousName(shortened(name_or_id))),
        }
    }

    /// The container of that id.
    pub(super) fn get(&self, id: &ContainerId) -> Option<Arc<Container>> {
        self.read().by_id.get(id).cloned()
    }

    /// All of them, in the order of their ids.
    pub(super) fn all(&self) -> Vec<Arc<Container>> {
        self.read().by_id.values().cloned().collect()
    }

    /// Whether a container has the first 12 digits of `id`.
    pub(super) fn has_short_id(&self, id: &ContainerId) -> bool {
        !self.read().by_prefix(id.short()).is_empty()
    }

    /// Takes a name for a container that is about to be made. One that could be meant for the id
    /// of another container is refused.
    pub(super) fn reserve(&self, name: ContainerName) -> Result<Reservation<'_>, Error> {
        if is_prefix(name.as_str()) {
            return Err(Error::NameLikeAnId(name));
        }
        let mut tables = self.write();
        if tables.by_name.contains_key(&name) {
            return Err(Error::NameInUse(name));
        }
        tables.by_name.insert(name.clone(), None);
        drop(tables);
        Ok(Reservation { table: self, name, fulfilled: false })
    }

    /// Adds a container that is there already, under a name nobody else has.
    pub(super) fn insert(&self, container: Arc<Container>) {
        let mut tables = self.write();
        let (id, name) = (container.id.clone(), container.name());
        tables.by_name.insert(name, Some(id.clone()));
        tables.by_id.insert(id, container);
    }

    /// Takes a container out.
    pub(super) fn remove(&self, container: &Container) {
        let mut tables = self.write();
        tables.by_name.remove(&container.name());
        tables.by_id.remove(&container.id);
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// At most two containers whose ids begin with `prefix`.
    fn by_prefix(&self, prefix: &str) -> Vec<Arc<Container>> {
        let Some(first) = is_prefix(prefix)
            .then(|| format!("{prefix:0<64}").parse::<ContainerId>().ok())
            .flatten()
        else {
            return Vec::new();
        };
        let fits = |(id, _): &(&ContainerId, &Arc<Container>)| id.as_str().starts_with(prefix);
        self.by_id.range(first..).take_while(fits).take(2).map(|(_, c)| c.clone()).collect()
    }
}

/// Whether a text can be the beginning of an id that stands for the whole.
fn is_prefix(text: &str) -> bool {
    (SHORTEST_PREFIX..=64).contains(&text.len())
        && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl Reservation<'_> {
    /// The name.
    pub(super) fn name(&self) -> &ContainerName {
        &self.name
    }

    /// The container is there now.
    pub(super) fn fulfil(mut self, container: Arc<Container>) {
        self.fulfilled = true;
        self.table.insert(container);
    }

    /// The container, which was called `before`, has this name now.
    pub(super) fn give_to(mut self, container: &Container, before: &ContainerName) {
        self.fulfilled = true;
        let mut tables = self.table.write();
        tables.by_name.remove(before);
        tables.by_name.insert(self.name.clone(), Some(container.id.clone()));
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.fulfilled {
            self.table.write().by_name.remove(&self.name);
        }
    }
}

/// Names come from callers and go back to them: no longer than can be of use.
pub(super) fn shortened(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(128).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_given_on_and_the_old_one_is_free() {
        let table = Table::default();
        let container = Arc::new(Container::sample("old"));
        table.reserve("old".parse().unwrap()).unwrap().fulfil(container.clone());
        let reservation = table.reserve("new".parse().unwrap()).unwrap();
        assert!(matches!(table.reserve("new".parse().unwrap()), Err(Error::NameInUse(_))));
        reservation.give_to(&container, &"old".parse().unwrap());
        assert_eq!(table.find("new").unwrap().id, container.id);
        assert!(table.find("old").is_err());
        drop(table.reserve("old".parse().unwrap()).unwrap());
        // One that was given up is free again.
        drop(table.reserve("old".parse().unwrap()).unwrap());
        assert!(matches!(table.reserve("new".parse().unwrap()), Err(Error::NameInUse(_))));
    }
}
