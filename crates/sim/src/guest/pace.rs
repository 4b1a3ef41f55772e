//! How many writes a writer makes in a stretch of time: what it wants, and what it can do.
//!
//! Called by the writer for stretches in which nothing around it changes. Deterministic: this is the mean
//! number of writes; that the number itself is random is the business of the shapes.
//!
//! # What a throttle does
//!
//! A throttle that takes the share t makes each vCPU run R = 10 ms and sleep S = R·t/(1 − t) (QEMU's
//! `migration/cpu-throttle.c`), so a period lasts R/(1 − t). A writer that wants `r` writes a second has
//! owed `r·S` when it wakes, of which it catches up at most `r·K`, K being its `catch_up`. In the run it
//! can do R/c writes, c being its `write_cost`. In the long run a period sees
//!
//! ```text
//! min( r·(R + min(S, K)),  R/c )    writes, a mean rate of    min( r',  (1 − t)/c )
//! with r' = r·min(1, (1 − t)·(1 + K/R))
//! ```
//!
//! If the first is the smaller, all owed work is done in the run; else the writer is always behind and
//! writes all the time. With K = 50 ms nothing happens up to t = 5/6, at 90 % the rate falls to 60 %, at
//! 99 % to 6 %; measured on QEMU: 58 % and 6 %. Only the mean is modelled, not where in its period the
//! vCPU is: events closer together than a period (1 s at 99 %) see a steady trickle, not bursts.
//!
//! # What tracking does
//!
//! The first write to a page after a harvest costs a fault, f. With D(n) the expected number of distinct
//! pages among n writes since the harvest, n writes need n·c + f·D(n) of CPU time, and the writer has
//! a = (1 − t) times the time that passes. As D′ falls, a writer is first slower than it wants, then
//! faster while it catches up (at most K of missed work), then as fast as it wants. Each of the three
//! parts is solved exactly, so the result does not depend on how often anyone asks.

use std::time::Duration;

use super::shape::Shape;
use crate::config::WriterConfig;

/// How long a throttled vCPU runs at a time, in seconds: QEMU's `CPU_THROTTLE_TIMESLICE_NS`.
const RUN: f64 = 0.010;
/// Relative precision of the times and counts that are solved for.
const PRECISION: f64 = 1e-12;

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
        let mut at = 0_u64;
        let phases = config.phases.iter().map(|phase| {
            at = at.saturating_add(nanos(phase.length).max(1));
            (at, phase.rate)
        });
        Self {
            phases: phases.collect(),
            start: nanos(config.start),
            end: config.end.map_or(u64::MAX, nanos),
            rate: config.rate,
        }
    }

    /// The rate from `at` on, in nanoseconds, and when it changes next.
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
}

/// What is done to all writers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Held {
    pub(super) paused: bool,
    /// Share of CPU taken away.
    pub(super) throttle: f64,
    /// CPU seconds of the first write to a page, while tracking is on; else zero.
    pub(super) fault: f64,
}

/// Where a writer stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Done {
    /// Writes made since the beginning.
    pub(super) writes: f64,
    /// Missed work that it still means to catch up, in writes.
    pub(super) owed: f64,
}

/// A stretch of time in which a writer wants a fixed rate and has a fixed part of a vCPU.
struct Stretch<'a> {
    shape: &'a Shape,
    /// Writes a second.
    rate: f64,
    /// CPU seconds a second.
    cpu: f64,
    write_cost: f64,
    fault: f64,
    /// The most it may owe.
    most: f64,
}

/// Finds where `excess`, which rises from at most zero at `low`, crosses zero below `high`.
///
/// Regula falsi with the Illinois correction, halving when it stalls; always the same steps.
fn crossing(mut low: f64, mut high: f64, excess: impl Fn(f64) -> f64) -> f64 {
    let (mut below, mut above) = (excess(low), excess(high));
    if above <= 0.0 {
        return high;
    }
    let mut side = 0_i8;
    for step in 0..100 {
        if high - low <= PRECISION * high.abs() || below >= 0.0 {
            break;
        }
        let line = low + (high - low) * (below / (below - above));
        let at = if step % 8 == 7 || !(low < line && line < high) { f64::midpoint(low, high) } else { line };
        let value = excess(at);
        if value > 0.0 {
            (high, above) = (at, value);
            if side == 1 {
                below /= 2.0;
            }
            side = 1;
        } else {
            (low, below) = (at, value);
            if side == -1 {
                above /= 2.0;
            }
            side = -1;
        }
    }
    low
}

