//! The statistics record: all that a policy, a progress bar and a report may know.
//!
//! The [`Controller`](crate::controller::Controller) keeps one [`Progress`] up to date and shows it to
//! the policy at every [`Moment`]. Whoever decides, decides on these numbers alone: nothing here may
//! depend on the ground (simulated, live or QEMU) on which the migration runs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::layout::PageSize;
use crate::throttle::Throttle;
use crate::units::{Bandwidth, ByteCount, PageRate, Pages, Timestamp};

/// When a policy is asked.
///
/// A round is what lies between two harvests. Round 0, the bulk round, starts with the full set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// Some of the round was sent and some is pending; the policy's own tick period has passed.
    Tick,
    /// The dirty log was harvested and nothing of it was sent yet.
    RoundStart,
    /// Everything pending was sent; what was dirtied meanwhile is not known yet.
    RoundEnd,
}

/// What a ground can do. A policy that needs more is refused by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Capabilities {
    /// vCPUs can be slowed by a share of their time.
    pub throttle: bool,
    /// vCPUs can be held to a rate of dirtying, each by itself (KVM's dirty ring).
    pub dirty_limit: bool,
    /// The destination can fetch pages after the handover.
    pub post_copy: bool,
    /// The dirty log can be harvested while pages are pending.
    pub harvest_on_demand: bool,
    /// The guest can be paused while pages are still sent, without a switchover.
    pub pause: bool,
}

impl Capabilities {
    /// The first thing that `self` needs and `offered` lacks, by its name in configuration files.
    pub fn missing_from(self, offered: Self) -> Option<&'static str> {
        [
            (self.throttle && !offered.throttle, "throttle"),
            (self.dirty_limit && !offered.dirty_limit, "dirty-limit"),
            (self.post_copy && !offered.post_copy, "post-copy"),
            (self.harvest_on_demand && !offered.harvest_on_demand, "harvest-on-demand"),
            (self.pause && !offered.pause, "pause"),
        ]
        .into_iter()
        .find_map(|(missing, name)| missing.then_some(name))
    }
}

/// What is known at a [`Moment`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Progress {
    /// Time since the migration began (the configuration was sent).
    pub now: Timestamp,
    /// The round in progress; 0 is the bulk round.
    pub round: u32,
    /// When this round began.
    pub round_started: Timestamp,
    /// Size of a guest page.
    pub page_size: PageSize,
    /// All guest memory.
    pub memory: Pages,
    /// The guest's vCPUs; 1 where nobody said.
    #[serde(default = "one")]
    pub vcpus: u32,
    /// Pages still to be sent, as far as the source's own set knows.
    pub pending: Pages,
    /// Of the pages pending when this round began, those that were left over from the round before.
    pub left_over: Pages,
    /// Pages that the last harvest found dirty. Those that were already pending are counted.
    pub dirtied: Pages,
    /// `dirtied` over the time between the last two harvests; none before the first harvest.
    pub dirty_rate: Option<PageRate>,
    /// Rate of sending over the policy's own window
    /// ([`BandwidthWindow`](crate::policy::BandwidthWindow)); none before the first window has ended.
    pub bandwidth: Option<Bandwidth>,
    /// Bytes sent since the migration began.
    pub sent: ByteCount,
    /// Pages sent since the migration began, zero pages among them.
    pub sent_pages: Pages,
    /// Bytes sent in this round.
    pub round_sent: ByteCount,
    /// Pages sent in this round, zero pages among them.
    pub round_sent_pages: Pages,
    /// Bytes handed to the transport that it has not carried yet; none where the ground can't tell. They have to
    /// pass before what is sent after them: a guest paused now waits for them, too. (On Linux a socket's
    /// `SIOCOUTQ`.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<ByteCount>,
    /// Pages left out of this round so far because they were dirty again.
    pub round_skipped: Pages,
    /// The throttle in force.
    pub throttle: Throttle,
    /// The guest is paused by [`Decision::Pause`](crate::policy::Decision::Pause) and dirties nothing.
    pub paused: bool,
    /// Parts of the downtime that do not depend on what is pending, as far as they have been seen.
    pub fixed_costs: Duration,
    /// What this ground can do.
    pub capabilities: Capabilities,
}

fn one() -> u32 {
    1
}

impl Progress {
    /// A record at the very start: everything pending, nothing sent.
    pub fn at_start(page_size: PageSize, memory: Pages, capabilities: Capabilities) -> Self {
        Self {
            now: Timestamp::ZERO,
            round: 0,
            round_started: Timestamp::ZERO,
            page_size,
            memory,
            vcpus: 1,
            pending: memory,
            left_over: Pages(0),
            dirtied: Pages(0),
            dirty_rate: None,
            bandwidth: None,
            sent: ByteCount(0),
            sent_pages: Pages(0),
            round_sent: ByteCount(0),
            round_sent_pages: Pages(0),
            in_flight: None,
            round_skipped: Pages(0),
            throttle: Throttle::Off,
            paused: false,
            fixed_costs: Duration::ZERO,
            capabilities,
        }
    }

    /// What is pending, each page at its full size. Zero pages are counted in full, as the field's
    /// hypervisors do, because nobody knows them before they are scanned.
    pub fn pending_bytes(&self) -> ByteCount {
        self.pending.bytes(self.page_size)
    }

    /// Time since the migration began.
    pub fn elapsed(&self) -> Duration {
        self.now.since(Timestamp::ZERO)
    }
}
