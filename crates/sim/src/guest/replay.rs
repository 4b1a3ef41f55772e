//! A trace played back: which of its pages are written between two moments of its time.
//!
//! A [`Shape`](super::shape::Shape) like others, whose writer's "writes" are nanoseconds of the trace's time: it
//! wants a thousand million of them a second, a throttle lets it make fewer, a pause none.
//!
//! # When in its interval a page is written
//!
//! A trace says that a page was written within an interval, not when or how often. A page that is dirtied in the
//! share p of all intervals is taken to be written as a Poisson process with the mean λ = −ln(1 − p) an interval:
//! in an interval in which it was dirtied it is written K ≥ 1 times, K being such a number that is not zero, at
//! moments that are even chance. K and the moments are drawn from a hash of the run's seed, the round through the
//! trace, the interval, and the page, so they are the same whoever asks, in whatever pieces. So:
//!
//! - A harvest that covers whole intervals finds exactly the union of their pages.
//! - What two harvests find one after the other is together what one would have found over both times.
//! - A window within an interval finds a hot page nearly surely, and a page that is written once in proportion
//!   to the window.
//!
//! Where all intervals dirty a page, λ is that of one that is missed in half an interval of the whole trace.

use std::ops::Range;
use std::sync::Arc;

use whimbrel_core::dirty::PageSet;
use whimbrel_core::layout::{PageNumber, PageRun};

use super::mask::each_word;
use super::rng::{Generator, Rng as _, spread};
use crate::config::WriterConfig;
use crate::trace::{Interval, Loaded, PageIndex, Trace};

/// How often the pages of a trace are written.
#[derive(Clone, Debug)]
pub(crate) struct TraceHabits {
    index: PageIndex,
    /// The class of each page.
    classes: Vec<u16>,
    /// Mean writes an interval in each class, and its number of pages.
    means: Vec<(f64, f64)>,
    /// Mean length of an interval, nanoseconds.
    interval: f64,
}

/// Classes of pages by the share of intervals in which they are dirtied.
const CLASSES: u64 = 1024;

impl TraceHabits {
    pub(crate) fn of(trace: &Trace) -> Self {
        let index = PageIndex::of(trace);
        let count = trace.intervals().len().max(1) as f64;
        let hits = index.hits(trace.intervals());
        let mut sums = vec![(0.0, 0.0); CLASSES as usize];
        let classes = hits.iter().map(|&hits| {
            let class = u64::from(hits) * (CLASSES - 1) / count as u64;
            let (sum, pages) = &mut sums[class as usize];
            let share = (f64::from(hits) / count).min(1.0 - 0.5 / count);
            *sum -= (-share).ln_1p();
            *pages += 1.0;
            class as u16
        });
        let classes = classes.collect();
        let mean = |(sum, pages): (f64, f64)| (if pages > 0.0 { sum / pages } else { 0.0 }, pages);
        let length: f64 = trace.intervals().map(|interval| interval.length().as_nanos() as f64).sum();
        Self {
            index,
            classes,
            means: sums.into_iter().map(mean).collect(),
            interval: (length / count).max(1.0),
        }
    }

    /// Mean writes an interval; none of a page that is never written.
    fn of_page(&self, page: u64) -> Option<f64> {
        let number = self.index.number(PageNumber(page))?;
        Some(self.means[usize::from(self.classes[number])].0)
    }

    fn used(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.means.iter().copied().filter(|(_, pages)| *pages > 0.0)
    }
}

/// A trace by words of 64 pages: in which intervals which pages of a word were dirtied.
#[derive(Clone, Debug)]
pub(crate) struct TraceWords {
    first: usize,
    /// Where the entries of each word begin, and where those of the last end.
    starts: Vec<usize>,
    /// Interval and pages, in the order of words and then of time.
    entries: Vec<(u32, u64)>,
}

