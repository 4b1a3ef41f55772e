//! `ch-legacy`: Cloud Hypervisor's loop before it looked at the downtime (C5; PR 1968, replaced by PR 7835).
//!
//! [`RULE`] is the rule.
//!
//! * Neither time nor bandwidth nor downtime is looked at; only an empty dirty log ends the passes early.
//! * Nothing is looked at inside a round.
//! * After the last pass the guest is paused without another look at the log, so what was dirtied during
//!   that pass is harvested once, with the guest paused. Hence the decision at a round's end.

use super::parameters::Given;
use super::{ParameterInfo, ParameterKind, PresetError, PresetInfo, Source};
use crate::policy::{
    BandwidthWindow, Cadence, Decision, Gate, Policy, Quantity, Reason, Relation, SwitchoverWhen, Until,
    Verdict,
};
use crate::progress::{Moment, Progress};
use crate::units::Pages;

/// The full set, then so many passes over what was dirtied; fewer only if nothing was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudHypervisorLegacy {
    /// Live passes after the full one.
    pub delta_rounds: u32,
}

/// The rule in short, at the defaults.
const RULE: &str = "\
send all memory, wait for its acknowledgement
at most 5 times:
    fetch the dirty log; empty: stop
    else send it, wait for its acknowledgement
pause; fetch and send the dirty log once more; snapshot";

pub(super) const INFO: PresetInfo = PresetInfo {
    name: "ch-legacy",
    summary: "Cloud Hypervisor before PR 7835: one full and at most 5 further live sends, fewer only if \
              nothing is dirty; no bound on the downtime.",
    approximate: None,
    rule: RULE,
    notes: &[],
    sources: &[Source {
        tag: "C5",
        what: "cloud-hypervisor vmm/src/lib.rs, from PR 1968 to PR 7835",
        version: "before PR 7835",
    }],
    parameters: &[ParameterInfo {
        name: "delta-rounds",
        kind: ParameterKind::Count,
        default: "5",
        doc: "Live passes over what was dirtied, after the full one (MAX_DIRTY_MIGRATIONS).",
        source: "C5",
    }],
    build,
};

fn build(given: &Given<'_>) -> Result<Box<dyn Policy>, PresetError> {
    Ok(Box::new(CloudHypervisorLegacy { delta_rounds: given.count("delta-rounds")? }))
}

impl Policy for CloudHypervisorLegacy {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![("delta-rounds", self.delta_rounds.to_string())]
    }

    fn cadence(&self) -> Cadence {
        Cadence { tick: None, bandwidth: BandwidthWindow::Round, gate: Gate::Wait }
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        let switchover = |forced| Decision::Switchover { when: SwitchoverWhen::Now, forced };
        if moment == Moment::RoundStart && progress.pending.is_zero() {
            let pending = ("pending", Quantity::Pages(progress.pending));
            let reason = Reason::new(pending, Relation::AtMost, ("nothing", Quantity::Pages(Pages::ZERO)));
            return Verdict::new(switchover(false), reason);
        }
        // The full set is round 0, so the number of the round is that of the passes after it.
        let done = ("delta rounds sent", Quantity::Count(progress.round.into()));
        let most = ("delta-rounds", Quantity::Count(self.delta_rounds.into()));
        if moment == Moment::RoundEnd && progress.round >= self.delta_rounds {
            return Verdict::new(switchover(true), Reason::new(done, Relation::AtLeast, most));
        }
        let going = ("delta round", Quantity::Count(progress.round.into()));
        let relation = if progress.round > self.delta_rounds { Relation::Above } else { Relation::AtMost };
        let reason = Reason::new(going, relation, most).with("pending", Quantity::Pages(progress.pending));
        Verdict::new(Decision::Continue, reason).holding(Until::ROUND_END)
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Guest, Situation, answer, curve};
    use super::*;

    const LEGACY: CloudHypervisorLegacy = CloudHypervisorLegacy { delta_rounds: 5 };

    const fn now(forced: bool) -> Decision {
        Decision::Switchover { when: SwitchoverWhen::Now, forced }
    }

    fn at(moment: Moment, round: u32, pending: u64) -> Decision {
        answer(&mut LEGACY.clone(), &Situation::new("asked", moment, round, pending)).decision
    }

    #[test]
    fn a_busy_guest_is_sent_once_in_full_and_five_times_in_part() {
        let busy = Guest {
            name: "busy",
            memory: Pages(1 << 18),
            working_set: Pages(1 << 17),
            rate: 1_000_000,
            link: "1Gbit/s".parse().expect("a bandwidth"),
        };
        let asked = curve(&mut LEGACY.clone(), busy, 100);
        let sends = asked.iter().filter(|step| step.situation.moment == Moment::RoundEnd).count();
        assert_eq!(sends, 6);
        assert_eq!(asked.last().expect("asked").verdict.decision, now(true));
    }

    #[test]
    fn only_an_empty_log_ends_the_passes_early() {
        assert_eq!(at(Moment::RoundStart, 1, 0), now(false));
        assert_eq!(at(Moment::RoundStart, 1, 1), Decision::Continue);
        assert_eq!(at(Moment::RoundEnd, 4, 0), Decision::Continue);
    }

    #[test]
    fn the_guest_is_paused_before_the_log_is_fetched_for_the_last_time() {
        assert_eq!(at(Moment::RoundStart, 5, 1 << 20), Decision::Continue);
        assert_eq!(at(Moment::RoundEnd, 5, 0), now(true));
    }

    #[test]
    fn neither_time_nor_bandwidth_counts_and_each_pass_is_acknowledged() {
        for moment in [Moment::RoundStart, Moment::RoundEnd] {
            let plain = Situation::new("plain", moment, 3, 5_000);
            let other = plain.clone().at("400Gbit/s").after("30h");
            assert_eq!(answer(&mut LEGACY.clone(), &plain), answer(&mut LEGACY.clone(), &other));
        }
        assert_eq!(LEGACY.cadence().gate, Gate::Wait);
    }

    #[test]
    fn no_delta_rounds_still_send_everything_once() {
        let mut none = CloudHypervisorLegacy { delta_rounds: 0 };
        let mut ask = |moment| answer(&mut none, &Situation::new("asked", moment, 0, 9)).decision;
        assert_eq!(ask(Moment::RoundStart), Decision::Continue);
        assert_eq!(ask(Moment::RoundEnd), now(true));
    }
}
