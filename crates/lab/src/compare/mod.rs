//! Comparison of policies: all of them on the same workloads and seeds, and what may be concluded from it.
//!
//! The command line names [`Contender`]s and workloads, lets [`run`] make the runs, and prints or stores the
//! [`Summary`]; whoever embeds the laboratory does the same with a policy of their own. Of a run only its
//! [`Figures`] are kept, 56 bytes. What is called significant is so after correction for everything that was
//! compared (`claims`); nothing here may say "better" without it. The same seed gives the same bytes on any
//! number of threads.

mod claims;
mod contender;
mod files;
mod page;
#[cfg(test)]
mod proof;
mod record;
mod summary;
mod table;
#[cfg(test)]
mod tests;

use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use whimbrel_core::policy::presets::PresetError;
use whimbrel_sim::{SimError, simulate};

pub use self::claims::{Claim, Scope};
pub use self::contender::Contender;
pub use self::files::{Published, ResultDir};
pub use self::page::picture;
pub use self::record::RunRow;
pub use self::summary::{Estimate, Row, Summary};
use crate::outcome::Figures;
use crate::output::OutputError;
use crate::scenario::{PolicyError, ScenarioError};
use crate::sweep::order::InOrder;
use crate::sweep::simulation;
use crate::workloads::Workload;

/// The version of the records.
pub const SCHEMA: u32 = 1;

/// Why a comparison was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// Two policies, or two workloads, have the same name.
    #[error("there are two {what} called `{name}`; give one of them another name")]
    SameName {
        /// `policies` or `workloads`.
        what: &'static str,
        /// Their name.
        name: String,
    },
    /// There is nothing to compare.
    #[error("there are no {0} to compare")]
    Nothing(&'static str),
    /// A text names no policy.
    #[error(transparent)]
    Policy(#[from] Box<PolicyError>),
    /// There is no such preset, or it does not take a parameter.
    #[error(transparent)]
    Preset(#[from] PresetError),
    /// A scenario is wrong.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// A run could not be simulated.
    #[error("cannot simulate `{policy}` on `{workload}`, seed {seed}")]
    Run {
        /// The policy.
        policy: String,
        /// The workload.
        workload: String,
        /// The run's seed.
        seed: u64,
        /// What the simulator says.
        source: Box<SimError>,
    },
    /// A file could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A directory could not be made.
    #[error("cannot make the directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory holds a file of a name that would be written, and no comparison wrote it.
    #[error(
        "cannot write results to {}: its `{name}` was not written by a comparison; choose another directory, or add --force",
        path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// The file.
        name: &'static str,
    },
    /// It was asked to stop.
    #[error("it was stopped")]
    Stopped,
    /// The threads could not be started.
    #[error("cannot start the threads of the comparison")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

/// Which seeds the policies run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seeds {
    /// All on the same: run `i` of every policy meets the same guest. Differences are then of the policies alone.
    #[default]
    Paired,
    /// Each on its own.
    Independent,
}

/// How a comparison is made.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Runs of each policy on each workload.
    pub repeat: u32,
    /// From which the seeds are counted.
    pub seed: u64,
    /// Which seeds the policies run on.
    pub seeds: Seeds,
    /// Threads; none: one a core. Changes no number.
    pub jobs: Option<NonZeroUsize>,
    /// Once it is true, no further run is begun.
    pub stop: Option<&'a AtomicBool>,
    /// Called after every run, by the thread that made it.
    pub after_run: Option<&'a (dyn Fn() + Sync)>,
}

impl Default for Options<'_> {
    /// Ten runs of each, seeds from 0, paired, on all cores.
    fn default() -> Self {
        Self { repeat: 10, seed: 0, seeds: Seeds::Paired, jobs: None, stop: None, after_run: None }
    }
}

/// The runs of a comparison.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The workloads' names and what they are, in their order.
    pub workloads: Vec<(String, String)>,
    /// The policies' names, in their order.
    pub policies: Vec<String>,
    /// Runs of each policy on each workload that are complete.
    pub repeat: u32,
    /// Runs of each that were asked for; more than `repeat` if it was stopped.
    pub planned: u32,
    /// Which seeds were taken.
    pub seeds: Seeds,
    /// The first of them.
    pub seed: u64,
    /// By repetition, workload and policy, the last counting fastest.
    figures: Vec<Figures>,
}

impl Comparison {
    /// The figures of a policy's runs on a workload, in the order of their seeds.
    pub fn figures(&self, workload: usize, policy: usize) -> impl ExactSizeIterator<Item = &Figures> {
        let step = self.workloads.len() * self.policies.len();
        let first = workload * self.policies.len() + policy;
        (0..self.repeat as usize).map(move |repetition| &self.figures[repetition * step + first])
    }
}

impl Comparison {
    /// The summary as JSON: what `summary.json` holds.
    pub fn json(&self, summary: &Summary) -> String {
        record::json(self, summary)
    }
}

