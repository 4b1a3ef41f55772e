//! Traces: which pages of a guest were dirtied in which interval of time.
//!
//! What a dirty log tells when it is harvested again and again: for each interval, the pages found at its end.
//! [`record()`] makes one from a guest model, the laboratory reads and writes them as tables, the guest replays
//! them (`pattern = "trace"`). A [`Trace`] is checked when it is built and never changes: intervals are in the
//! order of time and apart, runs lie within memory, in order, and touch no other of their interval. Nothing
//! here reads a file, and no clock.
//!
//! ```
//! use std::time::Duration;
//! use whimbrel_core::layout::{PageNumber, PageRun, PageSize};
//! use whimbrel_core::units::{ByteCount, Pages};
//! use whimbrel_sim::trace::TraceBuilder;
//!
//! let mut trace = TraceBuilder::new(ByteCount::mib(1), PageSize::Kib4)?;
//! trace.interval(Duration::ZERO, Duration::from_millis(50))?;
//! trace.dirtied(PageRun { first: PageNumber(7), count: Pages(3) })?;
//! trace.dirtied(PageRun { first: PageNumber(9), count: Pages(2) })?;
//! let trace = trace.build();
//! assert_eq!(trace.intervals().next().unwrap().pages(), Pages(4));
//! # Ok::<(), whimbrel_sim::trace::TraceError>(())
//! ```

mod index;
mod named;
mod record;
#[cfg(test)]
mod tests;

use std::time::Duration;

use whimbrel_core::layout::{PageNumber, PageRun, PageSize};
use whimbrel_core::units::{ByteCount, Pages, duration};

pub use self::index::PageIndex;
pub(crate) use self::named::Loaded;
pub use self::named::NamedTrace;
pub use self::record::{RecordError, Recording, record, record_like};

/// The most intervals: 14 hours of 50 ms.
pub const MAX_INTERVALS: usize = 1 << 20;
/// The most runs of pages, eight bytes each.
pub const MAX_RUNS: usize = 1 << 25;
/// The most dirtied pages, those of all intervals together.
pub const MAX_DIRTIED: u64 = 1 << 32;
/// The most pages that the guest may have: 2³².
pub const MAX_PAGES: u64 = 1 << 32;
/// The latest end of an interval.
pub const MAX_TIME: Duration = Duration::from_hours(365 * 24);

/// Why something is no trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// Memory that no guest can have.
    #[error(
        "memory of {memory} is not accepted: a whole number of pages of {page_size}, from 1 to 2^32 of them"
    )]
    Memory {
        /// As given.
        memory: ByteCount,
        /// The size of a page.
        page_size: PageSize,
    },
    /// An interval that takes no time, or ends too late.
    #[error(
        "an interval of {} from {} on is not accepted: more than 0s long, its end at most {}",
        duration::format(*length), duration::format(*start), duration::format(MAX_TIME)
    )]
    Interval {
        /// When it begins.
        start: Duration,
        /// How long it is.
        length: Duration,
    },
    /// An interval that begins before the one before it ends.
    #[error(
        "an interval that begins at {} is not accepted: the one before it ends at {}",
        duration::format(*start), duration::format(*end)
    )]
    Overlap {
        /// When it begins.
        start: Duration,
        /// When the one before it ends.
        end: Duration,
    },
    /// Pages before there is an interval.
    #[error("pages were dirtied before the first interval")]
    NoInterval,
    /// A run that is empty or not within memory.
    #[error(
        "{count} pages from page {first} on are not accepted: at least one, within the {pages} pages of memory"
    )]
    Run {
        /// The first page.
        first: u64,
        /// How many.
        count: u64,
        /// Pages of the guest.
        pages: u64,
    },
    /// More than there may be.
    #[error("too many {what}: accepted are at most {most}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        most: u64,
    },
}

/// Neighbouring pages, in eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    first: u32,
    last: u32,
}

impl Run {
    fn pages(self) -> u64 {
        u64::from(self.last - self.first) + 1
    }

    fn get(self) -> PageRun {
        PageRun { first: PageNumber(self.first.into()), count: Pages(self.pages()) }
    }
}

/// An interval, in nanoseconds, and where its runs end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    start: u64,
    length: u64,
    runs_end: usize,
}

/// Which pages were dirtied when. See the [module](self).
#[derive(Clone, PartialEq, Eq)]
pub struct Trace {
    memory: ByteCount,
    page_size: PageSize,
    marks: Vec<Mark>,
    runs: Vec<Run>,
    /// All pages that were ever dirtied.
    touched: Vec<Run>,
    dirtied: u64,
}

