//! `whimbrel sweep`: a grid of migrations, its tables and its report.

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use whimbrel_core::units::duration;
use whimbrel_lab::output::{FinishedFile, WholeFile};
use whimbrel_lab::scenario::{Axis, Grid, Scenario};
use whimbrel_lab::sweep::{Finished, Format, Options, Published, ResultDir, Tables, has_page, picture, run};
use whimbrel_lab::table::{self, counted};

use super::args::{SweepArgs, SweepFormat};
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::simulate::{Instead, scenario};
use super::unfinished::{self, begin, cut, stopped};
use super::{drawing, print};

/// A sweep that is ready to be run: every cell checked, the directory writable.
pub(super) struct Sweep {
    scenario: Scenario,
    grid: Grid,
    results: ResultDir,
    jobs: Option<NonZeroUsize>,
    plot: Option<WholeFile>,
    interrupt: Interrupt,
}

impl Sweep {
    /// Reads the scenario, checks its cells, opens the directory.
    pub(super) fn ready(args: &SweepArgs) -> Result<Self, Failure> {
        let scenario = scenario(&args.scenario, "sweep", &Instead::default())?;
        let grid = scenario.grid().map_err(Failure::bad_input)?;
        keeps_its_scenario(args)?;
        let format = match args.format {
            SweepFormat::Jsonl => Format::JsonLines,
            SweepFormat::Csv => Format::Csv,
            #[cfg(feature = "parquet")]
            SweepFormat::Parquet => Format::Parquet,
        };
        let tables = Tables { format, rounds: args.rounds, summary: args.summary, real: false };
        // Before the directory is made: from then on whoever interrupts finds it cleaned up.
        let interrupt = Interrupt::listen().map_err(Failure::failed)?;
        let results = unfinished::open(&args.out, &scenario, &grid, tables, begin(args.resume, args.force))?;
        let jobs = args.jobs.and_then(|jobs| NonZeroUsize::new(jobs.into()));
        let plot = plot(args.plot.as_deref(), &grid)?;
        Ok(Self { scenario, grid, results, jobs, plot, interrupt })
    }

    /// Runs all cells, writes the results, sums them up.
    pub(super) fn run(mut self) -> Result<(), Failure> {
        let bar = bar(self.grid.runs());
        let (started, made) = (Instant::now(), AtomicU64::new(0));
        let after_runs = |runs| {
            made.fetch_add(runs, Ordering::Relaxed);
            bar.inc(runs);
        };
        bar.set_position(self.results.runs());
        bar.reset_eta();
        let options = Options { jobs: self.jobs, stop: &self.interrupt.stop, after_runs: &after_runs };
        let finished = run(&self.grid, &options, &mut self.results);
        bar.finish_and_clear();
        let kept = self.results.unfinished();
        let finished = finished.map_err(|error| cut("sweep", &kept, Failure::failed(error)))?;
        let took = started.elapsed();
        // Of a sweep that was resumed, what was made now.
        let made = made.into_inner();
        let rate = (made > 0).then(|| made as f64 / took.as_secs_f64().max(1e-9));
        if finished.runs < finished.planned {
            return Err(stopped(&self.interrupt, "migrations", &self.results, &finished));
        }
        // A signal that came when everything was done changes nothing.
        let published = self.results.publish(&self.scenario, &self.grid, &finished);
        let published = published.map_err(|error| cut("sweep", &kept, Failure::failed(error)))?;
        if let Some(mut file) = self.plot.take()
            && let Some(drawing) = picture(&self.scenario, &self.grid, &finished).map_err(Failure::failed)?
        {
            let written = file.write(&drawing).and_then(|()| file.finish()).and_then(FinishedFile::publish);
            written.map_err(Failure::failed)?;
        }
        print(&summary(&finished, self.grid.cells(), &published, took, rate))
    }
}

/// That the results will not take the place of the scenario they are made from. A sweep that is gone on with has its
/// own scenario there.
fn keeps_its_scenario(args: &SweepArgs) -> Result<(), Failure> {
    let Some(file) = args.scenario.scenario.as_deref().filter(|_| !args.resume && !args.force) else {
        return Ok(());
    };
    let place = args.out.join("scenario.toml");
    match (file.canonicalize(), place.canonicalize()) {
        (Ok(file), Ok(place)) if file == place => Err(Failure::BadInput(anyhow::anyhow!(
            "the results in {} would replace the scenario that is read, {}; choose another directory by --out, or add --force",
            args.out.display(),
            place.display()
        ))),
        _ => Ok(()),
    }
}

/// The file of the drawing; refused before the first run if there is nothing to draw over.
fn plot(path: Option<&Path>, grid: &Grid) -> Result<Option<WholeFile>, Failure> {
    let Some(path) = path else {
        return Ok(None);
    };
    let numbers =
        |axis: &&Axis| axis.values.len() > 1 && axis.values.iter().all(|value| value.number.is_some());
    let count = grid.axes().iter().filter(numbers).count();
    if count < 2 {
        return Err(Failure::BadInput(anyhow::anyhow!(
            "--plot draws a map over two axes with numbers; this sweep has {count}"
        )));
    }
    if !has_page(grid) {
        return Err(Failure::BadInput(anyhow::anyhow!(
            "--plot: this sweep has {} cells, more than can be drawn",
            grid.cells()
        )));
    }
    drawing(Some(path)).map_err(Failure::failed)
}

/// Shown on a terminal only.
fn bar(runs: u64) -> ProgressBar {
    let bar = ProgressBar::new(runs);
    // The template is checked by a test; without it the default one is drawn.
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        bar.set_style(style);
    }
    bar
}

pub(super) const TEMPLATE: &str = "{bar:32} {pos}/{len} migrations, {per_sec}, {eta} left";

fn summary(
    finished: &Finished,
    cells: u64,
    published: &Published,
    took: Duration,
    rate: Option<f64>,
) -> String {
    let mut text = table::policies(&finished.policies);
    let all = format!("{} in {}", counted(finished.runs, "migration"), counted(cells, "cell"));
    let _ = match rate {
        Some(rate) => writeln!(text, "\n{all}, {}, {rate:.0} migrations/s", duration::human(took)),
        None => writeln!(text, "\n{all}, all made before"),
    };
    if published.report.is_none() {
        text.push_str("no report: there are more cells than a page can show\n");
    }
    for (index, file) in published.files.iter().enumerate() {
        let name = if index == 0 { "results" } else { "" };
        let _ = writeln!(text, "{name:<9}{}", file.display());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_bar_has_a_valid_template() {
        ProgressStyle::with_template(TEMPLATE).expect("a template");
    }
}
