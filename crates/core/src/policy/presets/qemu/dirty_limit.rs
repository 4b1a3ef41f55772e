//! `qemu-dirty-limit`: every vCPU is held to a rate of dirtying while the guest dirties too fast (Q2, Q3,
//! Q5, Q8).
//!
//! [`RULE`] is the rule.
//!
//! * One step, not a ramp: the limit is in force at once, and stays until the migration ends.
//! * It needs KVM's dirty ring. The loop that finds each vCPU's sleep, once a `vcpu-dirty-limit-period`, is
//!   the ground's ([`Throttle::DirtyLimit`]): a vCPU that only reads is not slowed.
//! * It excludes auto-converge, as QEMU does: this policy has none. The timer of the periodic sync is
//!   auto-converge's alone, so a long round ends no period here.
//! * A quota that is changed while the migration runs is put in force at the next second high period; a
//!   changed period at once.

use std::time::Duration;

use super::auto_converge::TRIGGER_THRESHOLD;
use super::limits::{self, DOWNTIME, MAX_BANDWIDTH, SWITCHOVER};
use super::periods::Periods;
use super::{Q1, Q2, Q3, Q5, Q6, Q8, Qemu, QemuDefault};
use crate::policy::presets::parameters::Given;
use crate::policy::presets::{ParameterInfo, ParameterKind, PresetError, PresetInfo};
use crate::policy::{Cadence, ChangeError, Decision, Policy, Verdict};
use crate::progress::{Capabilities, Moment, Progress};
use crate::throttle::Throttle;
use crate::units::{Bandwidth, Share, duration};

const LIMIT: &str = "vcpu-dirty-limit";
const PERIOD: &str = "vcpu-dirty-limit-period";
const SHORTEST_PERIOD: Duration = Duration::from_millis(1);
const LONGEST_PERIOD: Duration = Duration::from_secs(1);

/// The rule in short, at the defaults.
const RULE: &str = "\
what qemu-default does, and
at a harvest, once two periods (of more than 1 s) were high: a period is high
if more was dirtied in it than throttle-trigger-threshold x sent:
    quota of every vCPU = vcpu-dirty-limit";

/// What people should know of it besides.
const NOTES: &[&str] = &[
    "QEMU counts its `vcpu-dirty-limit` in MB/s and means 2^20 bytes: its default of 1 is `1MiB/s` \
     here. It takes whole numbers alone and periods from 1 ms to 1 s; here any quota is taken, and a \
     shorter period is held to 1 ms.",
    "The loop that finds each vCPU's sleep is the ground's: a vCPU that only reads is not slowed.",
];

pub(in crate::policy::presets) const INFO: PresetInfo = PresetInfo {
    name: "qemu-dirty-limit",
    summary: "QEMU with its dirty limit: as `qemu-default`, and holds every vCPU to 1 MiB/s of dirtied \
              memory once the guest dirties more than half of what is sent. Needs KVM's dirty ring.",
    approximate: None,
    rule: RULE,
    notes: NOTES,
    sources: &[Q1, Q2, Q3, Q5, Q6, Q8],
    parameters: &[
        DOWNTIME,
        SWITCHOVER,
        MAX_BANDWIDTH,
        TRIGGER_THRESHOLD,
        ParameterInfo {
            name: LIMIT,
            kind: ParameterKind::Bandwidth,
            default: "1MiB/s",
            doc: "What a vCPU may dirty. QEMU's unit is called MB/s and is 2^20 bytes a second.",
            source: "Q2",
        },
        ParameterInfo {
            name: PERIOD,
            kind: ParameterKind::Duration { most: Some(LONGEST_PERIOD) },
            default: "1s",
            doc: "How often the sleep of a vCPU is corrected (QEMU's x-vcpu-dirty-limit-period), at least \
                  1ms.",
            source: "Q2",
        },
    ],
    build: |given| Ok(Box::new(QemuDirtyLimit::read(given)?)),
};

/// What an administrator changes of them while a migration runs: all.
const CHANGEABLE: [&str; 6] =
    [limits::NAMES[0], limits::NAMES[1], limits::NAMES[2], TRIGGER_THRESHOLD.name, LIMIT, PERIOD];

/// QEMU's rule with the dirty limit.
#[derive(Clone, Debug, PartialEq)]
pub struct QemuDirtyLimit {
    /// Without auto-converge, always.
    qemu: Qemu,
    throttle_trigger_threshold: Share,
    vcpu_dirty_limit: Bandwidth,
    vcpu_dirty_limit_period: Duration,
    periods: Periods,
    /// The quota since the last second high period; none: not limited yet.
    quota: Option<Bandwidth>,
    in_force: Option<Throttle>,
}

impl QemuDirtyLimit {
    fn read(given: &Given<'_>) -> Result<Self, PresetError> {
        Ok(Self {
            qemu: Qemu::new(QemuDefault::read(given)?),
            throttle_trigger_threshold: given.share(TRIGGER_THRESHOLD.name)?,
            vcpu_dirty_limit: given.bandwidth(LIMIT)?,
            vcpu_dirty_limit_period: given.duration(PERIOD)?,
            periods: Periods::default(),
            quota: None,
            in_force: None,
        })
    }

