//! `nova`: the compute service of `OpenStack`, above libvirt and QEMU (N1).
//!
//! [`RULE`] is the rule.
//!
//! * Before the first poll QEMU's own limit of 300 ms applies.
//! * Delays and the timeout are cut to whole seconds, limits to whole milliseconds.
//! * Both comparisons are strict, and force-complete comes one poll after the timeout.
//! * Auto-converge is used only if post-copy is not permitted.
//! * A guest that was paused and can't be handed over is unpaused: the engine's affair.
//!
//! While a migration runs, an operator can change `completion-timeout` and `timeout-action` (both are
//! marked mutable in nova's configuration, and read at each poll); asking for force-complete through the
//! API is the same as setting a timeout that has passed. What the ground can't do then is not done: as in
//! nova, where that is a warning in the log.

use std::time::Duration;

use super::{
    AFTER_PAUSE, CAP, DOWNTIME, Given, Hypervisor, Order, POLLED, ParameterInfo, ParameterKind, PresetError,
    PresetInfo, SWITCH, Source, UNSET_LIMIT, cap_text, on_off,
};
use crate::policy::presets::parameters::changed;
use crate::policy::{Cadence, ChangeError, Decision, Policy, Quantity, Reason, Relation, Verdict};
use crate::progress::{Capabilities, Moment, Progress};
use crate::units::{ByteCount, Timestamp, duration};

/// Time between two polls.
const POLL: Duration = Duration::from_millis(500);
/// What RAM, and each copied disk, counts at least.
const LEAST_DATA: ByteCount = ByteCount::gib(2);
/// The words for what happens when the time is up.
const ABORT: &str = "abort";
const FORCE_COMPLETE: &str = "force-complete";

/// QEMU with a downtime limit that rises in steps, and a timeout.
#[derive(Clone, Debug)]
struct Nova {
    max_downtime: Duration,
    steps: u32,
    delay: Duration,
    timeout: Duration,
    force_complete: bool,
    post_copy: bool,
    auto_converge: bool,
    disks: ByteCount,
    hypervisor: Hypervisor,
}

/// The rule in short, at the defaults.
const RULE: &str = "\
data = max(2 GiB, RAM) + copied disks
every 0.5 s, with the time passed since the start:
    force-complete asked for at an earlier poll:
        post-copy if permitted and available, else pause
    passed > completion-timeout x GiB of data:
        abort, or ask for force-complete
    for i = 0 to steps: passed > downtime-delay x GiB of data x i:
        downtime limit = base + i x (max - base) / steps
            with base = max / steps
below it: QEMU, by the rule of qemu-default (qemu-auto-converge if permitted)";

/// What people should know of it besides.
const NOTES: &[&str] = &[
    POLLED,
    AFTER_PAUSE,
    "A completion-timeout or timeout-action that is changed while it runs counts from the poll \
     before: it acts up to 1 s early.",
    "Not modelled: one migration a host at a time (the default), and the progress that nova stores \
     every 5 s and logs every 30 s, 100 - round(remaining / total x 100).",
    "Nova refuses fewer than 3 steps, delays below 3 s and downtimes below 100 ms; any are accepted \
     here.",
];

