//! Percentiles of any number of values in constant memory.
//!
//! The first [`EXACT`] values are kept as they are; beyond them values are counted in bins, 512 for each power of two,
//! so that a percentile is within 0.1 % of the value at its rank (and the least and the greatest are exact). A sketch
//! depends on the values and not on their order, and can be stored and gone on with.
//!
//! Own and not a crate: of the bits of a number the bin is a shift, and what is stored must be the same on every
//! machine.

use serde::{Deserialize, Serialize};

use crate::stats::nearest_rank;

/// So many values are kept as they are.
const EXACT: usize = 2048;
/// Bits of the mantissa that make bins: 2⁹ in a power of two.
const BITS: u32 = 9;
/// What is less is counted as nothing: a nanosecond, in milliseconds.
const LEAST: f64 = 1e-6;

/// The bins of a power of two.
type Octave = [u64; 1 << BITS];

/// How many values are in each bin. Found by their place, one step a value, and made for a power of two once it has
/// any: 4 KiB each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<(u32, u64)>", into = "Vec<(u32, u64)>")]
struct Bins {
    /// From the power of two that [`LEAST`] is in.
    octaves: Vec<Option<Box<Octave>>>,
}

/// Values, summed up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sketch {
    /// All values, while they are few.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    exact: Vec<f64>,
    /// What is below [`LEAST`], of values that are counted.
    #[serde(default)]
    nothing: u64,
    #[serde(default, skip_serializing_if = "Bins::is_empty")]
    bins: Bins,
    /// The least and the greatest of those that are counted.
    ends: Option<(f64, f64)>,
}

impl Sketch {
    /// Adds a value; what is no number, or less than nothing, counts as nothing.
    #[inline]
    pub(super) fn add(&mut self, value: f64) {
        let value = if value.is_finite() { value.max(0.0) } else { 0.0 };
        if self.ends.is_none() && self.exact.len() < EXACT {
            self.exact.push(value);
            return;
        }
        for value in std::mem::take(&mut self.exact) {
            self.count(value);
        }
        self.count(value);
    }

    fn count(&mut self, value: f64) {
        let (least, greatest) = self.ends.unwrap_or((value, value));
        self.ends = Some((least.min(value), greatest.max(value)));
        if value < LEAST {
            self.nothing += 1;
        } else {
            self.bins.add(bin_of(value), 1);
        }
    }

    /// The values below or at which these shares of all lie, shares ascending; none of none.
    pub(super) fn quantiles<const N: usize>(&self, shares: [f64; N]) -> Option<[f64; N]> {
        let Some((least, greatest)) = self.ends else {
            let mut sorted = self.exact.clone();
            sorted.sort_unstable_by(f64::total_cmp);
            return (!sorted.is_empty())
                .then(|| shares.map(|share| nearest_rank(&sorted, share).unwrap_or(0.0)));
        };
        let count = self.nothing + self.bins.iter().map(|(_, count)| count).sum::<u64>();
        let mut bins = self.bins.iter();
        let (mut passed, mut value) = (self.nothing, 0.0);
        Some(shares.map(|share| {
            let rank = ((share * count as f64).ceil() as u64).clamp(1, count);
            while passed < rank {
                let Some((bin, count)) = bins.next() else { break };
                passed += count;
                value = middle(bin);
            }
            if rank == count { greatest } else { value.clamp(least, greatest) }
        }))
    }

    /// Half of the values lie at or below it.
    pub(super) fn median(&self) -> Option<f64> {
        self.quantiles([0.5]).map(|[median]| median)
    }
}

impl Bins {
    fn is_empty(&self) -> bool {
        self.octaves.is_empty()
    }

    #[inline]
    fn add(&mut self, bin: u32, count: u64) {
        let (octave, place) = ((bin >> BITS).saturating_sub(bin_of_least() >> BITS), bin % (1 << BITS));
        match self.octaves.get_mut(octave as usize) {
            Some(Some(bins)) => bins[place as usize] += count,
            _ => self.add_first(octave as usize, place as usize, count),
        }
    }

