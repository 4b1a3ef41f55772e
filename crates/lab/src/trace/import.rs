//! Traces from tables of other origin: a line a write or a run of pages, columns by name.

use std::io::BufRead;
use std::time::Duration;

use whimbrel_core::layout::{PageNumber, PageRun, PageSize};
use whimbrel_core::units::{ByteCount, Pages};
use whimbrel_sim::trace::{MAX_PAGES, MAX_TIME, Trace, TraceBuilder};

use super::TraceFileError;
use super::lines::Lines;
use crate::scenario::error::excerpt;

/// The most rows of a table, each of which takes 40 bytes until the trace is built.
pub const MAX_ROWS: usize = 1 << 24;

/// What times count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
    /// Nanoseconds.
    Nanoseconds,
}

impl TimeUnit {
    fn nanos(self) -> i128 {
        match self {
            Self::Seconds => 1_000_000_000,
            Self::Milliseconds => 1_000_000,
            Self::Microseconds => 1_000,
            Self::Nanoseconds => 1,
        }
    }
}

/// How a row says which pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    /// The column of page numbers.
    Page(String),
    /// The column of addresses in bytes, decimal or hexadecimal behind `0x`; the first number is that of the
    /// guest's first byte.
    Address(String, u64),
}

/// How a row says how many pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HowMany {
    /// One.
    One,
    /// The column of numbers of pages.
    Pages(String),
    /// The column of numbers of bytes, from an address or the beginning of a page on.
    Bytes(String),
}

/// When what a row tells was harvested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// At the end of an interval that begins at its time and lasts until the next time of any row. The last
    /// lasts as long as the one before it.
    UntilNext,
    /// At the end of an interval that begins at its time and is as long as this column says.
    Length(String),
    /// It is a write at its time; times are gathered in intervals so long.
    Every(Duration),
}

/// What the columns of a table mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The column of times. The trace's clock begins at the earliest.
    pub time: String,
    /// What times and lengths count.
    pub unit: TimeUnit,
    /// The intervals.
    pub when: When,
    /// The first page.
    pub place: Where,
    /// The pages from there on.
    pub count: HowMany,
    /// Size of a page.
    pub page_size: PageSize,
    /// Memory of the guest; none: the least power of two in which all pages lie.
    pub memory: Option<ByteCount>,
    /// What stands between two columns.
    pub separator: char,
}

/// A row as it was read.
struct Row {
    line: u64,
    time: i128,
    length: u64,
    run: PageRun,
}

/// Reads a table; `name` is what messages call it. The first line has the names of the columns; rows may come in
/// any order of time.
///
/// # Errors
///
/// If it cannot be read, lacks a column, or is no trace; named with its line.
pub fn import(input: impl BufRead, name: &str, import: &Import) -> Result<Trace, TraceFileError> {
    let mut rows = read_rows(input, name, import)?;
    let file = |message: &str| TraceFileError::File { file: name.to_owned(), message: message.to_owned() };
    rows.sort_by_key(|row| row.time);
    let Some(first) = rows.first().map(|row| row.time) else {
        return Err(file("there is no row under the names of the columns"));
    };
    let end = rows.iter().map(|row| row.run.end().0).max().unwrap_or(1);
    let memory = import.memory.unwrap_or_else(|| {
        ByteCount(end.checked_next_power_of_two().unwrap_or(end).saturating_mul(import.page_size.bytes().0))
    });
    let fault = |line| move |fault| TraceFileError::Trace { file: name.to_owned(), line, fault };
    let mut trace = TraceBuilder::new(memory, import.page_size).map_err(fault(1))?;
    let mut open = None;
    let steps = steps(&rows);
    if steps.is_empty() && import.when == When::UntilNext {
        return Err(file("all rows have the same time: give the length of the intervals"));
    }
    for row in &rows {
        let at = u64::try_from(row.time - first).unwrap_or(u64::MAX);
        let (start, length) = match &import.when {
            When::Length(_) => (at, row.length),
            When::Every(interval) => {
                let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1);
                (at / interval * interval, interval)
            }
            When::UntilNext => {
                let next = steps.partition_point(|(time, _)| *time < row.time);
                let step = steps.get(next).filter(|(time, _)| *time == row.time).or(steps.last());
                (at, step.map_or(0, |(_, length)| *length))
            }
        };
        if open != Some((start, length)) {
            gap(&mut trace, start, &import.when).map_err(fault(row.line))?;
            let interval = trace.interval(Duration::from_nanos(start), Duration::from_nanos(length));
            interval.map_err(fault(row.line))?;
            open = Some((start, length));
        }
        trace.dirtied(row.run).map_err(fault(row.line))?;
    }
    Ok(trace.build())
}

