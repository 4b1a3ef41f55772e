//! Validation: every measured migration predicted from its configuration alone, and how far off.
//!
//! [`validate`] reads reference files ([`measured`]), lets the simulator predict each run whose features
//! it knows ([`features`]) under a host profile ([`profile`]), and compares. Nothing that was measured during or after a
//! migration reaches the prediction. What a run's chance decides (where in a round the look at what is pending
//! falls, the queue's phase) is not in its configuration: a prediction is the median of a few seeds.

pub mod features;
pub mod measured;
pub mod profile;
pub mod programs;

use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;
use whimbrel_core::units::Timestamp;
use whimbrel_sim::{Run, Setup, simulate};

use self::features::Features;
use self::measured::{Configuration, Figures, Measured, ReferenceError};
use self::profile::{HostProfile, ProfileError};
use self::programs::{Job, Programs, Sampled};
use crate::result::milliseconds;
use crate::sweep::Spread;

/// Simulated runs behind each prediction.
pub const SEEDS: u64 = 15;

/// How predictions compare with measurements.
#[derive(Clone, Debug, Serialize)]
pub struct Validation {
    /// Version of these fields.
    pub schema: u32,
    /// Runs that were predicted.
    pub runs: usize,
    /// Runs that were not, and why.
    pub skipped: Vec<Skipped>,
    /// Relative errors, over runs where both converged.
    pub errors: Errors,
    /// Share of those runs whose downtime is within 25 % or 20 ms.
    pub downtime_near: f64,
    /// Share of them whose number of rounds is exact.
    pub rounds_exact: f64,
    /// Share of them whose number of rounds is within one or 5 %.
    pub rounds_near: f64,
    /// Runs of which one converged and the other did not.
    pub verdict_wrong: usize,
    /// Each run.
    pub per_run: Vec<RunComparison>,
    /// Runs of real programs, by configuration; none if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub programs: Option<Sampled>,
}

/// A run that was not predicted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Skipped {
    /// Which.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// Relative errors by figure; fractions: 0.007 is 0.7 %.
#[derive(Clone, Debug, Serialize)]
pub struct Errors {
    /// Total migration time.
    pub total_time: Spread,
    /// Bytes sent.
    pub sent_bytes: Spread,
    /// Downtime as the source reports it.
    pub downtime: Spread,
    /// What the guest's absence really was.
    pub silence: Spread,
}

/// One run, measured and predicted.
#[derive(Clone, Debug, Serialize)]
pub struct RunComparison {
    /// Its name.
    pub name: String,
    /// What happened.
    pub measured: Figures,
    /// What was predicted.
    pub predicted: Figures,
}

/// A validation that could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ValidateError {
    /// A reference file.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The host profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// What was measured of a program.
    #[error(transparent)]
    Program(#[from] crate::measured::MeasuredError),
    /// A run could not be simulated.
    #[error("run `{run}` could not be simulated")]
    Simulation {
        /// Which.
        run: String,
        /// Why.
        source: whimbrel_sim::SimError,
    },
}

/// Predicts every run of `files` whose features the simulator has, and compares.
///
/// # Errors
///
/// [`ValidateError`] if a file or a run of it is not what it should be.
pub fn validate<P: AsRef<Path>>(
    files: &[P],
    profile: &HostProfile,
    samples: u32,
) -> Result<Validation, ValidateError> {
    let mut jobs = Vec::new();
    let (mut runs, mut skipped): (Vec<(Measured, Features)>, Vec<Skipped>) = (Vec::new(), Vec::new());
    for file in files {
        let (read, without) = measured::read(file.as_ref())?;
        skipped.extend(
            without
                .into_iter()
                .map(|name| Skipped { name, reason: "the measurement gave no result".to_owned() }),
        );
        let mut programs = Programs::beside(file.as_ref())?;
        for run in read {
            let known = match (Features::of(&run.cfg), &run.cfg.prog) {
                (Ok(features), Some(program)) => {
                    programs.of(program, &run.cfg)?.map(|program| (features, Some(program)))
                }
                (features, _) => features.map(|features| (features, None)),
            };
            match known {
                Err(reason) => skipped.push(Skipped { name: run.cfg.name, reason }),
                Ok((features, Some(program))) => jobs.push(Job { run, features, program }),
                Ok((features, None)) => runs.push((run, features)),
            }
        }
    }
    let per_run = runs
        .par_iter()
        .map(|(run, features)| {
            Ok(RunComparison {
                name: run.cfg.name.clone(),
                measured: run.result.figures(features.post_copy),
                predicted: predict(&run.cfg, features, profile)?,
            })
        })
        .collect::<Result<Vec<_>, ValidateError>>()?;
    let programs = if jobs.is_empty() { None } else { Some(programs::sample(jobs, profile, samples)?) };
    Ok(Validation { programs, ..compare(per_run, skipped) })
}

