//! The rows of a sweep's tables, as JSON Lines and as CSV.

use serde::Serialize;

use super::PolicySummary;
use super::cell::{CellRecord, SPREADS, Spread};
use crate::result::{MigrationRecord, RoundRecord, SCHEMA};
use crate::scenario::{AxisUnit, AxisValue, Grid, ScenarioError};
use crate::table::csv;
use crate::table::fields::{Csv, Fields, Json, name};

/// How tables are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    #[default]
    JsonLines,
    /// Comma-separated values with a line of names (RFC 4180, ended by line feeds).
    Csv,
    /// Parquet, compressed with zstd.
    #[cfg(feature = "parquet")]
    Parquet,
}

impl Format {
    /// The end of its files' names.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::JsonLines => "jsonl",
            Self::Csv => "csv",
            #[cfg(feature = "parquet")]
            Self::Parquet => "parquet",
        }
    }

    /// The same for rows while a sweep is not finished: what can't be appended to is made in the end.
    pub(super) const fn growing(self) -> &'static str {
        if matches!(self, Self::Csv) { "csv" } else { "jsonl" }
    }
}

/// What cells are called: their policy and their place on the axes.
pub(super) struct Names<'a> {
    grid: &'a Grid,
    base: String,
    policy_axis: Option<usize>,
    /// The axis whose values are compared: the policies if there are any, else the first one with names.
    compared_axis: Option<usize>,
}

impl<'a> Names<'a> {
    pub(super) fn of(grid: &'a Grid) -> Result<Self, ScenarioError> {
        let policy_axis = grid.axes().iter().position(|one| &*one.key == "policy.preset");
        let axes = grid.axes();
        let has_names = |values: &[AxisValue]| values.iter().any(|value| value.number.is_none());
        let named = || axes.iter().position(|axis| has_names(&axis.values) && axis.values.len() > 1);
        let compared_axis = policy_axis.or_else(named);
        Ok(Self { grid, base: grid.cell(0)?.setup.policy.label().to_owned(), policy_axis, compared_axis })
    }

    pub(super) fn policy_axis(&self) -> Option<usize> {
        self.policy_axis
    }

    /// Where a cell lies on an axis; 0 without an axis.
    fn position(&self, axis: Option<usize>, cell: u64) -> usize {
        let Some(axis) = axis else { return 0 };
        (cell / self.step(axis) % self.length(axis)) as usize
    }

    /// How many values an axis has.
    fn length(&self, axis: usize) -> u64 {
        self.grid.axes()[axis].values.len() as u64
    }

    /// Cells until the next value of an axis.
    fn step(&self, axis: usize) -> u64 {
        (axis + 1..self.grid.axes().len()).map(|behind| self.length(behind)).product()
    }

    /// Which of the compared values a cell has.
    pub(super) fn compared_index(&self, cell: u64) -> usize {
        self.position(self.compared_axis, cell)
    }

    /// Which of the policies a cell has.
    pub(super) fn policy_index(&self, cell: u64) -> usize {
        self.position(self.policy_axis, cell)
    }

    /// The name of a policy.
    pub(super) fn policy_name(&self, index: usize) -> &str {
        self.policy_axis.map_or(&self.base, |axis| self.grid.axes()[axis].values[index].label())
    }

    /// Where a cell lies on the other axes, the last of them fastest, and which of the compared ones it is.
    pub(super) fn place(&self, cell: u64) -> (u64, usize) {
        let Some(axis) = self.compared_axis else { return (cell, 0) };
        let (step, length) = (self.step(axis), self.length(axis));
        (cell / (step * length) * step + cell % step, (cell / step % length) as usize)
    }

    /// The lengths of the other axes.
    pub(super) fn other_lengths(&self) -> Vec<u64> {
        let others = (0..self.grid.axes().len()).filter(|axis| Some(*axis) != self.compared_axis);
        others.map(|axis| self.length(axis)).collect()
    }

    /// The preset of a cell.
    pub(super) fn policy(&self, cell: u64) -> &str {
        self.policy_name(self.policy_index(cell))
    }

