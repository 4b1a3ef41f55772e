//! When the steps of a switchover happened, as the source saw them.

use std::time::Duration;

use crate::report::Ledger;
use crate::units::Timestamp;
use crate::units::duration::whole_nanos;

/// Times of the switchover's steps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stopwatch {
    pub(super) started: Timestamp,
    pub(super) pause_asked: Timestamp,
    /// When the guest stood still, if that is known better: from here on it misses time.
    pub(super) stopped: Timestamp,
    pub(super) paused: Timestamp,
    /// When a guest that was paused early was to be handed over.
    pub(super) held_until: Timestamp,
    pub(super) harvested: Timestamp,
    pub(super) pages_sent: Timestamp,
    pub(super) saved: Timestamp,
    pub(super) resumed_here: Option<Timestamp>,
    ready: Timestamp,
    restoring: Duration,
    go: Timestamp,
    running: Timestamp,
    resuming: Duration,
}

impl Stopwatch {
    pub(super) fn ready(&mut self, now: Timestamp, took: Duration) {
        self.ready = now;
        self.restoring = took;
    }

    /// *Go* was sent. A *go* that is sent again counts from the last time.
    pub(super) fn go(&mut self, now: Timestamp) {
        self.go = now;
    }

    pub(super) fn running(&mut self, now: Timestamp, took: Duration) {
        self.running = now;
        self.resuming = took;
    }

    /// The ledger of a migration that was handed over.
    pub(super) fn ledger(&self) -> Ledger {
        // In whole nanoseconds until the end: it is done by the million.
        let since = |to: Timestamp, from: Timestamp| to.as_nanos().saturating_sub(from.as_nanos());
        let at_most = |time: Duration, most: u64| whole_nanos(time).unwrap_or(most).min(most);
        let waiting = since(self.ready, self.saved);
        let restore = at_most(self.restoring, waiting);
        let answering = since(self.running, self.go);
        let resume = at_most(self.resuming, answering);
        // There and back: half of it is the way of *go*, and the guest runs before *running* arrives. Whoever is to hear *running* may
        // come to it late, because the guest that runs takes the processor; state and *ready* went there and back while it stood.
        let way = (answering - resume).min(waiting - restore) / 2;
        let last_harvest = self.paused.max(self.held_until);
        let time = Duration::from_nanos;
        Ledger {
            pause: time(since(self.paused, self.pause_asked.max(self.stopped))),
            held: time(since(last_harvest, self.paused)),
            harvest: time(since(self.harvested, last_harvest)),
            last_pages: time(since(self.pages_sent, self.harvested)),
            save: time(since(self.saved, self.pages_sent)),
            transfer: time(waiting - restore),
            restore: time(restore),
            commit: time(since(self.go, self.ready).saturating_add(way)),
            resume: time(resume),
            first_pages: Duration::ZERO,
        }
    }

    /// How long a guest that stays here was paused, until `end` if it still is.
    pub(super) fn paused_in_vain(&self, end: Timestamp) -> Duration {
        if self.pause_asked == Timestamp::ZERO {
            return Duration::ZERO;
        }
        self.resumed_here.unwrap_or(end).since(self.pause_asked)
    }
}
