//! `qemu-postcopy`: pre-copy, and post-copy once somebody asks for it (Q1, Q2).
//!
//! [`RULE`] is the rule.
//!
//! * With `postcopy-ram` all memory counts as what can follow afterwards; what must go before is next to
//!   nothing, so post-copy starts at once when it is asked for, the first round or not, whatever is pending.
//! * A guest that converges before that switches over as without post-copy.
//! * What is pending at a round's end is harvested first: the rule has the word before post-copy.
//! * `max-bandwidth` does not hold afterwards: QEMU's `max-postcopy-bandwidth` is unlimited by default.
//!
//! While the migration runs, `postcopy-after` can be changed to any time that has passed: that is QEMU's
//! command, `migrate-start-postcopy`.

use std::time::Duration;

use super::limits::{self, DOWNTIME, MAX_BANDWIDTH, SWITCHOVER};
use super::{Q1, Q2, Q3, Q6, Qemu, QemuDefault, rate};
use crate::policy::presets::parameters::Given;
use crate::policy::presets::{ParameterInfo, ParameterKind, PresetError, PresetInfo};
use crate::policy::{Cadence, ChangeError, Decision, Policy, Quantity, RateLimit, Reason, Relation, Verdict};
use crate::progress::{Capabilities, Moment, Progress};
use crate::units::{Timestamp, duration};

const AFTER: &str = "postcopy-after";
const AFTER_ROUNDS: &str = "postcopy-after-rounds";
const NEVER: &str = "never";

/// The rule in short, at the defaults.
const RULE: &str = "\
at each moment:
    what qemu-default does, if that harvests or switches over
    time >= postcopy-after, or rounds >= postcopy-after-rounds:
        hand over, fetch the rest afterwards";

/// What people should know of it besides.
const NOTES: &[&str] = &[
    "QEMU never starts post-copy by itself: an administrator or a manager does \
     (`migrate-start-postcopy`). `postcopy-after` and `postcopy-after-rounds` stand for that person \
     and are ours.",
    "Not modelled: `max-postcopy-bandwidth`, unlimited by default.",
    "Not modelled: QEMU 8 compared only what must go before with the threshold for its exact count, \
     and so harvested at every slice where `postcopy-ram` was on. Newer QEMU compares all that is \
     pending.",
];

pub(in crate::policy::presets) const INFO: PresetInfo = PresetInfo {
    name: "qemu-postcopy",
    summary: "QEMU with post-copy: as `qemu-default` for 10 s, then hands over and fetches the rest \
              afterwards.",
    approximate: None,
    rule: RULE,
    notes: NOTES,
    sources: &[Q1, Q2, Q3, Q6],
    parameters: &[
        DOWNTIME,
        SWITCHOVER,
        MAX_BANDWIDTH,
        ParameterInfo {
            name: AFTER,
            kind: ParameterKind::OptionalDuration { none: NEVER },
            default: "10s",
            doc: "When post-copy is asked for, from the start of the migration. QEMU leaves that to a \
                  person.",
            source: "ours",
        },
        ParameterInfo {
            name: AFTER_ROUNDS,
            kind: ParameterKind::OptionalCount { none: NEVER },
            default: NEVER,
            doc: "After how many rounds post-copy is asked for, the bulk round among them. QEMU leaves that \
                  to a person.",
            source: "ours",
        },
    ],
    build: |given| Ok(Box::new(QemuPostCopy::read(given)?)),
};

/// What an administrator changes of them while a migration runs: all.
const CHANGEABLE: [&str; 5] = [limits::NAMES[0], limits::NAMES[1], limits::NAMES[2], AFTER, AFTER_ROUNDS];

/// QEMU's rule, and post-copy after a time or a number of rounds.
#[derive(Clone, Debug, PartialEq)]
pub struct QemuPostCopy {
    qemu: Qemu,
    after: Option<Duration>,
    after_rounds: Option<u32>,
}

impl QemuPostCopy {
    fn read(given: &Given<'_>) -> Result<Self, PresetError> {
        Ok(Self {
            qemu: Qemu::new(QemuDefault::read(given)?),
            after: given.optional_duration(AFTER)?,
            after_rounds: given.optional_count(AFTER_ROUNDS)?,
        })
    }

    /// Why post-copy is asked for, if it is.
    fn asked_for(&self, progress: &Progress) -> Option<Reason> {
        let rule = |left, right| Reason::new(left, Relation::AtLeast, right);
        let by_time = self.after.filter(|&after| progress.elapsed() >= after).map(|after| {
            rule(("elapsed", Quantity::Duration(progress.elapsed())), (AFTER, Quantity::Duration(after)))
        });
        let by_rounds = || {
            self.after_rounds.filter(|&rounds| progress.round >= rounds).map(|rounds| {
                let done = ("rounds", Quantity::Count(progress.round.into()));
                rule(done, (AFTER_ROUNDS, Quantity::Count(rounds.into())))
            })
        };
        let pending = Quantity::Bytes(progress.pending_bytes());
        by_time.or_else(by_rounds).map(|reason| reason.with("pending", pending))
    }
}

