//! Sweeps: every cell of a grid, run on all cores, its rows in the same order whatever their number.
//!
//! The command line opens a [`ResultDir`] and lets [`run`] fill it. Runs are made by threads in batches, with the text of
//! their rows, and written in the order of the grid by whichever of these threads comes by when the next batch is there:
//! the files have the same bytes on one thread and on many, and no thread but these takes a processor. Only a bounded
//! window of rows is ever held; a disk is waited for beside the work. Nothing here prints, and no file is left half
//! written, however a sweep ends.

mod batch;
mod beside;
mod cell;
mod changes;
mod files;
mod kept;
mod made;
pub(crate) mod order;
mod page;
#[cfg(feature = "parquet")]
mod parquet;
mod place;
mod row;
mod sketch;
mod spread;
mod tally;
#[cfg(test)]
mod tests;
mod typical;
mod unfinished;
mod values;
mod variants;

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use whimbrel_core::policy::presets::{self, PresetError};
use whimbrel_sim::SimError;

use self::batch::{Batch, Batches, CellTexts};
pub use self::cell::{CellRecord, Levels, Spread};
pub use self::changes::changes;
pub use self::files::{Begin, Published, ResultDir, Tables};
pub use self::made::{Made, run_made};
use self::order::InOrder;
pub use self::row::Format;
use self::row::Names;
pub use self::spread::Spreads;
use self::tally::{Tally, Wanted};
pub use self::typical::{Typical, TypicalRound};
use crate::chart::Canvas;
use crate::output::OutputError;
use crate::report::Forecasts;
use crate::scenario::{Grid, PolicyChange, Scenario, ScenarioError, Setup};
pub use crate::stats::nearest_rank;

/// Why a sweep was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SweepError {
    /// The scenario spans no grid.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The policy can't be built from its parameters.
    #[error(transparent)]
    Policy(#[from] PresetError),
    /// A run could not be simulated.
    #[error("cannot simulate cell {cell} ({values}), seed {seed}")]
    Run {
        /// The cell's number.
        cell: u64,
        /// Where it lies: overrides, separated by spaces.
        values: String,
        /// The run's seed.
        seed: u64,
        /// What the simulator says.
        source: SimError,
    },
    /// A file could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The place for the results is not a directory.
    #[error("cannot write results to {}: it is not a directory", path.display())]
    NotDirectory {
        /// The place.
        path: PathBuf,
    },
    /// The directory holds a file of a name that would be written, and no sweep wrote it.
    #[error(
        "cannot write results to {}: its `{name}` was not written by a sweep; choose another directory, or add --force",
        path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// The file.
        name: String,
    },
    /// The directory holds a sweep that is not finished.
    #[error(
        "cannot write results to {}: it holds a sweep that is not finished; go on with it by --resume, choose another \
         directory, or give it up by --force",
        path.display()
    )]
    Unfinished {
        /// The directory.
        path: PathBuf,
    },
    /// Results of a sweep that was stopped are not put in their place.
    #[error("only {runs} of {planned} migrations were made")]
    Incomplete {
        /// Runs that were made.
        runs: u64,
        /// Runs that were asked for.
        planned: u64,
    },
    /// A sweep that was cut cannot be gone on with.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// The threads could not be started.
    #[error("cannot start the threads of the sweep")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

/// Why a sweep that was cut cannot be gone on with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// There is none.
    #[error("cannot resume: {} holds no sweep that is not finished", path.display())]
    Nothing {
        /// The directory of results.
        path: PathBuf,
    },
    /// It is another sweep.
    #[error("cannot resume the sweep in {}: {fault}", path.display())]
    Other {
        /// The directory of results.
        path: PathBuf,
        /// What is not the same.
        fault: String,
    },
    /// It is running.
    #[error("the sweep in {} is running", path.display())]
    Running {
        /// The folder.
        path: PathBuf,
    },
    /// A file is shorter than was noted.
    #[error(
        "cannot resume: {} is damaged, {length} bytes long in place of {bytes}; begin anew with --force",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How long it is.
        length: u64,
        /// How long it was.
        bytes: u64,
    },
    /// A file cannot be read, or does not hold what it should.
    #[error("cannot resume: {} cannot be read; begin anew with --force", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// How a sweep is run. Nothing here changes a row.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Threads; none: one a core.
    pub jobs: Option<NonZeroUsize>,
    /// Once it is true, no further run is begun.
    pub stop: &'a AtomicBool,
    /// Called with the number of runs after some were made, by the thread that made them.
    pub after_runs: &'a (dyn Fn(u64) + Sync),
}

