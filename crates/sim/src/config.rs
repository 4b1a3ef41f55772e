//! What is simulated: the guest, the hosts and the link, as physical parameters.
//!
//! Every field has a unit, a default and the source of that default ("assumed" where there is none).
//! The laboratory reads these structures from scenario files; whoever embeds the simulator fills them
//! in directly and calls `validate` before the simulator does. Nothing here simulates anything.
//!
//! "Measured" below means: on Linux 6.18 by this project (write tracking with userfaultfd), or on the
//! reference runs of QEMU 7.2 that `reference/` describes.

mod encodings;
mod measured;
mod validate;

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use whimbrel_core::layout::{PageRun, PageSize};
use whimbrel_core::units::{Bandwidth, ByteCount, Share, duration};

pub use self::encodings::{CompressionConfig, XbzrleConfig};
pub use self::measured::{Activity, Follows, MeasuredWrites, PageClass, PageCycle};
pub use self::validate::ConfigError;
use crate::trace::NamedTrace;

/// 1 Gbit/s in bytes a second.
const GIGABIT: Bandwidth = Bandwidth::from_bytes_per_second(NonZeroU64::new(125_000_000).unwrap());

/// How finely a guest is simulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Fidelity {
    /// Every page.
    #[default]
    Exact,
    /// Expected numbers of pages: what many exact runs come to on average, in microseconds.
    Fluid,
}

/// The guest: its memory and who writes to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct GuestConfig {
    /// Guest memory; a whole number of pages. Default 4GiB: assumed, a small cloud instance.
    pub memory: ByteCount,
    /// Size of a guest page, the unit that is tracked and sent. Default 4KiB: what KVM tracks and QEMU
    /// sends on x86-64.
    pub page_size: PageSize,
    /// Number of vCPUs; a writer is one thread and uses at most one of them. Default 1: as in the
    /// reference runs.
    pub vcpus: u32,
    /// Share of memory that was never written: zero pages, outside all working sets. Default 0: all
    /// memory has been used, the worst case.
    pub zero_pages: Share,
    /// How much the memory in use when the migration starts differs from run to run: the standard deviation of
    /// its size, by so many more or fewer zero pages. Default 0B: every run starts alike. Boots of the
    /// reference runs' guest differ by 20 KiB.
    pub used_spread: ByteCount,
    /// Where the zero pages are. Default `spread`: assumed.
    pub zero_placement: ZeroPlacement,
    /// Share of a page's content that is random and cannot be compressed, in eighths. Only lab guests have content; of a
    /// simulated guest's pages [`CompressionConfig::ratio`] says what is left. Default 1: the worst case.
    pub random_content: Share,
    /// Of the pages that are written, the share whose content is the same afterwards. Default 0: every
    /// write changes something, the worst case.
    pub unchanged_pages: Share,
    /// Size of the CPU and device state. Default 1MiB: assumed, from QEMU's `pc` machine, where the
    /// registers of a vCPU take some KiB and display and disk controllers the rest.
    pub state: ByteCount,
    /// Pages that a guest touches after it was resumed, before it does anything that can be seen from
    /// outside; they matter in post-copy, where some are missing. Default 256, one in 64 of
    /// `resume-span`: assumed.
    pub resume_pages: u32,
    /// At the end of memory, so much of it is where they are scattered, too. Default 0B: assumed. Linux
    /// allocates from the end down while it boots: 11 MiB of a guest of 512 MiB, most of it page structures.
    pub resume_top: ByteCount,
    /// From the beginning of memory up to here these pages are scattered. Default 64MiB: measured, an idle
    /// Linux 6.1 guest that had nothing made 22 requests, each of which brought the 3.2 MiB in flight with
    /// it.
    pub resume_span: ByteCount,
    /// Who writes; none (the default) is an idle guest.
    pub writers: Vec<WriterConfig>,
}

impl Default for GuestConfig {
    fn default() -> Self {
        Self {
            memory: ByteCount::gib(4),
            page_size: PageSize::Kib4,
            vcpus: 1,
            zero_pages: Share::ZERO,
            used_spread: ByteCount(0),
            zero_placement: ZeroPlacement::Spread,
            random_content: Share::ONE,
            unchanged_pages: Share::ZERO,
            state: ByteCount::mib(1),
            resume_pages: 256,
            resume_top: ByteCount(0),
            resume_span: ByteCount::mib(64),
            writers: Vec::new(),
        }
    }
}

/// Where in the order of page numbers the zero pages are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ZeroPlacement {
    /// In groups of 64 pages, evenly spread over all memory outside the working sets.
    #[default]
    Spread,
    /// At the end of memory, in one run.
    End,
}

