//! `qemu-default`: QEMU's own rule, without auto-converge or a dirty limit (Q1, Q2, Q3, Q6).
//!
//! The rule is in the [parent module](super). Built as a [`Qemu`], which remembers the rate cap in force,
//! so that an administrator can change that. [`QemuDefault`] alone is a policy, too, for whoever changes
//! nothing.

use super::limits::{self, DOWNTIME, MAX_BANDWIDTH, SWITCHOVER};
use super::{Q1, Q2, Q3, Q6, Qemu, QemuDefault, rate};
use crate::policy::presets::parameters::Given;
use crate::policy::presets::{PresetError, PresetInfo};
use crate::policy::{Cadence, Policy, RateLimit, Verdict};
use crate::progress::{Capabilities, Moment, Progress};

/// The rule in short, at the defaults.
const RULE: &str = "\
every 100 ms:
    threshold = bandwidth of that window x downtime limit # 0 before the first
every 51 ms of sending (more than 50, in whole milliseconds):
    pending < threshold: harvest at once, all sent or not; count again
    pending == 0 or pending < threshold:
        stop the guest, lift the rate cap, send the rest";

/// What people should know of it besides.
const NOTES: &[&str] = &[
    "What the last harvest, with the guest paused, finds is compared with nothing: the true downtime \
     can exceed the limit.",
    "Not modelled: newer QEMU may harvest in the exact count even where the estimate is above the \
     threshold, which was not checked against a source.",
    "Assumed: the threshold is 0 before the first window has ended.",
    "So a bulk round that is over by then is followed by the last copy at once. Not modelled: versions that \
     harvest where the estimate is at most the threshold, not below it (9.0), go on with short rounds \
     instead until the window has ended.",
    "Rounds shorter than a window are judged by the window before: after a slow one they follow each other \
     until the next has ended.",
];

pub(in crate::policy::presets) const INFO: PresetInfo = PresetInfo {
    name: "qemu-default",
    summary: "QEMU: stops when what is pending fits the downtime limit at the bandwidth of the last \
              100 ms; never gives up. Sends uncapped unless `max-bandwidth` is given (QEMU's own \
              default is 128 MiB/s).",
    approximate: None,
    rule: RULE,
    notes: NOTES,
    sources: &[Q1, Q2, Q3, Q6],
    parameters: &[DOWNTIME, SWITCHOVER, MAX_BANDWIDTH],
    build,
};

fn build(given: &Given<'_>) -> Result<Box<dyn Policy>, PresetError> {
    Ok(Box::new(Qemu::new(QemuDefault::read(given)?)))
}

