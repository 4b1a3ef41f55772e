//! `whimbrel bench`: every cell of a grid as a real migration between two processes, beside its forecast.
//!
//! [`plan`] reads what is to be run and refuses what cannot be, [`destination`] is the other process, [`moving`] makes one move,
//! [`measuring`] finds out what moving costs here, [`forecasting`] what is to be expected, [`diary`] keeps what a bench that is cut must
//! not lose, [`series`] runs several matrices in one command, [`shown`] what is printed, [`journals`] what is kept to look into a
//! run. Moves are made one after another: each has the machine to itself.

mod destination;
mod diary;
mod forecasting;
mod journals;
mod lines;
mod measuring;
mod moving;
mod plan;
mod series;
mod shown;
mod work;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use whimbrel_core::units::{VcpuSeconds, duration};
use whimbrel_lab::output::{FinishedFile, OutputError, WholeFile};
use whimbrel_lab::real::fidelity::{self, Fidelity};
use whimbrel_lab::real::ground::{Ground, host_toml};
use whimbrel_lab::scenario::{Cell, Grid, Scenario};
use whimbrel_lab::sweep::{Begin, Finished, Format, Made, ResultDir, SweepError, Tables, run_made};
use whimbrel_lab::table::{self, counted};
use whimbrel_sim::Lost;

use self::destination::Found;
use self::diary::{Before, Diary};
use self::journals::Journals;
use self::measuring::measure;
use self::moving::Mover;
use self::plan::{Key, Sending};
use self::shown::Shown;
use self::work::Work;
use super::args::{BenchArgs, ScenarioArgs, SweepFormat};
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::live::cost::record;
use super::simulate::{Instead, scenario};
use super::unfinished::{self, begin, cut, stopped};

/// Runs every matrix that was asked for, one after another, or the built-in one.
pub(super) fn run(args: &BenchArgs) -> Result<(), Failure> {
    let named: Vec<Option<&Path>> = match args.matrices.as_slice() {
        [] => vec![None],
        matrices => matrices.iter().map(|matrix| Some(matrix.as_path())).collect(),
    };
    let matrices = named.iter().map(|file| Matrix::read(args, *file)).collect::<Result<Vec<_>, _>>()?;
    let interrupt = Interrupt::listen().map_err(Failure::failed)?;
    match <[Matrix; 1]>::try_from(matrices) {
        Ok([matrix]) => {
            let bench = Bench::ready(args, matrix, &args.out, begin(args.resume, args.force), &interrupt)?;
            let mut shown = Shown::default();
            bench.run(&mut shown, &mut |_| Ok(()))?;
            shown.end()
        }
        Err(matrices) => series::run(args, matrices, &interrupt),
    }
}

/// A matrix whose cells were checked.
struct Matrix {
    /// Its file's, without the ending.
    name: String,
    file: PathBuf,
    scenario: Scenario,
    grid: Grid,
}

impl Matrix {
    fn read(args: &BenchArgs, file: Option<&Path>) -> Result<Self, Failure> {
        let runs = args.runs.map(|runs| format!("run.repeat={runs}"));
        let overrides = args.overrides.iter().cloned().chain(runs).collect();
        let named = ScenarioArgs { scenario: file.map(Path::to_owned), overrides, fidelity: None };
        let mut scenario = scenario(&named, "bench", &Instead::default())?;
        plan::say_how(&mut scenario).map_err(Failure::bad_input)?;
        let grid = scenario.grid().map_err(Failure::bad_input)?;
        plan::check(&grid, scenario.name())?;
        let name =
            file.and_then(Path::file_stem).map_or_else(String::new, |stem| stem.to_string_lossy().into());
        Ok(Self { name, file: file.map_or_else(PathBuf::new, Path::to_owned), scenario, grid })
    }
}

/// How guests are moved: what the scenario does not say of it.
fn how(args: &BenchArgs) -> String {
    let journals = if args.journals { " --journals" } else { "" };
    format!("--over {} --log {} --memory {}{journals}", value(&args.over), value(&args.log), args.memory)
}

fn format(args: &BenchArgs) -> Result<Format, Failure> {
    match args.format {
        SweepFormat::Jsonl => Ok(Format::JsonLines),
        SweepFormat::Csv => Ok(Format::Csv),
        #[cfg(feature = "parquet")]
        SweepFormat::Parquet => {
            Err(Failure::BadInput(anyhow!("--format parquet: accepted are jsonl and csv")))
        }
    }
}

