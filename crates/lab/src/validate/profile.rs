//! A host profile: what belongs to the host and the guest's kernel and not to a run.
//!
//! Seventeen scalars, each with a physical meaning, none indexed by a run's configuration. With a
//! run's configuration they give everything that the simulator needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use whimbrel_core::layout::PageNumber;
use whimbrel_core::layout::PageRun;
use whimbrel_core::policy::presets::{self, PresetError};
use whimbrel_core::units::{Bandwidth, ByteCount, Pages, Share, duration};
use whimbrel_sim::Setup;
use whimbrel_sim::config::{
    GuestConfig, HostConfig, LinkConfig, Pattern, WriteAt, WriterConfig, XbzrleConfig,
};

use super::features::Features;
use super::measured::Configuration;
use super::programs::Program;
use crate::input;
use crate::scenario::error::MAX_FILE;

/// The profile of the runs in `reference/qemu/`, built in.
pub const BUILTIN: (&str, &str) = ("tcg-7.2", include_str!("../../../../hosts/tcg-7.2.toml"));

/// What belongs to the host and the guest's kernel.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HostProfile {
    /// Non-zero memory that is not the workload's, without page structures and page tables.
    pub kernel_memory: ByteCount,
    /// How much of it lies above the last free memory.
    pub kernel_memory_at_top: ByteCount,
    /// Free memory below the workload, in the order of addresses.
    pub free_below_workload: ByteCount,
    /// RAM blocks of the machine beside main memory (firmware, tables): zero but migrated.
    pub other_ram_blocks: ByteCount,
    /// The kernel's own recurring dirty set.
    pub kernel_dirty: ByteCount,
    /// Bytes that the sender can hand over before it blocks.
    pub socket_buffer: ByteCount,
    /// Speed of copying into the socket.
    pub send_speed: Bandwidth,
    /// The same where a queue on the way holds the bytes back; none: as `send-speed`.
    #[serde(default)]
    pub queue_speed: Option<Bandwidth>,
    /// Speed of taking pages whose memory is touched for the first time.
    pub first_touch_speed: Bandwidth,
    /// Whether fetching the dirty log waits for vCPUs asleep under a throttle.
    pub harvest_waits: bool,
    /// CPU time of one write of the workload.
    #[serde(with = "duration")]
    pub write_cost: Duration,
    /// From the command to the first page.
    #[serde(with = "duration")]
    pub setup: Duration,
    /// What a switchover costs with nothing to send: once at the source, once more at the destination.
    #[serde(with = "duration")]
    pub switchover: Duration,
    /// How early or late QEMU's count of bytes is over a link, as time of that: the standard deviation.
    #[serde(default, with = "duration")]
    pub count_jitter: Duration,
    /// How much the switchover differs from run to run: the standard deviation of its logarithm.
    #[serde(default)]
    pub switchover_spread: Share,
    /// The same of the rate of a link that is held down.
    #[serde(default)]
    pub link_spread: Share,
    /// How much the memory in use differs from boot to boot: its standard deviation.
    #[serde(default)]
    pub used_spread: ByteCount,
}

/// A profile could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// Neither a built-in name nor a file that can be read.
    #[error("no host profile `{name}`: built in is `{}`, and as a file it can't be read", BUILTIN.0)]
    Unknown {
        /// What was asked for.
        name: String,
        /// Why the file can't be read.
        #[source]
        source: std::io::Error,
    },
    /// Not a profile.
    #[error("{}: not a host profile", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: Box<toml::de::Error>,
    },
    /// A run asks for what no guest can have.
    #[error("run `{run}`: {what}")]
    Impossible {
        /// Which run.
        run: String,
        /// What is wrong.
        what: String,
    },
    /// The preset.
    #[error(transparent)]
    Preset(#[from] PresetError),
}

/// Pages of 4 KiB.
pub(super) const PAGE: u64 = 4096;
/// The most memory that a run may have, MiB.
const MOST_MEMORY: u64 = 1 << 24;
/// Bytes of the kernel's `struct page`, one for each page.
const PAGE_STRUCTURE: u64 = 64;
/// Bytes of a page-table entry, one for each page of the workload.
const PAGE_TABLE_ENTRY: u64 = 8;
/// Payload of a loopback segment (MTU 65536), and what goes over the same queue beside it: Ethernet, IP
/// and TCP headers, and half of an acknowledgement.
const SEGMENT: (f64, f64) = (65_483.0, 66.0 + 33.0);
/// What the kernel changes in a page of that set: counters and pointers.
const KERNEL_WRITE: ByteCount = ByteCount(8);
/// How often the kernel rewrites each page of its recurring set; any rate far above that of rounds.
const KERNEL_WRITES_PER_PAGE: f64 = 50.0;

