//! A real migration beside its forecast, and beside what its guest saw.
//!
//! Made by `whimbrel bench` of each run; written as the table `fidelity`, a row a run, and summed up for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::chart::Unit;
use crate::report::Forecasts;
use crate::result::{MigrationRecord, Name, known_outcome};
use crate::scenario::Cell;
use crate::table::{Align, Columns, counted, csv};

/// The version of [`Fidelity`].
pub const SCHEMA: u32 = 1;

/// What is forecast of a migration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // As in `MigrationRecord`.
pub struct Totals {
    #[serde(deserialize_with = "known_outcome")]
    pub outcome: Name,
    pub rounds: usize,
    pub total_ms: f64,
    pub sent_bytes: u64,
    pub downtime_ms: f64,
    pub source_cpu_s: Option<f64>,
}

impl Totals {
    /// Of a record.
    pub fn of(record: &MigrationRecord) -> Self {
        Self {
            outcome: record.outcome,
            rounds: record.rounds,
            total_ms: record.total_ms,
            sent_bytes: record.sent_bytes,
            downtime_ms: record.downtime_ms,
            source_cpu_s: record.encoding.source_cpu_s,
        }
    }
}

/// How far the forecast is above what was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Errors {
    /// As a share of the measured total time; none if they ended differently, or that is zero; so are the others.
    pub total: Option<f64>,
    /// Of the bytes.
    pub sent: Option<f64>,
    /// Of the downtime.
    pub downtime: Option<f64>,
    /// Of the downtime, milliseconds.
    pub downtime_ms: Option<f64>,
    /// Of the processor time at the source.
    pub source_cpu: Option<f64>,
}

impl Errors {
    fn between(measured: &Totals, forecast: &Totals) -> Self {
        let alike = measured.outcome == forecast.outcome;
        let share =
            |measured: f64, forecast: f64| (alike && measured > 0.0).then(|| forecast / measured - 1.0);
        Self {
            total: share(measured.total_ms, forecast.total_ms),
            sent: share(measured.sent_bytes as f64, forecast.sent_bytes as f64),
            downtime: share(measured.downtime_ms, forecast.downtime_ms),
            downtime_ms: alike.then_some(forecast.downtime_ms - measured.downtime_ms),
            source_cpu: measured
                .source_cpu_s
                .zip(forecast.source_cpu_s)
                .and_then(|(measured, forecast)| share(measured, forecast)),
        }
    }

    /// Whether the downtime's error is within 15 % or 3 ms.
    fn downtime_is_near(&self) -> Option<bool> {
        let milliseconds = self.downtime_ms?.abs() <= DOWNTIME_MS;
        Some(milliseconds || self.downtime.is_some_and(|share| share.abs() <= DOWNTIME))
    }
}

/// Up to here the median error of a total time or of bytes is good.
const SHARE: f64 = 0.05;
/// The same of a downtime: as a share,
const DOWNTIME: f64 = 0.15;
/// or in milliseconds.
const DOWNTIME_MS: f64 = 3.0;

/// What the guest saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// The time without a heartbeat between source and destination, milliseconds; none if it did not move, or stood still for
    /// longer many times.
    pub gap_ms: Option<f64>,
    /// By how much that is more than the ledger's downtime, milliseconds.
    pub beyond_ledger_ms: Option<f64>,
    /// Whether memory held what the guest's registers say, where it runs now.
    pub exact: bool,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fidelity {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The cell's number.
    pub cell: u64,
    /// Which of its runs.
    pub repetition: u32,
    /// Where the cell lies: the values of the axes, by key.
    pub axes: BTreeMap<String, String>,
    /// The policy: its name, or its preset.
    pub policy: String,
    /// How pages were sent: `plain`, or as they were compressed and encoded.
    pub encoding: String,
    /// The seed of both.
    pub seed: u64,
    /// What the real migration came to.
    pub measured: Totals,
    /// What the simulator said that it would.
    pub forecast: Totals,
    /// How far they are apart.
    pub error: Errors,
    /// What the guest saw.
    pub guest: Seen,
    /// Processes that were ready to run on the machine when it began, on average over the minute before (load average); none if
    /// the machine does not say.
    pub load: Option<f64>,
}