/// Opens the directory of the results.
fn results(args: &BenchArgs, matrix: &Matrix, out: &Path, begin: Begin) -> Result<ResultDir, Failure> {
    let tables = Tables { format: format(args)?, rounds: args.rounds, summary: false, real: true };
    unfinished::open(out, &matrix.scenario, &matrix.grid, tables, begin)
}

/// A bench that is ready to be run.
struct Bench<'a> {
    scenario: Scenario,
    grid: Grid,
    mover: Mover,
    journals: Journals,
    results: ResultDir,
    diary: Diary,
    /// What was made before it was cut.
    before: Before,
    out: PathBuf,
    format: Format,
    interrupt: &'a Interrupt,
}

impl<'a> Bench<'a> {
    fn ready(
        args: &BenchArgs,
        matrix: Matrix,
        out: &Path,
        begin: Begin,
        interrupt: &'a Interrupt,
    ) -> Result<Self, Failure> {
        let results = results(args, &matrix, out, begin)?;
        let Matrix { scenario, grid, .. } = matrix;
        let (diary, before) = Diary::open(&results.beside(), results.runs(), &how(args))?;
        let journals = Journals::begin((out, &results.unfinished()), args.journals, begin == Begin::Resume)?;
        let work = Work::begin(out)?;
        let mover = Mover { work, over: args.over, log: args.log.into(), backing: args.memory };
        let (out, format) = (out.to_owned(), format(args)?);
        Ok(Self { scenario, grid, mover, journals, results, diary, before, out, format, interrupt })
    }

    /// Makes all moves, writes the results, sums them up. `complete` is told when all are made, before results take their place.
    fn run(
        mut self,
        shown: &mut Shown,
        complete: &mut dyn FnMut(&[Fidelity]) -> Result<(), Failure>,
    ) -> Result<Vec<Fidelity>, Failure> {
        let bar = bar(self.grid.runs());
        let started = Instant::now();
        let Before { mut grounds, records, mut rows } = std::mem::take(&mut self.before);
        let before = rows.len() as u64;
        bar.set_position(before);
        bar.reset_eta();
        let (mover, interrupt, diary) = (&self.mover, self.interrupt, &mut self.diary);
        let between = (mover, &self.journals);
        let make = |cell: &Cell, repetition| {
            let sending = Sending::of(&cell.setup).map_err(|what| Halt::from(plan::wrong(cell, &what)))?;
            let key = Key::of(&cell.setup, sending);
            if !grounds.contains_key(&key) {
                bar.set_message("measuring what moving costs");
                match measure(mover, &cell.setup, sending, &interrupt.stop)? {
                    Some(ground) => {
                        diary.ground(&key, &ground)?;
                        grounds.insert(key.clone(), ground)
                    }
                    None => return Ok(None),
                };
            }
            bar.set_message("");
            let Some(ground) = grounds.get(&key) else { return Ok(None) };
            let Some((made, row)) = one(between, ground, cell, repetition, sending, interrupt)? else {
                return Ok(None);
            };
            diary.moved(&made.record, &row)?;
            rows.push(row);
            bar.inc(1);
            Ok::<_, Halt>(Some(made))
        };
        let finished = run_made(&self.grid, &interrupt.stop, records, make, &mut self.results);
        bar.finish_and_clear();
        // However it ended: what was made is kept.
        let fidelity = self.keep(&rows);
        let kept = self.results.unfinished();
        let mut finished = finished.map_err(|Halt(failure)| cut("bench", &kept, failure))?;
        finished.forecasts = fidelity::groups(&rows);
        let fidelity = fidelity.map_err(|error| cut("bench", &kept, Failure::failed(error)))?;
        if finished.runs < finished.planned {
            return Err(stopped(self.interrupt, "moves", &self.results, &finished));
        }
        let took = started.elapsed();
        // Before the rest takes its place: until then all of this can be made again.
        let host = self.out.join("host.toml");
        let text = host_toml(grounds.iter().map(|(key, ground)| (key.to_toml(), ground)));
        write(&host, &text).map_err(|error| cut("bench", &kept, Failure::failed(error)))?;
        let others: Vec<PathBuf> = fidelity.into_iter().chain([host]).collect();
        complete(&rows)?;
        let cells = self.grid.cells();
        let files = self.publish(&finished, others).map_err(|error| cut("bench", &kept, error))?;
        let told = shown.print(&summary(&finished, cells, &rows, &files, (before, took)));
        broken(&rows)?;
        told.map(|()| rows)
    }

