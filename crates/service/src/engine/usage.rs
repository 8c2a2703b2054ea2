//! How much all that is kept takes on the disk: found out in the background, and never for whoever asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Engine;
use super::blocking::unbounded;

/// What was found is good for so long.
const GOOD_FOR: Duration = Duration::from_secs(60);
/// And for so many times as long as it took to find it, so that it is never most of what the disk does.
const TIMES: u32 = 100;

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Usage {
    bytes: AtomicU64,
    looking: Mutex<Looking>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Looking {
    /// Nobody has looked.
    #[default]
    Never,
    /// Somebody looks, since then.
    Since(Instant),
    /// What was found is good until then.
    GoodUntil(Instant),
}

impl Usage {
    /// Whether it is time to look; who is told so has to look, and to [`end`](Self::end) it.
    fn begin(&self, now: Instant) -> bool {
        let mut looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let due = match *looking {
            Looking::Never => true,
            Looking::Since(_) => false,
            Looking::GoodUntil(end) => now >= end,
        };
        if due {
            *looking = Looking::Since(now);
        }
        due
    }

    fn end(&self, now: Instant) {
        let mut looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Looking::Since(begun) = *looking {
            let took = now.saturating_duration_since(begun);
            let good_for = GOOD_FOR.max(took.saturating_mul(TIMES));
            *looking = now.checked_add(good_for).map_or(Looking::Never, Looking::GoodUntil);
        }
    }
}

impl Engine {
    /// Bytes that images, containers, volumes and checkpoints take on the disk, as it was last found out. If
    /// that was some time ago it is found out again, for whoever asks later.
    pub fn storage_usage(&self) -> u64 {
        self.look_at_usage();
        self.usage.bytes.load(Ordering::Relaxed)
    }

    /// Begins to find out how much there is, if that is not known well enough.
    pub(super) fn look_at_usage(&self) {
        if !self.usage.begin(Instant::now()) {
            return;
        }
        let engine = self.clone();
        tokio::spawn(async move {
            let store = engine.store.clone();
            match unbounded("usage", move || Ok(store.usage()?)).await {
                Ok(bytes) => {
                    let checkpoints = engine.checkpoints().iter().map(|it| it.size).sum::<u64>();
                    let bytes = bytes.saturating_add(checkpoints);
                    engine.usage.bytes.store(bytes, Ordering::Relaxed);
                }
                Err(error) => tracing::warn!("{}", error.chain()),
            }
            engine.usage.end(Instant::now());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_looks_at_a_time_and_not_again_at_once() {
        let usage = Usage::default();
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        assert!(usage.begin(start));
        assert!(!usage.begin(at(1000)), "somebody does");
        usage.end(at(1));
        assert!(!usage.begin(at(100)), "it took a second");
        assert!(usage.begin(at(101)));
        usage.end(at(101));
        assert!(!usage.begin(at(160)));
        assert!(usage.begin(at(161)));
    }
}