/// One thread of the guest that writes to memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct WriterConfig {
    /// Which pages it writes. Default `uniform`: the textbook model, and the hardest for pre-copy.
    pub pattern: Pattern,
    /// It is the guest's kernel at its housekeeping: a guest that is resumed touches these pages before
    /// anything else. Default false.
    pub kernel: bool,
    /// How much memory it writes to; a whole number of pages. Default 512MiB: assumed.
    pub working_set: ByteCount,
    /// Where its working set begins; none (the default): behind that of the writer before it.
    pub offset: Option<ByteCount>,
    /// `measured`: the program's working-set curve, as `FILE#PROGRAM`, for whoever reads the configuration; the
    /// simulator takes [`WriterConfig::measured`]. None (the default): it is measured from `trace`.
    pub curve: Option<String>,
    /// `measured`: how it writes, fitted to what was measured. It takes the place of `rate`, `phases`,
    /// `write-size`, `write-at`, `write-cost` and `busy`.
    #[serde(skip)]
    pub measured: Option<Arc<MeasuredWrites>>,
    /// `measured`: pages that recur alike lie together in pieces of this size. Default 0B: each page lies by itself.
    /// How large the pieces are decides how evenly a scan of memory meets the hot pages.
    pub cluster: ByteCount,
    /// Page writes a second that it wants to make. Default 10000: assumed, 39 MiB/s of 4 KiB pages and
    /// so about a third of a link of 1 Gbit/s.
    pub rate: f64,
    /// `hot-cold`: share of the working set that is hot (its beginning). Default 0.1: as in the
    /// reference runs.
    pub hot_pages: Share,
    /// `hot-cold`: share of the writes that go to the hot pages. Default 0.9: as in the reference runs.
    pub hot_writes: Share,
    /// `zipf`: the exponent; the i-th hottest page gets writes in proportion to `i^-exponent`. Default
    /// 0.99: the constant of the YCSB benchmark, also used in the reference runs.
    pub exponent: f64,
    /// `trace`: the trace that it plays back, whose pages are those of the guest. It takes the place of
    /// `working-set`, `offset`, `rate`, `phases` and `write-cost`. `measured`: the trace whose statistics it has.
    pub trace: Option<NamedTrace>,
    /// `trace`: where in the trace it begins. Default 0s.
    #[serde(with = "duration")]
    pub trace_from: Duration,
    /// `trace`: begin again at its end, rather than fall silent. Default true: a migration may take longer
    /// than the trace.
    pub repeat: bool,
    /// `trace`: share of a vCPU that the traced guest used; with what is left it catches up after it was held
    /// up. Default 1: it has no time to make up for anything.
    pub busy: Share,
    /// When it begins, from the start of the migration. Default 0s.
    #[serde(with = "duration")]
    pub start: Duration,
    /// When it ends; none (the default): never.
    #[serde(with = "duration::option")]
    pub end: Option<Duration>,
    /// Repeating phases, from `start` on, in place of `rate`; empty (the default): `rate` all the time.
    pub phases: Vec<PhaseConfig>,
    /// Bytes of the page that one write changes, at most all; matters only where pages are encoded. Default
    /// 64B: assumed, a cache line.
    pub write_size: ByteCount,
    /// Where in the page. Default `random`: the harder to encode.
    pub write_at: WriteAt,
    /// CPU time of one write with all that the program does between two writes. Default 0.2us: assumed,
    /// a few cache misses; it bounds a writer at 5 million writes a second.
    #[serde(with = "duration")]
    pub write_cost: Duration,
    /// The longest time of missed work that it catches up after it was held up. Default 50ms: the
    /// rule of the guest program in the reference runs.
    #[serde(with = "duration")]
    pub catch_up: Duration,
}

impl Default for WriterConfig {
    fn default() -> Self {
        Self {
            pattern: Pattern::Uniform,
            kernel: false,
            working_set: ByteCount::mib(512),
            offset: None,
            curve: None,
            measured: None,
            cluster: ByteCount(0),
            rate: 10_000.0,
            hot_pages: Share::percent(10),
            hot_writes: Share::percent(90),
            exponent: 0.99,
            trace: None,
            trace_from: Duration::ZERO,
            repeat: true,
            busy: Share::ONE,
            start: Duration::ZERO,
            end: None,
            phases: Vec::new(),
            write_size: ByteCount(64),
            write_at: WriteAt::Random,
            write_cost: Duration::from_nanos(200),
            catch_up: Duration::from_millis(50),
        }
    }
}

