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
