//! The two clocks the bus speaks of, in microseconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Microseconds: since the epoch, since boot, or of a span, as the name of the field says.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Usec(pub u64);

impl Usec {
    /// Now, since the epoch.
    pub fn now() -> Self {
        Self::from_duration(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// Now, by `CLOCK_MONOTONIC`.
    pub fn now_monotonic() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
        Self::from_duration(Duration::new(seconds, nanos))
    }

    /// A span of time.
    pub fn from_duration(span: Duration) -> Self {
        Self(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
    }

    /// The number as SQLite keeps it.
    pub fn as_i64(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// The opposite of [`as_i64`](Self::as_i64).
    pub fn from_i64(value: i64) -> Self {
        Self(u64::try_from(value).unwrap_or_default())
    }
}