/// Nanoseconds in a second, which a trace wants to play in one.
const NANOSECONDS: f64 = 1e9;

impl WriterConfig {
    /// Writes a second that it wants while it has no phases; of a trace, nanoseconds of its time.
    pub(crate) fn wanted_rate(&self) -> f64 {
        match (self.pattern, self.measured.as_deref()) {
            (Pattern::Trace, _) => NANOSECONDS,
            (Pattern::Measured, Some(model)) => model.rate(),
            _ => self.rate,
        }
    }

    /// CPU seconds of a write; of a trace, of a nanosecond of its time. Of a measured program, what makes it as
    /// busy as it was; a hair less, so that one that needs a whole vCPU keeps up with it, whatever is rounded.
    pub(crate) fn cost_of_a_write(&self) -> f64 {
        match (self.pattern, self.measured.as_deref()) {
            (Pattern::Trace, _) => self.busy.as_f64() / NANOSECONDS,
            (Pattern::Measured, Some(model)) => {
                model.busy.as_f64() * (1.0 - 1e-12) / model.rate().max(f64::MIN_POSITIVE)
            }
            _ => self.write_cost.as_secs_f64(),
        }
    }

    /// The pages that it writes to, within its working set `set`.
    pub(crate) fn written(&self, set: Range<u64>) -> Vec<Range<u64>> {
        match self.trace.as_ref().and_then(NamedTrace::trace) {
            Some(trace) if self.pattern == Pattern::Trace => trace.touched().map(PageRun::range).collect(),
            _ => vec![set],
        }
    }
}

/// Which bytes of a page a write changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteAt {
    /// Any neighbouring ones, another place each time.
    #[default]
    Random,
    /// Always the same.
    Fixed,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// Any page with equal chance.
    #[default]
    Uniform,
    /// One after another, round and round.
    Sequential,
    /// A hot part gets most of the writes.
    HotCold,
    /// The i-th hottest page in proportion to `i^-exponent`, hot pages scattered.
    Zipf,
    /// As a program was measured to: classes of pages that recur at different rates, scattered over the working
    /// set, in phases.
    Measured,
    /// Those of a trace, at its times.
    Trace,
    /// None.
    Idle,
}

