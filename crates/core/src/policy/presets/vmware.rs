//! `vmware-sdps`: Stun During Page Send, as much of it as is public. *Approximate*: vSphere's controller, its
//! cadence and its goal are not public; the model below is ours.
//!
//! Known (V1, V5, V6): vMotion compares the rate at which the guest dirties memory with the rate at which it
//! is sent; when the guest is faster, its vCPUs are made to sleep often and shortly, a few milliseconds at
//! most, so that pre-copy can finish; the switchover should take about a second; normally nobody is slowed.
//!
//! [`RULE`] is the rule.
//!
//! What of it is ours, and why, [`NOTES`] says.

use std::time::Duration;

use super::parameters::Given;
use super::{ParameterInfo, ParameterKind, PresetError, PresetInfo, Source, unknown_above};
use crate::policy::{
    Adjustments, BandwidthWindow, Cadence, Decision, Gate, Policy, Quantity, Reason, Relation,
    SwitchoverWhen, Until, Verdict,
};
use crate::progress::{Capabilities, Moment, Progress};
use crate::throttle::Throttle;
use crate::units::{Bandwidth, CpuShare, Share, Timestamp, duration};

/// Slows the guest by short sleeps until it dirties less than is sent; stops when the rest takes a second.
#[derive(Clone, Debug, PartialEq)]
pub struct VmwareSdps {
    /// The switchover comes when what is pending takes at most this to send.
    pub goal: Duration,
    /// The guest is slowed while its dirty rate is above this share of the rate of sending.
    pub margin: f64,
    /// Share of CPU taken away more, for each second and each rate of sending too much.
    pub gain: f64,
    /// Share of CPU given back in a second in which the guest is slow enough.
    pub decrease: f64,
    /// The most that is taken away.
    pub most: Share,
    /// Length of one sleep.
    pub sleep: Duration,
    /// What is taken away now.
    duty: CpuShare,
    /// When that was last corrected.
    corrected: Option<Timestamp>,
}

/// Time between two corrections inside a round, and the window of the rate of sending.
const PERIOD: Duration = Duration::from_secs(1);

/// The rule in short, at the defaults.
const RULE: &str = "\
at the start of a round: pending / rate of sending <= goal (1 s): switch over
at every moment, for the time since the moment before:
    dirty rate > margin (0.9) x rate of sending:
        duty += gain x (dirty rate / rate of sending - margin) x time
    else:
        duty -= decrease x time
    duty within 0 .. 0.95; taken in sleeps of 2 ms";

/// What people should know of it besides.
const NOTES: &[&str] = &[
    "Ours is the form of the rule, and that the switchover is judged only where what is pending is \
     known in full, when a round starts.",
    "Ours is `gain`, 0.5 a second: a guest that rewrites its working set in every round dirties as \
     fast as is sent, whatever its own speed; it gives up 5 % more of its time each second, and \
     pre-copy gains on it within some 10 seconds. So is `decrease`, 0.05 a second: as slowly, or \
     pre-copy would lose what it won.",
    "The dirty rate is that of the last harvest: within a long round the duty rises on old news, and \
     overshoots; it falls again in the next. Before the first round has ended none is known and \
     nothing is slowed.",
    "It is bounded neither in rounds nor in time.",
];

pub(super) const INFO: PresetInfo = PresetInfo {
    name: "vmware-sdps",
    summary: "vSphere's vMotion: slows the guest by short sleeps while it dirties faster than is sent; stops \
              when the rest takes about a second.",
    approximate: Some(
        "vSphere's controller, its cadence and its exact goal are not public; only that it compares the \
         dirty rate with the rate of sending, sleeps a few milliseconds at a time and aims at a second is",
    ),
    rule: RULE,
    notes: NOTES,
    sources: &[
        Source {
            tag: "V1",
            what: "yellow-bricks.com, vMotion in vSphere 5.0 (2011/07/20) and SDPS (2012/07/16) (secondary)",
            version: "2011, 2012",
        },
        Source {
            tag: "V5",
            what: "mysticmarvin.eu, vSphere 7 vMotion logic (secondary)",
            version: "vSphere 7",
        },
        Source {
            tag: "V6",
            what: "US patent 11,995,459, memory copy with write traces",
            version: "11,995,459",
        },
    ],
    parameters: &[
        ParameterInfo {
            name: "goal",
            kind: ParameterKind::Duration { most: None },
            default: "1s",
            doc: "The switchover comes when a round starts with what takes at most this to send.",
            source: "V5",
        },
        ParameterInfo {
            name: "margin",
            kind: ParameterKind::Factor,
            default: "0.9",
            doc: "The guest is slowed while its dirty rate is above this many times the rate of sending.",
            source: "ours",
        },
        ParameterInfo {
            name: "gain",
            kind: ParameterKind::Factor,
            default: "0.5",
            doc: "Share of CPU taken away more in a second, for each rate of sending above the margin.",
            source: "ours",
        },
        ParameterInfo {
            name: "decrease",
            kind: ParameterKind::Factor,
            default: "0.05",
            doc: "Share of CPU given back in a second in which the guest is below the margin.",
            source: "ours",
        },
        ParameterInfo {
            name: "most",
            kind: ParameterKind::Share,
            default: "95%",
            doc: "The largest share of CPU that is taken away.",
            source: "ours",
        },
        ParameterInfo {
            name: "sleep",
            kind: ParameterKind::Duration { most: None },
            default: "2ms",
            doc: "Length of one sleep; \"a few milliseconds at most\".",
            source: "V1",
        },
    ],
    build,
};

