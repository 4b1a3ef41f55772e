//! Runs of real programs: sampled outcomes beside what was measured.
//!
//! A program has phases, and where in them a migration falls is chance; so its outcome is a distribution.
//! Each configuration is simulated with many seeds, of which nothing knows what was measured.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde::Serialize;
use whimbrel_core::layout::{PageNumber, PageRun};
use whimbrel_core::units::{ByteCount, Pages, Share};
use whimbrel_sim::config::{GuestConfig, MeasuredWrites, Pattern, WriterConfig};

use super::features::Features;
use super::measured::{Configuration, Figures, Measured};
use super::profile::{HostProfile, PAGE, ProfileError};
use super::{ValidateError, predicted};
use crate::measured::{MeasuredError, ProgramCurve, ReadyMemory, curve, fitted};
use crate::sweep::Spread;

/// Simulated runs of each configuration, unless told otherwise.
pub const SAMPLES: u32 = 100;

/// How sampled outcomes compare with measurements.
#[derive(Clone, Debug, Serialize)]
pub struct Sampled {
    /// Simulated runs of each configuration.
    pub samples: u32,
    /// Share of the measured figures within the 90 % interval of the sampled ones, of runs that converged.
    pub coverage: Coverage,
    /// Median width of those intervals, in parts of the sampled median.
    pub widths: Coverage,
    /// Relative error of the sampled median, over the runs that converged; fractions.
    pub errors: super::Errors,
    /// Mean of the squared difference between the probability of convergence and what happened (Brier 1950):
    /// 0 is certain and right, 0.25 says nothing.
    pub brier: f64,
    /// Runs that went the less probable way.
    pub verdict_wrong: usize,
    /// Each configuration.
    pub configurations: Vec<Sample>,
}

/// A number for each figure: the share of measured ones inside of the interval, or the intervals' median width in
/// parts of the sampled median.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Coverage {
    /// Total migration time.
    pub total_time: f64,
    /// Bytes sent.
    pub sent_bytes: f64,
    /// Downtime as the source reports it.
    pub downtime: f64,
    /// What the guest's absence really was.
    pub silence: f64,
    /// Passes over memory.
    pub rounds: f64,
}

/// One configuration: what was measured, once or more, and what is likely.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// The name that the runs have in common.
    pub name: String,
    /// The program.
    pub program: String,
    /// What happened, each time.
    pub measured: Vec<Figures>,
    /// Share of the sampled runs that completed within the run's time limit.
    pub convergence: f64,
    /// Of those, milliseconds.
    pub total_ms: Option<Interval>,
    /// Bytes.
    pub sent_bytes: Option<Interval>,
    /// Milliseconds.
    pub downtime_ms: Option<Interval>,
    /// Milliseconds.
    pub silence_ms: Option<Interval>,
    /// Passes.
    pub rounds: Option<Interval>,
}

/// The median of sampled figures, and where nine in ten further ones are expected.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// 5th percentile.
    pub p5: f64,
    /// Median.
    pub median: f64,
    /// 95th percentile.
    pub p95: f64,
}

impl Interval {
    /// Of these values; none of none.
    fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        // The ranks between which that share of *further* values is expected, whatever their distribution.
        let at = |share: f64| {
            let place = (share * (last + 2) as f64 - 1.0).clamp(0.0, last as f64);
            let low = place.floor() as usize;
            values[low] + (values[(low + 1).min(last)] - values[low]) * place.fract()
        };
        Some(Self { p5: at(0.05), median: at(0.5), p95: at(0.95) })
    }

    /// Whether `value` is inside, as far as can be told if it is the difference of two readings of a clock whose
    /// hand moves in steps of `step`.
    pub fn contains(&self, value: f64, step: f64) -> bool {
        (self.p5 - step..=self.p95 + step).contains(&value)
    }

    /// Its width in parts of the median; none around zero.
    fn width(&self) -> Option<f64> {
        (self.median > 0.0).then(|| (self.p95 - self.p5) / self.median)
    }
}

/// What is known of a program beside a run's configuration.
#[derive(Clone, Debug)]
pub struct Program {
    model: Arc<MeasuredWrites>,
    unchanged: Share,
    ready: ReadyMemory,
}

/// What was measured of the programs of a folder.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    folder: PathBuf,
    curves: BTreeMap<String, Vec<ProgramCurve>>,
    ready: Vec<ReadyMemory>,
}

/// The file of what there is to send, beside the results.
const READY: &str = "ready.jsonl";
/// The file of curves that a run means that names none.
const CURVES: &str = "curves.jsonl";

impl Programs {
    /// What lies beside the results in `file`.
    ///
    /// # Errors
    ///
    /// If there is something that is not what it should be; that there is nothing is no error.
    pub fn beside(file: &Path) -> Result<Self, MeasuredError> {
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        let path = folder.join(READY);
        let ready = if path.exists() { curve::read_ready(&path)? } else { Vec::new() };
        Ok(Self { folder, curves: BTreeMap::new(), ready })
    }

