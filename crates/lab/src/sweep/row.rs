//! The rows of a sweep's tables, as JSON Lines and as CSV.

use serde::{Serialize, Serializer};

use super::PolicySummary;
use super::cell::{CellRecord, SPREADS, Spread};
use crate::result::{MigrationRecord, RoundRecord, SCHEMA};
use crate::scenario::{AxisUnit, AxisValue, Grid, ScenarioError};
use crate::table::csv;

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

    /// The axis whose values are compared: the policies if there are any, else the first one with names.
    pub(super) fn compared_axis(&self) -> Option<usize> {
        self.compared_axis
    }

    /// Where a cell lies on an axis; 0 without an axis.
    fn position(&self, axis: Option<usize>, cell: u64) -> usize {
        let Some(axis) = axis else { return 0 };
        let length = |one: &crate::scenario::Axis| one.values.len() as u64;
        let all = self.grid.axes();
        let step: u64 = all[axis + 1..].iter().map(length).product();
        (cell / step % length(&all[axis])) as usize
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

    /// Where a cell lies on the other axes, and which of the compared ones it is.
    pub(super) fn place(&self, cell: u64) -> (Vec<usize>, usize) {
        let mut place = self.positions(cell);
        let compared = self.compared_axis().map_or(0, |axis| place.remove(axis));
        (place, compared)
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

    pub(super) fn at(&self, cell: u64) -> At {
        let positions = self.positions(cell);
        let axes = self.grid.axes().iter().zip(positions).map(|(axis, position)| {
            let value = &axis.values[position];
            (axis.key.to_string(), value.text.clone(), value.number)
        });
        At::new(axes.collect())
    }
}

/// Where a cell lies: each axis' value as text, and those that are numbers as numbers too.
#[derive(Serialize)]
pub(super) struct At {
    axes: Pairs<String>,
    /// In bytes, bits a second, seconds, pages a second.
    axis_numbers: Pairs<f64>,
}

/// A map in the order of its pairs.
struct Pairs<T>(Vec<(String, T)>);

impl<T: Serialize> Serialize for Pairs<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl At {
    fn new(axes: Vec<(String, String, Option<f64>)>) -> Self {
        let numbers = axes.iter().filter_map(|(key, _, number)| Some((key.clone(), (*number)?))).collect();
        Self {
            axes: Pairs(axes.into_iter().map(|(key, text, _)| (key, text)).collect()),
            axis_numbers: Pairs(numbers),
        }
    }

    /// The cells of a CSV row, as many as [`axis_columns`] names.
    fn fields(&self) -> impl Iterator<Item = String> {
        self.axes.0.iter().flat_map(|(key, text)| {
            let number = self.axis_numbers.0.iter().find(|(other, _)| other == key);
            [text.clone(), number.map(|(_, number)| number.to_string()).unwrap_or_default()]
        })
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

/// One run of a sweep.
#[derive(Serialize)]
pub(super) struct Row<'a> {
    cell: u64,
    repetition: u32,
    policy: &'a str,
    #[serde(flatten)]
    at: &'a At,
    #[serde(flatten)]
    record: MigrationRecord,
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

impl<'a> Row<'a> {
    pub(super) fn of(
        (cell, repetition): (u64, u32),
        policy: &'a str,
        at: &'a At,
        record: MigrationRecord,
    ) -> Self {
        Self { cell, repetition, policy, at, record }
    }

    fn fields(&self) -> impl Iterator<Item = String> {
        let first = [self.cell.to_string(), self.repetition.to_string(), self.policy.to_owned()];
        first.into_iter().chain(self.at.fields()).chain(csv::migration(&self.record))
    }
}

/// Lines of the two tables.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) migrations: String,
    pub(super) rounds: String,
}

impl Rows {
    /// Adds a run; its rounds, if it holds any, go to their own table.
    pub(super) fn add(&mut self, format: Format, mut row: Row<'_>) {
        for round in std::mem::take(&mut row.record.round) {
            let row = RoundRow {
                schema: SCHEMA,
                cell: row.cell,
                repetition: row.repetition,
                seed: row.record.seed,
                round,
            };
            if format == Format::Csv {
                csv::line(&mut self.rounds, row.fields());
            } else {
                json_line(&mut self.rounds, &row);
            }
        }
        if format == Format::Csv {
            csv::line(&mut self.migrations, row.fields());
        } else {
            json_line(&mut self.migrations, &row);
        }
    }
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

fn spread_fields(spreads: &[Spread; 5], levels: bool) -> impl Iterator<Item = String> {
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    spreads
        .iter()
        .flat_map(move |spread| spread.columns(levels).into_iter().map(move |(_, value)| number(value)))
}

/// The line of names of the cells table; none in JSON Lines.
pub(super) fn cells_header(format: Format, grid: &Grid, levels: bool) -> String {
    let columns = ["schema", "cell", "policy"].map(str::to_owned).into_iter().chain(axis_columns(grid));
    let columns = columns.chain(["runs", "converged", "outcomes"].map(str::to_owned));
    header(format, columns.chain(spread_columns(levels)))
}

/// A line of the cells table.
pub(super) fn cell_row(format: Format, names: &Names<'_>, cell: &CellRecord, levels: bool) -> String {
    let mut text = String::new();
    let (policy, at) = (names.policy(cell.cell), names.at(cell.cell));
    if format != Format::Csv {
        json_line(&mut text, &cell.stored(policy, &at));
        return text;
    }
    let outcomes: Vec<_> =
        cell.outcomes.iter().map(|(outcome, count)| format!("{outcome}={count}")).collect();
    let fields = [SCHEMA.to_string(), cell.cell.to_string(), policy.to_owned()].into_iter();
    let fields = fields.chain(at.fields());
    let fields = fields.chain([cell.runs.to_string(), cell.converged.to_string(), outcomes.join(" ")]);
    csv::line(&mut text, fields.chain(spread_fields(&cell.spreads(), levels)));
    text
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
            let fields = fields.into_iter().chain([completed.to_string()]);
            csv::line(&mut text, fields.chain(spread_fields(&spreads, true)));
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
