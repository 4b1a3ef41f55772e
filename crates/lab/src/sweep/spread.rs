//! How runs are spread, policy by policy, in constant memory.

use std::collections::BTreeMap;

use super::cell::Values;

/// Bins grow by this factor: a percentile is right within half a per cent.
const GROWTH: f64 = 1.01;
/// What is less is counted as nothing: a nanosecond, in milliseconds.
const LEAST: f64 = 1e-6;

/// Counts of numbers in bins that grow by a factor.
#[derive(Clone, Debug, Default)]
struct Bins {
    /// What is below [`LEAST`].
    nothing: u64,
    bins: BTreeMap<i32, u64>,
}

impl Bins {
    fn add(&mut self, value: f64) {
        if value < LEAST || !value.is_finite() {
            self.nothing += 1;
        } else {
            *self.bins.entry((value.ln() / GROWTH.ln()).floor() as i32).or_default() += 1;
        }
    }

    /// The percentiles 0 to 100, each the middle of its bin; none of none.
    fn percentiles(&self) -> Vec<f64> {
        let count = self.nothing + self.bins.values().sum::<u64>();
        if count == 0 {
            return Vec::new();
        }
        let mut bins = self.bins.iter();
        let (mut passed, mut value) = (self.nothing, 0.0);
        (0..=100u64)
            .map(|percent| {
                let rank = (percent * count).div_ceil(100).max(1);
                while passed < rank {
                    let Some((bin, count)) = bins.next() else { break };
                    passed += count;
                    value = GROWTH.powf(f64::from(*bin) + 0.5);
                }
                value
            })
            .collect()
    }
}

/// The runs of one value of the axis whose values are compared: of a policy, as a rule.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Spreads {
    /// Runs.
    pub runs: u64,
    /// Runs that completed; the rest is about these.
    pub completed: u64,
    /// Percentiles 0 to 100 of the total time, milliseconds, within half a per cent; empty if none completed.
    pub total_ms: Vec<f64>,
    /// The same of the downtime, milliseconds.
    pub downtime_ms: Vec<f64>,
    /// The same of what the guest lost, vCPU-seconds.
    pub disruption_vcpu_s: Vec<f64>,
}

/// Counts runs by the place of their cell on one axis.
#[derive(Debug, Default)]
pub(super) struct SpreadTally(BTreeMap<usize, Counts>);

#[derive(Debug, Default)]
struct Counts {
    runs: u64,
    completed: u64,
    total_ms: Bins,
    downtime_ms: Bins,
    disruption_vcpu_s: Bins,
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
                total_ms: counts.total_ms.percentiles(),
                downtime_ms: counts.downtime_ms.percentiles(),
                disruption_vcpu_s: counts.disruption_vcpu_s.percentiles(),
            };
            (*place, spreads)
        });
        spreads.collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn of_nothing_there_are_no_percentiles() {
        assert!(Bins::default().percentiles().is_empty());
    }

    proptest! {
        /// The percentiles of the bins are those of the values, within half a per cent.
        #[test]
        fn percentiles_are_right_within_half_a_per_cent(
            mut values in prop::collection::vec(prop_oneof![Just(0.0), 1e-6..1e12f64, 0.1..10.0f64], 1..300),
        ) {
            let mut bins = Bins::default();
            for value in &values {
                bins.add(*value);
            }
            values.sort_by(f64::total_cmp);
            for (percent, found) in bins.percentiles().into_iter().enumerate() {
                let exact = values[(percent * values.len()).div_ceil(100).max(1) - 1];
                prop_assert!((found - exact).abs() <= 0.00501 * exact, "{percent}: {found} for {exact}");
            }
        }
    }
}
