//! `kubevirt-legacy` and `kubevirt-stepped`: kubevirt's monitor before it looked for stalls (K1).
//!
//! [`LEGACY_RULE`] and [`STEPPED_RULE`] are the rules.
//!
//! * Progress is a remainder smaller than at the *previous* poll, not a new low: every round that is sent
//!   makes progress by itself, so the watchdog only fires on a dead link or a round that never ends, and any
//!   dip resets it (the flaw that K2 cites).
//! * A guest that was paused, or whose limit was lifted, has a second `D` to finish in.
//! * `legacy` leaves QEMU's downtime limit of 300 ms alone.

use std::time::Duration;

use super::{
    AFTER_PAUSE, AUTO_CONVERGE, COMPLETION_TIMEOUT, DISRUPTION, DOWNTIME, Given, Hypervisor, MAX_BANDWIDTH,
    MAX_DOWNTIME, Order, POLL, POLLED, POST_COPY, PROGRESS_TIMEOUT, ParameterInfo, ParameterKind, Polls,
    PresetError, PresetInfo, SIZED, SOURCES, Terms, UNSET_LIMIT, VFIO, cap_text, times, too_late, whole,
};
use crate::policy::{Cadence, Decision, Policy, Verdict};
use crate::progress::{Capabilities, Moment, Progress};
use crate::units::{ByteCount, Timestamp, duration};

const INITIAL_DOWNTIME: ParameterInfo = ParameterInfo {
    name: "initial-downtime",
    kind: DOWNTIME,
    default: "150ms",
    doc: "The downtime limit at first; no more than max-downtime counts.",
    source: "K1",
};
const STEPS: ParameterInfo = ParameterInfo {
    name: "downtime-steps",
    kind: ParameterKind::Count,
    default: "7",
    doc: "Steps from the first limit to the last; 0 counts as 1.",
    source: "K1",
};
const START: ParameterInfo = ParameterInfo {
    name: "start-iteration",
    kind: ParameterKind::Count,
    default: "3",
    doc: "The iteration from which on it steps; the bulk round is the first.",
    source: "K1",
};
const COOLDOWN: ParameterInfo = ParameterInfo {
    name: "downtime-cooldown",
    kind: ParameterKind::Duration { most: None },
    default: "10s",
    doc: "The least time between two steps.",
    source: "K1",
};

/// The rule in short, at the defaults.
const LEGACY_RULE: &str = "\
every 400 ms:
    remaining < remaining at the poll before (or that was 0): progress = now
    disruption allowed, elapsed > D, nothing forced yet:
        post-copy allowed and no VFIO: post-copy
        VFIO: downtime limit = min(2 D, 2000 s); D = 2 D
        else: pause the guest;                   D = 2 D
    else now - progress > 150 s: abort
    else elapsed > D: abort
below it: QEMU, by the rule of qemu-default (qemu-auto-converge if allowed)";

/// What people should know of it besides.
const LEGACY_NOTES: &[&str] = &[SIZED, POLLED, AFTER_PAUSE];

pub(in crate::policy::presets) const INFO_LEGACY: PresetInfo = PresetInfo {
    name: "kubevirt-legacy",
    summary: "KubeVirt over QEMU, before stall detection: at a deadline it gives up or, where the cluster \
              allows, forces completion; it gives up where nothing progresses.",
    approximate: None,
    rule: LEGACY_RULE,
    notes: LEGACY_NOTES,
    sources: SOURCES,
    parameters: &[
        COMPLETION_TIMEOUT,
        AUTO_CONVERGE,
        POST_COPY,
        DISRUPTION,
        VFIO,
        PROGRESS_TIMEOUT,
        MAX_BANDWIDTH,
    ],
    build: |given| build(None, given),
};

/// The rule in short, at the defaults.
const STEPPED_RULE: &str = "\
every 400 ms, before what kubevirt-legacy does then:
    first poll: downtime limit = min(150 ms, max-downtime)
    from the third iteration on, 10 s or more after the last change:
        downtime limit += (max-downtime - 150 ms) / 7, up to max-downtime
below it: QEMU, by the rule of qemu-default (qemu-auto-converge if allowed)";

/// What people should know of it besides.
const STEPPED_NOTES: &[&str] = &[
    SIZED,
    POLLED,
    AFTER_PAUSE,
    "QEMU counts the bulk round as the first iteration. A step is cut to whole milliseconds.",
    "The next step takes a forced limit back, as in the product.",
    "The product leaves the first limit, the steps, their start and the time between them to the \
     administrator.",
];

pub(in crate::policy::presets) const INFO_STEPPED: PresetInfo = PresetInfo {
    name: "kubevirt-stepped",
    summary: "KubeVirt over QEMU with a downtime limit that rises from 150 ms to max-downtime in steps; its \
              deadlines are those of kubevirt-legacy.",
    approximate: None,
    rule: STEPPED_RULE,
    notes: STEPPED_NOTES,
    sources: SOURCES,
    parameters: &[
        COMPLETION_TIMEOUT,
        AUTO_CONVERGE,
        POST_COPY,
        DISRUPTION,
        VFIO,
        PROGRESS_TIMEOUT,
        MAX_BANDWIDTH,
        MAX_DOWNTIME,
        INITIAL_DOWNTIME,
        STEPS,
        START,
        COOLDOWN,
    ],
    build: |given| build(Some(Stairs::new(given)?), given),
};

/// Deadlines over QEMU, and perhaps a downtime limit that rises.
#[derive(Clone, Debug)]
struct Legacy {
    terms: Terms,
    progress_timeout: Duration,
    stairs: Option<Stairs>,
    polls: Polls,
    watchdog: Watchdog,
    /// Completion was forced once, and the deadline is twice as far.
    assisted: bool,
    hypervisor: Hypervisor,
}

