//! Confidence intervals by drawing the runs again.
//!
//! The percentile bootstrap, stratified: every resample draws as many runs of each workload as there were, with
//! replacement. Source: Efron and Tibshirani, *An Introduction to the Bootstrap* (1993), chapter 13. Not `BCa` (their
//! chapter 14): its acceleration is a jackknife, which is inconsistent for medians (their chapter 10.6) and undefined
//! where values are infinite, and most of what is reported here is one or the other. The price: intervals of
//! means of few, skewed values are a little short; `docs/compare.md` says by how much.

use rand_core::Rng as _;
use whimbrel_sim::guest::{Generator, stream};

use super::{Interval, nearest_rank};

/// How resamples are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bootstrap {
    /// How many.
    pub resamples: u32,
    /// The share of the resamples within the interval.
    pub level: f64,
    /// From which their randomness comes.
    pub seed: u64,
}

impl Default for Bootstrap {
    /// 1,000 resamples, 95 %, seed 0.
    fn default() -> Self {
        Self { resamples: 1000, level: 0.95, seed: 0 }
    }
}

impl Bootstrap {
    /// The interval of `statistic` over the values of all strata together. None if there are no values, or the
    /// statistic of a resample is none too often to find the ends.
    ///
    /// The same seed draws the same runs from strata of the same sizes: intervals of policies that ran on the same
    /// seeds are made from the same runs.
    pub fn interval(
        self,
        strata: &[&[f64]],
        statistic: impl Fn(&mut [f64]) -> Option<f64>,
    ) -> Option<Interval> {
        let all: usize = strata.iter().map(|stratum| stratum.len()).sum();
        if all == 0 {
            return None;
        }
        let mut rng = stream(self.seed, "bootstrap");
        let mut drawn = Vec::with_capacity(all);
        let mut found = Vec::with_capacity(self.resamples as usize);
        for _ in 0..self.resamples {
            drawn.clear();
            for stratum in strata {
                drawn.extend((0..stratum.len()).map(|_| stratum[below(&mut rng, stratum.len())]));
            }
            found.extend(statistic(&mut drawn));
        }
        if found.len() * 2 < self.resamples as usize {
            return None;
        }
        found.sort_unstable_by(f64::total_cmp);
        let tail = (1.0 - self.level) / 2.0;
        Some(Interval { low: nearest_rank(&found, tail)?, high: nearest_rank(&found, 1.0 - tail)? })
    }
}

/// A number below `bound`, evenly but for one part in 2⁴⁰ at most: there are fewer runs than 2²⁴.
fn below(rng: &mut Generator, bound: usize) -> usize {
    ((u128::from(rng.next_u64()) * bound as u128) >> 64) as usize
}

/// The median: the nearest-rank one, as everywhere. None of none.
pub fn median(values: &mut [f64]) -> Option<f64> {
    let rank = values.len().div_ceil(2).checked_sub(1)?;
    Some(*values.select_nth_unstable_by(rank, f64::total_cmp).1)
}

/// The mean of the finite values; none if there are none.
pub fn mean(values: &mut [f64]) -> Option<f64> {
    let (sum, count) = values
        .iter()
        .filter(|value| value.is_finite())
        .fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// `count` numbers below `bound`, for one resample of several samples together.
pub fn draws(seed: u64, resample: u32, count: usize, bound: usize) -> Vec<usize> {
    let mut rng = stream(seed, &format!("resample {resample}"));
    (0..count).map(|_| below(&mut rng, bound)).collect()
}
