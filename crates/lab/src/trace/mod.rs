//! Traces of dirtied pages as files: read, written, imported from other tables, measured and drawn.
//!
//! For `whimbrel trace` and for scenarios whose guest is a trace. What a trace *is* says
//! [`whimbrel_sim::trace`]; the file format is described in `docs/traces.md`. Every reader is bounded, whatever
//! the file holds, and every fault names file and line. Nothing here simulates anything.

mod curves;
mod error;
pub mod import;
mod lines;
pub mod plot;
mod read;
pub mod stats;
#[cfg(test)]
mod tests;
pub mod text;
mod write;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use whimbrel_sim::trace::Trace;

use crate::input;

pub use self::curves::{MeasuredProgram, load_curves, read_curves};
pub use self::error::TraceFileError;
pub use self::read::read;
pub use self::write::{Format, write};

/// The version of the table.
pub const SCHEMA: u32 = 1;

/// What a file of this format begins with, after `# ` or as the value of `format`.
pub(crate) const NAME: &str = "whimbrel-trace";

/// The columns of a row, in this order in CSV.
const COLUMNS: [&str; 4] = ["start_ns", "length_ns", "first_page", "pages"];

/// Reads a trace from a file, CSV or JSON Lines, whichever it is.
///
/// # Errors
///
/// If it cannot be read or holds no trace.
pub fn load(path: &Path) -> Result<Trace, TraceFileError> {
    read(BufReader::with_capacity(1 << 16, open(path)?), &path.display().to_string())
}

/// Opens what must be a file: a pipe or a terminal could be waited for in vain.
///
/// # Errors
///
/// If it is no regular file, or cannot be opened.
pub fn open(path: &Path) -> Result<File, TraceFileError> {
    let file = path.display().to_string();
    let fail = |source| TraceFileError::Read { file: file.clone(), source };
    let about = std::fs::metadata(path).map_err(fail)?;
    if about.is_dir() {
        return Err(TraceFileError::Directory { file });
    }
    if !about.is_file() {
        return Err(TraceFileError::NotAFile { file });
    }
    File::open(path).map_err(fail)
}

/// Opens what somebody named to be read now: a file, a pipe, or with `-` standard input.
///
/// # Errors
///
/// If it is a directory, or cannot be opened.
pub fn open_input(path: &Path) -> Result<Box<dyn BufRead>, TraceFileError> {
    if path == Path::new(input::STANDARD) {
        return Ok(Box::new(std::io::stdin().lock()));
    }
    let file = path.display().to_string();
    if path.is_dir() {
        return Err(TraceFileError::Directory { file });
    }
    let opened = File::open(path).map_err(|source| TraceFileError::Read { file, source })?;
    Ok(Box::new(BufReader::with_capacity(1 << 16, opened)))
}

/// Reads arbitrary bytes as a trace, as a table to import one from and as measured curves. Meant for fuzzing: it
/// must return, whatever the bytes are.
///
/// # Panics
///
/// If a trace that was read does not read as itself when it is written, which is a fault of ours.
pub fn check(data: &[u8]) {
    let import = import::Import {
        time: "time".to_owned(),
        unit: import::TimeUnit::Seconds,
        when: import::When::UntilNext,
        place: import::Where::Page("page".to_owned()),
        count: import::HowMany::One,
        page_size: whimbrel_core::layout::PageSize::Kib4,
        memory: None,
        separator: ',',
    };
    let gathered = import::Import {
        when: import::When::Every(std::time::Duration::from_secs(1)),
        place: import::Where::Address("page".to_owned(), 0),
        ..import.clone()
    };
    let imported = [import, gathered].map(|import| import::import(data, "fuzz", &import));
    for trace in imported.into_iter().chain([read(data, "fuzz")]).flatten() {
        check_trace(&trace);
    }
    let _ = read_curves(data, "fuzz");
}

fn check_trace(trace: &Trace) {
    // Large ones only take longer.
    if trace.dirtied().0 > 1 << 16 || trace.intervals().len() > 1 << 10 {
        return;
    }
    for format in [Format::Csv, Format::JsonLines] {
        let mut text = String::new();
        let written: Result<(), std::convert::Infallible> = write(trace, format, |part| {
            text.push_str(part);
            Ok(())
        });
        let Ok(()) = written;
        let again = read(text.as_bytes(), "written");
        assert!(again.is_ok_and(|again| again == *trace), "a trace that was written must read as itself");
    }
    let found = stats::Statistics::of(trace);
    if let Ok(found) = found {
        let named = [("fuzz".to_owned(), found)];
        let _ = (text::statistics("fuzz", &named[0].1), plot::sheet(&named));
    }
}