    /// The program of `run`.
    ///
    /// # Errors
    ///
    /// Outside: a file is not what it should be. Inside: why the run can't be predicted.
    pub fn of(
        &mut self,
        program: &str,
        run: &Configuration,
    ) -> Result<Result<Program, String>, MeasuredError> {
        let (file, name) =
            run.curve.as_deref().and_then(|curve| curve.rsplit_once('#')).unwrap_or((CURVES, program));
        let path = self.folder.join(file);
        if !self.curves.contains_key(file) {
            let read = if path.exists() { curve::read(&path)? } else { Vec::new() };
            self.curves.insert(file.to_owned(), read);
        }
        let Some(curve) = self.curves[file].iter().find(|curve| curve.program == name) else {
            return Ok(Err(format!(
                "runs the program `{program}`, of which `{file}` beside it has no curve"
            )));
        };
        let Some(ready) = self.ready.iter().find(|ready| ready.program == program) else {
            return Ok(Err(format!(
                "runs the program `{program}`; what it had to send is not in `{READY}` beside it"
            )));
        };
        Ok(Ok(Program { model: fitted(curve), unchanged: curve.unchanged(), ready: ready.clone() }))
    }
}

/// Of the machine's other RAM blocks, pages that are not zero: 0.3 MiB of firmware, as
/// `reference/qemu/programs/lab/predict.py` has it.
const FIRMWARE: u64 = 77;
/// Free memory between non-zero pages, as it was seen in short runs; any number of pages in that order.
const SHORT_RUN: u64 = 16;

/// Linux keeps memory of a kind together in pageblocks (`pageblock_order`, 2 MiB on x86-64), so that pages which
/// are given out for the same are neighbours.
const PAGEBLOCK: ByteCount = ByteCount::mib(2);

impl Program {
    /// The guest of `run` and its zero pages.
    ///
    /// Where a program's pages are was not measured, but that memory was given to it last: they are scattered,
    /// pageblock by pageblock, over what lies directly below the longest free stretch, and into that if they are more. Zero pages
    /// in runs too short to be listed lie in what is left, evenly.
    pub(super) fn guest(
        &self,
        run: &Configuration,
        other: u64,
    ) -> Result<(GuestConfig, Vec<PageRun>), ProfileError> {
        let ready = &self.ready;
        if run.m.checked_mul(256) != Some(ready.pages) {
            return Err(ProfileError::Impossible {
                run: run.name.clone(),
                what: format!(
                    "has `m` = {} MiB, but its program was measured with {} pages",
                    run.m, ready.pages
                ),
            });
        }
        let mut zero: Vec<(u64, u64)> =
            ready.zero_runs().into_iter().map(|run| (run.first.0, run.first.0 + run.count.0)).collect();
        let home = home(&mut zero, ready.pages, self.model.pages().0);
        let listed: u64 = zero.iter().map(|(first, end)| end - first).sum();
        let short = (ready.pages - ready.nonzero_ready).saturating_sub(listed);
        let last = zero.last().map_or(ready.pages, |&(_, end)| end);
        let mut runs = zero.clone();
        runs.extend(short_runs(&zero, home, ready.pages, short));
        runs.push((ready.pages + FIRMWARE.min(other), ready.pages + other));
        let size = |pages: u64| ByteCount(pages * PAGE);
        let writer = WriterConfig {
            pattern: Pattern::Measured,
            measured: Some(Arc::clone(&self.model)),
            cluster: PAGEBLOCK,
            working_set: size(home.1 - home.0),
            offset: Some(size(home.0)),
            ..WriterConfig::default()
        };
        let guest = GuestConfig {
            memory: size(ready.pages + other),
            vcpus: 1,
            state: ByteCount(0),
            unchanged_pages: self.unchanged,
            resume_span: size(home.0),
            resume_top: size(ready.pages + other - last),
            writers: vec![writer],
            ..GuestConfig::default()
        };
        let runs = runs.into_iter().filter(|(first, end)| first < end);
        let run = |(first, end)| PageRun { first: PageNumber(first), count: Pages(end - first) };
        Ok((guest, runs.map(run).collect()))
    }
}

/// Where a program's pages are, at least so many of them; takes from `zero` (in order) what it has to.
fn home(zero: &mut Vec<(u64, u64)>, pages: u64, wanted: u64) -> (u64, u64) {
    let longest = (0..zero.len()).max_by_key(|&index| zero[index].1 - zero[index].0);
    let Some(longest) = longest else { return (0, pages) };
    let below = if longest > 0 { zero[longest - 1].1 } else { 0 };
    let free = zero[longest];
    let end = free.0.max(below + wanted).min(free.1);
    zero[longest].0 = end;
    // Even all of the free memory is not enough: from further below.
    let begin = below.min(end.saturating_sub(wanted));
    zero.retain(|&(first, last)| first < last && (first >= end || last <= begin));
    (begin, end)
}

