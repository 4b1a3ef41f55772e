//! The runs of a cell, summed up.

use serde::{Deserialize, Serialize};
use whimbrel_core::report::Outcome;

use super::values::Values;
use crate::stats::nearest_rank;
use crate::table::fields::{Fields, Name, name};

/// How a number is spread over runs; nearest-rank percentiles, none if there are no runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Half of the runs lie at or below it.
    pub median: Option<f64>,
    /// Nine of ten runs lie at or below it.
    pub p90: Option<f64>,
    /// More of them; none unless a sweep is summed up.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub levels: Option<Levels>,
}

/// Percentiles of a sweep that is summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // So many of a hundred runs lie at or below it.
pub struct Levels {
    pub p5: f64,
    pub p25: f64,
    pub p75: f64,
    pub p95: f64,
    pub p99: f64,
}

/// The shares of which percentiles are given: the median, nine in ten, and those of [`Levels`].
pub(super) const SHARES: [f64; 7] = [0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99];

impl Spread {
    /// Of these values, in any order.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        Self::sorted(values, false)
    }

    fn sorted(values: impl Iterator<Item = f64>, levels: bool) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_unstable_by(f64::total_cmp);
        let found =
            (!values.is_empty()).then(|| SHARES.map(|share| nearest_rank(&values, share).unwrap_or(0.0)));
        Self::of_quantiles(found, levels)
    }

    /// Of the quantiles at [`SHARES`].
    pub(super) fn of_quantiles(found: Option<[f64; 7]>, levels: bool) -> Self {
        let Some([p5, p25, median, p75, p90, p95, p99]) = found else { return Self::default() };
        let levels = levels.then_some(Levels { p5, p25, p75, p95, p99 });
        Self { median: Some(median), p90: Some(p90), levels }
    }

    fn name_fields(&self, to: &mut impl Fields, levels: bool) {
        to.number(name!("median"), self.median);
        if self.p90.map(f64::to_bits) == self.median.map(f64::to_bits) {
            to.again(name!("p90"));
        } else {
            to.number(name!("p90"), self.p90);
        }
        if let Some(Levels { p5, p25, p75, p95, p99 }) = self.levels {
            to.number(name!("p5"), Some(p5));
            to.number(name!("p25"), Some(p25));
            to.number(name!("p75"), Some(p75));
            to.number(name!("p95"), Some(p95));
            to.number(name!("p99"), Some(p99));
        } else if levels {
            to.leave_out(5);
        }
    }

    /// Names and values of what it holds.
    pub(super) fn columns(&self, levels: bool) -> Vec<(&'static str, Option<f64>)> {
        let mut columns = vec![("median", self.median), ("p90", self.p90)];
        if levels {
            let Levels { p5, p25, p75, p95, p99 } = self.levels.unwrap_or_default();
            let all = [("p5", p5), ("p25", p25), ("p75", p75), ("p95", p95), ("p99", p99)];
            columns.extend(all.map(|(name, value)| (name, self.levels.map(|_| value))));
        }
        columns
    }
}

/// The runs of one cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CellRecord {
    /// The cell's number in the grid.
    pub cell: u64,
    /// Runs that were made.
    pub runs: u32,
    /// Which of them stands for the others: its total time is the median of those that completed, or of all if none
    /// did.
    pub representative: u32,
    /// Share of them that converged.
    pub converged: f64,
    /// How many ended how, in the order of the outcomes' names.
    pub outcomes: Vec<(Outcome, u32)>,
    /// Total migration time of the runs that completed, milliseconds.
    pub total_ms: Spread,
    /// Downtime of the runs that completed, milliseconds.
    pub downtime_ms: Spread,
    /// Bytes sent, all runs.
    pub sent_bytes: Spread,
    /// Passes over memory, all runs.
    pub rounds: Spread,
    /// What the guest lost, all runs, vCPU-seconds.
    pub disruption_vcpu_s: Spread,
}

