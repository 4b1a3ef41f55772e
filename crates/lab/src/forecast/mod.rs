//! Forecasts: what a migration will come to under each policy, before anything starts, and what would have to change.
//!
//! The command line names a scenario, how uncertain its inputs are, and what is wanted; [`run`] simulates the migration
//! many times with inputs drawn from that uncertainty and gives quantiles, and [`Forecast::verdict`] says in words
//! whether the wanted downtime can be kept. Every number comes from runs of the simulator, at whatever fidelity the
//! scenario names: nothing here is a formula of its own. The same seed gives the same forecast.

mod inputs;
mod search;
mod slowed;
mod table;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rayon::prelude::*;
use serde::Serialize;
use whimbrel_sim::simulate;

pub use self::inputs::{Spread, SpreadError, Uncertainty};
pub use self::search::Verdict;
use crate::compare::{CompareError, Contender};
use crate::outcome::{Figures, Objective};
use crate::scenario::Setup;

/// The version of the records.
pub const SCHEMA: u32 = 1;

/// Told of a part of the work and how many runs it takes.
pub type Begins<'a> = &'a (dyn Fn(&str, u64) + Sync);

/// What is wanted of the migration, and how it is forecast.
#[derive(Clone)]
pub struct Options<'a> {
    /// Runs of each policy.
    pub samples: u32,
    /// From which inputs and seeds are drawn.
    pub seed: u64,
    /// How uncertain the inputs are.
    pub uncertainty: Uncertainty,
    /// The downtime that is not to be exceeded.
    pub downtime: Duration,
    /// The total time that is not to be exceeded; none: the scenario's time limit.
    pub deadline: Option<Duration>,
    /// Threads; none: one a core. Changes no number.
    pub jobs: Option<NonZeroUsize>,
    /// Once it is true, no further run is begun.
    pub stop: Option<&'a AtomicBool>,
    /// Called when a part of the work begins, with its name and how many runs it takes; 0: that depends on them.
    pub begins: Option<Begins<'a>>,
    /// Called after every run, by the thread that made it.
    pub after_run: Option<&'a (dyn Fn() + Sync)>,
}

impl Default for Options<'_> {
    /// 100 runs, seed 0, the uncertainty that is assumed without better knowledge, 300 ms (QEMU's default limit).
    fn default() -> Self {
        Self {
            samples: 100,
            seed: 0,
            uncertainty: Uncertainty::default(),
            downtime: Duration::from_millis(300),
            deadline: None,
            jobs: None,
            stop: None,
            begins: None,
            after_run: None,
        }
    }
}

impl Options<'_> {
    fn begin(&self, what: &str, runs: u64) {
        if let Some(begins) = self.begins {
            begins(what, runs);
        }
    }

    /// Whether a run keeps what is wanted.
    fn kept(&self, figures: &Figures) -> bool {
        let in_time = self.deadline.is_none_or(|deadline| figures.total_s <= deadline.as_secs_f64());
        figures.completed && in_time && figures.downtime_s <= self.downtime.as_secs_f64()
    }
}

/// The 5th, 50th and 95th percentile of what will be. None: the guest does not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// One run of twenty lies below.
    pub p5: Option<f64>,
    /// Half of the runs lie below.
    pub p50: Option<f64>,
    /// One run of twenty lies above.
    pub p95: Option<f64>,
}

impl Quantiles {
    /// Of values in any order. The outer ranks are taken such that nine of ten *further* values are expected between
    /// them (or a few more: ranks are whole), not nine of ten of these.
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let next = values.len() as f64 + 1.0;
        let at = |rank: f64| {
            let rank = (rank as usize).clamp(1, values.len().max(1));
            values.get(rank - 1).copied().filter(|value| value.is_finite())
        };
        Self { p5: at((0.05 * next).floor()), p50: at((0.5 * next).floor()), p95: at((0.95 * next).ceil()) }
    }

    /// Whether a value lies between the outer two; infinite: the guest did not arrive.
    pub fn contains(&self, value: f64) -> bool {
        let end = |quantile: Option<f64>| quantile.unwrap_or(f64::INFINITY);
        end(self.p5) <= value && value <= end(self.p95)
    }
}