pub(in crate::policy::presets) const INFO: PresetInfo = PresetInfo {
    name: "nova",
    summary: "OpenStack nova over QEMU: the downtime limit rises in steps with the time passed; after a \
              timeout it gives up, or forces completion.",
    approximate: None,
    rule: RULE,
    notes: NOTES,
    sources: &[Source {
        tag: "N1",
        what: "openstack/nova nova/virt/libvirt/{migration,driver}.py, nova/conf/{libvirt,compute}.py, \
               live-migration-usage.rst",
        version: "00a03040",
    }],
    parameters: &[
        ParameterInfo {
            name: "max-downtime",
            kind: DOWNTIME,
            default: "500ms",
            doc: "The downtime limit of the last step (live_migration_downtime; nova takes 100ms or more).",
            source: "N1",
        },
        ParameterInfo {
            name: "downtime-steps",
            kind: ParameterKind::Count,
            default: "10",
            doc: "Steps from the first limit, max-downtime divided by this, to the last \
                  (live_migration_downtime_steps; nova takes 3 or more). 0: the last at once.",
            source: "N1",
        },
        ParameterInfo {
            name: "downtime-delay",
            kind: ParameterKind::Duration { most: None },
            default: "75s",
            doc: "Time between two steps for each GiB of data (live_migration_downtime_delay; nova takes 3s \
                  or more).",
            source: "N1",
        },
        ParameterInfo {
            name: "completion-timeout",
            kind: ParameterKind::Duration { most: None },
            default: "800s",
            doc: "Time for each GiB of data after which the timeout action applies \
                  (live_migration_completion_timeout); 0s: never.",
            source: "N1",
        },
        ParameterInfo {
            name: "timeout-action",
            kind: ParameterKind::Choice(&[ABORT, FORCE_COMPLETE]),
            default: ABORT,
            doc: "When the time is up: give up, or force completion, by post-copy if that is permitted, \
                  else by pausing the guest (live_migration_timeout_action).",
            source: "N1",
        },
        ParameterInfo {
            name: "permit-post-copy",
            kind: SWITCH,
            default: "off",
            doc: "Whether completion may be forced by post-copy (live_migration_permit_post_copy).",
            source: "N1",
        },
        ParameterInfo {
            name: "permit-auto-converge",
            kind: SWITCH,
            default: "off",
            doc: "Whether QEMU may slow the guest (live_migration_permit_auto_converge); ignored where \
                  post-copy is permitted.",
            source: "N1",
        },
        ParameterInfo {
            name: "copied-disks",
            kind: ParameterKind::Bytes,
            default: "0B",
            doc: "Disks that are copied with the guest, together; they count as data. Nova counts each at \
                  2GiB or more: write so, the sum of these counts. Any but none counts at least 2GiB. The \
                  disks are not sent here.",
            source: "N1",
        },
        ParameterInfo {
            name: "max-bandwidth",
            kind: CAP,
            default: "unlimited",
            doc: "Cap of the sending rate until the switchover (live_migration_bandwidth).",
            source: "N1",
        },
    ],
    build,
};

fn build(given: &Given<'_>) -> Result<Box<dyn Policy>, PresetError> {
    Ok(Box::new(Nova::new(given)?))
}

impl Nova {
    fn new(given: &Given<'_>) -> Result<Self, PresetError> {
        let post_copy = given.switch("permit-post-copy")?;
        let auto_converge = given.switch("permit-auto-converge")?;
        let max_bandwidth = given.optional_bandwidth("max-bandwidth")?;
        Ok(Self {
            max_downtime: given.duration("max-downtime")?,
            steps: given.count("downtime-steps")?,
            delay: given.duration("downtime-delay")?,
            timeout: given.duration("completion-timeout")?,
            force_complete: given.choice("timeout-action")? == FORCE_COMPLETE,
            post_copy,
            auto_converge,
            disks: given.bytes("copied-disks")?,
            hypervisor: Hypervisor::new(UNSET_LIMIT, max_bandwidth, auto_converge && !post_copy),
        })
    }

