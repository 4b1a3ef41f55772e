//! `cloud-hypervisor`: its pre-copy loop (C2, C3, C4).
//!
//! [`RULE`] is the rule.
//!
//! Nothing is looked at inside a round, so with a round of an hour the timeout comes an hour late.

use std::time::Duration;

use super::parameters::Given;
use super::{ParameterInfo, ParameterKind, PresetError, PresetInfo, Source, unknown_above};
use crate::policy::{
    BandwidthWindow, Cadence, Decision, Gate, Policy, Quantity, Reason, Relation, SwitchoverWhen, Until,
    Verdict,
};
use crate::progress::{Moment, Progress};
use crate::units::duration;

/// Stops when the remainder is estimated to fit the downtime limit; bounded in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudHypervisor {
    /// The switchover comes when the estimated downtime is at most this.
    pub downtime_limit: Duration,
    /// Time after which, at the next start of a round, `timeout_strategy` applies.
    pub timeout: Duration,
    /// What happens then.
    pub timeout_strategy: TimeoutStrategy,
}

/// What happens when the time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeoutStrategy {
    /// The migration fails, the guest stays.
    Cancel,
    /// The guest is paused and handed over, whatever is left.
    Ignore,
}

impl TimeoutStrategy {
    /// The word for it in scenario files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Ignore => "ignore",
        }
    }
}

/// The rule in short, at the defaults.
const RULE: &str = "\
at the start of a round, with its dirty table:
    estimate = table's bytes / bandwidth of the round before (that round only)
    empty, or estimate <= 300 ms: stop; the table is not sent live
    3600 s have passed: give up, or stop all the same
send the table, wait for its acknowledgement";

/// What people should know of it besides.
const NOTES: &[&str] =
    &["Not modelled: after the snapshot it sends what devices dirtied meanwhile, a second time; here \
     the guest writes nothing once it is paused."];

pub(super) const INFO: PresetInfo = PresetInfo {
    name: "cloud-hypervisor",
    summary: "Cloud Hypervisor: stops when a round starts with what fits the downtime limit at the last \
              round's bandwidth; bounded in time.",
    approximate: None,
    rule: RULE,
    notes: NOTES,
    sources: &[
        Source { tag: "C2", what: "cloud-hypervisor vmm/src/lib.rs", version: "ae44c297" },
        Source {
            tag: "C3",
            what: "cloud-hypervisor vm-migration/src/{protocol,context,lib}.rs",
            version: "ae44c297",
        },
        Source {
            tag: "C4",
            what: "cloud-hypervisor vmm/src/api/mod.rs, vmm/src/memory_manager.rs",
            version: "ae44c297",
        },
    ],
    parameters: &[
        ParameterInfo {
            name: "downtime-limit",
            kind: ParameterKind::Duration { most: None },
            default: "300ms",
            doc: "The switchover comes when the remainder is estimated to take at most this.",
            source: "C4",
        },
        ParameterInfo {
            name: "timeout",
            kind: ParameterKind::Duration { most: None },
            default: "1h",
            doc: "Time after which, at the next start of a round, the timeout strategy applies.",
            source: "C4",
        },
        ParameterInfo {
            name: "timeout-strategy",
            kind: ParameterKind::Choice(&["cancel", "ignore"]),
            default: "cancel",
            doc: "When the time is up: cancel the migration, or ignore the downtime limit and hand over.",
            source: "C4",
        },
    ],
    build,
};

fn build(given: &Given<'_>) -> Result<Box<dyn Policy>, PresetError> {
    Ok(Box::new(CloudHypervisor {
        downtime_limit: given.duration("downtime-limit")?,
        timeout: given.duration("timeout")?,
        timeout_strategy: if given.choice("timeout-strategy")? == TimeoutStrategy::Ignore.as_str() {
            TimeoutStrategy::Ignore
        } else {
            TimeoutStrategy::Cancel
        },
    }))
}

