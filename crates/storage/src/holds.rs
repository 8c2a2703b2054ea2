//! What a running import or pull has put into the store and no image names yet.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::digest::{ChainId, Digest};

/// Keeps garbage collection from everything that is stored, or found to be there, while it lives.
///
/// Who imports takes one first ([`Store::hold`](crate::Store::hold)) and drops it when what it
/// stored is written down where garbage collection will be told of it.
#[derive(Debug)]
#[must_use = "dropping a hold leaves what was stored to garbage collection"]
pub struct Hold {
    holds: Arc<Holds>,
}

/// All holds, and the layers being unpacked.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    state: Mutex<State>,
    unpacked: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    living: usize,
    /// What came while at least one lived, blobs and chain ids alike.
    kept: HashSet<Digest>,
    unpacking: BTreeSet<ChainId>,
}

impl State {
    pub(crate) fn keeps(&self, digest: &Digest) -> bool {
        self.kept.contains(digest)
    }
}

impl Holds {
    pub(crate) fn hold(self: &Arc<Self>) -> Hold {
        self.lock().living += 1;
        Hold { holds: self.clone() }
    }

    /// Has `digest` kept as long as the holds there are now; before it is looked for.
    pub(crate) fn note(&self, digest: &Digest) {
        let mut state = self.lock();
        if state.living > 0 {
            state.kept.insert(*digest);
        }
    }

    /// While this is held nothing is noted: what is not kept can be taken away.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else unpacks `layer`; `None` if `go_on` says no meanwhile.
    pub(crate) fn take_turn(&self, layer: ChainId, go_on: impl Fn() -> bool) -> Option<Turn<'_>> {
        const LOOK_UP: Duration = Duration::from_millis(100);
        let mut state = self.lock();
        while !state.unpacking.insert(layer) {
            let waited = self.unpacked.wait_timeout(state, LOOK_UP);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if !go_on() {
                return None;
            }
        }
        Some(Turn { holds: self, layer })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.holds.lock();
        state.living -= 1;
        if state.living == 0 {
            state.kept.clear();
        }
    }
}

/// The right to unpack one layer.
#[derive(Debug)]
pub(crate) struct Turn<'h> {
    holds: &'h Holds,
    layer: ChainId,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.holds.lock().unpacking.remove(&self.layer);
        self.holds.unpacked.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_is_kept_until_the_last_hold_goes() {
        let holds = Arc::new(Holds::default());
        let [a, b] = [b"a", b"b"].map(|bytes| Digest::of(bytes));
        holds.note(&a);
        assert!(!holds.lock().keeps(&a), "nobody holds");
        let first = holds.hold();
        holds.note(&a);
        let second = holds.hold();
        drop(first);
        holds.note(&b);
        assert!(holds.lock().keeps(&a) && holds.lock().keeps(&b));
        drop(second);
        assert!(!holds.lock().keeps(&a) && !holds.lock().keeps(&b));
    }

    #[test]
    fn one_at_a_time_unpacks_a_layer() {
        let holds = Holds::default();
        let layer = ChainId::base(Digest::of(b"layer"));
        let turn = holds.take_turn(layer, || true).unwrap();
        assert!(holds.take_turn(layer, || false).is_none(), "cancelled");
        std::thread::scope(|scope| {
            let other = scope.spawn(|| holds.take_turn(layer, || true).is_some());
            drop(turn);
            assert!(other.join().unwrap());
        });
    }
}
