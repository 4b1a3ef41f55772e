//! Measures a model as its program was measured: the same ticks, windows and figures, from the guest that the
//! simulator makes of it.
//!
//! For tests and for `docs/measured.md`: whoever has a model sees whether it writes as the program did.

use std::sync::Arc;

use whimbrel_core::units::{ByteCount, Timestamp};
use whimbrel_sim::config::{ConfigError, GuestConfig, MeasuredWrites, Pattern, WriterConfig};
use whimbrel_sim::guest::Guest;

use super::fit::{Stage, WindowFact};

/// What a stage of a measurement shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// Windows, as in the measurement.
    pub windows: Vec<WindowFact>,
    /// Pages by the number of ticks that they were found in, the bins of the measurement.
    pub hits: Vec<(usize, usize, f64)>,
    /// Standard deviation over mean of the pages in a tick.
    pub cv: f64,
    /// Serial correlation of neighbouring ticks.
    pub lag1: f64,
    /// Most pages in a tick over mean.
    pub peak_to_mean: f64,
}

/// Runs the guest of `model` for as many ticks as `stage` has, and counts; windows lie back to back.
///
/// # Errors
///
/// If the model is none that the simulator takes.
pub fn check(model: &Arc<MeasuredWrites>, stage: &Stage, seed: u64) -> Result<Checked, ConfigError> {
    let pages = model.pages().0.max(1).div_ceil(64) * 64;
    let writer = WriterConfig {
        pattern: Pattern::Measured,
        working_set: ByteCount(pages * 4096),
        measured: Some(Arc::clone(model)),
        ..WriterConfig::default()
    };
    let config =
        GuestConfig { memory: ByteCount(pages * 4096), writers: vec![writer], ..GuestConfig::default() };
    let mut guest = Guest::new(&config, seed)?;
    guest.start_tracking(Timestamp::ZERO, std::time::Duration::ZERO);
    let mut harvest = |tick: usize| {
        let mut found = vec![0_u64; pages.div_ceil(64) as usize];
        let now = Timestamp::from_nanos((stage.tick * tick as f64 * 1e9) as u64);
        guest.harvest(now, |word, mask| found[word] |= mask);
        found
    };
    let ticks: Vec<Vec<u64>> = (1..=stage.series.len()).map(&mut harvest).collect();
    let series: Vec<f64> = ticks.chunks(1).map(distinct).collect();
    let windows = stage.windows.iter().map(|window| {
        let counts: Vec<f64> = ticks.chunks_exact(window.ticks).map(distinct).collect();
        let (mean, sd) = moments(&counts);
        WindowFact { ticks: window.ticks, mean, sd, windows: counts.len() as f64, quantiles: Vec::new() }
    });
    let (mean, sd) = moments(&series);
    Ok(Checked {
        windows: windows.collect(),
        hits: hits(&ticks, pages, &stage.hits),
        cv: sd / mean,
        lag1: lag1(&series, mean, sd),
        peak_to_mean: series.iter().copied().fold(0.0, f64::max) / mean,
    })
}

/// Pages found in any of these ticks.
fn distinct(ticks: &[Vec<u64>]) -> f64 {
    let words = ticks.first().map_or(0, Vec::len);
    let any = |word: usize| ticks.iter().fold(0, |all, tick| all | tick[word]);
    f64::from((0..words).map(|word| any(word).count_ones()).sum::<u32>())
}

/// Mean and standard deviation; that of one is zero.
fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    (mean, if count > 1.0 { (squares / (count - 1.0)).sqrt() } else { 0.0 })
}

fn lag1(series: &[f64], mean: f64, sd: f64) -> f64 {
    let products = series.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum::<f64>();
    if sd > 0.0 { products / series.len() as f64 / (sd * sd) } else { 0.0 }
}

fn hits(ticks: &[Vec<u64>], pages: u64, bins: &[(usize, usize, f64)]) -> Vec<(usize, usize, f64)> {
    let times = |page: u64| {
        let (word, lane) = ((page / 64) as usize, page % 64);
        ticks.iter().filter(|tick| tick[word] >> lane & 1 != 0).count()
    };
    let times: Vec<usize> = (0..pages).map(times).collect();
    let within = |from, to| times.iter().filter(|times| (from..=to).contains(*times)).count() as f64;
    bins.iter().map(|&(from, to, _)| (from, to, within(from, to))).collect()
}
