//! Runs that a thread makes in one go, in the order of the grid.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use whimbrel_sim::config::Fidelity;
use whimbrel_sim::{SimError, simulate};

use super::SweepError;
use super::cell::CellRecord;
use super::files::Tables;
use super::kept;
use super::place::Places;
use super::row::{Names, Rows, Subject, add_cell};
use super::values::Values;
use super::variants::{Bench, Variants};
use crate::result::MigrationRecord;
use crate::scenario::Grid;

/// Runs of fluid fidelity in one go: each takes microseconds, and a batch must be worth handing over.
const FLUID: u64 = 256;

/// What came of a batch.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The number of its first run in the sweep.
    pub(super) from: u64,
    pub(super) rows: Rows,
    pub(super) values: Vec<Values>,
    /// The cells all of whose runs it has.
    pub(super) whole: Range<u64>,
    /// What is told of these cells.
    pub(super) cells: Cells,
}

/// What is told of cells that are complete.
#[derive(Debug, Default)]
pub(super) struct Cells {
    /// Lines of their table.
    pub(super) rows: Vec<u8>,
    /// Records for the page, and the same as they are kept in case the sweep is cut; none where there is no page.
    pub(super) records: Vec<CellRecord>,
    pub(super) kept: Vec<u8>,
}

impl Batch {
    /// Empties it; what it has of memory stays.
    fn clear(&mut self) {
        self.rows.clear();
        self.values.clear();
        self.cells.rows.clear();
        self.cells.records.clear();
        self.cells.kept.clear();
    }
}

/// How cells are told of.
pub(super) struct CellTexts<'a> {
    names: &'a Names<'a>,
    places: Places,
    tables: Tables,
    /// A row a cell is wanted, and a page.
    rows: bool,
    page: bool,
}

impl<'a> CellTexts<'a> {
    pub(super) fn new(grid: &Grid, names: &'a Names<'a>, tables: Tables, rows: bool, page: bool) -> Self {
        Self { names, places: Places::of(grid, tables.format), tables, rows, page }
    }

    /// Makes `place` the text of where a cell lies, if any row needs it.
    fn put_place(&self, cell: u64, place: &mut Vec<u8>) {
        if self.rows || !self.tables.summary {
            self.places.put(cell, place);
        }
    }

    /// The text of where a cell lies.
    pub(super) fn place(&self, cell: u64) -> Vec<u8> {
        let mut place = Vec::new();
        self.put_place(cell, &mut place);
        place
    }

    /// Adds a cell that is complete.
    pub(super) fn add(&self, cells: &mut Cells, record: CellRecord) {
        let place = self.place(record.cell);
        self.add_at(cells, record, &place);
    }

    /// The same; `place` is where it lies.
    fn add_at(&self, cells: &mut Cells, record: CellRecord, place: &[u8]) {
        if self.rows {
            let policy = self.names.policy(record.cell);
            add_cell(&mut cells.rows, self.tables.format, (policy, place), &record, self.tables.summary);
        }
        if self.page {
            kept::store(&record, &mut cells.kept);
            cells.records.push(record);
        }
    }
}

/// All batches of a sweep.
pub(super) struct Batches<'a> {
    grid: &'a Grid,
    texts: &'a CellTexts<'a>,
    variants: Variants<'a>,
    /// The first run that is to be made, and where the cell that it belongs to begins.
    from: u64,
    origin: u64,
    size: u64,
    /// Batches whose rows are written: a new one begins with the memory of one of these.
    spent: Mutex<Vec<Batch>>,
}

impl<'a> Batches<'a> {
    /// From run number `from` on, for so many threads.
    pub(super) fn new(grid: &'a Grid, texts: &'a CellTexts<'a>, from: u64, jobs: usize) -> Self {
        // A run of exact fidelity takes long: whoever stops the sweep waits for no other.
        let fluid = grid.cell(0).is_ok_and(|cell| cell.setup.run.fidelity == Fidelity::Fluid);
        let each = (grid.runs() - from) / (4 * jobs as u64);
        let repeat = u64::from(grid.repeat());
        // Cells are whole in a batch, unless they have very many runs.
        let whole = if repeat <= FLUID { repeat } else { 1 };
        let size = if fluid { each.clamp(1, FLUID).next_multiple_of(whole) } else { 1 };
        let (variants, spent) = (Variants::of(grid), Mutex::default());
        Self { grid, texts, variants, from, origin: from - from % repeat, size, spent }
    }

