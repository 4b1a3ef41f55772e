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
    let mut members = Vec::with_capacity(MEMBERS as usize);
    for member in 0..MEMBERS {
        let end = run_member(setup, world, member)?;
        members.push((world.sending.dice.as_ref().map_or(0.0, Dice::phase), end));
    }
    members.sort_by(|one, other| one.0.total_cmp(&other.0));
    Ok(Ensemble(members.into_iter().map(|(_, end)| (1.0, end)).collect()).totals(alone))
}

fn run_member(setup: &Setup, world: &mut World, member: u64) -> Result<Totals, SimError> {
    world.begin(setup, true)?;
    world.throw(Dice::new(member));
    world.run()?;
    Ok(world.totals())
}

/// The ends of the members, all with the same share, in the order of where their ticks lie.
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
        let error = |of: fn(&Totals) -> f64| standard_error(self.0.iter().map(|end| of(&end.1)));
        let time: fn(&Totals) -> f64 = |end| end.total.as_secs_f64();
        let bytes: fn(&Totals) -> f64 = |end| end.sent.as_f64();
        let downtime: fn(&Totals) -> f64 = |end| end.downtime.total().as_secs_f64();
        error(time) > BOUNDS[0] * time(mean)
            || error(bytes) > BOUNDS[0] * bytes(mean)
            || error(downtime) > (BOUNDS[1] * downtime(mean)).max(LEAST)
    }
}

/// By how much the mean of these may be off by chance.
///
/// They stand in the order of where ticks lie, one in the middle of each equal part, and so what follows from that is no
/// chance: what rises evenly is averaged exactly, and a jump between two of them lies anywhere there, which is
/// a deviation of its height / (n √12). What is left is chance, and shows in that one and the next difference are
/// both large: of normal numbers with the variance v, which differ by chance alone, the product of two differences that
/// follow each other has the mean size 4 v / π × (√3/2 + π/12) = 1.436 v. (It is the idea of bipower variation:
/// O. E. Barndorff-Nielsen and N. Shephard, *Power and Bipower Variation with Stochastic Volatility and Jumps*,
/// Journal of Financial Econometrics 2, 2004.)
fn standard_error(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let differences = values.clone().zip(values.skip(1)).map(|(one, next)| next - one);
    let (mut count, mut jumps, mut chance, mut before) = (1.0, 0.0, 0.0, 0.0);
    for difference in differences {
        count += 1.0;
        jumps += difference * difference;
        chance += f64::abs(difference * before);
        before = difference;
    }
    let variance = chance / (1.436 * f64::max(count - 2.0, 1.0));
    (variance / count + jumps / (12.0 * count * count)).sqrt()
}

#[cfg(test)]
mod tests {
    use rand_core::Rng as _;

    use super::*;
    use crate::guest::stream;

    fn of(value: impl Fn(u64) -> f64) -> f64 {
        let values: Vec<f64> = (0..MEMBERS).map(value).collect();
        standard_error(values.into_iter())
    }

    #[test]
    fn what_follows_from_the_order_is_no_chance() {
        // A deviation of 9, of which a mean of 31 values drawn at random would be off by 1.6.
        assert!(of(|member| member as f64) < 0.2);
        // A jump somewhere between two values that are 1/31 apart.
        let jump = of(|member| if member < 12 { 0.0 } else { 31.0 });
        assert!((jump * 12.0_f64.sqrt() - 1.0).abs() < 1e-9, "{jump}");
    }

    #[test]
    fn values_in_no_order_are_as_far_off_as_a_sample_drawn_at_random() {
        let mut rng = stream(1, "ensemble");
        let (mut sum, draws) = (0.0, 2000);
        for _ in 0..draws {
            // Nearly normal numbers with the variance 1.
            let mut part = || (rng.next_u64() >> 11) as f64 * 2.0_f64.powi(-53);
            let numbers: Vec<f64> =
                (0..MEMBERS).map(|_| (0..12).map(|_| part()).sum::<f64>() - 6.0).collect();
            sum += standard_error(numbers.into_iter()).powi(2);
        }
        let expected = 1.0 / MEMBERS as f64;
        let more = sum / f64::from(draws) / expected;
        // Each difference might be a jump as well.
        assert!((more - 7.0 / 6.0).abs() < 0.03, "{more}");
    }

    #[test]
    fn one_value_is_not_off() {
        assert!(standard_error([3.0].into_iter()) < f64::MIN_POSITIVE);
    }
}
