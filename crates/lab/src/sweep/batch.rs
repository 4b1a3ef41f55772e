//! Runs that a thread makes in one go, in the order of the grid.

use std::ops::Range;

use whimbrel_sim::config::Fidelity;
use whimbrel_sim::{SimError, simulate};

use super::SweepError;
use super::cell::CellRecord;
use super::files::Tables;
use super::place::Places;
use super::row::{Names, Rows, Subject, add_cell};
use super::values::Values;
use super::variants::{Bench, Variants};
use crate::result::MigrationRecord;
use crate::scenario::Grid;
use crate::table::fields::json;

/// Runs of fluid fidelity in one go: each takes microseconds, and a batch must be worth handing over.
const FLUID: u64 = 256;

/// What came of a batch.
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
    /// Records for the page, and lines that keep them in case the sweep is cut; none where there is no page.
    pub(super) records: Vec<CellRecord>,
    pub(super) kept: Vec<u8>,
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

    /// Adds a cell that is complete.
    pub(super) fn add(&self, cells: &mut Cells, record: CellRecord) {
        if self.rows {
            let (policy, mut place) = (self.names.policy(record.cell), Vec::new());
            self.places.put(record.cell, &mut place);
            add_cell(&mut cells.rows, self.tables.format, (policy, &place), &record, self.tables.summary);
        }
        if self.page {
            json(&mut cells.kept, &record);
            cells.kept.push(b'\n');
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
        Self { grid, texts, variants: Variants::of(grid), from, origin: from - from % repeat, size }
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
        let mut batch = Batch {
            from,
            rows: Rows::default(),
            values: Vec::with_capacity((to - from) as usize),
            whole: from.div_ceil(repeat)..to / repeat,
            cells: Cells::default(),
        };
        let (names, tables) = (self.texts.names, self.texts.tables);
        let (mut place, mut placed) = (Vec::new(), None);
        for run in from..to {
            let (cell, repetition) = (run / repeat, (run % repeat) as u32);
            self.variants.set_up(cell, bench)?;
            let Some(bench) = bench.as_mut() else { continue };
            bench.simulation.seed = bench.seed_of(repetition);
            let (values, record) = self.run(bench).map_err(|source| self.named(cell, bench, source))?;
            batch.values.push(values);
            let Some(record) = record else { continue };
            if placed.replace(cell) != Some(cell) {
                self.texts.places.put(cell, &mut place);
            }
            let subject = Subject { cell, repetition, policy: names.policy(cell), place: &place };
            batch.rows.add(tables.format, subject, record);
        }
        self.tell_of_cells(&mut batch, repeat);
        Ok(batch)
    }

    /// Tells of the cells that are whole.
    fn tell_of_cells(&self, batch: &mut Batch, repeat: u64) {
        let texts = self.texts;
        if !(texts.rows || texts.page) {
            return;
        }
        for cell in batch.whole.clone() {
            let first = (cell * repeat - batch.from) as usize;
            let values = &batch.values[first..first + repeat as usize];
            texts.add(&mut batch.cells, CellRecord::of(cell, values, texts.tables.summary));
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
