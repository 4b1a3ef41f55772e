//! What the report page of a sweep is made of.

use std::fmt::Write as _;

use rayon::prelude::*;
use whimbrel_core::policy::presets;
use whimbrel_core::units::duration;

use super::row::{Format, Names};
use super::{Finished, Tables, Typical};
use crate::chart::HeatMaps;
use crate::report::{
    Axis, Cell, GridValues, ReportInput, Representative, Round, Spread, Unit, heat_maps,
    render as render_page,
};
use crate::scenario::{self, AxisUnit, AxisValue, Grid, Scenario, Setup};

/// The page. Nothing of it depends on the machine, the threads or the directory.
pub(super) fn render(
    scenario: &Scenario,
    grid: &Grid,
    names: &Names<'_>,
    finished: &Finished,
    tables: Tables,
) -> String {
    render_page(&input(scenario, grid, names, finished, tables))
}

/// The maps of the downtime side by side, as a file of their own; none unless two axes have numbers.
pub(super) fn maps(
    scenario: &Scenario,
    grid: &Grid,
    names: &Names<'_>,
    finished: &Finished,
) -> Option<HeatMaps> {
    heat_maps(&input(scenario, grid, names, finished, Tables::default()))
}

fn input(
    scenario: &Scenario,
    grid: &Grid,
    names: &Names<'_>,
    finished: &Finished,
    tables: Tables,
) -> ReportInput {
    let setup = scenario.setup();
    let mut command = format!("whimbrel {} scenario.toml --out again", tables.command());
    if tables.format != Format::default() {
        let _ = write!(command, " --format {}", tables.format.extension());
    }
    if tables.rounds {
        command.push_str(" --rounds");
    }
    if tables.summary {
        command.push_str(" --summary");
    }
    let swept = |key: &str| grid.axes().iter().any(|axis| &*axis.key == key);
    // The line where the dirty rate equals the bandwidth is right for one writer only.
    let comparable = setup.guest.writers.len() == 1 && !swept("guest.page-size");
    ReportInput {
        title: title(grid, tables),
        command,
        scenario_toml: scenario.to_toml(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        facts: facts(setup, grid, finished),
        axes: grid.axes().iter().map(|axis| page_axis(axis, setup)).collect(),
        cells: cells(names, finished),
        policy_axis: names.policy_axis(),
        representatives: finished.typical.iter().map(|run| representative(names, run)).collect(),
        spreads: spreads(finished),
        forecasts: finished.forecasts.clone(),
        page_bytes: comparable.then(|| setup.guest.page_size.bytes().0),
    }
}

fn title(grid: &Grid, tables: Tables) -> String {
    let has = |key: &str| grid.axes().iter().any(|axis| axis.key.contains(key));
    if tables.real {
        "Live migration of real guests on one machine".to_owned()
    } else if has("link.bandwidth") && has(".rate") {
        "Live migration over bandwidth and dirty rate".to_owned()
    } else {
        "Live migration: a sweep".to_owned()
    }
}

fn cells(names: &Names<'_>, finished: &Finished) -> Vec<Cell> {
    let cell = |cell: &super::CellRecord| Cell {
        coords: names.positions(cell.cell),
        runs: cell.runs,
        converged: cell.converged,
        outcomes: cell
            .outcomes
            .iter()
            .map(|(outcome, count)| (outcome.as_str().to_owned(), *count))
            .collect(),
        total_ms: cell.total_ms.median,
        downtime_ms: cell.downtime_ms.median,
        downtime_p90_ms: cell.downtime_ms.p90,
        sent_bytes: cell.sent_bytes.median,
        rounds: cell.rounds.median,
        disruption_vcpu_s: cell.disruption_vcpu_s.median,
    };
    finished.cells.par_iter().map(cell).collect()
}

fn representative(names: &Names<'_>, run: &Typical) -> Representative {
    let round = |round: &super::TypicalRound| Round {
        round: round.round,
        handed_over: round.handed_over,
        started_ms: round.started_ms,
        pending_pages: round.pending_pages as f64,
        dirtied_pages: round.dirtied_pages as f64,
        throttle: round.throttle,
    };
    Representative {
        coords: names.positions(run.cell),
        seed: run.seed,
        outcome: run.outcome.to_owned(),
        converged: run.converged,
        total_ms: run.total_ms,
        downtime_ms: run.downtime_ms,
        ledger: run.ledger.parts().map(|(name, part)| (name.to_owned(), part)).to_vec(),
        rounds: run.rounds,
        kept: run.kept.iter().map(round).collect(),
    }
}

fn spreads(finished: &Finished) -> Vec<Spread> {
    let spread = |(group, spread): (&usize, &super::Spreads)| Spread {
        group: *group,
        runs: spread.runs,
        completed: spread.completed,
        total_ms: spread.total_ms.clone(),
        downtime_ms: spread.downtime_ms.clone(),
        disruption_vcpu_s: spread.disruption_vcpu_s.clone(),
    };
    finished.spreads.iter().map(spread).collect()
}

fn page_axis(axis: &scenario::Axis, setup: &Setup) -> Axis {
    // Charts count bytes a second and milliseconds.
    let (unit, factor) = match axis.unit {
        AxisUnit::Bytes => (Unit::Bytes, 1.0),
        AxisUnit::BitsPerSecond => (Unit::Bandwidth, 0.125),
        AxisUnit::Seconds => (Unit::Milliseconds, 1e3),
        AxisUnit::PagesPerSecond => (Unit::PageRate, 1.0),
        AxisUnit::None => (Unit::Number, 1.0),
    };
    let numbers: Option<Vec<f64>> = axis.values.iter().map(|value| Some(value.number? * factor)).collect();
    let values = match numbers {
        Some(values) => GridValues::Numbers { unit, values },
        None => GridValues::Names(axis.values.iter().map(|value| value.label().to_owned()).collect()),
    };
    Axis { key: axis.key.to_string(), label: label(&axis.key, setup), values }
}

/// A key in words.
fn label(key: &str, setup: &Setup) -> String {
    match key.split('.').collect::<Vec<_>>()[..] {
        ["policy", "preset"] => "policy".to_owned(),
        ["link", "bandwidth"] => "bandwidth".to_owned(),
        ["guest", "writers", _, "rate"] if setup.guest.writers.len() == 1 => "dirty rate".to_owned(),
        ["guest", "writers", number, what] => match number.parse::<u32>() {
            Ok(number) => format!("{} of writer {}", what.replace('-', " "), number.saturating_add(1)),
            Err(_) => key.to_owned(),
        },
        [_, what] => what.replace('-', " "),
        _ => key.to_owned(),
    }
}

fn facts(setup: &Setup, grid: &Grid, finished: &Finished) -> Vec<(String, String)> {
    let swept = |key: &str| grid.axes().iter().any(|axis| &*axis.key == key);
    let mut facts: Vec<(String, String)> = Vec::new();
    let mut fact = |key: &str, name: &str, value: String| {
        if !swept(key) {
            facts.push((name.to_owned(), value));
        }
    };
    fact("guest.memory", "Guest memory", setup.guest.memory.human());
    fact("guest.page-size", "Page size", setup.guest.page_size.to_string());
    fact("guest.vcpus", "vCPUs", setup.guest.vcpus.to_string());
    for (index, writer) in setup.guest.writers.iter().enumerate() {
        let key = |name: &str| format!("guest.writers.{index}.{name}");
        let one = setup.guest.writers.len() == 1;
        let name = if one { "Writer".to_owned() } else { format!("Writer {}", index + 1) };
        let written = crate::table::written(writer);
        let mut text = written.what;
        if let Some(over) = written.over.filter(|_| !swept(&key("working-set"))) {
            let _ = write!(text, " over {over}");
        }
        if !swept(&key("rate")) {
            text.push_str(&written.rate);
        }
        fact(&key("pattern"), &name, text);
    }
    fact("link.bandwidth", "Bandwidth", setup.link.bandwidth.human());
    // What a scenario says of the way is not used where there is a real one.
    if finished.forecasts.is_empty() {
        fact("link.round-trip", "Round trip", duration::human(setup.link.round_trip));
    }
    fact("policy.preset", "Policy", setup.policy.label().to_owned());
    fact(
        "policy.downtime-limit",
        "Downtime limit",
        setup.policy.parameters.get("downtime-limit").cloned().unwrap_or_else(|| "the preset's".to_owned()),
    );
    for (index, change) in setup.policy.changes.iter().enumerate() {
        let keys = ["at", "parameter", "value"].map(|part| format!("policy.changes.{index}.{part}"));
        let key = keys.iter().find(|key| swept(key)).unwrap_or(&keys[0]);
        fact(key, "Changed while it runs", change.to_string());
    }
    fact("run.time-limit", "Time limit", duration::human(setup.run.time_limit));
    fact("run.repeat", "Runs of a cell", setup.run.repeat.to_string());
    fact("run.seed", "Seeds from", setup.run.seed.to_string());
    let swept = grid.axes().iter().find(|axis| &*axis.key == "policy.preset");
    for policy in &finished.policies {
        let value = swept.and_then(|axis| axis.values.iter().find(|value| value.label() == policy.policy));
        let preset = value.map_or(&*setup.policy.preset, AxisValue::preset);
        if let Some(missing) = presets::find(preset).and_then(|preset| preset.approximate) {
            facts.push((format!("{} is approximate", policy.policy), missing.to_owned()));
        }
    }
    facts
}
