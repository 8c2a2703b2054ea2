//! How many jobs one user may have: so many at work, and as many again waiting for them. Root, and
//! what the service does by itself, is not held up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Job;
use crate::engine::Error;

/// Of one user, at work.
pub(super) const AT_WORK: usize = 16;
/// Of one user, unfinished: at work or waiting.
pub(super) const UNFINISHED: usize = AT_WORK + 64;

/// The slots of each user.
#[derive(Debug, Default)]
pub(super) struct Slots(Mutex<HashMap<u32, Arc<Semaphore>>>);

impl Slots {
    /// Returns when the job may work, until what is returned is dropped; it can be canceled before.
    pub(super) async fn turn(&self, job: &Job) -> Result<Option<OwnedSemaphorePermit>, Error> {
        let Some(slots) = self.of(job.view().started_by_uid) else { return Ok(None) };
        if let Ok(slot) = slots.clone().try_acquire_owned() {
            return Ok(Some(slot));
        }
        job.waits();
        let slot = job.or_canceled(slots.acquire_owned()).await?;
        job.goes_on();
        // They are never closed.
        Ok(slot.ok())
    }

    fn of(&self, uid: u32) -> Option<Arc<Semaphore>> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_user =
            || slots.entry(uid).or_insert_with(|| Arc::new(Semaphore::new(AT_WORK))).clone();
        (uid != 0).then(of_user)
    }
}
