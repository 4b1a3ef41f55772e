//! What a set of parameters is worth: the objectives, over all workloads and seeds.
//!
//! Used by the search and by the assessment of what it found. Every candidate meets the same workloads with
//! the same seeds, so that candidates differ by their parameters and not by luck.
//!
//! An objective's score is its geometric mean, first over the seeds of a workload and then over the workloads,
//! each of which so counts the same, whether it is a small guest or a terabyte; of `failures` it is the
//! share. A migration that failed still has to be made, and is charged for that: see [`charged`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use whimbrel_core::units::{Bandwidth, ByteCount};
use whimbrel_sim::config::Fidelity;
use whimbrel_sim::simulate;

use super::{Space, TuneError};
use crate::outcome::{Figures, Objective};
use crate::sweep::simulation;
use crate::workloads::Workload;

/// Below this a value is this: logarithms need one, and no difference so small matters. A microsecond, a
/// byte, a vCPU-microsecond.
const LEAST: f64 = 1e-6;

/// A workload as it is run.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) name: String,
    simulation: whimbrel_sim::Setup,
}

/// Runs sets of parameters.
pub(super) struct Scorer<'a> {
    pub(super) space: &'a Space,
    pub(super) cases: &'a [Case],
    pub(super) objectives: &'a [Objective],
    /// The first seed; the others follow it.
    pub(super) seed: u64,
    /// Runs of each workload.
    pub(super) repeat: u32,
    pub(super) stop: &'a AtomicBool,
    pub(super) after_run: &'a (dyn Fn() + Sync),
    known: Mutex<BTreeMap<BTreeMap<String, String>, Vec<f64>>>,
}

/// The values of one set of parameters: by objective, by workload, by seed; failures as 0 and 1, everything
/// else as logarithms.
pub(super) type Values = Vec<Vec<Vec<f64>>>;

/// The workloads as they are run.
pub(super) fn cases(workloads: &[Workload], fidelity: Option<Fidelity>) -> Result<Vec<Case>, TuneError> {
    let case = |workload: &Workload| {
        let mut setup = workload.scenario.setup().clone();
        setup.run.fidelity = fidelity.unwrap_or(setup.run.fidelity);
        // Changes are of the policy that is replaced.
        setup.policy.changes.clear();
        Ok(Case { name: workload.name.clone(), simulation: simulation(&setup, 0)? })
    };
    workloads.iter().map(case).collect()
}

/// The figures of a migration, and if it failed, of making it in another way: the guest is paused and all
/// its memory sent over the undisturbed link. So a policy that gives up early does not pass for a fast one, and no
/// penalty had to be chosen.
pub(super) fn charged(figures: Figures, memory: ByteCount, bandwidth: Bandwidth, vcpus: u32) -> Figures {
    if figures.completed {
        return figures;
    }
    let copying = bandwidth.time_to_send(memory).as_secs_f64();
    Figures {
        total_s: figures.total_s + copying,
        downtime_s: copying,
        sent_bytes: figures.sent_bytes.saturating_add(memory.0),
        disruption_vcpu_s: figures.disruption_vcpu_s + copying * f64::from(vcpus),
        ..figures
    }
}

/// An objective of figures that are charged: finite.
fn value(objective: Objective, figures: &Figures) -> f64 {
    match objective {
        Objective::Failures => f64::from(u8::from(!figures.completed)),
        Objective::TotalTime => figures.total_s.max(LEAST).ln(),
        Objective::Downtime => figures.downtime_s.max(LEAST).ln(),
        Objective::Bytes => (figures.sent_bytes as f64).max(LEAST).ln(),
        Objective::Disruption => figures.disruption_vcpu_s.max(LEAST).ln(),
    }
}

/// A score in its own unit: seconds, bytes, vCPU-seconds, or the share of runs that failed.
pub(super) fn natural(objective: Objective, score: f64) -> f64 {
    if objective == Objective::Failures { score } else { score.exp() }
}

