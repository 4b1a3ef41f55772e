//! Which pages a writer writes, and how often each in comparison with the others.
//!
//! A shape divides a working set into classes of pages that get the same share of the writes. The writer
//! gives it two counts of writes, before and after; the shape draws the pages dirtied in between. It knows
//! neither time nor rates.

use std::ops::Range;

use super::mask::{Law, Sampler, each_word};
use super::measured::Measured;
use super::replay::Replay;
use super::rng::{Generator, below};
use super::wear::Wear;
use super::zipf::Zipf;
use crate::config::{Pattern, WriterConfig};
use whimbrel_core::units::{Pages, Share};

/// Neighbouring pages of one class.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Band {
    pub(super) pages: Range<u64>,
    /// Share of the writes that each page gets.
    pub(super) weight: f64,
}

/// How the writes are spread over the working set.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// Uniform and hot-cold.
    Bands(Vec<Band>),
    /// Sequential: write number k goes to page k modulo the length. Where in its cycle the writer is when
    /// the migration starts is chance: the second is the number of the first write.
    Cycle(Range<u64>, f64),
    /// Scattered hot words.
    Zipf(Zipf),
    /// Classes of a measured program.
    Measured(Measured),
    /// A trace; its writes are nanoseconds of the trace's time.
    Replay(Replay),
}

/// The bands of a hot and a cold part; the hot one has at least one page, and so has the cold one.
fn hot_cold(set: &Range<u64>, config: &WriterConfig) -> impl Iterator<Item = Band> {
    let (hot_pages, hot_writes) = (config.hot_pages, config.hot_writes);
    let pages = set.end - set.start;
    let hot = if hot_pages == Share::ZERO {
        0
    } else if hot_pages == Share::ONE || pages == 1 {
        pages
    } else {
        hot_pages.of(Pages(pages)).0.clamp(1, pages - 1)
    };
    let edge = set.start + hot;
    let parts = [(set.start..edge, hot_writes.as_f64()), (edge..set.end, 1.0 - hot_writes.as_f64())];
    let whole = if hot == pages { 1.0 } else { 0.0 };
    parts.into_iter().filter(|(part, _)| !part.is_empty()).map(move |(part, share)| Band {
        weight: share.max(whole) / (part.end - part.start) as f64,
        pages: part,
    })
}

/// The pages of `set` that writes number `from..to` go to: at most two runs.
pub(super) fn cycle_runs(set: &Range<u64>, from: f64, to: f64) -> [Range<u64>; 2] {
    let length = set.end - set.start;
    let (from, to) = (from as u64, to as u64);
    let count = to.saturating_sub(from);
    if count >= length {
        return [set.clone(), set.end..set.end];
    }
    let first = set.start + from % length;
    let end = first + count;
    if end <= set.end { [first..end, set.end..set.end] } else { [set.start..end - length, first..set.end] }
}

impl Shape {
    /// The shape of a writer with the working set `set`; `None` if it never writes.
    pub(super) fn new(config: &WriterConfig, set: &Range<u64>, rng: &mut Generator) -> Option<Self> {
        if set.is_empty() {
            return None;
        }
        let pages = (set.end - set.start) as f64;
        match config.pattern {
            Pattern::Idle => None,
            Pattern::Uniform => Some(Self::Bands(vec![Band { pages: set.clone(), weight: 1.0 / pages }])),
            Pattern::HotCold => Some(Self::Bands(hot_cold(set, config).collect())),
            Pattern::Sequential => Some(Self::Cycle(set.clone(), below(rng, set.end - set.start) as f64)),
            Pattern::Measured => {
                let model = config.measured.as_deref()?;
                // The set is as long as the working set has pages.
                let page = (config.working_set.0 / (set.end - set.start)).max(1);
                Measured::new(model, set.clone(), config.cluster.0.div_ceil(page), rng).map(Self::Measured)
            }
            Pattern::Zipf => Some(Self::Zipf(Zipf::new(set.clone(), config.exponent, rng))),
            Pattern::Trace => Replay::new(config, rng).map(Self::Replay),
        }
    }

