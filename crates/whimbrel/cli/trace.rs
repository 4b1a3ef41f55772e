//! `whimbrel trace`: traces of dirtied pages, recorded, imported, measured and drawn.

use std::fs;
use std::io::{Cursor, Read as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use whimbrel_core::units::duration;
use whimbrel_lab::chart::Canvas;
use whimbrel_lab::output::{FinishedFile, Kind, OutputError, WholeFile};
use whimbrel_lab::scenario::Fidelity;
use whimbrel_lab::trace::import::{HowMany, Import, TimeUnit, When, Where, import};
use whimbrel_lab::trace::plot::{Plot, sheet};
use whimbrel_lab::trace::stats::Statistics;
use whimbrel_lab::trace::{Format, TraceFileError, open_input, read, read_curves, text, write};
use whimbrel_sim::trace::{Recording, Trace, record};

use super::args::{
    ImportArgs, ImportUnit, OutArgs, RecordArgs, StatsArgs, TextFormat, TraceArgs, TraceCommand, TraceFormat,
};
use super::failure::Failure;
use super::simulate::{Instead, scenario};
use super::{print, tell};

/// Runs the command.
pub(super) fn run(args: &TraceArgs) -> Result<(), Failure> {
    match &args.command {
        TraceCommand::Record(args) => recorded(args),
        TraceCommand::Stats(args) => measured(args),
        TraceCommand::Import(args) => imported(args),
    }
}

fn recorded(args: &RecordArgs) -> Result<(), Failure> {
    let scenario = scenario(&args.scenario, "default", &Instead::default())?;
    let setup = scenario.setup();
    if setup.run.fidelity != Fidelity::Exact {
        tell("note: a trace is recorded page by page, whatever fidelity the scenario names");
    }
    let recording = Recording {
        interval: args.interval,
        length: args.length,
        tracking_fault: setup.host.tracking_fault,
        seed: args.seed.unwrap_or(setup.run.seed),
    };
    let out = Out::open(&args.out)?;
    let trace = record(&setup.guest, &recording).map_err(|error| {
        let asked = format!(
            "cannot record --length {} at --interval {}",
            duration::format(args.length),
            duration::format(args.interval)
        );
        Failure::BadInput(anyhow::Error::new(error).context(asked))
    })?;
    out.put(&trace)
}

fn imported(args: &ImportArgs) -> Result<(), Failure> {
    let place = match &args.address_column {
        Some(column) => Where::Address(column.clone(), args.base),
        None => Where::Page(args.page_column.clone()),
    };
    let count = match (&args.count_column, &args.bytes_column) {
        (Some(column), _) => HowMany::Pages(column.clone()),
        (None, Some(column)) => HowMany::Bytes(column.clone()),
        (None, None) => HowMany::One,
    };
    let when = match (&args.length_column, args.interval) {
        (Some(column), _) => When::Length(column.clone()),
        (None, Some(interval)) => When::Every(interval),
        (None, None) => When::UntilNext,
    };
    let unit = match args.time_unit {
        ImportUnit::S => TimeUnit::Seconds,
        ImportUnit::Ms => TimeUnit::Milliseconds,
        ImportUnit::Us => TimeUnit::Microseconds,
        ImportUnit::Ns => TimeUnit::Nanoseconds,
    };
    let meaning = Import {
        time: args.time_column.clone(),
        unit,
        when,
        place,
        count,
        page_size: args.page_size,
        memory: args.memory,
        separator: args.separator,
    };
    let name = args.file.display().to_string();
    let file = open_input(&args.file).map_err(Failure::bad_input)?;
    let trace = import(file, &name, &meaning).map_err(Failure::bad_input)?;
    Out::open(&args.out)?.put(&trace)
}

/// Where a trace goes.
pub(super) struct Out {
    file: Option<WholeFile>,
    format: Format,
}

impl Out {
    pub(super) fn open(args: &OutArgs) -> Result<Self, Failure> {
        let json = |path: &PathBuf| path.extension().is_some_and(|end| end == "jsonl" || end == "json");
        let other = |path: &PathBuf| path.extension().is_some_and(|end| end != "csv") && !json(path);
        if let Some(path) = args.out.as_ref().filter(|path| args.format.is_none() && other(path)) {
            return Err(Failure::BadInput(anyhow::anyhow!(
                "--out {}: a trace is written as CSV or as JSON Lines; end its name in .csv or .jsonl, or add --format",
                path.display()
            )));
        }
        let format = match args.format {
            Some(TraceFormat::Csv) => Format::Csv,
            Some(TraceFormat::Jsonl) => Format::JsonLines,
            None if args.out.as_ref().is_some_and(json) => Format::JsonLines,
            None => Format::Csv,
        };
        let file = args
            .out
            .as_deref()
            .map(|out| WholeFile::create_as(out, Kind::TRACE))
            .transpose()
            .map_err(Failure::failed)?;
        Ok(Self { file, format })
    }

    pub(super) fn put(self, trace: &Trace) -> Result<(), Failure> {
        let Some(mut file) = self.file else {
            return write(trace, self.format, print);
        };
        write(trace, self.format, |part| file.write(part)).map_err(Failure::failed)?;
        file.finish().and_then(FinishedFile::publish).map_err(Failure::failed)?;
        Ok(())
    }
}

/// Statistics with their name, as they are printed in JSON.
#[derive(Serialize)]
struct Told<'a> {
    name: &'a str,
    #[serde(flatten)]
    statistics: &'a Statistics,
}

