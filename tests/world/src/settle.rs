//! Until nothing is different.

use std::thread;
use std::time::{Duration, Instant};

use crate::Difference;

/// An ended process and its control group take a moment to go.
pub const SETTLING: Duration = Duration::from_secs(10);

/// Waits until there are no differences.
///
/// # Panics
///
/// With each of them, if that takes too long.
pub fn settle(what: &str, differences: impl Fn() -> Vec<Difference>) {
    let end = Instant::now() + SETTLING;
    let mut left = differences();
    while !left.is_empty() && Instant::now() < end {
        thread::sleep(Duration::from_millis(20));
        left = differences();
    }
    let lines: Vec<String> = left.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{what}:\n{}", lines.join("\n"));
}