    /// The same without places for what lies anywhere in the working set: only expected numbers can be asked
    /// for. Deterministic: no chance is involved.
    pub(super) fn in_the_mean(config: &WriterConfig, set: &Range<u64>) -> Option<Self> {
        if set.is_empty() {
            return None;
        }
        let pages = (set.end - set.start) as f64;
        match config.pattern {
            Pattern::Idle => None,
            Pattern::Uniform => Some(Self::Bands(vec![Band { pages: set.clone(), weight: 1.0 / pages }])),
            Pattern::HotCold => Some(Self::Bands(hot_cold(set, config).collect())),
            Pattern::Sequential => Some(Self::Cycle(set.clone(), 0.0)),
            Pattern::Zipf => Some(Self::Zipf(Zipf::expected(set.clone(), config.exponent))),
            // Refused before anybody asks: pages are known one by one, or phases are chance.
            Pattern::Trace | Pattern::Measured => None,
        }
    }

    /// Makes it what [`Shape::in_the_mean`] gives, in the memory that it has; false if that is none.
    pub(super) fn become_in_the_mean(&mut self, config: &WriterConfig, set: &Range<u64>) -> bool {
        if let (Self::Bands(bands), Pattern::Uniform, false) = (&mut *self, config.pattern, set.is_empty()) {
            bands.clear();
            bands.push(Band { pages: set.clone(), weight: 1.0 / (set.end - set.start) as f64 });
            return true;
        }
        if let (Self::Bands(bands), Pattern::HotCold, false) = (&mut *self, config.pattern, set.is_empty()) {
            bands.clear();
            bands.extend(hot_cold(set, config));
            return true;
        }
        if let (Self::Zipf(zipf), Pattern::Zipf, false) = (&mut *self, config.pattern, set.is_empty()) {
            zipf.become_expected(set.clone(), config.exponent);
            return true;
        }
        let made = Self::in_the_mean(config, set);
        made.map(|made| *self = made).is_some()
    }

    /// The first page it writes to and the one behind the last; none if there are none.
    pub(super) fn extent(&self) -> Option<(u64, u64)> {
        match self {
            Self::Bands(bands) => {
                let first = bands.iter().map(|band| band.pages.start).min()?;
                Some((first, bands.iter().map(|band| band.pages.end).max()?))
            }
            Self::Cycle(set, _) => Some((set.start, set.end)),
            Self::Zipf(zipf) => Some(zipf.extent()),
            Self::Measured(measured) => Some(measured.extent()),
            Self::Replay(replay) => {
                let extent = replay.extent();
                Some((extent.start, extent.end))
            }
        }
    }

    /// The share of the writes that `page` gets; of a sequential writer's, an even one.
    pub(super) fn weight(&self, page: u64) -> f64 {
        match self {
            Self::Bands(bands) => {
                bands.iter().find(|band| band.pages.contains(&page)).map_or(0.0, |band| band.weight)
            }
            Self::Cycle(set, _) if set.contains(&page) => 1.0 / (set.end - set.start) as f64,
            Self::Cycle(..) => 0.0,
            Self::Zipf(zipf) => zipf.share_of(page).unwrap_or(0.0),
            Self::Measured(measured) => measured.weight(page),
            Self::Replay(replay) => replay.weight(page),
        }
    }

    /// Draws the pages dirtied between two counts of writes; says how many.
    pub(super) fn draw(
        &self,
        from: f64,
        to: f64,
        sampler: &mut Sampler,
        sink: &mut impl FnMut(usize, u64),
    ) -> u64 {
        match self {
            Self::Bands(bands) => bands
                .iter()
                .map(|band| {
                    let law = Law::of_exposure((to - from) * band.weight);
                    sampler.pages(band.pages.start, band.pages.end, law, sink)
                })
                .sum(),
            Self::Cycle(set, start) => cycle_runs(set, from + start, to + start)
                .into_iter()
                .map(|run| {
                    each_word(run.start, run.end, sink);
                    run.end - run.start
                })
                .sum(),
            Self::Zipf(zipf) => zipf.draw(to - from, sampler, sink),
            Self::Measured(measured) => measured.draw((from, to), sampler, sink),
            Self::Replay(replay) => replay.draw(from, to, sink),
        }
    }

