//! How fast a vCPU may write: it is given a budget of writes, and the next one when that should have been used up.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// How fast each vCPU writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pace {
    /// As fast as it can.
    #[default]
    Free,
    /// So many writes a second, in portions of a millisecond or of one write; less if it cannot keep up. What it did
    /// not write while it was stopped or slowed it does not write later.
    PerSecond(NonZeroU64),
}

/// Writes that are allowed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    /// When.
    pub(super) at: Instant,
    /// How many.
    pub(super) writes: u32,
}

/// Gives budgets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pacer {
    pace: Pace,
    /// When the budget that was given last should be used up.
    due: Instant,
}

/// Portions a second.
const PORTIONS: u64 = 1000;

/// How much later than due a budget may be asked for and still count from when it was due.
const LATE: Duration = Duration::from_millis(10);

impl Pacer {
    pub(super) fn new(pace: Pace, now: Instant) -> Self {
        Self { pace, due: now }
    }

    /// For so long the vCPU could not run: what it did not write then is not due.
    pub(super) fn stood(&mut self, time: Duration) {
        self.due += time;
    }

    /// The next budget, asked for at `now`.
    pub(super) fn next(&mut self, now: Instant) -> Budget {
        let Pace::PerSecond(rate) = self.pace else { return Budget { at: now, writes: u32::MAX } };
        let writes = u32::try_from((rate.get() / PORTIONS).max(1)).unwrap_or(u32::MAX);
        // What is long overdue was lost to a slow host.
        let at = if now > self.due + LATE { now } else { self.due };
        self.due = at + Duration::from_secs_f64(f64::from(writes) / rate.get() as f64);
        Budget { at, writes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_come_at_the_pace_and_are_not_made_up_for() {
        let begin = Instant::now();
        let mut pacer = Pacer::new(Pace::PerSecond(NonZeroU64::new(50_000).unwrap()), begin);
        let ms = Duration::from_millis;
        assert_eq!(pacer.next(begin), Budget { at: begin, writes: 50 });
        assert_eq!(pacer.next(begin), Budget { at: begin + ms(1), writes: 50 });
        // A little late: the rate holds.
        assert_eq!(pacer.next(begin + ms(5)), Budget { at: begin + ms(2), writes: 50 });
        // After a nap: it goes on from then.
        pacer.stood(ms(4));
        assert_eq!(pacer.next(begin + ms(9)), Budget { at: begin + ms(7), writes: 50 });
        // On a host that was busy with something else: from now.
        assert_eq!(pacer.next(begin + ms(100)), Budget { at: begin + ms(100), writes: 50 });
        assert_eq!(pacer.next(begin + ms(100)), Budget { at: begin + ms(101), writes: 50 });
    }

    #[test]
    fn slower_than_a_portion_is_one_write_at_a_time() {
        let begin = Instant::now();
        let mut pacer = Pacer::new(Pace::PerSecond(NonZeroU64::new(4).unwrap()), begin);
        assert_eq!(pacer.next(begin), Budget { at: begin, writes: 1 });
        assert_eq!(pacer.next(begin), Budget { at: begin + Duration::from_millis(250), writes: 1 });
    }
}
