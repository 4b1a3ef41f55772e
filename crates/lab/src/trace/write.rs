//! A trace as text.

use std::fmt::Write as _;

use whimbrel_core::layout::{PageNumber, PageRun};
use whimbrel_core::units::Pages;
use whimbrel_sim::trace::Trace;

use super::{COLUMNS, NAME, SCHEMA};

/// How a trace is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A line that says what it is, a line of names, a line a run of pages.
    Csv,
    /// An object that says what it is, an object a run of pages.
    JsonLines,
}

/// Text is handed over in parts of about this size.
const PART: usize = 1 << 16;

/// Writes a trace, in parts.
///
/// # Errors
///
/// The first that `sink` gives.
pub fn write<E>(trace: &Trace, format: Format, mut sink: impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
    let (page_size, memory) = (trace.page_size(), trace.memory());
    let mut text = match format {
        Format::Csv => {
            format!("# {NAME} schema={SCHEMA} page_size={page_size} memory={memory}\n{}\n", COLUMNS.join(","))
        }
        Format::JsonLines => format!(
            "{{\"format\":\"{NAME}\",\"schema\":{SCHEMA},\"page_size\":\"{page_size}\",\"memory\":\"{memory}\"}}\n"
        ),
    };
    let none = PageRun { first: PageNumber(0), count: Pages(0) };
    for interval in trace.intervals() {
        let (start, length) = (interval.start().as_nanos(), interval.length().as_nanos());
        let mut row = |run: PageRun| {
            let (first, count) = (run.first.0, run.count.0);
            let [a, b, c, d] = COLUMNS;
            // Writing to a text cannot fail.
            let _ = match format {
                Format::Csv => writeln!(text, "{start},{length},{first},{count}"),
                Format::JsonLines => {
                    writeln!(text, "{{\"{a}\":{start},\"{b}\":{length},\"{c}\":{first},\"{d}\":{count}}}")
                }
            };
            if text.len() >= PART {
                sink(&text)?;
                text.clear();
            }
            Ok(())
        };
        if interval.runs().len() == 0 {
            row(none)?;
        }
        for run in interval.runs() {
            row(run)?;
        }
    }
    sink(&text)
}
