//! What a migration is wanted to be, and whether it was: policies compared by the intents that they keep.
//!
//! An [`Intent`] bounds downtime, time and slowdown, in the same words for every guest and link.
//! [`terms()`] says it to a preset in the preset's own parameters as far as it can take it; [`judge`] holds a
//! run against it, by one definition for all policies. [`learned`] gives what an earlier migration between
//! the same hosts would have taught. Called by whoever compares policies; nothing here runs a comparison
//! or prints.

mod terms;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use whimbrel_core::forecast::HostPair;
use whimbrel_core::policy::presets;
use whimbrel_core::report::{Outcome, Report};
use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::{ByteCount, Share, VcpuSeconds};
use whimbrel_sim::config::{GuestConfig, LinkConfig};
use whimbrel_sim::{Run, SimError};

pub use self::terms::terms;
use crate::scenario::Setup;

/// Bounds that a migration must keep to be wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Intent {
    /// Its name.
    pub name: &'static str,
    /// For whom it is, in a sentence.
    pub about: &'static str,
    /// The longest downtime, from the last instruction at the source to the first at the destination that
    /// brings the guest on.
    pub downtime: Duration,
    /// The longest total time: so many times what one copy of the memory takes at the link's first
    /// bandwidth, and
    pub copies: f64,
    /// so much more.
    pub grace: Duration,
    /// The greatest share of CPU that may be taken from the guest at any time; by a dirty limit: on the average.
    pub slowdown: Share,
    /// Whether post-copy is allowed.
    pub post_copy: bool,
}

const fn intent(name: &'static str, about: &'static str, downtime_ms: u64, time: (f64, u64)) -> Intent {
    Intent {
        name,
        about,
        downtime: Duration::from_millis(downtime_ms),
        copies: time.0,
        grace: Duration::from_secs(time.1),
        slowdown: Share::ZERO,
        post_copy: false,
    }
}

/// The intents by which policies are compared.
pub const INTENTS: [Intent; 6] = [
    intent("brief", "an interactive service: away for 100 ms at most, never slowed", 100, (6.0, 60)),
    intent("patient", "a database that may take its time but not be slowed", 300, (20.0, 600)),
    Intent {
        slowdown: Share::percent(30),
        ..intent("deadline", "a host that must be empty soon; a little slowdown is fine", 1_000, (1.5, 10))
    },
    Intent {
        slowdown: Share::percent(60),
        ..intent("slowable", "batch work: it may be slowed, not stopped for long", 300, (4.0, 30))
    },
    Intent {
        post_copy: true,
        ..intent("post-copy", "memory may follow afterwards, on a network that is trusted", 500, (3.0, 30))
    },
    intent("strict", "brief and soon: the hardest to keep", 150, (2.0, 10)),
];

/// The intent of this name.
pub fn find(name: &str) -> Option<&'static Intent> {
    INTENTS.iter().find(|intent| intent.name == name)
}

impl Intent {
    /// The longest total time for this guest over this link.
    pub fn deadline(&self, setup: &Setup) -> Duration {
        self.grace + copy(setup).mul_f64(self.copies)
    }
}

/// What one copy of the memory takes at the link's first bandwidth.
fn copy(setup: &Setup) -> Duration {
    setup.link.bandwidth.time_to_send(setup.guest.memory)
}

/// Which bounds of an intent a run broke.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Misses {
    /// The guest was not handed over.
    pub unfinished: bool,
    /// It took too long.
    pub late: bool,
    /// The guest was away for too long.
    pub away: bool,
    /// The guest was slowed too much.
    pub slowed: bool,
    /// Its pages followed, which was not allowed.
    pub post_copy: bool,
}

impl Misses {
    /// Whether the intent was met.
    pub fn none(self) -> bool {
        self == Self::default()
    }
}

/// Holds a run against an intent: completed, by the deadline, with no more downtime and at no time more
/// throttle than was allowed, and without post-copy if that was not.
///
/// A dirty limit has no share; for it counts what it took of the vCPUs on the average of the migration, which is
/// kind to it.
pub fn judge(intent: &Intent, setup: &Setup, run: &Run) -> Misses {
    let report = &run.report;
    let completed = report.outcome == Outcome::Completed;
    Misses {
        unfinished: !completed,
        late: completed && report.total > intent.deadline(setup),
        away: completed && report.downtime.total() > intent.downtime,
        slowed: most_taken(report, setup, run.disruption.throttle) > intent.slowdown.as_f64() + 1e-9,
        post_copy: report.post_copy.is_some() && !intent.post_copy,
    }
}

/// The greatest share of CPU that was taken.
fn most_taken(report: &Report, setup: &Setup, lost: VcpuSeconds) -> f64 {
    let by_clock = report.rounds.iter().map(|round| round.throttle.share().as_f64()).fold(0.0, f64::max);
    let limited = report.rounds.iter().any(|round| matches!(round.throttle, Throttle::DirtyLimit { .. }));
    let time = report.total.as_secs_f64() * f64::from(setup.guest.vcpus);
    if limited && time > 0.0 { by_clock.max(lost.as_f64() / time) } else { by_clock }
}

/// What an earlier migration between the same hosts, of a small guest that did nothing, would have taught.
///
/// # Errors
///
/// [`SimError`] if the hosts or the link are not possible.
pub fn learned(setup: &Setup) -> Result<HostPair, SimError> {
    let guest = GuestConfig {
        memory: ByteCount::gib(1),
        page_size: setup.guest.page_size,
        vcpus: setup.guest.vcpus,
        state: setup.guest.state,
        ..GuestConfig::default()
    };
    let policy = presets::find("whimbrel").and_then(|preset| preset.build(&BTreeMap::new()).ok());
    let Some(policy) = policy else { return Ok(HostPair::default()) };
    let mut earlier = whimbrel_sim::Setup::new(guest, policy);
    earlier.host = setup.host.clone();
    earlier.link =
        LinkConfig { changes: Vec::new(), outages: Vec::new(), lost_at: None, ..setup.link.clone() };
    earlier.journal = false;
    let run = whimbrel_sim::simulate(&earlier)?;
    let mut host =
        HostPair { fixed: Duration::ZERO, harvest: Duration::ZERO, state: ByteCount(0), bandwidth: None };
    host.learn(&run.report, setup.guest.page_size);
    Ok(host)
}
