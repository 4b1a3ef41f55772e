//! What the simulator says of a run before it is made.
//!
//! Which page a lab guest writes next no simulator knows. One simulated run is off by its own luck besides the guest's, and where a
//! policy stops that is most of an error: so the middle one of several is the forecast.

use whimbrel_lab::real::ground::Ground;
use whimbrel_lab::result::MigrationRecord;
use whimbrel_lab::scenario::Cell;
use whimbrel_lab::sweep;

use super::super::failure::Failure;

/// Simulated runs that a forecast is the middle one of.
const DRAWS: u64 = 9;

/// Far from the seeds of a cell's other runs, which follow one another.
const ANOTHER: u64 = 0x9e37_79b9_7f4a_7c15;

/// What is to be expected of a run with this seed: of simulated ones that differ by chance alone, the one with the downtime in the middle, so
/// that all figures are those of one run.
pub(super) fn forecast(ground: &Ground, cell: &Cell, seed: u64) -> Result<MigrationRecord, Failure> {
    let seeds = (0..DRAWS).map(|draw| seed.wrapping_add(draw.wrapping_mul(ANOTHER)));
    let records = seeds.map(|draw| simulated(ground, cell, draw)).collect::<Result<Vec<_>, _>>()?;
    middle(records, |record| record.downtime_ms).map(|middle| MigrationRecord { seed, ..middle }).ok_or_else(
        // Cannot be: there are several.
        || Failure::Failed(anyhow::anyhow!("nothing was simulated")),
    )
}

fn simulated(ground: &Ground, cell: &Cell, seed: u64) -> Result<MigrationRecord, Failure> {
    let mut setup = sweep::simulation(&ground.forecast(&cell.setup), seed).map_err(Failure::bad_input)?;
    // The engine's threads wait for one another before the first page, and at the end of each round; its slices end in time.
    (setup.aligned, setup.drained, setup.punctual) = (true, true, true);
    let run = whimbrel_sim::simulate(&setup).map_err(Failure::bad_input)?;
    Ok(MigrationRecord::of(&run, seed))
}

/// The one in the middle by this number; none of none.
fn middle<T>(mut all: Vec<T>, number: impl Fn(&T) -> f64) -> Option<T> {
    all.sort_by(|one, other| number(one).total_cmp(&number(other)));
    (!all.is_empty()).then(|| all.swap_remove(all.len() / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_one_of_them_and_no_mean() {
        let runs = vec![("late", 10.6), ("never", 0.0), ("early", 3.6), ("usual", 4.3), ("again", 4.4)];
        assert_eq!(middle(runs, |run| run.1), Some(("usual", 4.3)));
        assert_eq!(middle(Vec::<f64>::new(), |number| *number), None);
    }
}
