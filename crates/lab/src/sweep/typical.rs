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

/// The cells of one place of the grid, by what is compared there.
type Place<'a> = BTreeMap<usize, &'a CellRecord>;

/// Makes the representative runs of the chosen places once more, on the threads of the current pool. Fewer if the
/// sweep is stopped meanwhile.
pub(super) fn make(
    grid: &Grid,
    names: &Names<'_>,
    cells: &[CellRecord],
    options: &Options<'_>,
) -> Result<Vec<Typical>, SweepError> {
    let mut places: BTreeMap<Vec<usize>, Place<'_>> = BTreeMap::new();
    for cell in cells {
        let (place, group) = names.place(cell.cell);
        places.entry(place).or_default().insert(group, cell);
    }
    let chosen = choose(&places);
    let runs: Vec<&CellRecord> =
        chosen.iter().flat_map(|place| places[*place].values().copied()).take(MOST_RUNS).collect();
    let made = runs.into_par_iter().map(|record| {
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

/// How many of those compared converge at a place.
fn converging(place: &Place<'_>) -> usize {
    place.values().filter(|cell| cell.converged >= 0.5).count()
}

/// The places that tell most: the one that divides the compared ones most evenly, in the middle of the grid, and
/// before it the nearest one where most converge. If none divides them, the hardest one, by rounds, where most converge,
/// and the nearest one where nothing does. One is left out where both would be too many runs.
fn choose<'a>(places: &'a BTreeMap<Vec<usize>, Place<'_>>) -> Vec<&'a Vec<usize>> {
    let widest = places.values().map(BTreeMap::len).max().unwrap_or(0);
    let whole = || places.iter().filter(|(_, cells)| cells.len() == widest);
    let most = whole().map(|(_, cells)| converging(cells)).max().unwrap_or(0);
    let middle = middle(places);
    let divided = whole()
        .filter(|(_, cells)| (1..most).contains(&converging(cells)))
        .min_by_key(|(place, cells)| ((2 * converging(cells)).abs_diff(most), away(place, &middle)));
    let calm = || whole().filter(|(_, cells)| converging(cells) == most);
    let chosen = if let Some((divided, _)) = divided {
        [calm().map(|(place, _)| place).min_by_key(|place| away(place, divided)), Some(divided)]
    } else {
        // Of equals the first.
        let hardest = calm().rev().max_by(|a, b| rounds(a.1).total_cmp(&rounds(b.1))).map(|(place, _)| place);
        let lost = whole().filter(|(_, cells)| converging(cells) == 0 && most > 0).map(|(place, _)| place);
        [hardest, hardest.and_then(|hardest| lost.min_by_key(|place| away(place, hardest)))]
    };
    let count = if 2 * widest <= MOST_RUNS { 2 } else { 1 };
    chosen.into_iter().flatten().take(count).collect()
}

/// The rounds of all that converge at a place; of all if none does.
fn rounds(place: &Place<'_>) -> f64 {
    let none = converging(place) == 0;
    let cells = place.values().filter(|cell| none || cell.converged >= 0.5);
    cells.filter_map(|cell| cell.rounds.median).sum()
}

/// How many steps lie between two places.
fn away(one: &[usize], other: &[usize]) -> usize {
    one.iter().zip(other).map(|(one, other)| one.abs_diff(*other)).sum()
}

/// The place in the middle, whether it was run or not.
fn middle(places: &BTreeMap<Vec<usize>, Place<'_>>) -> Vec<usize> {
    let axes = places.keys().next().map_or(0, Vec::len);
    (0..axes).map(|axis| places.keys().map(|place| place[axis]).max().unwrap_or(0) / 2).collect()
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
    fn chosen(line: &[[f64; 2]]) -> Vec<usize> {
        let cells: Vec<[CellRecord; 2]> = line
            .iter()
            .map(|pair| pair.map(|rounds| cell(0, f64::from(u8::from(rounds >= 0.0)), rounds.abs())))
            .collect();
        let places: BTreeMap<Vec<usize>, Place<'_>> = cells
            .iter()
            .enumerate()
            .map(|(at, pair)| (vec![at], pair.iter().enumerate().collect()))
            .collect();
        choose(&places).into_iter().map(|place| place[0]).collect()
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
