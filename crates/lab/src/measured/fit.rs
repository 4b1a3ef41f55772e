//! The fit: classes of pages and the activity of the program, from what was observed.
//!
//! Two steps in turn, until both agree:
//!
//! 1. given how busy the program was in each tick: of which kinds of pages are so many that the windows'
//!    means and the counts of recurrence come out? Non-negative least squares over the dictionary.
//! 2. given the classes: how busy must the program have been in a tick for so many distinct pages? All
//!    classes share one activity, so this is a number a tick, found by bisection.
//!
//! A tick's count varies by chance, too, even of a program that is evenly busy; only what is left of the
//! variance beyond that is activity.

use std::time::Duration;

use whimbrel_core::units::{ByteCount, Pages, Share};
use whimbrel_sim::config::{Activity, Follows, MeasuredWrites, PageClass, PageCycle, WriteAt};

use super::dictionary::{Kind, Span, Turn, kinds, windows};
use super::nnls::{self, Row};
use super::spread::speed_spread;
use crate::trace::stats::Statistics;

/// What was observed of a program's writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// Series of equal ticks; the first has the shortest.
    pub stages: Vec<Stage>,
    /// Part of a vCPU that the program uses.
    pub busy: Share,
    /// How much of a page changes.
    pub changes: Vec<Change>,
}

/// A series of ticks, at whose ends the pages written in them were counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stage {
    /// Length of a tick in seconds of the program's own time.
    pub tick: f64,
    /// Distinct pages written in each.
    pub series: Vec<f64>,
    /// Distinct pages written in windows of several.
    pub windows: Vec<WindowFact>,
    /// Pages that were written in so many to so many of the ticks.
    pub hits: Vec<(usize, usize, f64)>,
    /// How well the program's own time is known: the standard deviation of the logarithm of `tick`.
    pub tick_error: f64,
}

impl Stage {
    /// Of a trace: its intervals are the ticks.
    pub fn of(found: &Statistics) -> Self {
        let tick = found.interval_ms * 1e-3;
        let windows = found.curve.iter().filter_map(|point| {
            let ticks = (point.window_s / tick).round();
            (ticks >= 1.0 && ticks <= found.rate.len() as f64).then(|| WindowFact {
                ticks: ticks as usize,
                mean: point.mean,
                sd: point.sd.unwrap_or(0.0),
                windows: point.windows as f64,
                quantiles: vec![(0.1, point.p10), (0.5, point.p50), (0.9, point.p90)],
            })
        });
        let hits = found.hits.iter().map(|hits| (hits.from as usize, hits.to as usize, hits.pages as f64));
        Self {
            tick,
            series: found.rate.iter().map(|point| point.pages as f64).collect(),
            windows: windows.collect(),
            hits: hits.collect(),
            tick_error: 0.0,
        }
    }
}

/// Distinct pages written in windows of one length.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowFact {
    /// Their length.
    pub ticks: usize,
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub sd: f64,
    /// How many windows there were.
    pub windows: f64,
    /// The least that so great a share of the windows has not more than, by share.
    pub quantiles: Vec<(f64, f64)>,
}

/// How much of the pages that changed at all changed in a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Seconds.
    pub after: f64,
    /// Bytes of a page, on average.
    pub bytes: f64,
}

/// Shares of the ticks that are taken to be idle to begin with: where the two steps lead depends on where they
/// begin, so they begin at several places, and the best end is taken.
const IDLEST: [f64; 3] = [0.0, 0.1, 0.25];
/// Times that both steps are made.
const TURNS: usize = 6;
/// Part of a window's mean, and of a count of recurrence, that is not held against a model.
const WINDOW_SLACK: f64 = 0.01;
const HITS_SLACK: f64 = 0.1;
/// The same for quantiles of windows.
const QUANTILE_SLACK: f64 = 0.03;
/// The busiest tick, in times of the average.
const BUSIEST: f64 = 50.0;
/// A block of activity is this part of what was measured.
const BLOCK: usize = 3;
/// Pages written more often a second than this are hot: what a write changes there is the same each time.
const HOT: f64 = 1.0;
/// Bytes of a page.
const PAGE: f64 = 4096.0;
/// Sizes of a change that are tried, from 1 to all bytes of a page in equal ratios.
const SIZES: u32 = 64;
/// Bytes that a write changes where nobody looked: a cache line.
const UNKNOWN_CHANGE: f64 = 64.0;

