//! `fixed-rounds`: so many live passes, then the switchover. Ours; the plainest policy there is, and
//! the baseline that the others are measured against.

use super::parameters::Given;
use super::{ParameterInfo, ParameterKind, PresetError, PresetInfo, unknown_above};
use crate::policy::{
    BandwidthWindow, Cadence, Decision, Gate, Policy, Quantity, Reason, Relation, SwitchoverWhen, Until,
    Verdict,
};
use crate::progress::{Moment, Progress};
use crate::units::Pages;

/// So many live passes, then the switchover; earlier if hardly anything is left.
///
/// Decides at the start of a round only: `rounds = 3` sends three times while the guest runs, harvests
/// once more, and stops. `rounds = 0` copies nothing live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedRounds {
    /// Live passes over memory, the bulk round counted.
    pub rounds: u32,
    /// The switchover comes earlier, as converged, when no more than this is pending.
    pub stop_below: Pages,
}

/// The rule in short, at the defaults.
const RULE: &str = "\
at the start of a round: rounds sent >= rounds, or pending <= stop-below:
    switch over";

pub(super) const INFO: PresetInfo = PresetInfo {
    name: "fixed-rounds",
    summary: "A fixed number of live passes, then the switchover, whatever is left.",
    approximate: None,
    rule: RULE,
    notes: &[],
    sources: &[],
    parameters: &[
        ParameterInfo {
            name: "rounds",
            kind: ParameterKind::Count,
            default: "5",
            doc: "Live passes over memory, the bulk round counted; 0 pauses the guest at once.",
            source: "ours",
        },
        ParameterInfo {
            name: "stop-below",
            kind: ParameterKind::Pages,
            default: "0",
            doc: "Switches over earlier, as converged, when a round starts with no more than this.",
            source: "ours",
        },
    ],
    build,
};

fn build(given: &Given<'_>) -> Result<Box<dyn Policy>, PresetError> {
    Ok(Box::new(FixedRounds { rounds: given.count("rounds")?, stop_below: given.pages("stop-below")? }))
}

impl Policy for FixedRounds {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![("rounds", self.rounds.to_string()), ("stop-below", self.stop_below.0.to_string())]
    }

    fn cadence(&self) -> Cadence {
        Cadence { tick: None, bandwidth: BandwidthWindow::Round, gate: Gate::Pipelined }
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        let stop_below = ("stop-below", Quantity::Pages(self.stop_below));
        if moment != Moment::RoundStart {
            return Verdict::new(Decision::Continue, unknown_above("remaining", stop_below))
                .holding(Until::ROUND_END);
        }
        let pending = ("pending", Quantity::Pages(progress.pending));
        let sent = ("rounds sent", Quantity::Count(progress.round.into()));
        let rounds = ("rounds", Quantity::Count(self.rounds.into()));
        let switchover = |forced| Decision::Switchover { when: SwitchoverWhen::Now, forced };
        if progress.pending <= self.stop_below {
            return Verdict::new(switchover(false), Reason::new(pending, Relation::AtMost, stop_below));
        }
        if progress.round >= self.rounds {
            let reason = Reason::new(sent, Relation::AtLeast, rounds).with(pending.0, pending.1);
            return Verdict::new(switchover(true), reason);
        }
        let reason = Reason::new(sent, Relation::Below, rounds).with(pending.0, pending.1);
        Verdict::new(Decision::Continue, reason).holding(Until::ROUND_END)
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Situation, answer};
    use super::*;

    fn start(rounds: u32, stop_below: u64, round: u32, pending: u64) -> Decision {
        let mut policy = FixedRounds { rounds, stop_below: Pages(stop_below) };
        answer(&mut policy, &Situation::new("start", Moment::RoundStart, round, pending)).decision
    }

    const CONVERGED: Decision = Decision::Switchover { when: SwitchoverWhen::Now, forced: false };
    const FORCED: Decision = Decision::Switchover { when: SwitchoverWhen::Now, forced: true };

    #[test]
    fn sends_so_many_times_live_then_stops_by_force() {
        for rounds in [1, 3, 30] {
            for round in 0..rounds {
                assert_eq!(start(rounds, 0, round, 1_000), Decision::Continue);
            }
            assert_eq!(start(rounds, 0, rounds, 1_000), FORCED);
        }
    }

    #[test]
    fn no_rounds_is_stop_and_copy() {
        assert_eq!(start(0, 0, 0, 1 << 20), FORCED);
    }

    #[test]
    fn a_small_remainder_has_converged_even_at_the_last_round() {
        assert_eq!(start(3, 0, 1, 0), CONVERGED);
        assert_eq!(start(3, 0, 1, 1), Decision::Continue);
        assert_eq!(start(3, 64, 1, 64), CONVERGED);
        assert_eq!(start(3, 64, 1, 65), Decision::Continue);
        assert_eq!(start(3, 64, 3, 64), CONVERGED);
    }

    #[test]
    fn decides_only_when_a_round_starts() {
        for moment in [Moment::Tick, Moment::RoundEnd] {
            let mut policy = FixedRounds { rounds: 3, stop_below: Pages(0) };
            let verdict = answer(&mut policy, &Situation::new("later", moment, 7, 0));
            assert_eq!(verdict.decision, Decision::Continue);
        }
    }
}
