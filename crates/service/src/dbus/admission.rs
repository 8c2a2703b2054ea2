//! How many calls of one client may be at work at once.
//!
//! zbus makes a task of every call that comes, without bound, and a call may wait for a person.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::api::ApiError;
use crate::authority::Caller;

/// Of one connection; half of what a bus lets wait for replies.
const CALLS: u32 = 64;

/// Calls at work, by the unique name of who sent them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Admission(Arc<Mutex<HashMap<String, u32>>>);

/// A call that was let in, until it is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    to: Admission,
    name: String,
}

impl Admission {
    /// Lets a call in, if not too many of its sender are at work. Root is let in always.
    ///
    /// # Errors
    ///
    /// `LimitsExceeded`.
    pub(crate) fn admit(&self, caller: &Caller) -> Result<Admitted, ApiError> {
        let name = caller.bus_name.clone();
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at_work = calls.entry(name.clone()).or_default();
        if *at_work >= CALLS && caller.uid != 0 {
            return Err(ApiError::limits_exceeded(format!("{CALLS} calls are at work already")));
        }
        *at_work += 1;
        Ok(Admitted { to: self.clone(), name })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut calls = self.to.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at_work) = calls.get_mut(&self.name) {
            *at_work -= 1;
            if *at_work == 0 {
                calls.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Interactive;

    #[test]
    fn nobody_but_root_has_more_calls_at_work_than_fit() {
        let admission = Admission::default();
        let caller =
            |uid, name: &str| Caller { uid, bus_name: name.into(), interactive: Interactive::No };
        for (uid, name, more) in [(1000, ":1.1", false), (0, ":1.2", true)] {
            let admit = || admission.admit(&caller(uid, name));
            let mut at_work: Vec<_> = (0..CALLS).map(|_| admit().unwrap()).collect();
            assert_eq!(admit().is_ok(), more, "{uid}");
            // One has ended, and the others' are nobody else's affair.
            drop(at_work.pop());
            admit().unwrap();
            admission.admit(&caller(1000, ":1.3")).unwrap();
        }
        assert!(admission.0.lock().unwrap().is_empty());
    }
}