    #[cold]
    fn add_first(&mut self, octave: usize, place: usize, count: u64) {
        if self.octaves.len() <= octave {
            self.octaves.resize(octave + 1, None);
        }
        self.octaves[octave].get_or_insert_with(|| Box::new([0; 1 << BITS]))[place] += count;
    }

    /// Those that have any, in ascending order.
    fn iter(&self) -> impl Iterator<Item = (u32, u64)> {
        let octaves = (bin_of_least() >> BITS..).zip(&self.octaves);
        let octaves = octaves.filter_map(|(octave, bins)| Some((octave, bins.as_deref()?)));
        let all = octaves.flat_map(|(octave, bins)| (octave << BITS..).zip(bins));
        all.filter_map(|(bin, count)| (*count > 0).then_some((bin, *count)))
    }
}

impl From<Vec<(u32, u64)>> for Bins {
    fn from(counts: Vec<(u32, u64)>) -> Self {
        let mut bins = Self::default();
        for (bin, count) in counts {
            bins.add(bin.min(bin_of(f64::MAX)), count);
        }
        bins
    }
}

impl From<Bins> for Vec<(u32, u64)> {
    fn from(bins: Bins) -> Self {
        bins.iter().collect()
    }
}

/// The bin of a value.
const fn bin_of(value: f64) -> u32 {
    (value.to_bits() >> (52 - BITS)) as u32
}

/// The least bin that any value is in.
const fn bin_of_least() -> u32 {
    bin_of(LEAST)
}

/// The middle of a bin.
fn middle(bin: u32) -> f64 {
    let edge = |bin: u32| f64::from_bits(u64::from(bin) << (52 - BITS));
    f64::midpoint(edge(bin), edge(bin + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sketch(values: &[f64]) -> Sketch {
        let mut sketch = Sketch::default();
        for value in values {
            sketch.add(*value);
        }
        sketch
    }

    #[test]
    fn of_nothing_there_are_no_quantiles() {
        assert_eq!(Sketch::default().median(), None);
    }

    #[test]
    fn what_is_no_number_counts_as_nothing() {
        let sketch = sketch(&[f64::NAN, f64::INFINITY, -3.0, 5.0]);
        assert_eq!(sketch.quantiles([0.75, 1.0]), Some([0.0, 5.0]));
    }

    proptest! {
        /// Few values have exact quantiles; of many they are within 0.1 % of the value at the rank, in any order, and
        /// a sketch that was stored goes on as if it had not been.
        #[test]
        fn quantiles_are_as_exact_as_stated(
            mut values in prop_oneof![
                prop::collection::vec(prop_oneof![Just(0.0), 1e-6..1e12f64, 0.1..10.0f64], 1..300),
                prop::collection::vec(prop_oneof![1 => Just(0.0), 5 => 1e-6..1e12f64, 9 => 0.1..10.0f64], 2000..5000),
            ],
            cut in 0.0..1.0f64,
        ) {
            let whole = sketch(&values);
            let cut = (cut * values.len() as f64) as usize;
            let stored = serde_json::to_string(&sketch(&values[..cut])).unwrap();
            let mut again: Sketch = serde_json::from_str(&stored).unwrap();
            values[cut..].iter().for_each(|value| again.add(*value));
            prop_assert_eq!(&again, &whole);
            values.reverse();
            let shares = [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0];
            let found = whole.quantiles(shares).unwrap();
            let bits = |found: [f64; 8]| found.map(f64::to_bits);
            prop_assert_eq!(bits(sketch(&values).quantiles(shares).unwrap()), bits(found));
            values.sort_by(f64::total_cmp);
            let error = if values.len() <= EXACT { 0.0 } else { 0.001 };
            for (share, found) in shares.into_iter().zip(found) {
                let exact = nearest_rank(&values, share).unwrap();
                prop_assert!((found - exact).abs() <= error * exact, "{share}: {found} for {exact}");
            }
        }
    }
}
