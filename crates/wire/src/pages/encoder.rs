//! Runs of guest memory become a frame.
//!
//! Called by the source's driver for each batch of one connection, from one thread at a time. It reads guest memory that
//! changes meanwhile, so what was judged and what was packed is the same copy. What it lets through uncopied it knows nothing
//! about afterwards.

use std::io;
use std::ops::AddAssign;
use std::time::Duration;

use whimbrel_core::embed::{GuestRam, RamError, RamRange};
use whimbrel_core::layout::{Gpa, PageNumber, PageRun, PageSize};
use whimbrel_core::units::{Bandwidth, ByteCount, Pages, Timestamp};

use super::cache::Cache;
use super::chooser::{Chooser, Plan, TRY_BYTES};
use super::config::{Clock, Compression, EncoderConfig, Pass};
use super::frame::PageFrame;
use super::packer::Packer;
use super::sample::{self, Sample};
use super::table::most_pages;
use super::tally::{Tallies, Tally};
use super::zero::{Look, is_zero};
use super::{ENCODED_BYTES, Encoding, Encodings, delta, in_region, page_bytes};

/// The most guest memory in one batch, unless a single page is larger: what a peer's default limits take.
pub(super) const BATCH_BYTES: u64 = 512 << 10;

/// Why a batch was not encoded. The frame is empty then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A run of pages that are not all there.
    #[error("page {page} is no page of the guest")]
    NoPage {
        /// The first that is not.
        page: PageNumber,
    },
    /// More than goes into one frame.
    #[error("{pages} pages of {page_size} in one batch, at most {most} are sent at once")]
    TooMany {
        /// Pages of the batch.
        pages: u64,
        /// Their size.
        page_size: PageSize,
        /// The most there may be.
        most: u64,
    },
    /// Guest memory failed.
    #[error("reading guest memory to send it")]
    Ram(#[from] RamError),
}

/// What became of a batch, or of several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Pages of the batch, all of which the destination has once the frame arrived.
    pub pages: Pages,
    /// Pages that need not be sent, because the destination holds just this.
    pub unchanged: Pages,
    /// Pages after the bulk round that the delta cache did not have.
    pub misses: Pages,
    /// Pages whose delta was longer than what else there is.
    pub overflows: Pages,
    /// The whole frame; nothing if it is empty.
    pub bytes: ByteCount,
    tallies: Tallies,
}

impl AddAssign for Encoded {
    fn add_assign(&mut self, other: Self) {
        self.pages += other.pages;
        self.unchanged += other.unchanged;
        self.misses += other.misses;
        self.overflows += other.overflows;
        self.bytes.0 += other.bytes.0;
        self.tallies += other.tallies;
    }
}

impl Encoded {
    /// What went in this encoding.
    pub fn of(&self, encoding: Encoding) -> Tally {
        self.tallies.of(encoding)
    }

    /// What went in each encoding.
    pub fn tallies(&self) -> &Tallies {
        &self.tallies
    }
}

/// Encodes what one connection carries.
pub struct Encoder {
    page_size: PageSize,
    /// Bytes of a page.
    page: usize,
    zero_detection: bool,
    checked: bool,
    copy: bool,
    /// Decides in [`Compression::Adaptive`]; otherwise it only counts.
    chooser: Chooser,
    fixed: Option<Encoding>,
    plan: Plan,
    packer: Packer,
    clock: Option<Clock>,
    look: Look,
    /// The first bytes of the pages of a stretch; none where pages are copied anyway.
    firsts: Vec<[u8; 8]>,
    cache: Option<Cache>,
    pass: Pass,
    /// In this pass.
    keeps_deltas: bool,
    /// Time that packing took in this batch.
    packing: Duration,
    /// Bytes that deltas saved in this batch.
    saved: f64,
    group: Group,
    /// A delta until it is known that it is short enough.
    delta: Vec<u8>,
    encoded: Encoded,
}

/// Neighbouring pages that are packed together: a copy.
struct Group {
    bytes: Vec<u8>,
    first: PageNumber,
    at: Gpa,
    pages: usize,
}