/// Classes of pages while they are fitted.
pub(super) struct Classes {
    kinds: Vec<Kind>,
    /// Pages of each kind.
    pages: Vec<f64>,
}

/// The model that comes nearest to `observation`.
pub fn fit(observation: &Observation) -> MeasuredWrites {
    let stages = &observation.stages;
    let tick = stages.iter().map(|stage| stage.tick).fold(f64::INFINITY, f64::min);
    let length = stages.iter().map(|stage| stage.tick * stage.series.len() as f64).fold(0.0, f64::max);
    let Some(first) = stages.first().filter(|_| tick > 0.0 && length > 0.0) else {
        return nothing(observation.busy);
    };
    let fits = IDLEST.map(|idlest| Fit::new(stages, kinds(tick, length), idlest));
    let best = fits.into_iter().min_by(|one, other| one.off.total_cmp(&other.off));
    let Some(Fit { classes, levels, speed, spread, .. }) = best.filter(|fit| fit.classes.count() >= 0.5)
    else {
        return nothing(observation.busy);
    };
    let change = Changes::of(&observation.changes, &classes);
    MeasuredWrites {
        speed_spread: spread,
        change_spread: if observation.changes.is_empty() { 0.0 } else { CHANGE_SPREAD },
        ..model(&classes, first, levels, speed, observation.busy, change)
    }
}

/// Changes were counted in bins of a factor of two: the standard deviation of the logarithm of what is anywhere in
/// one.
const CHANGE_SPREAD: f64 = 0.2;

/// A fit from one beginning.
struct Fit {
    classes: Classes,
    /// Of the first stage.
    levels: Levels,
    /// The mean of its levels before it was made one: what they were more or less than that belongs to the rates.
    speed: f64,
    /// How far it is from what was observed, in squared errors.
    off: f64,
    spread: f64,
}

impl Fit {
    fn new(stages: &[Stage], kinds: Vec<Kind>, idlest: f64) -> Self {
        let mut activity: Vec<Levels> =
            stages.iter().map(|stage| Levels::first(&stage.series, idlest)).collect();
        let mut classes = Classes { kinds, pages: Vec::new() };
        let (mut speed, mut off) = (1.0, f64::INFINITY);
        for _ in 0..TURNS {
            let rows = rows(stages, &activity, &classes.kinds);
            classes.pages = nnls::solve(&rows);
            off = rows.iter().map(|row| row.off(&classes.pages)).sum();
            for (index, stage) in stages.iter().enumerate() {
                let levels = classes.activity(stage, &activity[index]);
                if index == 0 {
                    speed = levels.iter().sum::<f64>() / levels.len() as f64;
                }
                activity[index] = Levels::of(&levels);
            }
        }
        let spread = speed_spread(stages, &activity, &classes);
        Self { classes, levels: activity.swap_remove(0), speed, off, spread }
    }
}

/// How busy a program was in each tick of a stage, both in times of the average.
pub(super) struct Levels {
    pub(super) busy: Vec<f64>,
    /// How much it did what it does else. The less the busier it is; nothing while it is busier than in most ticks.
    pub(super) quiet: Vec<f64>,
}

impl Levels {
    /// Before anything is known: as if this share of the ticks were idle.
    fn first(series: &[f64], idle: f64) -> Self {
        let mut sorted = series.to_vec();
        sorted.sort_by(f64::total_cmp);
        let least = sorted[((sorted.len() - 1) as f64 * idle) as usize];
        Self::of(&series.iter().map(|pages| (pages - least).max(0.0)).collect::<Vec<_>>())
    }

    fn of(busy: &[f64]) -> Self {
        let mut sorted = busy.to_vec();
        sorted.sort_by(f64::total_cmp);
        let full = sorted[(sorted.len() - 1) / 2];
        let quiet: Vec<f64> = busy.iter().map(|level| (full - level).max(0.0)).collect();
        Self { busy: relative(busy), quiet: relative(&quiet) }
    }
}

/// The values in times of their mean.
fn relative(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| if mean > 0.0 { value / mean } else { 1.0 }).collect()
}