/// Pages found dirty at the end of an interval of time.
#[derive(Clone, Copy, Debug)]
pub struct Interval<'a> {
    start: u64,
    length: u64,
    runs: &'a [Run],
}

impl<'a> Interval<'a> {
    /// When it begins, from the beginning of the trace's clock.
    pub fn start(&self) -> Duration {
        Duration::from_nanos(self.start)
    }

    /// How long it is; never zero.
    pub fn length(&self) -> Duration {
        Duration::from_nanos(self.length)
    }

    /// When it ends.
    pub fn end(&self) -> Duration {
        Duration::from_nanos(self.start + self.length)
    }

    /// The pages: runs in the order of addresses, apart from each other.
    pub fn runs(&self) -> impl ExactSizeIterator<Item = PageRun> + use<'a> {
        self.runs.iter().map(|run| run.get())
    }

    /// How many pages.
    pub fn pages(&self) -> Pages {
        Pages(self.runs.iter().map(|run| run.pages()).sum())
    }
}

impl std::fmt::Debug for Trace {
    /// Its sizes: the pages would fill a screen.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace")
            .field("memory", &self.memory)
            .field("page_size", &self.page_size)
            .field("intervals", &self.marks.len())
            .field("dirtied", &self.dirtied)
            .finish_non_exhaustive()
    }
}

impl Trace {
    /// Memory of the guest.
    pub fn memory(&self) -> ByteCount {
        self.memory
    }

    /// The size of a page.
    pub fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Pages of the guest; page numbers are below it.
    pub fn pages(&self) -> Pages {
        Pages(self.memory.0 / self.page_size.bytes().0)
    }

    /// The intervals, in the order of time and apart from each other. In a gap between two nothing is known,
    /// and nothing taken to be written.
    pub fn intervals(&self) -> impl ExactSizeIterator<Item = Interval<'_>> + DoubleEndedIterator + Clone {
        (0..self.marks.len()).map(|index| self.at(index))
    }

    /// Interval number `index`, counted from 0; none beyond the last.
    pub fn interval(&self, index: usize) -> Option<Interval<'_>> {
        (index < self.marks.len()).then(|| self.at(index))
    }

    fn at(&self, index: usize) -> Interval<'_> {
        let Mark { start, length, runs_end } = self.marks[index];
        let begin = index.checked_sub(1).map_or(0, |before| self.marks[before].runs_end);
        Interval { start, length, runs: &self.runs[begin..runs_end] }
    }

    /// When the last interval ends; zero without intervals.
    pub fn end(&self) -> Duration {
        self.marks.last().map_or(Duration::ZERO, |mark| Duration::from_nanos(mark.start + mark.length))
    }

    /// How many pages were dirtied, those of all intervals together: what one pass over the trace costs.
    pub fn dirtied(&self) -> Pages {
        Pages(self.dirtied)
    }

    /// All pages that were ever dirtied: runs in the order of addresses, apart from each other.
    pub fn touched(&self) -> impl ExactSizeIterator<Item = PageRun> + DoubleEndedIterator + '_ {
        self.touched.iter().map(|run| run.get())
    }

    /// A number that is the same for equal traces, and as good as never for others: 64-bit FNV-1a.
    pub fn fingerprint(&self) -> u64 {
        let sizes = [self.memory.0, self.page_size.bytes().0];
        let marks = self.marks.iter().flat_map(|mark| [mark.start, mark.length, mark.runs_end as u64]);
        let runs = self.runs.iter().map(|run| u64::from(run.first) << 32 | u64::from(run.last));
        sizes.into_iter().chain(marks).chain(runs).fold(0xcbf2_9ce4_8422_2325, |hash, number| {
            number
                .to_le_bytes()
                .iter()
                .fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
        })
    }

    /// How many different pages were ever dirtied.
    pub fn touched_pages(&self) -> Pages {
        Pages(self.touched.iter().map(|run| run.pages()).sum())
    }
}

/// Builds a trace, interval by interval.
#[derive(Clone, Debug)]
pub struct TraceBuilder {
    trace: Trace,
    /// Where the runs of the open interval begin.
    begin: usize,
    sorted: bool,
}

