//! A few runs that are told round by round: which ones, and their rounds.
//!
//! The rounds of all runs would be most of a sweep's memory. Runs can be made again from their seed, so those that a
//! page tells in full are chosen when the sweep is done, by its results, and are made once more.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use rayon::prelude::*;
use whimbrel_sim::simulate;

use super::row::Names;
use super::{CellRecord, Options, SweepError, simulation};
use crate::result::{LedgerRecord, MigrationRecord};
use crate::scenario::Grid;

/// At most so many runs are made once more.
const MOST_RUNS: usize = 48;
/// At most so many rounds of each are kept.
const MOST_ROUNDS: usize = 120;

/// One run, round by round.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Typical {
    /// The cell's number in the grid.
    pub cell: u64,
    /// The run's seed.
    pub seed: u64,
    /// How it ended.
    pub outcome: &'static str,
    /// Whether the policy's own rule was met.
    pub converged: bool,
    /// Total time, milliseconds.
    pub total_ms: f64,
    /// Downtime, milliseconds.
    pub downtime_ms: f64,
    /// Where the downtime went.
    pub ledger: LedgerRecord,
    /// How many rounds there were.
    pub rounds: usize,
    /// The rounds; of many some are left out, more of the later ones.
    pub kept: Vec<TypicalRound>,
}

/// One of its rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct TypicalRound {
    /// 0 is the bulk round.
    pub round: u32,
    /// The guest was paused, or ran at the destination already.
    pub handed_over: bool,
    /// Since the start of the migration, milliseconds.
    pub started_ms: f64,
    /// Pages pending when it began.
    pub pending_pages: u64,
    /// Pages that the harvest at its beginning found dirty.
    pub dirtied_pages: u64,
    /// Share of CPU taken away at its end, 0 to 1.
    pub throttle: f64,
}

/// Which of many things are kept: all up to a number, then ever fewer, and the last.
fn kept(count: usize) -> Vec<usize> {
    if count <= MOST_ROUNDS {
        return (0..count).collect();
    }
    let last = (count - 1) as f64;
    let mut kept: Vec<usize> = (0..MOST_ROUNDS)
        .map(|at| ((last + 1.0).powf(at as f64 / (MOST_ROUNDS - 1) as f64) - 1.0).round() as usize)
        .collect();
    kept.dedup();
    kept
}

impl Typical {
    fn of(cell: u64, record: &MigrationRecord) -> Self {
        let rounds = kept(record.round.len()).into_iter().map(|at| &record.round[at]);
        Self {
            cell,
            seed: record.seed,
            outcome: record.outcome,
            converged: record.converged,
            total_ms: record.total_ms,
            downtime_ms: record.downtime_ms,
            ledger: record.downtime,
            rounds: record.rounds,
            kept: rounds
                .map(|round| TypicalRound {
                    round: round.round,
                    handed_over: round.paused || round.post_copy,
                    started_ms: round.started_ms,
                    pending_pages: round.pending_pages,
                    dirtied_pages: round.dirtied_pages,
                    throttle: round.throttle,
                })
                .collect(),
        }
    }
}

/// A cell: the number of its place, which of those compared there it is, and its runs.
type Compared<'a> = (u64, usize, &'a CellRecord);

/// The cells of one place of the grid, by what is compared there.
#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    number: u64,
    cells: &'a [Compared<'a>],
}

/// Makes the representative runs of the chosen places once more, on the threads of the current pool. Fewer if the
/// sweep is stopped meanwhile.
pub(super) fn make(
    grid: &Grid,
    names: &Names<'_>,
    cells: &[CellRecord],
    options: &Options<'_>,
) -> Result<Vec<Typical>, SweepError> {
    let made = chosen(names, cells).into_par_iter().map(|record| {
        if options.stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let cell = grid.cell(record.cell)?;
        let seed = cell.setup.run.seed_of(record.representative);
        let run = simulate(&simulation(&cell.setup, seed)?).map_err(|source| SweepError::Run {
            cell: record.cell,
            values: cell.overrides().join(" "),
            seed,
            source,
        })?;
        Ok(Some(Typical::of(record.cell, &MigrationRecord::of(&run, seed))))
    });
    Ok(made.collect::<Result<Vec<_>, SweepError>>()?.into_iter().flatten().collect())
}

/// The representative runs of the chosen places, of those whose records there are.
pub(super) fn of_records(
    names: &Names<'_>,
    cells: &[CellRecord],
    records: &BTreeMap<(u64, u32), MigrationRecord>,
) -> Vec<Typical> {
    let of = |cell: &CellRecord| {
        records.get(&(cell.cell, cell.representative)).map(|record| Typical::of(cell.cell, record))
    };
    chosen(names, cells).into_iter().filter_map(of).collect()
}

/// The cells whose runs tell most.
fn chosen<'a>(names: &Names<'_>, cells: &'a [CellRecord]) -> Vec<&'a CellRecord> {
    let compared = cells.iter().map(|cell| {
        let (place, one) = names.place(cell.cell);
        (place, one, cell)
    });
    let mut all: Vec<Compared<'_>> = compared.collect();
    all.sort_unstable_by_key(|(place, one, _)| (*place, *one));
    let chosen = choose(&places(&all), &names.other_lengths());
    let numbers = chosen.iter().flat_map(|place| place.cells).map(|(_, _, cell)| cell.cell).take(MOST_RUNS);
    // In the order of the grid, as they were made.
    let cell = |number: u64| cells.binary_search_by_key(&number, |cell| cell.cell).ok();
    numbers.filter_map(|number| cells.get(cell(number)?)).collect()
}