impl Encoder {
    /// For a guest with pages of this size.
    ///
    /// # Errors
    ///
    /// What Zstandard says if it has no memory or does not know the level; and if there is no memory to keep track of what is in the
    /// cache.
    pub fn new(config: &EncoderConfig, page_size: PageSize) -> io::Result<Self> {
        let page = page_bytes(page_size);
        let encodings = match page_size {
            PageSize::Gib1 => Encodings::PLAIN,
            _ => config.encodings.common(Encodings::available()),
        };
        let wanted = match config.compression {
            Compression::Adaptive => None,
            Compression::Off => Some(Encoding::Raw),
            Compression::Lz4 => Some(Encoding::Lz4),
            Compression::Zstd => Some(Encoding::Zstd),
        };
        let fixed = wanted.map(|wanted| if encodings.contains(wanted) { wanted } else { Encoding::Raw });
        let packs = match fixed {
            Some(fixed) => Encodings::PLAIN.with(fixed),
            None => encodings,
        };
        let cache = (encodings.contains(Encoding::Delta) && config.delta_cache.0 > 0)
            .then(|| Cache::new(config.delta_cache, page, config.sharding))
            .transpose()?;
        Ok(Self {
            page_size,
            page,
            zero_detection: config.zero_detection,
            checked: config.payload_checksums,
            copy: config.copy || config.payload_checksums,
            chooser: Chooser::new(packs),
            fixed,
            plan: Plan { encoding: Encoding::Raw, attempt: None, sample: false },
            packer: Packer::new(packs, config.level)?,
            clock: None,
            look: Look::new(),
            firsts: Vec::new(),
            cache,
            pass: Pass::Bulk,
            keeps_deltas: false,
            packing: Duration::ZERO,
            saved: 0.0,
            group: Group { bytes: Vec::new(), first: PageNumber(0), at: Gpa(0), pages: 0 },
            delta: Vec::new(),
            encoded: Encoded::default(),
        })
    }

    /// With a clock by which packing is timed; best the thread's processor time, because being kept from the processor is no cost of
    /// packing. Without a clock [`Compression::Adaptive`] goes on assuming what packing costs.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Tells what this connection carries while it always has something to send; none if nobody knows yet.
    ///
    /// The time in which the encoder works must not be in it: it would make the link look slow, and packing cheap.
    pub fn set_bandwidth(&mut self, bandwidth: Option<Bandwidth>) {
        self.chooser.set_bandwidth(bandwidth);
    }

    /// Whether every page is copied, so that a frame is made while nothing of it can be sent.
    pub fn copies(&self) -> bool {
        self.copy
    }

    /// A pass over memory begins: the batches that follow belong to it.
    pub fn begin_pass(&mut self, pass: Pass) {
        self.pass = pass;
        let worth_it = self.fixed.is_some() || self.chooser.begin_round();
        self.keeps_deltas = self.cache.is_some() && pass != Pass::Bulk && worth_it;
        if let Some(cache) = &mut self.cache {
            cache.begin_round();
        }
    }

    /// Forgets what the destination holds. For whoever does not send a frame that was encoded, or not all of it.
    pub fn forget(&mut self) {
        if let Some(cache) = &mut self.cache {
            cache.clear();
        }
    }

    /// Makes `runs` the content of `frame`, which is to be sent as it is and before the next one.
    ///
    /// Pages of the runs must not come twice in one batch.
    ///
    /// # Errors
    ///
    /// [`EncodeError`]. The frame is empty, and what the destination holds is [forgotten](Encoder::forget).
    pub fn encode(
        &mut self,
        runs: &[PageRun],
        ram: &dyn GuestRam,
        frame: &mut PageFrame,
    ) -> Result<Encoded, EncodeError> {
        frame.begin(self.checked);
        self.encoded = Encoded::default();
        self.group.pages = 0;
        self.plan = match self.fixed {
            Some(encoding) => Plan { encoding, attempt: None, sample: false },
            None => self.chooser.plan(),
        };
        (self.packing, self.saved) = (Duration::ZERO, 0.0);
        let start = if self.keeps_deltas { self.now() } else { None };
        if let Err(error) = self.runs(runs, ram, frame) {
            frame.begin(false);
            // Pages of this batch may be in the cache already, and will never arrive.
            self.forget();
            return Err(error);
        }
        for entry in frame.entries() {
            self.encoded.tallies.count(entry);
        }
        if self.keeps_deltas {
            let took =
                start.zip(self.now()).map(|(start, end)| end.since(start).saturating_sub(self.packing));
            let found =
                self.encoded.pages.0 - self.encoded.misses.0 - self.encoded.of(Encoding::Zero).pages.0;
            self.chooser.learn_differences(found, self.saved, took);
        }
        frame.seal();
        self.encoded.bytes = frame.len();
        Ok(self.encoded)
    }

