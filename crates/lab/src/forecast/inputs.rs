//! How uncertain the inputs of a forecast are, and inputs drawn from that.
//!
//! A factor for all dirty rates, one for all working sets and one for all bandwidths of the scenario, each independent
//! and drawn anew for every sample.

use std::fmt;
use std::str::FromStr;

use rand_core::Rng as _;
use whimbrel_core::policy::presets::PresetError;
use whimbrel_core::units::{Bandwidth, ByteCount};
use whimbrel_sim::guest::{Generator, stream};

use crate::scenario::Setup;
use crate::sweep::simulation;

/// The distribution of a factor around 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Spread {
    /// Lognormal with median 1 and this standard deviation, as a share of its mean. Zero: known.
    Relative(f64),
    /// Evenly between these.
    Between(f64, f64),
}

/// A spread that can't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not accepted; write a relative standard deviation such as 20% (up to 200%), or a range of factors such as 0.8..1.5"
)]
pub struct SpreadError(String);

impl FromStr for Spread {
    type Err = SpreadError;

    fn from_str(text: &str) -> Result<Self, SpreadError> {
        let fail = || SpreadError(text.to_owned());
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|value| value.is_finite());
        if let Some((low, high)) = text.split_once("..") {
            let (low, high) = (number(low).ok_or_else(fail)?, number(high).ok_or_else(fail)?);
            let sane = 0.01 <= low && low <= high && high <= 100.0;
            return if sane { Ok(Self::Between(low, high)) } else { Err(fail()) };
        }
        let share = match text.trim().strip_suffix('%') {
            Some(percent) => number(percent).map(|value| value / 100.0),
            None => number(text),
        };
        share.filter(|share| (0.0..=2.0).contains(share)).map(Self::Relative).ok_or_else(fail)
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relative(0.0) => f.write_str("known exactly"),
            Self::Relative(sd) => write!(f, "within {:.0} % (relative standard deviation)", sd * 100.0),
            Self::Between(low, high) => write!(f, "{low} to {high} times what the scenario says, evenly"),
        }
    }
}

impl Spread {
    fn draw(self, rng: &mut Generator) -> f64 {
        match self {
            Self::Relative(sd) => ((1.0 + sd * sd).ln().sqrt() * normal(rng)).exp(),
            Self::Between(low, high) => low + (high - low) * uniform(rng),
        }
    }
}

fn uniform(rng: &mut Generator) -> f64 {
    ((rng.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// Box and Muller (1958).
fn normal(rng: &mut Generator) -> f64 {
    (-2.0 * uniform(rng).ln()).sqrt() * (std::f64::consts::TAU * uniform(rng)).cos()
}

/// How uncertain the inputs are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Uncertainty {
    /// Of all dirty rates together.
    pub dirty_rate: Spread,
    /// Of all bandwidths of the link together.
    pub bandwidth: Spread,
    /// Of all working sets together; those with an offset of their own stay as they are.
    pub working_set: Spread,
}

impl Default for Uncertainty {
    /// What is assumed without better knowledge: dirty rates within 20 %, the link within 5 %, working sets within 10 %. No
    /// source gives such numbers for guests at large.
    fn default() -> Self {
        Self {
            dirty_rate: Spread::Relative(0.2),
            bandwidth: Spread::Relative(0.05),
            working_set: Spread::Relative(0.1),
        }
    }
}

impl Uncertainty {
    /// Everything known: only luck is left.
    pub const NONE: Self = Self {
        dirty_rate: Spread::Relative(0.0),
        bandwidth: Spread::Relative(0.0),
        working_set: Spread::Relative(0.0),
    };

    /// In words, a line an input.
    pub(super) fn words(&self) -> Vec<String> {
        [("dirty rates", self.dirty_rate), ("bandwidth", self.bandwidth), ("working sets", self.working_set)]
            .map(|(what, spread)| format!("{what} {spread}"))
            .into()
    }

    /// The simulation of a sample: inputs and seed. The same for every policy.
    pub(super) fn draw(
        &self,
        setup: &Setup,
        seed: u64,
        sample: u32,
    ) -> Result<whimbrel_sim::Setup, PresetError> {
        let run_seed = seed.wrapping_add(u64::from(sample));
        let factor = |spread: Spread, name: &str| spread.draw(&mut stream(run_seed, name));
        let mut drawn = setup.clone();
        let rate = factor(self.dirty_rate, "forecast dirty rate");
        for writer in &mut drawn.guest.writers {
            writer.rate *= rate;
            writer.phases.iter_mut().for_each(|phase| phase.rate *= rate);
        }
        scale_link(&mut drawn, factor(self.bandwidth, "forecast bandwidth"));
        let size = factor(self.working_set, "forecast working set");
        scale_sets(&mut drawn, setup, size);
        simulation(&drawn, run_seed)
    }
}

/// Multiplies all bandwidths of the link.
pub(super) fn scale_link(setup: &mut Setup, factor: f64) {
    let scaled = |bandwidth: Bandwidth| {
        let bytes = (bandwidth.as_f64() * factor).round().max(1.0) as u64;
        std::num::NonZeroU64::new(bytes).map_or(bandwidth, Bandwidth::from_bytes_per_second)
    };
    setup.link.bandwidth = scaled(setup.link.bandwidth);
    for change in &mut setup.link.changes {
        change.bandwidth = scaled(change.bandwidth);
    }
}

/// Multiplies all working sets, or as far towards it as the guest has room.
fn scale_sets(drawn: &mut Setup, original: &Setup, mut factor: f64) {
    let page = original.guest.page_size.bytes().0;
    for _ in 0..6 {
        for (writer, before) in drawn.guest.writers.iter_mut().zip(&original.guest.writers) {
            if before.offset.is_none() && before.working_set.0 > 0 {
                let pages = (before.working_set.0 as f64 * factor / page as f64).round().max(1.0);
                writer.working_set = ByteCount(pages as u64 * page);
            }
        }
        if drawn.guest.validate().is_ok() {
            return;
        }
        factor = (factor + 1.0) / 2.0;
    }
    for (writer, before) in drawn.guest.writers.iter_mut().zip(&original.guest.writers) {
        writer.working_set = before.working_set;
    }
}