/// What a sweep came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Finished {
    /// Runs that were made, those before it was resumed too.
    pub runs: u64,
    /// Runs that were asked for; more than `runs` if it was stopped.
    pub planned: u64,
    /// The cells that were run, in their order; none if there are more than a page can show.
    pub cells: Vec<CellRecord>,
    /// Summed up by policy, in the order of their first cell.
    pub policies: Vec<PolicySummary>,
    /// How runs are spread, by their place on the axis whose values are compared: the policies' if there is one.
    pub spreads: BTreeMap<usize, Spreads>,
    /// Some runs round by round, for the report; none if the sweep was stopped or has no report.
    pub typical: Vec<Typical>,
    /// On how many threads it was run; the report is made on as many.
    pub jobs: NonZeroUsize,
    /// How far forecasts of the runs were off, for the report: set by whoever made them for real.
    pub forecasts: Vec<Forecasts>,
}

/// All runs of a policy, whatever the other axes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PolicySummary {
    /// The preset.
    pub policy: String,
    /// Runs.
    pub runs: u64,
    /// Share of them that converged.
    pub converged: f64,
    /// Share of them that completed, converged or not.
    pub completed: f64,
    /// Median total time of those that completed, milliseconds; of more than 2048 within 0.1 %.
    pub total_ms: Option<f64>,
    /// The same of the downtime, milliseconds.
    pub downtime_ms: Option<f64>,
    /// Of a sweep that is summed up: total time and downtime of those that completed, milliseconds; bytes sent,
    /// rounds and lost vCPU-seconds of all. Within 0.1 %, too.
    pub spreads: Option<[Spread; 5]>,
}

/// The simulator's own setup for a migration of this scenario.
///
/// # Errors
///
/// If the preset refuses its parameters; not for a scenario that was checked.
pub fn simulation(setup: &Setup, seed: u64) -> Result<whimbrel_sim::Setup, PresetError> {
    let policy = presets::build(&setup.policy.preset, &setup.policy.parameters)?;
    let mut simulation = whimbrel_sim::Setup::new(setup.guest.clone(), policy);
    simulation.host = setup.host.clone();
    simulation.link = setup.link.clone();
    simulation.fidelity = setup.run.fidelity;
    simulation.seed = seed;
    simulation.time_limit = setup.run.time_limit;
    simulation.changes = setup.policy.changes.iter().map(change).collect();
    simulation.journal = false;
    Ok(simulation)
}

pub(crate) fn change(change: &PolicyChange) -> whimbrel_sim::PolicyChange {
    let PolicyChange { at, parameter, value } = change.clone();
    whimbrel_sim::PolicyChange { at, parameter, value }
}

/// The downtime over the grid as one SVG file, a map for each of what is compared; none unless two axes have numbers, and
/// the grid is small enough for a page.
///
/// # Errors
///
/// If the grid has no first cell; never once it was run.
pub fn picture(scenario: &Scenario, grid: &Grid, finished: &Finished) -> Result<Option<String>, SweepError> {
    if !has_page(grid) {
        return Ok(None);
    }
    let maps = page::maps(scenario, grid, &Names::of(grid)?, finished);
    Ok(maps.map(|maps| maps.render(Canvas::Standalone)))
}

/// Whether a directory of results holds a sweep that is not finished.
pub fn is_unfinished(results: &Path) -> bool {
    unfinished::is_there(results)
}

/// Whether the grid has no more cells than a page can show.
pub fn has_page(grid: &Grid) -> bool {
    grid.cells() <= files::MOST_CELLS_ON_A_PAGE
}

