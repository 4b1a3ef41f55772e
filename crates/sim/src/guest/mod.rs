//! The exact guest: which pages its writers dirty, at a cost of pages and rounds instead of writes.
//!
//! The simulator's world owns a [`Guest`], tells it what happens to it (tracking, throttle, pause) and
//! harvests its dirty log. It never decides anything about the migration and never reads a clock: every
//! call carries the time.
//!
//! # Why drawing pages is the same as playing writes
//!
//! The writes of a writer are a Poisson process: in any interval their number is Poisson with the mean
//! that [`pace`](self) gives, and each goes to a page chosen independently, to page i with the chance
//! `w_i`. By the splitting property of Poisson processes the numbers of writes to the single pages are
//! then Poisson with means `x_i = n·w_i`, *independent of each other* and of every other interval. Page i
//! is dirty if its number is not zero: with the chance `1 − exp(−x_i)`, independent of all other pages.
//! Drawing 64 independent bits for each word has therefore *exactly* the distribution of playing every
//! write, in the joint distribution over all pages and all rounds and not only in the mean. (Only Zipf's
//! law takes a short cut, whose error is bounded in the module `zipf`.)
//!
//! The same independence allows to draw in pieces: whether a page is dirtied between a and b, and
//! between b and c, are independent events, and their union has the chance `1 − exp(−(x_ab + x_bc))`. So
//! a word that is looked at in the middle of a round has the same law as one that is not.
//!
//! Where the model differs from a real program:
//!
//! - A program with a timer makes an even number of writes, not a Poisson one. The mean number of dirty
//!   pages is the same to within a page; its variance is slightly smaller, by `n·(mean of fresh)²`:
//!   with n writes on N pages it is `N·e^−x·(1 − e^−x·(1 + x))`, x = n/N, in place of
//!   `N·e^−x·(1 − e^−x)`.
//! - `sequential` writers are deterministic and have no variance at all.
//! - Pauses, throttle and tracking faults change the mean of the process, as `pace` describes; the
//!   feedback of chance on the speed (more first writes than expected cost more faults) is left out.
//! - Two writers on the same page both pay for its first write in their own CPU time.
//!
//! # Streams
//!
//! `guest.writer.N.pages` (where hot words lie), `guest.writer.N.writes` (what is dirtied) and
//! `guest.unchanged`, each derived from the run's seed by [`stream`].

mod activity;
mod cycle;
mod expected;
mod lacking;
mod mask;
mod measured;
mod pace;
mod replay;
mod resumed;
mod ring;
mod rng;
mod shape;
mod stretch;
#[cfg(test)]
mod tests;
mod thread;
mod throttle;
mod touch;
mod wear;
mod writer;
mod zero;
mod zipf;

use std::ops::Range;
use std::time::Duration;

use whimbrel_core::dirty::PageSet;
use whimbrel_core::layout::{LayoutError, PageNumber, PageRun, RamLayout};
use whimbrel_core::throttle::Throttle;
use whimbrel_core::units::{ByteCount, Pages, Share, Timestamp, VcpuSeconds};

pub(crate) use self::expected::{Division, Form, Layer, Piece};
pub(crate) use self::lacking::{
    Forms, Group as MissingGroup, Lacking, Made, Missing, Mix, Push, Ranks, Waited,
};
pub(crate) use self::replay::{TraceHabits, TraceWords, extent as trace_extent};
pub(crate) use self::resumed::Resumed;
pub(crate) use self::rng::normal;
pub use self::rng::{Generator, stream};
pub(crate) use self::wear::{History, Wear};
pub(crate) use self::zipf::Group as LawGroup;

use self::cycle::Pulse;
use self::mask::Sampler;
use self::pace::Held;
use self::rng::{below, shuffle};
use self::throttle::Limit;
use self::writer::Writer;
use self::zero::ZeroMap;
use crate::config::{ConfigError, GuestConfig, HostConfig, ZeroPlacement};

/// How closely the guest is looked at between two harvests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Not at all: pages are drawn at the harvest only.
    #[default]
    Rounds,
    /// [`Guest::dirtied_mask`] tells of single words at any time. Takes 8 bytes for each word of a working
    /// set and writer, and a bit a page.
    Words,
    /// As `Words`, and [`Guest::version`] counts the changes of every page. Takes 4 bytes a page: for tests.
    Versions,
}