    /// Which value of each axis a cell has; the last axis runs fastest.
    pub(super) fn positions(&self, cell: u64) -> Vec<usize> {
        let mut rest = cell;
        let mut positions: Vec<usize> = self
            .grid
            .axes()
            .iter()
            .rev()
            .map(|axis| {
                let count = axis.values.len() as u64;
                let position = rest % count;
                rest /= count;
                position as usize
            })
            .collect();
        positions.reverse();
        positions
    }
}

/// The CSV columns of a grid's axes: for each its text and its number.
fn axis_columns(grid: &Grid) -> Vec<String> {
    let columns = |axis: &crate::scenario::Axis| {
        let unit = match axis.unit {
            AxisUnit::None => String::new(),
            unit => format!(" [{}]", unit.label()),
        };
        [format!("axes.{}", axis.key), format!("axis_numbers.{}{unit}", axis.key)]
    };
    grid.axes().iter().flat_map(columns).collect()
}

/// Which run of a sweep a row is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) cell: u64,
    pub(super) repetition: u32,
    pub(super) policy: &'a str,
    /// Where its cell lies, as [`Places::put`](super::place::Places::put) has it.
    pub(super) place: &'a [u8],
}

/// One round of a run of a sweep.
#[derive(Serialize)]
struct RoundRow {
    schema: u32,
    cell: u64,
    repetition: u32,
    seed: u64,
    #[serde(flatten)]
    round: RoundRecord,
}

impl RoundRow {
    fn fields(&self) -> impl Iterator<Item = String> {
        let first = [
            self.schema.to_string(),
            self.cell.to_string(),
            self.repetition.to_string(),
            self.seed.to_string(),
        ];
        first.into_iter().chain(csv::round(&self.round))
    }
}

/// Adds `row` as a line of JSON.
fn json_line(text: &mut String, row: &impl Serialize) {
    // Texts, numbers and maps with texts as keys can always be written; were it otherwise, the row says so.
    let line =
        serde_json::to_string(row).unwrap_or_else(|error| format!("{{\"error\":{:?}}}", error.to_string()));
    text.push_str(&line);
    text.push('\n');
}

/// Lines of the two tables.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) migrations: Vec<u8>,
    pub(super) rounds: String,
}

impl Rows {
    /// Empties them; their memory stays.
    pub(super) fn clear(&mut self) {
        self.migrations.clear();
        self.rounds.clear();
    }

    /// Adds a run; its rounds, if its record holds any, go to their own table.
    pub(super) fn add(&mut self, format: Format, of: Subject<'_>, mut record: MigrationRecord) {
        for round in std::mem::take(&mut record.round) {
            let (cell, repetition, seed) = (of.cell, of.repetition, record.seed);
            let row = RoundRow { schema: SCHEMA, cell, repetition, seed, round };
            if format == Format::Csv {
                csv::line(&mut self.rounds, row.fields());
            } else {
                json_line(&mut self.rounds, &row);
            }
        }
        add_migration(&mut self.migrations, format, of, &record);
    }
}

fn add_migration(rows: &mut Vec<u8>, format: Format, of: Subject<'_>, record: &MigrationRecord) {
    fn begin(to: &mut impl Fields, of: Subject<'_>) {
        to.whole(name!("cell"), of.cell);
        to.whole(name!("repetition"), of.repetition.into());
        to.text(name!("policy"), of.policy);
    }
    if format == Format::Csv {
        begin(&mut Csv(rows), of);
        rows.extend_from_slice(of.place);
        let mut rest = Csv(rows);
        record.name_fields(&mut rest);
        rest.end_line();
    } else {
        rows.push(b'{');
        begin(&mut Json(rows), of);
        put_place(rows, of.place);
        record.name_fields(&mut Json(rows));
        rows.extend_from_slice(b"}\n");
    }
}

/// Adds a place to a JSON object that has fields before it and behind it.
fn put_place(row: &mut Vec<u8>, place: &[u8]) {
    row.push(b',');
    row.extend_from_slice(place.strip_suffix(b",").unwrap_or(place));
}

