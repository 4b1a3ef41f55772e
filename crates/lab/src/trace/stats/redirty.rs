//! The re-dirty distance: how long it takes until a dirtied page is dirtied again.
//!
//! Counted in whole intervals, from a page's harvest to the next harvest that finds it: one interval means that
//! it was written in the next interval again. What was not dirtied again before the trace ended is counted apart.

use std::time::Duration;

use serde::Serialize;
use whimbrel_sim::trace::{Interval, PageIndex, Trace};

use super::{TooLarge, index, median_length, whole_intervals};

/// The distribution of the time until a dirtied page is dirtied again.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Redirty {
    /// How often a page was dirtied again.
    pub again: u64,
    /// How often it was not, up to the end.
    pub never: u64,
    /// One in ten comes again within so many seconds; none if none comes again.
    pub p10_s: Option<f64>,
    /// Half of them do.
    pub p50_s: Option<f64>,
    /// Nine in ten do.
    pub p90_s: Option<f64>,
    /// How many come again within which time, ascending; times double.
    pub steps: Vec<RedirtyStep>,
}

/// Of the pages that are dirtied again, those that are within some time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RedirtyStep {
    /// Within so many seconds.
    pub within_s: f64,
    /// So many.
    pub count: u64,
    /// Their share of all that are dirtied again.
    pub share: f64,
}

/// The re-dirty distances of a trace.
///
/// # Errors
///
/// If it has more different pages than [`MAX_TOUCHED`](super::MAX_TOUCHED).
pub fn redirty(trace: &Trace) -> Result<Redirty, TooLarge> {
    let intervals = whole_intervals(trace);
    Ok(of(&index(trace)?, &intervals, median_length(&intervals)))
}

pub(super) fn of(dense: &PageIndex, intervals: &[Interval<'_>], length: Duration) -> Redirty {
    // How often which distance came, in intervals.
    let mut counts = vec![0_u64; intervals.len().max(1)];
    let mut last = vec![u32::MAX; dense.len()];
    for (number, interval) in intervals.iter().enumerate() {
        for run in dense.of_interval(interval) {
            for last in &mut last[run] {
                let before = std::mem::replace(last, number as u32);
                if before != u32::MAX {
                    counts[number - before as usize] += 1;
                }
            }
        }
    }
    let never = last.iter().filter(|last| **last != u32::MAX).count() as u64;
    let mut within = counts;
    for index in 1..within.len() {
        within[index] += within[index - 1];
    }
    summed_up(&within, never, length.as_secs_f64())
}

/// `within[i]` come again within `i` intervals.
fn summed_up(within: &[u64], never: u64, length: f64) -> Redirty {
    let again = within.last().copied().unwrap_or_default();
    let quantile = |share: f64| {
        let rank = ((share * again as f64).ceil() as u64).max(1);
        (again > 0).then(|| within.partition_point(|count| *count < rank) as f64 * length)
    };
    let mut steps = Vec::new();
    // No two intervals are farther apart than the last.
    let farthest = within.len().saturating_sub(1);
    let mut reached = 0;
    for distance in (0..64).map(|doubled| (1_usize << doubled).min(farthest)) {
        if reached == again {
            break;
        }
        reached = within[distance];
        let share = reached as f64 / again as f64;
        steps.push(RedirtyStep { within_s: distance as f64 * length, count: reached, share });
    }
    let (p10_s, p50_s, p90_s) = (quantile(0.1), quantile(0.5), quantile(0.9));
    Redirty { again, never, p10_s, p50_s, p90_s, steps }
}