    /// Runs of a batch, but for the first and the last one.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// How many batches there are.
    pub(super) fn count(&self) -> u64 {
        (self.grid.runs() - self.origin).div_ceil(self.size)
    }

    /// Makes a batch. `bench` is the thread's own.
    pub(super) fn make(&self, number: u64, bench: &mut Option<Bench>) -> Result<Batch, SweepError> {
        let begin = self.origin + number * self.size;
        let to = (begin + self.size).min(self.grid.runs());
        let from = begin.max(self.from).min(to);
        let repeat = u64::from(self.grid.repeat());
        let mut batch = self.begin(from, from.div_ceil(repeat)..to / repeat);
        let mut place = Vec::new();
        for cell in from / repeat..to.div_ceil(repeat) {
            self.variants.set_up(cell, bench)?;
            let Some(bench) = bench.as_mut() else { continue };
            self.texts.put_place(cell, &mut place);
            let runs = (cell * repeat).max(from)..((cell + 1) * repeat).min(to);
            self.make_runs(cell, runs, bench, &place, &mut batch)?;
            self.tell_of_cell(cell, &place, &mut batch);
        }
        Ok(batch)
    }

    /// An empty batch.
    fn begin(&self, from: u64, whole: Range<u64>) -> Batch {
        let spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Batch { from, whole, ..spent.unwrap_or_default() }
    }

    /// Takes back a batch of which everything is written.
    pub(super) fn take_back(&self, mut batch: Batch) {
        batch.clear();
        self.spent.lock().unwrap_or_else(PoisonError::into_inner).push(batch);
    }

    /// Makes these runs of a cell.
    fn make_runs(
        &self,
        cell: u64,
        runs: Range<u64>,
        bench: &mut Bench,
        place: &[u8],
        batch: &mut Batch,
    ) -> Result<(), SweepError> {
        let (policy, format) = (self.texts.names.policy(cell), self.texts.tables.format);
        let repeat = u64::from(self.grid.repeat());
        for run in runs {
            let repetition = (run % repeat) as u32;
            bench.simulation.seed = bench.seed_of(repetition);
            let (values, record) = self.run(bench).map_err(|source| self.named(cell, bench, source))?;
            batch.values.push(values);
            if let Some(record) = record {
                batch.rows.add(format, Subject { cell, repetition, policy, place }, record);
            }
        }
        Ok(())
    }

    /// Tells of a cell, if it is whole.
    fn tell_of_cell(&self, cell: u64, place: &[u8], batch: &mut Batch) {
        let texts = self.texts;
        if (texts.rows || texts.page) && batch.whole.contains(&cell) {
            let repeat = u64::from(self.grid.repeat());
            let first = (cell * repeat - batch.from) as usize;
            let record = CellRecord::of(cell, &batch.values[first..], texts.tables.summary);
            texts.add_at(&mut batch.cells, record, place);
        }
    }

    /// Makes a run; with the record of its row, if one is wanted.
    fn run(&self, bench: &mut Bench) -> Result<(Values, Option<MigrationRecord>), SimError> {
        if self.texts.tables.summary {
            return Ok((Self::values(bench)?, None));
        }
        let (setup, seed) = (&bench.simulation, bench.simulation.seed);
        if setup.fidelity == Fidelity::Fluid && !self.texts.tables.rounds {
            let (totals, why) = bench.simulator.run_and_tell(setup)?;
            let record = MigrationRecord::of_totals(&totals, why, setup.guest.memory, seed);
            return Ok((Values::of_totals(&totals), Some(record)));
        }
        let mut made = simulate(setup)?;
        let values = Values::of(&made);
        let record = if self.texts.tables.rounds {
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
