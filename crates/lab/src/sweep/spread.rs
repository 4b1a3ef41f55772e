//! How runs are spread, policy by policy, in constant memory.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::sketch::Sketch;
use super::values::Values;

/// The runs of one value of the axis whose values are compared: of a policy, as a rule.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Spreads {
    /// Runs.
    pub runs: u64,
    /// Runs that completed; the rest is about these.
    pub completed: u64,
    /// Percentiles 0 to 100 of the total time, milliseconds, within 0.1 %; empty if none completed.
    pub total_ms: Vec<f64>,
    /// The same of the downtime, milliseconds.
    pub downtime_ms: Vec<f64>,
    /// The same of what the guest lost, vCPU-seconds.
    pub disruption_vcpu_s: Vec<f64>,
}

/// Counts runs by the place of their cell on one axis.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct SpreadTally(BTreeMap<usize, Counts>);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counts {
    runs: u64,
    completed: u64,
    total_ms: Sketch,
    downtime_ms: Sketch,
    disruption_vcpu_s: Sketch,
}

impl SpreadTally {
    pub(super) fn add(&mut self, place: usize, values: &[Values]) {
        let counts = self.0.entry(place).or_default();
        counts.runs += values.len() as u64;
        for value in values.iter().filter(|value| value.completed()) {
            counts.completed += 1;
            counts.total_ms.add(value.total_ms);
            counts.downtime_ms.add(value.downtime_ms);
            counts.disruption_vcpu_s.add(value.disruption_vcpu_s);
        }
    }

    /// By place on the axis; places without runs left out.
    pub(super) fn finish(&self) -> BTreeMap<usize, Spreads> {
        let spreads = self.0.iter().map(|(place, counts)| {
            let spreads = Spreads {
                runs: counts.runs,
                completed: counts.completed,
                total_ms: percentiles(&counts.total_ms),
                downtime_ms: percentiles(&counts.downtime_ms),
                disruption_vcpu_s: percentiles(&counts.disruption_vcpu_s),
            };
            (*place, spreads)
        });
        spreads.collect()
    }
}

/// The percentiles 0 to 100; none of none.
fn percentiles(sketch: &Sketch) -> Vec<f64> {
    let shares: [f64; 101] = std::array::from_fn(|percent| percent as f64 / 100.0);
    sketch.quantiles(shares).map_or_else(Vec::new, Vec::from)
}
