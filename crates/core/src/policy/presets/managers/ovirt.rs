//! `ovirt-minimal`, `ovirt-suspend`, `ovirt-postcopy`: oVirt's migration policies above QEMU with
//! auto-converge (O1, O2, O3).
//!
//! [`RULE`] is the rule.
//!
//! * A stall is a poll that finds more remaining than the poll before it. Two rounds between two polls
//!   count once or not at all, a round that grew between two polls within one round not either: `n` is no
//!   number of rounds, and on a fast link it depends on where in a round the poll falls.
//! * `n` must be more than an item's number: 150 ms come with the second stall.
//! * There is no time limit: a guest whose remainder never grows is migrated for ever.
//! * A limit of 5 s is a limit that the policy wants, so a switchover under it is not a forced one.

use std::time::Duration;

use super::{
    CAP, DOWNTIME, Given, Hypervisor, Order, POLLED, ParameterInfo, ParameterKind, Polls, PresetError,
    PresetInfo, SWITCH, Source, cap_text, on_off,
};
use crate::policy::{Cadence, Decision, Policy, Quantity, Reason, Relation, Verdict};
use crate::progress::{Capabilities, Moment, Progress};
use crate::units::{ByteCount, duration};

/// What one item of a schedule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    SetDowntime(Duration),
    /// The downtime of the parameter `last-downtime`.
    SetLastDowntime,
    PostCopy,
    Abort,
}

/// An item of a schedule: done when there were more stalls than `above`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Item {
    above: u32,
    action: Action,
}

const fn downtime(above: u32, millis: u64) -> Item {
    Item { above, action: Action::SetDowntime(Duration::from_millis(millis)) }
}

/// An item without a limit of its own.
const fn last(action: Action) -> Item {
    Item { above: 0, action }
}

/// One of oVirt's policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Minimal,
    Suspend,
    PostCopy,
}

impl Kind {
    const fn info(self) -> &'static PresetInfo {
        match self {
            Self::Minimal => &INFO_MINIMAL,
            Self::Suspend => &INFO_SUSPEND,
            Self::PostCopy => &INFO_POSTCOPY,
        }
    }

    const fn schedule(self) -> &'static [Item] {
        match self {
            Self::Minimal => &MINIMAL,
            Self::Suspend => &SUSPEND,
            Self::PostCopy => &POST_COPY,
        }
    }
}

const MINIMAL: [Item; 6] = [
    downtime(1, 150),
    downtime(2, 200),
    downtime(3, 300),
    downtime(4, 400),
    downtime(6, 500),
    last(Action::Abort),
];
const SUSPEND: [Item; 7] = [
    downtime(1, 150),
    downtime(2, 200),
    downtime(3, 300),
    downtime(4, 400),
    downtime(6, 500),
    last(Action::SetLastDowntime),
    last(Action::Abort),
];
/// Giving up follows post-copy in oVirt's schedule, for when that could not be started.
const POST_COPY: [Item; 3] = [downtime(1, 150), downtime(2, 200), last(Action::PostCopy)];

/// QEMU with a downtime limit that rises as stalls add up.
#[derive(Clone, Debug)]
struct Ovirt {
    kind: Kind,
    initial_downtime: Duration,
    last_downtime: Duration,
    interval: Duration,
    auto_converge: bool,
    polls: Polls,
    /// What remained at the last poll.
    remaining: Option<ByteCount>,
    stalls: u32,
    /// Items of the schedule that are done.
    done: usize,
    hypervisor: Hypervisor,
}

const SOURCES: &[Source] = &[
    Source {
        tag: "O1",
        what: "oVirt engine, MigrationPolicies (packaging/dbscripts config)",
        version: "as of 4.7",
    },
    Source { tag: "O2", what: "oVirt/vdsm lib/vdsm/virt/migration.py, config.py", version: "00b36bae" },
    Source { tag: "O3", what: "oVirt engine, bll ConvergenceSchedule.java", version: "as stored, 4.x" },
];

const INITIAL_DOWNTIME: ParameterInfo = ParameterInfo {
    name: "initial-downtime",
    kind: DOWNTIME,
    default: "100ms",
    doc: "The downtime limit at first.",
    source: "O1",
};
const LAST_DOWNTIME: ParameterInfo = ParameterInfo {
    name: "last-downtime",
    kind: DOWNTIME,
    default: "5s",
    doc: "The downtime limit before giving up.",
    source: "O1",
};
const POLL: ParameterInfo = ParameterInfo {
    name: "poll-interval",
    kind: ParameterKind::Duration { most: None },
    default: "10s",
    doc: "Time between two polls (migration_monitor_interval).",
    source: "O2",
};
const AUTO_CONVERGE: ParameterInfo = ParameterInfo {
    name: "auto-converge",
    kind: SWITCH,
    default: "on",
    doc: "Whether QEMU may slow the guest.",
    source: "O1",
};
const MAX_BANDWIDTH: ParameterInfo = ParameterInfo {
    name: "max-bandwidth",
    kind: CAP,
    default: "unlimited",
    doc: "Cap of the sending rate until the switchover. oVirt shares out the network's between the \
          migrations of a host; the default is ours.",
    source: "ours",
};

/// The rule in short, at the defaults.
const RULE: &str = "\
at first: downtime limit = 100 ms
every 10 s:
    if remaining > remaining at the poll before: n += 1
        n > number of the schedule's first item: do it, strike it off