impl Policy for CloudHypervisor {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("downtime-limit", duration::format(self.downtime_limit)),
            ("timeout", duration::format(self.timeout)),
            ("timeout-strategy", self.timeout_strategy.as_str().to_owned()),
        ]
    }

    fn cadence(&self) -> Cadence {
        Cadence { tick: None, bandwidth: BandwidthWindow::Round, gate: Gate::Wait }
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        const ESTIMATE: &str = "estimated downtime";
        let limit = ("downtime-limit", Quantity::Duration(self.downtime_limit));
        if moment != Moment::RoundStart {
            return Verdict::new(Decision::Continue, unknown_above(ESTIMATE, limit))
                .holding(Until::ROUND_END);
        }
        let pending = progress.pending_bytes();
        let estimate = if pending.is_zero() {
            Some(Duration::ZERO)
        } else {
            progress.bandwidth.map(|bandwidth| bandwidth.time_to_send(pending))
        };
        // An unknown estimate is above every limit.
        let small = estimate.is_some_and(|estimate| estimate <= self.downtime_limit);
        let bandwidth = progress.bandwidth.map_or(Quantity::Unknown, Quantity::Bandwidth);
        let relation = if small { Relation::AtMost } else { Relation::Above };
        let estimated = (ESTIMATE, estimate.map_or(Quantity::Unknown, Quantity::Duration));
        let rule = Reason::new(estimated, relation, limit)
            .with("pending", Quantity::Bytes(pending))
            .with("bandwidth", bandwidth);
        let switchover = |forced| Decision::Switchover { when: SwitchoverWhen::Now, forced };
        if small {
            return Verdict::new(switchover(false), rule);
        }
        if progress.elapsed() >= self.timeout {
            let elapsed = ("elapsed", Quantity::Duration(progress.elapsed()));
            let timeout = ("timeout", Quantity::Duration(self.timeout));
            let reason = Reason::new(elapsed, Relation::AtLeast, timeout)
                .with(estimated.0, estimated.1)
                .with(limit.0, limit.1);
            return match self.timeout_strategy {
                TimeoutStrategy::Cancel => Verdict::new(Decision::Abort, reason),
                TimeoutStrategy::Ignore => Verdict::new(switchover(true), reason),
            };
        }
        Verdict::new(Decision::Continue, rule).holding(Until::ROUND_END)
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Situation, answer, steps};
    use super::*;

    const CANCEL: CloudHypervisor = CloudHypervisor {
        downtime_limit: Duration::from_millis(300),
        timeout: Duration::from_hours(1),
        timeout_strategy: TimeoutStrategy::Cancel,
    };

    const fn stop(forced: bool) -> Decision {
        Decision::Switchover { when: SwitchoverWhen::Now, forced }
    }

    fn start(round: u32, pending: u64) -> Situation {
        Situation::new("start", Moment::RoundStart, round, pending)
    }

    fn decision(situation: &Situation) -> Decision {
        answer(&mut CANCEL.clone(), situation).decision
    }

    #[test]
    fn an_estimate_equal_to_the_limit_fits() {
        // 30,000 pages of 4 KiB in exactly 300 ms.
        let exact = "409600000B/s";
        assert_eq!(decision(&start(3, 30_000).at(exact)), stop(false));
        assert_eq!(decision(&start(3, 30_001).at(exact)), Decision::Continue);
    }

    #[test]
    fn the_table_that_fits_is_not_sent_live() {
        // `Now`, not `AfterRound`.
        assert_eq!(decision(&start(3, 10).at("1Gbit/s")), stop(false));
    }

    #[test]
    fn without_a_bandwidth_there_is_no_estimate_and_the_round_is_sent() {
        assert_eq!(decision(&start(0, 1)), Decision::Continue);
        assert_eq!(decision(&start(0, 0)), stop(false));
    }

    #[test]
    fn only_the_bandwidth_of_the_last_round_counts() {
        assert_eq!(CANCEL.cadence().bandwidth, BandwidthWindow::Round);
        assert_eq!(CANCEL.cadence().gate, Gate::Wait);
        let rounds = [
            start(1, 30_000).at("100Mbit/s"),
            start(2, 30_000).at("1Gbit/s"),
            // One fast round is enough.
            start(3, 30_000).at("10Gbit/s"),
        ];
        let decisions: Vec<_> =
            steps(&mut CANCEL.clone(), &rounds).iter().map(|step| step.verdict.decision).collect();
        assert_eq!(decisions, [Decision::Continue, Decision::Continue, stop(false)]);
    }

    #[test]
    fn a_round_of_an_hour_makes_the_timeout_an_hour_late() {
        let late = [
            start(4, 1 << 20).at("1Gbit/s").after("3599s"),
            Situation::new("inside", Moment::Tick, 4, 1 << 19).at("1Gbit/s").after("3600s"),
            Situation::new("end", Moment::RoundEnd, 4, 0).at("1Gbit/s").after("7199s"),
            start(5, 1 << 20).at("1Gbit/s").after("7199s"),
        ];
        let steps = steps(&mut CANCEL.clone(), &late);
        let decisions: Vec<_> = steps.iter().map(|step| step.verdict.decision).collect();
        let goes_on = Decision::Continue;
        assert_eq!(decisions, [goes_on, goes_on, goes_on, Decision::Abort]);
    }

    #[test]
    fn the_timeout_includes_its_last_moment() {
        let busy = || start(9, 1 << 20).at("1Gbit/s");
        assert_eq!(decision(&busy().after("3599.999s")), Decision::Continue);
        assert_eq!(decision(&busy().after("3600s")), Decision::Abort);
    }

    #[test]
    fn ignoring_the_timeout_hands_over_unconverged() {
        let mut policy = CloudHypervisor { timeout_strategy: TimeoutStrategy::Ignore, ..CANCEL };
        let late = start(9, 1 << 20).at("1Gbit/s").after("1h");
        assert_eq!(answer(&mut policy, &late).decision, stop(true));
    }

    #[test]
    fn what_fits_is_handed_over_even_after_the_timeout() {
        assert_eq!(decision(&start(9, 10).at("1Gbit/s").after("2h")), stop(false));
    }
}
