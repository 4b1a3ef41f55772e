//! Which decisions hung on chance: what was pending lay so near the rule's threshold that of exact runs
//! some would have decided otherwise.

use serde::Serialize;
use whimbrel_core::progress::Progress;
use whimbrel_core::units::Pages;

/// Standard deviations within which the threshold counts as near.
const NEAR: f64 = 4.0;

/// A decision that hung on chance. Exact runs split there: some go on for a round more.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct NearThreshold {
    /// In which round.
    pub round: u32,
    /// What was pending.
    pub pending: Pages,
    /// How far from the threshold that was, in standard deviations.
    pub deviations: f64,
}

/// Keeps the closest decision.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watch {
    closest: Option<NearThreshold>,
    /// A number of pages that a harvest found was near its threshold.
    threshold: bool,
}

impl Watch {
    /// Notes that what follows hangs on so many pages more or fewer than there are, or with none, on where in a
    /// rhythm the sender was: a limiter's windows, the sleeps on a full queue, the policy's ticks. Gives whether they
    /// are near.
    #[inline]
    pub(super) fn hangs_on(&mut self, progress: &Progress, distance: f64, variance: f64) -> bool {
        // Counts are whole: half a page is no certainty.
        let variance = variance + 0.25;
        // Most are far away, and that needs no root.
        if distance * distance <= 1.001 * NEAR * NEAR * variance {
            return self.note(progress, distance / variance.sqrt());
        }
        false
    }

    #[inline(never)]
    fn note(&mut self, progress: &Progress, deviations: f64) -> bool {
        if deviations <= NEAR && self.closest.is_none_or(|closest| deviations < closest.deviations) {
            self.closest =
                Some(NearThreshold { round: progress.round, pending: progress.pending, deviations });
        }
        deviations <= NEAR
    }

    /// What a harvest found was near the threshold.
    pub(super) fn see_a_threshold(&mut self) {
        self.threshold = true;
    }

    /// Whether a number of pages that a harvest found was near what the rule compared it with.
    pub(super) fn sees_a_threshold(&self) -> bool {
        self.threshold
    }

    pub(super) fn near(&self) -> Option<NearThreshold> {
        self.closest
    }
}
