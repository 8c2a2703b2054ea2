//! Calls that are repeated because their caller did not hear the answer: they get the first one.
//!
//! They are known by the id that the caller gave them, for as long as this daemon lives and no longer
//! than ten minutes. What failed is not remembered, so that it can be tried again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use zbus::OwnedObjectPath;

use crate::api::RequestId;

/// How long an answer is remembered.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Answers that are remembered for one user; with one more the oldest is forgotten.
const MOST: usize = 256;

/// The first answer to a call, once there is one.
pub(super) type First = Arc<OnceCell<OwnedObjectPath>>;

/// A call that can be repeated.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Call {
    pub(super) uid: u32,
    pub(super) method: &'static str,
    pub(super) id: RequestId,
}

/// The calls of the last ten minutes.
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<BTreeMap<Call, (Instant, First)>>);

impl Repeats {
    /// The answer to this call, which is there or on its way if the call is a repeat.
    pub(super) fn first(&self, call: Call, now: Instant) -> First {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody waits for an answer that is on its way.
        calls.retain(|_, (begun, first)| {
            now.duration_since(*begun) < REMEMBERED || Arc::strong_count(first) > 1
        });
        let theirs = calls.iter().filter(|(other, _)| other.uid == call.uid && **other != call);
        let theirs: Vec<_> = theirs.map(|(other, (begun, _))| (*begun, other.clone())).collect();
        if theirs.len() >= MOST
            && let Some((_, oldest)) = theirs.into_iter().min()
        {
            calls.remove(&oldest);
        }
        calls.entry(call).or_insert_with(|| (now, First::default())).1.clone()
    }

    /// What this was the answer to has failed after all, and can be tried again.
    pub(super) fn forget(&self, answer: &OwnedObjectPath) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.retain(|_, (_, first)| first.get() != Some(answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(uid: u32, id: &str) -> Call {
        Call { uid, method: "CreateContainer", id: id.parse().unwrap() }
    }

    #[test]
    fn a_call_is_known_by_its_user_its_method_and_its_id_for_a_while() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        let first = |call, after| Arc::as_ptr(&repeats.first(call, now + after));
        let one = first(call(1, "a"), Duration::ZERO);
        assert_eq!(first(call(1, "a"), Duration::from_secs(599)), one);
        let run = Call { method: "RunContainer", ..call(1, "a") };
        for other in [call(2, "a"), call(1, "b"), run] {
            assert_ne!(first(other, Duration::ZERO), one);
        }
        assert_eq!(repeats.0.lock().unwrap().len(), 4);
        first(call(3, "c"), REMEMBERED);
        assert_eq!(repeats.0.lock().unwrap().len(), 1, "all others are old");
        let held = repeats.first(call(3, "c"), now);
        first(call(4, "d"), REMEMBERED * 3);
        assert!(Arc::ptr_eq(&repeats.first(call(3, "c"), now), &held), "somebody waits for it");
    }

    #[test]
    fn what_has_failed_can_be_tried_again() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        let path = |text: &'static str| OwnedObjectPath::try_from(text).unwrap();
        let answered = |id: &str, answer| {
            let first = repeats.first(call(1, id), now);
            first.set(path(answer)).unwrap();
        };
        answered("a", "/job/_1");
        answered("b", "/job/_2");
        repeats.forget(&path("/job/_1"));
        assert_eq!(repeats.first(call(1, "a"), now).get(), None);
        assert_eq!(repeats.first(call(1, "b"), now).get(), Some(&path("/job/_2")));
    }

    #[test]
    fn nobody_has_more_than_so_many() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        let other = repeats.first(call(2, "x"), now);
        for number in 0..MOST + 10 {
            let later = now + Duration::from_millis(number as u64);
            let _ = repeats.first(call(1, &number.to_string()), later);
        }
        let calls = repeats.0.lock().unwrap();
        assert_eq!(calls.keys().filter(|call| call.uid == 1).count(), MOST);
        assert!(!calls.contains_key(&call(1, "0")) && calls.contains_key(&call(1, "10")));
        assert!(calls.contains_key(&call(2, "x")) && Arc::strong_count(&other) == 2);
    }
}
