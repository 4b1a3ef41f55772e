//! Tables of a sweep as Parquet, made from rows in JSON when these are complete: a Parquet file can't be appended to.
//!
//! Columns have the dotted names of the JSON fields. Built only with the feature `parquet`; of the crate only its
//! column writers are used, without Arrow, which would be three times as many crates.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};
use serde_json::Value;

use super::SweepError;
use crate::output::{OutputError, WholeFile};

/// Rows that are gathered before they are written.
const GROUP: usize = 1 << 16;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Flag,
    /// Whole numbers that are not negative.
    Whole,
    Number,
}

impl Kind {
    /// Of the column `name` of a table.
    fn of(table: &str, name: &str) -> Self {
        const TEXTS: [&str; 7] = ["outcome", "why", "policy", "throttled", "decision", "reason", "outcomes"];
        const COUNTS: [&str; 12] = [
            "schema",
            "cell",
            "repetition",
            "seed",
            "sent_bytes",
            "rounds",
            "round",
            "runs",
            "post_copy.requests",
            "encoding.encoded_bytes",
            "encoding.cache_misses",
            "bandwidth_bytes_per_s",
        ];
        match name {
            "converged" if table == "migrations" => Self::Flag,
            "paused" | "post_copy" => Self::Flag,
            name if TEXTS.contains(&name) || name.starts_with("axes.") => Self::Text,
            name if name.starts_with("axis_numbers.") => Self::Number,
            name if COUNTS.contains(&name) || name.ends_with("_pages") => Self::Whole,
            _ => Self::Number,
        }
    }

    fn schema(self, name: &str) -> Result<TypePtr, ParquetError> {
        let (physical, logical) = match self {
            Self::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Self::Flag => (Physical::BOOLEAN, None),
            Self::Whole => (Physical::INT64, Some(LogicalType::integer(64, false))),
            Self::Number => (Physical::DOUBLE, None),
        };
        let builder = Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
        Ok(Arc::new(builder.with_logical_type(logical).build()?))
    }
}

/// Makes the table of this name, whose columns a line of names gives, at `place`.
pub(super) fn table(
    place: &Path,
    name: &str,
    header: &str,
    rows: impl Iterator<Item = Result<String, OutputError>>,
) -> Result<WholeFile, SweepError> {
    let columns: Vec<(String, Kind)> = header
        .trim_end()
        .split(',')
        // The unit of an axis stands in CSV only.
        .map(|column| column.split(" [").next().unwrap_or(column).to_owned())
        .map(|column| (column.clone(), Kind::of(name, &column)))
        .collect();
    let failed = |error: ParquetError| {
        SweepError::Output(OutputError::Write {
            path: place.to_owned(),
            source: std::io::Error::other(error),
        })
    };
    let fields =
        columns.iter().map(|(name, kind)| kind.schema(name)).collect::<Result<_, _>>().map_err(failed)?;
    let schema = Type::group_type_builder("schema").with_fields(fields).build().map_err(failed)?;
    let zstd = ZstdLevel::try_new(3).map_err(failed)?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(zstd)).build();
    let file = WholeFile::create(place)?;
    let mut writer =
        SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).map_err(failed)?;
    let mut group: Vec<Vec<Option<Value>>> = vec![Vec::new(); columns.len()];
    for row in rows {
        add(&mut group, &columns, &row?);
        if group.first().is_some_and(|column| column.len() == GROUP) {
            put(&mut writer, &columns, &mut group).map_err(failed)?;
        }
    }
    put(&mut writer, &columns, &mut group).map_err(failed)?;
    writer.into_inner().map_err(failed)
}

/// The same of a file of rows.
pub(super) fn of_file(place: &Path, name: &str, header: &str, rows: &Path) -> Result<WholeFile, SweepError> {
    let fail = |source| OutputError::Write { path: rows.to_owned(), source };
    let lines = BufReader::new(File::open(rows).map_err(fail)?).lines();
    table(place, name, header, lines.map(|line| line.map_err(fail)))
}

/// Adds a row, a value a column.
fn add(group: &mut [Vec<Option<Value>>], columns: &[(String, Kind)], row: &str) {
    // Rows are our own; one that is none has no values.
    let row: Value = serde_json::from_str(row).unwrap_or_default();
    for (column, (name, _)) in group.iter_mut().zip(columns) {
        column.push(find(&row, name).filter(|value| !value.is_null()).cloned());
    }
}

/// The value at a dotted name; keys may have dots themselves.
fn find<'a>(row: &'a Value, name: &str) -> Option<&'a Value> {
    row.get(name).or_else(|| {
        let (first, rest) = name.split_once('.')?;
        find(row.get(first)?, rest)
    })
}

type Groups = SerializedFileWriter<WholeFile>;

/// Writes what was gathered.
fn put(
    writer: &mut Groups,
    columns: &[(String, Kind)],
    group: &mut [Vec<Option<Value>>],
) -> Result<(), ParquetError> {
    if group.first().is_none_or(Vec::is_empty) {
        return Ok(());
    }
    let mut rows = writer.next_row_group()?;
    for ((_, kind), column) in columns.iter().zip(group) {
        put_column(&mut rows, *kind, column)?;
        column.clear();
    }
    rows.close()?;
    Ok(())
}

