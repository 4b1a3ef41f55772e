//! Auto-converge's periodic sync: a timer that harvests when nothing else has (Q4).
//!
//! ```text
//! every 5 s from the start: nothing harvested since the last time, and round > 0: harvest
//! ```
//!
//! * It counts harvests and measures no age: up to 10 s can pass between two of them.
//! * Its own harvest counts as seen, so that the next follows after 5 s.
//! * Without it a long round ends no period, and the guest is slowed once in its length.
//!
//! Its memory changes at the first question and when its time has come, which it adds to the verdict's
//! [`Until`](crate::policy::Until).

use std::time::Duration;

use crate::policy::{Decision, Quantity, Reason, Relation, Verdict};
use crate::progress::{Moment, Progress};
use crate::units::Timestamp;

/// How often it looks (`CPU_THROTTLE_DIRTY_SYNC_TIMESLICE_MS`).
const EVERY: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SyncTimer(Option<Armed>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Armed {
    next: Timestamp,
    /// The round whose harvest was the last that it knows of.
    seen: u32,
}

impl SyncTimer {
    /// The verdict with the timer's harvest, if it is time for one.
    pub(super) fn add(&mut self, moment: Moment, progress: &Progress, mut verdict: Verdict) -> Verdict {
        let (armed, idle) = match self.0 {
            None => (Armed { next: progress.now.saturating_add(EVERY), seen: progress.round }, false),
            Some(armed) if progress.now < armed.next => (armed, false),
            Some(armed) => armed.look(moment, progress),
        };
        self.0 = Some(armed);
        verdict.until.at = verdict.until.at.min(armed.next);
        // At a round's end a harvest follows unasked.
        if idle && moment == Moment::Tick && verdict.decision == Decision::Continue {
            verdict.decision = Decision::Harvest;
            verdict.reason = reason(progress);
        }
        verdict
    }
}

impl Armed {
    /// The timer after it looked, and whether nothing was harvested since it looked last.
    fn look(self, moment: Moment, progress: &Progress) -> (Self, bool) {
        // The first pass copies everything anyway.
        let idle = moment != Moment::RoundStart && progress.round > 0 && progress.round == self.seen;
        // The harvest that follows is its own.
        let seen = progress.round.saturating_add(u32::from(idle));
        (Self { next: self.after(progress.now), seen }, idle)
    }

    /// The first beat after `now`: it keeps time, however late it was asked.
    fn after(self, now: Timestamp) -> Timestamp {
        let late = now.since(self.next).as_nanos() / EVERY.as_nanos();
        let beats = u32::try_from(late).unwrap_or(u32::MAX).saturating_add(1);
        self.next.saturating_add(EVERY.saturating_mul(beats))
    }
}

fn reason(progress: &Progress) -> Reason {
    let harvests = ("harvests-since-last-beat", Quantity::Count(0));
    Reason::new(harvests, Relation::Below, ("wanted", Quantity::Count(1)))
        .with("beat", Quantity::Duration(EVERY))
        .with("round-age", Quantity::Duration(progress.now.since(progress.round_started)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Harvests;
    use super::super::{AutoConverge, Qemu, QemuDefault};
    use super::*;

    /// When ticks of 51 ms from the start of round `round` harvest, in milliseconds: every tick is asked, or
    /// only those at which the last answer does not hold. A harvest starts the next round.
    fn harvests(mut policy: Qemu, round: u32, seconds: u64, skipping: bool) -> Vec<u64> {
        let mut at = Harvests::new();
        at.0.round = round;
        // Far more than any threshold: only the timer harvests.
        let mut standing = policy.decide(Moment::RoundStart, &at.0);
        let mut times = Vec::new();
        for _ in 0..seconds * 1_000 / 51 {
            let progress = at.tick(51).clone();
            if skipping && !standing.until.reached(&progress) {
                continue;
            }
            standing = policy.decide(Moment::Tick, &progress);
            if standing.decision == Decision::Harvest {
                times.push(progress.elapsed().as_millis() as u64);
                standing = policy.decide(Moment::RoundStart, at.next(0, 0, 0));
            }
        }
        times
    }

    fn converging() -> Qemu {
        Qemu::converging(QemuDefault::default(), AutoConverge::default())
    }

    #[test]
    fn a_long_round_is_harvested_every_5_seconds() {
        assert_eq!(harvests(converging(), 1, 21, false), [5_049, 10_047, 15_045, 20_043]);
    }

    #[test]
    fn the_bulk_round_is_not_harvested() {
        assert!(harvests(converging(), 0, 60, false).is_empty());
    }

    #[test]
    fn without_the_timer_a_long_round_is_not_harvested() {
        let mut older = AutoConverge::default();
        older.periodic_sync = false;
        assert!(harvests(Qemu::converging(QemuDefault::default(), older), 1, 60, false).is_empty());
        assert!(harvests(Qemu::new(QemuDefault::default()), 1, 60, false).is_empty());
    }

    #[test]
    fn skipping_to_until_harvests_at_the_same_ticks() {
        let every = harvests(converging(), 1, 300, false);
        assert_eq!(harvests(converging(), 1, 300, true), every);
        assert_eq!(every.len(), 59);
    }

    #[test]
    fn a_harvest_since_the_last_beat_puts_the_timer_off_to_the_next() {
        let (mut policy, mut at) = (converging(), Harvests::new());
        policy.decide(Moment::RoundStart, &at.0);
        policy.decide(Moment::RoundStart, at.next(4_900, 0, 0));
        // 5.0 s and 10.0 s: one harvest since, then none.
        assert_eq!(policy.decide(Moment::Tick, at.tick(100)).decision, Decision::Continue);
        assert_eq!(policy.decide(Moment::Tick, at.tick(4_999)).decision, Decision::Continue);
        let late = policy.decide(Moment::Tick, at.tick(1));
        assert_eq!(late.decision, Decision::Harvest);
        assert_eq!(
            late.reason.to_string(),
            "harvests-since-last-beat 0 < wanted 1 (by 100 %; beat 5.00 s, round-age 5.10 s)"
        );
    }

    #[test]
    fn the_beat_is_kept_however_late_it_is_answered() {
        let armed = Armed { next: Timestamp::from_nanos(5_000_000_000), seen: 1 };
        let after = |millis: u64| armed.after(Timestamp::from_nanos(millis * 1_000_000)).as_duration();
        assert_eq!(after(5_000), Duration::from_secs(10));
        assert_eq!(after(9_999), Duration::from_secs(10));
        assert_eq!(after(10_000), Duration::from_secs(15));
        assert_eq!(armed.after(Timestamp::MAX), Timestamp::MAX);
    }
}
