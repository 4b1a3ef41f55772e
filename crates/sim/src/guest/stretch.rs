//! The pace of a writer while it wants a fixed rate and runs with a fixed part of a vCPU.
//!
//! Called by `pace` for a whole stretch, and by `cycle` and `ring` for the parts of one between the sleeps
//! that a throttle makes.
//!
//! The first write to a page after a harvest costs a fault, f. With D(n) the expected number of distinct
//! pages among n writes since the harvest, n writes need n·c + f·D(n) of CPU time, c being the cost of a
//! write, and the writer has a times the time that passes. As D′ falls, a writer is first slower than it
//! wants, then faster while it catches up (at most K of missed work), then as fast as it wants. Each of the
//! three parts is solved exactly, so the result does not depend on how often anyone asks.

use super::pace::Done;
use super::shape::Shape;

/// Relative precision of the times and counts that are solved for.
const PRECISION: f64 = 1e-12;
/// Steps after which a crossing is found by halving only: a jump stalls all other ways.
const SECANTS: i32 = 40;

/// A stretch of time in which a writer wants a fixed rate and has a fixed part of a vCPU.
pub(super) struct Stretch<'a> {
    pub(super) shape: &'a Shape,
    /// Writes a second.
    pub(super) rate: f64,
    /// CPU seconds a second.
    pub(super) cpu: f64,
    pub(super) write_cost: f64,
    pub(super) fault: f64,
    /// The most it may owe.
    pub(super) most: f64,
}

/// Finds where `excess`, which rises from at most zero at `low`, crosses zero below `high`.
///
/// Regula falsi with the Illinois correction, halving when it stalls; always the same steps.
pub(super) fn crossing(mut low: f64, mut high: f64, excess: impl Fn(f64) -> f64) -> f64 {
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
        let halves = step % 8 == 7 || step >= SECANTS || !(low < line && line < high);
        let at = if halves { f64::midpoint(low, high) } else { line };
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
    /// Whether it has nothing to write with.
    pub(super) fn is_starved(&self) -> bool {
        self.cpu <= 0.0 && self.write_cost + self.fault > 0.0
    }

    /// Moves `done` on by `time` seconds in which it does nothing.
    pub(super) fn idle(&self, mut done: Done, time: f64) -> Done {
        done.owed = (done.owed + self.rate * time).min(self.most.max(done.owed));
        done
    }

    /// CPU time of `count` writes, `since` of them after the harvest being made already.
    pub(super) fn need(&self, since: f64, count: f64) -> f64 {
        let faults = if self.fault > 0.0 {
            self.fault * (self.shape.untouched(since) - self.shape.untouched(since + count))
        } else {
            0.0
        };
        count * self.write_cost + faults
    }

    /// CPU time that the next write takes on average.
    pub(super) fn next_cost(&self, since: f64) -> f64 {
        let fault = if self.fault > 0.0 { self.fault * self.shape.fresh(since) } else { 0.0 };
        self.write_cost + fault
    }

    /// How many writes, at most `limit`, all the CPU time of `time` seconds allows.
    pub(super) fn all_out(&self, since: f64, time: f64, limit: f64) -> f64 {
        let budget = self.cpu * time;
        if self.fault == 0.0 {
            return limit.min(budget / self.write_cost);
        }
        crossing(0.0, limit, |count| self.need(since, count) - budget)
    }

    /// Moves `done` on by `time` seconds; `since` is the number of writes at the last harvest.
    pub(super) fn pass(&self, mut done: Done, since: f64, time: f64) -> Done {
        let most = self.most.max(done.owed);
        let mut left = time;
        if self.is_starved() {
            return self.idle(done, time);
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
    pub(super) fn behind(&self, since: f64, time: f64) -> (f64, f64) {
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
