//! `qemu-auto-converge`: every vCPU is slowed, more and more, while the guest dirties too fast (Q2, Q3, Q4).
//!
//! `parameters::RULE` is the rule in short; what a period is, `periods` says.
//!
//! * From the first high period to 99 % takes nine steps of two high periods, each longer than a second.
//! * The share never falls while the migration runs, unless `max-throttle` is lowered below it; it is
//!   lifted when the migration ends (by the ground).
//! * At 99 % a vCPU runs 10 ms and sleeps 990 ms ([`Throttle::duty_cycle`]).
//! * A harvest of the periodic sync is one like any other: it starts a round with what is pending, and can
//!   end a period. QEMU before 9.2 has no such timer: `periodic-sync` is then `off`.
//! * The timer looks whether anything was harvested since it looked last, so up to 10 s can pass between
//!   two harvests.
//! * It excludes the dirty limit: that is another policy.
//!
//! Shares are whole percents from 1 to 99, the initial one is no more than the largest.

mod parameters;

pub(in crate::policy::presets) use self::parameters::INFO;
pub(super) use self::parameters::{CHANGEABLE, TRIGGER_THRESHOLD};
use super::periods::{High, Periods, percent};
use super::sync_timer::SyncTimer;
use crate::policy::{Decision, Verdict};
use crate::progress::{Moment, Progress};
use crate::throttle::Throttle;
use crate::units::{CpuShare, Share};

/// The shares that QEMU's throttle has, in percent.
const LEAST: u64 = 1;
const MOST: u64 = 99;

/// QEMU's auto-converge: its parameters, which may be changed between two moments, and its memory.
#[derive(Clone, Debug, PartialEq)]
pub struct AutoConverge {
    /// The share of CPU that is taken away first (`cpu-throttle-initial`).
    pub throttle_initial: Share,
    /// By how much the share grows (`cpu-throttle-increment`).
    pub throttle_increment: Share,
    /// The largest share (`max-cpu-throttle`).
    pub max_throttle: Share,
    /// What is dirtied in a period is too much above this share of what is sent
    /// (`throttle-trigger-threshold`).
    pub throttle_trigger_threshold: Share,
    /// Grow by no more than what would make the guest dirty just the threshold (`cpu-throttle-tailslow`).
    pub tailslow: bool,
    /// Harvest when nothing was harvested between two looks of a timer, 5 s apart (QEMU 9.2 on).
    pub periodic_sync: bool,
    periods: Periods,
    /// The share in force, in percent; 0: none yet.
    share: u64,
    timer: SyncTimer,
}

impl Default for AutoConverge {
    /// QEMU's defaults: 20 %, steps of 10 % up to 99 %, a threshold of 50 %, no tailslow, the periodic sync.
    fn default() -> Self {
        Self {
            throttle_initial: Share::percent(20),
            throttle_increment: Share::percent(10),
            max_throttle: Share::percent(99),
            throttle_trigger_threshold: Share::percent(50),
            tailslow: false,
            periodic_sync: true,
            periods: Periods::default(),
            share: 0,
            timer: SyncTimer::default(),
        }
    }
}

impl AutoConverge {
    /// The same parameters with the memory of `old`.
    #[must_use]
    pub(super) fn remembering(self, old: &Self) -> Self {
        Self { periods: old.periods, share: old.share, timer: old.timer, ..self }
    }

    /// The share of CPU in force.
    pub fn share(&self) -> CpuShare {
        CpuShare::clamped(self.share as f64 / 100.0)
    }

    /// The rule's verdict with what auto-converge adds.
    pub(super) fn add(&mut self, moment: Moment, progress: &Progress, verdict: Verdict) -> Verdict {
        let verdict = self.throttle(moment, progress, verdict);
        if self.periodic_sync { self.timer.add(moment, progress, verdict) } else { verdict }
    }

    fn throttle(&mut self, moment: Moment, progress: &Progress, mut verdict: Verdict) -> Verdict {
        if moment != Moment::RoundStart {
            return verdict;
        }
        let Some(high) = self.periods.harvested(progress, self.throttle_trigger_threshold) else {
            return verdict;
        };
        let share = self.next_share(&high);
        if share == self.share {
            return verdict;
        }
        self.share = share;
        verdict.adjust.throttle = Some(Throttle::duty_cycle(self.share()));
        if verdict.decision == Decision::Continue {
            verdict.reason = high.reason();
        }
        verdict
    }

