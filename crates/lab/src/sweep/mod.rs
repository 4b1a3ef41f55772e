//! Sweeps: every cell of a grid, run on all cores, its rows in the same order whatever their number.
//!
//! The command line opens a [`ResultDir`] and lets [`run`] fill it. Runs are made by threads in batches
//! and handed over in the order of the grid, so that the files have the same bytes on one thread and on
//! many; only a bounded window of rows is ever held. Nothing here prints, and no file is left half
//! written, however a sweep ends.

mod cell;
mod files;
mod order;
mod page;
mod row;
mod spread;
#[cfg(test)]
mod tests;
mod typical;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use whimbrel_core::policy::presets::{self, PresetError};
use whimbrel_sim::{SimError, simulate};

pub use self::cell::{CellRecord, Spread};
use self::cell::{Tally, Values};
pub use self::files::{Published, ResultDir};
use self::order::InOrder;
pub use self::row::Format;
use self::row::{Names, Row, Rows};
pub use self::spread::Spreads;
pub use self::typical::{Typical, TypicalRound};
use crate::output::OutputError;
use crate::result::MigrationRecord;
use crate::scenario::{Cell, Grid, PolicyChange, ScenarioError, Setup};
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
        name: &'static str,
    },
    /// The threads could not be started.
    #[error("cannot start the threads of the sweep")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

/// How a sweep is run. Nothing here changes a row.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Threads; none: one a core.
    pub jobs: Option<NonZeroUsize>,
    /// Once it is true, no further run is begun.
    pub stop: &'a AtomicBool,
    /// Called after every run, by the thread that made it.
    pub after_run: &'a (dyn Fn() + Sync),
}

/// What a sweep came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Finished {
    /// Runs that were made.
    pub runs: u64,
    /// Runs that were asked for; more than `runs` if it was stopped.
    pub planned: u64,
    /// The cells that were run, in their order.
    pub cells: Vec<CellRecord>,
    /// Summed up by policy, in the order of their first cell.
    pub policies: Vec<PolicySummary>,
    /// How runs are spread, by their place on the axis whose values are compared: the policies' if there is one.
    pub spreads: BTreeMap<usize, Spreads>,
    /// Some runs round by round, for the report; none if the sweep was stopped or has no report.
    pub typical: Vec<Typical>,
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
    /// Median total time of those that completed, milliseconds.
    pub total_ms: Option<f64>,
    /// Median downtime of those that completed, milliseconds.
    pub downtime_ms: Option<f64>,
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

fn change(change: &PolicyChange) -> whimbrel_sim::PolicyChange {
    let PolicyChange { at, parameter, value } = change.clone();
    whimbrel_sim::PolicyChange { at, parameter, value }
}

/// Runs of one cell that a thread makes in one go: enough to make a cell's setup worth it, few enough
/// to keep all threads busy until the end.
const BATCH: u32 = 8;

/// Batches that may be begun ahead of the next one to be written: it bounds the rows in memory while
/// one long run holds up all others.
const WINDOW: u64 = 1024;

/// What came of a batch.
struct Batch {
    cell: u64,
    rows: Rows,
    values: Vec<Values>,
}

/// Runs every cell and hands the rows to `results`, in the order of the grid.
///
/// # Errors
///
/// The first thing that failed; `results` is then to be dropped, and leaves nothing behind.
pub fn run(grid: &Grid, options: &Options<'_>, results: &mut ResultDir) -> Result<Finished, SweepError> {
    let jobs = options.jobs.map_or_else(rayon::current_num_threads, NonZeroUsize::get);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(jobs).build()?;
    let per_cell = u64::from(grid.repeat().div_ceil(BATCH));
    let order = InOrder::new(grid.cells() * per_cell, WINDOW);
    let names = Names::of(grid)?;
    let maker = Maker { grid, options, format: results.format(), rounds: results.wants_rounds() };
    let mut tally = Tally::new(&names, grid.runs());
    pool.in_place_scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|_| {
                order.work(|number| {
                    // What was begun is finished; nothing more is begun.
                    let stopped = options.stop.load(Ordering::Relaxed);
                    (!stopped).then(|| maker.batch(number / per_cell, (number % per_cell) as u32 * BATCH))
                });
            });
        }
        order.consume(|batch| {
            let batch = batch?;
            results.add(&batch.rows)?;
            tally.add(batch.cell, &batch.values);
            Ok::<(), SweepError>(())
        })
    })?;
    let mut finished = tally.finish();
    if finished.runs == finished.planned && grid.cells() <= files::MOST_CELLS_ON_A_PAGE {
        finished.typical = pool.install(|| typical::make(grid, &names, &finished.cells, options))?;
    }
    Ok(finished)
}

/// Makes batches of runs.
struct Maker<'a> {
    grid: &'a Grid,
    options: &'a Options<'a>,
    format: Format,
    rounds: bool,
}

impl Maker<'_> {
    fn batch(&self, number: u64, from: u32) -> Result<Batch, SweepError> {
        let cell = self.grid.cell(number)?;
        let mut batch = Batch { cell: number, rows: Rows::default(), values: Vec::new() };
        let mut simulation = simulation(&cell.setup, 0)?;
        for repetition in from..from.saturating_add(BATCH).min(self.grid.repeat()) {
            if self.options.stop.load(Ordering::Relaxed) {
                break;
            }
            let seed = cell.setup.run.seed_of(repetition);
            simulation.seed = seed;
            let record = self.record(&cell, &simulation)?;
            batch.values.push(Values::of(&record));
            batch.rows.add(self.format, Row::of(&cell, repetition, record));
            (self.options.after_run)();
        }
        Ok(batch)
    }

    fn record(&self, cell: &Cell, simulation: &whimbrel_sim::Setup) -> Result<MigrationRecord, SweepError> {
        let mut run = simulate(simulation).map_err(|source| SweepError::Run {
            cell: cell.index,
            values: cell.overrides().join(" "),
            seed: simulation.seed,
            source,
        })?;
        if self.rounds {
            return Ok(MigrationRecord::of(&run, simulation.seed));
        }
        // Most of a record is its rounds, and most of their cost the words of their reasons.
        let rounds = std::mem::take(&mut run.report.rounds).len();
        Ok(MigrationRecord { rounds, ..MigrationRecord::of(&run, simulation.seed) })
    }
}
