//! Chance, where an outcome hangs on it: one run of an ensemble takes its luck from here.
//!
//! Most migrations are computed once, with everything that is chance at its mean. Where the outcome is no smooth
//! function of it (a throttle that takes a step at one harvest or at the next; a manager that polls by the
//! clock) the mean of the outcomes is not the outcome of the means. [`super::ensemble`] then runs
//! the migration [`MEMBERS`] times, each with luck of its own: where ticks lie, where in its sawtooth the queue
//! stands, how many pages a harvest finds.
//!
//! It is a Latin hypercube (M. D. `McKay`, R. Beckman and W. Conover, *A Comparison of Three Methods for Selecting
//! Values of Input Variables*, Technometrics 21, 1979): the n-th draw of the members takes one value out of each
//! of [`MEMBERS`] equal parts, in an order of its own, so what the result depends on smoothly is averaged nearly
//! exactly.

use rand_core::Rng as _;

use crate::guest::{Generator, stream};

/// Runs of an ensemble: a prime, so that any step goes through all parts.
pub(super) const MEMBERS: u64 = 31;

/// The luck of one member.
#[derive(Clone, Debug)]
pub(super) struct Dice {
    member: u64,
    orders: Generator,
    /// Where ticks lie, a part of one.
    phase: f64,
}

impl Dice {
    /// Of member number `member`, from 0.
    pub(super) fn new(member: u64) -> Self {
        Self { member, orders: stream(0, "fluid.dice"), phase: 0.0 }
    }

    pub(super) fn member(&self) -> u64 {
        self.member
    }

    /// Where ticks lie: the part of a slice that is left when the sender begins.
    pub(super) fn draw_phase(&mut self) -> f64 {
        self.phase = self.part();
        self.phase
    }

    /// The same once it is drawn; else zero.
    pub(super) fn phase(&self) -> f64 {
        self.phase
    }

    /// A part of one, all equally likely.
    pub(super) fn part(&mut self) -> f64 {
        let order = self.orders.next_u64();
        let (step, first) = (1 + (order >> 32) % (MEMBERS - 1), order % MEMBERS);
        (((step * self.member + first) % MEMBERS) as f64 + 0.5) / MEMBERS as f64
    }

    /// A number of the standard normal distribution (Abramowitz and Stegun, 26.2.23: right to 0.0005).
    pub(super) fn normal(&mut self) -> f64 {
        let part = self.part();
        let t = (-2.0 * part.min(1.0 - part).ln()).sqrt();
        let top = 2.515_517 + t * (0.802_853 + t * 0.010_328);
        let bottom = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
        let size = t - top / bottom;
        if part < 0.5 { -size } else { size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_draw_takes_one_value_of_each_part() {
        let mut members: Vec<Dice> = (0..MEMBERS).map(Dice::new).collect();
        for _ in 0..50 {
            let mut parts: Vec<f64> = members.iter_mut().map(Dice::part).collect();
            parts.sort_by(f64::total_cmp);
            for (index, part) in parts.into_iter().enumerate() {
                assert!((part * MEMBERS as f64 - index as f64 - 0.5).abs() < 1e-9, "{index}: {part}");
            }
        }
    }

    #[test]
    fn two_draws_have_nothing_to_do_with_each_other() {
        let mut members: Vec<Dice> = (0..MEMBERS).map(Dice::new).collect();
        let mut sum = 0.0;
        for _ in 0..200 {
            let pair = |dice: &mut Dice| (dice.part() - 0.5) * (dice.part() - 0.5);
            sum += members.iter_mut().map(pair).sum::<f64>() * 12.0 / MEMBERS as f64;
        }
        // A correlation, averaged over 200 pairs of draws.
        assert!((sum / 200.0).abs() < 0.05, "{}", sum / 200.0);
    }

    #[test]
    fn normal_numbers_have_mean_zero_and_variance_one() {
        let mut sums = [0.0; 2];
        for member in 0..MEMBERS {
            let number = Dice::new(member).normal();
            sums[0] += number;
            sums[1] += number * number;
        }
        let [mean, square] = sums.map(|sum| sum / MEMBERS as f64);
        // The middles of the outermost parts leave a little out.
        assert!(mean.abs() < 1e-3 && (0.94..1.0).contains(&square), "{mean} {square}");
    }
}