/// Runs every policy on every workload and hands each run's row to `row`, in order: by repetition, workload, policy.
///
/// The scenarios' own policies and sweeps are left aside. If it is stopped, the repetitions that are whole
/// remain: all policies have then met the same.
///
/// # Errors
///
/// The first thing that failed, `row` included.
pub fn run_with(
    workloads: &[Workload],
    contenders: &[Contender],
    options: &Options<'_>,
    mut row: impl FnMut(&RunRow<'_>) -> Result<(), CompareError>,
) -> Result<Comparison, CompareError> {
    let plan = Plan::new(workloads, contenders, options)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.jobs.map_or_else(rayon::current_num_threads, NonZeroUsize::get))
        .build()?;
    let order = InOrder::new(plan.runs(), WINDOW);
    let mut figures = Vec::new();
    pool.in_place_scope(|scope| {
        for _ in 0..pool.current_num_threads() {
            scope.spawn(|_| {
                order.work(|number| {
                    let stopped = options.stop.is_some_and(|stop| stop.load(Ordering::Relaxed));
                    (!stopped).then(|| plan.run(number))
                });
            });
        }
        order.consume(|made: Result<(u64, Figures), CompareError>| {
            let (number, made) = made?;
            row(&plan.row(number, made))?;
            figures.push(made);
            Ok::<(), CompareError>(())
        })
    })?;
    let whole = figures.len() / plan.each();
    figures.truncate(whole * plan.each());
    Ok(Comparison {
        workloads: workloads.iter().map(|one| (one.name.clone(), one.about.clone())).collect(),
        policies: contenders.iter().map(|one| one.name.clone()).collect(),
        repeat: whole as u32,
        planned: options.repeat,
        seeds: options.seeds,
        seed: options.seed,
        figures,
    })
}

/// [`run_with`], without the rows of single runs.
///
/// ```
/// use whimbrel_lab::compare::{Contender, Options, run};
/// use whimbrel_lab::workloads;
///
/// let workloads = &workloads::comparison()?[..2];
/// let policies = [Contender::parse("xen-5")?, Contender::parse("qemu-default:downtime-limit=100ms")?];
/// let comparison = run(workloads, &policies, &Options { repeat: 2, ..Options::default() })?;
/// println!("{}", comparison.summary());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`run_with`].
pub fn run(
    workloads: &[Workload],
    contenders: &[Contender],
    options: &Options<'_>,
) -> Result<Comparison, CompareError> {
    run_with(workloads, contenders, options, |_| Ok(()))
}

/// Runs that may be begun ahead of the next one to be consumed: it bounds what is held while one long run holds up
/// all others.
const WINDOW: u64 = 4096;

/// Which run is which.
struct Plan<'a> {
    workloads: &'a [Workload],
    contenders: &'a [Contender],
    options: &'a Options<'a>,
}

impl<'a> Plan<'a> {
    fn new(
        workloads: &'a [Workload],
        contenders: &'a [Contender],
        options: &'a Options<'a>,
    ) -> Result<Self, CompareError> {
        unique("workloads", workloads.iter().map(|workload| &workload.name))?;
        unique("policies", contenders.iter().map(|contender| &contender.name))?;
        if options.repeat == 0 {
            return Err(CompareError::Nothing("runs"));
        }
        Ok(Self { workloads, contenders, options })
    }

    /// Runs of one repetition.
    fn each(&self) -> usize {
        self.workloads.len() * self.contenders.len()
    }

    fn runs(&self) -> u64 {
        u64::from(self.options.repeat) * self.each() as u64
    }

    /// Repetition, workload and policy of a run.
    fn place(&self, number: u64) -> (u64, usize, usize) {
        let each = self.each() as u64;
        let within = (number % each) as usize;
        (number / each, within / self.contenders.len(), within % self.contenders.len())
    }

    fn seed(&self, repetition: u64, policy: usize) -> u64 {
        // Seeds of the policies lie 2³² apart: there are never so many repetitions.
        let apart = match self.options.seeds {
            Seeds::Paired => 0,
            Seeds::Independent => (policy as u64) << 32,
        };
        self.options.seed.wrapping_add(apart).wrapping_add(repetition)
    }

    fn run(&self, number: u64) -> Result<(u64, Figures), CompareError> {
        let (repetition, workload, policy) = self.place(number);
        let (workload, contender) = (&self.workloads[workload], &self.contenders[policy]);
        let seed = self.seed(repetition, policy);
        let mut setup = simulation(workload.scenario.setup(), seed)?;
        setup.policy = contender.policy.clone();
        setup.changes.clone_from(&contender.changes);
        let run = simulate(&setup).map_err(|source| CompareError::Run {
            policy: contender.name.clone(),
            workload: workload.name.clone(),
            seed,
            source: Box::new(source),
        })?;
        if let Some(after_run) = self.options.after_run {
            after_run();
        }
        Ok((number, Figures::of(&run)))
    }

    fn row(&self, number: u64, figures: Figures) -> RunRow<'a> {
        let (repetition, workload, policy) = self.place(number);
        RunRow {
            schema: SCHEMA,
            workload: &self.workloads[workload].name,
            policy: &self.contenders[policy].name,
            repetition,
            seed: self.seed(repetition, policy),
            figures,
        }
    }
}

fn unique<'a>(what: &'static str, names: impl Iterator<Item = &'a String>) -> Result<(), CompareError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(CompareError::SameName { what, name: name.clone() });
        }
    }
    if seen.is_empty() { Err(CompareError::Nothing(what)) } else { Ok(()) }
}