impl TraceWords {
    pub(crate) fn of(trace: &Trace) -> Self {
        let extent = extent(trace);
        let first = (extent.start / 64) as usize;
        let words = extent.end.div_ceil(64) as usize - first;
        let visit = |act: &mut dyn FnMut(usize, u32, u64)| {
            for (number, interval) in trace.intervals().enumerate() {
                // Runs of one word are joined: they come one after the other.
                let mut open = None;
                for run in interval.runs() {
                    each_word(run.first.0, run.end().0, &mut |word, mask| match &mut open {
                        Some((last, pages)) if *last == word => *pages |= mask,
                        _ => {
                            if let Some((word, pages)) = open.replace((word, mask)) {
                                act(word - first, number as u32, pages);
                            }
                        }
                    });
                }
                if let Some((word, pages)) = open {
                    act(word - first, number as u32, pages);
                }
            }
        };
        let mut starts = vec![0; words + 1];
        visit(&mut |word, _, _| starts[word + 1] += 1);
        for word in 0..words {
            starts[word + 1] += starts[word];
        }
        let mut entries = vec![(0, 0); starts[words]];
        let mut next = starts.clone();
        visit(&mut |word, interval, pages| {
            entries[next[word]] = (interval, pages);
            next[word] += 1;
        });
        Self { first, starts, entries }
    }

    fn of_word(&self, word: usize) -> &[(u32, u64)] {
        let index = word.wrapping_sub(self.first);
        match (self.starts.get(index), self.starts.get(index.wrapping_add(1))) {
            (Some(&from), Some(&to)) => &self.entries[from..to],
            _ => &[],
        }
    }
}