/// What a harvest found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Harvest {
    /// Pages dirtied since the harvest before, each counted once.
    pub dirty: Pages,
    /// Those of them that hold the same as before.
    pub unchanged: Pages,
}

/// What the guest lost to the migration, in seconds of vCPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lost {
    /// To the throttle: the time that its vCPUs were made to sleep.
    pub throttle: VcpuSeconds,
    /// To standing still.
    pub pause: VcpuSeconds,
    /// To waiting for pages after the handover.
    pub post_copy: VcpuSeconds,
    /// To the faults of first writes after a harvest, up to the last harvest.
    pub tracking_faults: VcpuSeconds,
}

impl Lost {
    /// All together.
    pub fn total(self) -> VcpuSeconds {
        let parts = [self.throttle, self.pause, self.post_copy, self.tracking_faults];
        seconds(parts.iter().map(|part| part.as_f64()).sum())
    }
}

/// A sum of finite terms that are not negative.
fn seconds(value: f64) -> VcpuSeconds {
    VcpuSeconds::new(value).unwrap_or(VcpuSeconds::ZERO)
}

/// The guest. See the [module](self).
///
/// Times must not run backwards; a call with an earlier time counts as one at the latest time seen.
#[derive(Clone, Debug)]
pub struct Guest {
    layout: RamLayout,
    vcpus: u32,
    zero: ZeroMap,
    writers: Vec<Writer>,
    unchanged: (Share, Sampler),
    detail: Detail,
    /// The words of all working sets together.
    words: Range<usize>,
    /// Pages drawn and not harvested yet, a word each from `words.start` on. Empty where the harvest can
    /// do without: working sets apart and [`Detail::Rounds`].
    found: Vec<u64>,
    /// Changes of each page; empty unless [`Detail::Versions`].
    versions: Vec<u32>,
    clock: u64,
    held: Held,
    throttle: Throttle,
    /// Entries of the ring of dirty pages that each vCPU has.
    dirty_ring: u32,
    /// The dirty limit in force.
    limit: Option<Limit>,
    /// When it is corrected next, in nanoseconds; `u64::MAX` while there is none or the guest is paused.
    correction: u64,
    tracking: bool,
    /// When throttle or pause last changed, and vCPU seconds lost to them up to then.
    lost_since: u64,
    lost: [f64; 2],
    /// CPU seconds of first writes after a harvest, all that were counted.
    faults: f64,
}

/// Divides `vcpus` among writers that want these parts of one each: nobody gets more than a whole one or,
/// where there are too few, more than it wants while another lacks.
fn divide(vcpus: u32, wants: &[f64]) -> Vec<f64> {
    let total = f64::from(vcpus);
    if wants.len() <= vcpus as usize || wants.iter().sum::<f64>() <= total {
        return vec![1.0; wants.len()];
    }
    let mut order: Vec<usize> = (0..wants.len()).collect();
    order.sort_by(|&one, &other| wants[one].total_cmp(&wants[other]));
    let mut parts = vec![0.0; wants.len()];
    let (mut left, mut waiting) = (total, wants.len());
    for index in order {
        parts[index] = wants[index].min(left / waiting as f64);
        left -= parts[index];
        waiting -= 1;
    }
    parts
}

/// Whether any two sets have a page in common.
fn overlap(sets: &[Range<u64>]) -> bool {
    let mut sets: Vec<_> = sets.iter().filter(|set| !set.is_empty()).collect();
    sets.sort_unstable_by_key(|set| set.start);
    sets.windows(2).any(|pair| pair[0].end > pair[1].start)
}

/// Pages that are in use in this run beyond what they are in the middle of all runs; fewer, if negative.
fn more_used(config: &GuestConfig, seed: u64) -> i64 {
    let spread = config.used_spread.0 as f64 / config.page_size.bytes().0 as f64;
    if spread > 0.0 { (spread * normal(&mut stream(seed, "guest.used"))).round() as i64 } else { 0 }
}

impl Guest {
    /// The guest that `config` describes, at time zero, running, not tracked.
    ///
    /// # Errors
    ///
    /// If the configuration is not valid.
    pub fn new(config: &GuestConfig, seed: u64) -> Result<Self, ConfigError> {
        Self::build(config, seed, None)
    }

    /// The same with these zero pages in place of those of the configuration: for hosts whose guests were
    /// measured. Runs in any order, exact to the page.
    ///
    /// # Errors
    ///
    /// If the configuration is not valid, or a run is outside memory or touches a working set.
    pub fn with_zero_runs(config: &GuestConfig, seed: u64, runs: &[PageRun]) -> Result<Self, ConfigError> {
        Self::build(config, seed, Some(runs))
    }