/// Between writes there are intervals in which nothing was written.
fn gap(trace: &mut TraceBuilder, start: u64, when: &When) -> Result<(), whimbrel_sim::trace::TraceError> {
    if let When::Every(interval) = when {
        while trace.end() < Duration::from_nanos(start) {
            trace.interval(trace.end(), *interval)?;
        }
    }
    Ok(())
}

/// Each time but the last, and how long it is until the next.
fn steps(rows: &[Row]) -> Vec<(i128, u64)> {
    let pairs = rows.windows(2).filter(|pair| pair[0].time < pair[1].time);
    pairs.map(|pair| (pair[0].time, u64::try_from(pair[1].time - pair[0].time).unwrap_or(u64::MAX))).collect()
}

/// Where the columns stand.
struct Columns {
    /// All that the first line names.
    names: Vec<String>,
    time: usize,
    length: Option<usize>,
    place: usize,
    count: Option<usize>,
}

impl Columns {
    fn find(names: Vec<String>, import: &Import) -> Result<Self, String> {
        let find = |name: &str| {
            let known = || names.iter().take(20).map(|name| format!("`{}`", excerpt(name, 40)));
            names.iter().position(|known| known.trim() == name).ok_or_else(|| {
                format!(
                    "no column `{}`: there are {}",
                    excerpt(name, 40),
                    known().collect::<Vec<_>>().join(", ")
                )
            })
        };
        let length = match &import.when {
            When::Length(name) => Some(find(name)?),
            _ => None,
        };
        let place = match &import.place {
            Where::Page(name) | Where::Address(name, _) => find(name)?,
        };
        let count = match &import.count {
            HowMany::One => None,
            HowMany::Pages(name) | HowMany::Bytes(name) => Some(find(name)?),
        };
        let time = find(&import.time)?;
        Ok(Self { names, time, length, place, count })
    }
}

fn read_rows(input: impl BufRead, name: &str, import: &Import) -> Result<Vec<Row>, TraceFileError> {
    let mut lines = Lines::new(input, name);
    // Lines before the names that are comments are passed over.
    let names = loop {
        match lines.next()? {
            Some(line) if line.starts_with('#') => {}
            line => break fields(line.unwrap_or_default(), import.separator),
        }
    };
    let columns = names.and_then(|names| Columns::find(names, import));
    let columns = columns.map_err(|message| lines.refuse(message))?;
    let mut rows = Vec::new();
    while let Some(line) = lines.next()? {
        if line.trim().is_empty() {
            continue;
        }
        let row = fields(line, import.separator).and_then(|fields| read_row(&fields, &columns, import));
        let (time, length, run) = row.map_err(|message| lines.refuse(message))?;
        if rows.len() == MAX_ROWS {
            return Err(lines.refuse(format!("too many rows: accepted are at most {MAX_ROWS}")));
        }
        rows.push(Row { line: lines.number(), time, length, run });
    }
    Ok(rows)
}