minimal:   1: 150 ms, 2: 200 ms, 3: 300 ms, 4: 400 ms, 6: 500 ms, then abort
suspend:   the same,                                     then 5000 ms, abort
post-copy: 1: 150 ms, 2: 200 ms,                         then post-copy
below it: QEMU, by the rule of qemu-auto-converge";

/// What people should know of it besides.
const NOTES: &[&str] = &[
    POLLED,
    "n is never reset, and no more than one item is done at a stall. The last items have no number: \
     one a stall.",
    "Not modelled: compression (on in \"suspend\") is the engine's affair, as is how many migrations \
     run at once (2, 1, 2).",
    "Assumed: no cap of the sending rate, which oVirt derives from the host's network. The schedule \
     is fixed, but for its first and last limit.",
];

pub(in crate::policy::presets) const INFO_MINIMAL: PresetInfo = PresetInfo {
    name: "ovirt-minimal",
    summary: "oVirt's \"Minimal downtime\" over QEMU with auto-converge: the downtime limit rises to 500 ms \
              as stalls add up (a poll, every 10 s, that finds more remaining than the one before); then it \
              gives up.",
    approximate: None,
    rule: RULE,
    notes: NOTES,
    sources: SOURCES,
    parameters: &[INITIAL_DOWNTIME, POLL, AUTO_CONVERGE, MAX_BANDWIDTH],
    build: |given| build(Kind::Minimal, given),
};

pub(in crate::policy::presets) const INFO_SUSPEND: PresetInfo = PresetInfo {
    name: "ovirt-suspend",
    summary: "oVirt's \"Suspend workload if needed\" over QEMU with auto-converge: the downtime limit rises \
              to 500 ms as stalls add up (a poll, every 10 s, that finds more remaining than the one \
              before), then to 5 s; then it gives up.",
    approximate: None,
    rule: RULE,
    notes: NOTES,
    sources: SOURCES,
    parameters: &[INITIAL_DOWNTIME, LAST_DOWNTIME, POLL, AUTO_CONVERGE, MAX_BANDWIDTH],
    build: |given| build(Kind::Suspend, given),
};

pub(in crate::policy::presets) const INFO_POSTCOPY: PresetInfo = PresetInfo {
    name: "ovirt-postcopy",
    summary: "oVirt's \"Post-copy migration\" over QEMU with auto-converge: the downtime limit rises to \
              200 ms as stalls add up (a poll, every 10 s, that finds more remaining than the one before); \
              then it goes over to post-copy.",
    approximate: None,
    rule: RULE,
    notes: NOTES,
    sources: SOURCES,
    parameters: &[INITIAL_DOWNTIME, POLL, AUTO_CONVERGE, MAX_BANDWIDTH],
    build: |given| build(Kind::PostCopy, given),
};

fn build(kind: Kind, given: &Given<'_>) -> Result<Box<dyn Policy>, PresetError> {
    let initial_downtime = given.duration("initial-downtime")?;
    let interval = given.duration("poll-interval")?;
    let auto_converge = given.switch("auto-converge")?;
    let cap = given.optional_bandwidth("max-bandwidth")?;
    let last_downtime = if kind == Kind::Suspend { given.duration("last-downtime")? } else { Duration::ZERO };
    Ok(Box::new(Ovirt {
        kind,
        initial_downtime,
        last_downtime,
        interval,
        auto_converge,
        polls: Polls::every(interval),
        remaining: None,
        stalls: 0,
        done: 0,
        hypervisor: Hypervisor::new(initial_downtime, cap, auto_converge),
    }))
}

impl Ovirt {
    fn poll(&mut self, progress: &Progress) -> Option<Order> {
        let remaining = progress.pending_bytes();
        let before = self.remaining.replace(remaining)?;
        if before >= remaining {
            return None;
        }
        self.stalls = self.stalls.saturating_add(1);
        let item = self.kind.schedule().get(self.done).filter(|item| item.above < self.stalls)?;
        self.done += 1;
        let decision = match item.action {
            Action::SetDowntime(limit) => {
                self.hypervisor.set_limit(limit);
                return None;
            }
            Action::SetLastDowntime => {
                self.hypervisor.set_limit(self.last_downtime);
                return None;
            }
            Action::PostCopy => Decision::PostCopy,
            Action::Abort => Decision::Abort,
        };
        let reason = Reason::new(
            ("remaining", Quantity::Bytes(remaining)),
            Relation::Above,
            ("remaining at the last poll", Quantity::Bytes(before)),
        )
        .with("stalls", Quantity::Count(self.stalls.into()));
        Some(Order { decision, reason })
    }
}

impl Policy for Ovirt {
    fn name(&self) -> &'static str {
        self.kind.info().name
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut texts = vec![(INITIAL_DOWNTIME.name, duration::format(self.initial_downtime))];
        if self.kind == Kind::Suspend {
            texts.push((LAST_DOWNTIME.name, duration::format(self.last_downtime)));
        }
        texts.push((POLL.name, duration::format(self.interval)));
        texts.push((AUTO_CONVERGE.name, on_off(self.auto_converge)));
        texts.push((MAX_BANDWIDTH.name, cap_text(self.hypervisor.cap())));
        texts
    }

    fn cadence(&self) -> Cadence {
        self.hypervisor.cadence()
    }

    fn needs(&self) -> Capabilities {
        Capabilities { post_copy: self.kind == Kind::PostCopy, ..self.hypervisor.needs() }
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        let due = self.polls.take_due(progress.now, self.interval);
        let order = if due { self.poll(progress) } else { None };
        self.hypervisor.decide(moment, progress, order, self.polls.next)
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}