fn put_column(
    rows: &mut SerializedRowGroupWriter<'_, WholeFile>,
    kind: Kind,
    column: &[Option<Value>],
) -> Result<(), ParquetError> {
    let Some(mut writer) = rows.next_column()? else { return Ok(()) };
    let defined: Vec<i16> = column.iter().map(|value| i16::from(value.is_some())).collect();
    let values = column.iter().flatten();
    match kind {
        Kind::Text => {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let values: Vec<ByteArray> = values.map(|value| text(value).as_str().into()).collect();
            writer.typed::<ByteArrayType>().write_batch(&values, Some(&defined), None)?;
        }
        Kind::Flag => {
            let values: Vec<bool> = values.map(|value| value.as_bool().unwrap_or_default()).collect();
            writer.typed::<BoolType>().write_batch(&values, Some(&defined), None)?;
        }
        Kind::Whole => {
            // Parquet's unsigned numbers are these bits.
            let values: Vec<i64> =
                values.map(|value| value.as_u64().unwrap_or_default().cast_signed()).collect();
            writer.typed::<Int64Type>().write_batch(&values, Some(&defined), None)?;
        }
        Kind::Number => {
            let values: Vec<f64> = values.map(|value| value.as_f64().unwrap_or(f64::NAN)).collect();
            writer.typed::<DoubleType>().write_batch(&values, Some(&defined), None)?;
        }
    }
    writer.close()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::num::NonZeroUsize;
    use std::sync::atomic::AtomicBool;

    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::Field;

    use super::super::{Begin, Format, Options, ResultDir, Tables, run};
    use super::*;
    use crate::scenario::Scenario;

    const SMALL: &str = "
[guest]
memory = \"8MiB\"
[[guest.writers]]
working-set = \"4MiB\"
rate = 100
[run]
seed = 18446744073709551614
repeat = 2
[sweep]
\"policy.preset\" = [\"qemu-default\", \"qemu-postcopy\"]
\"link.bandwidth\" = [\"10Mbit/s\", \"1Gbit/s\"]
";

    fn swept(format: Format, summary: bool) -> std::path::PathBuf {
        let name = format!("whimbrel-parquet-{}-{summary}-{}", format.extension(), std::process::id());
        let dir = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&dir);
        let scenario = Scenario::parse(SMALL, "small.toml").expect("scenario");
        let grid = scenario.grid().expect("grid");
        let tables = Tables { format, rounds: !summary, summary, real: false };
        let mut results = ResultDir::open(&dir, &scenario, &grid, tables, Begin::New).expect("open");
        let options =
            Options { jobs: NonZeroUsize::new(2), stop: &AtomicBool::new(false), after_runs: &|_| {} };
        let finished = run(&grid, &options, &mut results).expect("run");
        results.publish(&scenario, &grid, &finished).expect("publish");
        dir
    }

    fn rows(path: &Path) -> Vec<BTreeMap<String, Field>> {
        let reader = SerializedFileReader::new(File::open(path).expect("open")).expect("Parquet");
        let rows = reader.get_row_iter(None).expect("rows");
        rows.map(|row| {
            row.expect("a row").get_column_iter().map(|(name, field)| (name.clone(), field.clone())).collect()
        })
        .collect()
    }

    fn same(field: &Field, value: Option<&Value>) -> bool {
        match (field, value) {
            (Field::Null, None | Some(Value::Null)) => true,
            (Field::Double(field), Some(value)) => value.as_f64() == Some(*field),
            (Field::ULong(field), Some(value)) => value.as_u64() == Some(*field),
            (Field::Bool(field), Some(value)) => value.as_bool() == Some(*field),
            (Field::Str(field), Some(Value::String(text))) => field == text,
            (Field::Str(field), Some(value)) => {
                serde_json::from_str::<Value>(field).is_ok_and(|field| field == *value)
            }
            _ => false,
        }
    }

    #[test]
    fn a_parquet_table_reads_as_the_rows_in_json() {
        for (summary, names) in
            [(false, &["migrations", "rounds", "cells"][..]), (true, &["cells", "policies"])]
        {
            let (json, parquet) = (swept(Format::JsonLines, summary), swept(Format::Parquet, summary));
            assert!(!parquet.join("unfinished").exists());
            for name in names {
                let text = std::fs::read_to_string(json.join(format!("{name}.jsonl"))).expect("read");
                let expected: Vec<Value> =
                    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
                let found = rows(&parquet.join(format!("{name}.parquet")));
                assert_eq!(found.len(), expected.len(), "{name}");
                for (found, expected) in found.iter().zip(&expected) {
                    assert!(found.len() > 10);
                    for (column, field) in found {
                        assert!(
                            same(field, find(expected, column)),
                            "{name}.{column}: {field:?} for {expected}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_same_rows_give_the_same_bytes() {
        let read = |dir: &Path| std::fs::read(dir.join("migrations.parquet")).expect("read");
        let first = read(&swept(Format::Parquet, false));
        assert!(first == read(&swept(Format::Parquet, false)));
    }
}