    fn build(config: &GuestConfig, seed: u64, zero: Option<&[PageRun]>) -> Result<Self, ConfigError> {
        config.validate()?;
        let layout =
            RamLayout::contiguous(config.memory, config.page_size).map_err(|error: LayoutError| {
                ConfigError::new(
                    "guest.memory",
                    format!("{} ({error})", config.memory),
                    "memory that can be numbered",
                )
            })?;
        let sets = config.working_sets();
        let written = config.written();
        let pages = layout.pages().0;
        let free = pages - config.written_pages().min(pages);
        let used = more_used(config, seed);
        let share = || config.zero_pages.of(Pages(pages)).0.saturating_add_signed(-used).min(free);
        let zero = match (zero, config.zero_placement) {
            (Some(zero), _) => ZeroMap::exactly(pages, &written, zero, used)?,
            (None, ZeroPlacement::Spread) => ZeroMap::spread(pages, &written, share()),
            (None, ZeroPlacement::End) => ZeroMap::at_end(pages, &written, share()),
        };
        let writers: Vec<Writer> = config
            .writers
            .iter()
            .zip(&sets)
            .enumerate()
            .filter_map(|(index, (writer, set))| {
                let named = |what| stream(seed, &format!("guest.writer.{index}.{what}"));
                Writer::new(writer, set, named("pages"), named("writes"))
            })
            .collect();
        let mut guest = Self::with(config, layout, zero, writers, stream(seed, "guest.unchanged"));
        if overlap(&sets) {
            guest.found = vec![0; guest.words.len()];
        }
        Ok(guest)
    }

    /// At time zero, running, not tracked.
    fn with(
        config: &GuestConfig,
        layout: RamLayout,
        zero: ZeroMap,
        writers: Vec<Writer>,
        unchanged: Generator,
    ) -> Self {
        let mut guest = Self {
            found: Vec::new(),
            layout,
            vcpus: config.vcpus,
            zero,
            writers,
            unchanged: (config.unchanged_pages, Sampler::new(unchanged)),
            detail: Detail::Rounds,
            words: 0..0,
            versions: Vec::new(),
            clock: 0,
            held: Held { paused: false, pulse: Pulse::OFF, limited: false, fault: 0.0 },
            throttle: Throttle::Off,
            dirty_ring: HostConfig::default().dirty_ring,
            limit: None,
            correction: u64::MAX,
            tracking: false,
            lost_since: 0,
            lost: [0.0; 2],
            faults: 0.0,
        };
        guest.begin();
        guest
    }

    /// At time zero, running, not tracked, with the writers that it has.
    fn begin(&mut self) {
        if self.writers.len() <= self.vcpus as usize {
            self.writers.iter_mut().for_each(|writer| writer.set_cpu(1.0));
        } else {
            let wants: Vec<f64> = self.writers.iter().map(Writer::appetite).collect();
            for (writer, cpu) in self.writers.iter_mut().zip(divide(self.vcpus, &wants)) {
                writer.set_cpu(cpu);
            }
        }
        let words = self.writers.iter().map(Writer::words);
        let words = words.reduce(|one, other| one.start.min(other.start)..one.end.max(other.end));
        self.words = words.unwrap_or(0..0);
        self.clock = 0;
        self.held = Held { paused: false, pulse: Pulse::OFF, limited: false, fault: 0.0 };
        self.throttle = Throttle::Off;
        (self.limit, self.correction) = (None, u64::MAX);
        self.tracking = false;
        (self.lost_since, self.lost, self.faults) = (0, [0.0; 2], 0.0);
    }

    /// The same, to be looked at this closely. To be called before tracking starts; versions count from
    /// here on.
    #[must_use]
    pub fn with_detail(mut self, detail: Detail) -> Self {
        self.detail = detail;
        if detail >= Detail::Words {
            self.found.resize(self.words.len(), 0);
            self.writers.iter_mut().for_each(Writer::keep_words);
        }
        if detail == Detail::Versions {
            self.versions = vec![0; self.layout.numbers() as usize];
        }
        self
    }

    /// Its memory.
    pub fn layout(&self) -> &RamLayout {
        &self.layout
    }

    /// How closely it is looked at.
    pub fn detail(&self) -> Detail {
        self.detail
    }

