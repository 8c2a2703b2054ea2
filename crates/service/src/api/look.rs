//! What is looked at, and waited for: arguments of `Inspect`, `OpenStats`, `WaitFD`.

use std::sync::Arc;
use std::time::Duration;

use super::error::ApiError;
use super::options::flags;
use crate::engine::{Condition, Inspect, Part, view};

/// `Inspect`: the configuration alone.
const CONFIG: u64 = 1;
/// `Inspect`: the state alone.
const STATE: u64 = 2;
/// Figures are not told more often.
const SHORTEST: Duration = Duration::from_millis(100);

/// Arguments of `Inspect`.
pub(crate) fn inspect(
    given: u64,
    find: impl FnOnce() -> Result<Arc<view::Container>, ApiError>,
) -> Result<Inspect, ApiError> {
    let what = match flags(given, CONFIG | STATE)? {
        0 => Part::Whole,
        CONFIG => Part::Config,
        STATE => Part::State,
        _ => return Err(ApiError::invalid_args("flags 1 and 2 cannot be given together")),
    };
    Ok(Inspect { what, container: find()? })
}

/// The time from one line of figures to the next.
pub(crate) fn interval(usec: u64) -> Result<Duration, ApiError> {
    let interval = Duration::from_micros(usec);
    if interval < SHORTEST {
        let least = SHORTEST.as_micros();
        return Err(ApiError::invalid_args(format!("interval_usec must be {least} at least")));
    }
    Ok(interval)
}

/// What is waited for.
pub(crate) fn condition(word: &str) -> Result<Condition, ApiError> {
    let wrong = || ApiError::invalid_args("condition must be running, stopped, healthy or removed");
    Condition::from_word(word).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_refused() {
        assert!(interval(99_999).is_err());
        assert_eq!(interval(100_000).unwrap(), SHORTEST);
        assert!(interval(u64::MAX).is_ok());
        assert!(condition("well").is_err());
        for given in [3, 4] {
            let missing = || Err(ApiError::invalid_args("not looked up"));
            let error = inspect(given, missing).unwrap_err();
            assert!(error.message().contains("flag"), "{given}: {error:?}");
        }
    }
}
