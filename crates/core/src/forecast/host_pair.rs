//! What a handover costs between two hosts, whatever is pending, as earlier migrations between them showed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::layout::PageSize;
use crate::report::{Outcome, Report};
use crate::units::{Bandwidth, ByteCount, Pages, duration};

/// Costs of a handover between two hosts beside the pages.
///
/// The whole downtime is `fixed`, a harvest, and the time that the last pages and `state` take. A manager
/// keeps one value a pair of hosts, updates it with [`learn`](Self::learn) after every migration between
/// them, and hands it to the next one's policy as parameters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct HostPair {
    /// Stopping, saving, restoring, committing and resuming, and the ways of the messages.
    #[serde(with = "duration")]
    pub fixed: Duration,
    /// The final harvest, for each GiB of guest memory.
    #[serde(with = "duration")]
    pub harvest: Duration,
    /// Bytes that must pass beside the pages: the CPU and device state.
    pub state: ByteCount,
    /// The rate of sending in the last migration; none if there was none.
    pub bandwidth: Option<Bandwidth>,
}

impl Default for HostPair {
    /// Nothing learned yet: 8 ms (assumed: twice the least silence of the reference runs and more), 1 ms a GiB
    /// (measured, see the simulator's `host.harvest-cost`), 2 MiB of state (assumed: twice that of QEMU's
    /// `pc` machine).
    fn default() -> Self {
        Self {
            fixed: Duration::from_millis(8),
            harvest: Duration::from_millis(1),
            state: ByteCount::mib(2),
            bandwidth: None,
        }
    }
}

/// How much of a new observation is taken over: the last few migrations count.
const SHARE: f64 = 0.5;

fn towards(old: Duration, seen: Duration) -> Duration {
    // A cost that was met once can be met again: up at once, down by halves.
    if seen > old { seen } else { seen + old.saturating_sub(seen).mul_f64(1.0 - SHARE) }
}

impl HostPair {
    /// Learns from a migration that completed by pre-copy; others tell nothing here.
    ///
    /// `memory` was the guest's, and bytes that were in flight at the pause count as state: they had to
    /// pass, too.
    pub fn learn(&mut self, report: &Report, page_size: PageSize) {
        let Some(last) = report.rounds.last().filter(|round| round.paused) else { return };
        if report.outcome != Outcome::Completed || report.post_copy.is_some() {
            return;
        }
        let longest = report.rounds.iter().filter(|round| !round.paused).max_by_key(|round| round.length);
        let Some(bandwidth) = longest.and_then(|round| round.bandwidth) else { return };
        let ledger = &report.downtime;
        let fixed = ledger.pause + ledger.save + ledger.restore + ledger.commit + ledger.resume;
        let gib = report.memory.as_f64() / ByteCount::gib(1).as_f64();
        let pages = Pages(last.sent_pages.0).bytes(page_size).as_f64();
        let passed = bandwidth.as_f64() * (ledger.last_pages + ledger.transfer).as_secs_f64();
        let state = ByteCount((passed - pages).max(0.0) as u64);
        self.fixed = towards(self.fixed, fixed);
        self.harvest = towards(self.harvest, ledger.harvest.div_f64(gib.max(1e-3)));
        self.state = if state > self.state {
            state
        } else {
            ByteCount(state.0 + ((self.state.0 - state.0) as f64 * (1.0 - SHARE)) as u64)
        };
        self.bandwidth = Some(bandwidth);
    }

    /// The time of a harvest of a guest with so much memory.
    pub fn harvest_of(&self, memory: ByteCount) -> Duration {
        let seconds = self.harvest.as_secs_f64() * (memory.as_f64() / ByteCount::gib(1).as_f64());
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// The downtime of a guest that has nothing pending at all: no migration between the two hosts has less.
    pub fn least_downtime(&self, memory: ByteCount) -> Duration {
        let state = self.bandwidth.map_or(Duration::ZERO, |bandwidth| bandwidth.time_to_send(self.state));
        self.fixed.saturating_add(self.harvest_of(memory)).saturating_add(state)
    }
}