/// From the first page that is ever dirtied to behind the last.
pub(crate) fn extent(trace: &Trace) -> Range<u64> {
    let mut runs = trace.touched();
    let Some(first) = runs.next() else { return 0..0 };
    first.first.0..runs.next_back().unwrap_or(first).end().0
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Replay {
    loaded: Arc<Loaded>,
    /// Where in the trace it begins, nanoseconds.
    from: u64,
    /// When the trace ends and, if it is repeated, begins again; never zero.
    length: u64,
    repeat: bool,
    chance: u64,
}

/// A part of one round through the trace.
#[derive(Clone, Debug)]
struct Part {
    round: u64,
    time: Range<u64>,
}

impl Replay {
    /// None if the trace holds no pages.
    pub(super) fn new(config: &WriterConfig, rng: &mut Generator) -> Option<Self> {
        let loaded = Arc::clone(config.trace.as_ref()?.loaded()?);
        let length = loaded.trace.end().as_nanos() as u64;
        if length == 0 || loaded.trace.touched().len() == 0 {
            return None;
        }
        let from = u64::try_from(config.trace_from.as_nanos()).unwrap_or(u64::MAX);
        let from = if config.repeat { from % length } else { from };
        Some(Self { loaded, from, length, repeat: config.repeat, chance: rng.next_u64() })
    }

    fn trace(&self) -> &Trace {
        &self.loaded.trace
    }

    pub(super) fn extent(&self) -> Range<u64> {
        extent(self.trace())
    }

    /// The moment after so many "writes".
    fn moment(&self, writes: f64) -> u64 {
        let at = self.from.saturating_add(writes.max(0.0).round() as u64);
        if self.repeat { at } else { at.min(self.length) }
    }

    /// What lies between two moments: a part of a round, whole rounds, a part of a round.
    fn parts(&self, from: f64, to: f64) -> (Part, u64, Part) {
        let (from, to) = (self.moment(from), self.moment(to).max(self.moment(from)));
        // The end of a trace that isn't repeated belongs to its only round.
        let round = |at: u64| if self.repeat { at / self.length } else { 0 };
        let (first, last) = (round(from), round(to));
        let position = |at: u64, round: u64| at - round * self.length;
        let (begin, end) = (position(from, first), position(to, last));
        if first == last {
            return (Part { round: first, time: begin..end }, 0, Part { round: last, time: 0..0 });
        }
        (
            Part { round: first, time: begin..self.length },
            last - first - 1,
            Part { round: last, time: 0..end },
        )
    }

    /// The intervals that a part touches.
    fn intervals(&self, part: &Part) -> Range<usize> {
        let trace = self.trace();
        let at = |index| trace.interval(index).map_or((0, 0), |one| (nanos(one.start()), nanos(one.end())));
        let count = trace.intervals().len();
        let first = partition(count, |index| at(index).1 <= part.time.start);
        let end = partition(count, |index| at(index).0 < part.time.end);
        if part.time.is_empty() { 0..0 } else { first..end.max(first) }
    }

    /// Calls `sink` with the pages written between two moments, some perhaps more than once.
    fn visit(&self, from: f64, to: f64, sink: &mut impl FnMut(usize, u64)) {
        let (head, rounds, tail) = self.parts(from, to);
        if rounds > 0 {
            for run in self.trace().touched() {
                each_word(run.first.0, run.end().0, sink);
            }
            return;
        }
        for part in [head, tail] {
            for index in self.intervals(&part) {
                let Some(interval) = self.trace().interval(index) else { continue };
                if covers(&part.time, &interval) {
                    interval.runs().for_each(|run| each_word(run.first.0, run.end().0, sink));
                    continue;
                }
                let moments = Moments::new(self, part.round, index, &interval);
                for page in interval.runs().flat_map(PageRun::range) {
                    if moments.first_from(page, part.time.start).is_some_and(|at| at < part.time.end) {
                        sink((page / 64) as usize, 1 << (page % 64));
                    }
                }
            }
        }
    }

    /// Pages that a call of [`Replay::visit`] gives at most.
    fn most(&self, from: f64, to: f64) -> u64 {
        let (head, rounds, tail) = self.parts(from, to);
        if rounds > 0 {
            return u64::MAX;
        }
        let pages = |index: usize| self.trace().interval(index).map_or(0, |interval| interval.pages().0);
        [head, tail].iter().flat_map(|part| self.intervals(part)).map(pages).sum()
    }

    /// Draws the pages dirtied between two counts of writes; says how many.
    pub(super) fn draw(&self, from: f64, to: f64, sink: &mut impl FnMut(usize, u64)) -> u64 {
        let extent = self.extent();
        let (first, words) = ((extent.start / 64) as usize, extent.end.div_ceil(64) as usize);
        let mut count = 0;
        let mut give = |word: usize, mask: u64| {
            count += u64::from(mask.count_ones());
            sink(word, mask);
        };
        // Few pages in a large memory are sorted, many are marked.
        if self.most(from, to) < (words - first) as u64 / 16 {
            let mut found: Vec<(usize, u64)> = Vec::new();
            self.visit(from, to, &mut |word, mask| found.push((word, mask)));
            found.sort_unstable_by_key(|(word, _)| *word);
            found.chunk_by(|one, other| one.0 == other.0).for_each(|same| {
                give(same[0].0, same.iter().fold(0, |all, (_, mask)| all | mask));
            });
        } else {
            let mut marked = vec![0; words - first];
            self.visit(from, to, &mut |word, mask| marked[word - first] |= mask);
            for (word, mask) in (first..).zip(marked).filter(|(_, mask)| *mask != 0) {
                give(word, mask);
            }
        }
        count
    }

    /// The same for the pages of one word.
    pub(super) fn draw_word(&self, word: usize, from: f64, to: f64) -> u64 {
        let entries = self.loaded.words().of_word(word);
        let (head, rounds, tail) = self.parts(from, to);
        if rounds > 0 {
            return entries.iter().fold(0, |all, (_, mask)| all | mask);
        }
        let mut found = 0;
        for part in [head, tail] {
            let intervals = self.intervals(&part);
            let begin = entries.partition_point(|(interval, _)| (*interval as usize) < intervals.start);
            let inside =
                entries[begin..].iter().take_while(|(interval, _)| (*interval as usize) < intervals.end);
            for &(index, mask) in inside {
                let Some(interval) = self.trace().interval(index as usize) else { continue };
                if covers(&part.time, &interval) {
                    found |= mask;
                    continue;
                }
                let moments = Moments::new(self, part.round, index as usize, &interval);
                let mut rest = mask & !found;
                while rest != 0 {
                    let bit = rest & rest.wrapping_neg();
                    let page = word as u64 * 64 + u64::from(bit.trailing_zeros());
                    if moments.first_from(page, part.time.start).is_some_and(|at| at < part.time.end) {
                        found |= bit;
                    }
                    rest ^= bit;
                }
            }
        }
        found
    }

    /// The mean of all its writes to a page after so many nanoseconds; none if it never writes there.
    pub(super) fn wear(&self, page: u64, writes: f64) -> Option<f64> {
        let habits = self.loaded.habits();
        Some(habits.of_page(page)? * writes / habits.interval)
    }

    /// The share of its writes that `page` gets, on average.
    pub(super) fn weight(&self, page: u64) -> f64 {
        let habits = self.loaded.habits();
        let total: f64 = habits.used().map(|(mean, pages)| mean * pages).sum();
        habits.of_page(page).map_or(0.0, |mean| mean / total)
    }

    /// How many pages are expected to be clean still after so many nanoseconds from a clean start, whenever
    /// that was.
    pub(super) fn untouched(&self, writes: f64) -> f64 {
        let habits = self.loaded.habits();
        let times = writes / habits.interval;
        habits.used().map(|(mean, pages)| pages * (-mean * times).exp()).sum()
    }

    /// How fast [`Replay::untouched`] falls, pages a nanosecond.
    pub(super) fn fresh(&self, writes: f64) -> f64 {
        let habits = self.loaded.habits();
        let times = writes / habits.interval;
        habits.used().map(|(mean, pages)| pages * mean / habits.interval * (-mean * times).exp()).sum()
    }

    /// Where it stands after so many nanoseconds, for [`Replay::next_touch`].
    pub(super) fn place(&self, writes: f64) -> Place {
        Place { at: self.moment(writes), page: None }
    }

    /// The next write to a page of `missing`: moves `place` there and gives the page and the nanoseconds until
    /// then; none if there is none in a whole round.
    pub(super) fn next_touch(&self, place: &mut Place, missing: &PageSet) -> Option<(u64, f64)> {
        let round = if self.repeat { place.at / self.length } else { 0 };
        // This round's rest, and the next one as far as this one is gone.
        let here = place.at - round * self.length;
        let rest = Part { round, time: here..self.length };
        let next = Part { round: round + 1, time: 0..self.length };
        let found = self.touch_in(&rest, *place, missing);
        let found = found.or_else(|| self.repeat.then(|| self.touch_in(&next, *place, missing))?)?;
        let after = found.at.saturating_sub(place.at) as f64;
        *place = found;
        Some((found.page?, after))
    }

    fn touch_in(&self, part: &Part, place: Place, missing: &PageSet) -> Option<Place> {
        let begin = part.round * self.length;
        for index in self.intervals(part) {
            let interval = self.trace().interval(index)?;
            let moments = Moments::new(self, part.round, index, &interval);
            let mut best: Option<Place> = None;
            for page in interval.runs().flat_map(PageRun::range) {
                if !missing.contains(PageNumber(page)) {
                    continue;
                }
                // Of two pages at the same moment the one with the larger number is later.
                let mut from = part.time.start;
                if place.at == begin + from && place.page.is_some_and(|touched| page <= touched) {
                    from += 1;
                }
                let Some(at) = moments.first_from(page, from) else { continue };
                let found = Place { at: begin + at, page: Some(page) };
                if best.is_none_or(|best| (found.at, found.page) < (best.at, best.page)) {
                    best = Some(found);
                }
            }
            if best.is_some() {
                return best;
            }
        }
        None
    }
}

/// A moment of a replay, and the page that was touched then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    at: u64,
    page: Option<u64>,
}

