//! Stall detection: has a migration stopped getting smaller, and is this a good moment to end it? (K1, K2)
//!
//! Fed by [`super::stall`] with the remainder at the start of each round; knows no order and no limit.
//!
//! ```text
//! round started with r remaining, at now:
//!     recent = remainders of the last `window` that were lower than all before them (a falling list);
//!              those that are older go: outside = the least of them all
//!     r is put on the list if r <= outside and r < the last of the list
//!     not stalled: stalled if r >= outside x (1 - margin)
//!                  then best = least of outside and recent; patience = window; relax at now + patience
//!     stalled:     history += r
//!                  now >= relax at: best = least of history, taken out of it;
//!                                   patience *= factor; relax at now + patience
//! a good moment: r <= best x (1 + margin)
//! ```
//!
//! * Nothing is older than the window before it has passed once: until then nothing is a stall.
//! * A stall lasts: nothing ends it but the migration's end.
//! * Patience that has gone relaxes the aim at every round.
//! * The remainder of the round that shows the stall does not enter the history.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use crate::units::{ByteCount, Share, Timestamp};

/// Finds stalls, and good moments in them.
#[derive(Clone, Debug)]
pub(super) struct Detector {
    pub(super) window: Duration,
    pub(super) margin: Share,
    pub(super) patience_factor: f64,
    recent: VecDeque<(Timestamp, ByteCount)>,
    outside: Option<ByteCount>,
    stall: Option<Stall>,
}

/// What is known of a stall.
#[derive(Clone, Debug)]
struct Stall {
    best: ByteCount,
    patience: Duration,
    relax_at: Timestamp,
    history: BinaryHeap<Reverse<u64>>,
}

impl Detector {
    pub(super) fn new(window: Duration, margin: Share, patience_factor: f64) -> Self {
        Self { window, margin, patience_factor, recent: VecDeque::new(), outside: None, stall: None }
    }

    /// The remainder that is aimed at; none before a stall.
    fn best(&self) -> Option<ByteCount> {
        self.stall.as_ref().map(|stall| stall.best)
    }

    /// A round started with `remaining`.
    pub(super) fn round(&mut self, now: Timestamp, remaining: ByteCount) {
        self.remember(now, remaining);
        match &mut self.stall {
            Some(stall) => stall.relax(now, remaining, self.patience_factor),
            None => self.stall = self.detect(now, remaining),
        }
    }

    /// The most that is a good moment: what is aimed at, and the margin. None before a stall.
    pub(super) fn good(&self) -> Option<ByteCount> {
        let most = self.best()?.as_f64() * (1.0 + self.margin.as_f64());
        Some(ByteCount(most as u64))
    }

    fn remember(&mut self, now: Timestamp, remaining: ByteCount) {
        while let Some(&(since, old)) = self.recent.front()
            && now.since(since) >= self.window
        {
            self.recent.pop_front();
            self.outside = Some(self.outside.map_or(old, |outside| outside.min(old)));
        }
        let above = self.outside.is_some_and(|outside| remaining > outside);
        let no_low = self.recent.back().is_some_and(|&(_, last)| remaining >= last);
        if !above && !no_low {
            self.recent.push_back((now, remaining));
        }
    }

    fn detect(&self, now: Timestamp, remaining: ByteCount) -> Option<Stall> {
        let outside = self.outside?;
        let threshold = outside.as_f64() * (1.0 - self.margin.as_f64());
        if remaining.as_f64() < threshold.floor() {
            return None;
        }
        let recent = self.recent.iter().map(|&(_, remaining)| remaining);
        Some(Stall {
            best: recent.fold(outside, ByteCount::min),
            patience: self.window,
            relax_at: now.saturating_add(self.window),
            history: BinaryHeap::new(),
        })
    }
}

impl Stall {
    fn relax(&mut self, now: Timestamp, remaining: ByteCount, factor: f64) {
        self.history.push(Reverse(remaining.0));
        if now < self.relax_at {
            return;
        }
        if let Some(Reverse(least)) = self.history.pop() {
            self.best = ByteCount(least);
            // Too long is for ever.
            let patience = self.patience.as_secs_f64() * factor;
            self.patience = Duration::try_from_secs_f64(patience).unwrap_or(Duration::MAX);
            self.relax_at = now.saturating_add(self.patience);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARGIN: Share = Share::percent(4);

    fn detector() -> Detector {
        Detector::new(Duration::from_secs(40), MARGIN, 0.5)
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn fed(rounds: &[(u64, u64)]) -> Detector {
        let mut detector = detector();
        for &(seconds, remaining) in rounds {
            detector.round(at(seconds), ByteCount(remaining));
        }
        detector
    }

    #[test]
    fn nothing_is_a_stall_before_a_low_is_older_than_the_window() {
        assert_eq!(fed(&[(0, 1_000), (10, 1_000), (39, 1_000)]).best(), None);
        assert_eq!(fed(&[(0, 1_000), (10, 1_000), (40, 1_000)]).best(), Some(ByteCount(1_000)));
    }

    #[test]
    fn a_remainder_four_per_cent_below_the_old_low_is_no_stall() {
        assert_eq!(fed(&[(0, 1_000), (40, 959)]).best(), None);
        assert_eq!(fed(&[(0, 1_000), (40, 960)]).best(), Some(ByteCount(960)));
    }

    #[test]
    fn a_stall_aims_at_the_least_remainder_of_old_and_recent_ones() {
        let stalled = fed(&[(0, 1_000), (20, 700), (30, 900), (40, 1_200)]);
        assert_eq!(stalled.best(), Some(ByteCount(700)));
    }

    #[test]
    fn a_moment_is_good_within_the_margin_of_the_aim() {
        let stalled = fed(&[(0, 1_000), (40, 1_000)]);
        assert_eq!(stalled.good(), Some(ByteCount(1_040)));
        assert_eq!(detector().good(), None);
    }

    #[test]
    fn patience_halves_each_time_that_the_aim_is_relaxed() {
        // Stalled at 40 s with an aim of 500; what follows never comes near it.
        let mut stalled = fed(&[(0, 1_000), (10, 500), (40, 1_000)]);
        let mut aims = Vec::new();
        for second in 41..=130 {
            stalled.round(at(second), ByteCount(10_000 - second));
            aims.push((second, stalled.best().expect("stalled").0));
        }
        aims.dedup_by_key(|&mut (_, best)| best);
        // After 40 s, 20 s, 10 s, 5 s, ... the least remainder not aimed at yet.
        let relaxed: Vec<u64> = aims.iter().map(|&(second, _)| second).collect();
        assert_eq!(relaxed[..5], [41, 80, 100, 110, 115]);
        assert_eq!(aims[1].1, 10_000 - 80);
    }

    #[test]
    fn relaxing_takes_the_least_remainder_and_then_the_next() {
        let mut stalled = fed(&[(0, 1_000), (10, 500), (40, 1_000), (50, 900), (60, 800), (70, 950)]);
        stalled.round(at(80), ByteCount(990));
        assert_eq!(stalled.best(), Some(ByteCount(800)));
        stalled.round(at(100), ByteCount(1_010));
        assert_eq!(stalled.best(), Some(ByteCount(900)));
    }

    #[test]
    fn a_stall_does_not_end_by_a_better_round() {
        let stalled = fed(&[(0, 1_000), (40, 1_000), (41, 10)]);
        assert_eq!(stalled.best(), Some(ByteCount(1_000)));
    }
}
