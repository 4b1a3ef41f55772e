//! Who is better than whom, and by how much: every pair of policies, every objective, over all workloads and on each.
//!
//! Two families of tests, each corrected by Holm at half of the 5 %: those over all workloads, which are few, and those
//! on single workloads, which are many. So the chance that *any* claim that is printed is false stays below 5 %, and the
//! many do not drown the few. Runs on the same seeds are compared in pairs (signed ranks), others by
//! rank sums; see [`crate::stats`] for both.

use rayon::prelude::*;
use serde::Serialize;

use super::summary::values;
use super::{Comparison, Seeds};
use crate::outcome::Objective;
use crate::stats::{Bootstrap, Interval, Verdict, holm, rank_sum, signed_rank};

/// The chance of a false claim among all that are made.
pub(super) const LEVEL: f64 = 0.05;

/// Over what a claim is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Over all workloads of the comparison.
    Overall,
    /// On this one.
    Workload(String),
}

/// One policy is better than another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Claim {
    /// Where.
    pub scope: Scope,
    /// In what.
    pub objective: Objective,
    /// The policy that is better: its values tend to be smaller.
    pub better: String,
    /// The policy that is worse.
    pub worse: String,
    /// The level at which this still holds, all other tests considered; at most 0.05.
    pub p: f64,
    /// What the worse one needs for each unit of the better one: the geometric mean over runs (in pairs) or over workloads
    /// (of medians) in which both are finite and above zero. None if there are none, and for failures.
    pub ratio: Option<f64>,
    /// Its 95 % bootstrap interval; only for runs in pairs.
    pub ratio_interval: Option<Interval>,
    /// By how much the share of failures differs; for failures only.
    pub failures_less: Option<f64>,
}

/// What was found.
pub(super) struct Found {
    pub(super) claims: Vec<Claim>,
    pub(super) tests: u64,
    pub(super) needed_for_single_workloads: Option<u32>,
}

/// A test that is made.
struct Test {
    workload: Option<usize>,
    pair: (usize, usize),
    objective: Objective,
    verdict: Verdict,
}

/// Makes all tests and keeps what is significant.
pub(super) fn find(comparison: &Comparison) -> Found {
    let overall = family(comparison, &[None]);
    let each: Vec<Option<usize>> = (0..comparison.workloads.len()).map(Some).collect();
    // One workload is all of them: there is nothing to test twice.
    let single = if each.len() > 1 { family(comparison, &each) } else { Vec::new() };
    let families = if single.is_empty() { 1.0 } else { 2.0 };
    let mut claims = significant(comparison, &overall, families);
    claims.extend(significant(comparison, &single, families));
    Found {
        claims,
        tests: (overall.len() + single.len()) as u64,
        needed_for_single_workloads: needed(comparison, single.len(), families),
    }
}

fn family(comparison: &Comparison, scopes: &[Option<usize>]) -> Vec<Test> {
    let policies = comparison.policies.len();
    let pairs = (0..policies).flat_map(|one| (one + 1..policies).map(move |other| (one, other)));
    let tests: Vec<_> = pairs
        .flat_map(|pair| scopes.iter().map(move |scope| (pair, *scope)))
        .flat_map(|(pair, scope)| Objective::ALL.map(|objective| (pair, scope, objective)))
        .collect();
    tests
        .into_par_iter()
        .map(|(pair, workload, objective)| {
            let verdict = test(comparison, workload, pair, objective);
            Test { workload, pair, objective, verdict }
        })
        .collect()
}

fn strata(comparison: &Comparison, workload: Option<usize>) -> Vec<usize> {
    workload.map_or_else(|| (0..comparison.workloads.len()).collect(), |workload| vec![workload])
}

fn test(
    comparison: &Comparison,
    workload: Option<usize>,
    (one, other): (usize, usize),
    objective: Objective,
) -> Verdict {
    let workloads = strata(comparison, workload);
    let [first, second] = [one, other].map(|policy| values(comparison, &workloads, policy, objective));
    match comparison.seeds {
        Seeds::Paired => {
            let zip = |(a, b): (Vec<f64>, Vec<f64>)| a.into_iter().zip(b).collect::<Vec<_>>();
            signed_rank(&first.into_iter().zip(second).map(zip).collect::<Vec<_>>())
        }
        Seeds::Independent => rank_sum(&first.into_iter().zip(second).collect::<Vec<_>>()),
    }
}