/// The line of names of the migrations table; none in JSON Lines.
pub(super) fn migrations_header(format: Format, grid: &Grid) -> String {
    let names = ["cell", "repetition", "policy"].map(str::to_owned).into_iter();
    let names = names.chain(axis_columns(grid)).chain(csv::MIGRATION.iter().map(|name| (*name).to_owned()));
    header(format, names)
}

/// The line of names of the rounds table; none in JSON Lines.
pub(super) fn rounds_header(format: Format) -> String {
    let names = ["schema", "cell", "repetition", "seed"].iter().chain(csv::ROUND);
    header(format, names.map(|name| (*name).to_owned()))
}

fn header(format: Format, names: impl Iterator<Item = String>) -> String {
    let mut line = String::new();
    if format == Format::Csv {
        csv::line(&mut line, names);
    }
    line
}

/// Names of the columns of spreads.
fn spread_columns(levels: bool) -> impl Iterator<Item = String> {
    let names: Vec<_> = Spread::default().columns(levels).into_iter().map(|(name, _)| name).collect();
    SPREADS
        .iter()
        .flat_map(move |spread| names.clone().into_iter().map(move |name| format!("{spread}.{name}")))
}

/// The line of names of the cells table; none in JSON Lines.
pub(super) fn cells_header(format: Format, grid: &Grid, levels: bool) -> String {
    let columns = ["schema", "cell", "policy"].map(str::to_owned).into_iter().chain(axis_columns(grid));
    let columns = columns.chain(["runs", "converged", "outcomes"].map(str::to_owned));
    header(format, columns.chain(spread_columns(levels)))
}

/// Adds a line to the cells table; `place` is where the cell lies.
pub(super) fn add_cell(
    rows: &mut Vec<u8>,
    format: Format,
    (policy, place): (&str, &[u8]),
    cell: &CellRecord,
    levels: bool,
) {
    fn begin(to: &mut impl Fields, cell: &CellRecord, policy: &str) {
        to.whole(name!("schema"), SCHEMA.into());
        to.whole(name!("cell"), cell.cell);
        to.text(name!("policy"), policy);
    }
    if format == Format::Csv {
        begin(&mut Csv(rows), cell, policy);
        rows.extend_from_slice(place);
        let mut rest = Csv(rows);
        cell.name_fields(&mut rest, levels);
        rest.end_line();
    } else {
        rows.push(b'{');
        begin(&mut Json(rows), cell, policy);
        put_place(rows, place);
        cell.name_fields(&mut Json(rows), levels);
        rows.extend_from_slice(b"}\n");
    }
}

/// A policy's line of a sweep that is summed up.
#[derive(Serialize)]
struct PolicyRow<'a> {
    schema: u32,
    policy: &'a str,
    runs: u64,
    converged: f64,
    completed: f64,
    total_ms: Spread,
    downtime_ms: Spread,
    sent_bytes: Spread,
    rounds: Spread,
    disruption_vcpu_s: Spread,
}

/// The table of policies of a sweep that is summed up.
pub(super) fn policies_table(format: Format, policies: &[PolicySummary]) -> String {
    let columns = ["schema", "policy", "runs", "converged", "completed"].map(str::to_owned).into_iter();
    let mut text = header(format, columns.chain(spread_columns(true)));
    for summary in policies {
        let PolicySummary { policy, runs, converged, completed, .. } = summary;
        let spreads = summary.spreads.unwrap_or_default();
        if format == Format::Csv {
            let fields = [SCHEMA.to_string(), policy.clone(), runs.to_string(), converged.to_string()];
            let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
            let columns = |spread: &Spread| spread.columns(true).into_iter().map(|(_, value)| value);
            let spreads = spreads.iter().flat_map(columns).map(number);
            csv::line(&mut text, fields.into_iter().chain([completed.to_string()]).chain(spreads));
        } else {
            let [total_ms, downtime_ms, sent_bytes, rounds, disruption_vcpu_s] = spreads;
            let (schema, runs, converged, completed) = (SCHEMA, *runs, *converged, *completed);
            let row = PolicyRow {
                schema,
                policy,
                runs,
                converged,
                completed,
                total_ms,
                downtime_ms,
                sent_bytes,
                rounds,
                disruption_vcpu_s,
            };
            json_line(&mut text, &row);
        }
    }
    text
}