/// The places of these cells, which are in their order.
fn places<'a>(all: &'a [Compared<'a>]) -> Vec<Place<'a>> {
    let places = all.chunk_by(|one, other| one.0 == other.0);
    places.map(|cells| Place { number: cells[0].0, cells }).collect()
}

/// How many of those compared converge at a place.
fn converging(place: &Place<'_>) -> usize {
    place.cells.iter().filter(|(_, _, cell)| cell.converged >= 0.5).count()
}

/// The places that tell most: the one that divides the compared ones most evenly, in the middle of the grid, and
/// before it the nearest one where most converge. If none divides them, the hardest one, by rounds, where most converge,
/// and the nearest one where nothing does. One is left out where both would be too many runs. `lengths` are those of
/// the axes.
fn choose<'a>(places: &[Place<'a>], lengths: &[u64]) -> Vec<Place<'a>> {
    let widest = places.iter().map(|place| place.cells.len()).max().unwrap_or(0);
    let whole = || places.iter().filter(|place| place.cells.len() == widest);
    let most = whole().map(converging).max().unwrap_or(0);
    let middle = lengths.iter().fold(0, |number, length| number * length + length.saturating_sub(1) / 2);
    let away = |one: u64, other: u64| away(lengths, one, other);
    let divided = whole()
        .filter(|place| (1..most).contains(&converging(place)))
        .min_by_key(|place| ((2 * converging(place)).abs_diff(most), away(place.number, middle)));
    let calm = || whole().filter(|place| converging(place) == most);
    let nearest = |to: &Place<'_>| calm().min_by_key(|place| away(place.number, to.number));
    let chosen = if let Some(divided) = divided {
        [nearest(divided), Some(divided)]
    } else {
        // Of equals the first.
        let hardest = calm().rev().max_by(|a, b| rounds(a).total_cmp(&rounds(b)));
        let lost = whole().filter(|place| converging(place) == 0 && most > 0);
        let near = |hardest: &Place<'_>| lost.min_by_key(|place| away(place.number, hardest.number));
        [hardest, hardest.and_then(near)]
    };
    let count = if 2 * widest <= MOST_RUNS { 2 } else { 1 };
    chosen.into_iter().flatten().take(count).copied().collect()
}

/// The rounds of all that converge at a place; of all if none does.
fn rounds(place: &Place<'_>) -> f64 {
    let none = converging(place) == 0;
    let cells = place.cells.iter().map(|(_, _, cell)| cell).filter(|cell| none || cell.converged >= 0.5);
    cells.filter_map(|cell| cell.rounds.median).sum()
}

/// How many steps lie between two places, along axes of these lengths.
fn away(lengths: &[u64], mut one: u64, mut other: u64) -> u64 {
    let steps = lengths.iter().rev().map(|length| {
        let steps = (one % length).abs_diff(other % length);
        (one, other) = (one / length, other / length);
        steps
    });
    steps.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::Spread;

    fn cell(number: u64, converged: f64, rounds: f64) -> CellRecord {
        let spread = |value| Spread { median: Some(value), p90: Some(value), ..Spread::default() };
        CellRecord {
            cell: number,
            runs: 1,
            representative: 0,
            converged,
            outcomes: Vec::new(),
            total_ms: Spread::default(),
            downtime_ms: Spread::default(),
            sent_bytes: Spread::default(),
            rounds: spread(rounds),
            disruption_vcpu_s: Spread::default(),
        }
    }

    /// Which places of a line of cells are chosen: for each place the rounds of two policies, less than zero where
    /// they do not converge.
    fn chosen(line: &[[f64; 2]]) -> Vec<u64> {
        let cells: Vec<[CellRecord; 2]> = line
            .iter()
            .map(|pair| pair.map(|rounds| cell(0, f64::from(u8::from(rounds >= 0.0)), rounds.abs())))
            .collect();
        let all: Vec<Compared<'_>> = (0..)
            .zip(&cells)
            .flat_map(|(place, pair)| pair.iter().enumerate().map(move |(one, cell)| (place, one, cell)))
            .collect();
        choose(&places(&all), &[line.len() as u64]).into_iter().map(|place| place.number).collect()
    }

    #[test]
    fn the_place_that_divides_and_an_easy_one_beside_it_are_chosen() {
        let line = [[3.0, 2.0], [9.0, 5.0], [8.0, 5.0], [7.0, -5.0], [7.0, -5.0], [-9.0, -5.0], [-9.0, -5.0]];
        assert_eq!(chosen(&line), [2, 3]);
        assert_eq!(chosen(&[[3.0, 2.0], [3.0, 4.0], [3.0, 2.0], [-9.0, -5.0]]), [1, 3], "none divides them");
        assert_eq!(chosen(&[[3.0, 2.0]]), [0]);
        assert_eq!(chosen(&[[-3.0, -2.0], [-9.0, -2.0]]), [1], "nothing converges anywhere");
        assert!(chosen(&[]).is_empty());
    }

    #[test]
    fn steps_are_counted_along_each_axis() {
        // Of 5 by 3 by 4 places, (1, 2, 3) and (4, 0, 1).
        let at = |a: u64, b: u64, c: u64| (a * 3 + b) * 4 + c;
        assert_eq!(away(&[5, 3, 4], at(1, 2, 3), at(4, 0, 1)), 3 + 2 + 2);
        assert_eq!(away(&[], 0, 0), 0);
    }

    #[test]
    fn few_rounds_are_all_kept_and_of_many_the_ends() {
        assert_eq!(kept(5), [0, 1, 2, 3, 4]);
        let many = kept(40_000);
        assert!(
            many.len() <= MOST_ROUNDS && many.starts_with(&[0, 1, 2]) && many.ends_with(&[39_999]),
            "{many:?}"
        );
        assert!(many.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