impl Policy for QemuPostCopy {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut texts = limits::texts(&self.qemu.rule);
        let never = || NEVER.to_owned();
        texts.extend([
            (AFTER, self.after.map_or_else(never, duration::format)),
            (AFTER_ROUNDS, self.after_rounds.map_or_else(never, |rounds| rounds.to_string())),
        ]);
        texts
    }

    fn cadence(&self) -> Cadence {
        self.qemu.cadence()
    }

    fn needs(&self) -> Capabilities {
        Capabilities { post_copy: true, ..self.qemu.needs() }
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        let mut verdict = self.qemu.decide(moment, progress);
        // At a round's end a harvest follows unasked, and then this is asked again.
        if verdict.decision != Decision::Continue || moment == Moment::RoundEnd {
            return verdict;
        }
        if let Some(reason) = self.asked_for(progress) {
            return Verdict::new(Decision::PostCopy, reason).adjusting(rate(RateLimit::Unlimited));
        }
        if let Some(after) = self.after {
            verdict.until.at = verdict.until.at.min(Timestamp::ZERO.saturating_add(after));
        }
        verdict
    }

    fn set_parameter(&mut self, name: &str, value: &str) -> Result<(), ChangeError> {
        let fresh = limits::changed(self, (&INFO, &CHANGEABLE), (name, value), Self::read)?;
        self.qemu.rule = fresh.qemu.rule;
        self.after = fresh.after;
        self.after_rounds = fresh.after_rounds;
        Ok(())
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::policy::SwitchoverWhen;
    use crate::policy::presets::testing::{Situation, answer};

    /// At this rate the threshold is 30,000 pages of 4 KiB exactly.
    const EXACT: &str = "409600000B/s";
    const SWITCHOVER: Decision = Decision::Switchover { when: SwitchoverWhen::Now, forced: false };

    fn policy(parameters: &[(&str, &str)]) -> QemuPostCopy {
        let texts: BTreeMap<_, _> =
            parameters.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        QemuPostCopy::read(&Given::new(&INFO, &texts).expect("known")).expect("accepted")
    }

    fn asked(moment: Moment, round: u32, pending: u64, time: &str) -> Situation {
        Situation::new("asked", moment, round, pending).at(EXACT).after(time)
    }

    #[test]
    fn post_copy_starts_at_once_when_asked_for_whatever_is_pending() {
        for pending in [30_000, 1 << 20] {
            for (moment, round) in [(Moment::Tick, 0), (Moment::RoundStart, 0), (Moment::Tick, 7)] {
                let early = answer(&mut policy(&[]), &asked(moment, round, pending, "9999ms"));
                assert_eq!(early.decision, Decision::Continue);
                let verdict = answer(&mut policy(&[]), &asked(moment, round, pending, "10s"));
                assert_eq!(verdict.decision, Decision::PostCopy);
            }
        }
        // Before the first window, too: what must go before is nothing, and that is not above zero.
        let unknown = Situation::new("asked", Moment::Tick, 0, 1 << 20).after("10s");
        let verdict = answer(&mut policy(&[]), &unknown);
        assert_eq!(verdict.decision, Decision::PostCopy);
        let said = "elapsed 10.0 s >= postcopy-after 10.0 s (by 0 %; pending 4.0 GiB)";
        assert_eq!(verdict.reason.to_string(), said);
    }

    #[test]
    fn a_tick_holds_until_post_copy_is_due() {
        let early = answer(&mut policy(&[]), &asked(Moment::Tick, 0, 1 << 20, "1s"));
        assert_eq!(early.until.at.as_duration(), Duration::from_secs(10));
    }

    #[test]
    fn a_guest_that_has_converged_switches_over() {
        let late = "1h";
        assert_eq!(
            answer(&mut policy(&[]), &asked(Moment::RoundStart, 3, 29_999, late)).decision,
            SWITCHOVER
        );
        assert_eq!(
            answer(&mut policy(&[]), &asked(Moment::Tick, 3, 29_999, late)).decision,
            Decision::Harvest
        );
    }

    #[test]
    fn what_a_round_left_is_harvested_before_post_copy() {
        let mut policy = policy(&[]);
        let end = answer(&mut policy, &asked(Moment::RoundEnd, 3, 0, "1h"));
        assert_eq!(end.decision, Decision::Continue);
        let start = answer(&mut policy, &asked(Moment::RoundStart, 4, 90_000, "1h"));
        assert_eq!(start.decision, Decision::PostCopy);
    }

    #[test]
    fn rounds_ask_for_post_copy_when_they_are_done() {
        let mut policy = policy(&[("postcopy-after", "never"), ("postcopy-after-rounds", "2")]);
        for moment in [Moment::RoundStart, Moment::Tick] {
            let before = answer(&mut policy, &asked(moment, 1, 90_000, "1h"));
            assert_eq!(before.decision, Decision::Continue);
            let done = answer(&mut policy, &asked(moment, 2, 90_000, "1ms"));
            assert_eq!(done.decision, Decision::PostCopy);
        }
    }

    #[test]
    fn an_administrator_asks_for_post_copy_while_the_migration_runs() {
        let mut policy = policy(&[("postcopy-after", "never")]);
        let late = asked(Moment::Tick, 3, 90_000, "1h");
        assert_eq!(answer(&mut policy, &late).decision, Decision::Continue);
        policy.set_parameter("postcopy-after", "0s").expect("changeable");
        assert_eq!(answer(&mut policy, &late).decision, Decision::PostCopy);
    }

    #[test]
    fn the_rate_cap_does_not_hold_for_post_copy() {
        let mut policy = policy(&[("max-bandwidth", "128MiB/s")]);
        let start = answer(&mut policy, &asked(Moment::RoundStart, 0, 1 << 20, "0s"));
        assert!(matches!(start.adjust.rate_limit, Some(RateLimit::AtMost(_))));
        let verdict = answer(&mut policy, &asked(Moment::Tick, 0, 1 << 20, "10s"));
        assert_eq!(verdict.adjust.rate_limit, Some(RateLimit::Unlimited));
    }

    #[test]
    fn it_needs_post_copy() {
        assert!(policy(&[]).needs().post_copy && policy(&[]).needs().harvest_on_demand);
    }
}