/// The columns of the table as CSV; those of the axes are put in after the second.
const COLUMNS: &[&str] = &[
    "policy",
    "encoding",
    "seed",
    "measured.outcome",
    "measured.rounds",
    "measured.total_ms",
    "measured.sent_bytes",
    "measured.downtime_ms",
    "measured.source_cpu_s",
    "forecast.outcome",
    "forecast.rounds",
    "forecast.total_ms",
    "forecast.sent_bytes",
    "forecast.downtime_ms",
    "forecast.source_cpu_s",
    "error.total",
    "error.sent",
    "error.downtime",
    "error.downtime_ms",
    "error.source_cpu",
    "guest.gap_ms",
    "guest.beyond_ledger_ms",
    "guest.exact",
    "load",
];

fn optional(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

impl Fidelity {
    /// A run, beside its forecast. `encoding` says how its pages were sent, `gap_ms` is what its heartbeat saw.
    pub fn new(
        cell: &Cell,
        repetition: u32,
        encoding: String,
        measured: &MigrationRecord,
        forecast: &MigrationRecord,
        (gap_ms, exact): (Option<f64>, bool),
        load: Option<f64>,
    ) -> Self {
        let seed = measured.seed;
        let (measured, forecast) = (Totals::of(measured), Totals::of(forecast));
        let beyond_ledger_ms = gap_ms.map(|gap| gap - measured.downtime_ms);
        Self {
            schema: SCHEMA,
            cell: cell.index,
            repetition,
            axes: cell.coordinates.iter().map(|at| (at.key.to_string(), at.text.clone())).collect(),
            policy: cell.setup.policy.label().to_owned(),
            encoding,
            seed,
            error: Errors::between(&measured, &forecast),
            measured,
            forecast,
            guest: Seen { gap_ms, beyond_ledger_ms, exact },
            load,
        }
    }

    fn fields(&self) -> Vec<String> {
        let totals = |totals: &Totals| {
            let Totals { outcome, rounds, total_ms, sent_bytes, downtime_ms, source_cpu_s } = totals;
            [
                (*outcome).to_owned(),
                rounds.to_string(),
                total_ms.to_string(),
                sent_bytes.to_string(),
                downtime_ms.to_string(),
                source_cpu_s.map_or_else(String::new, |seconds| seconds.to_string()),
            ]
        };
        let Errors { total, sent, downtime, downtime_ms, source_cpu } = self.error;
        let mut fields = vec![self.schema.to_string(), self.cell.to_string(), self.repetition.to_string()];
        fields.extend(self.axes.values().cloned());
        fields.extend([self.policy.clone(), self.encoding.clone(), self.seed.to_string()]);
        fields.extend(totals(&self.measured));
        fields.extend(totals(&self.forecast));
        fields.extend([total, sent, downtime, downtime_ms, source_cpu].map(optional));
        fields.extend([self.guest.gap_ms, self.guest.beyond_ledger_ms].map(optional));
        fields.extend([self.guest.exact.to_string(), optional(self.load)]);
        fields
    }
}

/// The table as JSON Lines.
pub fn json_lines(rows: &[Fidelity]) -> String {
    // Texts and numbers can always be written.
    rows.iter().map(|row| serde_json::to_string(row).unwrap_or_default() + "\n").collect()
}

/// The table as CSV, with the same names.
pub fn csv(rows: &[Fidelity]) -> String {
    let mut text = String::new();
    let axes = rows.first().into_iter().flat_map(|row| row.axes.keys()).map(|key| format!("axes.{key}"));
    let first = ["schema", "cell", "repetition"].map(str::to_owned);
    csv::line(&mut text, first.into_iter().chain(axes).chain(COLUMNS.iter().map(|name| (*name).to_owned())));
    for row in rows {
        csv::line(&mut text, row.fields());
    }
    text
}

/// The median of these; of an even number, the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => values.get(middle).copied(),
        _ => Some(values[middle - 1].midpoint(values[middle])),
    }
}

