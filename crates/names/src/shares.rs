//! How much of something one of those who ask may have, so that the others get theirs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who asks: the key of a host that is known on the network, or anybody else. These are one together: whoever
/// takes addresses that nobody gave it would be many.
pub(crate) type Client = Option<String>;

/// What is counted of each of them.
#[derive(Debug)]
pub(crate) struct Shares {
    most: usize,
    taken: Mutex<HashMap<Client, usize>>,
}

/// One of what a client may have; dropping it gives it back.
#[derive(Debug)]
#[must_use = "dropping it gives it back"]
pub(crate) struct Share {
    of: Arc<Shares>,
    client: Client,
}

impl Shares {
    /// None is taken yet, of the `most` that each may have at a time.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// One more for a client, unless it has as many as it may.
    pub(crate) fn take(self: &Arc<Self>, client: Client) -> Option<Share> {
        let mut all = self.taken();
        let taken = all.get(&client).copied().unwrap_or_default();
        if taken >= self.most {
            return None;
        }
        all.insert(client.clone(), taken + 1);
        Some(Share { of: self.clone(), client })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Client, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut all = self.of.taken();
        match all.get_mut(&self.client) {
            Some(taken) if *taken > 1 => *taken -= 1,
            // Nothing is kept of who has nothing.
            _ => drop(all.remove(&self.client)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_has_its_share_takes_nothing_from_others() {
        let shares = Shares::new(2);
        let take = |client: &str| shares.take(Some(client.into()));
        let mut taken: Vec<_> = (0..2).map(|_| take("a").unwrap()).collect();
        assert!(take("a").is_none());
        let other = take("b").unwrap();
        let strangers: Vec<_> = (0..2).map(|_| shares.take(None).unwrap()).collect();
        assert!(shares.take(None).is_none(), "they are one");
        taken.pop();
        taken.push(take("a").expect("it gave one back"));
        drop((taken, other, strangers));
        assert!(shares.taken().is_empty(), "nothing stays");
    }
}
