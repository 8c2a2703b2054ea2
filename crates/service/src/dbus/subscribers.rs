//! Who wants to be told of events.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use tokio::task::AbortHandle;
use zbus::fdo::DBusProxy;
use zbus::names::{BusName, UniqueName};

use crate::api::ApiError;
use crate::authority::Caller;

/// Connections of one user, but root: each event is sent to all of them.
const PER_USER: usize = 64;

/// Those who do, by their unique names on the bus.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subscribers(Arc<Mutex<HashMap<String, Subscriber>>>);

#[derive(Debug)]
struct Subscriber {
    uid: u32,
    /// Waits until it has left the bus.
    watch: Option<AbortHandle>,
}

impl Subscribers {
    /// From now on `caller` is told; until it leaves the bus, or says otherwise.
    ///
    /// # Errors
    ///
    /// `LimitsExceeded`, or if the bus does not tell who leaves it.
    pub(crate) async fn add(&self, bus: &DBusProxy<'_>, caller: &Caller) -> Result<(), ApiError> {
        if !self.insert(caller)? {
            return Ok(());
        }
        let watched = self.watch(bus, &caller.bus_name).await;
        if watched.is_err() {
            self.remove(&caller.bus_name);
        }
        Ok(watched?)
    }

    /// Whether it is one more.
    fn insert(&self, caller: &Caller) -> Result<bool, ApiError> {
        let mut all = self.lock();
        if all.contains_key(&caller.bus_name) {
            return Ok(false);
        }
        let theirs = all.values().filter(|subscriber| subscriber.uid == caller.uid).count();
        if theirs >= PER_USER && caller.uid != 0 {
            let message = format!("{PER_USER} connections of yours are told of events already");
            return Err(ApiError::limits_exceeded(message));
        }
        all.insert(caller.bus_name.clone(), Subscriber { uid: caller.uid, watch: None });
        Ok(true)
    }

    async fn watch(&self, bus: &DBusProxy<'_>, name: &str) -> zbus::Result<()> {
        let mut left = bus.receive_name_owner_changed_with_args(&[(0, name), (2, "")]).await?;
        // It may have left before anybody listened.
        if !bus.name_has_owner(BusName::try_from(name)?).await? {
            self.remove(name);
            return Ok(());
        }
        let (all, watched) = (self.clone(), name.to_owned());
        let task = tokio::spawn(async move {
            left.next().await;
            all.remove(&watched);
        });
        match self.lock().get_mut(name) {
            Some(subscriber) => subscriber.watch = Some(task.abort_handle()),
            None => task.abort(),
        }
        Ok(())
    }

    /// From now on it is not told any more.
    pub(crate) fn remove(&self, name: &str) {
        let watch = self.lock().remove(name).and_then(|subscriber| subscriber.watch);
        if let Some(watch) = watch {
            watch.abort();
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<UniqueName<'static>> {
        let names = self.lock().keys().cloned().collect::<Vec<_>>();
        names.into_iter().filter_map(|name| UniqueName::try_from(name).ok()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Subscriber>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Interactive;

    #[test]
    fn nobody_but_root_has_more_subscribers_than_fit() {
        let caller = |uid: u32, number: usize| Caller {
            uid,
            bus_name: format!(":{uid}.{number}"),
            interactive: Interactive::No,
        };
        for (uid, more) in [(1000, false), (0, true)] {
            let subscribers = Subscribers::default();
            for number in 0..PER_USER {
                assert!(subscribers.insert(&caller(uid, number)).unwrap());
            }
            assert!(!subscribers.insert(&caller(uid, 0)).unwrap(), "it is one already");
            assert_eq!(subscribers.insert(&caller(uid, PER_USER)).is_ok(), more, "{uid}");
            subscribers.insert(&caller(1001, 0)).unwrap();
            subscribers.remove(&caller(uid, 1).bus_name);
            assert!(subscribers.insert(&caller(uid, 1)).unwrap());
            assert_eq!(subscribers.all().len(), PER_USER + 1 + usize::from(more));
        }
    }
}
