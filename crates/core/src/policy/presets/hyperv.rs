//! `hyperv-5` and `hyperv-10`: as much of Hyper-V's rule as is public. *Approximate*: the size at which
//! it finds the remainder small enough, and whether it slows the guest, are not public.
//!
//! [`RULE`] is the rule.

use super::parameters::Given;
use super::{ParameterInfo, ParameterKind, PresetError, PresetInfo, Source, unknown_above};
use crate::policy::{
    BandwidthWindow, Cadence, Decision, Gate, Policy, Quantity, Reason, Relation, SwitchoverWhen, Until,
    Verdict,
};
use crate::progress::{Moment, Progress};
use crate::units::ByteCount;

/// Passes until the remainder is small or a number of passes is reached; then the blackout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HyperV {
    /// Whose default number of passes, and whose name.
    pub release: Release,
    /// Live passes over memory, the first counted, after which the guest is suspended in any case.
    pub passes: u32,
    /// A remainder of at most this ends pre-copy earlier. No claim of fidelity: the true threshold is
    /// not public.
    pub small_remainder: ByteCount,
}

/// Which Windows Server the number of passes is that of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Release {
    /// 2012 R2 and later: `hyperv-5`.
    R2012,
    /// 2008 R2: `hyperv-10`.
    R2008,
}

const APPROXIMATE: Option<&str> = Some(
    "Hyper-V's threshold for a small remainder and any slowing of the guest are not public; \
     only the order of the steps and the number of passes are",
);

const SOURCES: &[Source] = &[
    Source {
        tag: "HV1",
        what: "MicrosoftDocs/windowsserverdocs, set up hosts for live migration without Failover Clustering",
        version: "0480221f",
    },
    Source {
        tag: "HV8",
        what: "ramprasadtech.com, Hyper-V brownout, blackout and dirty pages events (secondary)",
        version: "2016",
    },
    Source {
        tag: "HV9",
        what: "directionsonmicrosoft.com, Live Migration Switch Over (10 passes); \
               book text at issuhub.com/view/index/6089 (5 passes) (secondary)",
        version: "2009; 2012 R2",
    },
];

const SMALL_REMAINDER: ParameterInfo = ParameterInfo {
    name: "small-remainder",
    kind: ParameterKind::Bytes,
    default: "1MiB",
    doc: "A remainder of at most this counts as \"very small\" and ends pre-copy. The default is ours: \
          Hyper-V's threshold is not public.",
    source: "ours",
};

/// The rule in short, at the defaults.
const RULE: &str = "\
pass 0 sends all memory, passes 1.. what was modified since
at the start of a pass:
    remainder is \"very small\" (small-remainder), or passes sent >= passes:
        suspend the guest, send the rest";

/// What people should know of it besides.
const NOTES: &[&str] =
    &["Compression, which Hyper-V uses by default, is the engine's affair, not the policy's."];

pub(super) const INFO_5: PresetInfo = PresetInfo {
    name: "hyperv-5",
    summary: "Hyper-V since 2012 R2: at most 5 live passes, fewer if the remainder gets small.",
    approximate: APPROXIMATE,
    rule: RULE,
    notes: NOTES,
    sources: SOURCES,
    parameters: &[
        ParameterInfo {
            name: "passes",
            kind: ParameterKind::Count,
            default: "5",
            doc: "Live passes over memory, the first counted, before the guest is suspended in any case.",
            source: "HV9",
        },
        SMALL_REMAINDER,
    ],
    build: |given| build(Release::R2012, given),
};

pub(super) const INFO_10: PresetInfo = PresetInfo {
    name: "hyperv-10",
    summary: "Hyper-V of 2008 R2: at most 10 live passes, fewer if the remainder gets small.",
    approximate: APPROXIMATE,
    rule: RULE,
    notes: NOTES,
    sources: SOURCES,
    parameters: &[
        ParameterInfo {
            name: "passes",
            kind: ParameterKind::Count,
            default: "10",
            doc: "Live passes over memory, the first counted, before the guest is suspended in any case.",
            source: "HV9",
        },
        SMALL_REMAINDER,
    ],
    build: |given| build(Release::R2008, given),
};

