//! `xen-5`: the default rule of libxc's save code (X1, X2).
//!
//! ```text
//! policy(iteration, dirty): stop if dirty is known and < 50, or iteration >= 5
//! asked twice a round: when the dirty set is known and nothing of it is sent, and when it is sent
//! and the next one is not known; what was found dirty is sent live even when the answer is "stop"
//! ```
//!
//! So one full send and at most four of what was dirtied, then the guest is suspended. Neither time
//! nor bandwidth nor downtime is looked at: a busy guest gets a pause without bound. Xen sends batches
//! of 1024 pages and defers what cannot be mapped to the last pass; neither changes a decision.

use super::parameters::Given;
use super::{ParameterInfo, ParameterKind, PresetError, PresetInfo, Source};
use crate::policy::{
    BandwidthWindow, Cadence, Decision, Gate, Policy, Quantity, Reason, Relation, SwitchoverWhen,
    Until, Verdict,
};
use crate::progress::{Moment, Progress};
use crate::units::Pages;

/// At most so many live sends, fewer once a dirty set is small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xen5 {
    /// Live sends, the full one counted, after which the guest is suspended in any case.
    pub max_iterations: u32,
    /// A dirty set of fewer pages than this is the last one sent live.
    pub min_dirty: Pages,
}

pub(super) const INFO: PresetInfo = PresetInfo {
    name: "xen-5",
    summary: "Xen's libxc: one full and at most 4 further live sends, fewer if less than 50 pages are \
              dirty; no bound on the downtime.",
    approximate: None,
    sources: &[
        Source { tag: "X1", what: "xen tools/libs/guest/xg_sr_save.c", version: "c447b730" },
        Source { tag: "X2", what: "xen tools/include/xenguest.h", version: "c447b730" },
    ],
    parameters: &[
        ParameterInfo {
            name: "max-iterations",
            kind: ParameterKind::Count,
            default: "5",
            doc: "Live sends, the full one counted, before the guest is suspended in any case.",
            source: "X1",
        },
        ParameterInfo {
            name: "min-dirty",
            kind: ParameterKind::Pages,
            default: "50",
            doc: "A dirty set of fewer pages than this is the last one sent live.",
            source: "X1",
        },
    ],
    build,
};

fn build(given: &Given<'_>) -> Result<Box<dyn Policy>, PresetError> {
    Ok(Box::new(Xen5 {
        max_iterations: given.count("max-iterations")?,
        min_dirty: given.pages("min-dirty")?,
    }))
}

impl Xen5 {
    /// Xen's own rule; `dirty` is none while it is not known, and then only the cap can stop.
    fn rule(&self, iteration: u64, dirty: Option<Pages>) -> (Rule, Reason) {
        let min_dirty = ("min-dirty", Quantity::Pages(self.min_dirty));
        let count = ("iteration", Quantity::Count(iteration));
        let cap = ("max-iterations", Quantity::Count(self.max_iterations.into()));
        let capped = iteration >= u64::from(self.max_iterations);
        let Some(dirty) = dirty else {
            let (rule, relation) =
                if capped { (Rule::Cap, Relation::AtLeast) } else { (Rule::GoOn, Relation::Below) };
            return (rule, Reason::new(count, relation, cap));
        };
        let pending = ("pending", Quantity::Pages(dirty));
        if dirty < self.min_dirty {
            return (Rule::Small, Reason::new(pending, Relation::Below, min_dirty));
        }
        if capped {
            let reason = Reason::new(count, Relation::AtLeast, cap).with(pending.0, pending.1);
            return (Rule::Cap, reason);
        }
        let reason = Reason::new(pending, Relation::AtLeast, min_dirty)
            .with(count.0, count.1)
            .with(cap.0, cap.1);
        (Rule::GoOn, reason)
    }
}

/// Which part of the rule held.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    Small,
    Cap,
    GoOn,
}

impl Policy for Xen5 {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("max-iterations", self.max_iterations.to_string()),
            ("min-dirty", self.min_dirty.0.to_string()),
        ]
    }

    fn cadence(&self) -> Cadence {
        Cadence { tick: None, bandwidth: BandwidthWindow::Round, gate: Gate::Pipelined }
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        let round = u64::from(progress.round);
        let (when, (rule, reason)) = match moment {
            // What was found is sent live in any case.
            Moment::RoundStart => {
                (SwitchoverWhen::AfterRound, self.rule(round, Some(progress.pending)))
            }
            Moment::RoundEnd => (SwitchoverWhen::Now, self.rule(round + 1, None)),
            // Xen does not look up from a round; the rule below goes on until its end.
            Moment::Tick => {
                let count = ("iteration", Quantity::Count(round));
                let reason = Reason::new(count, Relation::Equal, ("iteration under way", count.1));
                (SwitchoverWhen::Now, (Rule::GoOn, reason))
            }
        };
        if rule == Rule::GoOn {
            return Verdict::new(Decision::Continue, reason).holding(Until::ROUND_END);
        }
        Verdict::new(Decision::Switchover { when, forced: rule == Rule::Cap }, reason)
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}