fn time(ms: Option<f64>) -> String {
    ms.map_or_else(|| "-".to_owned(), |ms| Unit::Milliseconds.format(ms))
}

fn share(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:+.1} %", share * 100.0))
}

/// All runs for people: a line a cell with medians, then how good the forecasts were.
pub fn text(rows: &[Fidelity]) -> String {
    let mut text = String::new();
    cells(&mut text, rows);
    text.push_str(&totals(rows));
    text
}

/// How good the forecasts of all runs were, and those of each policy and encoding.
pub fn totals(rows: &[Fidelity]) -> String {
    let mut text = String::new();
    let groups = groups(rows);
    let Some(all) = groups.first() else { return text };
    let alike = rows.iter().filter(|row| row.measured.outcome == row.forecast.outcome).count();
    let _ = writeln!(
        text,
        "Forecasts of {}, of which {alike} ended as forecast; median error, and what is wanted:",
        counted(rows.len() as u64, "run")
    );
    for (name, error) in [("total time", all.total), ("bytes", all.sent)] {
        let met = verdict(error.map(|error| error <= SHARE));
        let _ = writeln!(text, "  {name:<11}{:>9}   <= {:.0} %{met}", unsigned(error), SHARE * 100.0);
    }
    let near = all.downtime.zip(all.downtime_ms).map(|(share, ms)| share <= DOWNTIME || ms <= DOWNTIME_MS);
    let _ = writeln!(
        text,
        "  {:<11}{:>9}   <= {:.0} % or {DOWNTIME_MS:.0} ms{}; {} of {} runs are within",
        "downtime",
        time(all.downtime_ms),
        DOWNTIME * 100.0,
        verdict(near),
        all.within,
        all.judged,
    );
    put_groups(&mut text, &groups[1..]);
    let beyond = median(rows.iter().filter_map(|row| row.guest.beyond_ledger_ms));
    let _ = writeln!(
        text,
        "The guest's heartbeat paused for {} more than the ledger's downtime (median).",
        time(beyond)
    );
    text
}

/// Medians of absolute errors of these runs.
fn forecasts(of: String, rows: &[&Fidelity]) -> Forecasts {
    let absolute = |of: fn(&Errors) -> Option<f64>| {
        median(rows.iter().filter_map(move |row| of(&row.error)).map(f64::abs))
    };
    let near: Vec<bool> = rows.iter().filter_map(|row| row.error.downtime_is_near()).collect();
    Forecasts {
        of,
        runs: rows.len(),
        total: absolute(|e| e.total),
        sent: absolute(|e| e.sent),
        downtime: absolute(|e| e.downtime),
        downtime_ms: absolute(|e| e.downtime_ms),
        source_cpu: absolute(|e| e.source_cpu),
        within: near.iter().filter(|near| **near).count(),
        judged: near.len(),
    }
}

/// Which of its groups a run belongs to.
type Named = fn(&Fidelity) -> &str;

/// All runs, then those of each policy and of each encoding, where there are several; none without a run.
pub fn groups(rows: &[Fidelity]) -> Vec<Forecasts> {
    let mut all = Vec::new();
    if !rows.is_empty() {
        all.push(forecasts(String::new(), &rows.iter().collect::<Vec<_>>()));
    }
    let kinds: [Named; 2] = [|row| &row.policy, |row| &row.encoding];
    for (kind, of) in ["policy", "encoding"].into_iter().zip(kinds) {
        let mut names: Vec<&str> = Vec::new();
        rows.iter().map(of).for_each(|name| {
            if !names.contains(&name) {
                names.push(name);
            }
        });
        if names.len() > 1 {
            let alike = |name: &str| rows.iter().filter(|row| of(row) == name).collect::<Vec<_>>();
            all.extend(names.iter().map(|name| forecasts(format!("{kind} {name}"), &alike(name))));
        }
    }
    all
}

