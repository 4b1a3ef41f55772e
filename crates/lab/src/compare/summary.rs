//! Runs summed up: by policy and workload, over all workloads, what differs, and what is worth choosing.

use rayon::prelude::*;
use serde::Serialize;

use super::Comparison;
use super::claims::{self, Claim};
use crate::outcome::Objective;
use crate::stats::{Bootstrap, Interval, mean, median, nearest_rank, pareto_front, wilson};

/// Of what a row has estimates.
const MEASURED: [Objective; 4] =
    [Objective::TotalTime, Objective::Downtime, Objective::Bytes, Objective::Disruption];

/// How a figure is spread over runs. None where a number would be infinite (half of the guests did not arrive, for a
/// median) or there are no runs to make it from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Estimate {
    /// Mean over the runs in which it is finite: total time and downtime of those that completed.
    pub mean: Option<f64>,
    /// Its 95 % bootstrap interval.
    pub mean_interval: Option<Interval>,
    /// Nearest-rank 5th percentile over all runs, failures counting as infinite.
    pub p5: Option<f64>,
    /// The median likewise.
    pub median: Option<f64>,
    /// Its 95 % bootstrap interval; none if an end is infinite.
    pub median_interval: Option<Interval>,
    /// The 95th percentile likewise.
    pub p95: Option<f64>,
}

impl Estimate {
    /// Of values by stratum; `seed` draws the resamples.
    fn of(strata: &[Vec<f64>], seed: u64) -> Self {
        let mut sorted: Vec<f64> = strata.iter().flatten().copied().collect();
        let strata: Vec<&[f64]> = strata.iter().map(Vec::as_slice).collect();
        let bootstrap = Bootstrap { seed, ..Bootstrap::default() };
        let finite = |value: &f64| value.is_finite();
        let whole = |interval: &Interval| interval.low.is_finite() && interval.high.is_finite();
        let mean_of_all = mean(&mut sorted);
        sorted.sort_unstable_by(f64::total_cmp);
        Self {
            mean: mean_of_all,
            mean_interval: bootstrap.interval(&strata, mean),
            p5: nearest_rank(&sorted, 0.05).filter(finite),
            median: nearest_rank(&sorted, 0.5).filter(finite),
            median_interval: bootstrap.interval(&strata, median).filter(whole),
            p95: nearest_rank(&sorted, 0.95).filter(finite),
        }
    }
}

/// A policy on a workload, or over all of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The workload; none: all.
    pub workload: Option<String>,
    /// The policy.
    pub policy: String,
    /// Runs.
    pub runs: u64,
    /// Share of them that converged.
    pub converged: f64,
    /// Share of them in which the guest did not arrive.
    pub failed: f64,
    /// Its 95 % interval (Wilson's).
    pub failed_interval: Option<Interval>,
    /// Total time, seconds.
    pub total_s: Estimate,
    /// Downtime, seconds.
    pub downtime_s: Estimate,
    /// Bytes sent, all runs.
    pub sent_bytes: Estimate,
    /// What the guest lost, all runs, vCPU-seconds.
    pub disruption_vcpu_s: Estimate,
    /// Over all workloads: no policy is better in one of median downtime, median total time, median disruption and
    /// share of failures without being worse in another.
    pub on_front: Option<bool>,
    /// In which share of bootstrap resamples that is so.
    pub front_share: Option<f64>,
}

impl Row {
    /// The estimate of an objective; none for failures, which are a share.
    pub fn estimate(&self, objective: Objective) -> Option<&Estimate> {
        match objective {
            Objective::TotalTime => Some(&self.total_s),
            Objective::Downtime => Some(&self.downtime_s),
            Objective::Bytes => Some(&self.sent_bytes),
            Objective::Disruption => Some(&self.disruption_vcpu_s),
            Objective::Failures => None,
        }
    }
}

/// What a comparison came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The workloads: name, and what it is.
    pub workloads: Vec<(String, String)>,
    /// The policies.
    pub policies: Vec<String>,
    /// Over all workloads, a row a policy.
    pub overall: Vec<Row>,
    /// By workload, then policy.
    pub by_workload: Vec<Row>,
    /// Who is better than whom, as far as that is significant.
    pub claims: Vec<Claim>,
    /// How many tests were made for it.
    pub tests: u64,
    /// Runs of each policy on each workload that a claim about one workload would need at least, if there are too few.
    pub needed_for_single_workloads: Option<u32>,
}

