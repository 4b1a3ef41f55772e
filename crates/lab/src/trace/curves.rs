//! Measured working-set curves, as `reference/qemu/programs/curves.jsonl` has them: the same measures without the
//! pages behind them.
//!
//! Made by `reference/qemu/programs/lab/curve.py`; a line a program, each with a fine and a coarse series of ticks.
//! Fields that are not needed here are passed over.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;
use whimbrel_core::layout::PageSize;
use whimbrel_core::units::ByteCount;

use super::lines::Lines;
use super::stats::{CurvePoint, Hits, RatePoint, SCHEMA, Series, Statistics};
use super::{TraceFileError, open};

/// A program whose working-set curve was measured.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MeasuredProgram {
    /// Its name.
    pub program: String,
    /// Ticks of tens of milliseconds.
    pub fine: Statistics,
    /// Ticks of some hundred milliseconds, for longer windows.
    pub coarse: Statistics,
}

/// The most ticks, pages and windows that are believed.
const MOST: u64 = 1 << 32;

#[derive(Deserialize)]
struct Line {
    prog: String,
    pages: u64,
    fine: Ticks,
    coarse: Ticks,
}

#[derive(Deserialize)]
struct Ticks {
    tick_ms: f64,
    series: Vec<u64>,
    curve: BTreeMap<String, Point>,
    hits: Vec<(u64, u64, u64)>,
}

#[derive(Deserialize)]
struct Point {
    n: u64,
    mean: f64,
    sd: Option<f64>,
    min: f64,
    p10: f64,
    p50: f64,
    p90: f64,
    max: f64,
    #[serde(default)]
    overlapping: bool,
}

/// Reads measured curves from a file.
///
/// # Errors
///
/// If it cannot be read, or a line holds no curve.
pub fn load_curves(path: &Path) -> Result<Vec<MeasuredProgram>, TraceFileError> {
    read_curves(BufReader::new(open(path)?), &path.display().to_string())
}

/// Reads measured curves; `name` is what messages call the file.
///
/// # Errors
///
/// As [`load_curves`].
pub fn read_curves(input: impl BufRead, name: &str) -> Result<Vec<MeasuredProgram>, TraceFileError> {
    let mut lines = Lines::new(input, name);
    let mut programs = Vec::new();
    while let Some(line) = lines.next()? {
        if line.is_empty() {
            continue;
        }
        let read = serde_json::from_str::<Line>(line).map_err(|error| error.to_string()).and_then(program);
        match read {
            Ok(program) => programs.push(program),
            Err(message) => return Err(lines.refuse(format!("no measured curve: {message}"))),
        }
    }
    if programs.is_empty() {
        let message =
            "no measured curves: accepted is a JSON object a line, as `curve.py` writes them".to_owned();
        return Err(TraceFileError::File { file: name.to_owned(), message });
    }
    Ok(programs)
}

fn program(line: Line) -> Result<MeasuredProgram, String> {
    if line.pages == 0 || line.pages > MOST {
        return Err(format!("`pages` cannot be {}: accepted is a number from 1 to {MOST}", line.pages));
    }
    let fine = statistics(line.fine, line.pages)?;
    Ok(MeasuredProgram { program: line.prog, fine, coarse: statistics(line.coarse, line.pages)? })
}

fn statistics(ticks: Ticks, pages: u64) -> Result<Statistics, String> {
    let Ticks { tick_ms, series, curve, hits } = ticks;
    if !(tick_ms > 0.0 && tick_ms <= 3.6e6) {
        return Err(format!("`tick_ms` cannot be {tick_ms}: accepted is a number above 0, up to 3600000"));
    }
    if let Some(count) = series.iter().find(|count| **count > pages) {
        return Err(format!("{count} pages in a tick: accepted are at most `pages`, {pages}"));
    }
    let length_s = tick_ms * 1e-3;
    let rate = series.iter().enumerate().map(|(tick, &pages)| RatePoint {
        start_s: tick as f64 * length_s,
        length_s,
        pages,
        pages_per_s: pages as f64 / length_s,
    });
    let numbers: Vec<f64> = series.iter().map(|&pages| pages as f64).collect();
    let mut curve =
        curve.iter().map(|(window, point)| curve_point(window, point)).collect::<Result<Vec<_>, _>>()?;
    curve.sort_by(|one, other| one.window_s.total_cmp(&other.window_s));
    let page_size = PageSize::Kib4;
    Ok(Statistics {
        schema: SCHEMA,
        page_size,
        memory: ByteCount(pages.saturating_mul(page_size.bytes().0)),
        intervals: series.len() as u64,
        interval_ms: tick_ms,
        touched_pages: hits.iter().fold(0, |sum, hits| sum.saturating_add(hits.2)),
        pages: Series::of(&numbers),
        curve,
        hits: hits.into_iter().map(|(from, to, pages)| Hits { from, to, pages }).collect(),
        redirty: None,
        rate: rate.collect(),
    })
}

fn curve_point(window: &str, point: &Point) -> Result<CurvePoint, String> {
    let window_s = window.parse::<f64>().ok().filter(|window| *window > 0.0 && window.is_finite());
    let window_s = window_s
        .ok_or_else(|| format!("a window of `{window}` is not accepted: write seconds, more than 0"))?;
    let Point { n, mean, sd, min, p10, p50, p90, max, overlapping } = *point;
    Ok(CurvePoint { window_s, windows: n, overlapping, mean, sd, min, p10, p50, p90, max })
}