fn put_groups(text: &mut String, groups: &[Forecasts]) {
    if groups.is_empty() {
        return;
    }
    let mut table = Columns::new(&[
        ("median error of", Align::Left),
        ("runs", Align::Right),
        ("total", Align::Right),
        ("bytes", Align::Right),
        ("downtime", Align::Right),
        ("", Align::Right),
        ("within", Align::Right),
        ("source CPU", Align::Right),
    ]);
    for group in groups {
        table.row(vec![
            group.of.clone(),
            group.runs.to_string(),
            unsigned(group.total),
            unsigned(group.sent),
            time(group.downtime_ms),
            unsigned(group.downtime),
            format!("{} of {}", group.within, group.judged),
            unsigned(group.source_cpu),
        ]);
    }
    table.put(text);
}

fn unsigned(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

fn verdict(met: Option<bool>) -> &'static str {
    match met {
        Some(true) => ", met",
        Some(false) => ", missed",
        None => "",
    }
}

fn cells(text: &mut String, rows: &[Fidelity]) {
    let keys: Vec<&String> = rows.first().map(|row| by_importance(&row.axes)).unwrap_or_default();
    let mut names: Vec<(&str, Align)> = keys.iter().map(|key| (short(key, &keys), Align::Left)).collect();
    let measured =
        ["runs", "total", "forecast", "bytes", "forecast", "downtime", "forecast", "", "heartbeat"];
    for name in measured.into_iter().chain(["source CPU", "forecast"]) {
        names.push((name, Align::Right));
    }
    names.push(("outcome", Align::Left));
    let (mut table, mut far) = (Columns::new(&names), false);
    for cell in rows.chunk_by(|one, other| one.cell == other.cell) {
        let of = |of: &dyn Fn(&Fidelity) -> Option<f64>| median(cell.iter().filter_map(of));
        let axes = cell.first().map(|row| &row.axes);
        let mut line: Vec<String> = keys
            .iter()
            .map(|key| axes.and_then(|axes| axes.get(*key)).cloned().unwrap_or_default())
            .collect();
        line.push(cell.len().to_string());
        let near =
            cell.iter().filter_map(|row| row.error.downtime_is_near()).filter(|near| !near).count() == 0;
        far |= !near;
        line.extend([
            time(of(&|row| Some(row.measured.total_ms))),
            share(of(&|row| row.error.total)),
            bytes(of(&|row| Some(row.measured.sent_bytes as f64))),
            share(of(&|row| row.error.sent)),
            time(of(&|row| Some(row.measured.downtime_ms))),
            apart(of(&|row| row.error.downtime_ms)),
            if near { String::new() } else { "*".to_owned() },
            time(of(&|row| row.guest.gap_ms)),
            time(of(&|row| row.measured.source_cpu_s.map(|seconds| seconds * 1e3))),
            share(of(&|row| row.error.source_cpu)),
        ]);
        line.push(outcomes(cell));
        table.row(line);
    }
    table.put(text);
    let _ = writeln!(
        text,
        "Measured, and how far the forecast was above it. Heartbeat: how long the guest itself missed its own."
    );
    if far {
        let _ = writeln!(
            text,
            "* a downtime forecast further off than {:.0} % and {DOWNTIME_MS:.0} ms",
            DOWNTIME * 100.0
        );
    }
    text.push('\n');
}

/// The policy first: it is what is chosen.
fn by_importance(axes: &BTreeMap<String, String>) -> Vec<&String> {
    let mut keys: Vec<&String> = axes.keys().collect();
    keys.sort_by_key(|key| !key.starts_with("policy."));
    keys
}

