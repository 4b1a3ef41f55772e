//! What a real guest dirtied, beside what the simulator says of the same guest at the same times
//! ([`record_like`](whimbrel_sim::trace::record_like)).

use serde::Serialize;
use whimbrel_sim::trace::Trace;

use super::run::Watched;
use crate::trace::stats::{Statistics, TooLarge};

/// The version of [`Beside`].
pub const SCHEMA: u32 = 1;

/// Up to here a real guest and its simulation agree.
pub const AGREEMENT: f64 = 0.05;

/// A measured number and a simulated one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// Of the real guest.
    pub measured: f64,
    /// Of the simulated one.
    pub simulated: f64,
}

impl Pair {
    /// How far the measured one is above the simulated one, as a share of that; none where that is zero and it is not.
    pub fn difference(self) -> Option<f64> {
        match (self.measured, self.simulated) {
            (0.0, 0.0) => Some(0.0),
            (_, 0.0) => None,
            (measured, simulated) => Some(measured / simulated - 1.0),
        }
    }

    fn agrees(self) -> bool {
        self.difference().is_some_and(|difference| difference.abs() <= AGREEMENT)
    }
}

/// What a vCPU held of the rate that it wanted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// Page writes a second that it wanted, on average.
    pub wanted: f64,
    /// That it made.
    pub held: f64,
    /// Page writes that it gave up.
    pub forgone: u64,
}

/// The guest's heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pulse {
    /// Beats.
    pub beats: u64,
    /// The longest time without one, seconds.
    pub longest_gap_s: f64,
}

/// A harvest of both.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HarvestPair {
    /// When it ended, seconds from the start.
    pub at_s: f64,
    /// How long the real one took, seconds.
    pub took_s: f64,
    /// Pages found.
    pub pages: Pair,
}

/// A point of the writable-working-set curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CurvePair {
    /// Length of the window, seconds.
    pub window_s: f64,
    /// Different pages in it, on average.
    pub pages: Pair,
}

/// A real guest and its simulation.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Beside {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The dirty log.
    pub log: &'static str,
    /// Why not a better one.
    pub instead: Option<String>,
    /// How long starting it took, seconds.
    pub start_s: f64,
    /// How long stopping it took, seconds.
    pub stop_s: f64,
    /// The vCPUs.
    pub rates: Vec<Rate>,
    /// Pages dirtied a second, each counted once an interval.
    pub dirty_rate: Pair,
    /// All harvests.
    pub harvests: Vec<HarvestPair>,
    /// Different pages by length of window.
    pub curve: Vec<CurvePair>,
    /// What the guest itself saw.
    pub heartbeat: Pulse,
    /// Whether dirty rate and curve agree within [`AGREEMENT`].
    pub agrees: bool,
}

impl Beside {
    /// Sets what was watched beside the trace of its simulation.
    ///
    /// # Errors
    ///
    /// If there are too many pages.
    pub fn new(watched: &Watched, simulated: &Trace) -> Result<Self, TooLarge> {
        let (real, model) = (Statistics::of(&watched.trace)?, Statistics::of(simulated)?);
        let curve: Vec<_> = real
            .curve
            .iter()
            .zip(&model.curve)
            .map(|(real, model)| CurvePair {
                window_s: real.window_s,
                pages: Pair { measured: real.mean, simulated: model.mean },
            })
            .collect();
        let harvests =
            watched.harvests.iter().zip(simulated.intervals()).map(|(harvest, interval)| HarvestPair {
                at_s: harvest.at.as_secs_f64(),
                took_s: harvest.took.as_secs_f64(),
                pages: Pair { measured: harvest.pages.as_f64(), simulated: interval.pages().as_f64() },
            });
        let rate =
            |trace: &Trace| trace.dirtied().as_f64() / trace.end().as_secs_f64().max(f64::MIN_POSITIVE);
        let dirty_rate = Pair { measured: rate(&watched.trace), simulated: rate(simulated) };
        let longest = watched.heartbeat.longest.first().map_or(0.0, |gap| gap.length.as_secs_f64());
        Ok(Self {
            schema: SCHEMA,
            log: watched.log,
            instead: watched.instead.clone(),
            start_s: watched.start.as_secs_f64(),
            stop_s: watched.stop.as_secs_f64(),
            rates: watched.vcpus.iter().map(rate_of).collect(),
            dirty_rate,
            harvests: harvests.collect(),
            agrees: dirty_rate.agrees() && curve.iter().all(|point| point.pages.agrees()),
            curve,
            heartbeat: Pulse { beats: watched.heartbeat.beats, longest_gap_s: longest },
        })
    }
}

fn rate_of(work: &whimbrel_guest::lab::Work) -> Rate {
    let ran = work.ran.as_secs_f64().max(f64::MIN_POSITIVE);
    Rate { wanted: work.wanted / ran, held: work.writes as f64 / ran, forgone: work.forgone }
}