/// The median of [`SEEDS`] simulated runs; not converged if most of them did not.
///
/// # Errors
///
/// [`ValidateError`] if the run is not possible.
pub fn predict(
    run: &Configuration,
    features: &Features,
    profile: &HostProfile,
) -> Result<Figures, ValidateError> {
    let figures = (0..SEEDS)
        .map(|seed| {
            let setup = profile.setup_for(run, features, seed)?;
            predicted(&setup, run, features, profile)
        })
        .collect::<Result<Vec<_>, ValidateError>>()?;
    let converged: Vec<Figures> = figures.into_iter().filter(|figures| figures.converged).collect();
    if converged.len() as u64 * 2 <= SEEDS {
        return Ok(Figures::default());
    }
    let median = |figure: fn(&Figures) -> Option<f64>| Spread::of(converged.iter().filter_map(figure)).median;
    Ok(Figures {
        converged: true,
        total_ms: median(|figures| figures.total_ms),
        sent_bytes: median(|figures| figures.sent_bytes),
        downtime_ms: median(|figures| figures.downtime_ms),
        silence_ms: median(|figures| figures.silence_ms),
        rounds: median(|figures| figures.rounds.map(|rounds| rounds as f64)).map(|rounds| rounds as u64),
    })
}

/// The figures of one simulated run.
fn predicted(
    setup: &Setup,
    run: &Configuration,
    features: &Features,
    profile: &HostProfile,
) -> Result<Figures, ValidateError> {
    let done =
        simulate(setup).map_err(|source| ValidateError::Simulation { run: run.name.clone(), source })?;
    Ok(as_qemu_reports(&done, features, profile))
}

/// The figures as QEMU's source would report them: without a return path it calls itself done when its
/// last byte is in the socket, with one when the destination says that it runs, in post-copy that it has
/// everything.
fn as_qemu_reports(run: &Run, features: &Features, profile: &HostProfile) -> Figures {
    let (Some(handed_over), Some(silence)) = (run.handed_over, run.silence) else {
        return Figures::default();
    };
    let downtime = &run.report.downtime;
    let at_source = downtime.at_source();
    let total = if features.post_copy {
        run.report.total
    } else if features.return_path {
        handed_over.since(Timestamp::ZERO) + silence.saturating_sub(at_source)
    } else {
        handed_over.since(Timestamp::ZERO)
    };
    let seen = if features.return_path { silence } else { at_source };
    Figures {
        converged: true,
        total_ms: Some(milliseconds(total + profile.setup)),
        sent_bytes: Some(run.report.sent.as_f64()),
        downtime_ms: (!features.post_copy).then(|| milliseconds(seen)),
        silence_ms: Some(milliseconds(downtime.total())),
        rounds: Some(run.report.rounds.len() as u64),
    }
}

fn compare(per_run: Vec<RunComparison>, skipped: Vec<Skipped>) -> Validation {
    let both: Vec<&RunComparison> =
        per_run.iter().filter(|run| run.measured.converged && run.predicted.converged).collect();
    let spread = |figure: fn(&Figures) -> Option<f64>| {
        Spread::of(both.iter().filter_map(|run| relative(figure(&run.measured)?, figure(&run.predicted)?)))
    };
    let share = |holds: fn(&RunComparison) -> bool| {
        if both.is_empty() {
            return 0.0;
        }
        both.iter().filter(|run| holds(run)).count() as f64 / both.len() as f64
    };
    Validation {
        schema: crate::result::SCHEMA,
        runs: per_run.len(),
        skipped,
        errors: Errors {
            total_time: spread(|figures| figures.total_ms),
            sent_bytes: spread(|figures| figures.sent_bytes),
            downtime: spread(|figures| figures.downtime_ms),
            silence: spread(|figures| figures.silence_ms),
        },
        downtime_near: share(RunComparison::downtime_is_near),
        rounds_exact: share(|run| run.measured.rounds == run.predicted.rounds),
        rounds_near: share(RunComparison::rounds_are_near),
        verdict_wrong: per_run.iter().filter(|run| run.measured.converged != run.predicted.converged).count(),
        per_run,
        programs: None,
    }
}

impl RunComparison {
    /// Within 25 % or 20 ms.
    fn downtime_is_near(&self) -> bool {
        let (Some(measured), Some(predicted)) = (self.measured.downtime_ms, self.predicted.downtime_ms)
        else {
            return false;
        };
        let off = (measured - predicted).abs();
        off <= 20.0 || off <= 0.25 * measured
    }

    /// Within one or 5 %.
    fn rounds_are_near(&self) -> bool {
        let (Some(measured), Some(predicted)) = (self.measured.rounds, self.predicted.rounds) else {
            return false;
        };
        let off = measured.abs_diff(predicted);
        off <= 1 || off as f64 <= 0.05 * measured as f64
    }
}

/// The error relative to what was measured; none if that was zero.
fn relative(measured: f64, predicted: f64) -> Option<f64> {
    (measured != 0.0).then(|| ((predicted - measured) / measured).abs())
}
