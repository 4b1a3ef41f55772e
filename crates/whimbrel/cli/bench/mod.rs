//! `whimbrel bench`: every cell of a grid as a real migration between two processes, beside its forecast.
//!
//! [`plan`] reads what is to be run and refuses what cannot be, [`destination`] is the other process, [`moving`] makes one move,
//! [`measuring`] finds out what moving costs here, [`diary`] keeps what a bench that is cut must not lose, [`journals`] what is kept to look
//! into a run. Moves are made one after another: each has the machine to itself.

mod destination;
mod diary;
mod journals;
mod measuring;
mod moving;
mod plan;
mod work;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use whimbrel_core::units::{VcpuSeconds, duration};
use whimbrel_lab::output::{FinishedFile, OutputError, WholeFile};
use whimbrel_lab::real::fidelity::{self, Fidelity};
use whimbrel_lab::real::ground::Ground;
use whimbrel_lab::result::MigrationRecord;
use whimbrel_lab::scenario::{Cell, Grid, Scenario};
use whimbrel_lab::sweep::{
    self, Begin, Finished, Format, Made, ResultDir, ResumeError, SweepError, Tables, run_made,
};
use whimbrel_lab::table::{self, counted};
use whimbrel_sim::Lost;

use self::destination::Found;
use self::diary::{Before, Diary};
use self::journals::Journals;
use self::measuring::measure;
use self::moving::Mover;
use self::plan::{Key, Sending};
use self::work::Work;
use super::args::{BenchArgs, ScenarioArgs, SweepFormat};
use super::failure::{self, Failure};
use super::interrupt::Interrupt;
use super::live::cost::record;
use super::print;
use super::simulate::{Instead, scenario};

/// Runs every matrix that was asked for, one after another, or the built-in one.
pub(super) fn run(args: &BenchArgs) -> Result<(), Failure> {
    let several = args.matrices.len() > 1;
    let named: Vec<Option<&Path>> = match args.matrices.as_slice() {
        [] => vec![None],
        matrices => matrices.iter().map(|matrix| Some(matrix.as_path())).collect(),
    };
    let matrices = named.iter().map(|file| Matrix::read(args, *file)).collect::<Result<Vec<_>, _>>()?;
    if several {
        differ(&matrices)?;
        if args.resume {
            return Err(Failure::BadInput(anyhow!(
                "--resume goes on with one matrix: name the one that was cut, and its directory as --out {}/NAME",
                args.out.display()
            )));
        }
    }
    let interrupt = Interrupt::listen().map_err(Failure::failed)?;
    let mut rows = Vec::new();
    for matrix in matrices {
        let mut out = args.out.clone();
        if several {
            print(&format!("{}\n\n", matrix.name))?;
            out.push(&matrix.name);
        }
        rows.extend(Bench::ready(args, matrix, out, &interrupt)?.run()?);
        if several {
            print("\n")?;
        }
    }
    if several {
        print(&fidelity::totals(&rows))?;
    }
    Ok(())
}

/// A matrix whose cells were checked.
struct Matrix {
    /// Its file's, without the ending.
    name: String,
    scenario: Scenario,
    grid: Grid,
}

impl Matrix {
    fn read(args: &BenchArgs, file: Option<&Path>) -> Result<Self, Failure> {
        let runs = args.runs.map(|runs| format!("run.repeat={runs}"));
        let overrides = args.overrides.iter().cloned().chain(runs).collect();
        let named = ScenarioArgs { scenario: file.map(Path::to_owned), overrides, fidelity: None };
        let scenario = scenario(&named, "bench", &Instead::default())?;
        let grid = scenario.grid().map_err(Failure::bad_input)?;
        plan::check(&grid)?;
        let name =
            file.and_then(Path::file_stem).map_or_else(String::new, |stem| stem.to_string_lossy().into());
        Ok(Self { name, scenario, grid })
    }
}

