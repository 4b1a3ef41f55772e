//! Harvests one after the other, for the tests of what is decided at them.

use std::time::Duration;

use crate::policy::presets::testing::Situation;
use crate::progress::{Moment, Progress};
use crate::units::{ByteCount, Pages};

/// Left over by every round: far more than any threshold here, so that nothing switches over.
const LEFT_OVER: u64 = 500_000;

/// A migration seen at the starts of its rounds.
pub(super) struct Harvests(pub(super) Progress);

impl Harvests {
    /// At the start of round 0, at 100 MB/s.
    pub(super) fn new() -> Self {
        Self(Situation::new("start", Moment::RoundStart, 0, 1 << 20).at("100000000B/s").progress)
    }

    /// The harvest `millis` later, after `sent` bytes, that finds `dirty` pages which were not pending, and
    /// as many that were.
    pub(super) fn next(&mut self, millis: u64, dirty: u64, sent: u64) -> &Progress {
        let progress = &mut self.0;
        progress.now = progress.now.saturating_add(Duration::from_millis(millis));
        progress.round_started = progress.now;
        progress.round += 1;
        progress.sent = ByteCount(progress.sent.0 + sent);
        progress.left_over = Pages(LEFT_OVER);
        progress.pending = Pages(LEFT_OVER + dirty);
        progress.dirtied = Pages(2 * dirty);
        progress
    }

    /// A high period at the default threshold: twice as much is dirtied as is sent.
    pub(super) fn high(&mut self) -> &Progress {
        self.next(1_001, 2_000, 1_000 * 4_096)
    }

    /// A tick this much later.
    pub(super) fn tick(&mut self, millis: u64) -> &Progress {
        self.0.now = self.0.now.saturating_add(Duration::from_millis(millis));
        &self.0
    }
}
