//! `quick`: no pre-copy at all. The guest is paused, copied and resumed; ours, the baseline whose downtime
//! every other policy has to beat and whose bytes none can.
//!
//! [`RULE`] is the rule.

use super::PresetInfo;
use crate::policy::{
    BandwidthWindow, Cadence, Decision, Gate, Policy, Quantity, Reason, Relation, SwitchoverWhen, Verdict,
};
use crate::progress::{Moment, Progress};

/// Pauses the guest before anything is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quick;

/// The rule in short, at the defaults.
const RULE: &str = "\
at whatever it is asked first: switch over";

/// What people should know of it besides.
const NOTES: &[&str] = &["Nothing was looked at, so the switchover counts as forced."];

pub(super) const INFO: PresetInfo = PresetInfo {
    name: "quick",
    summary: "No live pass: pauses the guest, copies it, resumes it. The least that can be sent, and the \
              longest downtime.",
    approximate: None,
    rule: RULE,
    notes: NOTES,
    sources: &[],
    parameters: &[],
    build: |_| Ok(Box::new(Quick)),
};

impl Policy for Quick {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn cadence(&self) -> Cadence {
        Cadence { tick: None, bandwidth: BandwidthWindow::Round, gate: Gate::Pipelined }
    }

    fn decide(&mut self, _: Moment, progress: &Progress) -> Verdict {
        let sent = ("rounds sent", Quantity::Count(progress.round.into()));
        let reason = Reason::new(sent, Relation::AtLeast, ("live passes", Quantity::Count(0)))
            .with("pending", Quantity::Pages(progress.pending));
        Verdict::new(Decision::Switchover { when: SwitchoverWhen::Now, forced: true }, reason)
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
    fn the_first_question_is_the_last_and_nothing_is_sent_live() {
        for moment in [Moment::RoundStart, Moment::Tick, Moment::RoundEnd] {
            for pending in [0, 1, 1 << 20] {
                let asked = Situation::new("asked", moment, 0, pending).at("400Gbit/s");
                let now = Decision::Switchover { when: SwitchoverWhen::Now, forced: true };
                assert_eq!(answer(&mut Quick, &asked).decision, now);
            }
        }
    }
}