/// Each has a directory of its name.
fn differ(matrices: &[Matrix]) -> Result<(), Failure> {
    let mut names = BTreeSet::new();
    let again = matrices.iter().find(|matrix| !names.insert(matrix.name.as_str()));
    again.map_or(Ok(()), |again| {
        Err(Failure::BadInput(anyhow!(
            "two matrices are called `{}`: the results of each go into a directory of its name",
            again.name
        )))
    })
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
    /// Opens the directory.
    fn ready(
        args: &BenchArgs,
        matrix: Matrix,
        out: PathBuf,
        interrupt: &'a Interrupt,
    ) -> Result<Self, Failure> {
        let Matrix { scenario, grid, .. } = matrix;
        let format = match args.format {
            SweepFormat::Jsonl => Format::JsonLines,
            SweepFormat::Csv => Format::Csv,
            #[cfg(feature = "parquet")]
            SweepFormat::Parquet => {
                return Err(Failure::BadInput(anyhow!("--format parquet: accepted are jsonl and csv")));
            }
        };
        let tables = Tables { format, rounds: args.rounds, summary: false, real: true };
        let begin = match (args.resume, args.force) {
            (true, _) => Begin::Resume,
            (false, true) => Begin::Anyway,
            (false, false) => Begin::New,
        };
        let results =
            ResultDir::open(&out, &scenario, &grid, tables, begin).map_err(|error| match error {
                // Another bench was asked for than the one that is there.
                SweepError::Resume(ResumeError::Nothing { .. } | ResumeError::Other { .. }) => {
                    Failure::bad_input(error)
                }
                error => Failure::failed(error),
            })?;
        let mut how =
            format!("--over {} --log {} --memory {}", value(&args.over), value(&args.log), args.memory);
        if args.journals {
            how.push_str(" --journals");
        }
        let (diary, before) = Diary::open(&results.beside(), results.runs(), &how)?;
        let journals = Journals::begin((&out, &results.unfinished()), args.journals, args.resume)?;
        let work = Work::begin(&out)?;
        let mover = Mover { work, over: args.over, log: args.log.into(), backing: args.memory };
        Ok(Self { scenario, grid, mover, journals, results, diary, before, out, format, interrupt })
    }

    /// Makes all moves, writes the results, sums them up.
    fn run(mut self) -> Result<Vec<Fidelity>, Failure> {
        let bar = bar(self.grid.runs());
        let started = Instant::now();
        let Before { mut grounds, records, mut rows } = std::mem::take(&mut self.before);
        let before = rows.len() as u64;
        bar.set_position(before);
        bar.reset_eta();
        let swept = plan::encodings_are_swept(&self.grid);
        let (mover, interrupt, diary) = (&self.mover, self.interrupt, &mut self.diary);
        let between = (mover, &self.journals);
        let make = |cell: &Cell, repetition| {
            let sending =
                Sending::of(&cell.setup, swept).map_err(|what| Halt::from(plan::wrong(cell, &what)))?;
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
        let mut finished = finished.map_err(|Halt(failure)| cut(&kept, failure))?;
        finished.forecasts = fidelity::groups(&rows);
        let fidelity = fidelity.map_err(|error| cut(&kept, Failure::failed(error)))?;
        if finished.runs < finished.planned {
            return Err(self.stopped(&finished));
        }
        let took = started.elapsed();
        // Before the rest takes its place: until then all of this can be made again.
        let host = self.out.join("host.toml");
        let text: String = grounds.values().map(Ground::to_toml).collect::<Vec<_>>().join("\n");
        write(&host, &text).map_err(|error| cut(&kept, Failure::failed(error)))?;
        let journals = self.journals.publish(&self.grid).map_err(|error| cut(&kept, error))?;
        fidelity.iter().chain([&host]).for_each(|file| self.results.has_too(file.clone()));
        let published = self.results.publish(&self.scenario, &self.grid, &finished);
        let published = published.map_err(|error| cut(&kept, Failure::failed(error)))?;
        let mut files = published.files;
        files.extend(fidelity);
        files.push(host);
        files.extend(journals);
        print(&summary(&finished, self.grid.cells(), &rows, &files, (before, took)))?;
        broken(&rows)?;
        Ok(rows)
    }

    fn keep(&self, rows: &[Fidelity]) -> Result<Option<PathBuf>, OutputError> {
        keep(&self.out, self.format, rows)
    }

    /// A signal ended it.
    fn stopped(&self, finished: &Finished) -> Failure {
        let code = self.interrupt.exit_code().unwrap_or(failure::FAILED);
        let message = if finished.runs == 0 {
            format!("none of {} moves was finished; nothing was written", finished.planned)
        } else {
            format!(
                "{} of {} moves were finished and are kept in {}; the same command with --resume goes on",
                finished.runs,
                finished.planned,
                self.results.unfinished().display()
            )
        };
        Failure::Interrupted { code, message }
    }
}

/// As it is typed.
fn value(of: &impl ValueEnum) -> String {
    of.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// It could not go on; what was made before is kept in this folder.
fn cut(kept: &Path, failure: Failure) -> Failure {
    match failure {
        Failure::Failed(error) if kept.exists() => Failure::Failed(error.context(format!(
            "the bench was cut; {} keeps what was finished, and the same command with --resume goes on",
            kept.display()
        ))),
        failure => failure,
    }
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
    let mut setup = sweep::simulation(&ground.forecast(&cell.setup), seed).map_err(Failure::bad_input)?;
    // The engine's threads wait for one another before the first page, and at the end of each round; its slices end in time.
    (setup.aligned, setup.drained, setup.punctual) = (true, true, true);
    let run = whimbrel_sim::simulate(&setup).map_err(Failure::bad_input)?;
    let forecast = MigrationRecord::of(&run, seed);
    journals.forecast((cell.index, repetition), &forecast)?;
    let load = load();
    let mut wanted = moving::Wanted::of(&cell.setup, sending, seed);
    wanted.journal = journals.of(cell.index, repetition);
    let Some(moved) = between.make(&wanted, &interrupt.stop)? else { return Ok(None) };
    let outcome = moved.report.outcome;
    let faults = ground.tracking_fault.as_secs_f64() * moved.found_dirty.0 as f64;
    let lost = Lost { tracking_faults: VcpuSeconds::new(faults).unwrap_or(VcpuSeconds::ZERO), ..moved.lost };
    let record = record(&moved.report, &moved.encoded, &lost, seed);
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
