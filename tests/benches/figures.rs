//! Many samples in few figures.

use serde::{Deserialize, Serialize};

/// The middle of some samples and how far they spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// Half of them are below.
    pub(crate) median: f64,
    /// One in ten is below.
    pub(crate) p10: f64,
    /// One in ten is above.
    pub(crate) p90: f64,
}

impl Summary {
    /// Of samples in any order; nothing if there are none.
    pub(crate) fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share| quantile(&sorted, share);
        Some(Self { median: at(0.5)?, p10: at(0.1)?, p90: at(0.9)? })
    }
}

/// Between what the median is of that of which these are samples, 95 times in 100: two of them, by their order
/// alone, however they are distributed. Nothing if there are none.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place among some hundred samples"
)]
pub(crate) fn median_within(samples: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let mut sorted: Vec<f64> = samples.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let count = sorted.len() as f64;
    // How many of them are below the median is binomial: that many standard deviations from one half.
    let below = (count / 2.0 - 1.96 * count.sqrt() / 2.0).floor().max(1.0) as usize - 1;
    Some((sorted[below], sorted[last - below]))
}

/// The value below which `share` of the sorted samples are, on the line between the two nearest.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place among some hundred samples"
)]
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(low + (high - low) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_median_is_follows_from_the_order() {
        for (count, wanted) in [(0, None), (1, Some((0.0, 0.0))), (5, Some((0.0, 4.0)))] {
            let samples = (0..count).map(f64::from);
            assert_eq!(median_within(samples), wanted, "{count}");
        }
        // As tables of the binomial distribution have it: ranks 10 and 21 of 30, 40 and 61 of 100.
        for (count, (low, high)) in [(30, (8.0, 21.0)), (100, (39.0, 60.0))] {
            let samples = (0..count).rev().map(f64::from);
            assert_eq!(median_within(samples), Some((low, high)), "{count}");
        }
    }

    #[test]
    fn the_middle_and_the_spread() {
        for (samples, wanted) in [
            (vec![], None),
            (vec![3.0], Some((3.0, 3.0, 3.0))),
            (vec![9.0, 1.0], Some((5.0, 1.8, 8.2))),
            ((0..=10).rev().map(f64::from).collect(), Some((5.0, 1.0, 9.0))),
        ] {
            let wanted = wanted.map(|(median, p10, p90)| Summary { median, p10, p90 });
            assert_eq!(Summary::of(samples.clone()), wanted, "{samples:?}");
        }
    }
}