/// When the pages of an interval are written, in one round through the trace.
struct Moments<'a> {
    habits: &'a TraceHabits,
    chance: u64,
    start: u64,
    length: u64,
}

impl<'a> Moments<'a> {
    fn new(replay: &'a Replay, round: u64, index: usize, interval: &Interval<'_>) -> Self {
        let chance = spread(replay.chance ^ spread(round));
        Self {
            habits: replay.loaded.habits(),
            chance: spread(chance.wrapping_add(index as u64)),
            start: nanos(interval.start()),
            length: nanos(interval.length()),
        }
    }

    /// When `page` is first written from `from` on; none if not in this interval.
    fn first_from(&self, page: u64, from: u64) -> Option<u64> {
        let mean = self.habits.of_page(page)?;
        let mut state = spread(self.chance ^ page);
        let times = times(mean, share(state));
        let moments = (0..times).map(|_| {
            state = spread(state);
            self.start + ((u128::from(state) * u128::from(self.length)) >> 64) as u64
        });
        moments.filter(|at| *at >= from).min()
    }
}

/// From 0 to below 1.
fn share(chance: u64) -> f64 {
    (chance >> 11) as f64 / (1_u64 << 53) as f64
}

/// A Poisson number of this mean that is not zero, by inversion.
fn times(mean: f64, chance: f64) -> u32 {
    let mut part = mean * (-mean).exp() / -(-mean).exp_m1();
    let (mut sum, mut times) = (part, 1);
    while sum <= chance && times < 64 {
        times += 1;
        part *= mean / f64::from(times);
        sum += part;
    }
    times
}

fn covers(time: &Range<u64>, interval: &Interval<'_>) -> bool {
    time.start <= nanos(interval.start()) && nanos(interval.end()) <= time.end
}

fn nanos(time: std::time::Duration) -> u64 {
    time.as_nanos() as u64
}

/// The first of `0..count` of which `before` does not hold.
fn partition(count: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low.midpoint(high);
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}
