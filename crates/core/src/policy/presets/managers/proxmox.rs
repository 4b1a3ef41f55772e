//! `proxmox`: Proxmox VE above QEMU with auto-converge (P1).
//!
//! [`RULE`] is the rule.
//!
//! * The average is what was sent up to the poll before, divided by the number of this poll.
//! * `n` counts regressions; progress does not reset it. Nothing remaining at the poll before is no
//!   remainder to compare with.
//! * Once short, the interval stays short.
//! * There is no time limit. About 15 doublings reach the longest limit.
//!
//! Auto-converge is always on.
//!
//! While a migration runs, an administrator can set QEMU's limit and cap by its monitor (`downtime`,
//! `max-bandwidth`). Proxmox VE does not notice: the next doubling is of its own number.

use std::time::Duration;

use super::{
    CAP, DOWNTIME, Given, Hypervisor, LONGEST_LIMIT, POLLED, ParameterInfo, Polls, PresetError, PresetInfo,
    Source, cap_text,
};
use crate::policy::presets::parameters::changed;
use crate::policy::{Cadence, ChangeError, Policy, Verdict};
use crate::progress::{Capabilities, Moment, Progress};
use crate::units::{ByteCount, duration};

/// Time between two polls, at first and near the end.
const SLOW: Duration = Duration::from_secs(1);
const FAST: Duration = Duration::from_millis(100);
/// More regressions than this double the limit.
const PATIENCE: u32 = 5;

/// QEMU with auto-converge and a downtime limit that doubles while what remains does not fall.
#[derive(Clone, Debug)]
struct Proxmox {
    /// As configured, or as set by QEMU's monitor.
    downtime: Duration,
    /// What the next doubling doubles.
    doubled: Duration,
    polls: Polls,
    interval: Duration,
    made: u64,
    regressions: u32,
    sent: ByteCount,
    remaining: ByteCount,
    hypervisor: Hypervisor,
}

/// The rule in short, at the defaults.
const RULE: &str = "\
every 1 s; every 0.1 s from the first poll on that finds
    remaining < average sent a poll (up to the poll before):
    if anything was sent since the last poll:
        remaining > remaining at the poll before, or remaining == 0: n += 1
        n > 5: n = 0
               downtime = min(2 x downtime, 2,000,000 ms), set as the limit
below it: QEMU, by the rule of qemu-auto-converge";

/// What people should know of it besides.
const NOTES: &[&str] = &[
    POLLED,
    "Proxmox VE also sets XBZRLE, with a cache of a tenth of RAM, rounded to a power of two: how \
     pages are encoded is the engine's affair, not the policy's. Its third capability, dirty bitmaps, \
     is about disks.",
];

pub(in crate::policy::presets) const INFO: PresetInfo = PresetInfo {
    name: "proxmox",
    summary: "Proxmox VE over QEMU with auto-converge: the downtime limit doubles each time that what \
              remains has grown at six polls; never gives up.",
    approximate: None,
    rule: RULE,
    notes: NOTES,
    sources: &[Source {
        tag: "P1",
        what: "proxmox/qemu-server src/PVE/QemuMigrate.pm, QemuServer.pm, QemuMigrate/Helpers.pm",
        version: "e6352be6 (9.2.6)",
    }],
    parameters: &[
        ParameterInfo {
            name: "downtime",
            kind: DOWNTIME,
            default: "100ms",
            doc: "The downtime limit at first (migrate_downtime).",
            source: "P1",
        },
        ParameterInfo {
            name: "max-bandwidth",
            kind: CAP,
            default: "16GiB/s",
            doc: "Cap of the sending rate until the switchover (migrate_speed, bwlimit; 16GiB/s where \
                  neither is given).",
            source: "P1",
        },
    ],
    build,
};

fn build(given: &Given<'_>) -> Result<Box<dyn Policy>, PresetError> {
    let downtime = given.duration("downtime")?;
    Ok(Box::new(Proxmox {
        downtime,
        doubled: downtime,
        polls: Polls::every(SLOW),
        interval: SLOW,
        made: 0,
        regressions: 0,
        sent: ByteCount::ZERO,
        remaining: ByteCount::ZERO,
        hypervisor: Hypervisor::new(downtime, given.optional_bandwidth("max-bandwidth")?, true),
    }))
}

impl Proxmox {
    fn poll(&mut self, progress: &Progress) {
        self.made = self.made.saturating_add(1);
        if progress.sent == self.sent {
            return;
        }
        let remaining = progress.pending_bytes();
        // Until something was sent there is no average; zero is above no remainder.
        if remaining.0 < self.sent.0 / self.made {
            self.interval = FAST;
        }
        let grown = !self.remaining.is_zero() && remaining > self.remaining;
        if grown || remaining.is_zero() {
            self.regressions += 1;
        }
        self.remaining = remaining;
        self.sent = progress.sent;
        if self.regressions > PATIENCE {
            self.regressions = 0;
            self.doubled = self.doubled.saturating_mul(2).min(LONGEST_LIMIT);
            self.hypervisor.set_limit(self.doubled);
        }
    }
}

impl Policy for Proxmox {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("downtime", duration::format(self.downtime)),
            ("max-bandwidth", cap_text(self.hypervisor.cap())),
        ]
    }

    fn cadence(&self) -> Cadence {
        self.hypervisor.cadence()
    }

    fn needs(&self) -> Capabilities {
        self.hypervisor.needs()
    }

    fn decide(&mut self, moment: Moment, progress: &Progress) -> Verdict {
        if self.polls.take_due(progress.now, self.interval) {
            self.poll(progress);
            // The next sleep is as long as this poll has made it.
            self.polls.made(progress.now, self.interval);
        }
        self.hypervisor.decide(moment, progress, None, self.polls.next)
    }

    fn set_parameter(&mut self, name: &str, value: &str) -> Result<(), ChangeError> {
        let texts = changed(self, &INFO, &["downtime", "max-bandwidth"], name, value)?;
        // `changed` has checked the value.
        if let Ok(given) = Given::new(&INFO, &texts) {
            match name {
                "downtime" => {
                    self.downtime = given.duration(name).unwrap_or(self.downtime);
                    self.hypervisor.set_limit(self.downtime);
                }
                _ => self.hypervisor.set_cap(given.optional_bandwidth(name).unwrap_or(self.hypervisor.cap())),
            }
        }
        Ok(())
    }

    fn boxed_clone(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}
