//! The test for runs that are not in pairs: two policies on seeds of their own.
//!
//! Wilcoxon's rank-sum test, stratified by workload, conditional on the ties. Failures are infinite and rank above
//! all that completed, equally. A single small stratum is counted out exactly; otherwise the normal
//! approximation with the variance of the permutations of just these ranks. Source: Lehmann, *Nonparametrics:
//! Statistical Methods Based on Ranks* (1975), sections 1.3 and 3.3.

use super::{Verdict, doubled_midranks, normal::two_sided};

/// Steps of counting above which the normal approximation is taken: up to eight runs of each are counted out.
const MOST_STEPS: u64 = 40_000;

/// Tests whether the first or the second samples tend to be smaller; each stratum, a workload, holds both.
pub fn rank_sum<S: AsRef<[f64]>>(strata: &[(S, S)]) -> Verdict {
    let ranked: Vec<Ranked> = strata
        .iter()
        .filter(|(one, other)| !one.as_ref().is_empty() && !other.as_ref().is_empty())
        .map(|(one, other)| Ranked::of(one.as_ref(), other.as_ref()))
        .collect();
    let excess: f64 = ranked.iter().map(Ranked::excess).sum();
    let variance: f64 = ranked.iter().map(Ranked::variance).sum();
    if variance == 0.0 {
        return Verdict::NOTHING;
    }
    let most: f64 = ranked.iter().map(Ranked::most).sum();
    let p = match &ranked[..] {
        [one] if one.steps() <= MOST_STEPS => one.exact(),
        _ => two_sided(excess / variance.sqrt()),
    };
    Verdict { p, lean: excess / most }
}

/// Two samples, ranked together; ranks are doubled.
struct Ranked {
    ranks: Vec<u32>,
    first: usize,
}

impl Ranked {
    fn of(one: &[f64], other: &[f64]) -> Self {
        let all: Vec<f64> = one.iter().chain(other).copied().collect();
        Self { ranks: doubled_midranks(&all), first: one.len() }
    }

    fn mean(&self) -> f64 {
        (self.ranks.len() + 1) as f64
    }

    fn sum(&self) -> u64 {
        self.ranks[..self.first].iter().map(|rank| u64::from(*rank)).sum()
    }

    /// By how much the ranks of the first sample are above what they would be on average.
    fn excess(&self) -> f64 {
        self.sum() as f64 - self.first as f64 * self.mean()
    }

    /// The largest that could be.
    fn most(&self) -> f64 {
        (self.first * (self.ranks.len() - self.first)) as f64
    }

    fn variance(&self) -> f64 {
        let (all, first) = (self.ranks.len() as f64, self.first as f64);
        let squares: f64 = self.ranks.iter().map(|rank| (f64::from(*rank) - self.mean()).powi(2)).sum();
        first * (all - first) / (all * (all - 1.0)) * squares
    }

    fn steps(&self) -> u64 {
        let total: u64 = self.ranks.iter().map(|rank| u64::from(*rank)).sum();
        total * self.ranks.len() as u64 * self.first as u64
    }

    /// The share of all ways to choose the first sample whose sum is at least as far from the mean.
    fn exact(&self) -> f64 {
        let total: usize = self.ranks.iter().map(|rank| *rank as usize).sum();
        // ways[k][s]: how many choices of k ranks have the sum s.
        let mut ways = vec![vec![0.0; total + 1]; self.first + 1];
        ways[0][0] = 1.0;
        for rank in self.ranks.iter().map(|rank| *rank as usize) {
            for chosen in (1..=self.first).rev() {
                let (fewer, more) = ways.split_at_mut(chosen);
                for sum in rank..=total {
                    more[0][sum] += fewer[chosen - 1][sum - rank];
                }
            }
        }
        let far = self.excess().abs() - 1e-9;
        let middle = self.first as f64 * self.mean();
        let of = |keep: &dyn Fn(f64) -> bool| {
            let kept = ways[self.first].iter().enumerate().filter(|(sum, _)| keep(*sum as f64));
            kept.map(|(_, ways)| ways).sum::<f64>()
        };
        of(&|sum| (sum - middle).abs() >= far) / of(&|_| true)
    }
}
