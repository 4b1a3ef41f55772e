//! `kubevirt-stall`: a search for a good moment in a stalled migration (K1, K2).
//!
//! [`RULE`] is the rule; the search itself is in [`detector`](super::detector).
//!
//! * A soft limit is one that the cluster allows: that switchover is not a forced one.
//! * A poll samples the bandwidth of QEMU's last 100 ms; the start of a round puts the next poll off.

use std::time::Duration;

use super::detector::Detector;
use super::{
    AFTER_PAUSE, AUTO_CONVERGE, COMPLETION_TIMEOUT, DISRUPTION, DOWNTIME, Given, Hypervisor, MAX_BANDWIDTH,
    MAX_DOWNTIME, Order, POLLED, POST_COPY, ParameterInfo, ParameterKind, Polls, PresetError, PresetInfo,
    SIZED, SOURCES, Terms, VFIO, cap_text, too_late, whole,
};
use crate::policy::{Cadence, Decision, Policy, Quantity, Reason, Relation, Verdict};
use crate::progress::{Capabilities, Moment, Progress};
use crate::units::{Bandwidth, ByteCount, duration};

/// A downtime limit that lets QEMU switch over whatever is left.
const FORCED: Duration = Duration::from_secs(2_000);

const STALL_MARGIN: ParameterInfo = ParameterInfo {
    name: "stall-margin",
    kind: ParameterKind::Share,
    default: "4%",
    doc: "A remainder has to be less than the old low by more than this, or it is a stall; one that is above \
          the aim by no more than this is a good moment.",
    source: "K1",
};
const STALL_WINDOW: ParameterInfo = ParameterInfo {
    name: "stall-window",
    kind: ParameterKind::Duration { most: None },
    default: "40s",
    doc: "Age from which on a low is an old one, and the patience at first (60s in the proposal).",
    source: "K1",
};
const SMOOTHING: ParameterInfo = ParameterInfo {
    name: "bandwidth-smoothing",
    kind: ParameterKind::Share,
    default: "0.4",
    doc: "Weight of a new sample in the smoothed bandwidth.",
    source: "K1",
};
const PATIENCE_FACTOR: ParameterInfo = ParameterInfo {
    name: "patience-factor",
    kind: ParameterKind::Factor,
    default: "0.5",
    doc: "By this the patience is multiplied each time that the aim is relaxed.",
    source: "K1",
};
const SWITCHOVER_TIMEOUT: ParameterInfo = ParameterInfo {
    name: "switchover-timeout",
    kind: ParameterKind::Duration { most: None },
    default: "60s",
    doc: "Time until QEMU switches over once a limit was set, before it gives up.",
    source: "K1",
};
const SOFT_FACTOR: ParameterInfo = ParameterInfo {
    name: "soft-factor",
    kind: ParameterKind::Factor,
    default: "1.5",
    doc: "At a good moment, an estimate of up to max-downtime times this lets it wait under max-downtime \
          rather than give up; below 1 it counts as 1.",
    source: "K1",
};

const INITIAL_DOWNTIME: ParameterInfo = ParameterInfo {
    name: "initial-downtime",
    kind: DOWNTIME,
    default: "300ms",
    doc: "The downtime limit until a good moment: QEMU's own, which the product leaves alone; no more than \
          max-downtime counts.",
    source: "K1",
};
const POLL_INTERVAL: ParameterInfo = ParameterInfo {
    name: "poll-interval",
    kind: ParameterKind::Duration { most: None },
    default: "400ms",
    doc: "Time between two polls within a round; no parameter of the product's.",
    source: "K1",
};
const DEADLINE_FACTOR: ParameterInfo = ParameterInfo {
    name: "deadline-factor",
    kind: ParameterKind::Factor,
    default: "2",
    doc: "An estimate fits if it ends before the deadline times this; no parameter of the product's.",
    source: "K1",
};

/// The rule in short, at the defaults.
const RULE: &str = "\
at first: downtime limit = min(max-downtime, 300 ms)
every 400 ms, between rounds: bw = first sample, then 0.4 sample + 0.6 bw
each round's start, with r remaining, a bw known and nothing ordered yet:
    not stalled: stalled if r >= 0.96 x the least remainder older than 40 s
        then best = the least remainder seen, to be relaxed after 40 s
    stalled, and time to relax: best = the least remainder since the stall,
        taken out; to be relaxed again after half as long as before
    stalled, and r <= 1.04 x best:                           # a good moment
        est = r / bw
        est > 2 D - elapsed:               nothing    # perhaps a network drop
        disruption and post-copy, no VFIO: post-copy
        disruption:                        downtime limit = 2000 s (forced)
        est <= max-downtime x soft-factor: downtime limit = max-downtime
        else:                              abort
    a limit was set: 60 s until QEMU switches over, else abort
