//! When the steps of a switchover happened, as the source saw them.

use std::time::Duration;

use crate::report::Ledger;
use crate::units::Timestamp;

/// Times of the switchover's steps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stopwatch {
    pub(super) started: Timestamp,
    pub(super) pause_asked: Timestamp,
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
        let waiting = self.ready.since(self.saved);
        let restore = self.restoring.min(waiting);
        let answering = self.running.since(self.go);
        let resume = self.resuming.min(answering);
        // There and back: half of it is the way of *go*, and the guest runs before *running* arrives.
        let way = answering.saturating_sub(resume) / 2;
        let last_harvest = self.paused.max(self.held_until);
        Ledger {
            pause: self.paused.since(self.pause_asked),
            held: last_harvest.since(self.paused),
            harvest: self.harvested.since(last_harvest),
            last_pages: self.pages_sent.since(self.harvested),
            save: self.saved.since(self.pages_sent),
            transfer: waiting.saturating_sub(restore),
            restore,
            commit: self.go.since(self.ready) + way,
            resume,
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