impl CellRecord {
    /// Of the runs of a cell, with more percentiles if `levels`.
    pub(super) fn of(cell: u64, values: &[Values], levels: bool) -> Self {
        if let [value] = values {
            return Self::of_one(cell, value, levels);
        }
        let mut outcomes: Vec<(Outcome, u32)> = Vec::new();
        for value in values {
            match outcomes.iter_mut().find(|(outcome, _)| *outcome == value.outcome) {
                Some((_, count)) => *count += 1,
                None => outcomes.push((value.outcome, 1)),
            }
        }
        outcomes.sort_unstable_by_key(|(outcome, _)| outcome.as_str());
        let completed = || values.iter().filter(|value| value.completed());
        Self {
            cell,
            runs: values.len() as u32,
            representative: representative(values),
            converged: share(
                values.iter().filter(|value| value.converged).count() as u64,
                values.len() as u64,
            ),
            outcomes,
            total_ms: Spread::sorted(completed().map(|value| value.total_ms), levels),
            downtime_ms: Spread::sorted(completed().map(|value| value.downtime_ms), levels),
            sent_bytes: Spread::sorted(values.iter().map(|value| value.sent_bytes), levels),
            rounds: Spread::sorted(values.iter().map(|value| value.rounds), levels),
            disruption_vcpu_s: Spread::sorted(values.iter().map(|value| value.disruption_vcpu_s), levels),
        }
    }

    /// The same of a single run, by the million.
    fn of_one(cell: u64, value: &Values, levels: bool) -> Self {
        let all = |value| Spread::of_quantiles(Some([value; SHARES.len()]), levels);
        let if_completed = |ms| if value.completed() { all(ms) } else { Spread::default() };
        Self {
            cell,
            runs: 1,
            representative: 0,
            converged: share(value.converged.into(), 1),
            outcomes: vec![(value.outcome, 1)],
            total_ms: if_completed(value.total_ms),
            downtime_ms: if_completed(value.downtime_ms),
            sent_bytes: all(value.sent_bytes),
            rounds: all(value.rounds),
            disruption_vcpu_s: all(value.disruption_vcpu_s),
        }
    }

    /// Names its fields but for the cell itself, in the order of their columns.
    pub(super) fn name_fields(&self, to: &mut impl Fields, levels: bool) {
        to.whole(name!("runs"), self.runs.into());
        to.number(name!("converged"), Some(self.converged));
        let outcomes = self.outcomes.iter().map(|(outcome, count)| (outcome.as_str(), u64::from(*count)));
        to.counts(name!("outcomes"), outcomes);
        for (name, spread) in SPREAD_NAMES.into_iter().zip(self.spreads()) {
            to.open(name);
            spread.name_fields(to, levels);
            to.close();
        }
    }

    /// The spreads, in the order of [`SPREADS`].
    pub(super) fn spreads(&self) -> [Spread; 5] {
        [self.total_ms, self.downtime_ms, self.sent_bytes, self.rounds, self.disruption_vcpu_s]
    }
}

/// The names of the numbers whose spread is told, in the order of the columns.
pub(super) const SPREADS: [&str; 5] =
    ["total_ms", "downtime_ms", "sent_bytes", "rounds", "disruption_vcpu_s"];

const SPREAD_NAMES: [Name; 5] = [
    name!("total_ms"),
    name!("downtime_ms"),
    name!("sent_bytes"),
    name!("rounds"),
    name!("disruption_vcpu_s"),
];

/// The run in the middle by its total time, of those that completed if there are any.
fn representative(values: &[Values]) -> u32 {
    if values.len() == 1 {
        return 0;
    }
    let any = values.iter().any(Values::completed);
    let mut runs: Vec<usize> = (0..values.len()).filter(|at| !any || values[*at].completed()).collect();
    runs.sort_by(|a, b| values[*a].total_ms.total_cmp(&values[*b].total_ms));
    runs.get(runs.len().saturating_sub(1) / 2).map_or(0, |at| *at as u32)
}

pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