    /// The share after two high periods, in percent.
    fn next_share(&self, high: &High) -> u64 {
        let most = percent(self.max_throttle);
        let wanted =
            if self.share == 0 { percent(self.throttle_initial) } else { self.share + self.step(high) };
        wanted.min(most).clamp(LEAST, MOST)
    }

    fn step(&self, high: &High) -> u64 {
        let increment = percent(self.throttle_increment);
        if !self.tailslow {
            return increment;
        }
        let running = 100 - self.share;
        // A high period is above its threshold, so it is not empty.
        let ideal = running as f64 * (high.threshold.as_f64() / high.dirty.as_f64());
        running.saturating_sub(ideal as u64).min(increment)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::testing::Harvests;
    use super::super::{Qemu, QemuDefault};
    use super::*;
    use crate::policy::Policy;
    use crate::policy::presets::testing::{Guest, curve};
    use crate::units::Pages;

    fn converging(change: impl FnOnce(&mut AutoConverge)) -> Qemu {
        let mut auto_converge = AutoConverge::default();
        change(&mut auto_converge);
        Qemu::converging(QemuDefault::default(), auto_converge)
    }

    /// The shares that `periods` high ones issue, in percent, each with the number of periods until then.
    fn ramp(policy: &mut Qemu, at: &mut Harvests, periods: usize) -> Vec<(usize, u64)> {
        let mut issued = Vec::new();
        if at.0.round == 0 {
            policy.decide(Moment::RoundStart, &at.0);
        }
        for period in 1..=periods {
            let verdict = policy.decide(Moment::RoundStart, at.high());
            if let Some(throttle) = verdict.adjust.throttle {
                issued.push((period, (throttle.share().as_f64() * 100.0).round() as u64));
            }
        }
        issued
    }

    #[test]
    fn the_ramp_to_99_percent_takes_nine_steps_of_two_high_periods() {
        let (mut policy, mut at) = (converging(|_| ()), Harvests::new());
        let steps = [(2, 20), (4, 30), (6, 40), (8, 50), (10, 60), (12, 70), (14, 80), (16, 90), (18, 99)];
        assert_eq!(ramp(&mut policy, &mut at, 18), steps);
        assert!(at.0.elapsed() > Duration::from_secs(18), "each period is longer than a second");
        assert_eq!(ramp(&mut policy, &mut at, 100), []);
    }

    #[test]
    fn at_99_percent_a_vcpu_runs_10_ms_and_sleeps_990() {
        let (mut policy, mut at) = (converging(|_| ()), Harvests::new());
        ramp(&mut policy, &mut at, 18);
        let Throttle::DutyCycle { share, run } = Throttle::duty_cycle(policy_share(&policy)) else {
            panic!("not a duty cycle");
        };
        let sleep = run.as_secs_f64() * share.as_f64() / share.rest().as_f64();
        assert_eq!(run.as_millis(), 10);
        assert!((sleep - 0.990).abs() < 1e-9, "{sleep}");
    }

    fn policy_share(policy: &Qemu) -> CpuShare {
        policy.auto_converge.as_ref().expect("converging").share()
    }

    #[test]
    fn tailslow_takes_no_more_than_would_meet_the_threshold() {
        // At 20 % the guest runs for 80: dirtying 10/9 of the threshold it would have to run for 72.
        let step = |share, threshold: u64, dirty: u64| {
            let (mut policy, mut at) = (converging(|auto| auto.tailslow = true), Harvests::new());
            policy.auto_converge.as_mut().expect("converging").share = share;
            policy.decide(Moment::RoundStart, &at.0);
            for _ in 0..2 {
                policy.decide(Moment::RoundStart, at.next(1_001, dirty, 2 * threshold * 4_096));
            }
            policy.auto_converge.expect("converging").share - share
        };
        assert_eq!(step(20, 900, 1_000), 8);
        assert_eq!(step(20, 999, 1_000), 1);
        assert_eq!(step(20, 500, 1_000), 10);
        assert_eq!(step(90, 900, 1_000), 1);
        // The ideal share is rounded down: 80 x 0.93 = 74.4.
        assert_eq!(step(20, 930, 1_000), 6);
    }

    #[test]
    fn shares_are_held_to_what_qemu_has() {
        let shares = |change: fn(&mut AutoConverge)| {
            let (mut policy, mut at) = (converging(change), Harvests::new());
            ramp(&mut policy, &mut at, 6).into_iter().map(|(_, share)| share).collect::<Vec<_>>()
        };
        assert_eq!(shares(|auto| auto.max_throttle = Share::ONE), [20, 30, 40]);
        assert_eq!(shares(|auto| auto.throttle_initial = Share::ONE), [99]);
        assert_eq!(shares(|auto| auto.throttle_initial = Share::ZERO), [1, 11, 21]);
        assert_eq!(shares(|auto| auto.max_throttle = Share::percent(25)), [20, 25]);
        assert_eq!(shares(|auto| auto.max_throttle = Share::percent(10)), [10]);
        assert_eq!(shares(|auto| auto.throttle_increment = Share::ZERO), [20]);
    }

    #[test]
    fn parameters_changed_live_are_followed_and_the_share_is_kept() {
        let (mut policy, mut at) = (converging(|_| ()), Harvests::new());
        assert_eq!(ramp(&mut policy, &mut at, 5), [(2, 20), (4, 30)]);
        for (name, value) in [("throttle-initial", "5%"), ("throttle-increment", "3%"), ("tailslow", "off")] {
            policy.set_parameter(name, value).expect("changeable");
        }
        // The fifth period was high, too.
        assert_eq!(ramp(&mut policy, &mut at, 3), [(1, 33), (3, 36)]);
        // An administrator who lowers the largest share lowers the guest's.
        policy.set_parameter("max-throttle", "25%").expect("changeable");
        assert_eq!(ramp(&mut policy, &mut at, 4), [(2, 25)]);
        policy.set_parameter("throttle-trigger-threshold", "100%").expect("changeable");
        policy.set_parameter("max-throttle", "99%").expect("changeable");
        assert_eq!(policy.parameters().len(), INFO.parameters.len());
        assert_eq!(ramp(&mut policy, &mut at, 2), [(2, 28)]);
    }

    #[test]
    fn what_cannot_be_changed_live_is_refused_and_changes_nothing() {
        let mut policy = converging(|_| ());
        let before = policy.clone();
        for (name, value) in
            [("periodic-sync", "off"), ("max-throttle", "101%"), ("tailslow", "yes"), ("rounds", "1")]
        {
            let error = policy.set_parameter(name, value).expect_err(name);
            assert_eq!((error.policy.as_str(), error.parameter.as_str()), (INFO.name, name));
            assert_eq!(policy, before);
        }
    }

    #[test]
    fn it_slows_by_duty_cycles_and_asks_for_no_more() {
        let needs = converging(|_| ()).needs();
        assert!(needs.throttle && needs.harvest_on_demand);
        assert!(!needs.dirty_limit && !needs.post_copy && !needs.pause);
        let slowed = Guest {
            name: "busy",
            memory: Pages(1 << 18),
            working_set: Pages(1 << 16),
            rate: 100_000,
            link: "1Gbit/s".parse().expect("a bandwidth"),
        };
        let steps = curve(&mut converging(|_| ()), slowed, 60);
        let throttles: Vec<_> = steps.iter().filter_map(|step| step.verdict.adjust.throttle).collect();
        assert!(!throttles.is_empty());
        assert!(throttles.iter().all(|throttle| matches!(throttle, Throttle::DutyCycle { .. })));
    }

    #[test]
    fn a_guest_that_converges_by_itself_is_left_alone() {
        let quiet = Guest {
            name: "quiet",
            memory: Pages(1 << 18),
            working_set: Pages(1 << 16),
            rate: 8_000,
            link: "1Gbit/s".parse().expect("a bandwidth"),
        };
        let alone = curve(&mut Qemu::new(QemuDefault::default()), quiet, 60);
        let with = curve(&mut converging(|_| ()), quiet, 60);
        let last = |steps: &[crate::policy::presets::testing::Step]| {
            let step = steps.last().expect("asked");
            (step.situation.progress.now, step.verdict.decision)
        };
        assert_eq!(last(&alone), last(&with));
        assert!(with.iter().all(|step| step.verdict.adjust.throttle.is_none()));
    }

    proptest! {
        /// Whatever is dirtied and sent, the share never falls, and never rises by more than a step.
        #[test]
        fn the_share_never_falls(
            tailslow in any::<bool>(),
            periods in prop::collection::vec((1..3_000u64, 0..10_000u64, 0..20_000_000u64), 1..80),
        ) {
            let (mut policy, mut at) = (converging(|auto| auto.tailslow = tailslow), Harvests::new());
            policy.decide(Moment::RoundStart, &at.0);
            let mut share = 0;
            for (millis, dirty, sent) in periods {
                policy.decide(Moment::RoundStart, at.next(millis, dirty, sent));
                let now = policy.auto_converge.as_ref().expect("converging").share;
                prop_assert!(now >= share && now <= 99);
                prop_assert!(share == 0 || now - share <= 10);
                share = now;
            }
        }
    }
}