fn significant(comparison: &Comparison, tests: &[Test], families: f64) -> Vec<Claim> {
    let adjusted = holm(&tests.iter().map(|test| test.verdict.p).collect::<Vec<_>>());
    let adjusted = adjusted.into_iter().map(|p| p * families);
    let kept: Vec<_> =
        tests.iter().zip(adjusted).filter(|(test, p)| *p <= LEVEL && test.verdict.lean != 0.0).collect();
    kept.into_par_iter().map(|(test, p)| claim(comparison, test, p)).collect()
}

fn claim(comparison: &Comparison, test: &Test, p: f64) -> Claim {
    let (one, other) = test.pair;
    let (better, worse) = if test.verdict.lean < 0.0 { (one, other) } else { (other, one) };
    let workloads = strata(comparison, test.workload);
    let of = |policy| values(comparison, &workloads, policy, test.objective);
    let (small, large) = (of(better), of(worse));
    let failures = test.objective == Objective::Failures;
    let (ratio, ratio_interval) = match comparison.seeds {
        _ if failures => (None, None),
        Seeds::Paired => paired_ratio(&small, &large, comparison.seed),
        Seeds::Independent => (ratio_of_medians(&small, &large), None),
    };
    let share = |strata: &[Vec<f64>]| {
        let count: usize = strata.iter().map(Vec::len).sum();
        strata.iter().flatten().sum::<f64>() / count.max(1) as f64
    };
    Claim {
        scope: test
            .workload
            .map_or(Scope::Overall, |workload| Scope::Workload(comparison.workloads[workload].0.clone())),
        objective: test.objective,
        better: comparison.policies[better].clone(),
        worse: comparison.policies[worse].clone(),
        p,
        ratio,
        ratio_interval,
        failures_less: failures.then(|| share(&large) - share(&small)),
    }
}

/// The logarithm of what the worse value is of the better one; none where there is no such ratio.
fn log_ratio(small: f64, large: f64) -> Option<f64> {
    let usable = |value: f64| value.is_finite() && value > 0.0;
    (usable(small) && usable(large)).then(|| (large / small).ln())
}

fn paired_ratio(small: &[Vec<f64>], large: &[Vec<f64>], seed: u64) -> (Option<f64>, Option<Interval>) {
    let logs: Vec<Vec<f64>> = small
        .iter()
        .zip(large)
        .map(|(small, large)| small.iter().zip(large).filter_map(|(a, b)| log_ratio(*a, *b)).collect())
        .collect();
    let mut all: Vec<f64> = logs.iter().flatten().copied().collect();
    let logs: Vec<&[f64]> = logs.iter().map(Vec::as_slice).collect();
    let bootstrap = Bootstrap { resamples: 500, seed, ..Bootstrap::default() };
    let interval = bootstrap.interval(&logs, crate::stats::mean);
    let interval = interval.map(|Interval { low, high }| Interval { low: low.exp(), high: high.exp() });
    (crate::stats::mean(&mut all).map(f64::exp), interval)
}

fn ratio_of_medians(small: &[Vec<f64>], large: &[Vec<f64>]) -> Option<f64> {
    let median = |values: &Vec<f64>| crate::stats::median(&mut values.clone());
    let logs = small.iter().zip(large).filter_map(|(a, b)| log_ratio(median(a)?, median(b)?));
    crate::stats::mean(&mut logs.collect::<Vec<_>>()).map(f64::exp)
}

/// How many runs the tests on single workloads need before any of them can be significant, if there are fewer: with
/// `n` runs no difference is less likely to be luck than that all of them lie to one side.
fn needed(comparison: &Comparison, tests: usize, families: f64) -> Option<u32> {
    if tests == 0 {
        return None;
    }
    let bar = LEVEL / families / tests as f64;
    let least = |runs: u32| {
        let [low, high] = [0.0, f64::from(runs)].map(|from| (0..runs).map(move |run| from + f64::from(run)));
        match comparison.seeds {
            Seeds::Paired => signed_rank(&[low.zip(high).collect::<Vec<_>>()]).p,
            Seeds::Independent => rank_sum(&[(low.collect::<Vec<_>>(), high.collect())]).p,
        }
    };
    let needed = (1..200).find(|runs| least(*runs) <= bar)?;
    (needed > comparison.repeat).then_some(needed)
}
