//! The runs of a cell, and of a policy, summed up.

use std::collections::BTreeMap;

use serde::Serialize;

use super::row::{At, Names};
use super::spread::SpreadTally;
use super::{Finished, PolicySummary};
use crate::result::{MigrationRecord, SCHEMA};
use crate::stats::nearest_rank;

/// How a number is spread over runs; nearest-rank percentiles, none if there are no runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the runs lie at or below it.
    pub median: Option<f64>,
    /// Nine of ten runs lie at or below it.
    pub p90: Option<f64>,
}

impl Spread {
    /// Of these values, in any order.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_unstable_by(f64::total_cmp);
        Self { median: nearest_rank(&values, 0.5), p90: nearest_rank(&values, 0.9) }
    }
}

/// The runs of one cell.
#[derive(Clone, Debug, PartialEq)]
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
    /// How many ended how, by the name of the outcome.
    pub outcomes: Vec<(&'static str, u32)>,
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

/// The record of a cell as it is stored.
#[derive(Serialize)]
pub(super) struct StoredCell<'a> {
    schema: u32,
    cell: u64,
    policy: &'a str,
    #[serde(flatten)]
    at: &'a At,
    runs: u32,
    converged: f64,
    outcomes: BTreeMap<&'static str, u32>,
    total_ms: Spread,
    downtime_ms: Spread,
    sent_bytes: Spread,
    rounds: Spread,
    disruption_vcpu_s: Spread,
}

impl CellRecord {
    fn of(cell: u64, values: &[Values]) -> Self {
        let mut outcomes: BTreeMap<&'static str, u32> = BTreeMap::new();
        for value in values {
            *outcomes.entry(value.outcome).or_default() += 1;
        }
        let completed = || values.iter().filter(|value| value.completed());
        Self {
            cell,
            runs: values.len() as u32,
            representative: representative(values),
            converged: share(values.iter().filter(|value| value.converged).count(), values.len()),
            outcomes: outcomes.into_iter().collect(),
            total_ms: Spread::of(completed().map(|value| value.total_ms)),
            downtime_ms: Spread::of(completed().map(|value| value.downtime_ms)),
            sent_bytes: Spread::of(values.iter().map(|value| value.sent_bytes)),
            rounds: Spread::of(values.iter().map(|value| value.rounds)),
            disruption_vcpu_s: Spread::of(values.iter().map(|value| value.disruption_vcpu_s)),
        }
    }

    pub(super) fn stored<'a>(&self, policy: &'a str, at: &'a At) -> StoredCell<'a> {
        StoredCell {
            schema: SCHEMA,
            cell: self.cell,
            policy,
            at,
            runs: self.runs,
            converged: self.converged,
            outcomes: self.outcomes.iter().copied().collect(),
            total_ms: self.total_ms,
            downtime_ms: self.downtime_ms,
            sent_bytes: self.sent_bytes,
            rounds: self.rounds,
            disruption_vcpu_s: self.disruption_vcpu_s,
        }
    }

    /// The names of the numbers and their values, in the order of the columns.
    pub(super) fn spreads(&self) -> [(&'static str, Spread); 5] {
        [
            ("total_ms", self.total_ms),
            ("downtime_ms", self.downtime_ms),
            ("sent_bytes", self.sent_bytes),
            ("rounds", self.rounds),
            ("disruption_vcpu_s", self.disruption_vcpu_s),
        ]
    }
}

/// The run in the middle by its total time, of those that completed if there are any.
fn representative(values: &[Values]) -> u32 {
    let any = values.iter().any(Values::completed);
    let mut runs: Vec<usize> = (0..values.len()).filter(|at| !any || values[*at].completed()).collect();
    runs.sort_by(|a, b| values[*a].total_ms.total_cmp(&values[*b].total_ms));
    runs.get(runs.len().saturating_sub(1) / 2).map_or(0, |at| *at as u32)
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// What is kept of a run until its cell is summed up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values {
    outcome: &'static str,
    converged: bool,
    pub(super) total_ms: f64,
    pub(super) downtime_ms: f64,
    sent_bytes: f64,
    rounds: f64,
    pub(super) disruption_vcpu_s: f64,
}

impl Values {
    pub(super) fn of(record: &MigrationRecord) -> Self {
        Self {
            outcome: record.outcome,
            converged: record.converged,
            total_ms: record.total_ms,
            downtime_ms: record.downtime_ms,
            sent_bytes: record.sent_bytes as f64,
            rounds: record.rounds as f64,
            disruption_vcpu_s: record.disruption_vcpu_s,
        }
    }

    pub(super) fn completed(&self) -> bool {
        self.outcome == whimbrel_core::report::Outcome::Completed.as_str()
    }
}

/// Sums up runs that arrive in the order of their cells.
pub(super) struct Tally<'a> {
    names: &'a Names<'a>,
    planned: u64,
    runs: u64,
    cells: Vec<CellRecord>,
    policies: Vec<PolicyTally>,
    spreads: SpreadTally,
    /// The cell in progress.
    cell: u64,
    values: Vec<Values>,
}

struct PolicyTally {
    policy: String,
    runs: usize,
    converged: usize,
    /// Total time and downtime of the runs that completed.
    completed: Vec<(f64, f64)>,
}

impl<'a> Tally<'a> {
    pub(super) fn new(names: &'a Names<'a>, planned: u64) -> Self {
        Self {
            names,
            planned,
            runs: 0,
            cells: Vec::new(),
            policies: Vec::new(),
            spreads: SpreadTally::default(),
            cell: 0,
            values: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, cell: u64, values: &[Values]) {
        if cell != self.cell {
            self.close();
            self.cell = cell;
        }
        self.values.extend_from_slice(values);
    }

    fn close(&mut self) {
        if self.values.is_empty() {
            return;
        }
        self.runs += self.values.len() as u64;
        let tally = policy_tally(&mut self.policies, self.names.policy(self.cell));
        tally.runs += self.values.len();
        tally.converged += self.values.iter().filter(|value| value.converged).count();
        let completed = self.values.iter().filter(|value| value.completed());
        tally.completed.extend(completed.map(|value| (value.total_ms, value.downtime_ms)));
        self.spreads.add(self.names.place(self.cell).1, &self.values);
        self.cells.push(CellRecord::of(self.cell, &self.values));
        self.values.clear();
    }

    pub(super) fn finish(mut self) -> Finished {
        self.close();
        Finished {
            runs: self.runs,
            planned: self.planned,
            cells: self.cells,
            policies: self.policies.into_iter().map(PolicyTally::summary).collect(),
            spreads: self.spreads.finish(),
            typical: Vec::new(),
        }
    }
}

fn policy_tally<'a>(policies: &'a mut Vec<PolicyTally>, name: &str) -> &'a mut PolicyTally {
    let known = policies.iter().position(|tally| tally.policy == name);
    let index = known.unwrap_or_else(|| {
        policies.push(PolicyTally { policy: name.to_owned(), runs: 0, converged: 0, completed: Vec::new() });
        policies.len() - 1
    });
    &mut policies[index]
}

impl PolicyTally {
    fn summary(self) -> PolicySummary {
        PolicySummary {
            policy: self.policy,
            runs: self.runs as u64,
            converged: share(self.converged, self.runs),
            completed: share(self.completed.len(), self.runs),
            total_ms: Spread::of(self.completed.iter().map(|times| times.0)).median,
            downtime_ms: Spread::of(self.completed.iter().map(|times| times.1)).median,
        }
    }
}