/// `count` zero pages in short runs, evenly over what is neither `zero` nor `home`.
fn short_runs(zero: &[(u64, u64)], home: (u64, u64), pages: u64, count: u64) -> Vec<(u64, u64)> {
    let mut taken: Vec<(u64, u64)> = zero.iter().copied().chain([home]).collect();
    taken.sort_unstable();
    let (mut gaps, mut at) = (Vec::new(), 0);
    for (first, end) in taken.into_iter().chain([(pages, pages)]) {
        if first > at {
            gaps.push((at, first));
        }
        at = at.max(end);
    }
    let room: u64 = gaps.iter().map(|(first, end)| end - first).sum();
    let count = count.min(room);
    let (mut runs, mut left, mut sum) = (Vec::new(), count, 0);
    for (gap, end) in gaps {
        let mut first = gap;
        while first < end && left > 0 {
            let stretch = SHORT_RUN.min(end - first);
            // As Bresenham spreads the steps of a line.
            sum += count * stretch;
            let take = (sum / room.max(1)).min(stretch).min(left);
            sum -= take * room;
            if take > 0 {
                runs.push((first, first + take));
            }
            left -= take;
            first += stretch;
        }
    }
    runs
}

/// A run that can be sampled.
pub(super) struct Job {
    pub(super) run: Measured,
    pub(super) features: Features,
    pub(super) program: Program,
}

/// Samples every configuration of `jobs`; runs of the same configuration are one.
pub(super) fn sample(jobs: Vec<Job>, profile: &HostProfile, samples: u32) -> Result<Sampled, ValidateError> {
    let mut groups: Vec<(Job, Vec<Figures>)> = Vec::new();
    for job in jobs {
        let figures = job.run.result.figures(job.features.post_copy);
        match groups.iter_mut().find(|(first, _)| first.run.cfg.same(&job.run.cfg)) {
            Some((_, measured)) => measured.push(figures),
            None => groups.push((job, vec![figures])),
        }
    }
    let configurations = groups
        .into_par_iter()
        .map(|(job, measured)| {
            let outcomes = (0..u64::from(samples))
                .into_par_iter()
                .map(|seed| {
                    let setup = profile.setup_for_program(&job.run.cfg, &job.features, &job.program, seed)?;
                    predicted(&setup, &job.run.cfg, &job.features, profile)
                })
                .collect::<Result<Vec<Figures>, ValidateError>>()?;
            Ok(Sample::of(&job.run.cfg, measured, &outcomes))
        })
        .collect::<Result<Vec<_>, ValidateError>>()?;
    Ok(Sampled::of(configurations, samples))
}

impl Sample {
    fn of(run: &Configuration, measured: Vec<Figures>, outcomes: &[Figures]) -> Self {
        let done: Vec<&Figures> = outcomes.iter().filter(|figures| figures.converged).collect();
        let interval =
            |of: fn(&Figures) -> Option<f64>| Interval::of(done.iter().filter_map(|done| of(done)));
        Self {
            name: run.common_name().to_owned(),
            program: run.prog.clone().unwrap_or_default(),
            measured,
            convergence: done.len() as f64 / outcomes.len().max(1) as f64,
            total_ms: interval(|figures| figures.total_ms),
            sent_bytes: interval(|figures| figures.sent_bytes),
            downtime_ms: interval(|figures| figures.downtime_ms),
            silence_ms: interval(|figures| figures.silence_ms),
            rounds: interval(|figures| figures.rounds.map(|rounds| rounds as f64)),
        }
    }
}

/// QEMU's clock for total time and downtime, in milliseconds.
const QEMU_CLOCK: f64 = 1.0;

/// A figure of a run, the interval that it should be in, and the step in which it was measured.
#[derive(Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) measured: fn(&Figures) -> Option<f64>,
    pub(crate) sampled: fn(&Sample) -> Option<Interval>,
    pub(crate) step: f64,
}

/// All figures that are compared, in the order of [`Coverage`].
pub(crate) const FIGURES: [Figure; 5] = [
    Figure {
        name: "total",
        measured: |figures| figures.total_ms,
        sampled: |sample| sample.total_ms,
        step: QEMU_CLOCK,
    },
    Figure {
        name: "sent",
        measured: |figures| figures.sent_bytes,
        sampled: |sample| sample.sent_bytes,
        step: 0.0,
    },
    Figure {
        name: "downtime",
        measured: |figures| figures.downtime_ms,
        sampled: |sample| sample.downtime_ms,
        step: QEMU_CLOCK,
    },
    Figure {
        name: "silence",
        measured: |figures| figures.silence_ms,
        sampled: |sample| sample.silence_ms,
        step: 0.0,
    },
    Figure {
        name: "rounds",
        measured: |figures| figures.rounds.map(|rounds| rounds as f64),
        sampled: |sample| sample.rounds,
        step: 0.0,
    },
];