impl Comparison {
    /// Sums the runs up. The same runs give the same summary.
    pub fn summary(&self) -> Summary {
        let (workloads, policies) = (self.workloads.len(), self.policies.len());
        let fronts = fronts(self);
        let overall = (0..policies)
            .into_par_iter()
            .map(|policy| {
                let all: Vec<usize> = (0..workloads).collect();
                let row = row(self, None, &all, policy);
                Row { on_front: Some(fronts[policy].0), front_share: Some(fronts[policy].1), ..row }
            })
            .collect();
        let by_workload = (0..workloads * policies)
            .into_par_iter()
            .map(|at| {
                let (workload, policy) = (at / policies, at % policies);
                row(self, Some(self.workloads[workload].0.clone()), &[workload], policy)
            })
            .collect();
        let found = claims::find(self);
        Summary {
            workloads: self.workloads.clone(),
            policies: self.policies.clone(),
            overall,
            by_workload,
            claims: found.claims,
            tests: found.tests,
            needed_for_single_workloads: found.needed_for_single_workloads,
        }
    }
}

/// The values of a policy's runs, a stratum a workload.
pub(super) fn values(
    comparison: &Comparison,
    workloads: &[usize],
    policy: usize,
    objective: Objective,
) -> Vec<Vec<f64>> {
    let of = |workload: &usize| {
        comparison.figures(*workload, policy).map(|figures| objective.value(figures)).collect()
    };
    workloads.iter().map(of).collect()
}

fn row(comparison: &Comparison, workload: Option<String>, workloads: &[usize], policy: usize) -> Row {
    let runs: Vec<_> = workloads.iter().flat_map(|workload| comparison.figures(*workload, policy)).collect();
    let count = |keep: &dyn Fn(&crate::outcome::Figures) -> bool| {
        runs.iter().filter(|figures| keep(figures)).count() as u64
    };
    let (all, failed) = (runs.len() as u64, count(&|figures| !figures.completed));
    let share = |hits: u64| if all == 0 { 0.0 } else { hits as f64 / all as f64 };
    let [total_s, downtime_s, sent_bytes, disruption_vcpu_s] = MEASURED
        .map(|objective| Estimate::of(&values(comparison, workloads, policy, objective), comparison.seed));
    Row {
        workload,
        policy: comparison.policies[policy].clone(),
        runs: all,
        converged: share(count(&|figures| figures.converged)),
        failed: share(failed),
        failed_interval: wilson(failed, all),
        total_s,
        downtime_s,
        sent_bytes,
        disruption_vcpu_s,
        on_front: None,
        front_share: None,
    }
}

/// What the front is made of.
const FRONT: [Objective; 4] =
    [Objective::Downtime, Objective::TotalTime, Objective::Disruption, Objective::Failures];

/// Resamples for the shares; a share is then known to 0.05 or better.
const RESAMPLES: u32 = 200;

/// For each policy whether it is on the front, and in which share of resamples. All policies are drawn together, so
/// that paired runs stay paired.
fn fronts(comparison: &Comparison) -> Vec<(bool, f64)> {
    let policies = comparison.policies.len();
    let all: Vec<usize> = (0..comparison.workloads.len()).collect();
    let by_policy: Vec<Vec<Vec<Vec<f64>>>> = (0..policies)
        .map(|policy| FRONT.map(|objective| values(comparison, &all, policy, objective)).to_vec())
        .collect();
    let repeat = comparison.repeat as usize;
    let at = |draw: &dyn Fn(usize, usize) -> usize| {
        let point = |objectives: &Vec<Vec<Vec<f64>>>| -> Vec<f64> {
            let of = |(objective, strata): (Objective, &Vec<Vec<f64>>)| {
                let mut drawn: Vec<f64> = strata
                    .iter()
                    .enumerate()
                    .flat_map(|(stratum, values)| (0..repeat).map(move |run| values[draw(stratum, run)]))
                    .collect();
                let value =
                    if objective == Objective::Failures { mean(&mut drawn) } else { median(&mut drawn) };
                value.unwrap_or(f64::INFINITY)
            };
            FRONT.into_iter().zip(objectives).map(of).collect()
        };
        pareto_front(&by_policy.iter().map(point).collect::<Vec<_>>())
    };
    let on = at(&|_, run| run);
    let hits: Vec<u32> = (0..RESAMPLES)
        .into_par_iter()
        .map(|resample| {
            let draws = crate::stats::draws(comparison.seed, resample, all.len() * repeat, repeat);
            let on = at(&|stratum, run| draws[stratum * repeat + run]);
            on.into_iter().map(u32::from).collect::<Vec<u32>>()
        })
        .reduce(|| vec![0; policies], |sum, one| sum.iter().zip(one).map(|(a, b)| a + b).collect());
    on.into_iter().zip(hits).map(|(on, hits)| (on, f64::from(hits) / f64::from(RESAMPLES))).collect()
}
