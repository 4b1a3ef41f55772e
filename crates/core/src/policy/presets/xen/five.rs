//! `xen-5`: the default rule of libxc's save code (X1, X2).
//!
//! [`RULE`] is the rule.
//!
//! So one full send and at most four of what was dirtied, then the guest is suspended. Neither time
//! nor bandwidth nor downtime is looked at: a busy guest gets a pause without bound.

use super::super::parameters::Given;
use super::super::{ParameterInfo, ParameterKind, PresetError, PresetInfo, Source, unknown_above};
use crate::policy::{
    BandwidthWindow, Cadence, Decision, Gate, Policy, Quantity, Reason, Relation, SwitchoverWhen, Until,
    Verdict,
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

/// The rule in short, at the defaults.
const RULE: &str = "\
policy(iteration, dirty): stop if dirty is known and < 50, or iteration >= 5
asked twice a round:
    when the dirty set is known and nothing of it is sent; what was found
        dirty is sent live even when the answer is \"stop\"
    when it is sent and the next one is not known";

/// What people should know of it besides.
const NOTES: &[&str] =
    &["Xen sends batches of 1024 pages and defers what cannot be mapped to the last pass; neither \
     changes a decision and neither is modelled."];

pub(in super::super) const INFO: PresetInfo = PresetInfo {
    name: "xen-5",
    summary: "Xen's libxc: one full and at most 4 further live sends, fewer if less than 50 pages are \
              dirty; no bound on the downtime.",
    approximate: None,
    rule: RULE,
    notes: NOTES,
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
    /// What was found dirty is known, and sent live in any case.
    #[inline]
    fn found(&self, iteration: u64, dirty: Pages) -> Verdict {
        let pending = ("pending", Quantity::Pages(dirty));
        let min_dirty = ("min-dirty", Quantity::Pages(self.min_dirty));
        if dirty < self.min_dirty {
            let reason = Reason::new(pending, Relation::Below, min_dirty);
            return stop(SwitchoverWhen::AfterRound, false, reason);
        }
        let (count, cap) = (("iteration", Quantity::Count(iteration)), self.cap());
        if self.caps(iteration) {
            let reason = Reason::new(count, Relation::AtLeast, cap).with(pending.0, pending.1);
            return stop(SwitchoverWhen::AfterRound, true, reason);
        }
        go_on(Reason::new(pending, Relation::AtLeast, min_dirty).with(count.0, count.1).with(cap.0, cap.1))
    }

    /// It is sent, and what was dirtied meanwhile is not known: only the cap can stop.
    #[inline]
    fn sent(&self, iteration: u64) -> Verdict {
        let (count, cap) = (("iteration", Quantity::Count(iteration)), self.cap());
        if self.caps(iteration) {
            return stop(SwitchoverWhen::Now, true, Reason::new(count, Relation::AtLeast, cap));
        }
        go_on(Reason::new(count, Relation::Below, cap))
    }

    #[inline]
    fn cap(&self) -> (&'static str, Quantity) {
        ("max-iterations", Quantity::Count(self.max_iterations.into()))
    }

    #[inline]
    fn caps(&self, iteration: u64) -> bool {
        iteration >= u64::from(self.max_iterations)
    }
}

#[inline(always)]
fn go_on(reason: Reason) -> Verdict {
    Verdict::new(Decision::Continue, reason).holding(Until::ROUND_END)
}

#[inline(always)]
fn stop(when: SwitchoverWhen, forced: bool, reason: Reason) -> Verdict {
    Verdict::new(Decision::Switchover { when, forced }, reason)
}

impl Policy for Xen5 {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![("max-iterations", self.max_iterations.to_string()), ("min-dirty", self.min_dirty.0.to_string())]
    }

    fn cadence(&self) -> Cadence {
        Cadence { tick: None, bandwidth: BandwidthWindow::Round, gate: Gate::Pipelined }
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        let round = u64::from(progress.round);
        match moment {
            Moment::RoundStart => self.found(round, progress.pending),
            Moment::RoundEnd => self.sent(round + 1),
            // Xen does not look up from a round.
            Moment::Tick => go_on(unknown_above("remaining", ("min-dirty", Quantity::Pages(self.min_dirty)))),
        }
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Guest, Situation, answer, curve, steps};
    use super::*;

    const XEN: Xen5 = Xen5 { max_iterations: 5, min_dirty: Pages(50) };

    fn at(moment: Moment, round: u32, pending: u64) -> Decision {
        answer(&mut XEN.clone(), &Situation::new("asked", moment, round, pending)).decision
    }

    const fn after_round(forced: bool) -> Decision {
        Decision::Switchover { when: SwitchoverWhen::AfterRound, forced }
    }

    const FORCED_NOW: Decision = Decision::Switchover { when: SwitchoverWhen::Now, forced: true };

    #[test]
    fn what_was_found_is_sent_live_even_when_the_rule_says_stop() {
        assert_eq!(at(Moment::RoundStart, 2, 49), after_round(false));
        assert_eq!(at(Moment::RoundStart, 2, 0), after_round(false));
        // The cap at a round's start, which only a cap below the round in progress can reach.
        assert_eq!(at(Moment::RoundStart, 5, 1_000), after_round(true));
    }

    #[test]
    fn fifty_pages_are_not_fewer_than_fifty() {
        assert_eq!(at(Moment::RoundStart, 1, 50), Decision::Continue);
    }

    #[test]
    fn a_small_set_at_the_cap_has_converged() {
        assert_eq!(at(Moment::RoundStart, 5, 10), after_round(false));
    }

    #[test]
    fn once_a_set_is_sent_only_the_cap_can_stop() {
        for round in 0..4 {
            assert_eq!(at(Moment::RoundEnd, round, 0), Decision::Continue);
        }
        assert_eq!(at(Moment::RoundEnd, 4, 0), FORCED_NOW);
    }

    #[test]
    fn one_full_send_and_at_most_four_of_what_was_dirtied() {
        let busy = Guest {
            name: "busy",
            memory: Pages(1 << 18),
            working_set: Pages(1 << 17),
            rate: 1_000_000,
            link: "1Gbit/s".parse().expect("a bandwidth"),
        };
        let asked = curve(&mut XEN.clone(), busy, 100);
        let sends = asked.iter().filter(|step| step.situation.moment == Moment::RoundEnd).count();
        assert_eq!(sends, 5);
        assert_eq!(asked.last().expect("asked").verdict.decision, FORCED_NOW);
    }

    #[test]
    fn no_iterations_still_send_everything_once() {
        let mut policy = Xen5 { max_iterations: 0, ..XEN };
        let start = Situation::new("start", Moment::RoundStart, 0, 1 << 20);
        assert_eq!(answer(&mut policy, &start).decision, after_round(true));
    }

    #[test]
    fn nothing_but_pages_and_iterations_counts() {
        for moment in [Moment::RoundStart, Moment::RoundEnd] {
            let plain = Situation::new("plain", moment, 2, 5_000);
            let other = plain.clone().at("400Gbit/s").after("30h");
            assert_eq!(answer(&mut XEN.clone(), &plain), answer(&mut XEN.clone(), &other));
        }
    }

    #[test]
    fn a_round_is_not_looked_into() {
        let ticks =
            [Situation::new("early", Moment::Tick, 7, 1_000), Situation::new("late", Moment::Tick, 7, 1)];
        let decisions: Vec<_> =
            steps(&mut XEN.clone(), &ticks).iter().map(|step| step.verdict.decision).collect();
        assert_eq!(decisions, [Decision::Continue; 2]);
        assert_eq!(XEN.cadence().tick, None);
    }
}