    /// `per_gib` for all data of this guest, in whole seconds.
    fn for_data(&self, per_gib: Duration, progress: &Progress) -> Duration {
        let ram = progress.memory.bytes(progress.page_size).max(LEAST_DATA);
        let disks = if self.disks.is_zero() { self.disks } else { self.disks.max(LEAST_DATA) };
        let data = u128::from(ram.saturating_add(disks).0);
        let nanos = per_gib.as_nanos().saturating_mul(data) / u128::from(ByteCount::gib(1).0);
        Duration::from_secs(u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX))
    }

    /// The downtime limit of step `step`, in whole milliseconds.
    fn limit_of(&self, step: u32) -> Duration {
        let steps = u128::from(self.steps.max(1));
        let share = steps + (steps - 1) * u128::from(step);
        let millis = self.max_downtime.as_nanos() * share / (steps * steps) / 1_000_000;
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    /// The last step that the poll at `polled` has reached; none before the first.
    fn step_at(&self, polled: Duration, delay: Duration) -> Option<u32> {
        // The time must be more than that of the step.
        let before = polled.as_nanos().checked_sub(1)?;
        let reached = before.checked_div(delay.as_nanos()).unwrap_or(u128::MAX);
        Some(u32::try_from(reached).unwrap_or(u32::MAX).min(self.steps))
    }

    /// When the action at the timeout is taken: at the first poll after this. None: never.
    fn acts_after(&self, progress: &Progress) -> Option<(Duration, Duration)> {
        let timeout = self.for_data(self.timeout, progress);
        let queued = if self.force_complete { POLL } else { Duration::ZERO };
        (!timeout.is_zero() && !progress.paused).then(|| (timeout, timeout.saturating_add(queued)))
    }

    /// What is ordered at the poll at `polled`.
    fn order(&self, polled: Duration, progress: &Progress) -> Option<Order> {
        let (timeout, after) = self.acts_after(progress)?;
        if polled <= after {
            return None;
        }
        let can = progress.capabilities;
        let decision = match self.force_complete {
            false => Decision::Abort,
            true if self.post_copy && can.post_copy => Decision::PostCopy,
            true if can.pause => Decision::Pause,
            true => return None,
        };
        let passed = ("elapsed", Quantity::Duration(polled));
        let timeout = ("completion-timeout", Quantity::Duration(timeout));
        Some(Order { decision, reason: Reason::new(passed, Relation::Above, timeout) })
    }

    /// The next poll after the one at `polled` that could change something.
    fn next_change(&self, polled: Duration, delay: Duration, progress: &Progress) -> Timestamp {
        let next_step = match self.step_at(polled, delay) {
            None => Some(0),
            Some(step) if step < self.steps => Some(u128::from(step) + 1),
            Some(_) => None,
        };
        let step_at = next_step.map(|step| delay.as_nanos().saturating_mul(step));
        let acts_at = self.acts_after(progress).map(|(_, after)| after.as_nanos());
        // What could be done already and is not, can't be done here.
        let ahead = acts_at.filter(|&at| at >= polled.as_nanos());
        let Some(change) = step_at.into_iter().chain(ahead).min() else {
            return Timestamp::MAX;
        };
        let poll = (change / POLL.as_nanos()).saturating_add(1).saturating_mul(POLL.as_nanos());
        u64::try_from(poll).map_or(Timestamp::MAX, Timestamp::from_nanos)
    }
}

/// The last poll at or before `now`.
fn last_poll(now: Timestamp) -> Duration {
    let poll = POLL.as_nanos() as u64;
    Duration::from_nanos(now.as_nanos() / poll * poll)
}

impl Policy for Nova {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("max-downtime", duration::format(self.max_downtime)),
            ("downtime-steps", self.steps.to_string()),
            ("downtime-delay", duration::format(self.delay)),
            ("completion-timeout", duration::format(self.timeout)),
            ("timeout-action", if self.force_complete { FORCE_COMPLETE } else { ABORT }.to_owned()),
            ("permit-post-copy", on_off(self.post_copy)),
            ("permit-auto-converge", on_off(self.auto_converge)),
            ("copied-disks", self.disks.to_string()),
            ("max-bandwidth", cap_text(self.hypervisor.cap())),
        ]
    }

    fn cadence(&self) -> Cadence {
        self.hypervisor.cadence()
    }

    fn needs(&self) -> Capabilities {
        let forces = self.force_complete && !self.timeout.is_zero();
        Capabilities {
            post_copy: forces && self.post_copy,
            pause: forces && !self.post_copy,
            ..self.hypervisor.needs()
        }
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        let polled = last_poll(progress.now);
        let delay = self.for_data(self.delay, progress);
        let limit = self.step_at(polled, delay).map_or(UNSET_LIMIT, |step| self.limit_of(step));
        self.hypervisor.set_limit(limit);
        let order = self.order(polled, progress);
        let next = self.next_change(polled, delay, progress);
        self.hypervisor.decide(moment, progress, order, next)
    }

    fn set_parameter(&mut self, name: &str, value: &str) -> Result<(), ChangeError> {
        let texts = changed(self, &INFO, &["completion-timeout", "timeout-action"], name, value)?;
        // `changed` has checked the value.
        if let Ok(new) = Given::new(&INFO, &texts).and_then(|given| Self::new(&given)) {
            self.timeout = new.timeout;
            self.force_complete = new.force_complete;
        }
        Ok(())
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}
