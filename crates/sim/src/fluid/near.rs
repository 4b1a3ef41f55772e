//! Which decisions hung on chance: what was pending lay so near the rule's threshold that of exact runs
//! some would have decided otherwise.

use serde::Serialize;
use whimbrel_core::policy::{Quantity, Verdict};
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
    /// A number of pages was near its threshold.
    threshold: bool,
}

impl Watch {
    /// Looks at a verdict on what is pending, whose variance is known; gives whether that was near.
    pub(super) fn look(&mut self, progress: &Progress, verdict: &Verdict, variance: f64) -> bool {
        distance(progress, verdict).is_some_and(|distance| self.note(progress, distance, variance))
    }

    /// What a harvest found was near the threshold.
    pub(super) fn see_a_threshold(&mut self) {
        self.threshold = true;
    }

    /// Notes that what follows hangs on so many pages more or fewer than there are, or with none, on where in a
    /// rhythm the sender was: a limiter's windows, the sleeps on a full queue, the policy's ticks. Gives whether
    /// they are near.
    pub(super) fn hangs_on(&mut self, progress: &Progress, distance: f64, variance: f64) -> bool {
        self.note(progress, distance, variance)
    }

    /// Whether that is near.
    fn note(&mut self, progress: &Progress, distance: f64, variance: f64) -> bool {
        // Counts are whole: half a page is no certainty.
        let deviations = distance / (variance + 0.25).sqrt();
        if deviations <= NEAR && self.closest.is_none_or(|closest| deviations < closest.deviations) {
            self.closest =
                Some(NearThreshold { round: progress.round, pending: progress.pending, deviations });
        }
        deviations <= NEAR
    }

    /// Whether a number of pages that a harvest found was near what the rule compared it with.
    pub(super) fn sees_a_threshold(&self) -> bool {
        self.threshold
    }

    pub(super) fn near(&self) -> Option<NearThreshold> {
        self.closest
    }
}

/// How many pages more or fewer would have changed what the rule compared; none if it compared no pages.
fn distance(progress: &Progress, verdict: &Verdict) -> Option<f64> {
    let reason = &verdict.reason;
    let page = progress.page_size.bytes().as_f64();
    let pages = match (reason.left.value, reason.right.value) {
        (Quantity::Pages(left), Quantity::Pages(right)) => left.0 as f64 - right.0 as f64,
        (Quantity::Bytes(left), Quantity::Bytes(right)) => (left.0 as f64 - right.0 as f64) / page,
        // What was dirtied, by the time that it took.
        (Quantity::Bandwidth(left), Quantity::Bandwidth(right)) => {
            let rate = progress.dirty_rate?.per_second();
            (left.as_f64() - right.as_f64()) / page * (progress.dirtied.as_f64() / rate)
        }
        (Quantity::PageRate(left), Quantity::PageRate(right)) => {
            let rate = progress.dirty_rate?.per_second();
            (left.per_second() - right.per_second()) * (progress.dirtied.as_f64() / rate)
        }
        (Quantity::Duration(left), Quantity::Duration(right)) if reason.left.name.contains("downtime") => {
            let rate = progress.bandwidth?.as_f64();
            (left.as_secs_f64() - right.as_secs_f64()) * rate / page
        }
        _ => return None,
    };
    Some(pages.abs())
}