/// What an axis is called in a table: its last part, if no other axis has it.
fn short<'a>(key: &'a str, keys: &[&String]) -> &'a str {
    let last = |key: &'a str| match key {
        "policy.preset" => "policy",
        key => key.rsplit('.').next().unwrap_or(key),
    };
    let same = keys.iter().filter(|other| other.rsplit('.').next() == key.rsplit('.').next()).count();
    if same > 1 { key } else { last(key) }
}

/// A difference of times, with its sign.
fn apart(ms: Option<f64>) -> String {
    ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:+.1} ms"))
}

fn bytes(bytes: Option<f64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), |bytes| Unit::Bytes.format(bytes))
}

/// How the runs of a cell ended, and how they should have where that is not the same.
fn outcomes(cell: &[Fidelity]) -> String {
    let mut words: Vec<String> = cell
        .iter()
        .map(|row| match (row.measured.outcome, row.forecast.outcome) {
            (measured, forecast) if measured == forecast => measured.to_owned(),
            (measured, forecast) => format!("{measured} (forecast: {forecast})"),
        })
        .collect();
    words.sort();
    words.dedup();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(measured_ms: f64, forecast_ms: f64, outcome: &'static str) -> Fidelity {
        let totals = |total_ms| Totals {
            outcome: "completed",
            rounds: 3,
            total_ms,
            sent_bytes: 1000,
            downtime_ms: total_ms / 10.0,
            source_cpu_s: Some(total_ms / 2e3),
        };
        let (measured, forecast) = (totals(measured_ms), Totals { outcome, ..totals(forecast_ms) });
        Fidelity {
            schema: SCHEMA,
            cell: 0,
            repetition: 0,
            axes: [("link.bandwidth".to_owned(), "100MB/s".to_owned())].into(),
            policy: "xen-5".to_owned(),
            encoding: "plain".to_owned(),
            seed: 7,
            error: Errors::between(&measured, &forecast),
            measured,
            forecast,
            guest: Seen { gap_ms: Some(11.5), beyond_ledger_ms: Some(1.5), exact: true },
            load: None,
        }
    }

    #[test]
    fn errors_are_shares_of_what_was_measured_and_need_the_same_end() {
        let error = row(100.0, 90.0, "completed").error;
        assert!((error.total.expect("one") + 0.1).abs() < 1e-9, "{error:?}");
        assert_eq!(error.sent, Some(0.0));
        assert_eq!(error.downtime_is_near(), Some(true));
        // 18 % and 18 ms too much.
        assert_eq!(row(1000.0, 1180.0, "completed").error.downtime_is_near(), Some(false));
        assert_eq!(row(100.0, 90.0, "aborted").error.total, None);
    }

    #[test]
    fn medians_are_of_absolute_errors_and_the_table_has_a_line_a_cell() {
        let rows =
            [row(100.0, 90.0, "completed"), row(100.0, 104.0, "completed"), row(100.0, 106.0, "completed")];
        let told = text(&rows);
        assert!(told.contains("total time     6.0 %   <= 5 %"), "{told}");
        assert!(told.contains("3 runs, of which 3 ended as forecast"), "{told}");
        assert!(told.contains("100MB/s") && told.contains("+4.0 %") && told.contains("bandwidth"), "{told}");
    }

    #[test]
    fn both_formats_have_the_same_names() {
        let rows = [row(100.0, 90.0, "completed")];
        let table = csv(&rows);
        let names: Vec<&str> = table.lines().next().expect("names").split(',').collect();
        let values = table.lines().nth(1).expect("a row").split(',').count();
        assert_eq!(names.len(), values, "{table}");
        let json: serde_json::Value = serde_json::from_str(&json_lines(&rows)).expect("JSON");
        for name in names {
            let (first, rest) = name.split_once('.').unwrap_or((name, ""));
            let value = if rest.is_empty() { &json[first] } else { &json[first][rest] };
            assert!(!value.is_null() || name == "load", "{name}: {json}");
        }
    }
}