/// What migrating costs at the two hosts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct HostConfig {
    /// CPU time to find, read and hand over a page to the socket. Default 0.25us: assumed, copying 4 KiB
    /// at 16 GB/s, so that the link is what binds. One stream of QEMU 7.2 needs about 2us (measured:
    /// 1.7 to 2.0 GiB/s with the destination preallocated).
    #[serde(with = "duration")]
    pub page_cost: Duration,
    /// CPU time to find out that a page is zero and to send its marker. Default 0.1us: assumed, reading
    /// without copying.
    #[serde(with = "duration")]
    pub zero_page_cost: Duration,
    /// Time that the destination needs for a page that it has memory for. Default 0.25us: assumed, as
    /// `page-cost`.
    #[serde(with = "duration")]
    pub receive_cost: Duration,
    /// Time that the destination needs for a page of the bulk round, whose memory it touches for the
    /// first time. Default 0.25us: assumed, memory reserved beforehand (`prealloc`). A destination under
    /// TCG that was not prepared needed 12us (measured: 3 CPU seconds a GiB).
    #[serde(with = "duration")]
    pub first_touch_cost: Duration,
    /// Fetching and clearing the dirty log, for each GiB of guest memory. Default 1ms: measured, 0.8 to
    /// 1.0 ms for 1 GiB with 2,000 scattered dirty pages. Cloud Hypervisor's developers report about
    /// 10 ms a GiB of a busy guest.
    #[serde(with = "duration")]
    pub harvest_cost: Duration,
    /// Fetching the dirty log waits until vCPUs that a throttle has put to sleep are awake. Default false:
    /// KVM. Under TCG it does (`tcg_log_global_after_sync` in QEMU's `physmem.c` waits for each vCPU).
    pub harvest_waits: bool,
    /// Starting to track, for each GiB of guest memory. Default 2ms: measured, 1 to 2.5 ms for 1 GiB;
    /// Linux commit 3c9bd400 reports 3.6 ms a GiB for KVM.
    #[serde(with = "duration")]
    pub start_tracking_cost: Duration,
    /// Time that the first write to a page after a harvest costs the vCPU that makes it. Default 2.5us:
    /// measured, 2.5 to 7 us.
    #[serde(with = "duration")]
    pub tracking_fault: Duration,
    /// Pages between two looks at the clock while sending. Default 64: QEMU's `ram.c`.
    pub send_batch: u32,
    /// Connections that carry pages side by side (QEMU's multifd), each with its own thread at both hosts:
    /// copying and receiving become so many times as fast; the link does not, nor does touching memory for
    /// the first time (measured: 1.1 to 1.2 times with 2 or 4 streams). Zero pages are found by one thread.
    /// Default 1.
    pub streams: u32,
    /// Sending differences to pages sent before.
    pub xbzrle: XbzrleConfig,
    /// Compressing pages.
    pub compression: CompressionConfig,
    /// Windows of the rate limiter: so many bytes may pass in each, at once, then it rests until the window
    /// ends. At least 0.1ms. Default 100ms: QEMU's (`BUFFER_DELAY`). Xen's let 100 KiB pass at a time, which
    /// is 8 ms at 100 Mbit/s.
    #[serde(with = "duration")]
    pub limit_window: Duration,
    /// Leave out pages that were dirtied again since the last harvest: they will be sent later anyway
    /// (Xen's and Clark's "peek"). Default false: QEMU does not.
    pub skip_redirtied: bool,
    /// Post-copy: from the touch of a missing page until its request leaves the destination. Default 50us:
    /// assumed, an event of `userfaultfd` and two changes of thread.
    #[serde(with = "duration")]
    pub post_copy_fault: Duration,
    /// Post-copy: pages that were asked for go over a connection of their own, past what is queued in the
    /// other's socket. Default false: QEMU's `postcopy-preempt` is off by default.
    pub post_copy_preempt: bool,
    /// Post-copy: the order in which pages are sent that nobody asked for. Default `memory`: QEMU's.
    pub post_copy_order: PostCopyOrder,
    /// Entries of the ring in which each vCPU's dirty pages are logged; matters under a dirty limit, which
    /// is paid when it is full. A power of two. Default 4096: what QEMU's documentation of
    /// `dirty-ring-size` recommends to begin with.
    pub dirty_ring: u32,
    /// Stopping the vCPUs and draining device I/O. Default 1ms: assumed; with saving, restoring and
    /// resuming near the least silence in the reference runs (3 ms from stop to resume).
    #[serde(with = "duration")]
    pub pause: Duration,
    /// From the guest's standing still until the migration may go on: what management does in QEMU's
    /// `pre-switchover`. Part of the ledger's `pause`. Default 0s: nobody waits.
    #[serde(with = "duration")]
    pub switchover_gate: Duration,
    /// Saving the CPU and device state. Default 1ms: assumed, see `pause`.
    #[serde(with = "duration")]
    pub save_state: Duration,
    /// Restoring it at the destination. Default 1ms: assumed, see `pause`.
    #[serde(with = "duration")]
    pub restore_state: Duration,
    /// Resuming the vCPUs at the destination. Default 1ms: assumed, see `pause`.
    #[serde(with = "duration")]
    pub resume: Duration,
    /// How much the sender's count of bytes is behind what it sent when a slice ends, as time of the link: the
    /// standard deviation of that; on average it is three times as much. The bandwidth that the policy sees varies by it, what is sent does not. Default 0s: the count
    /// is exact. In the reference runs it is 2.1 ms.
    #[serde(with = "duration")]
    pub count_jitter: Duration,
    /// How much what a switchover costs (`pause`, `save-state`, `restore-state`, `resume`) differs from run to
    /// run: the standard deviation of the logarithm of a factor on all four. Default 0: it always takes as long. In
    /// the reference runs on a free wire it is 60 %.
    pub switchover_spread: Share,
    /// From the first instruction at the destination until the network knows the guest's new place.
    /// Default 0s: not counted unless asked for.
    #[serde(with = "duration")]
    pub announce: Duration,
    /// Writing one record to stable storage. Default 0.1ms: assumed, a flushed write to a fast local drive.
    #[serde(with = "duration")]
    pub persist: Duration,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            page_cost: Duration::from_nanos(250),
            zero_page_cost: Duration::from_nanos(100),
            receive_cost: Duration::from_nanos(250),
            first_touch_cost: Duration::from_nanos(250),
            harvest_cost: Duration::from_millis(1),
            harvest_waits: false,
            start_tracking_cost: Duration::from_millis(2),
            tracking_fault: Duration::from_nanos(2_500),
            send_batch: 64,
            streams: 1,
            xbzrle: XbzrleConfig::default(),
            compression: CompressionConfig::default(),
            limit_window: Duration::from_millis(100),
            skip_redirtied: false,
            post_copy_fault: Duration::from_micros(50),
            post_copy_preempt: false,
            post_copy_order: PostCopyOrder::Memory,
            dirty_ring: 4096,
            pause: Duration::from_millis(1),
            switchover_gate: Duration::ZERO,
            save_state: Duration::from_millis(1),
            restore_state: Duration::from_millis(1),
            resume: Duration::from_millis(1),
            count_jitter: Duration::ZERO,
            switchover_spread: Share::ZERO,
            announce: Duration::ZERO,
            persist: Duration::from_micros(100),
        }
    }
}