impl HostProfile {
    /// The profile of this name, or from this file.
    ///
    /// # Errors
    ///
    /// [`ProfileError`] if there is none, or it is not one.
    pub fn load(name: &str) -> Result<Self, ProfileError> {
        let (text, path) = if name == BUILTIN.0 {
            (BUILTIN.1.to_owned(), PathBuf::from(format!("hosts/{name}.toml")))
        } else {
            let path = Path::new(name);
            let text = input::read_text(path, MAX_FILE)
                .map_err(|source| ProfileError::Unknown { name: name.to_owned(), source })?;
            (text, path.to_owned())
        };
        toml::from_str(&text).map_err(|source| ProfileError::Invalid { path, source: Box::new(source) })
    }

    /// The simulation of a run, from its configuration alone.
    ///
    /// # Errors
    ///
    /// [`ProfileError`] if the configuration is not possible.
    pub fn setup_for(
        &self,
        run: &Configuration,
        features: &Features,
        seed: u64,
    ) -> Result<Setup, ProfileError> {
        let (guest, zero_runs) = self.guest(run)?;
        let guest = GuestConfig { used_spread: self.used_spread, ..guest };
        self.setup(run, features, (guest, zero_runs), seed)
    }

    /// The simulation of a run of a real program.
    ///
    /// # Errors
    ///
    /// [`ProfileError`] if the configuration is not possible.
    pub fn setup_for_program(
        &self,
        run: &Configuration,
        features: &Features,
        program: &Program,
        seed: u64,
    ) -> Result<Setup, ProfileError> {
        let (guest, zero_runs) = program.guest(run, self.other_ram_blocks.0 / PAGE)?;
        // What was ready was looked at in one boot, and this run is another.
        let used_spread = ByteCount((self.used_spread.as_f64() * std::f64::consts::SQRT_2) as u64);
        self.setup(run, features, (GuestConfig { used_spread, ..guest }, zero_runs), seed)
    }

    fn setup(
        &self,
        run: &Configuration,
        features: &Features,
        (guest, zero_runs): (GuestConfig, Vec<PageRun>),
        seed: u64,
    ) -> Result<Setup, ProfileError> {
        let mut parameters = BTreeMap::from([("downtime-limit".to_owned(), format!("{}ms", run.dl))]);
        if run.bw > 0.0 {
            parameters.insert("max-bandwidth".to_owned(), format!("{}MiB/s", run.bw));
        }
        let (preset, more) = features.policy.clone().unwrap_or(("qemu-default", BTreeMap::new()));
        parameters.extend(more);
        let mut setup = Setup::new(guest, presets::build(preset, &parameters)?);
        setup.zero_runs = Some(zero_runs);
        setup.host = self.host(run, features);
        setup.link = self.link(run)?;
        setup.seed = seed;
        setup.time_limit = Duration::from_secs_f64(run.timeout_s.clamp(0.0, 1e6));
        setup.journal = false;
        Ok(setup)
    }

