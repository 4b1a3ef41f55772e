//! Runs that a thread makes in one go, in the order of the grid.

use whimbrel_sim::config::Fidelity;
use whimbrel_sim::{SimError, simulate};

use super::SweepError;
use super::files::Tables;
use super::row::{At, Names, Row, Rows};
use super::values::Values;
use super::variants::{Bench, Variants};
use crate::result::MigrationRecord;
use crate::scenario::Grid;

/// Runs of fluid fidelity in one go: each takes microseconds, and a batch must be worth handing over.
const FLUID: u64 = 256;

/// What came of a batch.
pub(super) struct Batch {
    /// The number of its first run in the sweep.
    pub(super) from: u64,
    pub(super) rows: Rows,
    pub(super) values: Vec<Values>,
}

/// All batches of a sweep.
pub(super) struct Batches<'a> {
    grid: &'a Grid,
    names: &'a Names<'a>,
    variants: Variants<'a>,
    tables: Tables,
    /// The first run that is to be made.
    from: u64,
    size: u64,
}

impl<'a> Batches<'a> {
    /// From run number `from` on, for so many threads.
    pub(super) fn new(grid: &'a Grid, names: &'a Names<'a>, tables: Tables, from: u64, jobs: usize) -> Self {
        // A run of exact fidelity takes long: whoever stops the sweep waits for no other.
        let fluid = grid.cell(0).is_ok_and(|cell| cell.setup.run.fidelity == Fidelity::Fluid);
        let each = (grid.runs() - from) / (4 * jobs as u64);
        let size = if fluid { each.clamp(1, FLUID) } else { 1 };
        Self { grid, names, variants: Variants::of(grid), tables, from, size }
    }

    /// Runs of a batch, but for the last one.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// How many batches there are.
    pub(super) fn count(&self) -> u64 {
        (self.grid.runs() - self.from).div_ceil(self.size)
    }

    /// Makes a batch. `bench` is the thread's own.
    pub(super) fn make(&self, number: u64, bench: &mut Option<Bench>) -> Result<Batch, SweepError> {
        let from = self.from + number * self.size;
        let to = (from + self.size).min(self.grid.runs());
        let mut batch =
            Batch { from, rows: Rows::default(), values: Vec::with_capacity((to - from) as usize) };
        let repeat = u64::from(self.grid.repeat());
        let mut at: Option<(u64, At)> = None;
        for run in from..to {
            let (cell, repetition) = (run / repeat, (run % repeat) as u32);
            self.variants.set_up(cell, bench)?;
            let Some(bench) = bench.as_mut() else { continue };
            bench.simulation.seed = bench.seed_of(repetition);
            let made = self.run(bench).map_err(|source| self.named(cell, bench, source))?;
            batch.values.push(made.0);
            let Some(record) = made.1 else { continue };
            let (_, at) = match &mut at {
                Some(at) if at.0 == cell => at,
                at => at.insert((cell, self.names.at(cell))),
            };
            let row = Row::of((cell, repetition), self.names.policy(cell), at, record);
            batch.rows.add(self.tables.format, row);
        }
        Ok(batch)
    }

    /// Makes a run; with the record of its row, if one is wanted.
    fn run(&self, bench: &mut Bench) -> Result<(Values, Option<MigrationRecord>), SimError> {
        if self.tables.summary {
            return Ok((Self::values(bench)?, None));
        }
        let (setup, seed) = (&bench.simulation, bench.simulation.seed);
        if setup.fidelity == Fidelity::Fluid && !self.tables.rounds {
            let (totals, why) = bench.simulator.run_and_tell(setup)?;
            let record = MigrationRecord::of_totals(&totals, why, setup.guest.memory, seed);
            return Ok((Values::of_totals(&totals), Some(record)));
        }
        let mut made = simulate(setup)?;
        let values = Values::of(&made);
        let record = if self.tables.rounds {
            MigrationRecord::of(&made, seed)
        } else {
            // Most of a record is its rounds, and most of their cost the words of their reasons.
            let rounds = std::mem::take(&mut made.report.rounds).len();
            MigrationRecord { rounds, ..MigrationRecord::of(&made, seed) }
        };
        Ok((values, Some(record)))
    }

    /// Makes a run of which no row is wanted; in fluid fidelity, without its rounds and words.
    pub(super) fn values(bench: &mut Bench) -> Result<Values, SimError> {
        Ok(match bench.simulation.fidelity {
            Fidelity::Fluid => Values::of_totals(&bench.simulator.run(&bench.simulation)?),
            _ => Values::of(&simulate(&bench.simulation)?),
        })
    }

    #[cold]
    fn named(&self, cell: u64, bench: &Bench, source: SimError) -> SweepError {
        let values = self.grid.cell(cell).map(|cell| cell.overrides().join(" ")).unwrap_or_default();
        SweepError::Run { cell, values, seed: bench.simulation.seed, source }
    }
}
