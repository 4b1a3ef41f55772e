//! What a lab guest is to do.

use std::io;
use std::ops::Range;
use std::time::Duration;

use whimbrel_core::layout::RamLayout;
use whimbrel_core::units::{Pages, Share};

/// The most vCPUs: each has a line of 64 bytes in every page, and the device has one.
pub const MAX_VCPUS: usize = 63;

/// The guest.
#[derive(Clone, Debug, PartialEq)]
pub struct LabConfig {
    /// Seed of what memory holds and of every choice of a page.
    pub seed: u64,
    /// Its vCPUs, each of which writes.
    pub writers: Vec<Writer>,
    /// Share of memory, at its end, that is zero and stays so; less where working sets reach that far.
    pub zero_pages: Share,
    /// Share of the other pages' content that is random and cannot be compressed, in eighths: of each line of eight words so many
    /// are, and the rest is one word again and again.
    pub random_content: Share,
    /// Blocks a second that its device writes to memory; none if zero.
    pub device_rate: f64,
    /// Whether it has a heartbeat.
    pub heartbeat: bool,
}

impl Default for LabConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            writers: Vec::new(),
            zero_pages: Share::ZERO,
            random_content: Share::ONE,
            device_rate: 50.0,
            heartbeat: true,
        }
    }
}

impl LabConfig {
    /// By which both sides know that they mean the same guest: 64-bit FNV-1a of how it prints, for both run the same program.
    pub fn fingerprint(&self) -> u64 {
        format!("{self:?}").bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }
}

/// A vCPU that writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Writer {
    /// Which pages of its working set it writes.
    pub pattern: Pattern,
    /// Its working set, in pages of the guest's one region.
    pub pages: Range<u64>,
    /// Page writes a second that it wants, when it has no phases.
    pub rate: f64,
    /// Repeating phases, each with its length and rate; in place of `rate`, if there are any.
    pub phases: Vec<(Duration, f64)>,
    /// When it begins, in time that the guest has run.
    pub start: Duration,
    /// When it ends.
    pub end: Option<Duration>,
    /// CPU time of a write with all that the program does between two of them; the thread is busy so long.
    pub write_cost: Duration,
    /// The longest time of missed work that it catches up after it was held up.
    pub catch_up: Duration,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            pattern: Pattern::Uniform,
            pages: 0..0,
            rate: 0.0,
            phases: Vec::new(),
            start: Duration::ZERO,
            end: None,
            write_cost: Duration::ZERO,
            catch_up: Duration::from_millis(50),
        }
    }
}

/// Which pages of its working set a vCPU writes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Pattern {
    /// Any page with equal chance.
    Uniform,
    /// One after another, round and round.
    Sequential,
    /// The first `hot_pages` of the working set get `hot_writes` of the writes.
    HotCold {
        /// Share of the pages that is hot.
        hot_pages: Share,
        /// Share of the writes that goes to them.
        hot_writes: Share,
    },
    /// The i-th hottest page in proportion to `i^-exponent`, hot pages scattered.
    Zipf {
        /// Not negative.
        exponent: f64,
    },
}

/// Why there is no such lab guest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// More than there is room for.
    #[error("{count} writers: accepted are at most {MAX_VCPUS}, one a vCPU")]
    TooManyWriters {
        /// As configured.
        count: usize,
    },
    /// Memory in several pieces.
    #[error("{count} memory regions: the lab guest has one")]
    Regions {
        /// As configured.
        count: usize,
    },
    /// A working set that is not there.
    #[error("writer {writer}: a working set of pages {first} to {end} is not accepted: it must not be empty, and the guest has {pages} pages", first = .set.start, end = .set.end, pages = .pages.0)]
    WorkingSet {
        /// Which writer.
        writer: usize,
        /// As configured.
        set: Range<u64>,
        /// How many there are.
        pages: Pages,
    },
    /// A number that is none.
    #[error("writer {writer}: {key} of {value} is not accepted: a number from 0 to {most:e}")]
    Number {
        /// Which writer.
        writer: usize,
        /// What it is.
        key: &'static str,
        /// As configured.
        value: f64,
        /// The greatest that is accepted.
        most: f64,
    },
    /// Phases that take no time.
    #[error("writer {writer}: phases of no length are not accepted")]
    Phases {
        /// Which writer.
        writer: usize,
    },
    /// A write that takes longer than anybody waits.
    #[error("writer {writer}: a write cost of {}s is not accepted: at most {}s", .cost.as_secs_f64(), MAX_COST.as_secs())]
    WriteCost {
        /// Which writer.
        writer: usize,
        /// As configured.
        cost: Duration,
    },
    /// A device that cannot keep up.
    #[error("a device rate of {0} is not accepted: from 0 to 10000 blocks a second")]
    DeviceRate(f64),
    /// No pipe for the device.
    #[error(
        "cannot make the pipe that the device's blocks come through: raise the limit of open files (`ulimit -n`)"
    )]
    Pipe(#[source] io::Error),
    /// No thread.
    #[error("cannot start the thread {name}: raise the limit of processes (`ulimit -u`)")]
    Thread {
        /// Its name.
        name: String,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
}

/// Page writes a second beyond which a thread only writes and never rests; far more than any can make.
const MAX_RATE: f64 = 1e10;
/// The longest that a write may take; that of scenarios.
const MAX_COST: Duration = Duration::from_hours(1);
/// Zipf's exponent beyond which all writes go to one page.
const MAX_EXPONENT: f64 = 100.0;

fn number(writer: usize, key: &'static str, value: f64, most: f64) -> Result<(), ConfigError> {
    if (0.0..=most).contains(&value) { Ok(()) } else { Err(ConfigError::Number { writer, key, value, most }) }
}

impl LabConfig {
    /// Whether such a guest can be in this memory.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn check(&self, layout: &RamLayout) -> Result<(), ConfigError> {
        if layout.regions().len() != 1 {
            return Err(ConfigError::Regions { count: layout.regions().len() });
        }
        if self.writers.len() > MAX_VCPUS {
            return Err(ConfigError::TooManyWriters { count: self.writers.len() });
        }
        if !(0.0..=10_000.0).contains(&self.device_rate) {
            return Err(ConfigError::DeviceRate(self.device_rate));
        }
        self.writers.iter().enumerate().try_for_each(|(index, writer)| writer.check(index, layout.pages()))
    }
}

impl Writer {
    fn check(&self, writer: usize, pages: Pages) -> Result<(), ConfigError> {
        if self.pages.is_empty() || self.pages.end > pages.0 {
            return Err(ConfigError::WorkingSet { writer, set: self.pages.clone(), pages });
        }
        number(writer, "a rate", self.rate, MAX_RATE)?;
        for &(_, rate) in &self.phases {
            number(writer, "the rate of a phase", rate, MAX_RATE)?;
        }
        if !self.phases.is_empty() && self.phases.iter().all(|(length, _)| length.is_zero()) {
            return Err(ConfigError::Phases { writer });
        }
        if self.write_cost > MAX_COST {
            return Err(ConfigError::WriteCost { writer, cost: self.write_cost });
        }
        match self.pattern {
            Pattern::Zipf { exponent } => number(writer, "an exponent", exponent, MAX_EXPONENT),
            _ => Ok(()),
        }
    }
}
