//! `qemu-auto-converge`: every vCPU is slowed, more and more, while the guest dirties too fast (Q2, Q3, Q4).
//!
//! ```text
//! at each harvest that ends a second high period (see `periods`):
//!     not throttled yet: share = throttle-initial
//!     else:
//!         step = throttle-increment
//!         tailslow: running = 100 - share; ideal = running x threshold / dirty (rounded down)
//!                   step = min(running - ideal, throttle-increment)
//!         share = min(share + step, max-throttle)
//! every 5 s, from round 1 on (periodic-sync): nothing harvested since the last time: harvest
//! ```
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
//! QEMU's shares are whole percents from 1 to 99 and it refuses a `max-throttle` below
//! `throttle-initial`. Ours are rounded to whole percents and held to that range, and the initial share is
//! held to the largest.

use super::limits::{self, DOWNTIME, MAX_BANDWIDTH, SWITCHOVER};
use super::periods::{High, Periods, percent};
use super::sync_timer::SyncTimer;
use super::{Q1, Q2, Q3, Q4, Q6, Qemu, QemuDefault};
use crate::policy::presets::parameters::Given;
use crate::policy::presets::{ParameterInfo, ParameterKind, PresetError, PresetInfo};
use crate::policy::{Decision, Policy, Verdict};
use crate::progress::{Moment, Progress};
use crate::throttle::Throttle;
use crate::units::{CpuShare, Share};

pub(in crate::policy::presets) const INFO: PresetInfo = PresetInfo {
    name: "qemu-auto-converge",
    summary: "QEMU with auto-converge: as `qemu-default`, and slows every vCPU, from 20 % of its time up to 99 %, \
              while the guest dirties more than half of what is sent.",
    approximate: None,
    sources: &[Q1, Q2, Q3, Q4, Q6],
    parameters: &[
        DOWNTIME,
        SWITCHOVER,
        MAX_BANDWIDTH,
        ParameterInfo {
            name: "throttle-initial",
            kind: ParameterKind::Share,
            default: "20%",
            doc: "The share of CPU that is taken away first (QEMU's cpu-throttle-initial), rounded to whole percents.",
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
            doc: "Whether the share grows by no more than would make the guest dirty just the threshold (QEMU's \
                  cpu-throttle-tailslow).",
            source: "Q2",
        },
        ParameterInfo {
            name: "periodic-sync",
            kind: ParameterKind::Choice(&["on", "off"]),
            default: "on",
            doc: "Whether a timer of 5 s harvests when nothing else has (QEMU 9.2 on; off: QEMU before that).",
            source: "Q4",
        },
    ],
    build,
};

/// What [`periods`](super::periods) compare with.
pub(super) const TRIGGER_THRESHOLD: ParameterInfo = ParameterInfo {
    name: "throttle-trigger-threshold",
    kind: ParameterKind::Share,
    default: "50%",
    doc: "What is dirtied in a period is too much above this share of what is sent, in whole percents.",
    source: "Q2",
};

/// What `migrate-set-parameters` changes of them while a migration runs.
pub(super) const CHANGEABLE: [&str; 8] = [
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
    /// Auto-converge with these parameters, before its first period.
    pub(super) fn read(given: &Given<'_>) -> Result<Self, PresetError> {
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
    pub(super) fn texts(&self) -> Vec<(&'static str, String)> {
        let switch = |on| if on { "on" } else { "off" }.to_owned();
        vec![
            ("throttle-initial", self.throttle_initial.to_string()),
            ("throttle-increment", self.throttle_increment.to_string()),
            ("max-throttle", self.max_throttle.to_string()),
            (TRIGGER_THRESHOLD.name, self.throttle_trigger_threshold.to_string()),
            ("tailslow", switch(self.tailslow)),
            ("periodic-sync", switch(self.periodic_sync)),
        ]
    }

    /// The parameters of `fresh` with the memory of `self`.
    pub(super) fn adopt(&mut self, fresh: Self) {
        let Self { periods, share, timer, .. } = *self;
        *self = Self { periods, share, timer, ..fresh };
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