    /// How many zero pages it has.
    pub fn zero_pages(&self) -> Pages {
        self.zero.count()
    }

    /// The zero pages of word `word`, lowest page number in the lowest bit; none beyond the end.
    #[inline]
    pub fn zero_mask(&self, word: usize) -> u64 {
        self.zero.mask(word)
    }

    /// Whether any of the eight words from `first` on, a multiple of eight, has zero pages.
    #[inline]
    pub(crate) fn has_zero_pages(&self, first: usize) -> bool {
        self.zero.in_line(first)
    }

    /// The latest time that it was told.
    pub fn clock(&self) -> Timestamp {
        Timestamp::from_nanos(self.clock)
    }

    /// Lets time pass. Every other call with a time does so too; how often it is called changes nothing.
    #[inline]
    pub fn advance(&mut self, now: Timestamp) {
        self.clock = self.clock.max(now.as_nanos());
        if self.clock >= self.correction {
            self.correct_limit();
        }
    }

    /// Lets time pass and settles all accounts, because something changes now.
    fn change(&mut self, now: Timestamp) {
        self.advance(now);
        if self.held.paused || !self.held.pulse.is_off() {
            self.settle_lost();
        } else {
            // Nothing was lost.
            self.lost_since = self.clock;
        }
        for writer in &mut self.writers {
            writer.change(self.clock, &self.held);
        }
        self.held.pulse.settle(self.clock);
    }

    /// Stops it. Writes that it would have made meanwhile are not made later: its clock stands still too.
    pub fn pause(&mut self, now: Timestamp) {
        self.change(now);
        self.held.paused = true;
        self.plan_correction();
    }

    /// Lets it run again, here or at the destination.
    pub fn resume(&mut self, now: Timestamp) {
        self.change(now);
        self.held.paused = false;
        self.plan_correction();
    }

    /// The guest that it is at the destination from `now` on, without the pages of `missing`. To be taken
    /// when it has been resumed.
    pub(crate) fn resumed(
        &self,
        now: Timestamp,
        missing: PageSet,
        config: &GuestConfig,
        seed: u64,
    ) -> Resumed {
        let named = |what: &str| stream(seed, &format!("guest.post-copy.{what}"));
        let threads = self.writers.iter().enumerate();
        let threads = threads.map(|(index, writer)| writer.resumed(named(&index.to_string())));
        let resume_set = self.any_resume_set(config, &mut named("resume-set"));
        Resumed::new(now.as_nanos(), self.vcpus, threads.collect(), missing, &resume_set)
    }

    /// What a guest of this configuration touches before anything else when it is resumed, in its order.
    fn any_resume_set(&self, config: &GuestConfig, chance: &mut Generator) -> Vec<u64> {
        let pages = |size: ByteCount| (size.0 / self.layout.page_size().bytes().0).min(self.layout.numbers());
        let (span, top) = (pages(config.resume_span), pages(config.resume_top));
        let mut anywhere = || match below(chance, span + top) {
            low if low < span => low,
            high => self.layout.numbers() - 1 - (high - span),
        };
        let count = if span + top > 0 { config.resume_pages } else { 0 };
        let mut resume_set: Vec<u64> = (0..count).map(|_| anywhere()).collect();
        let kernels = config.working_sets().into_iter().zip(&config.writers).filter(|(_, one)| one.kernel);
        resume_set.extend(kernels.flat_map(|(set, one)| one.written(set)).flatten());
        shuffle(chance, &mut resume_set);
        resume_set
    }

    /// Whether it stands still.
    pub fn is_paused(&self) -> bool {
        self.held.paused
    }

    /// Starts the dirty log, clean at `now`. From now on the first write to a page after a harvest costs
    /// the vCPU that makes it `fault`.
    ///
    /// Started again while it runs, the log is clean too: what it held is forgotten.
    pub fn start_tracking(&mut self, now: Timestamp, fault: Duration) {
        self.change(now);
        self.tracking = true;
        self.held.fault = fault.as_secs_f64();
        self.forget();
    }

    /// Stops the dirty log and drops what it holds.
    ///
    /// First writes since the last harvest cost their faults; as nobody looks at these pages any more,
    /// [`Lost::tracking_faults`] counts the expected number of them.
    pub fn stop_tracking(&mut self, now: Timestamp) {
        if self.tracking {
            let expected = self.expected_dirty(now);
            self.change(now);
            self.faults += expected * self.held.fault;
        }
        self.tracking = false;
        self.held.fault = 0.0;
        self.forget();
    }

