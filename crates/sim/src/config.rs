//! What is simulated: the guest, the hosts and the link, as physical parameters.
//!
//! Every field has a unit, a default and the source of that default. The laboratory reads these
//! structures from scenario files; whoever embeds the simulator fills them in directly.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use whimbrel_core::layout::PageSize;
use whimbrel_core::units::{Bandwidth, ByteCount, Share, duration};

/// The guest: its memory and who writes to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct GuestConfig {
    /// Guest memory.
    pub memory: ByteCount,
    /// Size of a guest page.
    pub page_size: PageSize,
    /// Number of vCPUs; a writer is one thread and uses at most one of them.
    pub vcpus: u32,
    /// Share of memory that was never written: zero pages, outside all working sets.
    pub zero_pages: Share,
    /// Where the zero pages are.
    pub zero_placement: ZeroPlacement,
    /// Of the pages that are written, the share whose content is the same afterwards.
    pub unchanged_pages: Share,
    /// Size of the CPU and device state.
    pub state: ByteCount,
    /// Who writes; none is an idle guest.
    pub writers: Vec<WriterConfig>,
}

/// Where in the order of page numbers the zero pages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ZeroPlacement {
    /// In groups of 64 pages, evenly spread over all memory outside the working sets.
    Spread,
    /// At the end of memory, in one run.
    End,
}

/// One thread of the guest that writes to memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct WriterConfig {
    /// Which pages it writes.
    pub pattern: Pattern,
    /// How much memory it writes to.
    pub working_set: ByteCount,
    /// Where its working set begins; none: behind that of the writer before it.
    pub offset: Option<ByteCount>,
    /// Page writes a second that it wants to make.
    pub rate: f64,
    /// `hot-cold`: share of the working set that is hot (its beginning).
    pub hot_pages: Share,
    /// `hot-cold`: share of the writes that go to the hot pages.
    pub hot_writes: Share,
    /// `zipf`: the exponent; the i-th hottest page gets writes in proportion to `i^-exponent`.
    pub exponent: f64,
    /// When it begins, from the start of the migration.
    #[serde(with = "duration")]
    pub start: Duration,
    /// When it ends; none: never.
    #[serde(with = "duration::option")]
    pub end: Option<Duration>,
    /// Repeating phases, from `start` on; empty: `rate` all the time.
    pub phases: Vec<PhaseConfig>,
    /// CPU time of one write with all that the program does between two writes.
    #[serde(with = "duration")]
    pub write_cost: Duration,
    /// The longest time of missed work that it catches up after it was held up.
    #[serde(with = "duration")]
    pub catch_up: Duration,
}

/// A stretch of time in which a writer wants another rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PhaseConfig {
    /// How long it lasts.
    #[serde(with = "duration")]
    pub length: Duration,
    /// Page writes a second.
    pub rate: f64,
}

/// Which pages of its working set a writer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// Any page with equal chance.
    Uniform,
    /// One after another, round and round.
    Sequential,
    /// A hot part gets most of the writes.
    HotCold,
    /// The i-th hottest page in proportion to `i^-exponent`, hot pages scattered.
    Zipf,
    /// None.
    Idle,
}

/// What migrating costs at the two hosts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct HostConfig {
    /// CPU time to find, read and hand over a page to the socket.
    #[serde(with = "duration")]
    pub page_cost: Duration,
    /// CPU time to find out that a page is zero and to send its marker.
    #[serde(with = "duration")]
    pub zero_page_cost: Duration,
    /// Fetching and clearing the dirty log, for each GiB of guest memory.
    #[serde(with = "duration")]
    pub harvest_cost: Duration,
    /// Starting to track, for each GiB of guest memory.
    #[serde(with = "duration")]
    pub start_tracking_cost: Duration,
    /// Time that the first write to a page after a harvest costs the vCPU that makes it.
    #[serde(with = "duration")]
    pub tracking_fault: Duration,
    /// Pages between two looks at the clock while sending.
    pub send_batch: u32,
    /// Leave out pages that were dirtied again since the last harvest: they will be sent later anyway
    /// (Xen's and Clark's "peek").
    pub skip_redirtied: bool,
    /// Stopping the vCPUs and draining device I/O.
    #[serde(with = "duration")]
    pub pause: Duration,
    /// Saving the CPU and device state.
    #[serde(with = "duration")]
    pub save_state: Duration,
    /// Restoring it at the destination.
    #[serde(with = "duration")]
    pub restore_state: Duration,
    /// Resuming the vCPUs at the destination.
    #[serde(with = "duration")]
    pub resume: Duration,
    /// From the first instruction at the destination until the network knows the guest's new place.
    #[serde(with = "duration")]
    pub announce: Duration,
    /// Writing one record to stable storage.
    #[serde(with = "duration")]
    pub persist: Duration,
}

/// The link between the hosts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct LinkConfig {
    /// What it carries in one direction, headers of the network included.
    pub bandwidth: Bandwidth,
    /// There and back.
    #[serde(with = "duration")]
    pub round_trip: Duration,
    /// Share of the bandwidth left to the migration's own bytes after the network's headers.
    pub payload: Share,
    /// Bytes that the source can hand over before the link has carried them: socket buffers and queues.
    pub buffer: ByteCount,
    /// Bytes of the stream before each page.
    pub page_overhead: ByteCount,
    /// Bytes of the stream for a zero page.
    pub zero_page_size: ByteCount,
    /// Bytes of the stream around each message.
    pub message_overhead: ByteCount,
    /// Later changes of the bandwidth, in the order of time.
    pub changes: Vec<BandwidthChange>,
    /// Times at which nothing passes, in the order of time.
    pub outages: Vec<Outage>,
    /// When the connection is lost for good; none: never.
    #[serde(with = "duration::option")]
    pub lost_at: Option<Duration>,
}

/// The link carries `bandwidth` from `at` on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BandwidthChange {
    /// From the start of the migration.
    #[serde(with = "duration")]
    pub at: Duration,
    /// What it carries from then on.
    pub bandwidth: Bandwidth,
}

/// Nothing passes from `at` for `length`; nothing is lost either.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Outage {
    /// From the start of the migration.
    #[serde(with = "duration")]
    pub at: Duration,
    /// How long.
    #[serde(with = "duration")]
    pub length: Duration,
}
