//! The writable-working-set curve: how many different pages are dirtied in a window, by the window's length.

use std::time::Duration;

use serde::Serialize;
use whimbrel_sim::trace::{Interval, PageIndex, Trace};

use super::{TooLarge, index, median_length, whole_intervals};
use crate::sweep::nearest_rank;

/// Fewer windows than this are taken overlapping.
const FEW: usize = 5;

/// Windows of one length. Percentiles are nearest ranks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CurvePoint {
    /// Length of the window, seconds.
    pub window_s: f64,
    /// How many windows.
    pub windows: u64,
    /// They overlap, so they are no independent samples.
    pub overlapping: bool,
    /// Different pages, on average.
    pub mean: f64,
    /// Standard deviation, that of a sample; none of one window.
    pub sd: Option<f64>,
    /// The fewest.
    pub min: f64,
    /// One in ten windows has no more.
    pub p10: f64,
    /// Half have no more.
    pub p50: f64,
    /// Nine in ten have no more.
    pub p90: f64,
    /// The most.
    pub max: f64,
}

/// The writable-working-set curve of a trace at windows of about 1, 2, 5, 10, … times a power of ten seconds, from
/// one interval to the whole trace.
///
/// # Errors
///
/// If it has more different pages than [`MAX_TOUCHED`](super::MAX_TOUCHED).
pub fn working_set_curve(trace: &Trace) -> Result<Vec<CurvePoint>, TooLarge> {
    let intervals = whole_intervals(trace);
    Ok(of(&index(trace)?, &intervals, median_length(&intervals)))
}

pub(super) fn of(dense: &PageIndex, intervals: &[Interval<'_>], length: Duration) -> Vec<CurvePoint> {
    // The window in which each page was counted last.
    let mut counted = vec![u32::MAX; dense.len()];
    let mut number = 0;
    let mut points = Vec::new();
    for size in sizes(intervals.len(), length) {
        let (starts, overlapping) = windows(intervals.len(), size);
        let counts: Vec<f64> = starts
            .map(|start| {
                let count = distinct(dense, &intervals[start..start + size], &mut counted, number);
                number += 1;
                count as f64
            })
            .collect();
        points.push(point(length.as_secs_f64() * size as f64, counts, overlapping));
    }
    points
}

/// Different pages in these intervals; `number` was never given before.
fn distinct(dense: &PageIndex, intervals: &[Interval<'_>], counted: &mut [u32], number: u32) -> u64 {
    let mut count = 0;
    for interval in intervals {
        for run in dense.of_interval(interval) {
            for last in &mut counted[run] {
                count += u64::from(std::mem::replace(last, number) != number);
            }
        }
    }
    count
}

/// Windows of so many intervals, ascending: one, those next to 1, 2 and 5 times the powers of ten seconds, all.
fn sizes(intervals: usize, length: Duration) -> Vec<usize> {
    if intervals == 0 {
        return Vec::new();
    }
    let nice = (-9..9).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
    let sizes = nice.map(|seconds| (seconds / length.as_secs_f64()).round()).filter(|size| *size >= 1.0);
    let mut sizes: Vec<usize> =
        sizes.map(|size| size as usize).take_while(|size| *size < intervals).collect();
    sizes.extend([1, intervals]);
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// Where windows of `size` of `intervals` begin, and whether they overlap.
fn windows(intervals: usize, size: usize) -> (std::iter::StepBy<std::ops::RangeInclusive<usize>>, bool) {
    let room = intervals - size;
    if room / size + 1 >= FEW {
        return ((0..=room).step_by(size), false);
    }
    let step = (size / FEW).min((room / FEW).max(1)).max(1);
    ((0..=room).step_by(step), room >= step && step < size)
}

fn point(window_s: f64, mut counts: Vec<f64>, overlapping: bool) -> CurvePoint {
    counts.sort_unstable_by(f64::total_cmp);
    let number = counts.len() as f64;
    let mean = counts.iter().sum::<f64>() / number;
    let squares: f64 = counts.iter().map(|count| (count - mean).powi(2)).sum();
    let rank = |share| nearest_rank(&counts, share).unwrap_or_default();
    CurvePoint {
        window_s,
        windows: counts.len() as u64,
        overlapping,
        mean,
        sd: (counts.len() > 1).then(|| (squares / (number - 1.0)).sqrt()),
        min: rank(0.0),
        p10: rank(0.1),
        p50: rank(0.5),
        p90: rank(0.9),
        max: rank(1.0),
    }
}
