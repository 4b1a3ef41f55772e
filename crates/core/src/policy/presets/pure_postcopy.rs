//! `pure-postcopy`: no pre-copy at all. The guest moves at once and its pages are fetched afterwards; ours,
//! the baseline for downtime and the worst case for what the guest has to wait for.
//!
//! [`RULE`] is the rule.

use super::PresetInfo;
use crate::policy::{BandwidthWindow, Cadence, Decision, Gate, Policy, Quantity, Reason, Relation, Verdict};
use crate::progress::{Capabilities, Moment, Progress};

/// Hands over before anything is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PurePostcopy;

/// The rule in short, at the defaults.
const RULE: &str = "\
at whatever it is asked first: post-copy";

pub(super) const INFO: PresetInfo = PresetInfo {
    name: "pure-postcopy",
    summary: "No live pass: hands the guest over at once and fetches its pages afterwards.",
    approximate: None,
    rule: RULE,
    notes: &[],
    sources: &[],
    parameters: &[],
    build: |_| Ok(Box::new(PurePostcopy)),
};

impl Policy for PurePostcopy {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn cadence(&self) -> Cadence {
        Cadence { tick: None, bandwidth: BandwidthWindow::Round, gate: Gate::Pipelined }
    }

    fn needs(&self) -> Capabilities {
        Capabilities { post_copy: true, ..Capabilities::default() }
    }

    fn decide(&mut self, _: Moment, progress: &Progress) -> Verdict {
        let sent = ("rounds sent", Quantity::Count(progress.round.into()));
        let reason = Reason::new(sent, Relation::AtLeast, ("live passes", Quantity::Count(0)))
            .with("pending", Quantity::Pages(progress.pending));
        Verdict::new(Decision::PostCopy, reason)
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(*self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Situation, answer};
    use super::*;

    #[test]
    fn the_first_question_is_the_last_and_the_guest_moves_at_once() {
        for moment in [Moment::RoundStart, Moment::Tick, Moment::RoundEnd] {
            for pending in [0, 1, 1 << 20] {
                let asked = Situation::new("asked", moment, 0, pending).at("400Gbit/s");
                assert_eq!(answer(&mut PurePostcopy, &asked).decision, Decision::PostCopy);
            }
        }
    }

    #[test]
    fn a_ground_without_post_copy_is_refused_by_name() {
        assert_eq!(PurePostcopy.needs().missing_from(Capabilities::default()), Some("post-copy"));
    }
}
