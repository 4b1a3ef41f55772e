//! A guest model's trace: what its dirty log tells when nobody migrates it.

use std::time::Duration;

use whimbrel_core::layout::{PageNumber, PageRun};
use whimbrel_core::units::{Pages, Timestamp};

use super::{Trace, TraceBuilder, TraceError};
use crate::config::{ConfigError, GuestConfig};
use crate::guest::Guest;

/// How a guest is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Time between two harvests.
    pub interval: Duration,
    /// How long; the last interval is shorter if it is no multiple.
    pub length: Duration,
    /// What the first write to a page after a harvest costs the vCPU that makes it: tracking is not free, and
    /// what is recorded is a tracked guest.
    pub tracking_fault: Duration,
    /// Seed of every random choice of the guest's.
    pub seed: u64,
}

/// Why nothing was recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The guest is not possible.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It would not be a trace.
    #[error(transparent)]
    Trace(#[from] TraceError),
}

/// Lets a guest run, unhindered but for tracking, and harvests its dirty log at the end of each interval.
///
/// # Errors
///
/// If the guest's configuration or the times are not possible, or there is more to record than a trace holds.
pub fn record(config: &GuestConfig, recording: &Recording) -> Result<Trace, RecordError> {
    let mut start = Duration::ZERO;
    let intervals = std::iter::from_fn(|| {
        let length = recording.interval.min(recording.length.saturating_sub(start));
        let interval = (start, length);
        start += length;
        (!length.is_zero()).then_some(interval)
    });
    record_intervals(config, recording.tracking_fault, recording.seed, intervals)
}

/// The same, harvested when `like` was: what the model says of a guest that was watched.
///
/// # Errors
///
/// As [`record`].
pub fn record_like(
    config: &GuestConfig,
    tracking_fault: Duration,
    seed: u64,
    like: &Trace,
) -> Result<Trace, RecordError> {
    let intervals = like.intervals().map(|interval| (interval.start(), interval.length()));
    record_intervals(config, tracking_fault, seed, intervals)
}

/// Each interval by its start and length.
fn record_intervals(
    config: &GuestConfig,
    tracking_fault: Duration,
    seed: u64,
    intervals: impl Iterator<Item = (Duration, Duration)>,
) -> Result<Trace, RecordError> {
    let mut guest = Guest::new(config, seed)?;
    guest.start_tracking(Timestamp::ZERO, tracking_fault);
    let mut trace = TraceBuilder::new(config.memory, config.page_size)?;
    for (start, length) in intervals {
        trace.interval(start, length)?;
        let mut found = Ok(());
        guest.harvest(Timestamp::ZERO.saturating_add(start + length), |word, mask| {
            for run in runs_of(word, mask) {
                if found.is_ok() {
                    found = trace.dirtied(run);
                }
            }
        });
        found?;
    }
    Ok(trace.build())
}

/// The runs of pages in a word.
fn runs_of(word: usize, mut mask: u64) -> impl Iterator<Item = PageRun> {
    std::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        let first = mask.trailing_zeros();
        let count = (mask >> first).trailing_ones();
        let end = first + count;
        mask = if end == 64 { 0 } else { mask >> end << end };
        let first = PageNumber(word as u64 * 64 + u64::from(first));
        Some(PageRun { first, count: Pages(count.into()) })
    })
}