    /// The same for the pages of one word.
    pub(super) fn draw_word(&self, word: usize, from: f64, to: f64, sampler: &mut Sampler) -> u64 {
        match self {
            Self::Bands(bands) => bands.iter().fold(0, |mask, band| {
                let lanes = lanes(&band.pages, word);
                if lanes == 0 {
                    return mask;
                }
                mask | sampler.word(Law::of_exposure((to - from) * band.weight)) & lanes
            }),
            Self::Cycle(set, start) => {
                cycle_runs(set, from + start, to + start).iter().fold(0, |mask, run| mask | lanes(run, word))
            }
            Self::Zipf(zipf) => zipf.draw_word(word, to - from, sampler),
            Self::Measured(measured) => measured.draw_word(word, (from, to), sampler),
            Self::Replay(replay) => replay.draw_word(word, from, to),
        }
    }

    /// How often `page` was written after `writes` in all; none if it is not in the working set.
    pub(super) fn wear(&self, page: u64, writes: f64) -> Option<Wear> {
        let mean = |weight: f64| Wear { mean: writes * weight, count: 0.0 };
        match self {
            Self::Bands(bands) => {
                bands.iter().find(|band| band.pages.contains(&page)).map(|band| mean(band.weight))
            }
            Self::Cycle(set, start) => set.contains(&page).then(|| {
                let (length, total) = (set.end - set.start, (writes + start) as u64);
                let count = total / length + u64::from(total % length > page - set.start);
                Wear { mean: 0.0, count: count as f64 }
            }),
            Self::Zipf(zipf) => zipf.share_of(page).map(mean),
            Self::Measured(measured) => measured.wear(page, writes),
            Self::Replay(replay) => replay.wear(page, writes).map(|mean| Wear { mean, count: 0.0 }),
        }
    }

    /// How many pages are expected to be clean still after `writes` of them from a clean start.
    pub(super) fn untouched(&self, writes: f64) -> f64 {
        match self {
            Self::Bands(bands) => bands
                .iter()
                .map(|band| (band.pages.end - band.pages.start) as f64 * (-writes * band.weight).exp())
                .sum(),
            Self::Cycle(set, _) => ((set.end - set.start) as f64 - writes).max(0.0),
            Self::Zipf(zipf) => {
                zipf.groups().iter().map(|group| group.pages * (-writes * group.weight).exp()).sum()
            }
            Self::Measured(measured) => measured.untouched(writes),
            Self::Replay(replay) => replay.untouched(writes),
        }
    }

    /// Pages expected to be dirtied between two counts of writes.
    pub(super) fn expected(&self, from: f64, to: f64) -> f64 {
        match self {
            _ if to <= from => 0.0,
            // It is known.
            Self::Replay(replay) => replay.draw(from, to, &mut |_, _| {}) as f64,
            _ => self.untouched(0.0) - self.untouched(to - from),
        }
    }

    /// Whether the first write to a page after a harvest costs a fault. What a trace tells was found by
    /// tracking, so its time has the faults in it.
    pub(super) fn pays_faults(&self) -> bool {
        !matches!(self, Self::Replay(_))
    }

    /// The chance that the next write goes to a clean page: how fast [`Shape::untouched`] falls.
    pub(super) fn fresh(&self, writes: f64) -> f64 {
        match self {
            Self::Bands(bands) => bands
                .iter()
                .map(|band| {
                    let share = (band.pages.end - band.pages.start) as f64 * band.weight;
                    share * (-writes * band.weight).exp()
                })
                .sum(),
            Self::Cycle(set, _) => f64::from(u8::from(writes < (set.end - set.start) as f64)),
            Self::Zipf(zipf) => zipf
                .groups()
                .iter()
                .map(|group| group.pages * group.weight * (-writes * group.weight).exp())
                .sum(),
            Self::Measured(measured) => measured.fresh(writes),
            Self::Replay(replay) => replay.fresh(writes),
        }
    }
}

/// The bits that a run of pages has in word `word`.
#[inline]
fn lanes(run: &Range<u64>, word: usize) -> u64 {
    let first = word as u64 * 64;
    let (from, to) = (run.start.max(first), run.end.min(first + 64));
    if from >= to {
        return 0;
    }
    u64::MAX << (from - first) & u64::MAX >> (64 - (to - first))
}