    /// Whether the dirty log is on.
    pub fn is_tracking(&self) -> bool {
        self.tracking
    }

    fn forget(&mut self) {
        if !self.found.is_empty() {
            self.found.fill(0);
        }
        self.writers.iter_mut().for_each(Writer::clean);
    }

    /// Fetches the dirty log and clears it: calls `sink` with each word that has dirty pages and their bits.
    ///
    /// A word at the edge of two classes of pages may come twice, with different pages; no page comes
    /// twice. Nothing is found while tracking is off.
    pub fn harvest(&mut self, now: Timestamp, mut sink: impl FnMut(usize, u64)) -> Harvest {
        if !self.tracking {
            self.advance(now);
            return Harvest::default();
        }
        self.change(now);
        let mut dirty = 0;
        if self.found.is_empty() {
            // Working sets are apart: no page comes twice.
            dirty = self.writers.iter_mut().map(|writer| writer.draw(&mut sink)).sum();
        } else {
            let (found, versions, start) = (&mut self.found, &mut self.versions, self.words.start);
            for writer in &mut self.writers {
                writer.draw(&mut |word, mask| {
                    found[word - start] |= mask;
                    bump(versions, word, mask);
                });
            }
            for (word, mask) in (start..).zip(found) {
                if *mask != 0 {
                    dirty += u64::from(mask.count_ones());
                    sink(word, std::mem::take(mask));
                }
            }
        }
        self.writers.iter_mut().for_each(Writer::clean);
        if self.held.limited {
            self.writers.iter_mut().for_each(Writer::empty_ring);
        }
        self.faults += dirty as f64 * self.held.fault;
        let (share, sampler) = &mut self.unchanged;
        let unchanged = sampler.binomial(dirty, share.as_f64());
        Harvest { dirty: Pages(dirty), unchanged: Pages(unchanged) }
    }

    /// The pages of word `word` that were dirtied since the last harvest, as of `now`.
    ///
    /// Draws what is not drawn yet and keeps it for the next harvest. Nothing with [`Detail::Rounds`] or
    /// while tracking is off.
    pub fn dirtied_mask(&mut self, word: usize, now: Timestamp) -> u64 {
        self.advance(now);
        if self.detail < Detail::Words || !self.tracking || !self.words.contains(&word) {
            return 0;
        }
        let index = word - self.words.start;
        for writer in &mut self.writers {
            if writer.words().contains(&word) {
                let writes = writer.writes(self.clock, &self.held);
                let mask = writer.draw_word(word, writes);
                self.found[index] |= mask;
                bump(&mut self.versions, word, mask);
            }
        }
        self.found[index]
    }

    /// How often `page` was found changed when it was drawn: its content, for tests.
    ///
    /// As of the last [`Guest::dirtied_mask`] of its word or the last harvest, whichever was later. Zero
    /// unless [`Detail::Versions`], and for pages that do not exist.
    pub fn version(&self, page: PageNumber) -> u64 {
        let version = usize::try_from(page.0).ok().and_then(|page| self.versions.get(page));
        version.map_or(0, |&version| u64::from(version))
    }

    /// How many pages are expected to be dirty at `now`, since the last harvest; pages that several writers
    /// write to count for each of them. Draws nothing.
    pub fn expected_dirty(&mut self, now: Timestamp) -> f64 {
        self.advance(now);
        let (clock, held) = (self.clock, self.held);
        let expected = self.writers.iter_mut().map(|writer| {
            let writes = writer.writes(clock, &held);
            writer.expected(writes)
        });
        if self.tracking { expected.sum() } else { 0.0 }
    }

    /// How many page writes all writers made up to `now`, on average.
    pub fn writes(&mut self, now: Timestamp) -> f64 {
        self.advance(now);
        self.writers.iter_mut().map(|writer| writer.writes(self.clock, &self.held)).sum()
    }
}

/// Counts a change of each page of `mask`; nothing is counted if there are no versions.
fn bump(versions: &mut [u32], word: usize, mask: u64) {
    if versions.is_empty() {
        return;
    }
    let mut rest = mask;
    while rest != 0 {
        if let Some(version) = versions.get_mut(word * 64 + rest.trailing_zeros() as usize) {
            *version = version.wrapping_add(1);
        }
        rest &= rest - 1;
    }
}