fn build(release: Release, given: &Given<'_>) -> Result<Box<dyn Policy>, PresetError> {
    Ok(Box::new(HyperV {
        release,
        passes: given.count("passes")?,
        small_remainder: given.bytes("small-remainder")?,
    }))
}

impl Policy for HyperV {
    fn name(&self) -> &'static str {
        match self.release {
            Release::R2012 => INFO_5.name,
            Release::R2008 => INFO_10.name,
        }
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![("passes", self.passes.to_string()), ("small-remainder", self.small_remainder.to_string())]
    }

    fn cadence(&self) -> Cadence {
        Cadence { tick: None, bandwidth: BandwidthWindow::Round, gate: Gate::Pipelined }
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        let small = ("small-remainder", Quantity::Bytes(self.small_remainder));
        if moment != Moment::RoundStart {
            return Verdict::new(Decision::Continue, unknown_above("remaining", small))
                .holding(Until::ROUND_END);
        }
        let remaining = ("remaining", Quantity::Bytes(progress.pending_bytes()));
        let sent = ("passes sent", Quantity::Count(progress.round.into()));
        let passes = ("passes", Quantity::Count(self.passes.into()));
        let switchover = |forced| Decision::Switchover { when: SwitchoverWhen::Now, forced };
        if progress.pending_bytes() <= self.small_remainder {
            return Verdict::new(switchover(false), Reason::new(remaining, Relation::AtMost, small));
        }
        if progress.round >= self.passes {
            let reason = Reason::new(sent, Relation::AtLeast, passes).with(remaining.0, remaining.1);
            return Verdict::new(switchover(true), reason);
        }
        let reason =
            Reason::new(remaining, Relation::Above, small).with(sent.0, sent.1).with(passes.0, passes.1);
        Verdict::new(Decision::Continue, reason).holding(Until::ROUND_END)
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::testing::{Guest, Situation, answer, curve};
    use super::*;
    use crate::units::Pages;

    fn sends_before_blackout(preset: &PresetInfo) -> (u32, Decision) {
        let busy = Guest {
            name: "busy",
            memory: Pages(1 << 18),
            working_set: Pages(1 << 17),
            rate: 1_000_000,
            link: "1Gbit/s".parse().expect("a bandwidth"),
        };
        let mut policy = preset.build(&BTreeMap::new()).expect("defaults");
        let steps = curve(&mut *policy, busy, 100);
        let last = steps.last().expect("asked at least once");
        (last.situation.progress.round, last.verdict.decision)
    }

    #[test]
    fn a_busy_guest_is_suspended_after_5_or_10_passes() {
        let forced = Decision::Switchover { when: SwitchoverWhen::Now, forced: true };
        assert_eq!(sends_before_blackout(&INFO_5), (5, forced));
        assert_eq!(sends_before_blackout(&INFO_10), (10, forced));
    }

    #[test]
    fn a_small_remainder_ends_pre_copy_earlier_and_is_not_sent_live() {
        let mut policy = HyperV { release: Release::R2012, passes: 5, small_remainder: ByteCount::mib(1) };
        let mut at =
            |pending| answer(&mut policy, &Situation::new("start", Moment::RoundStart, 2, pending)).decision;
        let converged = Decision::Switchover { when: SwitchoverWhen::Now, forced: false };
        assert_eq!(at(256), converged);
        assert_eq!(at(257), Decision::Continue);
    }

    #[test]
    fn neither_time_nor_bandwidth_counts() {
        let mut policy = HyperV { release: Release::R2012, passes: 5, small_remainder: ByteCount::mib(1) };
        let plain = Situation::new("start", Moment::RoundStart, 2, 5_000);
        let fast_and_late = plain.clone().at("400Gbit/s").after("30h");
        assert_eq!(answer(&mut policy, &plain), answer(&mut policy, &fast_and_late));
    }
}
