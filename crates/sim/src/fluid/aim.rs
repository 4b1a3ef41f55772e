//! Which tick a scan aims at, and what is pending then.
//!
//! How ticks lie to the moment at which few enough pages are pending is chance in the mean, and counted in an ensemble.

use crate::link::Nanos;

/// Ticks further away than this lie anywhere.
pub(super) const FAR: f64 = 64.0;

/// What is known of how ticks lie to what is pending at them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Ticks {
    /// Nothing: the first tick at which no more than so many pages are pending finds anything from so many
    /// to as many less as leave in a tick, all equally likely.
    #[default]
    Anywhere,
    /// What is pending now is known to so many pages more or fewer.
    Known(f64),
    /// That tick finds from so many to so many pages.
    Finds([f64; 2]),
    /// They are counted from now on, the first of them after such a part of one, and n of them are late by so many
    /// times the root of n; far away, that tick finds less by so large a part of what leaves in a tick.
    Counted { first: f64, luck: f64, late: f64 },
}

/// A tick at which the policy's answer may have changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Crossing {
    /// Pages from which on it may have.
    pub(super) threshold: f64,
    /// From how many to how many are pending, all equally likely.
    pub(super) pending: [f64; 2],
    /// Pages that leave in a tick.
    pub(super) per_tick: f64,
    pub(super) tick: Nanos,
}

/// A bound on a scan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    /// Not beyond this time.
    pub(super) at: Nanos,
    /// Not much beyond where so few pages are pending.
    pub(super) aim: Option<Aim>,
    /// Where between woken and full the queue stands then, if that is known.
    pub(super) level: Option<f64>,
}

impl Bound {
    pub(super) const NONE: Self = Self { at: f64::INFINITY, aim: None, level: None };
}

/// Ends a scan with the tick after fewer pages are pending than a threshold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aim {
    pub(super) threshold: f64,
    /// Pages pending when the scan begins.
    pub(super) pending: f64,
    pub(super) tick: Nanos,
    /// The part of the first tick that is left.
    pub(super) part: f64,
    pub(super) ticks: Ticks,
}

impl Aim {
    /// What is pending at that tick, from how many to how many pages, if `per_tick` leave in a tick.
    pub(super) fn finds(&self, per_tick: f64) -> [f64; 2] {
        let anywhere = [self.threshold - per_tick, self.threshold];
        match self.ticks {
            Ticks::Finds(pending) => pending,
            Ticks::Counted { first, luck, late } => {
                let ticks = (self.pending - self.threshold) / per_tick;
                let late = late * ticks.sqrt();
                let behind_the_first = ticks - first - late;
                let after = if behind_the_first < FAR {
                    self.pending - (first + late + behind_the_first.ceil().max(0.0)) * per_tick
                } else {
                    self.threshold - luck * per_tick
                };
                [after, after]
            }
            // Rounds that long are told apart by chance of their own.
            Ticks::Known(half) if half < per_tick / 3.0 => {
                let ticks = |pending: f64| ((pending - self.threshold) / per_tick).ceil().max(1.0);
                let [first, last] = [ticks(self.pending - half), ticks(self.pending + half)];
                let after = self.pending - last * per_tick;
                if first < last { anywhere } else { [after - half, after + half] }
            }
            _ if self.pending - self.threshold < per_tick / 2.0 => {
                // It was above the threshold a moment ago: the next tick.
                let after = self.pending - self.part * per_tick;
                [after, after]
            }
            _ => anywhere,
        }
    }
}
