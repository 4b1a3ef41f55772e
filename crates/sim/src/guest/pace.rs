//! How many writes a writer makes in a stretch of time: what it wants, and what it can do.
//!
//! Called by the writer for stretches in which nothing around it changes. Deterministic: this is the mean
//! number of writes; that the number itself is random is the business of the shapes.
//!
//! A writer that is held up owes the work that it missed, at most `catch_up` of it, and catches it up as
//! fast as its CPU time allows. What holds it up:
//!
//! - too little CPU time for what it wants, and the faults of first writes while tracking is on: `stretch`;
//! - a throttle that makes its vCPU sleep by the clock: `cycle`;
//! - a limit on its dirtying, paid in sleep whenever its ring of dirty pages is full: `ring`;
//! - a pause, in which its clock stands still too: it owes nothing for it.
//!
//! Each is solved in closed form from the last change on, so the result does not depend on how often anyone
//! asks, nor its cost on how often a vCPU sleeps.

use std::time::Duration;

use super::cycle::{Cycle, Pulse};
use super::ring::{Ring, Toll};
use super::shape::Shape;
use super::stretch::Stretch;
use crate::config::{Pattern, WriterConfig};

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// When the writer wants how much.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    start: u64,
    end: u64,
    rate: f64,
    /// Where in the cycle each phase ends, and its rate.
    phases: Vec<(u64, f64)>,
}

impl Wish {
    pub(super) fn new(config: &WriterConfig) -> Self {
        let mut wish = Self { start: 0, end: u64::MAX, rate: 0.0, phases: Vec::new() };
        wish.become_new(config);
        wish
    }

    /// Makes it what [`Wish::new`] gives, in the memory that it has.
    pub(super) fn become_new(&mut self, config: &WriterConfig) {
        // A measured program has its own.
        let phases = if config.pattern == Pattern::Measured { &[][..] } else { &config.phases };
        let mut at = 0_u64;
        self.phases.clear();
        self.phases.extend(phases.iter().map(|phase| {
            at = at.saturating_add(nanos(phase.length).max(1));
            (at, phase.rate)
        }));
        self.start = nanos(config.start);
        self.end = config.end.map_or(u64::MAX, nanos);
        self.rate = config.wanted_rate();
    }

    /// The rate from `at` on, in nanoseconds, and when it changes next.
    #[inline]
    pub(super) fn at(&self, at: u64) -> (f64, u64) {
        if at < self.start {
            return (0.0, self.start);
        }
        if at >= self.end {
            return (0.0, u64::MAX);
        }
        let Some(&(cycle, _)) = self.phases.last() else {
            return (self.rate, self.end);
        };
        let offset = (at - self.start) % cycle;
        let (until, rate) = self.phases[self.phases.partition_point(|&(end, _)| end <= offset)];
        (rate, at.saturating_add(until - offset).min(self.end))
    }

    /// Nanoseconds of a whole cycle of phases and the writes wanted in it, and when the cycles end; none
    /// without phases.
    pub(super) fn cycle(&self) -> Option<(u64, f64, u64)> {
        let &(length, _) = self.phases.last()?;
        let mut begin = 0;
        let wanted =
            self.phases.iter().map(|&(end, rate)| rate * (end - std::mem::replace(&mut begin, end)) as f64);
        Some((length, wanted.sum::<f64>() * 1e-9, self.end))
    }

    /// The highest rate that is ever wanted.
    pub(super) fn peak(&self) -> f64 {
        let phases = self.phases.iter().map(|&(_, rate)| rate);
        if self.phases.is_empty() { self.rate } else { phases.fold(0.0, f64::max) }
    }
}

/// What the writer can do.
#[derive(Clone, Debug)]
pub(super) struct Ability {
    /// CPU seconds of a write.
    pub(super) write_cost: f64,
    /// Seconds of missed work that are caught up.
    pub(super) catch_up: f64,
    /// The part of a vCPU that is the writer's when nothing is throttled.
    pub(super) cpu: f64,
    /// Whether the first write to a page after a harvest costs it a fault.
    pub(super) pays_faults: bool,
}

/// What is done to all writers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Held {
    pub(super) paused: bool,
    /// Sleeps by the clock, of all vCPUs at once.
    pub(super) pulse: Pulse,
    /// Whether vCPUs pay for full rings.
    pub(super) limited: bool,
    /// CPU seconds of the first write to a page, while tracking is on; else zero.
    pub(super) fault: f64,
}

impl Held {
    /// Whether a writer is held up, now or soon, whatever it does.
    #[inline]
    pub(super) fn hinders(&self) -> bool {
        self.paused || self.limited || !self.pulse.is_off()
    }
}

/// Where a writer stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Done {
    /// Writes made since the beginning.
    pub(super) writes: f64,
    /// Missed work that it still means to catch up, in writes.
    pub(super) owed: f64,
    /// Its vCPU's ring of dirty pages; it stands still where nothing is limited.
    pub(super) ring: Ring,
}

/// A time in which a writer's surroundings stay as they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span<'a> {
    /// Writes a second that it wants.
    pub(super) rate: f64,
    /// Writes at the last harvest; matters while faults cost something.
    pub(super) harvested: f64,
    pub(super) held: &'a Held,
    /// The sleeps by the clock, and how far into their first period the span begins, in seconds.
    pub(super) cycle: Option<(Cycle, f64)>,
    pub(super) toll: Toll,
    /// Seconds.
    pub(super) time: f64,
}

impl Ability {
    /// What a fault that costs so much costs this writer.
    #[inline]
    fn fault(&self, fault: f64) -> f64 {
        if self.pays_faults { fault } else { 0.0 }
    }

    /// Whether it keeps up with `rate` for sure: it has nothing to make up for, and CPU time for a `fault` at
    /// each write.
    #[inline]
    pub(super) fn is_free(&self, done: &Done, rate: f64, fault: f64) -> bool {
        done.owed == 0.0 && done.ring.nap == 0.0 && rate * (self.write_cost + self.fault(fault)) <= self.cpu
    }

    /// Where the writer stands after `span`.
    #[inline]
    pub(super) fn pass(&self, shape: &Shape, done: Done, span: Span<'_>) -> Done {
        let Span { rate, held, time, .. } = span;
        if held.paused || time <= 0.0 {
            return done;
        }
        // The usual case: nothing holds it up.
        if span.cycle.is_none() && !held.limited && self.is_free(&done, rate, held.fault) {
            return Done { writes: done.writes + rate * time, ..done };
        }
        self.held_up(shape, done, span)
    }

    fn held_up(&self, shape: &Shape, done: Done, span: Span<'_>) -> Done {
        let Span { rate, harvested, held, cycle, toll, time } = span;
        let stretch = Stretch {
            shape,
            rate,
            cpu: self.cpu,
            write_cost: self.write_cost,
            fault: self.fault(held.fault),
            most: rate * self.catch_up,
        };
        if let Some((cycle, position)) = cycle {
            stretch.pulsed(done, harvested, cycle, position, time)
        } else if held.limited || done.ring.nap > 0.0 {
            stretch.tolled(done, harvested, toll, time)
        } else {
            stretch.pass(done, harvested, time)
        }
    }
}
