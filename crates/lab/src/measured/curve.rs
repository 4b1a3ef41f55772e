//! Files of measured programs, JSON Lines as `reference/qemu/programs/README.md` describes them: the
//! working-set curve of each, and what there was to send when a migration would start.
//!
//! Only what a model may know is read.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use whimbrel_core::layout::{PageNumber, PageRun};
use whimbrel_core::units::{Pages, Share};

use super::MeasuredError;
use super::fit::{Change, Observation, Stage, WindowFact};

/// A program as it was measured.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ProgramCurve {
    /// Its name.
    #[serde(rename = "prog")]
    pub program: String,
    #[serde(default)]
    work_per_s_busy_pct: Work,
    fine: Ticks,
    #[serde(default)]
    coarse: Option<Ticks>,
    #[serde(default)]
    snaps: Vec<Snap>,
}

/// Units of work a second and CPU time in percent, as the program counted them itself.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
struct Work {
    #[serde(default)]
    untracked: Option<(f64, f64)>,
    #[serde(default)]
    fine: Option<(f64, f64)>,
    #[serde(default)]
    coarse: Option<(f64, f64)>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Ticks {
    tick_ms: f64,
    series: Vec<f64>,
    curve: BTreeMap<String, Window>,
    #[serde(default)]
    hits: Vec<(usize, usize, f64)>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Window {
    n: f64,
    mean: f64,
    sd: Option<f64>,
    #[serde(default)]
    p10: Option<f64>,
    #[serde(default)]
    p50: Option<f64>,
    #[serde(default)]
    p90: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Snap {
    #[serde(rename = "T")]
    after: f64,
    written: f64,
    unchanged: f64,
    words_changed: Vec<f64>,
}

/// What there is to send when a migration starts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ReadyMemory {
    /// The program's name.
    #[serde(rename = "prog")]
    pub program: String,
    /// Pages of the machine's memory.
    pub pages: u64,
    /// Those of them that are not zero.
    pub nonzero_ready: u64,
    /// First page and length of long runs of zero pages.
    zero_runs: Vec<(u64, u64)>,
}

/// The most bytes of a file.
const LARGEST: u64 = 256 << 20;
/// The most ticks of a stage.
const MOST_TICKS: usize = 1_000_000;
/// Bytes of a word whose change is counted.
const WORD: f64 = 8.0;

fn lines<T: DeserializeOwned>(
    path: &Path,
    check: impl Fn(&T) -> Result<(), String>,
) -> Result<Vec<T>, MeasuredError> {
    let fail = |source| MeasuredError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    crate::trace::open(path)?.take(LARGEST + 1).read_to_string(&mut text).map_err(fail)?;
    if text.len() as u64 > LARGEST {
        return Err(MeasuredError::Large { path: path.to_owned(), most: LARGEST });
    }
    let mut items = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let bad = |what: String| MeasuredError::Line { path: path.to_owned(), line: index + 1, what };
        let item: T = serde_json::from_str(line).map_err(|error| bad(error.to_string()))?;
        check(&item).map_err(bad)?;
        items.push(item);
    }
    Ok(items)
}

/// The programs of a file of curves.
///
/// # Errors
///
/// [`MeasuredError`] at the first line that is none.
pub fn read(path: &Path) -> Result<Vec<ProgramCurve>, MeasuredError> {
    lines(path, ProgramCurve::validate)
}

/// What the programs of a file had to send.
///
/// # Errors
///
/// [`MeasuredError`] at the first line that is not about a program's memory.
pub fn read_ready(path: &Path) -> Result<Vec<ReadyMemory>, MeasuredError> {
    lines(path, ReadyMemory::validate)
}

/// The names of these programs, for a message.
pub(super) fn names(curves: &[ProgramCurve]) -> String {
    let names: Vec<_> = curves.iter().map(|curve| format!("`{}`", curve.program)).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

impl ReadyMemory {
    /// Long runs of zero pages, in order.
    pub fn zero_runs(&self) -> Vec<PageRun> {
        let mut runs = self.zero_runs.clone();
        runs.sort_unstable();
        runs.into_iter()
            .map(|(first, count)| PageRun { first: PageNumber(first), count: Pages(count) })
            .collect()
    }

    fn validate(&self) -> Result<(), String> {
        if self.pages == 0 || self.pages > 1 << 32 || self.nonzero_ready > self.pages {
            return Err(format!("{} of {} pages are not zero", self.nonzero_ready, self.pages));
        }
        let mut end = 0;
        let mut zero = 0_u64;
        for run in self.zero_runs() {
            let range = run.first.0.checked_add(run.count.0).map(|stop| (run.first.0, stop));
            match range {
                Some((first, stop)) if first >= end && stop <= self.pages => {
                    end = stop;
                    zero += run.count.0;
                }
                _ => return Err(format!("the run of zero pages at {} cannot be", run.first.0)),
            }
        }
        if zero > self.pages - self.nonzero_ready {
            return Err(format!(
                "{zero} pages in runs of zero pages, but {} of {} are not zero",
                self.nonzero_ready, self.pages
            ));
        }
        Ok(())
    }
}

/// Fewer windows have no deciles.
const DECILES: f64 = 10.0;

impl Window {
    fn quantiles(&self) -> Vec<(f64, f64)> {
        let known =
            [(0.1, self.p10), (0.5, self.p50), (0.9, self.p90)].into_iter().filter(|_| self.n >= DECILES);
        known.filter_map(|(share, pages)| Some((share, pages?))).collect()
    }
}

impl Ticks {
    fn validate(&self) -> Result<(), String> {
        if !(0.1..=1e7).contains(&self.tick_ms) {
            return Err(format!("a tick of {} ms", self.tick_ms));
        }
        if !(2..=MOST_TICKS).contains(&self.series.len()) {
            return Err(format!("a series of {} ticks", self.series.len()));
        }
        let counts = self.series.iter().copied().chain(self.hits.iter().map(|hit| hit.2));
        let windows = self.curve.values().flat_map(|window| {
            let quantiles = [window.p10, window.p50, window.p90].into_iter().flatten();
            [window.mean, window.sd.unwrap_or(0.0), window.n].into_iter().chain(quantiles)
        });
        match counts.chain(windows).find(|value| !(0.0..=1e12).contains(value)) {
            Some(value) => Err(format!("a count of {value}")),
            None => Ok(()),
        }
    }

    /// As the program lived it: `slow` is its speed then, in parts of that which it has in a migration, where it is
    /// known with this relative `error`.
    fn stage(&self, slow: f64, error: f64) -> Stage {
        let tick = self.tick_ms / 1e3;
        let windows = self.curve.iter().filter_map(|(length, window)| {
            let ticks = (length.parse::<f64>().ok()? / tick).round();
            let fits = (1.0..=self.series.len() as f64).contains(&ticks) && window.n >= 1.0;
            fits.then_some(WindowFact {
                ticks: ticks as usize,
                mean: window.mean,
                sd: window.sd.unwrap_or(0.0),
                windows: window.n,
                quantiles: window.quantiles(),
            })
        });
        Stage {
            tick: tick * slow,
            series: self.series.clone(),
            windows: windows.collect(),
            hits: self.hits.iter().copied().filter(|(from, to, _)| from <= to).collect(),
            tick_error: error,
        }
    }
}

impl ProgramCurve {
    fn validate(&self) -> Result<(), String> {
        self.fine.validate()?;
        self.coarse.as_ref().map_or(Ok(()), Ticks::validate)?;
        let numbers = self.snaps.iter().flat_map(|snap| {
            [snap.after, snap.written, snap.unchanged].into_iter().chain(snap.words_changed.iter().copied())
        });
        match numbers.into_iter().find(|value| !(0.0..=1e12).contains(value)) {
            Some(value) => Err(format!("a count of {value}")),
            None => Ok(()),
        }
    }

    /// What a model is fitted to.
    ///
    /// A tick was as much of the program's own time as its speed in that stage was of its speed in a migration,
    /// see `Speeds`.
    pub fn observation(&self) -> Observation {
        let work = &self.work_per_s_busy_pct;
        let speeds = Speeds::of(self);
        let mut stages = vec![self.fine.stage(speeds.slow(work.fine), speeds.spread)];
        stages
            .extend(self.coarse.as_ref().map(|coarse| coarse.stage(speeds.slow(work.coarse), speeds.spread)));
        let busy = work.untracked.map_or(1.0, |(_, percent)| (percent / 100.0).clamp(0.0, 1.0));
        Observation { stages, busy: Share::new(busy).unwrap_or(Share::ONE), changes: self.changes() }
    }

    fn changes(&self) -> Vec<Change> {
        let words = |snap: &Snap| {
            let counted = snap.words_changed.iter().enumerate();
            counted.map(|(index, pages)| pages * middle(index)).sum::<f64>()
        };
        let changed = |snap: &Snap| snap.written - snap.unchanged;
        let snaps = self.snaps.iter().filter(|snap| snap.after > 0.0 && changed(snap) > 0.0);
        snaps.map(|snap| Change { after: snap.after, bytes: words(snap) * WORD / changed(snap) }).collect()
    }

    /// Of the pages written between two looks at memory, the share that held the same as before.
    pub fn unchanged(&self) -> Share {
        let sum = |of: fn(&Snap) -> f64| self.snaps.iter().map(of).sum::<f64>();
        let written = sum(|snap| snap.written);
        let share = if written > 0.0 { sum(|snap| snap.unchanged) / written } else { 0.0 };
        Share::new(share.clamp(0.0, 1.0)).unwrap_or(Share::ZERO)
    }
}

/// How fast a program works, from its own counts: untracked, and while its pages were counted.
struct Speeds {
    /// Units of work a second in a migration, untracked; none if it counts no work.
    common: Option<f64>,
    /// The standard deviation of the logarithm of its speed in one run.
    spread: f64,
}

impl Speeds {
    /// The mean of a random-effects model (`DerSimonian` and Laird 1986): in each stretch of time the program has a
    /// speed of its own, and each was counted with an error. What tracking took is given back first.
    fn of(curve: &ProgramCurve) -> Self {
        let work = &curve.work_per_s_busy_pct;
        let tracked = |ticks: &Ticks, work: Option<(f64, f64)>| {
            let pages = ticks.series.iter().sum::<f64>() / ticks.series.len() as f64;
            let lost = (pages * TRACKING_FAULT / (ticks.tick_ms / 1e3)).min(1.0 - SLOWEST);
            let length = ticks.series.len() as f64 * ticks.tick_ms / 1e3;
            work.map(|(rate, _)| (rate, 1.0 - lost, length))
        };
        let stretches = [
            work.untracked.map(|(rate, _)| (rate, 1.0, UNTRACKED_TIME)),
            tracked(&curve.fine, work.fine),
            curve.coarse.as_ref().and_then(|coarse| tracked(coarse, work.coarse)),
        ];
        let counted: Vec<(f64, f64)> = stretches
            .into_iter()
            .flatten()
            .filter(|(rate, ..)| *rate > 0.0)
            .map(|(rate, left, length)| {
                let error = (COUNT_ERROR / length).hypot(WORK_DIGIT) / rate;
                ((rate / left).ln(), error.powi(2))
            })
            .collect();
        let Some((mean, variance)) = random_effects(&counted) else {
            return Self { common: None, spread: 0.0 };
        };
        Self { common: Some(mean.exp()), spread: variance.sqrt().min(1.0) }
    }

    /// The part of its own time that the program lived in a stage with so much work.
    fn slow(&self, work: Option<(f64, f64)>) -> f64 {
        let rate = work.map(|(rate, _)| rate).filter(|rate| *rate > 0.0);
        match (rate, self.common) {
            (Some(rate), Some(common)) => (rate / common).clamp(SLOWEST, 1.0 / SLOWEST),
            _ => 1.0,
        }
    }
}

/// The mean of values with these variances that differ by more than them, and the variance of a further one around
/// what is known of it; none of none.
fn random_effects(values: &[(f64, f64)]) -> Option<(f64, f64)> {
    let weighted = |between: f64| {
        let weights: Vec<f64> = values.iter().map(|(_, error)| 1.0 / (error + between).max(1e-12)).collect();
        let all: f64 = weights.iter().sum();
        let mean = values.iter().zip(&weights).map(|((value, _), weight)| value * weight).sum::<f64>() / all;
        (weights, all, mean)
    };
    let degrees = values.len().checked_sub(1)? as f64;
    let (weights, all, mean) = weighted(0.0);
    let heterogeneity: f64 =
        values.iter().zip(&weights).map(|((value, _), weight)| weight * (value - mean).powi(2)).sum();
    let squares: f64 = weights.iter().map(|weight| weight * weight).sum();
    let between = if degrees > 0.0 { (heterogeneity - degrees) / (all - squares / all) } else { 0.0 };
    let between = between.max(0.0);
    let (_, all, mean) = weighted(between);
    Some((mean, between + 1.0 / all))
}

/// Units of work a second are written down to a tenth: the standard deviation of what was rounded.
const WORK_DIGIT: f64 = 0.1 / 3.464;
/// Whole units are counted: the standard deviation of the parts at both ends of the time.
const COUNT_ERROR: f64 = 0.408;
/// Seconds in which work was counted before tracking began: `curve.py` takes four reports of a second.
const UNTRACKED_TIME: f64 = 4.0;
/// Seconds that the first write to a page in a tick costs a tracked program, as the README of
/// `reference/qemu/programs/` has it.
const TRACKING_FAULT: f64 = 1e-6;
/// The least share of its speed that a tracked program is believed to have.
const SLOWEST: f64 = 0.25;

/// Words in the middle of the bin `index`: 1, 2 to 3, 4 to 7, …, 256 to 511, 512.
fn middle(index: usize) -> f64 {
    let first = f64::from(1_u32 << index.min(9));
    if first >= 512.0 { 512.0 } else { 1.5 * first - 0.5 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: Option<(f64, f64)>, mean: f64, variance: f64) {
        let (one, other) = found.unwrap();
        assert!((one - mean).abs() < 1e-9 && (other - variance).abs() < 1e-9, "{one} {other}");
    }

    #[test]
    fn values_that_agree_have_the_error_of_their_mean_and_others_their_own_spread() {
        assert_eq!(random_effects(&[]), None);
        close(random_effects(&[(2.0, 0.09)]), 2.0, 0.09);
        // Both within their errors: the mean is known twice as well.
        close(random_effects(&[(1.0, 0.1), (1.0, 0.1)]), 1.0, 0.05);
        // Exact, and apart by 1, 2, 3: the variance of these, and a third of it for their mean.
        let (mean, variance) = random_effects(&[(1.0, 1e-9), (2.0, 1e-9), (3.0, 1e-9)]).unwrap();
        assert!((mean - 2.0).abs() < 1e-6 && (variance - 4.0 / 3.0).abs() < 1e-6, "{mean} {variance}");
    }

    fn speeds(work: Work) -> Speeds {
        let ticks = |tick_ms, pages| Ticks {
            tick_ms,
            series: vec![pages; 300],
            curve: BTreeMap::new(),
            hits: Vec::new(),
        };
        Speeds::of(&ProgramCurve {
            program: "program".to_owned(),
            work_per_s_busy_pct: work,
            fine: ticks(50.0, 5000.0),
            coarse: Some(ticks(500.0, 5000.0)),
            snaps: Vec::new(),
        })
    }

    #[test]
    fn what_tracking_took_is_given_back_and_a_coarse_count_says_little() {
        // A tenth of each tick of 50 ms, a hundredth of one of 500: all three agree.
        let work = |untracked, fine, coarse| Work {
            untracked: Some((untracked, 100.0)),
            fine: Some((fine, 100.0)),
            coarse: Some((coarse, 100.0)),
        };
        let same = speeds(work(100.0, 90.0, 99.0));
        assert!((same.common.unwrap() - 100.0).abs() < 0.01, "{:?}", same.common);
        assert!((same.slow(Some((90.0, 100.0))) - 0.9).abs() < 1e-3);
        assert!(same.spread < 0.001, "{}", same.spread);
        // Eight units in four seconds may be nine.
        let few = speeds(work(2.2, 1.8, 1.98));
        assert!((few.common.unwrap() - 2.0).abs() < 0.12, "{:?}", few.common);
        // Tracked stretches that differ by a third, both counted well: it varies by itself.
        let varying = speeds(work(100.0, 90.0, 66.0));
        assert!((0.2..0.4).contains(&varying.spread), "{}", varying.spread);
        let none = speeds(Work::default());
        assert!(none.common.is_none() && (none.slow(None) - 1.0).abs() < f64::EPSILON);
    }
}