impl Stretch<'_> {
    /// CPU time of `count` writes, `since` of them after the harvest being made already.
    fn need(&self, since: f64, count: f64) -> f64 {
        let faults = if self.fault > 0.0 {
            self.fault * (self.shape.untouched(since) - self.shape.untouched(since + count))
        } else {
            0.0
        };
        count * self.write_cost + faults
    }

    /// CPU time that the next write takes on average.
    fn next_cost(&self, since: f64) -> f64 {
        let fault = if self.fault > 0.0 { self.fault * self.shape.fresh(since) } else { 0.0 };
        self.write_cost + fault
    }

    /// How many writes, at most `limit`, all the CPU time of `time` seconds allows.
    fn all_out(&self, since: f64, time: f64, limit: f64) -> f64 {
        let budget = self.cpu * time;
        if self.fault == 0.0 {
            return limit.min(budget / self.write_cost);
        }
        crossing(0.0, limit, |count| self.need(since, count) - budget)
    }

    /// Moves `done` on by `time` seconds; `since` is the number of writes at the last harvest.
    fn pass(&self, mut done: Done, since: f64, time: f64) -> Done {
        let most = self.most.max(done.owed);
        let mut left = time;
        if self.cpu <= 0.0 {
            done.owed = (done.owed + self.rate * left).min(most);
            return done;
        }
        // Slower than it wants.
        if self.rate * self.next_cost(done.writes - since) > self.cpu {
            let behind = self.behind(done.writes - since, left);
            done.writes += behind.0;
            done.owed = (done.owed + self.rate * behind.1 - behind.0).clamp(0.0, most);
            left -= behind.1;
        }
        if left <= 0.0 {
            return done;
        }
        // Catching up.
        if done.owed > 0.0 {
            let (count, spent) = self.catching(done.writes - since, done.owed, left);
            done.writes += count;
            done.owed = (done.owed + self.rate * spent - count).max(0.0);
            left -= spent;
            if left <= 0.0 {
                return done;
            }
            done.owed = 0.0;
        }
        done.writes += self.rate * left;
        done
    }

    /// Writes and seconds until it could keep up again, at most `time`.
    fn behind(&self, since: f64, time: f64) -> (f64, f64) {
        // Slower than it wants, so no more than it wants.
        let all = self.all_out(since, time, self.rate * time);
        // It keeps up once the next write costs no more than this.
        let affordable = self.cpu / self.rate;
        if self.next_cost(since + all) >= affordable {
            return (all, time);
        }
        let count = crossing(0.0, all, |count| affordable - self.next_cost(since + count));
        (count, (self.need(since, count) / self.cpu).min(time))
    }

    /// Writes and seconds, at most `time`, until nothing is owed any more; it can keep up throughout.
    fn catching(&self, since: f64, owed: f64, time: f64) -> (f64, f64) {
        if self.next_cost(since) <= 0.0 {
            return (owed, 0.0);
        }
        let seconds = |count: f64| self.need(since, count) / self.cpu;
        let ahead = |count: f64| count - self.rate * seconds(count) - owed;
        // More than this is neither owed nor wanted before the time is over.
        let wanted = owed + self.rate * time;
        let fits = seconds(wanted) <= time;
        let most = if fits { wanted } else { self.all_out(since, time, wanted) };
        if !fits && ahead(most) <= 0.0 {
            return (most, time);
        }
        let count = crossing(0.0, most, ahead);
        (count, seconds(count).min(time))
    }
}

impl Ability {
    /// Where the writer stands `time` seconds after `done`, if it wants `rate` all the time.
    ///
    /// `harvested` is the number of writes at the last harvest; it matters while faults cost something.
    pub(super) fn pass(
        &self,
        shape: &Shape,
        done: Done,
        harvested: f64,
        rate: f64,
        held: Held,
        time: f64,
    ) -> Done {
        if held.paused || time <= 0.0 {
            return done;
        }
        let runs = 1.0 - held.throttle;
        let rate = rate * (runs * (1.0 + self.catch_up / RUN)).min(1.0);
        let cpu = runs * self.cpu;
        // The usual case: nothing holds it up.
        if done.owed == 0.0 && rate * (self.write_cost + held.fault) <= cpu {
            return Done { writes: done.writes + rate * time, owed: 0.0 };
        }
        let stretch = Stretch {
            shape,
            rate,
            cpu,
            write_cost: self.write_cost,
            fault: held.fault,
            most: rate * self.catch_up,
        };
        stretch.pass(done, harvested, time)
    }
}
