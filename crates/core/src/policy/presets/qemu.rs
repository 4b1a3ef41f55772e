//! `qemu-default`: QEMU's own rule, without auto-converge or a dirty limit (Q1, Q2, Q3, Q6).
//!
//! ```text
//! every 100 ms:  threshold = bandwidth of that window x downtime limit   (0 before the first)
//! every 51 ms of sending (more than 50, in whole milliseconds):
//!     pending < threshold: harvest at once, pages still pending or not; count again
//!     pending == 0 or pending < threshold: stop the guest, lift the rate cap, send the rest
//! ```
//!
//! * The comparison is strict, and nothing is smoothed: one fast window is enough for a switchover.
//! * What the last harvest, with the guest paused, finds is compared with nothing: the true downtime
//!   can exceed the limit.
//! * It never gives up.
//! * QEMU harvests when everything is sent, too: with a threshold above zero, nothing pending is below
//!   it. The policy then answers [`Decision::Continue`], and the machine harvests by itself.
//!
//! What was not checked against a source: newer QEMU may harvest in the exact count even where the
//! estimate is above the threshold. Not modelled.

use std::time::Duration;

use super::parameters::Given;
use super::{ParameterInfo, ParameterKind, PresetError, PresetInfo, Source};
use crate::policy::{
    Adjustments, BandwidthWindow, Cadence, Decision, Gate, Policy, Quantity, RateLimit, Reason, Relation,
    SwitchoverWhen, Until, Verdict,
};
use crate::progress::{Capabilities, Moment, Progress};
use crate::units::{Bandwidth, ByteCount, Pages, duration};

/// Stops when what is pending fits the downtime limit at the bandwidth of the last 100 ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QemuDefault {
    /// The downtime that the estimate must stay below.
    pub downtime_limit: Duration,
    /// The bandwidth that the threshold is made from; none: the measured one.
    pub switchover_bandwidth: Option<Bandwidth>,
    /// Cap of the sending rate until the switchover; none: no cap.
    pub max_bandwidth: Option<Bandwidth>,
}

/// The longest slice of sending between two looks at what is pending. QEMU stops when more than 50 ms
/// (`MAX_WAIT`) have passed and counts whole milliseconds, so 51 have.
const SLICE: Duration = Duration::from_millis(51);
/// The window of the bandwidth (`BUFFER_DELAY`).
const WINDOW: Duration = Duration::from_millis(100);
/// The longest downtime limit that QEMU accepts.
const LONGEST_LIMIT: Duration = Duration::from_secs(2_000);
/// The words for an optional bandwidth that is not given.
const MEASURED: &str = "measured";
const UNLIMITED: &str = "unlimited";

pub(super) const INFO: PresetInfo = PresetInfo {
    name: "qemu-default",
    summary: "QEMU: stops when what is pending fits the downtime limit at the bandwidth of the last \
              100 ms; never gives up. Sends uncapped unless `max-bandwidth` is given (QEMU's own \
              default is 128 MiB/s).",
    approximate: None,
    sources: &[
        Source { tag: "Q1", what: "qemu/qemu migration/migration.c", version: "2400fad5" },
        Source { tag: "Q2", what: "qemu/qemu migration/options.c", version: "2400fad5" },
        Source { tag: "Q3", what: "qemu/qemu migration/ram.c", version: "8.2 to 9.0" },
        Source { tag: "Q6", what: "qemu/qemu qapi/migration.json", version: "ef965377 and 01bed0ff" },
    ],
    parameters: &[
        ParameterInfo {
            name: "downtime-limit",
            kind: ParameterKind::Duration { most: Some(LONGEST_LIMIT) },
            default: "300ms",
            doc: "The downtime that the estimate must stay below.",
            source: "Q2",
        },
        ParameterInfo {
            name: "switchover-bandwidth",
            kind: ParameterKind::OptionalBandwidth { none: MEASURED },
            default: MEASURED,
            doc: "The bandwidth that the estimate counts on (QEMU's avail-switchover-bandwidth) instead of \
                  the measured one.",
            source: "Q2",
        },
        ParameterInfo {
            name: "max-bandwidth",
            kind: ParameterKind::OptionalBandwidth { none: UNLIMITED },
            default: UNLIMITED,
            doc: "Cap of the sending rate until the switchover. QEMU's own default is 128MiB/s; libvirt and \
                  the managers above it lift that, and so does ours.",
            source: "ours",
        },
    ],
    build,
};

fn build(given: &Given<'_>) -> Result<Box<dyn Policy>, PresetError> {
    Ok(Box::new(QemuDefault {
        downtime_limit: given.duration("downtime-limit")?,
        switchover_bandwidth: given.optional_bandwidth("switchover-bandwidth")?,
        max_bandwidth: given.optional_bandwidth("max-bandwidth")?,
    }))
}

impl QemuDefault {
    /// What a switchover may leave pending, rounded down; zero before the first window has ended, even
    /// where the bandwidth is given.
    pub fn threshold(&self, measured: Option<Bandwidth>) -> ByteCount {
        measured.map_or(ByteCount::ZERO, |measured| {
            self.switchover_bandwidth.unwrap_or(measured).bytes_in(self.downtime_limit)
        })
    }

