//! Tuning: which values of a policy's parameters make several things small at once.
//!
//! The command line makes a [`Plan`], runs the search of a [`Tuning`] generation by generation, and prints what
//! it [`found`](Tuning::found). Candidates are scored on workloads with the exact migrations that `simulate` runs
//! (`score`), proposed by NSGA-II (`nsga2`); what is left in the end is freed of what it moved for nothing (`settle`) and
//! looked at again with seeds and workloads that the search never saw (`assess`). The same plan gives the same result on any number of
//! threads, and after any number of interruptions (`state`).
//!
//! Nothing here may choose for the user: a front is a list, and which point is taken is theirs to say.

mod assess;
mod choice;
mod nsga2;
mod plot;
mod score;
mod settle;
mod space;
mod state;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use whimbrel_core::policy::presets::PresetError;
use whimbrel_sim::SimError;
use whimbrel_sim::config::Fidelity;

pub use self::assess::{Assessed, Change, ParameterFound, Point, Sensitivity, Tuned};
pub use self::choice::{Choice, UnknownChoice};
use self::nsga2::{Member, Nsga2};
pub use self::plot::plot;
use self::score::{Case, Scorer};
pub use self::space::{Dimension, Space};
pub use self::table::{policy_file, tuned as table};
use crate::outcome::Objective;
use crate::output::OutputError;
use crate::workloads::Workload;

/// Why nothing was tuned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TuneError {
    /// The preset does not take something.
    #[error(transparent)]
    Policy(#[from] PresetError),
    /// A parameter can't be searched through this.
    #[error("`{parameter}` cannot be searched through `{range}`: expected {accepted}")]
    Range {
        /// The parameter.
        parameter: &'static str,
        /// The range as given.
        range: String,
        /// What is accepted.
        accepted: String,
    },
    /// A parameter without a range.
    #[error("`{text}` has no range: expected NAME=FROM..TO, or NAME=WORD,WORD")]
    NoRange {
        /// What was given.
        text: String,
    },
    /// The policy is none of the presets.
    #[error("`{policy}` is no preset; only parameters of presets are known well enough to be searched")]
    NoPreset {
        /// Its name.
        policy: String,
    },
    /// No parameter is left to be searched.
    #[error("`{policy}` has no parameter left to search; `--range NAME=FROM..TO` adds one")]
    NothingToSearch {
        /// The preset.
        policy: &'static str,
    },
    /// What was held out was searched on.
    #[error(
        "`{workload}` is searched on and cannot be held out as well: held out is what the search has not seen; \
         leave it out of one of --over and --hold-out, or take --no-hold-out"
    )]
    SeenBefore {
        /// The workload.
        workload: String,
    },
    /// A run could not be simulated.
    #[error("cannot simulate `{workload}`, seed {seed}, with {parameters}")]
    Run {
        /// What the policy was tried with, as far as it is not as at the start.
        parameters: String,
        /// The workload.
        workload: String,
        /// The seed.
        seed: u64,
        /// What the simulator says.
        source: Box<SimError>,
    },
    /// A file could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A state could not be read.
    #[error("cannot read {}", path.display())]
    ReadState {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was read is no state.
    #[error("{} is not the state of a search: {why}", path.display())]
    NotState {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It is the state of another search.
    #[error(
        "{} is of another search: its {what} is `{}`, not `{}`",
        path.display(), short(stored), short(asked)
    )]
    OtherSearch {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: String,
        /// In the file.
        stored: String,
        /// As asked for.
        asked: String,
    },
    /// The front has no such point.
    #[error("the front has {points} points; there is no point {index}")]
    NoPoint {
        /// As asked for.
        index: usize,
        /// How many there are.
        points: usize,
    },
    /// An objective that was not searched for.
    #[error("`{objective}` was not minimised; choose by one of {known}")]
    NotMinimised {
        /// As asked for.
        objective: Objective,
        /// What was.
        known: String,
    },
    /// The threads could not be started.
    #[error("cannot start the threads of the search")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

/// As much of a text as a message has room for.
fn short(text: &str) -> String {
    const MOST: usize = 120;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What is searched, how long, and on what it is judged.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The parameters.
    pub space: Space,
    /// What is to be small; at least one.
    pub objectives: Vec<Objective>,
    /// On what it is searched; at least one.
    pub workloads: Vec<Workload>,
    /// On what it is judged besides; may be empty.
    pub held_out: Vec<Workload>,
    /// Of the search, in place of what the workloads say; what it finds is judged as they say.
    pub fidelity: Option<Fidelity>,
    /// Of the search and of its first run of each workload.
    pub seed: u64,
    /// Runs of each workload for a candidate.
    pub repeat: u32,
    /// Runs of each workload when the result is judged, with seeds of their own.
    pub check: u32,
    /// Candidates of a generation; at least 4.
    pub population: u32,
    /// Generations, the first one counted.
    pub generations: u32,
}

