//! The parameters of `qemu-auto-converge`: the rule's limits, and auto-converge's own.

use super::super::limits::{self, DOWNTIME, MAX_BANDWIDTH, SWITCHOVER};
use super::super::{Q1, Q2, Q3, Q4, Q6, Qemu, QemuDefault};
use super::AutoConverge;
use crate::policy::Policy;
use crate::policy::presets::parameters::{Given, on_off};
use crate::policy::presets::{ParameterInfo, ParameterKind, PresetError, PresetInfo};

/// The rule in short, at the defaults.
const RULE: &str = "\
what qemu-default does, and
at a harvest, once two periods (of more than 1 s) were high: a period is high
if more was dirtied in it than throttle-trigger-threshold x sent:
    not throttled yet: share = throttle-initial
    else:
        step = throttle-increment
        tailslow: running = 100 - share
                  ideal = running x threshold x sent / dirtied, rounded down
                  step = min(running - ideal, throttle-increment)
        share = min(share + step, max-throttle)
every 5 s, from round 1 on (periodic-sync):
    nothing harvested since the last time: harvest";

/// What people should know of it besides.
const NOTES: &[&str] =
    &["Shares are rounded to whole percents and held to 1 to 99; the initial share is held to the \
     largest, where QEMU refuses one above it."];

pub(in crate::policy::presets) const INFO: PresetInfo = PresetInfo {
    name: "qemu-auto-converge",
    summary: "QEMU with auto-converge: as `qemu-default`, and slows every vCPU, from 20 % of its time up to \
              99 %, while the guest dirties more than half of what is sent.",
    approximate: None,
    rule: RULE,
    notes: NOTES,
    sources: &[Q1, Q2, Q3, Q4, Q6],
    parameters: &[
        DOWNTIME,
        SWITCHOVER,
        MAX_BANDWIDTH,
        ParameterInfo {
            name: "throttle-initial",
            kind: ParameterKind::Share,
            default: "20%",
            doc: "The share of CPU that is taken away first (QEMU's cpu-throttle-initial), rounded to whole \
                  percents.",
            source: "Q2",
        },
        ParameterInfo {
            name: "throttle-increment",
            kind: ParameterKind::Share,
            default: "10%",
            doc: "By how much the share grows (QEMU's cpu-throttle-increment), rounded to whole percents.",
            source: "Q2",
        },
        ParameterInfo {
            name: "max-throttle",
            kind: ParameterKind::Share,
            default: "99%",
            doc: "The largest share (QEMU's max-cpu-throttle), held to 1% to 99%.",
            source: "Q2",
        },
        TRIGGER_THRESHOLD,
        ParameterInfo {
            name: "tailslow",
            kind: ParameterKind::Choice(&["off", "on"]),
            default: "off",
            doc: "Whether the share grows by no more than would make the guest dirty just the threshold \
                  (QEMU's cpu-throttle-tailslow).",
            source: "Q2",
        },
        ParameterInfo {
            name: "periodic-sync",
            kind: ParameterKind::Choice(&["on", "off"]),
            default: "on",
            doc: "Whether a timer of 5 s harvests when nothing else has (QEMU 9.2 on; off: QEMU before \
                  that).",
            source: "Q4",
        },
    ],
    build,
};

/// What [`periods`](super::super::periods) compare with.
pub(in super::super) const TRIGGER_THRESHOLD: ParameterInfo = ParameterInfo {
    name: "throttle-trigger-threshold",
    kind: ParameterKind::Share,
    default: "50%",
    doc: "What is dirtied in a period is too much above this share of what is sent, in whole percents.",
    source: "Q2",
};

/// What `migrate-set-parameters` changes of them while a migration runs.
pub(in super::super) const CHANGEABLE: [&str; 8] = [
    limits::NAMES[0],
    limits::NAMES[1],
    limits::NAMES[2],
    "throttle-initial",
    "throttle-increment",
    "max-throttle",
    TRIGGER_THRESHOLD.name,
    "tailslow",
];

fn build(given: &Given<'_>) -> Result<Box<dyn Policy>, PresetError> {
    Ok(Box::new(Qemu::converging(QemuDefault::read(given)?, AutoConverge::read(given)?)))
}

impl AutoConverge {
    /// Auto-converge with these parameters, before its first period.
    pub(in super::super) fn read(given: &Given<'_>) -> Result<Self, PresetError> {
        Ok(Self {
            throttle_initial: given.share("throttle-initial")?,
            throttle_increment: given.share("throttle-increment")?,
            max_throttle: given.share("max-throttle")?,
            throttle_trigger_threshold: given.share(TRIGGER_THRESHOLD.name)?,
            tailslow: given.switch("tailslow")?,
            periodic_sync: given.switch("periodic-sync")?,
            ..Self::default()
        })
    }

    /// Its parameters as texts.
    pub(in super::super) fn texts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("throttle-initial", self.throttle_initial.to_string()),
            ("throttle-increment", self.throttle_increment.to_string()),
            ("max-throttle", self.max_throttle.to_string()),
            (TRIGGER_THRESHOLD.name, self.throttle_trigger_threshold.to_string()),
            ("tailslow", on_off(self.tailslow)),
            ("periodic-sync", on_off(self.periodic_sync)),
        ]
    }
}
