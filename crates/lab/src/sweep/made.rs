//! Sweeps whose migrations somebody else makes: real ones, one after another.
//!
//! `whimbrel bench` moves guests and hands in what came of each; tables, sums and report are made of that as of what
//! [`run`](super::run) simulates. Nothing here knows how a migration is made, and nothing is made twice: the runs that the report
//! tells in full are those that were handed in, and whoever goes on with a sweep that was cut hands the records of before in again.
//! A migration takes long, so each is on the disk before the next one begins.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use whimbrel_core::report::Outcome;

use super::batch::Batch;
use super::row::{Names, Subject};
use super::tally::{Tally, Wanted};
use super::values::Values;
use super::{Finished, ResultDir, SweepError, finish, typical};
use crate::result::MigrationRecord;
use crate::scenario::{Cell, Grid};

/// A migration that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// How it ended, as its record says in words.
    pub outcome: Outcome,
    /// Its record, with its rounds.
    pub record: MigrationRecord,
}

/// Has `make` make each run of each cell, of which it is told the number of the repetition, and hands the rows to `results`, in the
/// order of the grid, from where these end; `before` are the records of the runs that they hold. It ends when `stop` is set, or `make`
/// gives none because it was.
///
/// # Errors
///
/// The first thing that failed; `results` then keeps what was noted before.
pub fn run_made<E: From<SweepError>>(
    grid: &Grid,
    stop: &AtomicBool,
    before: Vec<MigrationRecord>,
    mut make: impl FnMut(&Cell, u32) -> Result<Option<Made>, E>,
    results: &mut ResultDir,
) -> Result<Finished, E> {
    let begun = results.begun();
    let names = Names::of(grid).map_err(SweepError::from)?;
    let tables = results.tables();
    let wanted = Wanted { cells: results.wants_cells(grid), summary: tables.summary };
    let repeat = u64::from(grid.repeat());
    let mut tally = Tally::new(&names, wanted, begun.sums, begun.runs.saturating_sub(1) / repeat, begun.open);
    let texts = results.texts(grid, &names);
    let place = |run: u64| (run / repeat, (run % repeat) as u32);
    let mut records: BTreeMap<_, _> = (0..begun.runs).map(place).zip(before).collect();
    for run in begun.runs..grid.runs() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (number, repetition) = place(run);
        let cell = grid.cell(number).map_err(SweepError::from)?;
        let Some(Made { outcome, record }) = make(&cell, repetition)? else { break };
        // No cell is whole in a batch: they are summed up run by run.
        let mut batch = Batch { from: run, whole: number..number, ..Batch::default() };
        batch.values.push(Values::of_record(outcome, &record));
        let at = texts.place(number);
        let subject = Subject { cell: number, repetition, policy: names.policy(number), place: &at };
        batch.rows.add(tables.format, subject, record.clone());
        let kept = results
            .add(&mut batch, repeat, &mut tally, &texts)
            .and_then(|()| results.begin_note(&tally))
            .and_then(|()| results.settle());
        kept.map_err(SweepError::from)?;
        records.insert((number, repetition), record);
    }
    let typical = |names: &Names<'_>, cells: &[_]| Ok(typical::of_records(names, cells, &records));
    Ok(finish(grid, 1, results, tally, &texts, typical)?)
}