/// The order in which post-copy sends what nobody asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PostCopyOrder {
    /// By address, from the beginning or from the page that was asked for last.
    #[default]
    Memory,
    /// First the pages that the last harvest found dirty, then the others.
    HotFirst,
}

/// The link between the hosts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct LinkConfig {
    /// What it carries in one direction, headers of the network included (see `payload`). Default
    /// 1Gbit/s: assumed, the classic management network.
    pub bandwidth: Bandwidth,
    /// How much its rate differs from run to run: the standard deviation of the logarithm of a factor on all
    /// bandwidths that holds for the whole run. Default 0: every run has the same link. On the shaped links of the
    /// reference runs it is 0.3 %.
    pub bandwidth_spread: Share,
    /// There and back. Default 0.2ms: assumed, two hosts in one data centre.
    #[serde(with = "duration")]
    pub round_trip: Duration,
    /// Share of the bandwidth left to the migration's own bytes after the network's headers. Default 1:
    /// `bandwidth` is what TCP delivers. For the rate of a wire: 0.949 with frames of 1,500 bytes (1,448
    /// of 1,526 on the wire with TCP timestamps), 0.991 with 9,000 (8,948 of 9,026).
    pub payload: Share,
    /// Bytes that the source can hand over before the link has carried them: socket buffers and queues.
    /// Default 3MiB: measured, about 3.2 MiB in the reference runs (autotuned TCP buffers).
    pub buffer: ByteCount,
    /// How long a sender may have been silent and still make up for it: the depth of a token bucket, as a shaper or a limiter has
    /// one, in time at `bandwidth`. Default 0: a wire, on which time that has passed is gone.
    #[serde(with = "duration")]
    pub burst: Duration,
    /// Of the buffer, what every connection over the link waits behind: the queue of the network device.
    /// Default 1MiB: measured, pages that went over a connection of their own took 14 ms at 64 MiB/s.
    pub queue: ByteCount,
    /// Bytes of the stream before each page. Default 8B: QEMU's page header.
    pub page_overhead: ByteCount,
    /// With several streams: bytes before each batch of 128 pages of 4 KiB, and of each stream's sync at the
    /// end of a round. Default 320B: QEMU's multifd packet, without the 8 bytes a page.
    pub packet_overhead: ByteCount,
    /// Bytes of the stream for a zero page. Default 9B: QEMU's header and the fill byte.
    pub zero_page_size: ByteCount,
    /// Bytes of the stream around each message. Default 64B: assumed.
    pub message_overhead: ByteCount,
    /// Later changes of the bandwidth, in the order of time. Default none.
    pub changes: Vec<BandwidthChange>,
    /// Times at which nothing passes, in the order of time and apart. Default none.
    pub outages: Vec<Outage>,
    /// When the connection is lost for good; none (the default): never.
    #[serde(with = "duration::option")]
    pub lost_at: Option<Duration>,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            bandwidth: GIGABIT,
            bandwidth_spread: Share::ZERO,
            round_trip: Duration::from_micros(200),
            payload: Share::ONE,
            buffer: ByteCount::mib(3),
            burst: Duration::ZERO,
            queue: ByteCount::mib(1),
            page_overhead: ByteCount(8),
            packet_overhead: ByteCount(320),
            zero_page_size: ByteCount(9),
            message_overhead: ByteCount(64),
            changes: Vec::new(),
            outages: Vec::new(),
            lost_at: None,
        }
    }
}

impl LinkConfig {
    /// The same link `factor` times as fast.
    pub(crate) fn times(&self, factor: f64) -> Self {
        let mut link = self.clone();
        let changes = link.changes.iter_mut().map(|change| &mut change.bandwidth);
        for bandwidth in changes.chain([&mut link.bandwidth]) {
            let faster = (bandwidth.as_f64() * factor).round() as u64;
            *bandwidth = Bandwidth::new(faster).unwrap_or(Bandwidth::SLOWEST);
        }
        link
    }
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
