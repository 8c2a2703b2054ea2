//! What removals that have failed have left in `tmp`, until somebody removes that.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// By name.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    left: Mutex<Left>,
    /// Somebody has done with the one that was at work.
    is_done: Condvar,
    /// Whoever removes them, one after the other.
    remover: Mutex<()>,
}

#[derive(Debug, Default)]
struct Left {
    names: BTreeSet<OsString>,
    /// The one that is being removed.
    at_work: Option<OsString>,
}

impl Leftovers {
    pub(crate) fn add(&self, name: OsString) {
        self.lock().names.insert(name);
    }

    /// That name, if it is there, is nobody else's from now on. Waits for whoever removes it.
    pub(crate) fn take(&self, name: &OsStr) {
        let is_removed = |left: &mut Left| left.at_work.as_deref() == Some(name);
        let left = self.is_done.wait_while(self.lock(), is_removed);
        left.unwrap_or_else(PoisonError::into_inner).names.remove(name);
    }

    /// Removes each; those for which `remove` says that it could not stay. Nobody waits meanwhile but who
    /// wants the very one. Does nothing if somebody is at it.
    pub(crate) fn finish(&self, remove: impl Fn(&OsStr) -> bool) {
        let Ok(_alone) = self.remover.try_lock() else { return };
        let all: Vec<_> = self.lock().names.iter().cloned().collect();
        for name in all {
            let mut left = self.lock();
            if left.names.remove(&name) {
                left.at_work = Some(name.clone());
                drop(left);
                let is_gone = remove(&name);
                let mut left = self.lock();
                left.at_work = None;
                if !is_gone {
                    left.names.insert(name);
                }
                self.is_done.notify_all();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn what_cannot_be_removed_stays_and_what_is_taken_is_left_alone() {
        let leftovers = Leftovers::default();
        for name in ["a", "b", "c"] {
            leftovers.add(name.into());
        }
        leftovers.take(OsStr::new("b"));
        let tried = Mutex::new(Vec::new());
        let finish = || {
            leftovers.finish(|name| {
                tried.lock().unwrap().push(name.to_owned());
                name != "c"
            });
            std::mem::take(&mut *tried.lock().unwrap())
        };
        assert_eq!(finish(), ["a", "c"]);
        assert_eq!(finish(), ["c"]);
    }

    #[test]
    fn who_wants_the_one_that_is_being_removed_waits_and_nobody_else_does() {
        let leftovers = Leftovers::default();
        leftovers.add("slow".into());
        let (begun, has_begun) = mpsc::channel();
        let (go_on, goes_on) = mpsc::channel::<()>();
        let goes_on = Mutex::new(goes_on);
        thread::scope(|scope| {
            scope.spawn(|| {
                leftovers.finish(|_| {
                    begun.send(()).unwrap();
                    goes_on.lock().unwrap().recv().unwrap();
                    true
                });
            });
            has_begun.recv().unwrap();
            leftovers.add("other".into());
            leftovers.take(OsStr::new("other"));
            leftovers.finish(|_| panic!("somebody is at it"));
            let waits = scope.spawn(|| leftovers.take(OsStr::new("slow")));
            thread::sleep(Duration::from_millis(20));
            assert!(!waits.is_finished());
            go_on.send(()).unwrap();
        });
    }
}