    /// Until when a tick goes on.
    ///
    /// With a measured bandwidth the threshold moves with it, so the answer is good for bandwidths up to
    /// twice the present one and for what is not below the threshold at that.
    fn until(&self, progress: &Progress) -> Until {
        let Some(measured) = progress.bandwidth else {
            return Until::NEXT;
        };
        let doubled = match self.switchover_bandwidth {
            Some(_) => None,
            None => Some(measured.saturating_add(measured)),
        };
        let threshold = self.threshold(doubled.or(Some(measured)));
        // The most pages that are strictly below the threshold.
        let below = threshold.0.saturating_sub(1) / progress.page_size.bytes().0;
        Until { pending: Pages(below), bandwidth: doubled, ..Until::ROUND_END }
    }

    fn reason(&self, progress: &Progress, relation: Relation, threshold: ByteCount) -> Reason {
        // Named by its parameter where it is given, so that one sees which of the two counted.
        let bandwidth = match (progress.bandwidth, self.switchover_bandwidth) {
            (None, _) => ("bandwidth", Quantity::Unknown),
            (Some(_), Some(given)) => ("switchover-bandwidth", Quantity::Bandwidth(given)),
            (Some(measured), None) => ("bandwidth", Quantity::Bandwidth(measured)),
        };
        let pending = ("pending", Quantity::Bytes(progress.pending_bytes()));
        Reason::new(pending, relation, ("threshold", Quantity::Bytes(threshold)))
            .with(bandwidth.0, bandwidth.1)
            .with("downtime-limit", Quantity::Duration(self.downtime_limit))
    }

    fn goes_on(&self, moment: Moment, progress: &Progress, reason: Reason) -> Verdict {
        let verdict = Verdict::new(Decision::Continue, reason).holding(self.until(progress));
        match self.max_bandwidth {
            Some(cap) if moment == Moment::RoundStart && progress.round == 0 => {
                verdict.adjusting(rate(RateLimit::AtMost(cap)))
            }
            _ => verdict,
        }
    }
}

fn rate(limit: RateLimit) -> Adjustments {
    Adjustments { rate_limit: Some(limit), ..Adjustments::default() }
}

impl Policy for QemuDefault {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let text = |bandwidth: Option<Bandwidth>, none: &str| {
            bandwidth.map_or_else(|| none.to_owned(), |bandwidth| bandwidth.to_string())
        };
        vec![
            ("downtime-limit", duration::format(self.downtime_limit)),
            ("switchover-bandwidth", text(self.switchover_bandwidth, MEASURED)),
            ("max-bandwidth", text(self.max_bandwidth, UNLIMITED)),
        ]
    }

    fn cadence(&self) -> Cadence {
        Cadence { tick: Some(SLICE), bandwidth: BandwidthWindow::Time(WINDOW), gate: Gate::Pipelined }
    }

    fn needs(&self) -> Capabilities {
        Capabilities { harvest_on_demand: true, ..Capabilities::default() }
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        let threshold = self.threshold(progress.bandwidth);
        let pending = progress.pending_bytes();
        let below = pending < threshold;
        // Nothing pending is enough even where nothing can be below the threshold.
        let empty = progress.pending.is_zero() && !below;
        let relation = match (below, empty) {
            (true, _) => Relation::Below,
            (_, true) => Relation::AtMost,
            _ => Relation::AtLeast,
        };
        let reason = self.reason(progress, relation, threshold);
        match moment {
            // The count is exact: this is the last word.
            Moment::RoundStart if below => switchover(reason),
            // At a round's end the machine harvests unasked.
            Moment::RoundEnd if below => self.goes_on(moment, progress, reason),
            Moment::Tick if below => Verdict::new(Decision::Harvest, reason),
            _ if empty => switchover(reason),
            _ => self.goes_on(moment, progress, reason),
        }
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

/// QEMU lifts the rate cap, whoever set it, before it sends the rest.
fn switchover(reason: Reason) -> Verdict {
    let decision = Decision::Switchover { when: SwitchoverWhen::Now, forced: false };
    Verdict::new(decision, reason).adjusting(rate(RateLimit::Unlimited))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Situation, Step, answer, steps};
    use super::*;

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
    fn a_tick_holds_until_twice_the_bandwidth_could_suffice() {
        let verdict = answer(&mut QEMU.clone(), &asked(Moment::Tick, 100_000).at(EXACT));
        assert_eq!(verdict.until.pending, Pages(59_999));
        assert_eq!(verdict.until.bandwidth, Bandwidth::new(819_200_000));
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
    fn slices_and_windows_are_qemus() {
        let cadence = QEMU.cadence();
        assert_eq!(cadence.tick, Some(Duration::from_millis(51)));
        assert_eq!(cadence.bandwidth, BandwidthWindow::Time(Duration::from_millis(100)));
        assert_eq!(cadence.gate, Gate::Pipelined);
    }
}