    fn runs(
        &mut self,
        runs: &[PageRun],
        ram: &dyn GuestRam,
        frame: &mut PageFrame,
    ) -> Result<(), EncodeError> {
        let pages = runs.iter().map(|run| run.count.0).fold(0, u64::saturating_add);
        let most = (BATCH_BYTES >> self.page_size.shift()).max(1);
        if pages > most {
            return Err(EncodeError::TooMany { pages, page_size: self.page_size, most });
        }
        self.encoded.pages = Pages(pages);
        for run in runs {
            let mut rest = run.range();
            while !rest.is_empty() {
                let first = PageNumber(rest.start);
                let (at, count) = in_region(ram.layout(), first, rest.end - rest.start)
                    .ok_or(EncodeError::NoPage { page: first })?;
                frame.close();
                self.region(first, at, count, ram, frame)?;
                rest.start += count;
            }
        }
        Ok(())
    }

    /// Neighbouring pages of one region.
    fn region(
        &mut self,
        first: PageNumber,
        at: Gpa,
        count: u64,
        ram: &dyn GuestRam,
        frame: &mut PageFrame,
    ) -> Result<(), RamError> {
        self.firsts.clear();
        if self.zero_detection && !self.copy {
            // All at once: whoever waits for each page in turn waits as long as sending it takes. At most a batch.
            self.firsts.resize(count as usize, [0; 8]);
            ram.read_firsts(at, self.page_size.bytes(), &mut self.firsts)?;
        }
        for index in 0..count {
            let page = PageNumber(first.0 + index);
            let at = Gpa(at.0 + index * self.page as u64);
            if self.keeps_deltas {
                self.known(page, at, ram, frame)?;
            } else if self.plan.encoding != Encoding::Raw || self.plan.attempt.is_some() {
                self.packed(page, at, ram, frame)?;
            } else if self.firsts.get(index as usize).is_some_and(|first| *first != [0; 8]) {
                self.unseen(page);
                frame.ram(page, 1, RamRange { at, len: self.page_size.bytes() });
            } else {
                self.plain(page, at, ram, frame)?;
            }
        }
        self.flush(frame);
        Ok(())
    }

    fn now(&mut self) -> Option<Timestamp> {
        self.clock.as_mut().map(|clock| clock())
    }

    /// A page goes out, and nobody looks at what it holds.
    fn unseen(&mut self, page: PageNumber) {
        if let Some(cache) = &mut self.cache {
            cache.forget(page);
        }
    }

    /// A page that is zero or raw.
    fn plain(
        &mut self,
        page: PageNumber,
        at: Gpa,
        ram: &dyn GuestRam,
        frame: &mut PageFrame,
    ) -> Result<(), RamError> {
        self.unseen(page);
        if !self.copy {
            if self.zero_detection && self.look.is_zero(ram, at, self.page)? {
                frame.zero(page, at, 1);
            } else {
                frame.ram(page, 1, RamRange { at, len: self.page_size.bytes() });
            }
            return Ok(());
        }
        let room = frame.room(self.page);
        ram.read(at, room)?;
        if self.zero_detection && is_zero(room) {
            frame.zero(page, at, 1);
        } else {
            frame.copied(page, at, 1, Encoding::Raw, self.page);
        }
        Ok(())
    }

    /// A page that is to be packed if it looks as if that would do anything.
    fn packed(
        &mut self,
        page: PageNumber,
        at: Gpa,
        ram: &dyn GuestRam,
        frame: &mut PageFrame,
    ) -> Result<(), RamError> {
        self.unseen(page);
        if self.plan.sample && sample::of_ram(ram, at, self.page)? == Sample::NoOrder {
            self.flush(frame);
            return self.plain(page, at, ram, frame);
        }
        let room = self.group.room(self.page);
        ram.read(at, room)?;
        if self.zero_detection && is_zero(room) {
            self.flush(frame);
            frame.zero(page, at, 1);
        } else {
            self.join(page, at, frame);
        }
        Ok(())
    }