/// Rows that may be made ahead of the next one to be written: it bounds them in memory while one long run holds up
/// all others.
const WINDOW: u64 = 8192;

/// Runs every cell and hands the rows to `results`, in the order of the grid, from where these end.
///
/// # Errors
///
/// The first thing that failed; `results` then keeps what was noted before.
pub fn run(grid: &Grid, options: &Options<'_>, results: &mut ResultDir) -> Result<Finished, SweepError> {
    let jobs = options.jobs.or(NonZeroUsize::new(rayon::current_num_threads())).unwrap_or(NonZeroUsize::MIN);
    let pool = pool(jobs)?;
    let jobs = jobs.get();
    let begun = results.begun();
    let names = Names::of(grid)?;
    let tables = results.tables();
    let wanted = Wanted { cells: results.wants_cells(grid), summary: tables.summary };
    let repeat = u64::from(grid.repeat());
    let mut tally = Tally::new(&names, wanted, begun.sums, begun.runs.saturating_sub(1) / repeat, begun.open);
    let texts = results.texts(grid, &names);
    let batches = Batches::new(grid, &texts, begun.runs, jobs);
    let order = InOrder::new(batches.count(), (WINDOW / batches.size()).max(2 * jobs as u64));
    let writer = Mutex::new((&mut *results, &mut tally, None));
    let write = |batch| {
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (results, tally, failed) = &mut *writer;
        let written = Result::and_then(batch, |mut batch: Batch| {
            results.add(&mut batch, repeat, tally, &texts)?;
            batches.take_back(batch);
            Ok(())
        });
        written.map_err(|error| *failed = Some(error)).ok()
    };
    pool.in_place_scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|_| {
                let mut bench = None;
                let make = |number| {
                    // What was begun is finished; nothing more is begun.
                    let stopped = options.stop.load(Ordering::Relaxed);
                    (!stopped).then(|| {
                        let batch = batches.make(number, &mut bench)?;
                        (options.after_runs)(batch.values.len() as u64);
                        Ok(batch)
                    })
                };
                order.share(make, write);
            });
        }
    });
    let (_, _, failed) = writer.into_inner().unwrap_or_else(PoisonError::into_inner);
    match failed {
        Some(error) => Err(error),
        None => finish(grid, jobs, results, tally, &texts, |names, cells| {
            pool.install(|| typical::make(grid, names, cells, options))
        }),
    }
}

/// So many threads.
fn pool(jobs: NonZeroUsize) -> Result<rayon::ThreadPool, rayon::ThreadPoolBuildError> {
    rayon::ThreadPoolBuilder::new().num_threads(jobs.get()).build()
}

/// Sums it up. `typical` gives the runs that the page tells in full, of the names and the cells of a sweep that is complete.
fn finish(
    grid: &Grid,
    jobs: usize,
    results: &mut ResultDir,
    mut tally: Tally<'_>,
    texts: &CellTexts<'_>,
    typical: impl FnOnce(&Names<'_>, &[CellRecord]) -> Result<Vec<Typical>, SweepError>,
) -> Result<Finished, SweepError> {
    let (runs, planned) = (tally.runs(), grid.runs());
    let complete = runs == planned;
    if complete {
        let last = tally.close();
        results.add_cell(last, texts)?;
        results.begin_note(&tally)?;
    } else {
        results.begin_note(&tally)?;
        results.settle()?;
        // The cell in progress stays open, but what is told of it is about all its runs.
        tally.close();
    }
    let names = Names::of(grid)?;
    let with_page = has_page(grid);
    let cells = results.cells();
    let typical = if complete && with_page { typical(&names, &cells)? } else { Vec::new() };
    let (policies, spreads) = (tally.policies(), tally.spreads());
    let jobs = NonZeroUsize::new(jobs).unwrap_or(NonZeroUsize::MIN);
    Ok(Finished { runs, planned, cells, policies, spreads, typical, jobs, forecasts: Vec::new() })
}