impl TraceBuilder {
    /// Begins the trace of a guest.
    ///
    /// # Errors
    ///
    /// [`TraceError::Memory`].
    pub fn new(memory: ByteCount, page_size: PageSize) -> Result<Self, TraceError> {
        let page = page_size.bytes().0;
        if memory.0 == 0 || !memory.0.is_multiple_of(page) || memory.0 / page > MAX_PAGES {
            return Err(TraceError::Memory { memory, page_size });
        }
        let trace =
            Trace { memory, page_size, marks: Vec::new(), runs: Vec::new(), touched: Vec::new(), dirtied: 0 };
        Ok(Self { trace, begin: 0, sorted: true })
    }

    /// When the last interval ends; zero before the first.
    pub fn end(&self) -> Duration {
        self.trace.end()
    }

    /// Begins an interval, the next in the order of time. What was dirtied from here on belongs to it.
    ///
    /// # Errors
    ///
    /// If it takes no time, begins before the last one ends, or there are too many. Nothing is changed then.
    pub fn interval(&mut self, start: Duration, length: Duration) -> Result<(), TraceError> {
        let refused = TraceError::Interval { start, length };
        let end = start.checked_add(length).filter(|end| *end <= MAX_TIME).ok_or(refused.clone())?;
        if length.is_zero() {
            return Err(refused);
        }
        if start < self.end() {
            return Err(TraceError::Overlap { start, end: self.end() });
        }
        if self.trace.marks.len() == MAX_INTERVALS {
            return Err(TraceError::TooMany { what: "intervals", most: MAX_INTERVALS as u64 });
        }
        self.close();
        let (start, end) = (start.as_nanos() as u64, end.as_nanos() as u64);
        self.trace.marks.push(Mark { start, length: end - start, runs_end: self.trace.runs.len() });
        Ok(())
    }

    /// These pages were dirtied in the open interval. In any order; pages named twice count once.
    ///
    /// # Errors
    ///
    /// If the run is empty or not within memory, no interval is open, or there are too many. Nothing is
    /// changed then.
    pub fn dirtied(&mut self, run: PageRun) -> Result<(), TraceError> {
        let (first, count, pages) = (run.first.0, run.count.0, self.trace.pages().0);
        let refused = TraceError::Run { first, count, pages };
        let end = first.checked_add(count).filter(|end| count > 0 && *end <= pages).ok_or(refused)?;
        if self.trace.marks.is_empty() {
            return Err(TraceError::NoInterval);
        }
        if self.trace.runs.len() == MAX_RUNS {
            return Err(TraceError::TooMany { what: "runs of pages", most: MAX_RUNS as u64 });
        }
        if self.trace.dirtied + count > MAX_DIRTIED {
            return Err(TraceError::TooMany { what: "dirtied pages", most: MAX_DIRTIED });
        }
        self.trace.dirtied += count;
        let run = Run { first: first as u32, last: (end - 1) as u32 };
        let behind = |last: &Run| last.last.checked_add(1).is_some_and(|next| next < run.first);
        self.sorted &= self.trace.runs[self.begin..].last().is_none_or(behind);
        self.trace.runs.push(run);
        Ok(())
    }

    /// Brings the open interval's runs in order, each page once.
    fn close(&mut self) {
        if !self.sorted {
            let before: u64 = self.trace.runs[self.begin..].iter().map(|run| run.pages()).sum();
            let mut open = self.trace.runs.split_off(self.begin);
            merge(&mut open);
            self.trace.dirtied -= before - open.iter().map(|run| run.pages()).sum::<u64>();
            self.trace.runs.append(&mut open);
        }
        if let Some(mark) = self.trace.marks.last_mut() {
            mark.runs_end = self.trace.runs.len();
        }
        (self.begin, self.sorted) = (self.trace.runs.len(), true);
    }

    /// The trace.
    pub fn build(mut self) -> Trace {
        self.close();
        let mut touched = self.trace.runs.clone();
        merge(&mut touched);
        touched.shrink_to_fit();
        self.trace.touched = touched;
        self.trace
    }
}

/// Sorts runs and joins those that touch.
fn merge(runs: &mut Vec<Run>) {
    runs.sort_unstable();
    let mut kept = 0;
    for index in 1..runs.len() {
        let run = runs[index];
        if u64::from(run.first) <= u64::from(runs[kept].last) + 1 {
            runs[kept].last = runs[kept].last.max(run.last);
        } else {
            kept += 1;
            runs[kept] = run;
        }
    }
    runs.truncate(kept + 1);
}