    /// A page of which the version before may be known; afterwards this one is.
    fn known(
        &mut self,
        page: PageNumber,
        at: Gpa,
        ram: &dyn GuestRam,
        frame: &mut PageFrame,
    ) -> Result<(), RamError> {
        let alone = self.group.pages == 0;
        let content = self.group.room(self.page);
        ram.read(at, content)?;
        let Some(cache) = &mut self.cache else { return Ok(()) };
        let last = cache.find(page);
        if self.zero_detection && is_zero(content) {
            if let Some(last) = last {
                last.fill(0);
            }
            self.flush(frame);
            frame.zero(page, at, 1);
            return Ok(());
        }
        let Some(last) = last else {
            self.encoded.misses += Pages(1);
            if self.pass != Pass::Last {
                cache.insert(page, content);
            }
            self.unknown(page, at, frame);
            return Ok(());
        };
        // What is pending in the group goes before it, so a delta cannot go on behind the last entry then.
        let most = most_pages(Encoding::Delta, self.page_size);
        let gap = if alone { frame.gap(page, self.page, most) } else { None };
        let limit = delta_limit(&self.chooser, self.plan.encoding, self.page);
        self.delta.resize(limit, 0);
        let found = delta::encode(last, content, gap.unwrap_or(0), &mut self.delta);
        if !matches!(found, Some((0, _))) {
            last.copy_from_slice(content);
        }
        match found {
            Some((0, _)) => {
                self.encoded.unchanged += Pages(1);
                self.saved += limit as f64;
                self.flush(frame);
            }
            Some((written, trailing)) => {
                self.saved += (limit - written) as f64;
                self.flush(frame);
                frame.delta(page, at, gap.is_some(), &self.delta[..written], trailing);
            }
            None => {
                self.encoded.overflows += Pages(1);
                self.unknown(page, at, frame);
            }
        }
        Ok(())
    }

    /// A page that is in the group's room, and must go as it is there.
    fn unknown(&mut self, page: PageNumber, at: Gpa, frame: &mut PageFrame) {
        let packs = self.plan.encoding != Encoding::Raw || self.plan.attempt.is_some();
        let content = self.group.room(self.page);
        if packs && !(self.plan.sample && sample::of_copy(content) == Sample::NoOrder) {
            return self.join(page, at, frame);
        }
        // The group goes first, and leaves the bytes behind it where they are.
        let behind = self.group.pages * self.page;
        self.flush(frame);
        let content = &self.group.bytes[behind..behind + self.page];
        frame.room(self.page).copy_from_slice(content);
        frame.copied(page, at, 1, Encoding::Raw, self.page);
    }

    /// The page in the group's room becomes part of the group, which goes when it is full.
    fn join(&mut self, page: PageNumber, at: Gpa, frame: &mut PageFrame) {
        if self.group.pages == 0 {
            (self.group.first, self.group.at) = (page, at);
        }
        self.group.pages += 1;
        let most = match (self.plan.attempt, self.plan.encoding) {
            (Some(_), _) => TRY_BYTES,
            (None, Encoding::Lz4) => LZ4_BYTES,
            _ => ENCODED_BYTES as usize,
        };
        if (self.group.pages + 1) * self.page > most {
            self.flush(frame);
        }
    }

    /// The group goes out, packed if that is shorter.
    fn flush(&mut self, frame: &mut PageFrame) {
        let (first, at, pages) = (self.group.first, self.group.at, std::mem::take(&mut self.group.pages));
        if pages == 0 {
            return;
        }
        let encoding = self.plan.attempt.take().unwrap_or(self.plan.encoding);
        let memory = pages * self.page;
        let start = self.now();
        let content = &self.group.bytes[..memory];
        let packed = self.packer.pack(encoding, content, frame.room(Packer::room(memory)));
        let took = start.zip(self.now()).map(|(start, end)| end.since(start));
        self.packing += took.unwrap_or_default();
        self.chooser.learn(encoding, memory, packed.unwrap_or(memory), took);
        // The destination should not unpack for nothing. At most 16 pages in a group.
        if let Some(packed) = packed.filter(|packed| *packed <= memory - memory / LEAST_GAIN) {
            frame.copied(first, at, pages as u16, encoding, packed);
        } else {
            frame.room(memory).copy_from_slice(&self.group.bytes[..memory]);
            frame.copied(first, at, pages as u16, Encoding::Raw, memory);
        }
    }
}

/// Bytes of a group for LZ4. From 64 KiB on its table has twice the size and is cleared for each block: a tenth slower, for 2 % of
/// the bytes (`docs/benchmarks.md`).
const LZ4_BYTES: usize = 60 << 10;

/// One byte in so many has to be saved.
const LEAST_GAIN: usize = 32;

/// Bytes from which on a delta is not worth it: as many as the page has, or would have if it were packed.
fn delta_limit(chooser: &Chooser, encoding: Encoding, page: usize) -> usize {
    ((page as f64 * chooser.ratio(encoding)) as usize).clamp(64, page - 1)
}

impl Group {
    /// Where the next page goes.
    fn room(&mut self, page: usize) -> &mut [u8] {
        let start = self.pages * page;
        if self.bytes.len() < start + page {
            self.bytes.resize(start + page, 0);
        }
        &mut self.bytes[start..start + page]
    }
}