    /// The order of addresses: kernel, free memory, workload, free memory, what early boot allocated
    /// top-down (page structures, page tables, some of the kernel), other RAM blocks.
    fn guest(&self, run: &Configuration) -> Result<(GuestConfig, Vec<PageRun>), ProfileError> {
        let impossible =
            |what: &str| ProfileError::Impossible { run: run.name.clone(), what: what.to_owned() };
        if run.m > MOST_MEMORY || run.mem > run.m || run.wws > run.mem {
            return Err(impossible("`m`, `mem` and `wws` must be at most 16777216 MiB, `m` and `mem`"));
        }
        let ram = run.m * 256;
        let workload = run.mem * 256;
        let other = self.other_ram_blocks.0 / PAGE;
        let at_top = self.kernel_memory_at_top.0 / PAGE;
        let low = (self.kernel_memory.0 / PAGE).saturating_sub(at_top);
        let free_low = self.free_below_workload.0 / PAGE;
        let top = at_top + ram * PAGE_STRUCTURE / PAGE + (workload * PAGE_TABLE_ENTRY).div_ceil(PAGE);
        let begin = low + free_low;
        let free_high = ram
            .checked_sub(begin + workload + top)
            .ok_or_else(|| impossible("workload and kernel do not fit into memory"))?;
        let zero = |first: u64, count: u64| PageRun { first: PageNumber(first), count: Pages(count) };
        let zero_runs = [zero(low, free_low), zero(begin + workload, free_high), zero(ram, other)];
        let (pattern, exponent) = match run.pattern.as_str() {
            _ if run.rate <= 0.0 => (Pattern::Idle, run.theta),
            "uniform" => (Pattern::Uniform, run.theta),
            "seq" => (Pattern::Sequential, run.theta),
            "hotcold" => (Pattern::HotCold, run.theta),
            "zipf" => (Pattern::Zipf, run.theta),
            _ => (Pattern::Idle, run.theta),
        };
        let share = |value: f64, name: &str| {
            Share::new(value).map_err(|error| impossible(&format!("{name}: {error}")))
        };
        let kernel_dirty = self.kernel_dirty.0 / PAGE;
        let workload = WriterConfig {
            pattern,
            working_set: ByteCount(run.wws.min(run.mem) << 20),
            offset: Some(ByteCount(begin * PAGE)),
            rate: run.rate,
            hot_pages: share(run.hot_pages, "hot_pages")?,
            hot_writes: share(run.hot_writes, "hot_writes")?,
            exponent,
            write_size: ByteCount(run.wbytes),
            write_cost: self.write_cost,
            ..WriterConfig::default()
        };
        let kernel = WriterConfig {
            pattern: Pattern::Uniform,
            kernel: true,
            working_set: ByteCount(kernel_dirty * PAGE),
            offset: Some(ByteCount(1 << 20)),
            rate: kernel_dirty as f64 * KERNEL_WRITES_PER_PAGE,
            write_size: KERNEL_WRITE,
            write_at: WriteAt::Fixed,
            ..WriterConfig::default()
        };
        let guest = GuestConfig {
            memory: ByteCount((ram + other) * PAGE),
            vcpus: 1,
            state: ByteCount(0),
            resume_span: ByteCount(low * PAGE),
            resume_top: ByteCount((top + other) * PAGE),
            writers: vec![workload, kernel],
            ..GuestConfig::default()
        };
        let zero_runs = zero_runs.into_iter().filter(|run| run.count > Pages(0)).collect();
        Ok((guest, zero_runs))
    }

    fn host(&self, run: &Configuration, features: &Features) -> HostConfig {
        let page = ByteCount(PAGE);
        let speed = self.queue_speed.filter(|_| run.link > 0.0).unwrap_or(self.send_speed);
        let touch = self.first_touch_speed.time_to_send(page);
        HostConfig {
            page_cost: speed.time_to_send(page),
            receive_cost: Duration::ZERO,
            first_touch_cost: if run.dst_prealloc { Duration::ZERO } else { touch },
            harvest_cost: Duration::ZERO,
            harvest_waits: self.harvest_waits,
            start_tracking_cost: Duration::ZERO,
            tracking_fault: Duration::ZERO,
            pause: Duration::ZERO,
            save_state: self.switchover,
            restore_state: Duration::ZERO,
            resume: self.switchover,
            switchover_spread: self.switchover_spread,
            count_jitter: if run.link > 0.0 { self.count_jitter } else { Duration::ZERO },
            persist: Duration::ZERO,
            streams: features.streams,
            xbzrle: XbzrleConfig { cache: features.xbzrle_cache, ..XbzrleConfig::default() },
            post_copy_preempt: features.preempt,
            ..HostConfig::default()
        }
    }

    fn link(&self, run: &Configuration) -> Result<LinkConfig, ProfileError> {
        let impossible = |what: String| ProfileError::Impossible { run: run.name.clone(), what };
        let (payload, beside) = SEGMENT;
        let bandwidth = if run.link > 0.0 {
            let bytes = run.link * (1u64 << 20) as f64;
            Bandwidth::new(bytes as u64).ok_or_else(|| impossible(format!("link = {}", run.link)))?
        } else {
            // The free wire is bound by the two hosts' CPUs alone.
            Bandwidth::FASTEST
        };
        Ok(LinkConfig {
            bandwidth,
            bandwidth_spread: if run.link > 0.0 { self.link_spread } else { Share::ZERO },
            payload: Share::new(payload / (payload + beside)).unwrap_or(Share::ONE),
            round_trip: Duration::ZERO,
            buffer: self.socket_buffer,
            ..LinkConfig::default()
        })
    }
}