/// A program that never writes.
fn nothing(busy: Share) -> MeasuredWrites {
    let tick = Duration::from_millis(50);
    let activity = Activity { tick, busy: vec![1.0], quiet: vec![1.0], block: 1 };
    MeasuredWrites {
        classes: Vec::new(),
        cycles: Vec::new(),
        activity,
        busy,
        speed_spread: 0.0,
        change_spread: 0.0,
    }
}

/// What the windows and counts of recurrence say about the number of pages of each kind.
fn rows(stages: &[Stage], activity: &[Levels], kinds: &[Kind]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (stage, activity) in stages.iter().zip(activity) {
        for window in &stage.windows {
            let spans = windows(stage, activity, window.ticks);
            // The activity is that of these very windows; what is left is the chance of counting.
            let error = window.mean / window.windows.max(1.0);
            let mean = kinds.iter().map(|kind| mean_found(kind, &spans)).collect();
            let noise = error + (WINDOW_SLACK * window.mean).powi(2);
            rows.push(Row { of: mean, value: window.mean, weight: 1.0 / noise.max(1e-6) });
            for &(share, pages) in &window.quantiles {
                // The busier a window, the more it finds.
                let span = spans[((spans.len() - 1) as f64 * share).round() as usize];
                let noise = pages + (QUANTILE_SLACK * pages).powi(2);
                let of = kinds.iter().map(|kind| kind.found(span)).collect();
                rows.push(Row { of, value: pages, weight: 1.0 / noise.max(1e-6) });
            }
        }
        let ticks = stage.series.len();
        let spans = windows(stage, activity, 1);
        let chances: Vec<f64> = kinds.iter().map(|kind| mean_found(kind, &spans)).collect();
        for &(from, to, pages) in &stage.hits {
            let of = kinds
                .iter()
                .zip(&chances)
                .map(|(kind, &chance)| kind.turn.found_in(chance, ticks, (from, to)));
            let noise = pages + 1.0 + (HITS_SLACK * pages).powi(2);
            rows.push(Row { of: of.collect(), value: pages, weight: 1.0 / noise });
        }
    }
    rows
}

/// The share of the pages of a kind that a window finds on average.
fn mean_found(kind: &Kind, spans: &[Span]) -> f64 {
    spans.iter().map(|&span| kind.found(span)).sum::<f64>() / spans.len() as f64
}

impl Classes {
    fn count(&self) -> f64 {
        self.pages.iter().sum()
    }

    /// Distinct pages that are written in `span`.
    pub(super) fn found(&self, span: Span) -> f64 {
        self.kinds
            .iter()
            .zip(&self.pages)
            .filter(|(_, pages)| **pages > 0.0)
            .map(|(kind, pages)| pages * kind.found(span))
            .sum()
    }

    /// The variance of what is found in a time if the program is evenly busy.
    pub(super) fn chance(&self, time: f64) -> f64 {
        let random =
            self.kinds.iter().zip(&self.pages).filter(|(kind, _)| matches!(kind.turn, Turn::Random(_)));
        random.map(|(kind, pages)| pages * kind.turn.found(time) * (1.0 - kind.turn.found(time))).sum()
    }

    /// How busy the program was in each tick, in times of what it is at the rates of the classes.
    fn activity(&self, stage: &Stage, known: &Levels) -> Vec<f64> {
        let count = stage.series.len() as f64;
        let mean = stage.series.iter().sum::<f64>() / count;
        let variance = stage.series.iter().map(|pages| (pages - mean).powi(2)).sum::<f64>() / count;
        let left =
            if variance > 0.0 { (1.0 - self.chance(stage.tick) / variance).max(0.0).sqrt() } else { 0.0 };
        let level = |(&pages, quiet): (&f64, &f64)| {
            self.level(mean + (pages - mean) * left, stage.tick, quiet * stage.tick)
        };
        stage.series.iter().zip(&known.quiet).map(level).collect()
    }