/// What a policy will come to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PolicyForecast {
    /// The policy.
    pub policy: String,
    /// Share of the runs in which the guest arrives.
    pub arrives: f64,
    /// Share of the runs that keep what is wanted.
    pub keeps: f64,
    /// Total time, seconds.
    pub total_s: Quantiles,
    /// Downtime, seconds.
    pub downtime_s: Quantiles,
    /// Bytes sent, also by migrations that fail.
    pub sent_bytes: Quantiles,
}

/// A forecast.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Runs of each policy.
    pub samples: u32,
    /// What was assumed of the inputs, in words.
    pub assumed: Vec<String>,
    /// The policies, in their order.
    pub policies: Vec<PolicyForecast>,
    /// Whether what is wanted can be kept, and what would do.
    pub verdict: Verdict,
    /// The same in words.
    pub words: String,
}

/// Forecasts a migration under every policy.
///
/// # Errors
///
/// If there are no policies or one can't be simulated, and if it was stopped.
pub fn run(setup: &Setup, contenders: &[Contender], options: &Options<'_>) -> Result<Forecast, CompareError> {
    if contenders.is_empty() || options.samples == 0 {
        return Err(CompareError::Nothing(if contenders.is_empty() { "policies" } else { "runs" }));
    }
    let jobs = options.jobs.map_or_else(rayon::current_num_threads, NonZeroUsize::get);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs).build()?;
    pool.install(|| {
        options.begin("policies", contenders.len() as u64 * u64::from(options.samples));
        let policies = contenders
            .iter()
            .map(|contender| forecast(setup, contender, options))
            .collect::<Result<Vec<_>, _>>()?;
        options.begin("what would do", 0);
        let verdict = search::verdict(setup, contenders, &policies, options)?;
        Ok(Forecast {
            schema: SCHEMA,
            samples: options.samples,
            assumed: options.uncertainty.words(),
            words: verdict.words(setup, options),
            policies,
            verdict,
        })
    })
}

/// The runs of a policy, in the order of their samples. All policies meet the same inputs.
///
/// # Errors
///
/// If the policy can't be simulated, and if it was stopped.
pub fn runs(
    setup: &Setup,
    contender: &Contender,
    options: &Options<'_>,
    samples: u32,
) -> Result<Vec<Figures>, CompareError> {
    (0..samples)
        .into_par_iter()
        .map(|sample| {
            if options.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                return Err(CompareError::Stopped);
            }
            let mut simulation = options.uncertainty.draw(setup, options.seed, sample)?;
            simulation.policy = contender.policy.clone();
            simulation.changes.clone_from(&contender.changes);
            let run = simulate(&simulation).map_err(|source| CompareError::Run {
                policy: contender.name.clone(),
                workload: "the scenario".to_owned(),
                seed: simulation.seed,
                source: Box::new(source),
            })?;
            if let Some(after_run) = options.after_run {
                after_run();
            }
            Ok(Figures::of(&run))
        })
        .collect()
}

fn forecast(
    setup: &Setup,
    contender: &Contender,
    options: &Options<'_>,
) -> Result<PolicyForecast, CompareError> {
    let figures = runs(setup, contender, options, options.samples)?;
    let share = |keep: &dyn Fn(&Figures) -> bool| {
        figures.iter().filter(|figures| keep(figures)).count() as f64 / figures.len() as f64
    };
    let quantiles = |objective: Objective| {
        Quantiles::of(figures.iter().map(|figures| objective.value(figures)).collect())
    };
    Ok(PolicyForecast {
        policy: contender.name.clone(),
        arrives: share(&|figures| figures.completed),
        keeps: share(&|figures| options.kept(figures)),
        total_s: quantiles(Objective::TotalTime),
        downtime_s: quantiles(Objective::Downtime),
        sent_bytes: quantiles(Objective::Bytes),
    })
}
