//! What a migration is wanted to be: the parameters of `whimbrel`.

use std::time::Duration;

use crate::forecast::HostPair;
use crate::policy::presets::parameters::{Given, on_off};
use crate::policy::presets::{ParameterInfo, ParameterKind, PresetError};
use crate::policy::{Quantity, Reason, Relation};
use crate::progress::Progress;
use crate::units::{Share, duration};

const NEVER: &str = "never";
const UNKNOWN: &str = "unknown";

/// An intent: bounds that a migration must keep to be wanted at all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Intent {
    /// The longest time for which the guest may be away, from end to end.
    pub downtime: Duration,
    /// The longest time that the whole migration may take; none: any.
    pub deadline: Option<Duration>,
    /// The greatest share of CPU that may be taken from the guest: at any time by the clock, on the average of
    /// the migration by a dirty limit.
    pub slowdown: Share,
    /// Whether the guest may be handed over before all its pages are.
    pub post_copy: bool,
}

pub(super) const PARAMETERS: &[ParameterInfo] = &[
    ParameterInfo {
        name: "downtime",
        kind: ParameterKind::Duration { most: None },
        default: "300ms",
        doc: "The longest time for which the guest may be away, from its last instruction here to its first \
              there.",
        source: "ours",
    },
    ParameterInfo {
        name: "deadline",
        kind: ParameterKind::OptionalDuration { none: NEVER },
        default: NEVER,
        doc: "The longest time that the whole migration may take.",
        source: "ours",
    },
    ParameterInfo {
        name: "slowdown",
        kind: ParameterKind::Share,
        default: "0%",
        doc: "The greatest share of CPU that may be taken from the guest while it migrates; by a dirty limit: \
              on the average of the migration.",
        source: "ours",
    },
    ParameterInfo {
        name: "post-copy",
        kind: ParameterKind::Choice(&["on", "off"]),
        default: "off",
        doc: "Whether the guest may be handed over before all its pages are.",
        source: "ours",
    },
    ParameterInfo {
        name: "host-fixed",
        kind: ParameterKind::Duration { most: None },
        default: "8ms",
        doc: "What a handover between the two hosts costs beside harvest and bytes: stopping, saving, \
              restoring, committing, resuming. Learned from earlier migrations.",
        source: "ours",
    },
    ParameterInfo {
        name: "host-harvest",
        kind: ParameterKind::Duration { most: None },
        default: "1ms",
        doc: "What a harvest costs for each GiB of guest memory, before one was seen.",
        source: "ours",
    },
    ParameterInfo {
        name: "host-state",
        kind: ParameterKind::Bytes,
        default: "2MiB",
        doc: "Bytes that must pass beside the pages while the guest is away: its CPU and device state.",
        source: "ours",
    },
    ParameterInfo {
        name: "host-bandwidth",
        kind: ParameterKind::OptionalBandwidth { none: UNKNOWN },
        default: UNKNOWN,
        doc: "The rate of sending in earlier migrations; only to refuse at the start what can't be done.",
        source: "ours",
    },
    ParameterInfo {
        name: "used-memory",
        kind: ParameterKind::Share,
        default: "50%",
        doc: "The least share of the guest's memory that is in use; only to refuse at the start what can't \
              be done.",
        source: "ours",
    },
];

/// An intent, and what is known before the migration begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) intent: Intent,
    pub(super) host: HostPair,
    pub(super) used: Share,
}

impl Wanted {
    pub(super) fn read(given: &Given<'_>) -> Result<Self, PresetError> {
        Ok(Self {
            intent: Intent {
                downtime: given.duration("downtime")?,
                deadline: given.optional_duration("deadline")?,
                slowdown: given.share("slowdown")?,
                post_copy: given.switch("post-copy")?,
            },
            host: HostPair {
                fixed: given.duration("host-fixed")?,
                harvest: given.duration("host-harvest")?,
                state: given.bytes("host-state")?,
                bandwidth: given.optional_bandwidth("host-bandwidth")?,
            },
            used: given.share("used-memory")?,
        })
    }

    pub(super) fn texts(&self) -> Vec<(&'static str, String)> {
        let Self { intent, host, used } = self;
        vec![
            ("downtime", duration::format(intent.downtime)),
            ("deadline", intent.deadline.map_or_else(|| NEVER.to_owned(), duration::format)),
            ("slowdown", intent.slowdown.to_string()),
            ("post-copy", on_off(intent.post_copy)),
            ("host-fixed", duration::format(host.fixed)),
            ("host-harvest", duration::format(host.harvest)),
            ("host-state", host.state.to_string()),
            ("host-bandwidth", host.bandwidth.map_or_else(|| UNKNOWN.to_owned(), |rate| rate.to_string())),
            ("used-memory", used.to_string()),
        ]
    }

    /// Why it can't be done, whatever the guest does, as far as that is known before anything was sent. The left
    /// side says what would be possible.
    pub(super) fn refusal(&self, progress: &Progress) -> Option<Reason> {
        let Self { intent, host, used } = self;
        let memory = progress.pending_bytes();
        let least = host.least_downtime(memory);
        if least > intent.downtime {
            let left = ("least downtime of the two hosts", Quantity::Duration(least));
            let harvest = Quantity::Duration(host.harvest_of(memory));
            return Some(
                Reason::new(left, Relation::Above, ("downtime", Quantity::Duration(intent.downtime)))
                    .with("harvest", harvest)
                    .with("fixed", Quantity::Duration(host.fixed)),
            );
        }
        let (deadline, bandwidth) = (intent.deadline?, host.bandwidth?);
        let used = used.of(progress.pending).bytes(progress.page_size);
        let copy = bandwidth.time_to_send(used);
        (copy > deadline).then(|| {
            let left = ("least time of one copy", Quantity::Duration(copy));
            Reason::new(left, Relation::Above, ("deadline", Quantity::Duration(deadline)))
                .with("memory in use", Quantity::Bytes(used))
                .with("bandwidth", Quantity::Bandwidth(bandwidth))
        })
    }
}
