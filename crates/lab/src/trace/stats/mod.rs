//! What a trace tells of a guest: how many different pages it writes in how much time, how evenly, how soon again.
//!
//! The measures are those of `reference/qemu/programs/lab/curve.py`, so that a trace can be held against the
//! curves that were measured there: windows of whole intervals, back to back where that gives at least five of
//! them, else overlapping by at most four fifths. An interval at the end that is shorter than the others is left
//! out; beyond that, intervals are taken to be of equal length.

mod curve;
mod redirty;

use std::time::Duration;

use serde::Serialize;
use whimbrel_core::layout::PageSize;
use whimbrel_core::units::ByteCount;
use whimbrel_sim::trace::{Interval, PageIndex, Trace};

pub use self::curve::{CurvePoint, working_set_curve};
pub use self::redirty::{Redirty, RedirtyStep, redirty};

/// The version of [`Statistics`].
pub const SCHEMA: u32 = 1;

/// The most different pages of which statistics are made: 1 TiB of 4 KiB pages, for which 2 GiB are needed.
pub const MAX_TOUCHED: u64 = 1 << 28;

/// A trace has more pages than statistics are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("statistics of {touched} different pages are not made: accepted are at most {MAX_TOUCHED}")]
pub struct TooLarge {
    /// Different pages.
    pub touched: u64,
}

/// All that a trace tells.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Statistics {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Size of a page.
    pub page_size: PageSize,
    /// Memory of the guest.
    pub memory: ByteCount,
    /// Intervals that were counted.
    pub intervals: u64,
    /// Length of an interval: the median, milliseconds.
    pub interval_ms: f64,
    /// Different pages dirtied in all of them.
    pub touched_pages: u64,
    /// Pages dirtied in an interval.
    pub pages: Series,
    /// Different pages by length of window: the writable-working-set curve, shortest window first.
    pub curve: Vec<CurvePoint>,
    /// Pages by the number of intervals in which they were dirtied.
    pub hits: Vec<Hits>,
    /// How soon pages are dirtied again; none where only numbers were measured.
    pub redirty: Option<Redirty>,
    /// The dirty rate over time: one value an interval.
    pub rate: Vec<RatePoint>,
}

/// A series of numbers, one an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Series {
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, that of a sample; none of fewer than two.
    pub sd: Option<f64>,
    /// Standard deviation over mean.
    pub cv: Option<f64>,
    /// Largest over mean.
    pub peak_to_mean: Option<f64>,
    /// Correlation of neighbours, `Σ (x_i − m)(x_{i+1} − m) / n / sd²`: near 1 where the guest has phases that
    /// last for many intervals.
    pub lag1: Option<f64>,
}

/// How many pages were dirtied in so many intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Hits {
    /// At least so many intervals.
    pub from: u64,
    /// At most so many.
    pub to: u64,
    /// So many pages.
    pub pages: u64,
}

/// The pages dirtied in an interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RatePoint {
    /// When the interval begins, seconds.
    pub start_s: f64,
    /// Its length, seconds.
    pub length_s: f64,
    /// Different pages dirtied in it.
    pub pages: u64,
    /// The same a second.
    pub pages_per_s: f64,
}

impl Series {
    /// Of these numbers; all zero and none if there are none.
    pub fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        if values.is_empty() {
            return Self::default();
        }
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let variance = (values.len() > 1).then(|| squares / (count - 1.0));
        let pairs: f64 = values.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
        let peak = values.iter().copied().fold(0.0, f64::max);
        Self {
            mean,
            sd: variance.map(f64::sqrt),
            cv: variance.filter(|_| mean > 0.0).map(|variance| variance.sqrt() / mean),
            peak_to_mean: (mean > 0.0).then(|| peak / mean),
            lag1: variance.filter(|variance| *variance > 0.0).map(|variance| pairs / count / variance),
        }
    }
}

impl Statistics {
    /// Of a trace.
    ///
    /// # Errors
    ///
    /// If it has more different pages than [`MAX_TOUCHED`].
    pub fn of(trace: &Trace) -> Result<Self, TooLarge> {
        let dense = index(trace)?;
        let intervals = whole_intervals(trace);
        let length = median_length(&intervals);
        let rate: Vec<RatePoint> = intervals.iter().map(rate_point).collect();
        let series: Vec<f64> = rate.iter().map(|point| point.pages as f64).collect();
        let hits = dense.hits(intervals.iter().copied());
        Ok(Self {
            schema: SCHEMA,
            page_size: trace.page_size(),
            memory: trace.memory(),
            intervals: intervals.len() as u64,
            interval_ms: length.as_secs_f64() * 1e3,
            touched_pages: hits.iter().filter(|hits| **hits > 0).count() as u64,
            pages: Series::of(&series),
            curve: curve::of(&dense, &intervals, length),
            hits: histogram(&hits, intervals.len() as u64),
            redirty: Some(redirty::of(&dense, &intervals, length)),
            rate,
        })
    }
}

/// The touched pages of a trace, unless there are too many.
fn index(trace: &Trace) -> Result<PageIndex, TooLarge> {
    let touched = trace.touched_pages().0;
    if touched > MAX_TOUCHED { Err(TooLarge { touched }) } else { Ok(PageIndex::of(trace)) }
}

/// The intervals of a trace but for one at the end that is shorter than the others.
fn whole_intervals(trace: &Trace) -> Vec<Interval<'_>> {
    let mut intervals: Vec<_> = trace.intervals().collect();
    let usual = median_length(&intervals);
    if intervals.len() > 1
        && intervals.last().is_some_and(|last| last.length().as_secs_f64() < 0.99 * usual.as_secs_f64())
    {
        intervals.pop();
    }
    intervals
}

fn median_length(intervals: &[Interval<'_>]) -> Duration {
    let mut lengths: Vec<Duration> = intervals.iter().map(Interval::length).collect();
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).copied().unwrap_or_default()
}

fn rate_point(interval: &Interval<'_>) -> RatePoint {
    let (pages, length_s) = (interval.pages().0, interval.length().as_secs_f64());
    RatePoint {
        start_s: interval.start().as_secs_f64(),
        length_s,
        pages,
        pages_per_s: pages as f64 / length_s,
    }
}

/// Pages dirtied in 1, 2, 3 to 4, 5 to 8, … intervals; the last class ends at all of them.
fn histogram(hits: &[u32], intervals: u64) -> Vec<Hits> {
    let mut bins = Vec::new();
    let mut from = 1;
    while from <= intervals {
        let to = if from == 1 { 1 } else { (2 * (from - 1)).min(intervals) };
        let inside = hits.iter().filter(|hits| (from..=to).contains(&u64::from(**hits)));
        bins.push(Hits { from, to, pages: inside.count() as u64 });
        from = to + 1;
    }
    bins
}