fn build(given: &Given<'_>) -> Result<Box<dyn Policy>, PresetError> {
    Ok(Box::new(VmwareSdps {
        goal: given.duration("goal")?,
        margin: given.factor("margin")?,
        gain: given.factor("gain")?,
        decrease: given.factor("decrease")?,
        most: given.share("most")?,
        sleep: given.duration("sleep")?,
        duty: CpuShare::NONE,
        corrected: None,
    }))
}

/// How fast the guest dirties, in the unit of the rate of sending, with which it is compared.
fn dirty_rate(progress: &Progress) -> Quantity {
    let Some(rate) = progress.dirty_rate else {
        return Quantity::Unknown;
    };
    // No bandwidth is zero.
    let bytes = rate.bytes_per_second(progress.page_size) as u64;
    Bandwidth::new(bytes).map_or(Quantity::PageRate(rate), Quantity::Bandwidth)
}

impl VmwareSdps {
    /// How many times as fast as is sent the guest dirties, as far as both are known.
    fn ratio(progress: &Progress) -> Option<f64> {
        let dirty = progress.dirty_rate?.bytes_per_second(progress.page_size);
        Some(dirty / progress.bandwidth?.as_f64())
    }

    /// Corrects the duty for the time since it was last corrected; the throttle, if it changes.
    fn correct(&mut self, progress: &Progress) -> Option<Throttle> {
        let since = self.corrected.replace(progress.now)?;
        let ratio = Self::ratio(progress)?;
        let over = ratio - self.margin;
        let a_second = if over > 0.0 { self.gain * over } else { -self.decrease };
        let duty = self.duty.as_f64() + a_second * progress.now.since(since).as_secs_f64();
        let duty = CpuShare::clamped(duty.min(self.most.as_f64()));
        if duty == self.duty {
            return None;
        }
        self.duty = duty;
        Some(match duty {
            CpuShare::NONE => Throttle::Off,
            share => Throttle::MicroSleeps { share, sleep: self.sleep },
        })
    }

    fn judge(&self, moment: Moment, progress: &Progress) -> (bool, Reason) {
        let goal = ("goal", Quantity::Duration(self.goal));
        if moment != Moment::RoundStart {
            let bandwidth = progress.bandwidth.map_or(Quantity::Unknown, Quantity::Bandwidth);
            let reason = unknown_above("remaining", goal)
                .with("dirty rate", dirty_rate(progress))
                .with("bandwidth", bandwidth);
            return (false, reason);
        }
        let pending = progress.pending_bytes();
        let takes = match progress.bandwidth {
            _ if pending.is_zero() => Some(Duration::ZERO),
            bandwidth => bandwidth.map(|bandwidth| bandwidth.time_to_send(pending)),
        };
        let small = takes.is_some_and(|takes| takes <= self.goal);
        let relation = if small { Relation::AtMost } else { Relation::Above };
        let takes = ("remaining", takes.map_or(Quantity::Unknown, Quantity::Duration));
        let bandwidth = progress.bandwidth.map_or(Quantity::Unknown, Quantity::Bandwidth);
        let reason = Reason::new(takes, relation, goal)
            .with("pending", Quantity::Bytes(pending))
            .with("bandwidth", bandwidth);
        (small, reason)
    }
}

