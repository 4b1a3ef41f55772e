//! The runs of a cell, and of a policy, summed up.

use std::collections::BTreeMap;

use serde::Serialize;

use super::row::{At, policy_of};
use super::{Finished, PolicySummary};
use crate::result::{MigrationRecord, SCHEMA};
use crate::scenario::Grid;

/// The value below or at which the share `share` of `sorted` lies: the nearest-rank percentile, always
/// one of the values. None of none.
pub fn nearest_rank(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// How a number is spread over the runs of a cell; nearest-rank percentiles.
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

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// What is kept of a run until its cell is summed up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values {
    outcome: &'static str,
    converged: bool,
    total_ms: f64,
    downtime_ms: f64,
    sent_bytes: f64,
    rounds: f64,
    disruption_vcpu_s: f64,
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

    fn completed(&self) -> bool {
        self.outcome == whimbrel_core::report::Outcome::Completed.as_str()
    }
}

/// Sums up runs that arrive in the order of their cells.
pub(super) struct Tally {
    repeat: u32,
    cells: Vec<CellRecord>,
    /// The cell in progress.
    cell: u64,
    values: Vec<Values>,
    /// Of each cell's runs, what the summary by policy needs.
    times: Vec<(u64, bool, Option<(f64, f64)>)>,
}

impl Tally {
    pub(super) fn new(repeat: u32) -> Self {
        Self { repeat, cells: Vec::new(), cell: 0, values: Vec::new(), times: Vec::new() }
    }

    pub(super) fn add(&mut self, cell: u64, values: &[Values]) {
        if cell != self.cell {
            self.close();
            self.cell = cell;
        }
        self.values.extend_from_slice(values);
        self.times.extend(values.iter().map(|value| {
            (cell, value.converged, value.completed().then_some((value.total_ms, value.downtime_ms)))
        }));
    }

    fn close(&mut self) {
        if !self.values.is_empty() {
            self.cells.push(CellRecord::of(self.cell, &self.values));
            self.values.clear();
        }
    }

    pub(super) fn finish(mut self, grid: &Grid) -> Finished {
        self.close();
        Finished {
            runs: self.times.len() as u64,
            planned: grid.cells() * u64::from(self.repeat),
            policies: summaries(grid, &self.times),
            cells: self.cells,
        }
    }
}

fn summaries(grid: &Grid, times: &[(u64, bool, Option<(f64, f64)>)]) -> Vec<PolicySummary> {
    let mut groups: Vec<(String, Vec<usize>)> = Vec::new();
    for (index, (cell, ..)) in times.iter().enumerate() {
        let name = policy_of(grid, *cell);
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, members)) => members.push(index),
            None => groups.push((name.to_owned(), vec![index])),
        }
    }
    let summary = |(policy, members): (String, Vec<usize>)| {
        let completed = || members.iter().filter_map(|index| times[*index].2);
        PolicySummary {
            policy,
            runs: members.len() as u64,
            converged: share(members.iter().filter(|index| times[**index].1).count(), members.len()),
            completed: share(completed().count(), members.len()),
            total_ms: Spread::of(completed().map(|(total, _)| total)).median,
            downtime_ms: Spread::of(completed().map(|(_, downtime)| downtime)).median,
        }
    };
    groups.into_iter().map(summary).collect()
}