fn read_row(fields: &[String], columns: &Columns, import: &Import) -> Result<(i128, u64, PageRun), String> {
    // Where one stands that nobody named, the separator is most likely another one.
    if let Some(field) = fields.iter().skip(columns.names.len()).find(|field| !field.trim().is_empty()) {
        let (names, field) = (columns.names.len(), excerpt(field.trim(), 40));
        return Err(format!("`{field}` stands behind the {names} columns that the first line names"));
    }
    let name = |index: usize| excerpt(columns.names[index].trim(), 40);
    let field = |index: usize| {
        let text = fields.get(index).map(|field| field.trim());
        text.ok_or_else(|| format!("the row ends before column `{}`: it has {}", name(index), fields.len()))
    };
    let in_column = |index: usize| move |message: String| format!("column `{}`: {message}", name(index));
    let time = nanos(field(columns.time)?, import.unit).map_err(in_column(columns.time))?;
    let length = match columns.length {
        Some(index) => nanos(field(index)?, import.unit)
            .and_then(|length| {
                u64::try_from(length).map_err(|_| "a length below 0 is not accepted".to_owned())
            })
            .map_err(in_column(index))?,
        None => 0,
    };
    let number = |index: usize| whole(field(index)?).map_err(in_column(index));
    let count = columns.count.map(number).transpose()?;
    let page = import.page_size.bytes().0;
    let shift = import.page_size.shift();
    let (address, base) = match &import.place {
        Where::Page(_) => (number(columns.place)?.checked_mul(page), 0),
        Where::Address(_, base) => (Some(number(columns.place)?), *base),
    };
    let place = columns.place;
    let far = || {
        format!(
            "column `{}`: `{}` lies outside of memory that can be",
            name(place),
            excerpt(fields[place].trim(), 40)
        )
    };
    let address = address.and_then(|address| address.checked_sub(base)).ok_or_else(far)?;
    let bytes = match import.count {
        HowMany::One => Some(1),
        HowMany::Pages(_) => count.unwrap_or(1).checked_mul(page),
        HowMany::Bytes(_) => count,
    };
    let bytes = bytes.filter(|bytes| *bytes > 0).ok_or("no pages: a row has at least one")?;
    // Pages are counted from the beginning of the first.
    let start = if matches!(import.count, HowMany::Bytes(_)) { address } else { address >> shift << shift };
    let last = start.checked_add(bytes - 1).map(|last| last >> shift).filter(|last| *last < MAX_PAGES);
    let first = address >> shift;
    Ok((time, length, PageRun { first: PageNumber(first), count: Pages(last.ok_or_else(far)? - first + 1) }))
}

fn whole(text: &str) -> Result<u64, String> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    u64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+')).ok_or_else(|| {
        let text = excerpt(text, 40);
        if !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix)) {
            format!("`{text}` is too large: accepted is at most {}", u64::MAX)
        } else {
            format!("`{text}` is not accepted: write a whole number")
        }
    })
}

/// A time in nanoseconds; exact for decimals, as epochs do not fit into floating point.
fn nanos(text: &str, unit: TimeUnit) -> Result<i128, String> {
    let refuse = || format!("`{}` is not accepted as a time: write a number", excerpt(text, 40));
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let decimal = |part: &str| part.len() <= 18 && part.bytes().all(|digit| digit.is_ascii_digit());
    let nanos = if decimal(whole) && decimal(fraction) && !(whole.is_empty() && fraction.is_empty()) {
        let number = |part: &str| if part.is_empty() { Ok(0) } else { part.parse::<i128>() };
        let (whole, part) =
            number(whole).and_then(|whole| Ok((whole, number(fraction)?))).map_err(|_| refuse())?;
        let scale = 10_i128.pow(fraction.len() as u32);
        sign * (whole * unit.nanos() + (part * unit.nanos() + scale / 2) / scale)
    } else {
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite()).ok_or_else(refuse)?;
        (number * unit.nanos() as f64).round() as i128
    };
    // Epochs are far from zero; what lies between two times is bounded elsewhere.
    let most = MAX_TIME.as_nanos() * 10_000;
    if nanos.unsigned_abs() <= most {
        Ok(nanos)
    } else {
        Err(format!(
            "`{}` is too far from 0: accepted is up to {} s",
            excerpt(text, 40),
            most / 1_000_000_000
        ))
    }
}

/// The fields of a line; those in quotes may hold the separator, and two quotes for one.
fn fields(line: &str, separator: char) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let behind = if let Some(mut quoted) = rest.trim_start_matches(' ').strip_prefix('"') {
            let mut field = String::new();
            loop {
                let (part, behind) = quoted.split_once('"').ok_or("a quotation does not end in its line")?;
                field.push_str(part);
                let Some(more) = behind.strip_prefix('"') else {
                    quoted = behind;
                    break;
                };
                field.push('"');
                quoted = more;
            }
            fields.push(field);
            quoted
        } else {
            let end = rest.find(separator).unwrap_or(rest.len());
            fields.push(rest[..end].to_owned());
            &rest[end..]
        };
        match behind.trim_start_matches(' ').strip_prefix(separator) {
            Some(more) => rest = more,
            None if behind.trim().is_empty() => return Ok(fields),
            None => return Err(format!("`{}` behind a quotation is not accepted", excerpt(behind, 20))),
        }
    }
}