/// When a poll last saw less remaining than the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Watchdog {
    progressed: Timestamp,
    remaining: ByteCount,
}

impl Watchdog {
    /// Time without progress, at a poll.
    fn look(&mut self, progress: &Progress) -> Duration {
        let remaining = progress.pending_bytes();
        if self.remaining.is_zero() || remaining < self.remaining {
            self.progressed = progress.now;
        }
        self.remaining = remaining;
        progress.now.since(self.progressed)
    }
}

/// A downtime limit that rises in steps.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stairs {
    max: Duration,
    initial: Duration,
    steps: u32,
    start: u32,
    cooldown: Duration,
    /// The limit now, and since when; none before the first poll.
    now: Option<(Duration, Timestamp)>,
}

impl Stairs {
    fn new(given: &Given<'_>) -> Result<Self, PresetError> {
        Ok(Self {
            max: given.duration(MAX_DOWNTIME.name)?,
            initial: given.duration(INITIAL_DOWNTIME.name)?,
            steps: given.count(STEPS.name)?,
            start: given.count(START.name)?,
            cooldown: given.duration(COOLDOWN.name)?,
            now: None,
        })
    }

    fn texts(&self) -> [(&'static str, String); 5] {
        [
            (MAX_DOWNTIME.name, duration::format(self.max)),
            (INITIAL_DOWNTIME.name, duration::format(self.initial)),
            (STEPS.name, self.steps.to_string()),
            (START.name, self.start.to_string()),
            (COOLDOWN.name, duration::format(self.cooldown)),
        ]
    }

    /// The limit that a poll sets; none if it sets none.
    fn poll(&mut self, progress: &Progress) -> Option<Duration> {
        let initial = self.initial.min(self.max);
        let limit = match self.now {
            None => initial,
            Some(_) if progress.round.saturating_add(1) < self.start => return None,
            Some((_, since)) if progress.now.since(since) < self.cooldown => return None,
            Some((limit, _)) => {
                let step = self.max.saturating_sub(initial).as_millis() / u128::from(self.steps.max(1));
                let step = Duration::from_millis(u64::try_from(step.max(1)).unwrap_or(u64::MAX));
                let raised = limit.saturating_add(step).min(self.max);
                if raised <= limit {
                    return None;
                }
                raised
            }
        };
        self.now = Some((limit, progress.now));
        Some(limit)
    }
}

fn build(stairs: Option<Stairs>, given: &Given<'_>) -> Result<Box<dyn Policy>, PresetError> {
    let terms = Terms::new(given)?;
    let cap = given.optional_bandwidth(MAX_BANDWIDTH.name)?;
    let hypervisor = Hypervisor::new(UNSET_LIMIT, cap, terms.auto_converge);
    Ok(Box::new(Legacy {
        progress_timeout: given.duration(PROGRESS_TIMEOUT.name)?,
        stairs,
        polls: Polls::every(POLL),
        watchdog: Watchdog::default(),
        assisted: false,
        terms,
        hypervisor,
    }))
}

impl Legacy {
    fn poll(&mut self, progress: &Progress) -> Option<Order> {
        let stuck = whole(self.watchdog.look(progress));
        if let Some(limit) = self.stairs.as_mut().and_then(|stairs| stairs.poll(progress)) {
            self.hypervisor.set_limit(limit);
        }
        let elapsed = whole(progress.elapsed());
        let first = self.terms.deadline(progress);
        let deadline = first.map(|first| if self.assisted { times(first, 2) } else { first });
        let late = deadline.filter(|&deadline| elapsed > deadline);
        let reason = |deadline| too_late(("elapsed", elapsed), ("completion timeout", deadline));
        if let Some(deadline) = late
            && self.terms.disruption
            && !self.assisted
        {
            return self.assist(deadline).map(|decision| Order { decision, reason: reason(deadline) });
        }
        if !self.progress_timeout.is_zero() && stuck > self.progress_timeout {
            let reason = too_late(("no progress for", stuck), ("progress-timeout", self.progress_timeout));
            return Some(Order { decision: Decision::Abort, reason });
        }
        late.map(|deadline| Order { decision: Decision::Abort, reason: reason(deadline) })
    }

    /// Forces completion: by an order, or by lifting QEMU's limit.
    fn assist(&mut self, deadline: Duration) -> Option<Decision> {
        if self.terms.may_post_copy() {
            return Some(Decision::PostCopy);
        }
        self.assisted = true;
        if self.terms.vfio {
            self.hypervisor.force(times(deadline, 2));
            return None;
        }
        Some(Decision::Pause)
    }
}

impl Policy for Legacy {
    fn name(&self) -> &'static str {
        match self.stairs {
            None => INFO_LEGACY.name,
            Some(_) => INFO_STEPPED.name,
        }
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut texts = self.terms.texts().to_vec();
        texts.push((PROGRESS_TIMEOUT.name, duration::format(self.progress_timeout)));
        texts.push((MAX_BANDWIDTH.name, cap_text(self.hypervisor.cap())));
        texts.extend(self.stairs.iter().flat_map(Stairs::texts));
        texts
    }

    fn cadence(&self) -> Cadence {
        self.hypervisor.cadence()
    }

    fn needs(&self) -> Capabilities {
        let forces = self.terms.disruption && !self.terms.per_gib.is_zero();
        Capabilities {
            post_copy: forces && self.terms.may_post_copy(),
            pause: forces && !self.terms.post_copy && !self.terms.vfio,
            ..self.hypervisor.needs()
        }
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        let due = self.polls.take_due(progress.now, POLL);
        let order = if due { self.poll(progress) } else { None };
        self.hypervisor.decide(moment, progress, order, self.polls.next)
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}