impl Figure {
    /// Each measured value beside its interval.
    fn pairs(&self, configurations: &[Sample]) -> Vec<(f64, Interval)> {
        let of = |sample: &Sample| {
            let interval = (self.sampled)(sample);
            let measured = sample.measured.iter().filter_map(self.measured);
            measured.filter_map(|value| Some((value, interval?))).collect::<Vec<_>>()
        };
        configurations.iter().flat_map(of).collect()
    }

    fn coverage(&self, configurations: &[Sample]) -> f64 {
        let pairs = self.pairs(configurations);
        let inside = pairs.iter().filter(|(value, interval)| interval.contains(*value, self.step)).count();
        inside as f64 / pairs.len().max(1) as f64
    }

    fn width(&self, configurations: &[Sample]) -> f64 {
        let widths = configurations.iter().filter_map(|sample| (self.sampled)(sample)?.width());
        Spread::of(widths).median.unwrap_or(0.0)
    }

    fn error(&self, configurations: &[Sample]) -> Spread {
        let pairs = self.pairs(configurations).into_iter();
        Spread::of(pairs.filter_map(|(value, interval)| super::relative(value, interval.median)))
    }
}

impl Coverage {
    fn of([total_time, sent_bytes, downtime, silence, rounds]: [f64; 5]) -> Self {
        Self { total_time, sent_bytes, downtime, silence, rounds }
    }
}

impl Sampled {
    fn of(configurations: Vec<Sample>, samples: u32) -> Self {
        let [total_time, sent_bytes, downtime, silence, _] =
            FIGURES.map(|figure| figure.error(&configurations));
        let verdicts: Vec<f64> = configurations
            .iter()
            .flat_map(|sample| {
                sample
                    .measured
                    .iter()
                    .map(|measured| f64::from(u8::from(measured.converged)) - sample.convergence)
            })
            .collect();
        Self {
            samples,
            coverage: Coverage::of(FIGURES.map(|figure| figure.coverage(&configurations))),
            widths: Coverage::of(FIGURES.map(|figure| figure.width(&configurations))),
            errors: super::Errors { total_time, sent_bytes, downtime, silence },
            brier: verdicts.iter().map(|off| off * off).sum::<f64>() / verdicts.len().max(1) as f64,
            verdict_wrong: verdicts.iter().filter(|off| off.abs() > 0.5).count(),
            configurations,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_where_nine_in_ten_further_values_are_expected() {
        let interval = Interval::of((1..=99).rev().map(f64::from)).unwrap();
        assert_eq!(interval, Interval { p5: 5.0, median: 50.0, p95: 95.0 });
        assert!([5.0, 95.0].iter().all(|&value| interval.contains(value, 0.0)));
        assert!(
            !interval.contains(95.1, 0.0) && interval.contains(95.1, 1.0) && !interval.contains(3.9, 1.0)
        );
        assert_eq!(interval.width(), Some(1.8));
        assert_eq!(Interval::of([]), None);
        assert_eq!(Interval::of([7.0]), Some(Interval { p5: 7.0, median: 7.0, p95: 7.0 }));
    }

    #[test]
    fn a_program_lives_below_the_longest_free_stretch_and_in_it_if_it_has_to() {
        let zero = vec![(100, 150), (400, 900), (950, 960)];
        let mut runs = zero.clone();
        assert_eq!(home(&mut runs, 1000, 200), (150, 400));
        assert_eq!(runs, zero);
        // More than lies there: from the free memory next to it.
        assert_eq!(home(&mut runs, 1000, 300), (150, 450));
        assert_eq!(runs, [(100, 150), (450, 900), (950, 960)]);
        // More than that, too: from further below.
        let mut runs = zero.clone();
        assert_eq!(home(&mut runs, 1000, 850), (50, 900));
        assert_eq!(runs, [(950, 960)]);
        assert_eq!(home(&mut Vec::new(), 1000, 10), (0, 1000));
    }

    #[test]
    fn short_runs_are_as_many_pages_as_asked_and_apart_from_all_else() {
        let zero = [(100, 150), (400, 900)];
        for count in [0, 1, 17, 100, 199] {
            let runs = short_runs(&zero, (150, 400), 1000, count);
            assert_eq!(runs.iter().map(|(first, end)| end - first).sum::<u64>(), count, "{runs:?}");
            assert!(runs.iter().all(|&(first, end)| end <= 100 || first >= 900), "{runs:?}");
            assert!(runs.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{runs:?}");
        }
    }
}