    /// The verdict with the throttle, if another is in force.
    fn limit(&mut self, moment: Moment, progress: &Progress, mut verdict: Verdict) -> Verdict {
        if moment == Moment::RoundStart
            && let Some(high) = self.periods.harvested(progress, self.throttle_trigger_threshold)
        {
            let before = self.quota.replace(self.vcpu_dirty_limit);
            if before != self.quota && verdict.decision == Decision::Continue {
                verdict.reason = high.reason();
            }
        }
        let period = self.vcpu_dirty_limit_period.max(SHORTEST_PERIOD);
        let wanted = self.quota.map(|quota| Throttle::DirtyLimit { quota, period });
        if wanted != self.in_force {
            self.in_force = wanted;
            verdict.adjust.throttle = wanted;
        }
        verdict
    }
}

impl Policy for QemuDirtyLimit {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut texts = limits::texts(&self.qemu.rule);
        texts.extend([
            (TRIGGER_THRESHOLD.name, self.throttle_trigger_threshold.to_string()),
            (LIMIT, self.vcpu_dirty_limit.to_string()),
            (PERIOD, duration::format(self.vcpu_dirty_limit_period)),
        ]);
        texts
    }

    fn cadence(&self) -> Cadence {
        self.qemu.cadence()
    }

    fn needs(&self) -> Capabilities {
        Capabilities { dirty_limit: true, ..self.qemu.needs() }
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        let verdict = self.qemu.decide(moment, progress);
        self.limit(moment, progress, verdict)
    }

    fn set_parameter(&mut self, name: &str, value: &str) -> Result<(), ChangeError> {
        let fresh = limits::changed(self, (&INFO, &CHANGEABLE), (name, value), Self::read)?;
        self.qemu.rule = fresh.qemu.rule;
        self.throttle_trigger_threshold = fresh.throttle_trigger_threshold;
        self.vcpu_dirty_limit = fresh.vcpu_dirty_limit;
        self.vcpu_dirty_limit_period = fresh.vcpu_dirty_limit_period;
        Ok(())
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Harvests;
    use super::*;

    fn limited() -> QemuDirtyLimit {
        QemuDirtyLimit::read(&Given::new(&INFO, &std::collections::BTreeMap::new()).expect("none"))
            .expect("defaults")
    }

    /// What `periods` high ones issue, each with the number of periods until then.
    fn issued(policy: &mut QemuDirtyLimit, at: &mut Harvests, periods: usize) -> Vec<(usize, Throttle)> {
        let issue = |period| {
            let throttle = policy.decide(Moment::RoundStart, at.high()).adjust.throttle?;
            Some((period, throttle))
        };
        (1..=periods).filter_map(issue).collect()
    }

    fn throttle(mib: u64, millis: u64) -> Throttle {
        let quota = Bandwidth::new(mib << 20).expect("not zero");
        Throttle::DirtyLimit { quota, period: Duration::from_millis(millis) }
    }

    fn started() -> (QemuDirtyLimit, Harvests) {
        let (mut policy, at) = (limited(), Harvests::new());
        policy.decide(Moment::RoundStart, &at.0);
        (policy, at)
    }

    #[test]
    fn the_second_high_period_puts_1_mib_a_second_in_force_once_and_for_all() {
        let (mut policy, mut at) = started();
        assert_eq!(issued(&mut policy, &mut at, 100), [(2, throttle(1, 1_000))]);
    }

    #[test]
    fn the_verdict_says_which_period_was_high() {
        let (mut policy, mut at) = started();
        policy.decide(Moment::RoundStart, at.high());
        let verdict = policy.decide(Moment::RoundStart, at.high());
        assert!(verdict.reason.to_string().starts_with("dirtied-in-period 7.8 MiB > bearable 2.0 MiB"));
    }

    #[test]
    fn a_changed_quota_waits_for_the_next_second_high_period_and_a_changed_period_does_not() {
        let (mut policy, mut at) = started();
        issued(&mut policy, &mut at, 2);
        policy.set_parameter("vcpu-dirty-limit", "4MiB/s").expect("changeable");
        assert_eq!(issued(&mut policy, &mut at, 3), [(2, throttle(4, 1_000))]);
        policy.set_parameter("vcpu-dirty-limit-period", "200ms").expect("changeable");
        let tick = policy.decide(Moment::Tick, at.tick(1));
        assert_eq!(tick.adjust.throttle, Some(throttle(4, 200)));
        policy.set_parameter("vcpu-dirty-limit-period", "0s").expect("held to the shortest");
        assert_eq!(policy.decide(Moment::Tick, at.tick(1)).adjust.throttle, Some(throttle(4, 1)));
    }

    #[test]
    fn nothing_is_in_force_before_the_second_high_period_whatever_is_changed() {
        let (mut policy, mut at) = started();
        policy.set_parameter("vcpu-dirty-limit", "4MiB/s").expect("changeable");
        policy.set_parameter("vcpu-dirty-limit-period", "200ms").expect("changeable");
        assert_eq!(issued(&mut policy, &mut at, 1), []);
        assert_eq!(issued(&mut policy, &mut at, 1), [(1, throttle(4, 200))]);
    }

    #[test]
    fn it_needs_the_dirty_ring_and_never_a_duty_cycle() {
        let needs = limited().needs();
        assert!(needs.dirty_limit && needs.harvest_on_demand && !needs.throttle);
        assert_eq!(limited().qemu.auto_converge, None);
    }

    #[test]
    fn a_long_round_is_not_harvested_by_a_timer() {
        let (mut policy, mut at) = started();
        policy.decide(Moment::RoundStart, at.high());
        for _ in 0..100 {
            assert_eq!(policy.decide(Moment::Tick, at.tick(1_000)).decision, Decision::Continue);
        }
    }
}