impl Policy for QemuDefault {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        limits::texts(self)
    }

    fn cadence(&self) -> Cadence {
        Qemu::new(self.clone()).cadence()
    }

    fn needs(&self) -> Capabilities {
        Qemu::new(self.clone()).needs()
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        let verdict = self.verdict(moment, progress);
        match self.max_bandwidth {
            Some(cap)
                if moment == Moment::RoundStart
                    && progress.round == 0
                    && verdict.adjust.rate_limit.is_none() =>
            {
                verdict.adjusting(rate(RateLimit::AtMost(cap)))
            }
            _ => verdict,
        }
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::testing::{Situation, Step, answer, steps};
    use super::*;
    use crate::policy::{BandwidthWindow, Decision, Gate, SwitchoverWhen, Until};
    use crate::units::{Bandwidth, Pages};

    const QEMU: QemuDefault = QemuDefault {
        downtime_limit: Duration::from_millis(300),
        switchover_bandwidth: None,
        max_bandwidth: None,
    };
    /// At this rate the threshold is 30,000 pages of 4 KiB exactly.
    const EXACT: &str = "409600000B/s";
    const SWITCHOVER: Decision = Decision::Switchover { when: SwitchoverWhen::Now, forced: false };

    fn asked(moment: Moment, pending: u64) -> Situation {
        Situation::new("asked", moment, 3, pending)
    }

    fn decision(situation: &Situation) -> Decision {
        answer(&mut QEMU.clone(), situation).decision
    }

    fn decisions(steps: &[Step]) -> Vec<Decision> {
        steps.iter().map(|step| step.verdict.decision).collect()
    }

    #[test]
    fn the_comparison_is_strict() {
        assert_eq!(decision(&asked(Moment::Tick, 30_000).at(EXACT)), Decision::Continue);
        assert_eq!(decision(&asked(Moment::Tick, 29_999).at(EXACT)), Decision::Harvest);
        assert_eq!(decision(&asked(Moment::RoundStart, 30_000).at(EXACT)), Decision::Continue);
        assert_eq!(decision(&asked(Moment::RoundStart, 29_999).at(EXACT)), SWITCHOVER);
    }

    #[test]
    fn before_the_first_window_the_threshold_is_zero() {
        assert_eq!(decision(&asked(Moment::Tick, 1)), Decision::Continue);
        assert_eq!(decision(&asked(Moment::RoundStart, 1)), Decision::Continue);
        let mut given = QemuDefault { switchover_bandwidth: Bandwidth::new(1 << 30), ..QEMU };
        let early = answer(&mut given, &asked(Moment::Tick, 1));
        assert_eq!((early.decision, early.until), (Decision::Continue, Until::NEXT));
    }

    #[test]
    fn nothing_pending_is_enough_while_the_threshold_is_zero() {
        for moment in [Moment::Tick, Moment::RoundStart, Moment::RoundEnd] {
            assert_eq!(decision(&asked(moment, 0)), SWITCHOVER);
        }
    }

    #[test]
    fn at_a_rounds_end_with_a_threshold_the_machine_harvests_by_itself() {
        assert_eq!(decision(&asked(Moment::RoundEnd, 0).at(EXACT)), Decision::Continue);
    }

    #[test]
    fn an_early_harvest_ends_in_a_switchover_or_in_a_round_with_what_was_left() {
        let tick = asked(Moment::Tick, 29_000).at(EXACT);
        let few = [tick.clone(), asked(Moment::RoundStart, 29_500).at(EXACT)];
        assert_eq!(decisions(&steps(&mut QEMU.clone(), &few)), [Decision::Harvest, SWITCHOVER]);
        let many = [tick, asked(Moment::RoundStart, 90_000).at(EXACT)];
        let went_on = decisions(&steps(&mut QEMU.clone(), &many));
        assert_eq!(went_on, [Decision::Harvest, Decision::Continue]);
    }

    #[test]
    fn what_the_final_harvest_finds_is_never_compared() {
        // The guest dirties far more than the limit allows between this answer and its pause; nobody
        // asks again.
        let last =
            [asked(Moment::RoundStart, 29_999).at(EXACT), asked(Moment::RoundStart, 1 << 20).at(EXACT)];
        assert_eq!(decisions(&steps(&mut QEMU.clone(), &last)), [SWITCHOVER]);
    }

    #[test]
    fn never_gives_up() {
        let ages: Vec<_> = (0..1_000)
            .map(|round| {
                let moment = if round % 2 == 0 { Moment::RoundStart } else { Moment::Tick };
                Situation::new("old", moment, round * 1_000, 30_000).at(EXACT).after("300d")
            })
            .collect();
        assert_eq!(decisions(&steps(&mut QEMU.clone(), &ages)), [Decision::Continue; 1_000]);
    }

    #[test]
    fn one_noisy_window_is_enough_for_a_switchover() {
        let noisy = [
            asked(Moment::Tick, 100_000).at(EXACT),
            // Four times as fast for 100 ms.
            asked(Moment::Tick, 100_000).at("1638400000B/s"),
            asked(Moment::RoundStart, 100_000).at("1638400000B/s"),
        ];
        let steps = steps(&mut QEMU.clone(), &noisy);
        assert_eq!(decisions(&steps), [Decision::Continue, Decision::Harvest, SWITCHOVER]);
        // A simulator that skips ticks must notice: the first answer says so.
        assert!(steps[0].verdict.until.reached(&noisy[1].progress));
    }

    #[test]
    fn a_given_switchover_bandwidth_is_trusted_whatever_is_measured() {
        let given = Bandwidth::new(409_600_000);
        let mut policy = QemuDefault { switchover_bandwidth: given, ..QEMU };
        for measured in ["1B/s", "1Gbit/s", "400Gbit/s"] {
            let above = answer(&mut policy, &asked(Moment::Tick, 30_000).at(measured));
            assert_eq!(above.decision, Decision::Continue);
            assert_eq!(above.until.pending, Pages(29_999));
            assert_eq!(above.until.bandwidth, None);
            let below = answer(&mut policy, &asked(Moment::Tick, 29_999).at(measured));
            assert_eq!(below.decision, Decision::Harvest);
        }
    }

    #[test]
    fn a_tick_holds_until_the_bandwidth_is_above_the_measured_one() {
        let verdict = answer(&mut QEMU.clone(), &asked(Moment::Tick, 100_000).at(EXACT));
        assert_eq!(verdict.until.pending, Pages(29_999));
        assert_eq!(verdict.until.bandwidth, Bandwidth::new(409_600_000));
        assert_eq!(verdict.until.at, Until::ROUND_END.at);
    }

    #[test]
    fn the_rate_cap_is_set_once_and_lifted_for_the_last_copy() {
        let cap = Bandwidth::new(128 << 20).expect("not zero");
        let mut policy = QemuDefault { max_bandwidth: Some(cap), ..QEMU };
        let life = [
            Situation::new("bulk", Moment::RoundStart, 0, 1 << 20),
            Situation::new("tick", Moment::Tick, 0, 1 << 19).at(EXACT),
            Situation::new("next", Moment::RoundStart, 1, 1 << 19).at(EXACT),
            Situation::new("last", Moment::RoundStart, 2, 1).at(EXACT),
        ];
        let limits: Vec<_> =
            steps(&mut policy, &life).iter().map(|step| step.verdict.adjust.rate_limit).collect();
        assert_eq!(limits, [Some(RateLimit::AtMost(cap)), None, None, Some(RateLimit::Unlimited)]);
    }

    #[test]
    fn limits_changed_live_are_followed_by_the_next_verdict() {
        let mut policy = Qemu::new(QEMU);
        let tick = asked(Moment::Tick, 30_000).at(EXACT);
        assert_eq!(answer(&mut policy, &tick).decision, Decision::Continue);
        policy.set_parameter("downtime-limit", "301ms").expect("changeable");
        assert_eq!(answer(&mut policy, &tick).decision, Decision::Harvest);
        policy.set_parameter("switchover-bandwidth", "1MB/s").expect("changeable");
        assert_eq!(answer(&mut policy, &tick).decision, Decision::Continue);
    }

    #[test]
    fn a_cap_changed_live_is_put_in_force_by_the_next_verdict_and_once() {
        let mut policy = Qemu::new(QEMU);
        let tick = asked(Moment::Tick, 100_000).at(EXACT);
        let mut limits = |change: Option<&str>| {
            if let Some(value) = change {
                policy.set_parameter("max-bandwidth", value).expect("changeable");
            }
            [(); 2].map(|()| answer(&mut policy, &tick).adjust.rate_limit)
        };
        let cap = |mib: u64| Some(RateLimit::AtMost(Bandwidth::new(mib << 20).expect("not zero")));
        assert_eq!(limits(None), [None, None]);
        assert_eq!(limits(Some("128MiB/s")), [cap(128), None]);
        assert_eq!(limits(Some("128MiB/s")), [None, None]);
        assert_eq!(limits(Some("64MiB/s")), [cap(64), None]);
        assert_eq!(limits(Some("unlimited")), [Some(RateLimit::Unlimited), None]);
    }

    #[test]
    fn a_manager_that_holds_the_switchover_back_gets_its_cap_again() {
        let cap = Bandwidth::new(128 << 20);
        let mut policy = Qemu::new(QemuDefault { max_bandwidth: cap, ..QEMU });
        let life = [(Moment::RoundStart, 1 << 20), (Moment::RoundStart, 29_999), (Moment::Tick, 100_000)];
        let limits = life.map(|(moment, pending)| {
            answer(&mut policy, &asked(moment, pending).at(EXACT)).adjust.rate_limit
        });
        let capped = cap.map(RateLimit::AtMost);
        assert_eq!(limits, [capped, Some(RateLimit::Unlimited), capped]);
    }

    #[test]
    fn a_wrong_change_is_refused_and_changes_nothing() {
        let mut policy = Qemu::new(QEMU);
        for (name, value) in [("downtime-limit", "2001s"), ("throttle-initial", "20%"), ("max-bandwidth", "")]
        {
            let error = policy.set_parameter(name, value).expect_err(name);
            assert_eq!((error.policy.as_str(), error.parameter.as_str()), ("qemu-default", name));
            assert_eq!(policy, Qemu::new(QEMU));
        }
    }

    #[test]
    fn the_preset_decides_as_the_rule_alone() {
        let cap = Bandwidth::new(128 << 20);
        let rule = QemuDefault { max_bandwidth: cap, ..QEMU };
        let life = [
            Situation::new("bulk", Moment::RoundStart, 0, 1 << 20),
            Situation::new("tick", Moment::Tick, 0, 1 << 19).at(EXACT),
            Situation::new("few", Moment::Tick, 0, 29_999).at(EXACT),
            Situation::new("next", Moment::RoundStart, 1, 1 << 19).at(EXACT),
            Situation::new("last", Moment::RoundStart, 2, 1).at(EXACT),
        ];
        let verdicts = |policy: &mut dyn Policy| {
            steps(policy, &life).into_iter().map(|step| step.verdict).collect::<Vec<_>>()
        };
        assert_eq!(verdicts(&mut rule.clone()), verdicts(&mut Qemu::new(rule)));
    }

    #[test]
    fn slices_and_windows_are_qemus() {
        let cadence = QEMU.cadence();
        assert_eq!(cadence.tick, Some(Duration::from_millis(51)));
        assert_eq!(cadence.bandwidth, BandwidthWindow::Time(Duration::from_millis(100)));
        assert_eq!(cadence.gate, Gate::Pipelined);
    }
}