    /// Puts the results in their place, to which `others` belong too; gives all files.
    fn publish(mut self, finished: &Finished, others: Vec<PathBuf>) -> Result<Vec<PathBuf>, Failure> {
        let journals = self.journals.publish(&self.grid)?;
        for file in &others {
            self.results.has_too(file.clone());
        }
        let published = self.results.publish(&self.scenario, &self.grid, finished);
        let mut files = published.map_err(Failure::failed)?.files;
        files.extend(others);
        files.extend(journals);
        Ok(files)
    }

    fn keep(&self, rows: &[Fidelity]) -> Result<Option<PathBuf>, OutputError> {
        keep(&self.out, self.format, rows)
    }
}

/// As it is typed.
fn value(of: &impl ValueEnum) -> String {
    of.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// A failure in the middle of a grid.
struct Halt(Failure);

impl From<SweepError> for Halt {
    fn from(error: SweepError) -> Self {
        Self(Failure::failed(error))
    }
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

/// One run: forecast first, then made. None if it was stopped.
fn one(
    (between, journals): (&Mover, &Journals),
    ground: &Ground,
    cell: &Cell,
    repetition: u32,
    sending: Sending,
    interrupt: &Interrupt,
) -> Result<Option<(Made, Fidelity)>, Failure> {
    let seed = cell.setup.run.seed_of(repetition);
    let forecast = forecasting::forecast(ground, cell, seed)?;
    journals.forecast((cell.index, repetition), &forecast)?;
    let load = load();
    let mut wanted = moving::Wanted::of(&cell.setup, sending, seed);
    wanted.journal = journals.of(cell.index, repetition);
    let Some(moved) = between.make(&wanted, &interrupt.stop)? else { return Ok(None) };
    let outcome = moved.report.outcome;
    let faults = ground.tracking_fault.as_secs_f64() * moved.found_dirty.0 as f64;
    let lost = Lost { tracking_faults: VcpuSeconds::new(faults).unwrap_or(VcpuSeconds::ZERO), ..moved.lost };
    let record = record(&moved.report, (&moved.encoded, moved.cpu), &lost, seed);
    let row = Fidelity::new(
        cell,
        repetition,
        sending.to_string(),
        &record,
        &forecast,
        (moved.found.as_ref().and_then(Found::gap_ms), moved.exact),
        load,
    );
    Ok(Some((Made { outcome, record }, row)))
}

/// The load average of the last minute.
fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// Writes the table of forecasts; gives its file, if there is a row.
fn keep(out: &Path, format: Format, rows: &[Fidelity]) -> Result<Option<PathBuf>, OutputError> {
    if rows.is_empty() {
        return Ok(None);
    }
    let text = if format == Format::Csv { fidelity::csv(rows) } else { fidelity::json_lines(rows) };
    let path = out.join(format!("fidelity.{}", format.extension()));
    write(&path, &text).map(|()| Some(path))
}

fn write(path: &Path, text: &str) -> Result<(), OutputError> {
    let mut file = WholeFile::create(path)?;
    file.write(text).and_then(|()| file.finish()).and_then(FinishedFile::publish).map(drop)
}

/// A guest that was not what it must be is a fault of whimbrel's, whatever else came out.
fn broken(rows: &[Fidelity]) -> Result<(), Failure> {
    let broken = rows.iter().filter(|row| !row.guest.exact).count();
    if broken == 0 {
        return Ok(());
    }
    Err(Failure::Failed(anyhow!(
        "{} did not hold what its registers say; see the table fidelity",
        counted(broken as u64, "guest")
    )))
}

/// Shown on a terminal only.
fn bar(runs: u64) -> ProgressBar {
    let bar = ProgressBar::new(runs);
    // The template is checked by a test; without it the default one is drawn.
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        bar.set_style(style);
    }
    bar.tick();
    bar
}

const TEMPLATE: &str = "{bar:32} {pos}/{len} moves, {eta} left {msg}";

fn summary(
    finished: &Finished,
    cells: u64,
    rows: &[Fidelity],
    files: &[PathBuf],
    (before, took): (u64, Duration),
) -> String {
    let mut text = table::policies(&finished.policies);
    text.push('\n');
    text.push_str(&fidelity::text(rows));
    let all = format!("{} in {}", counted(finished.runs, "migration"), counted(cells, "cell"));
    let load = rows.iter().filter_map(|row| row.load).fold(0.0, f64::max);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let before = if before > 0 { format!(", {before} of them made before") } else { String::new() };
    let _ = writeln!(
        text,
        "\n{all}{before}, {}; up to {load:.1} processes were ready to run on {} (load average)",
        duration::human(took),
        counted(cores as u64, "core")
    );
    for (index, file) in files.iter().enumerate() {
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