    /// How busy it is to write `pages` distinct pages in a tick.
    fn level(&self, pages: f64, tick: f64, quiet: f64) -> f64 {
        let (mut low, mut high) = (0.0, BUSIEST);
        for _ in 0..40 {
            let middle = f64::midpoint(low, high);
            if self.found(Span { time: tick, busy: middle * tick, quiet }) < pages {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// Bytes that a write changes on hot pages and on others.
#[derive(Clone, Copy)]
struct Changes {
    hot: f64,
    cold: f64,
}

impl Changes {
    /// So that the pages found changed after each time have changed as much as was seen. A hot page changes the
    /// same bytes whenever it is written, another one more with each write.
    fn of(changes: &[Change], classes: &Classes) -> Self {
        let changes: Vec<&Change> = changes
            .iter()
            .filter(|change| classes.found(Span::even(change.after)) > 0.0 && change.bytes > 0.0)
            .collect();
        let sizes = (0..=SIZES).map(|step| PAGE.powf(f64::from(step) / f64::from(SIZES)));
        let best = sizes.map(|cold| Self::with_cold(&changes, classes, cold));
        let best = best.min_by(|one, other| one.1.total_cmp(&other.1));
        let unknown = Self { hot: UNKNOWN_CHANGE, cold: UNKNOWN_CHANGE };
        best.filter(|_| !changes.is_empty()).map_or(unknown, |(changes, _)| changes)
    }

    /// The best with this size for cold pages, and how bad it is.
    fn with_cold(changes: &[&Change], classes: &Classes, cold: f64) -> (Self, f64) {
        let rows: Vec<Row> = changes
            .iter()
            .map(|change| {
                let (mut hot, mut rest) = (0.0, 0.0);
                for (kind, pages) in classes.kinds.iter().zip(&classes.pages) {
                    if kind.turn.rate() > HOT {
                        hot += pages * kind.turn.found(change.after);
                    } else {
                        rest += pages * PAGE * -(-kind.turn.rate() * change.after * cold / PAGE).exp_m1();
                    }
                }
                let all = change.bytes * classes.found(Span::even(change.after));
                let value = all - rest;
                Row { of: vec![hot], value, weight: 1.0 / (all * all) }
            })
            .collect();
        let hot = nnls::solve(&rows).first().copied().unwrap_or(0.0).min(PAGE);
        let off = rows.iter().map(|row| row.weight * (row.value - row.of[0] * hot).powi(2)).sum();
        (Self { hot, cold }, off)
    }

    fn at(self, kind: Kind) -> (ByteCount, WriteAt) {
        let hot = kind.turn.rate() > HOT;
        let (bytes, at) = if hot { (self.hot, WriteAt::Fixed) } else { (self.cold, WriteAt::Random) };
        (ByteCount(bytes.round().max(1.0) as u64), at)
    }
}

fn model(
    classes: &Classes,
    stage: &Stage,
    levels: Levels,
    speed: f64,
    busy: Share,
    changes: Changes,
) -> MeasuredWrites {
    let tick = Duration::from_secs_f64(stage.tick);
    let Levels { busy: levels, quiet } = levels;
    let block = u32::try_from(levels.len().div_ceil(BLOCK)).unwrap_or(u32::MAX);
    let activity = Activity { tick, busy: levels, quiet, block };
    let mut model = MeasuredWrites {
        classes: Vec::new(),
        cycles: Vec::new(),
        activity,
        busy,
        speed_spread: 0.0,
        change_spread: 0.0,
    };
    for (kind, pages) in whole(classes) {
        let (change, write_at) = changes.at(kind);
        let follows = kind.follows;
        let speed = if follows == Follows::Busy { speed } else { 1.0 };
        match kind.turn {
            Turn::Random(rate) => {
                model.classes.push(PageClass { pages, rate: rate * speed, follows, change, write_at });
            }
            Turn::Cyclic(turn) => {
                let period = Duration::from_secs_f64(turn / speed.max(1e-6));
                model.cycles.push(PageCycle { pages, period, follows, change, write_at });
            }
        }
    }
    model
}

/// Whole pages of each kind; what is rounded is carried on to the next, so that their sum stays.
fn whole(classes: &Classes) -> Vec<(Kind, Pages)> {
    let mut carried = 0.0;
    let mut found = Vec::new();
    for (&kind, pages) in classes.kinds.iter().zip(&classes.pages).filter(|(_, pages)| **pages > 0.0) {
        carried += pages;
        let count = carried.round();
        carried -= count;
        if count >= 1.0 {
            found.push((kind, Pages(count as u64)));
        }
    }
    found
}