both: nothing ordered yet and elapsed > D, with est of the last round's start:
    est fits 2 D - elapsed: post-copy, or forced if disruption is allowed
    else, or no bw: abort
below it: QEMU, by the rule of qemu-default (qemu-auto-converge if allowed)";

/// What people should know of it besides.
const NOTES: &[&str] = &[
    SIZED,
    POLLED,
    AFTER_PAUSE,
    "At the deadline post-copy needs no permission for disruption; at a good moment it does.",
    "Without a deadline (D = 0) nothing fits and nothing is late, so only QEMU's own rule ends it. As \
     in the product.",
    "The window is 40 s in the product's code and 60 s in its proposal (K2).",
    "Its eleven constants are completion-timeout-per-gib, max-downtime and the last nine parameters; three \
     of those are fixed in the product's code.",
];

pub(in crate::policy::presets) const INFO: PresetInfo = PresetInfo {
    name: "kubevirt-stall",
    summary: "KubeVirt over QEMU with stall detection: once stalled, it waits for the least remainder it has \
              seen and then forces completion, raises the downtime limit, or gives up.",
    approximate: None,
    rule: RULE,
    notes: NOTES,
    sources: SOURCES,
    parameters: &[
        COMPLETION_TIMEOUT,
        AUTO_CONVERGE,
        POST_COPY,
        DISRUPTION,
        VFIO,
        MAX_DOWNTIME,
        MAX_BANDWIDTH,
        STALL_MARGIN,
        STALL_WINDOW,
        SMOOTHING,
        PATIENCE_FACTOR,
        SWITCHOVER_TIMEOUT,
        SOFT_FACTOR,
        INITIAL_DOWNTIME,
        POLL_INTERVAL,
        DEADLINE_FACTOR,
    ],
    build,
};

/// QEMU with a downtime limit that is raised at a good moment.
#[derive(Clone, Debug)]
struct Stall {
    terms: Terms,
    max_downtime: Duration,
    initial_downtime: Duration,
    smoothing: f64,
    switchover_timeout: Duration,
    soft_factor: f64,
    deadline_factor: f64,
    interval: Duration,
    polls: Polls,
    detector: Detector,
    /// Smoothed, in bytes a second; zero before the first sample.
    bandwidth: f64,
    /// What remained at the last round's start.
    remaining: ByteCount,
    /// A limit was set; the migration is given up after this time.
    give_up_after: Option<Duration>,
    hypervisor: Hypervisor,
}

fn build(given: &Given<'_>) -> Result<Box<dyn Policy>, PresetError> {
    let terms = Terms::new(given)?;
    let max_downtime = given.duration(MAX_DOWNTIME.name)?;
    let cap = given.optional_bandwidth(MAX_BANDWIDTH.name)?;
    let initial_downtime = given.duration(INITIAL_DOWNTIME.name)?;
    let hypervisor = Hypervisor::new(max_downtime.min(initial_downtime), cap, terms.auto_converge);
    let interval = given.duration(POLL_INTERVAL.name)?;
    let detector = Detector::new(
        given.duration(STALL_WINDOW.name)?,
        given.share(STALL_MARGIN.name)?,
        given.factor(PATIENCE_FACTOR.name)?,
    );
    Ok(Box::new(Stall {
        terms,
        max_downtime,
        initial_downtime,
        smoothing: given.share(SMOOTHING.name)?.as_f64(),
        switchover_timeout: given.duration(SWITCHOVER_TIMEOUT.name)?,
        soft_factor: given.factor(SOFT_FACTOR.name)?,
        deadline_factor: given.factor(DEADLINE_FACTOR.name)?,
        interval,
        polls: Polls::every(interval),
        detector,
        bandwidth: 0.0,
        remaining: ByteCount::ZERO,
        give_up_after: None,
        hypervisor,
    }))
}

impl Stall {
    fn sample(&mut self, bandwidth: Option<Bandwidth>) {
        let Some(sample) = bandwidth.map(Bandwidth::as_f64) else {
            return;
        };
        self.bandwidth = if self.bandwidth == 0.0 {
            sample
        } else {
            self.smoothing * sample + (1.0 - self.smoothing) * self.bandwidth
        };
    }

    /// Time to send what remained at the last round's start; none without a bandwidth.
    fn estimate(&self) -> Option<Duration> {
        if self.bandwidth == 0.0 {
            return None;
        }
        let seconds = self.remaining.as_f64() / self.bandwidth;
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }

    /// Whether the estimate fits the time until the deadline times the factor.
    fn fits(&self, estimate: Duration, progress: &Progress) -> bool {
        let Some(deadline) = self.terms.deadline(progress) else {
            return false;
        };
        let budget = scaled(deadline, self.deadline_factor).checked_sub(whole(progress.elapsed()));
        budget.is_some_and(|budget| estimate <= budget)
    }

    /// The limit was set; what is not over by then is given up.
    fn limit_was_set(&mut self, progress: &Progress) {
        self.give_up_after = Some(whole(progress.elapsed()).saturating_add(self.switchover_timeout));
    }

    /// A round started: an order, a limit, or nothing.
    fn round(&mut self, progress: &Progress) -> Option<Order> {
        self.remaining = progress.pending_bytes();
        let estimate = self.estimate()?;
        if self.give_up_after.is_some() {
            return None;
        }
        self.detector.round(progress.now, self.remaining);
        let good = self.detector.good().filter(|&good| self.remaining <= good)?;
        if !self.fits(estimate, progress) {
            return None;
        }
        let soft = scaled(self.max_downtime, self.soft_factor.max(1.0));
        let remaining = ("remaining", Quantity::Bytes(self.remaining));
        let good = ("best while stalled and margin", Quantity::Bytes(good));
        if self.terms.disruption && self.terms.may_post_copy() {
            let reason = Reason::new(remaining, Relation::AtMost, good);
            return Some(Order { decision: Decision::PostCopy, reason });
        }
        if self.terms.disruption {
            self.hypervisor.force(FORCED);
        } else if estimate <= soft {
            self.hypervisor.set_limit(self.max_downtime);
        } else {
            let estimate = ("estimated downtime", Quantity::Duration(estimate));
            let most = ("max-downtime x soft-factor", Quantity::Duration(soft));
            let reason = Reason::new(estimate, Relation::Above, most)
                .with(remaining.0, remaining.1)
                .with(good.0, good.1);
            return Some(Order { decision: Decision::Abort, reason });
        }
        self.limit_was_set(progress);
        None
    }

    /// What follows from the time passed.
    fn deadline(&mut self, progress: &Progress) -> Option<Order> {
        let deadline = self.terms.deadline(progress)?;
        let elapsed = whole(progress.elapsed());
        let (name, limit) = match self.give_up_after {
            Some(after) => ("end of the switchover-timeout", after),
            None => ("completion timeout", deadline),
        };
        if elapsed <= limit {
            return None;
        }
        let fits = self.estimate().is_some_and(|estimate| self.fits(estimate, progress));
        let decision = if self.give_up_after.is_some() || !fits {
            Decision::Abort
        } else if self.terms.may_post_copy() {
            Decision::PostCopy
        } else if self.terms.disruption {
            self.hypervisor.force(FORCED);
            self.limit_was_set(progress);
            return None;
        } else {
            Decision::Abort
        };
        Some(Order { decision, reason: too_late(("elapsed", elapsed), (name, limit)) })
    }
}

/// `time` times `factor`; saturates.
fn scaled(time: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(time.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

impl Policy for Stall {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut texts = self.terms.texts().to_vec();
        texts.extend([
            (MAX_DOWNTIME.name, duration::format(self.max_downtime)),
            (MAX_BANDWIDTH.name, cap_text(self.hypervisor.cap())),
            (STALL_MARGIN.name, self.detector.margin.to_string()),
            (STALL_WINDOW.name, duration::format(self.detector.window)),
            (SMOOTHING.name, self.smoothing.to_string()),
            (PATIENCE_FACTOR.name, self.detector.patience_factor.to_string()),
            (SWITCHOVER_TIMEOUT.name, duration::format(self.switchover_timeout)),
            (SOFT_FACTOR.name, self.soft_factor.to_string()),
            (INITIAL_DOWNTIME.name, duration::format(self.initial_downtime)),
            (POLL_INTERVAL.name, duration::format(self.interval)),
            (DEADLINE_FACTOR.name, self.deadline_factor.to_string()),
        ]);
        texts
    }

    fn cadence(&self) -> Cadence {
        self.hypervisor.cadence()
    }

    fn needs(&self) -> Capabilities {
        // Without a deadline there is no budget that anything fits.
        let acts = !self.terms.per_gib.is_zero();
        Capabilities { post_copy: acts && self.terms.may_post_copy(), ..self.hypervisor.needs() }
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        let mut order = None;
        let boundary = moment == Moment::RoundStart;
        if boundary {
            self.polls.made(progress.now, self.interval);
        }
        if boundary || self.polls.take_due(progress.now, self.interval) {
            if boundary {
                order = self.round(progress);
            } else {
                self.sample(progress.bandwidth);
            }
            order = order.or_else(|| self.deadline(progress));
        }
        self.hypervisor.decide(moment, progress, order, self.polls.next)
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}
