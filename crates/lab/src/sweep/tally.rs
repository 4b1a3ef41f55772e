//! Sums up the runs of a sweep as they come, in constant memory: cell by cell, policy by policy.
//!
//! Fed with the runs in the order of the grid by whoever writes the rows. It can be stored between two runs and gone
//! on with: what it tells in the end is then the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::PolicySummary;
use super::cell::{CellRecord, SHARES, Spread, share};
use super::row::Names;
use super::sketch::Sketch;
use super::spread::{SpreadTally, Spreads};
use super::values::Values;

/// What is summed up over all cells that are complete.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sums {
    /// Runs of these cells.
    pub(super) runs: u64,
    /// In the order of their first cell.
    policies: Vec<PolicySums>,
    spreads: SpreadTally,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct PolicySums {
    policy: String,
    runs: u64,
    converged: u64,
    completed: u64,
    /// Of those that completed.
    total_ms: Sketch,
    downtime_ms: Sketch,
    /// Of all; kept only if the sweep is summed up.
    sent_bytes: Sketch,
    rounds: Sketch,
    disruption_vcpu_s: Sketch,
}

/// Which sums are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// A record a cell.
    pub(super) cells: bool,
    /// More percentiles, of all numbers.
    pub(super) summary: bool,
}

/// Sums up runs that arrive in the order of their cells.
pub(super) struct Tally<'a> {
    names: &'a Names<'a>,
    wanted: Wanted,
    pub(super) sums: Sums,
    /// The cell in progress.
    cell: u64,
    values: Vec<Values>,
}

impl<'a> Tally<'a> {
    /// Goes on from these sums; `open` are the runs of the cell in progress.
    pub(super) fn new(
        names: &'a Names<'a>,
        wanted: Wanted,
        sums: Sums,
        cell: u64,
        open: Vec<Values>,
    ) -> Self {
        Self { names, wanted, sums, cell, values: open }
    }

    /// Adds a run of the cell in progress or of the next one, which completes the one before: its record is given
    /// then, if records are wanted.
    pub(super) fn add(&mut self, cell: u64, values: &Values) -> Option<CellRecord> {
        let complete = if cell == self.cell { None } else { self.close() };
        self.cell = cell;
        self.values.push(*values);
        complete
    }

    /// Adds all runs of a cell. The one in progress must be closed.
    pub(super) fn add_whole(&mut self, cell: u64, values: &[Values]) {
        debug_assert!(self.values.is_empty());
        self.cell = cell;
        self.sum(values);
    }

    /// The cell in progress and its runs.
    pub(super) fn open(&self) -> (u64, &[Values]) {
        (self.cell, &self.values)
    }

    /// All runs so far, those of the cell in progress too.
    pub(super) fn runs(&self) -> u64 {
        self.sums.runs + self.values.len() as u64
    }

    /// Completes the cell in progress.
    pub(super) fn close(&mut self) -> Option<CellRecord> {
        if self.values.is_empty() {
            return None;
        }
        let values = std::mem::take(&mut self.values);
        self.sum(&values);
        let record = self.wanted.cells.then(|| CellRecord::of(self.cell, &values, self.wanted.summary));
        self.values = values;
        self.values.clear();
        record
    }

    /// Adds the runs of the cell in progress to the sums.
    fn sum(&mut self, values: &[Values]) {
        self.sums.runs += values.len() as u64;
        let place = self.names.policy_index(self.cell);
        let sums = policy_sums(&mut self.sums.policies, self.names.policy_name(place));
        for value in values {
            sums.add(value, self.wanted.summary);
        }
        if self.wanted.cells {
            self.sums.spreads.add(self.names.compared_index(self.cell), values);
        }
    }

    /// How runs are spread, by the place of their cells on the axis that is compared.
    pub(super) fn spreads(&self) -> BTreeMap<usize, Spreads> {
        self.sums.spreads.finish()
    }

    /// Policy by policy.
    pub(super) fn policies(&self) -> Vec<PolicySummary> {
        self.sums.policies.iter().map(|sums| sums.summary(self.wanted.summary)).collect()
    }
}

fn policy_sums<'a>(policies: &'a mut Vec<PolicySums>, name: &str) -> &'a mut PolicySums {
    let known = policies.iter().position(|sums| sums.policy == name);
    let index = known.unwrap_or_else(|| {
        policies.push(PolicySums { policy: name.to_owned(), ..PolicySums::default() });
        policies.len() - 1
    });
    &mut policies[index]
}

impl PolicySums {
    fn add(&mut self, value: &Values, all: bool) {
        self.runs += 1;
        self.converged += u64::from(value.converged);
        if value.completed() {
            self.completed += 1;
            self.total_ms.add(value.total_ms);
            self.downtime_ms.add(value.downtime_ms);
        }
        if all {
            self.sent_bytes.add(value.sent_bytes);
            self.rounds.add(value.rounds);
            self.disruption_vcpu_s.add(value.disruption_vcpu_s);
        }
    }

    fn summary(&self, all: bool) -> PolicySummary {
        let spread = |sketch: &Sketch| Spread::of_quantiles(sketch.quantiles(SHARES), true);
        let sketches =
            [&self.total_ms, &self.downtime_ms, &self.sent_bytes, &self.rounds, &self.disruption_vcpu_s];
        PolicySummary {
            policy: self.policy.clone(),
            runs: self.runs,
            converged: share(self.converged, self.runs),
            completed: share(self.completed, self.runs),
            total_ms: self.total_ms.median(),
            downtime_ms: self.downtime_ms.median(),
            spreads: all.then(|| sketches.map(spread)),
        }
    }
}
