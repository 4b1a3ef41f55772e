//! Statistics of runs: quantiles, intervals, who beats whom, what is worth choosing.
//!
//! Comparison, tuning and forecasts call it; it knows numbers and no policies. Values may be infinite (a guest that
//! did not arrive) and are never NaN. Where chance is needed it is drawn from a seed, so that the same runs give
//! the same words.

mod bootstrap;
mod holm;
mod normal;
mod pareto;
mod rank_sum;
mod shares;
mod signed_rank;
#[cfg(test)]
pub(crate) mod tests;

use serde::Serialize;

pub use self::bootstrap::{Bootstrap, draws, mean, median};
pub use self::holm::holm;
pub use self::pareto::{dominates, pareto_front};
pub use self::rank_sum::rank_sum;
pub use self::shares::wilson;
pub use self::signed_rank::signed_rank;

/// The value at or below which the share `share` of `sorted` lies: the nearest-rank quantile, always one of the
/// values, so that it is defined for infinite ones too. None of none.
pub fn nearest_rank(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Interval {
    /// Whether `value` lies in it, ends included.
    pub fn contains(self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// What a test of two samples came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The chance of a difference at least as large, to either side, if there were none.
    pub p: f64,
    /// Which is smaller: below zero the first, above zero the second; from -1 to 1, as far as ranks go.
    pub lean: f64,
}

impl Verdict {
    /// Nothing was found, because nothing differed.
    pub const NOTHING: Self = Self { p: 1.0, lean: 0.0 };
}

/// Twice the midrank of every value: the mean of the ranks that equal values share, doubled so that it is whole. Ranks
/// are counted from 1.
fn doubled_midranks(values: &[f64]) -> Vec<u32> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0; values.len()];
    let mut from = 0;
    while from < order.len() {
        let same = order[from..].iter().take_while(|at| values[**at] == values[order[from]]).count();
        for at in &order[from..from + same] {
            // The mean of from + 1 to from + same, twice.
            ranks[*at] = (2 * from + same + 1) as u32;
        }
        from += same;
    }
    ranks
}