impl<'a> Scorer<'a> {
    pub(super) fn new(
        space: &'a Space,
        cases: &'a [Case],
        objectives: &'a [Objective],
        (seed, repeat): (u64, u32),
        (stop, after_run): (&'a AtomicBool, &'a (dyn Fn() + Sync)),
    ) -> Self {
        Self { space, cases, objectives, seed, repeat, stop, after_run, known: Mutex::default() }
    }

    /// The scores of each point, in their order; none if it was stopped.
    ///
    /// # Errors
    ///
    /// The first run that can't be simulated.
    pub(super) fn scores(&self, points: &[Vec<f64>]) -> Result<Option<Vec<Vec<f64>>>, TuneError> {
        let scores = points.par_iter().map(|point| self.score(&self.space.parameters(point)));
        // Into a list first: which of several errors is told must not depend on threads.
        scores.collect::<Vec<_>>().into_iter().collect()
    }

    /// The scores of a set of parameters.
    fn score(&self, parameters: &BTreeMap<String, String>) -> Result<Option<Vec<f64>>, TuneError> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scores) = known().get(parameters) {
            for _ in 0..self.cases.len() * self.repeat as usize {
                (self.after_run)();
            }
            return Ok(Some(scores.clone()));
        }
        let Some(values) = self.values(parameters)? else { return Ok(None) };
        let scores: Vec<f64> = values.iter().map(|cases| mean_of_means(cases)).collect();
        known().insert(parameters.clone(), scores.clone());
        Ok(Some(scores))
    }

    /// Every run's values; none if it was stopped.
    pub(super) fn values(&self, parameters: &BTreeMap<String, String>) -> Result<Option<Values>, TuneError> {
        let runs: Vec<(&Case, u32)> =
            self.cases.iter().flat_map(|case| (0..self.repeat).map(move |run| (case, run))).collect();
        let figures: Vec<Result<Option<Figures>, TuneError>> =
            runs.par_iter().map(|&(case, run)| self.run(case, run, parameters)).collect();
        let figures: Option<Vec<Figures>> = figures.into_iter().collect::<Result<_, _>>()?;
        let Some(figures) = figures else { return Ok(None) };
        let of = |objective: &Objective| {
            let values: Vec<f64> = figures.iter().map(|figures| value(*objective, figures)).collect();
            values.chunks(self.repeat.max(1) as usize).map(<[f64]>::to_vec).collect()
        };
        Ok(Some(self.objectives.iter().map(of).collect()))
    }

    /// Words that are not as at the start, as a phrase: no number decides what can be simulated.
    fn tried(&self, parameters: &BTreeMap<String, String>) -> String {
        let start = self.space.given();
        let word = |value: &str| !value.contains(|c: char| c.is_ascii_digit());
        let changed =
            parameters.iter().filter(|(name, value)| word(value) && start.get(*name) != Some(*value));
        let changed: Vec<_> = changed.map(|(name, value)| format!("{name}={value}")).collect();
        let policy = self.space.preset().name;
        if changed.is_empty() { policy.to_owned() } else { format!("{policy}:{}", changed.join(",")) }
    }

    fn run(
        &self,
        case: &Case,
        run: u32,
        parameters: &BTreeMap<String, String>,
    ) -> Result<Option<Figures>, TuneError> {
        if self.stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut setup = case.simulation.clone();
        setup.policy = self.space.preset().build(parameters)?;
        setup.seed = self.seed.wrapping_add(run.into());
        let done = simulate(&setup).map_err(|source| TuneError::Run {
            parameters: self.tried(parameters),
            workload: case.name.clone(),
            seed: setup.seed,
            source: Box::new(source),
        })?;
        (self.after_run)();
        let guest = &setup.guest;
        Ok(Some(charged(Figures::of(&done), guest.memory, setup.link.bandwidth, guest.vcpus)))
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

/// The mean over workloads of the mean over seeds.
pub(super) fn mean_of_means(cases: &[Vec<f64>]) -> f64 {
    mean(cases.iter().map(|runs| mean(runs.iter().copied())))
}