fn measured(args: &StatsArgs) -> Result<(), Failure> {
    if let Some(place) = &args.plot {
        drawable(place)?;
    }
    let mut all = Vec::new();
    for file in &args.files {
        statistics(file, &mut all)?;
    }
    if let Some(place) = &args.plot {
        draw(place, &all).map_err(Failure::failed)?;
    }
    print(&match args.format {
        TextFormat::Table => all.iter().map(|(name, found)| text::statistics(name, found)).collect(),
        TextFormat::Json => {
            let told: Vec<_> = all.iter().map(|(name, statistics)| Told { name, statistics }).collect();
            serde_json::to_string_pretty(&told).map_err(Failure::failed)? + "\n"
        }
    })
}

/// How a file of measured curves begins.
const CURVES: &[u8] = b"{\"prog\"";

/// Of a trace, or of all programs of a file of measured curves.
fn statistics(file: &Path, all: &mut Vec<(String, Statistics)>) -> Result<(), Failure> {
    let name = file.display().to_string();
    let mut input = open_input(file).map_err(Failure::bad_input)?;
    // A pipe gives what it has only once.
    let mut first = Vec::new();
    let begun = input.by_ref().take(CURVES.len() as u64).read_to_end(&mut first);
    begun.map_err(|source| Failure::bad_input(TraceFileError::Read { file: name.clone(), source }))?;
    let curves = first == CURVES;
    let input = Cursor::new(first).chain(input);
    if curves {
        for program in read_curves(input, &name).map_err(Failure::bad_input)? {
            for found in [program.fine, program.coarse] {
                all.push((format!("{}, {} ms", program.program, found.interval_ms), found));
            }
        }
        return Ok(());
    }
    let trace = read(input, &name).map_err(Failure::bad_input)?;
    if trace.intervals().len() == 0 {
        return Err(Failure::BadInput(anyhow::anyhow!(
            "{name}: the trace is empty; there is nothing to measure"
        )));
    }
    all.push((name, Statistics::of(&trace).map_err(Failure::bad_input)?));
    Ok(())
}

/// Refuses a name that is neither a drawing's nor a directory's.
fn drawable(place: &Path) -> Result<(), Failure> {
    let svg = place.extension().is_some_and(|end| end == "svg");
    if svg || place.is_dir() || (place.extension().is_none() && !place.exists()) {
        return Ok(());
    }
    Err(Failure::BadInput(anyhow::anyhow!(
        "--plot {}: accepted is a name that ends in .svg, or a directory",
        place.display()
    )))
}

/// One file if its name says so, else one a chart in a directory.
fn draw(place: &Path, all: &[(String, Statistics)]) -> Result<(), OutputError> {
    let mut files = Vec::new();
    let mut put = |path: &Path, drawing: &str| {
        let mut file = WholeFile::create_as(path, Kind::DRAWING)?;
        file.write(drawing)?;
        files.push(file.finish()?);
        Ok(())
    };
    if place.extension().is_some_and(|end| end == "svg") {
        put(place, &sheet(all))?;
    } else {
        fs::create_dir_all(place).map_err(|source| OutputError::Write { path: place.to_owned(), source })?;
        for plot in Plot::ALL {
            let drawing = plot.chart(all).render(Canvas::Standalone);
            put(&place.join(format!("{}.svg", plot.name())), &drawing)?;
        }
    }
    files.into_iter().try_for_each(|file| file.publish().map(drop))
}