/// How it is run. Nothing here changes a result.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Threads; none: one a core.
    pub jobs: Option<NonZeroUsize>,
    /// Once it is true, no further run is begun.
    pub stop: &'a AtomicBool,
    /// Called before a part of the work, with its name and its number of runs.
    pub begins: &'a (dyn Fn(&str, u64) + Sync),
    /// Called after every run, by the thread that made it.
    pub after_run: &'a (dyn Fn() + Sync),
}

/// A search between two generations.
#[derive(Debug)]
pub struct Tuning {
    plan: Plan,
    /// What is searched on.
    design: Vec<Case>,
    /// The same, and what was held out, as the result is judged.
    judged: Vec<Case>,
    held_out: Vec<Case>,
    search: Nsga2,
    /// Where the state is kept; none: nowhere.
    file: Option<PathBuf>,
}

impl Tuning {
    /// A search at its beginning, whose state is kept in `file`.
    ///
    /// # Errors
    ///
    /// If nothing is to be searched, or a workload can't be run.
    pub fn begin(plan: Plan, file: Option<PathBuf>) -> Result<Self, TuneError> {
        if plan.space.dimensions().is_empty() {
            return Err(TuneError::NothingToSearch { policy: plan.space.preset().name });
        }
        let text = |workload: &Workload| workload.scenario.to_toml();
        let seen: BTreeSet<String> = plan.workloads.iter().map(text).collect();
        if let Some(again) = plan.held_out.iter().find(|workload| seen.contains(&text(workload))) {
            return Err(TuneError::SeenBefore { workload: again.name.clone() });
        }
        let search = Nsga2::new(plan.seed, plan.space.dimensions().len(), plan.population as usize);
        let design = score::cases(&plan.workloads, plan.fidelity)?;
        let judged = score::cases(&plan.workloads, None)?;
        let held_out = score::cases(&plan.held_out, None)?;
        Ok(Self { plan, design, judged, held_out, search, file })
    }

    /// The same search where its file says that it was.
    ///
    /// # Errors
    ///
    /// As [`Tuning::begin`], and if the file can't be read or is of another search.
    pub fn resume(plan: Plan, file: &Path) -> Result<Self, TuneError> {
        let mut tuning = Self::begin(plan, Some(file.to_owned()))?;
        tuning.search = state::read(file, &tuning.plan)?;
        Ok(tuning)
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Generations that are done.
    pub fn generation(&self) -> u32 {
        self.search.generation()
    }

    /// Whether none is left.
    pub fn is_done(&self) -> bool {
        self.generation() >= self.plan.generations
    }

    /// Searches until the last generation, or until it is stopped; a generation that was begun then is not
    /// counted. The state is stored after every generation.
    ///
    /// # Errors
    ///
    /// The first run or write that failed.
    pub fn run(&mut self, options: &Options<'_>) -> Result<(), TuneError> {
        let plan = &self.plan;
        let runner = self.scorer(options, &self.design, (plan.seed, plan.repeat));
        let left = plan.generations.saturating_sub(self.search.generation());
        (options.begins)("searching", u64::from(left) * self.runs(plan.population as usize, plan.repeat));
        let pool = pool(options)?;
        let mut search = self.search.clone();
        while search.generation() < plan.generations {
            let asked = search.ask(&[plan.space.start()]);
            let Some(scores) = pool.install(|| runner.scores(&asked))? else { break };
            search.tell(asked.into_iter().zip(scores).map(|(genes, values)| Member { genes, values }));
            if let Some(file) = &self.file {
                state::write(file, plan, &search)?;
            }
        }
        drop(runner);
        self.search = search;
        Ok(())
    }

    /// Runs of so many candidates over the workloads of the search.
    fn runs(&self, candidates: usize, repeat: u32) -> u64 {
        candidates as u64 * self.design.len() as u64 * u64::from(repeat)
    }

    fn scorer<'a>(&'a self, options: &Options<'a>, cases: &'a [Case], seeds: (u64, u32)) -> Scorer<'a> {
        let Plan { space, objectives, .. } = &self.plan;
        Scorer::new(space, cases, objectives, seeds, (options.stop, options.after_run))
    }
}

fn pool(options: &Options<'_>) -> Result<rayon::ThreadPool, TuneError> {
    let jobs = options.jobs.map_or_else(rayon::current_num_threads, NonZeroUsize::get);
    Ok(rayon::ThreadPoolBuilder::new().num_threads(jobs).build()?)
}