impl Policy for VmwareSdps {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("goal", duration::format(self.goal)),
            ("margin", self.margin.to_string()),
            ("gain", self.gain.to_string()),
            ("decrease", self.decrease.to_string()),
            ("most", self.most.to_string()),
            ("sleep", duration::format(self.sleep)),
        ]
    }

    fn cadence(&self) -> Cadence {
        Cadence { tick: Some(PERIOD), bandwidth: BandwidthWindow::Time(PERIOD), gate: Gate::Pipelined }
    }

    fn needs(&self) -> Capabilities {
        Capabilities { throttle: true, ..Capabilities::default() }
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        let (small, reason) = self.judge(moment, progress);
        if small {
            return Verdict::new(Decision::Switchover { when: SwitchoverWhen::Now, forced: false }, reason);
        }
        // The duty changes at every tick, and they are a second apart: none may be skipped.
        let verdict = Verdict::new(Decision::Continue, reason).holding(Until::NEXT);
        match self.correct(progress) {
            Some(throttle) => {
                verdict.adjusting(Adjustments { throttle: Some(throttle), ..Adjustments::default() })
            }
            None => verdict,
        }
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Situation, answer};
    use super::*;
    use crate::units::PageRate;

    fn sdps() -> VmwareSdps {
        VmwareSdps {
            goal: Duration::from_secs(1),
            margin: 0.9,
            gain: 0.5,
            decrease: 0.05,
            most: Share::percent(95),
            sleep: Duration::from_millis(2),
            duty: CpuShare::NONE,
            corrected: None,
        }
    }

    /// A moment at `seconds` at which the guest dirties `ratio` times what is sent.
    fn asked(moment: Moment, seconds: u64, pending: u64, ratio: f64) -> Situation {
        let mut asked =
            Situation::new("asked", moment, 1, pending).at("1Gbit/s").after(&format!("{seconds}s"));
        asked.progress.dirty_rate = Some(PageRate::new(ratio * 125e6 / 4096.0).expect("finite"));
        asked
    }

    /// The shares that a second of each of these ratios sets, asked in the middle of a round.
    fn shares(policy: &mut VmwareSdps, ratios: &[f64]) -> Vec<Option<f64>> {
        let mut shares = Vec::new();
        for (second, &ratio) in ratios.iter().enumerate() {
            let verdict = answer(policy, &asked(Moment::Tick, second as u64, 1 << 20, ratio));
            assert_eq!((verdict.decision, verdict.until), (Decision::Continue, Until::NEXT));
            shares.push(
                verdict.adjust.throttle.map(|throttle| (throttle.share().as_f64() * 1e6).round() / 1e6),
            );
        }
        shares
    }

    const CONVERGED: Decision = Decision::Switchover { when: SwitchoverWhen::Now, forced: false };

    #[test]
    fn what_takes_a_second_to_send_is_handed_over_when_a_round_starts() {
        // 125 MB a second are 30517.6 pages.
        let at = |moment, pending| answer(&mut sdps(), &asked(moment, 9, pending, 0.1)).decision;
        assert_eq!(at(Moment::RoundStart, 30_517), CONVERGED);
        assert_eq!(at(Moment::RoundStart, 30_518), Decision::Continue);
        assert_eq!(at(Moment::Tick, 1), Decision::Continue, "what was dirtied meanwhile is not known");
    }

    #[test]
    fn a_guest_within_the_margin_is_never_slowed() {
        assert_eq!(shares(&mut sdps(), &[0.5, 0.9, 0.1]), [None; 3]);
    }

    #[test]
    fn a_guest_that_is_too_fast_is_slowed_by_how_much_it_is_and_by_time() {
        assert_eq!(shares(&mut sdps(), &[1.9, 1.9, 1.4]), [None, Some(0.5), Some(0.75)]);
        let mut policy = sdps();
        answer(&mut policy, &asked(Moment::RoundStart, 0, 1 << 20, 1.1));
        let after_four = answer(&mut policy, &asked(Moment::RoundEnd, 4, 1 << 20, 1.1));
        assert!((after_four.adjust.throttle.expect("slowed").share().as_f64() - 0.4).abs() < 1e-9);
    }

    #[test]
    fn the_share_is_bounded_and_given_back_slowly_and_in_full() {
        let mut policy = sdps();
        assert_eq!(shares(&mut policy, &[0.0, 1e9, 1e9, 0.0]), [None, Some(0.95), None, Some(0.9)]);
        let freed = answer(&mut policy, &asked(Moment::Tick, 3_600, 1 << 20, 0.0));
        assert_eq!(freed.adjust.throttle, Some(Throttle::Off));
    }

    #[test]
    fn the_guest_is_slowed_by_sleeps_of_two_milliseconds() {
        let mut policy = sdps();
        shares(&mut policy, &[1.9]);
        let verdict = answer(&mut policy, &asked(Moment::Tick, 1, 1 << 20, 1.9));
        let Some(Throttle::MicroSleeps { sleep, .. }) = verdict.adjust.throttle else { panic!("not slowed") };
        assert_eq!(sleep, Duration::from_millis(2));
        assert_eq!(policy.needs().missing_from(Capabilities::default()), Some("throttle"));
    }

    #[test]
    fn the_reason_says_both_rates_however_much_faster_the_guest_is() {
        let reason = answer(&mut sdps(), &asked(Moment::Tick, 1, 1 << 20, 4.0)).reason;
        let rate = |name: &str| {
            let known = reason.inputs().find(|input| input.name == name);
            known.map(|input| input.value.as_f64().expect("known").round())
        };
        assert_eq!((rate("dirty rate"), rate("bandwidth")), (Some(500e6), Some(125e6)), "{reason}");
    }

    #[test]
    fn nothing_is_known_and_nobody_slowed_before_the_first_harvest() {
        let mut policy = sdps();
        for second in ["1s", "2s", "60s"] {
            let bulk = Situation::new("bulk", Moment::Tick, 0, 1 << 20).at("1Gbit/s").after(second);
            assert_eq!(answer(&mut policy, &bulk).adjust.throttle, None);
        }
    }
}
