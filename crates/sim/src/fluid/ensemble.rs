//! The mean of runs with luck, where the outcome of the means is not the mean of the outcomes.
//!
//! Called for a migration whose outcome was seen to hang on chance in a way that is not averaged otherwise:
//! where ticks lie to the clock of a manager or to the steps of a throttle, where a sender sleeps, whether a
//! tick comes before a short round ends. (What decided there is not a number of pages near a threshold: then
//! exact runs split, and the result says so without any ensemble.) See [`super::dice`].

use whimbrel_core::report::Outcome;

use super::dice::{Dice, MEMBERS};
use super::mean;
use super::near::NearThreshold;
use super::totals::Totals;
use super::world::World;
use crate::migration::{Run, Setup, SimError};

/// How far the mean of an ensemble may be off by chance: shares of total time and bytes, of the downtime, and
/// seconds of it. Those of the promise that fluid results are means.
pub(super) const BOUNDS: [f64; 2] = [0.01, 0.02];
pub(super) const LEAST: f64 = 1e-3;

/// What the members come to, in place of `alone`, which is what a run without luck came to; and what `tell` has of a
/// run that ends as most do. They are run in `world`.
pub(super) fn follow<T>(
    setup: &Setup,
    world: &mut World,
    (alone, told): (Totals, T),
    tell: impl Fn(&World) -> T,
) -> Result<(Totals, T), SimError> {
    let totals = totals(setup, world, &alone)?;
    if alone.outcome == totals.outcome {
        return Ok((Totals { rounds: alone.rounds, ..totals }, told));
    }
    for member in 0..MEMBERS {
        let end = run_member(setup, world, member)?;
        if end.outcome == totals.outcome {
            return Ok((Totals { rounds: end.rounds, ..totals }, tell(world)));
        }
    }
    Ok((totals, told))
}

/// The same with rounds and reasons: those of `alone`, if most members ended like it, else those of one of them.
pub(super) fn run(setup: &Setup, alone: World, means: &Totals) -> Result<Run, SimError> {
    let totals = totals(setup, &mut World::new(setup, false)?, means)?;
    let mut told = alone;
    let mut outcome = means.outcome;
    for member in 0..MEMBERS {
        if outcome == totals.outcome {
            break;
        }
        told = World::new(setup, true)?;
        outcome = run_member(setup, &mut told, member)?.outcome;
    }
    Ok(told.into_run(&totals))
}

fn totals(setup: &Setup, world: &mut World, alone: &Totals) -> Result<Totals, SimError> {
    let mut ends = Vec::with_capacity(MEMBERS as usize);
    for member in 0..MEMBERS {
        ends.push((1.0, run_member(setup, world, member)?));
    }
    Ok(Ensemble(ends).totals(alone))
}

fn run_member(setup: &Setup, world: &mut World, member: u64) -> Result<Totals, SimError> {
    world.begin(setup, true)?;
    world.throw(Dice::new(member));
    world.run()?;
    Ok(world.totals())
}

/// The ends of the members, all with the same share.
struct Ensemble(Vec<(f64, Totals)>);

impl Ensemble {
    fn totals(mut self, alone: &Totals) -> Totals {
        let count = |outcome: Outcome| self.0.iter().filter(|end| end.1.outcome == outcome).count();
        let split = self.0.iter().any(|end| end.1.outcome != self.0[0].1.outcome);
        let most = self.0.iter().map(|end| end.1.outcome).max_by_key(|&outcome| count(outcome));
        self.0.retain(|end| Some(end.1.outcome) == most);
        let mean = mean::of(&self.0).map_or(*alone, |(_, mean)| mean);
        let near = alone.near_threshold.unwrap_or(NearThreshold {
            round: mean.rounds,
            pending: whimbrel_core::units::Pages(0),
            deviations: 0.0,
        });
        Totals { near_threshold: (split || self.is_wide(&mean)).then_some(near), ..mean }
    }

    /// Whether the members lie so far apart that their mean may be off by more than the bounds.
    fn is_wide(&self, mean: &Totals) -> bool {
        let error = |of: fn(&Totals) -> f64| {
            let count = self.0.len() as f64;
            let squares = self.0.iter().map(|end| (of(&end.1) - of(mean)).powi(2)).sum::<f64>();
            (squares / count / (count - 1.0).max(1.0)).sqrt()
        };
        let time: fn(&Totals) -> f64 = |end| end.total.as_secs_f64();
        let bytes: fn(&Totals) -> f64 = |end| end.sent.as_f64();
        let downtime: fn(&Totals) -> f64 = |end| end.downtime.total().as_secs_f64();
        error(time) > BOUNDS[0] * time(mean)
            || error(bytes) > BOUNDS[0] * bytes(mean)
            || error(downtime) > (BOUNDS[1] * downtime(mean)).max(LEAST)
    }
}
