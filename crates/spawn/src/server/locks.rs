//! Turns: calls for one container follow one another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::ContainerId;

/// A lock for each container that is at work.
#[derive(Debug, Default)]
pub(super) struct Locks(Mutex<HashMap<ContainerId, Arc<RwLock<()>>>>);

impl Locks {
    /// Does `work` while nothing else is done with that container.
    pub(super) fn alone<T>(&self, id: &ContainerId, work: impl FnOnce() -> T) -> T {
        self.with(id, |lock| {
            let _turn = lock.write().unwrap_or_else(PoisonError::into_inner);
            work()
        })
    }

    /// Does `work` while nothing is done with that container that must be done alone.
    pub(super) fn shared<T>(&self, id: &ContainerId, work: impl FnOnce() -> T) -> T {
        self.with(id, |lock| {
            let _turn = lock.read().unwrap_or_else(PoisonError::into_inner);
            work()
        })
    }

    fn with<T>(&self, id: &ContainerId, work: impl FnOnce(&RwLock<()>) -> T) -> T {
        let lock = self.all().entry(id.clone()).or_default().clone();
        let result = work(&lock);
        drop(lock);
        let mut all = self.all();
        if all.get(id).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            all.remove(id);
        }
        result
    }

    /// How many are at work with that container, or wait for their turn.
    #[cfg(test)]
    pub(super) fn interested(&self, id: &ContainerId) -> usize {
        self.all().get(id).map_or(0, |lock| Arc::strong_count(lock) - 1)
    }

    fn all(&self) -> MutexGuard<'_, HashMap<ContainerId, Arc<RwLock<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::thread;
    use std::time::Duration;

    fn id(digit: char) -> ContainerId {
        digit.to_string().repeat(ContainerId::LEN).parse().unwrap()
    }

    #[test]
    fn one_container_waits_and_others_do_not() {
        let locks = Locks::default();
        let (done, dones) = channel();
        thread::scope(|scope| {
            locks.alone(&id('a'), || {
                let (locks, late) = (&locks, done.clone());
                scope.spawn(move || locks.alone(&id('a'), || late.send("late").unwrap()));
                locks.alone(&id('b'), || done.send("other").unwrap());
                assert_eq!(dones.recv().unwrap(), "other");
                let waited = dones.recv_timeout(Duration::from_millis(50));
                assert_eq!(waited, Err(RecvTimeoutError::Timeout));
            });
            assert_eq!(dones.recv().unwrap(), "late");
        });
        locks.shared(&id('a'), || locks.shared(&id('a'), || ()));
        assert!(locks.all().is_empty(), "nothing stays");
    }
}
