//! The project's own trace files.

use std::io::BufRead;
use std::time::Duration;

use serde::Deserialize;
use whimbrel_core::layout::{PageNumber, PageRun, PageSize};
use whimbrel_core::units::{ByteCount, Pages};
use whimbrel_sim::trace::{Trace, TraceBuilder, TraceError};

use super::lines::Lines;
use super::{COLUMNS, NAME, SCHEMA, TraceFileError};
use crate::scenario::error::excerpt;

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    start_ns: u64,
    length_ns: u64,
    first_page: u64,
    pages: u64,
}

/// The first line of a file in JSON Lines.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    schema: u32,
    page_size: PageSize,
    memory: ByteCount,
}

/// Reads a trace, CSV or JSON Lines, whichever it is; `name` is what messages call it.
///
/// # Errors
///
/// If it cannot be read or is no trace.
pub fn read(input: impl BufRead, name: &str) -> Result<Trace, TraceFileError> {
    let mut lines = Lines::new(input, name);
    let first = lines.next()?.unwrap_or_default().to_owned();
    let json = first.starts_with('{');
    let (page_size, memory) = if json { json_header(&first) } else { csv_header(&first) }
        .map_err(|message| lines.refuse(message))?;
    let refuse = |line, fault| TraceFileError::Trace { file: name.to_owned(), line, fault };
    let mut trace = TraceBuilder::new(memory, page_size).map_err(|fault| refuse(1, fault))?;
    if !json {
        let columns = lines.next()?.unwrap_or_default();
        if columns != COLUMNS.join(",") {
            let message = format!(
                "`{}` is not accepted as the columns: write `{}`",
                excerpt(columns, 60),
                COLUMNS.join(",")
            );
            return Err(lines.refuse(message));
        }
    }
    let mut open = None;
    while let Some(line) = lines.next()? {
        if line.is_empty() {
            continue;
        }
        let row = if json { json_row(line) } else { csv_row(line) };
        let row = row.map_err(|message| lines.refuse(message))?;
        add(&mut trace, &mut open, row).map_err(|fault| refuse(lines.number(), fault))?;
    }
    Ok(trace.build())
}

/// Adds a row. `open` is the interval of the row before: rows of one interval stand together.
fn add(trace: &mut TraceBuilder, open: &mut Option<(u64, u64)>, row: Row) -> Result<(), TraceError> {
    let interval = Some((row.start_ns, row.length_ns));
    if *open != interval {
        trace.interval(Duration::from_nanos(row.start_ns), Duration::from_nanos(row.length_ns))?;
        *open = interval;
    }
    // An interval in which nothing was dirtied has a row, too.
    if row.pages == 0 && row.first_page == 0 {
        return Ok(());
    }
    trace.dirtied(PageRun { first: PageNumber(row.first_page), count: Pages(row.pages) })
}

fn csv_header(line: &str) -> Result<(PageSize, ByteCount), String> {
    let refuse = || {
        format!(
            "no trace begins with `{}`: accepted is `# {NAME} schema={SCHEMA} page_size=4KiB memory=…` or the same \
             as JSON; `whimbrel trace import` reads other tables",
            excerpt(line, 60)
        )
    };
    let mut words = line.split_whitespace();
    if (words.next(), words.next()) != (Some("#"), Some(NAME)) {
        return Err(refuse());
    }
    let (mut schema, mut page_size, mut memory) = (None, None, None);
    for word in words {
        let (key, value) = word.split_once('=').ok_or_else(refuse)?;
        let bad = |error: &dyn std::fmt::Display| format!("`{key}`: {error}");
        match key {
            "schema" => schema = Some(value.parse().map_err(|error| bad(&error))?),
            "page_size" => page_size = Some(value.parse().map_err(|error| bad(&error))?),
            "memory" => memory = Some(value.parse().map_err(|error| bad(&error))?),
            _ => return Err(refuse()),
        }
    }
    known(schema.ok_or_else(refuse)?)?;
    Ok((page_size.ok_or_else(refuse)?, memory.ok_or_else(refuse)?))
}

fn json_header(line: &str) -> Result<(PageSize, ByteCount), String> {
    let header: Header = serde_json::from_str(line).map_err(|error| {
        format!(
            "no header of a trace: {}; accepted is {{\"format\":\"{NAME}\",\"schema\":{SCHEMA},\
             \"page_size\":\"4KiB\",\"memory\":…}}",
            json_fault(&error)
        )
    })?;
    if header.format != NAME {
        return Err(format!(
            "`{}` is not accepted as the format: write `{NAME}`",
            excerpt(&header.format, 60)
        ));
    }
    known(header.schema)?;
    Ok((header.page_size, header.memory))
}

fn known(schema: u32) -> Result<(), String> {
    if schema == SCHEMA { Ok(()) } else { Err(format!("schema {schema} is not known: accepted is {SCHEMA}")) }
}

/// What is wrong, without the place: that is the line's column, and lines are short.
fn json_fault(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split_once(" at line").map_or(text.as_str(), |(fault, _)| fault).to_owned()
}

fn json_row(line: &str) -> Result<Row, String> {
    serde_json::from_str(line).map_err(|error| {
        format!(
            "{}: `{}` is no row; accepted is an object of {}",
            json_fault(&error),
            excerpt(line, 60),
            names()
        )
    })
}

fn csv_row(line: &str) -> Result<Row, String> {
    let refuse = || format!("`{}` is no row: accepted are the whole numbers {}", excerpt(line, 60), names());
    let mut fields = line.split(',').map(|field| field.parse::<u64>().ok());
    let mut next = || fields.next().flatten().ok_or_else(refuse);
    let row = Row { start_ns: next()?, length_ns: next()?, first_page: next()?, pages: next()? };
    if fields.next().is_some() { Err(refuse()) } else { Ok(row) }
}

fn names() -> String {
    COLUMNS.map(|name| format!("`{name}`")).join(", ")
}
