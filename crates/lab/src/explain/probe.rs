//! What a policy would have answered had other numbers been before it.
//!
//! A copy of the policy, with the memory that it had at that moment, is shown a changed record. Nothing of its
//! rule is known here, so it works for every policy, and says nothing that the policy would not do.

use whimbrel_core::policy::{Decision, Policy};
use whimbrel_core::progress::{Moment, Progress};
use whimbrel_core::units::{Bandwidth, PageRate, Pages};

/// Times the measured bandwidth that are tried at most: 1 Gbit/s becomes 100 Gbit/s.
const MOST_BANDWIDTH: f64 = 100.0;

/// A policy as it was before it was asked, and what it was shown.
pub(super) struct Probe<'a> {
    pub(super) policy: &'a dyn Policy,
    pub(super) moment: Moment,
    pub(super) progress: &'a Progress,
}

/// Whether a decision ends the copying of memory before the handover.
pub(super) fn ends(decision: Decision) -> bool {
    matches!(decision, Decision::Switchover { .. } | Decision::Pause)
}

impl Probe<'_> {
    fn answer(&self, progress: &Progress) -> Decision {
        self.policy.boxed_clone().decide(self.moment, progress).decision
    }

    /// Whether it would have ended the copying with so many pages pending, had the harvest found as many fewer
    /// or more.
    fn ends_with(&self, pending: Pages) -> bool {
        let shown = self.progress;
        let share = pending.0 as f64 / shown.pending.0.max(1) as f64;
        let part = |pages: Pages| Pages((pages.0 as f64 * share) as u64);
        let rate = shown.dirty_rate.and_then(|rate| PageRate::new(rate.per_second() * share).ok());
        let progress = Progress {
            pending,
            dirtied: part(shown.dirtied),
            left_over: part(shown.left_over),
            dirty_rate: rate,
            ..shown.clone()
        };
        ends(self.answer(&progress))
    }

    /// The most pages pending with which it would have ended the copying, where it went on; none if it would
    /// have gone on with none.
    pub(super) fn would_end_at(&self) -> Option<Pages> {
        let (mut ends, mut goes_on) = (0, self.progress.pending.0);
        if goes_on == 0 || !self.ends_with(Pages(ends)) {
            return None;
        }
        while goes_on - ends > 1 {
            let middle = ends + (goes_on - ends) / 2;
            if self.ends_with(Pages(middle)) { ends = middle } else { goes_on = middle }
        }
        Some(Pages(ends))
    }

    /// The most pages pending with which it would have ended the copying, where it did; all memory if nothing
    /// pending would have kept it from that.
    pub(super) fn would_still_end_at(&self) -> Pages {
        let memory = self.progress.memory;
        let (mut ends, mut goes_on) = (self.progress.pending.0, memory.0);
        if goes_on <= ends || self.ends_with(memory) {
            return memory;
        }
        while goes_on - ends > 1 {
            let middle = ends + (goes_on - ends) / 2;
            if self.ends_with(Pages(middle)) { ends = middle } else { goes_on = middle }
        }
        Pages(ends)
    }

    /// The least bandwidth with which it would have ended the copying, where it went on; none if it would not
    /// have at a hundred times what was measured.
    pub(super) fn would_end_with(&self) -> Option<Bandwidth> {
        let measured = self.progress.bandwidth?.as_f64();
        let ends = |factor: f64| {
            let bandwidth = Bandwidth::new((measured * factor) as u64);
            ends(self.answer(&Progress { bandwidth, ..self.progress.clone() }))
        };
        let (mut goes_on, mut enough) = (1.0, MOST_BANDWIDTH);
        if !ends(enough) {
            return None;
        }
        // To a thousandth.
        while enough / goes_on > 1.001 {
            let middle = (goes_on * enough).sqrt();
            if ends(middle) { enough = middle } else { goes_on = middle }
        }
        Bandwidth::new((measured * enough) as u64)
    }
}
