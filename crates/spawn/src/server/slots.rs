//! How many calls may be under way, so that no caller keeps others out.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::process::Pid;

/// Most calls at once; each has a thread.
const MOST: usize = 128;
/// Most calls at once of one process; twice what a manager with a pool of 32 threads has.
const MOST_OF_ONE: usize = 64;

/// The calls that are under way, counted by who made them.
#[derive(Debug, Default)]
pub(super) struct Slots {
    taken: Mutex<HashMap<Pid, usize>>,
    freed: Condvar,
}

/// A call that is under way, until this is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    by: Pid,
}

impl Slots {
    /// A slot for one more call; `None` if there are too many.
    pub(super) fn take(slots: &Arc<Self>, by: Pid) -> Option<Slot> {
        let mut taken = slots.lock();
        let ours = taken.get(&by).copied().unwrap_or(0);
        if ours >= MOST_OF_ONE || taken.values().sum::<usize>() >= MOST {
            return None;
        }
        taken.insert(by, ours + 1);
        Some(Slot { slots: slots.clone(), by })
    }

    /// Returns when no call is under way.
    pub(super) fn wait_until_free(&self) {
        let taken = self.lock();
        drop(self.freed.wait_while(taken, |taken| !taken.is_empty()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Pid, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.lock();
        match taken.get_mut(&self.by) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.by)),
        }
        self.slots.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn nobody_gets_all_of_them() {
        let slots = Arc::<Slots>::default();
        let take = |by| Slots::take(&slots, Pid::from_raw(by).unwrap());
        let greedy: Vec<_> = (0..MOST).map_while(|_| take(1)).collect();
        assert_eq!(greedy.len(), MOST_OF_ONE);
        let other = take(2).expect("there is room for others");
        assert!(take(1).is_none());
        drop(greedy);
        let again = take(1).expect("freed");
        let more: Vec<_> = (3..).map_while(take).collect();
        assert_eq!(more.len(), MOST - 2, "not more than that together");
        drop((other, again));
        let waits = thread::spawn({
            let slots = slots.clone();
            move || slots.wait_until_free()
        });
        assert!(!waits.is_finished());
        drop(more);
        waits.join().unwrap();
    }
}
